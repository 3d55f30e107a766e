"""From specs to resources: names, inputs, limits and policies."""

from __future__ import annotations

import io
import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twinops import archives, desired, policies
from twinops.errors import SpecError, TwinopsError
from twinops.resources import Function, Role, Scope
from twinops.spec import Workflow

SCOPE = Scope("staging", "111122223333", "eu-central-1")
REDSHIFT = policies.Redshift("plant", "plant", "twinops")
SETTINGS = desired.TwinSettings("https://example.com/it's.git", "main", REDSHIFT)
WORKFLOW = Workflow(
    name="drift_report",
    description="Compares what devices see with what models were trained on.",
    owner="mlops@example.com",
    entrypoint="run.py",
    timeout_s=600,
    schedule="rate(1 day)",
    event={"source": ["twinops"]},
)


def roles() -> dict[str, Role]:
    return {role.name: role for role in desired.roles(SCOPE, {}, [], REDSHIFT)}


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, role in roles().items():
        for statement in role.policy["Statement"]:
            yield f"{name}: {statement['Sid']}", statement


@pytest.mark.parametrize(("where", "statement"), list(statements()))
def test_no_policy_allows_everything(where: str, statement: dict[str, Any]) -> None:
    assert not [action for action in statement["Action"] if "*" in action], where
    if statement["Resource"] == ["*"]:
        assert statement["Condition"], f"{where}: * without a condition"
    for resource in statement["Resource"]:
        belongs_to_us = "twinops-staging-" in resource or "/twinops/staging/" in resource
        is_shared = resource == "*" or ":redshift:" in resource or resource.endswith("event-bus/default")
        assert belongs_to_us or is_shared, f"{where}: {resource} is not scoped by the environment's name"


def test_a_device_may_only_store_decisions() -> None:
    (statement,) = roles()["twinops-staging-device"].policy["Statement"]
    assert statement["Action"] == ["s3:PutObject"]
    assert statement["Resource"] == ["arn:aws:s3:::twinops-staging-data-111122223333/decisions/*"]


def test_twins_may_not_query_redshift_where_there_is_none() -> None:
    for role in desired.roles(SCOPE, {}, [], None):
        assert "redshift" not in json.dumps(role.policy)


def test_people_named_in_the_spec_may_assume_the_mlops_role() -> None:
    (role, *_) = desired.roles(SCOPE, {}, ["arn:aws:iam::1:role/developers"], None)
    (statement,) = role.trust["Statement"]
    assert statement["Principal"] == {"AWS": ["arn:aws:iam::1:role/developers"]}


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


def test_input_of_a_rule_is_json_once_eventbridge_filled_it_in() -> None:
    rule = desired.rule(SCOPE, {}, WORKFLOW, "0" * 40)
    event = {"id": '"e-1"', "time": '"2026-01-01T00:00:00Z"', "type": '"Rollout finished"', "detail": '{"a": 1}'}
    filled = re.sub(r"<(\w+)>", lambda match: event[match[1]], rule.input_template)
    assert json.loads(filled) == {
        "workflow": "drift_report",
        "event_id": "e-1",
        "time": "2026-01-01T00:00:00Z",
        "detail-type": "Rollout finished",
        "detail": {"a": 1},
        "git_sha": "0" * 40,
        "timeout_s": 600,
        "idempotent": False,
    }
    assert set(re.findall(r"<(\w+)>", rule.input_template)) == set(rule.input_paths)


def test_what_a_spec_says_about_tags_does_not_hide_the_owner() -> None:
    rule = desired.rule(SCOPE, {"twinops:owner": "me", "cost-centre": 4711}, WORKFLOW, "0" * 40)
    assert rule.tags == {
        "cost-centre": "4711",
        "twinops:owner": "twinops",
        "twinops:environment": "staging",
        "twinops:workflow": "drift_report",
    }


def test_the_backup_takes_what_the_dispatcher_cannot_start_and_the_queue_the_rest() -> None:
    code = desired.DispatchCode("code", "layer", "python3.12")
    functions = {each.name: each for each in desired.dispatcher(SCOPE, {}, code) if isinstance(each, Function)}
    dispatch, backup = functions["twinops-staging-dispatch"], functions["twinops-staging-backup"]
    assert dispatch.on_failure == SCOPE.function_arn("backup")
    assert backup.on_failure == SCOPE.dead_letters_arn
    assert (dispatch.retries, dispatch.timeout_s) == (1, 60)
    assert dispatch.permissions == {
        "rules": ("events.amazonaws.com", "arn:aws:events:eu-central-1:111122223333:rule/twinops-staging-*")
    }
    assert list(functions) == ["twinops-staging-backup", "twinops-staging-dispatch"], "a destination comes first"


def test_lifecycle_script_gets_its_values_as_the_shell_reads_them() -> None:
    script = desired.lifecycle_script(SCOPE, SETTINGS, '#!/bin/sh\nprintf "%s %s" "$REPOSITORY" "$LEDGER_TABLE"\n')
    said = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout
    assert said == "https://example.com/it's.git twinops-staging-ledger"
    assert script.startswith("#!/bin/sh\n")


def test_lifecycle_script_that_aws_would_refuse() -> None:
    with pytest.raises(SpecError, match="at most 16384 base64 characters"):
        desired.lifecycle_script(SCOPE, SETTINGS, "#!/bin/sh\n" + "# a long story\n" * 1000)
    with pytest.raises(SpecError, match="first line"):
        desired.lifecycle_script(SCOPE, SETTINGS, "echo no interpreter\n")


def test_archives_have_the_same_bytes_whatever_the_order_and_the_time(tmp_path: Path) -> None:
    (tmp_path / "package/__pycache__").mkdir(parents=True)
    (tmp_path / "package/__pycache__/a.py").write_text("not source")
    for name in ("b.py", "a.py"):
        (tmp_path / "package" / name).write_text(f"# {name}\n")
    files = archives.read_python_tree(tmp_path / "package", "dispatch")
    backwards = dict(reversed(files.items()))
    assert set(files) == {"dispatch/a.py", "dispatch/b.py"}
    assert archives.zip_bytes(files) == archives.zip_bytes(backwards)
    assert archives.zip_bytes(files) != archives.zip_bytes({**files, "dispatch/c.py": b""})
    with zipfile.ZipFile(io.BytesIO(archives.zip_bytes(files))) as archive:
        assert {(each.date_time, each.external_attr >> 16, each.compress_type) for each in archive.infolist()} == {
            ((1980, 1, 1, 0, 0, 0), 0o100644, zipfile.ZIP_STORED)
        }


def test_layer_has_the_client_of_the_lock_where_lambda_looks_for_it() -> None:
    files = archives.read_distribution("websocket-client", "websocket", below="python")
    assert "python/websocket/__init__.py" in files
    assert not [path for path in files if "tests" in path or "bin" in path or not path.endswith(".py")]


def test_an_archive_is_never_empty(tmp_path: Path) -> None:
    with pytest.raises(TwinopsError, match="no Python files"):
        archives.read_python_tree(tmp_path, "dispatch")
    with pytest.raises(TwinopsError, match="not installed"):
        archives.read_distribution("no-such-distribution", "nothing", below="python")
