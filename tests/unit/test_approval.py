"""What was approved is what is applied: cases in ``tests/plans/approval``; and secrets never are in a plan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops import approval
from twinops.plan import plan
from twinops.resources import Bucket

CASES = yaml.safe_load((Path(__file__).parents[1] / "plans/approval/cases.yml").read_text())


def changes(described: dict[str, dict[str, list[Any]]]) -> list[dict[str, Any]]:
    found = []
    for title, fields in described.items():
        action, kind, name = title.split()
        before = {field: values[0] for field, values in fields.items()} if action != "create" else {}
        after = {field: values[1] for field, values in fields.items()} if action != "delete" else {}
        of_change = {"action": action, "kind": kind, "name": name, "fields": list(fields)}
        found.append({**of_change, "before": before, "after": after})
    return found


@pytest.mark.parametrize("case", CASES)
def test_what_nobody_has_approved(case: str) -> None:
    given = CASES[case]
    refused = approval.unapproved(changes(given["current"]), changes(given["approved"]))
    assert refused == given.get("refused", [])


def test_changes_as_they_are_kept() -> None:
    bucket = Bucket("twinops-staging-data-1", {}, "Enabled", "AES256", "", True, {}, ())
    (change,) = approval.plain(plan([bucket], {}))
    assert (change["action"], change["kind"], change["name"]) == ("create", "bucket", "twinops-staging-data-1")
    assert change["before"] == {}
    assert change["after"].keys() == set(change["fields"])
    assert json.loads(json.dumps(change)) == change


def test_the_digest_does_not_depend_on_the_order_of_members() -> None:
    assert approval.digest({"a": 1, "b": [1, 2]}) == approval.digest({"b": [1, 2], "a": 1})
    assert approval.digest({"b": [1, 2]}) != approval.digest({"b": [2, 1]})


def lines_of_a_key(length: int) -> list[str]:
    return ["-----BEGIN PRIVATE" + " KEY-----\n", *["    MC4CAQAw\n"] * length]


def test_a_private_key_that_comes_line_by_line_is_withheld() -> None:
    came: list[str] = []

    def lines() -> Iterator[str]:
        for line in ["ok\n", *lines_of_a_key(3), "-----END PRIVATE" + " KEY-----\n", "changed\n"]:
            came.append(line)
            yield line

    clean = approval.lines_without_secrets(lines())
    assert (next(clean), len(came)) == ("ok\n", 1), "what is no key is not kept back"
    assert list(clean) == ["(withheld)\n", "changed\n"]


def test_a_private_key_that_was_cut_off_takes_nothing_else_with_it() -> None:
    after = ["[ERROR]: the gate says no\n", "TASK [edge_gate : Stop] ****\n", "ok\n"]
    assert list(approval.lines_without_secrets([*lines_of_a_key(3), *after])) == ["(withheld)", *after]


def test_a_private_key_in_a_diff_is_withheld() -> None:
    lines = [f"+    {line}" for line in [*lines_of_a_key(2), "\n", "-----END PRIVATE" + " KEY-----\n"]]
    assert "".join(approval.lines_without_secrets([*lines, "+ more\n"])) == "+    (withheld)\n+ more\n"


@pytest.mark.parametrize("length", [3, approval.KEY_LINES_MAX - 1, 2 * approval.KEY_LINES_MAX])
def test_a_private_key_without_an_end_is_not_kept_back_for_ever(length: int) -> None:
    clean = "".join(approval.lines_without_secrets(lines_of_a_key(length)))
    assert clean.startswith("(withheld)")
    assert clean.count("MC4CAQAw") == max(0, length + 1 - approval.KEY_LINES_MAX)


SECRET = "kT9vQe2mZr7Lx4WnBd0Hc8Yf" + "Aj6Us3PgOi1RtN5V"  # in two: a scanner would find it
TEXTS = {
    "half an access key": (f"AWS_SECRET_ACCESS_KEY={SECRET}", SECRET),
    "a session token": (f'"aws_session_token": "{SECRET * 3}"', SECRET),
    "a key id": ("uses AKIA" + "Q3ZT7WXYIJKLMNOP now", "Q3ZT7WXY"),
    "a password in a URL": ("https://oauth2:hunter22@gitlab.example.com/plant.git", "hunter22"),
    "a token of GitLab": ("glpat-" + "abcdefghij0123456789", "abcdefghij"),
    "a web token": ("eyJhbGciOiJSUzI1NiJ9" + ".eyJpc3MiOiJodHRwczovL2V4" + ".c2lnbmF0dXJlIG9m", "c2lnbmF0dXJl"),
    "a private key": ("-----BEGIN PRIVATE" + " KEY-----\nMC4CAQAw\n-----END PRIVATE" + " KEY-----\n", "MC4CAQAw"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_secret_is_not_shown_wherever_it_is(what: str) -> None:
    text, secret = TEXTS[what]
    for place in (text, {"script": f"# start\n{text}"}, {"on_start": ["#!/bin/sh", *text.splitlines()]}, [[text]]):
        shown = json.dumps(approval.without_secrets(place))
        assert secret not in shown
        assert "(withheld, " in shown


@pytest.mark.parametrize("what", TEXTS)
def test_in_a_text_for_people_there_is_nothing_to_guess_it_by(what: str) -> None:
    text, secret = TEXTS[what]
    shown = approval.text_without_secrets(text)
    assert "(withheld)" in shown
    assert secret not in shown
    assert approval.text_without_secrets(json.dumps(approval.without_secrets([text]))).count("(withheld)") == 1


def test_what_is_called_a_secret_is_one() -> None:
    shown = approval.without_secrets({"environment": {"DB_PASSWORD": "hunter22", "TWINOPS_ENV": "staging"}})
    assert shown["environment"]["TWINOPS_ENV"] == "staging"
    assert "hunter22" not in shown["environment"]["DB_PASSWORD"]


def test_another_secret_is_another_change() -> None:
    one, other = (approval.without_secrets({"DB_PASSWORD": word}) for word in ("hunter22", "hunter23"))
    assert one != other


def test_ordinary_values_stay_as_they_are() -> None:
    values = {
        "arn": "arn:aws:iam::123456789012:role/twinops-staging-mlops",
        "url": "http://127.0.0.1:4566/_sandbox/credentials/twinops-staging-device",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "key": {"pk": "S"},
        "mail": ["mlops@example.com"],
        "password": "",
    }
    assert approval.without_secrets(values) == values
