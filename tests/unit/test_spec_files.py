"""Reading the specs of a work tree, as `make lint` and the deployment do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from twinops.errors import SpecError
from twinops.spec_files import load_workflow, load_workflows

from tests.unit.bad_specs import BAD_SPECS, BAD_SPECS_TOLD

CLONE = Path(__file__).parents[2]
SPEC = "description: Counts.\nowner: a@example.com\nentrypoint: run.py\nschedule: rate(1 day)\ntimeout_s: 60\n"


def write(root: Path, name: str, spec: bytes | str, **files: str) -> None:
    folder = root / "workflows" / name
    folder.mkdir(parents=True)
    (folder / "workflow.yml").write_bytes(spec if isinstance(spec, bytes) else spec.encode())
    for stem, text in files.items():
        (folder / f"{stem}.{'py' if stem == 'run' else 'txt'}").write_text(text)


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twinops.spec_files", root],
        env={"PYTHONPATH": str(CLONE / "module_utils")}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_linter_tells_all_mistakes_of_all_specs_at_once(tmp_path: Path) -> None:
    for name, content in BAD_SPECS.items():
        write(tmp_path, name, content)
    write(tmp_path, "right", SPEC, run="")
    done = lint(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == BAD_SPECS_TOLD


def test_the_linter_finds_our_own_specs_right() -> None:
    done = lint(CLONE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "model_evaluation" in done.stdout


def test_a_mistake_of_the_lock_that_workflows_share_is_told_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path, name, SPEC, run="")
    (tmp_path / "workflows/requirements.txt").write_bytes(b"a==1\n\xff\n")
    with pytest.raises(SpecError) as caught:
        load_workflows(tmp_path)
    assert [mistake.partition(" ")[0] for mistake in caught.value.mistakes] == [
        "workflows/requirements.txt:1:",
        "workflows/requirements.txt:2:",
    ]


def test_a_lock_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "one", SPEC + "environment: {lock: requirements.txt}\n", run="", requirements="numpy\n")
    with pytest.raises(SpecError, match=r"^workflows/one/requirements.txt:1: expected a package"):
        load_workflow(tmp_path, "one")
    assert load_workflow(tmp_path, "one", with_lock=False).lock == "one/requirements.txt"


def test_no_workflow_at_all(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected at least one folder with a"):
        load_workflows(tmp_path)


def test_every_spec_names_its_schema_for_editors() -> None:
    for spec in CLONE.glob("workflows/*/workflow.yml"):
        (comment, relative) = spec.read_text("utf-8").splitlines()[0].split("=", 1)
        assert comment == "# yaml-language-server: $schema"
        assert yaml.safe_load((spec.parent / relative).read_text("utf-8"))["title"] == "Workflow of twinops"
