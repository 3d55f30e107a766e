"""Policies in their many equal spellings."""

from __future__ import annotations

from typing import Any

import pytest
from twinops import policies


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"Action": "s3:GetObject"}, {"Action": ["s3:GetObject"]}),
        ({"Action": ["b:B", "a:A"]}, {"Action": ["a:A", "b:B"]}),
        ({"Principal": {"AWS": "arn"}}, {"Principal": {"AWS": ["arn"]}}),
        ({"Condition": {"Bool": {"k": False}}}, {"Condition": {"Bool": {"k": ["false"]}}}),
    ],
)
def test_policies_that_mean_the_same_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert policies.canonical({"Statement": one}) == policies.canonical({"Statement": [other]})


def test_policies_that_mean_something_else_differ() -> None:
    narrow, wide = {"Action": "s3:GetObject"}, {"Action": ["s3:GetObject", "s3:PutObject"]}
    assert policies.canonical({"Statement": narrow}) != policies.canonical({"Statement": wide})
