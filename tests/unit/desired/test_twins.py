"""Twins and the script they start with."""

from __future__ import annotations

import subprocess

import pytest
from twinops.errors import SpecError
from twinops.resources import LifecycleConfig

from tests.unit.desired.support import part


def lifecycle_script(script: str, **more: str) -> str:
    options = {
        "instances": [{"twin": "deployment"}],
        "script": "on_start.sh",
        "repository": "https://example.com/it's.git",
        "git_ref": "main",
        **more,
    }
    (config,) = (each for each in part("twins", options, twin_script=script) if isinstance(each, LifecycleConfig))
    return config.on_start


def test_lifecycle_script_gets_its_values_as_the_shell_reads_them() -> None:
    script = lifecycle_script('#!/bin/sh\nprintf "%s %s" "$REPOSITORY" "$LEDGER_TABLE"\n')
    said = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout
    assert said == "https://example.com/it's.git twinops-staging-ledger"
    assert script.startswith("#!/bin/sh\n")


def test_where_proposals_are_pushed_to_is_told_if_anywhere() -> None:
    said = [
        subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout
        for script in (
            lifecycle_script('#!/bin/sh\nprintf %s "$PUSH_REPOSITORY"\n'),
            lifecycle_script('#!/bin/sh\nprintf %s "$PUSH_REPOSITORY"\n', push_repository="https://example.com/p.git"),
        )
    ]
    assert said == ["", "https://example.com/p.git"]


def test_lifecycle_script_that_aws_would_refuse() -> None:
    with pytest.raises(SpecError, match="at most 16384 base64 characters"):
        lifecycle_script("#!/bin/sh\n" + "# a long story\n" * 1000)
    with pytest.raises(SpecError, match="first line"):
        lifecycle_script("echo no interpreter\n")
