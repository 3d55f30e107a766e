"""The module, as Ansible calls it: what a person can get wrong stops it before AWS is asked anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.settings import CLONE
from tests.sandbox.support import OwnSandbox
from tests.unit.bad_specs import BAD_SPECS, BAD_SPECS_TOLD

pytestmark = pytest.mark.sandbox

SPEC = """
description: Does nothing.
owner: mlops@example.com
entrypoint: run.py
timeout_s: 60
schedule: rate(1 day)
"""


def call_cloud(sandbox: OwnSandbox, tmp_path: Path, *flags: str, **arguments: Any) -> tuple[int, str]:
    program = str(Path(sys.executable).with_name("ansible"))
    done = subprocess.run(
        [program, "-i", "localhost,", "-c", "local", "localhost", "-m", "cloud", "-a", json.dumps(arguments), *flags],
        cwd=CLONE,
        env={
            **sandbox.environment,
            **sandbox.settings.aws_environment,
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LOCAL_TEMP": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def work_tree(tmp_path: Path, spec: str) -> Path:
    """A repository with one workflow and the folders that functions are built from."""
    root = tmp_path / "clone"
    for path in ("workflows/broken/run.py", "dispatch/handler.py", "module_utils/twinops/__init__.py"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("print(1)\n")
    (root / "workflows/broken/workflow.yml").write_text(spec)
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    return root


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("description: [unfinished\n", "workflows/broken/workflow.yml:2:1: not valid YAML"),
        ("timeout_s: 1\ntimeout_s: 2\n", "workflows/broken/workflow.yml:2:1: not valid YAML: timeout_s is given twice"),
        ("timeout_s: 0\n", "workflows/broken/workflow.yml: timeout_s: expected 1–43200, got 0"),
    ],
    ids=["not YAML", "a key twice", "out of range"],
)
def test_a_bad_spec_stops_before_anything_is_touched(
    spec: str, said: str, own_sandbox: OwnSandbox, tmp_path: Path
) -> None:
    before = len(own_sandbox.calls())
    root = work_tree(tmp_path, spec)
    exit_code, output = call_cloud(
        own_sandbox, tmp_path, env="staging", repository=str(root), declared={"workflows": {}}
    )
    assert exit_code != 0
    assert said in output
    assert len(own_sandbox.calls()) == before


def test_all_mistakes_of_all_specs_are_told_at_once(own_sandbox: OwnSandbox, tmp_path: Path) -> None:
    before = len(own_sandbox.calls())
    root = work_tree(tmp_path, SPEC)
    for name, content in BAD_SPECS.items():
        (root / "workflows" / name).mkdir()
        (root / "workflows" / name / "workflow.yml").write_bytes(content)
    exit_code, output = call_cloud(
        own_sandbox, tmp_path, "--check", env="staging", repository=str(root), declared={"workflows": {}}
    )
    assert exit_code != 0
    told = [line.strip() for line in output.partition("localhost | FAILED!")[2].splitlines()]
    assert [line for line in told if line.startswith("workflows/")] == BAD_SPECS_TOLD
    assert len(own_sandbox.calls()) == before


def test_every_mistake_in_what_was_declared_is_named_at_once(own_sandbox: OwnSandbox, tmp_path: Path) -> None:
    before = len(own_sandbox.calls())
    declared = {"storage": {"buckets": [{"purpose": "attic"}]}, "notifications": {}, "kitchen": {}}
    exit_code, output = call_cloud(own_sandbox, tmp_path, env="staging", repository="/nowhere", declared=declared)
    assert exit_code != 0
    assert "storage: value of purpose must be one of: models, reports, data, got: attic found in buckets" in output
    assert "notifications: missing required arguments: mail_to" in output
    assert "declared: kitchen: expected one of bootstrap, env, " in output
    assert len(own_sandbox.calls()) == before


def test_what_is_not_committed_stops_or_warns(own_sandbox: OwnSandbox, tmp_path: Path) -> None:
    root = work_tree(tmp_path, SPEC)
    arguments = {"env": "staging", "repository": str(root), "declared": {"workflows": {}}}
    exit_code, output = call_cloud(own_sandbox, tmp_path, "--check", **arguments)
    assert exit_code == 0, output
    (root / "workflows/broken/run.py").write_text("print(2)\n")
    exit_code, output = call_cloud(own_sandbox, tmp_path, "--check", **arguments)
    assert exit_code != 0
    assert "workflows/broken/run.py" in output
    exit_code, output = call_cloud(own_sandbox, tmp_path, "--check", **arguments, uncommitted="warn")
    assert exit_code == 0, output
    assert "workflows/broken/run.py" in output
