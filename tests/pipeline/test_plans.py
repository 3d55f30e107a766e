"""A plan as a file and as a page: what it keeps, in which order it is told, and which plan is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from twinops import approval

from pipeline import comment, plans
from pipeline.tools import PipelineError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def change(action: str, kind: str, name: str, **fields: tuple[Any, Any]) -> dict[str, Any]:
    before = {field: values[0] for field, values in fields.items()} if action != "create" else {}
    after = {field: values[1] for field, values in fields.items()} if action != "delete" else {}
    return {"action": action, "kind": kind, "name": name, "fields": list(fields), "before": before, "after": after}


RECORD = {
    "cloud": {
        "plan": [
            change("delete", "rule", "old", schedule=("rate(1 day)", None)),
            change("create", "role", "operator", trust=(None, {"Statement": []}), tags=(None, {})),
            change("create", "nat_gateway", "way-out", subnet=(None, "public")),
            change("update", "function", "dispatch", memory_mb=(128, 256), tags=({}, {"a": "`b`"})),
            change("update", "notebook", "development", instance_type=("ml.t3.medium", "ml.t3.large")),
        ],
        "orphans": [{"kind": "bucket", "name": "left"}],
        "warnings": [],
    },
    "tasks": [
        {"host": "control", "action": "release_bundle", "task": "t", "release": "v2", "release_digest": None},
        {"host": "control", "action": "rollout_ledger", "task": "t", "waves": {"canary": ["d-2", "d-1"], "fleet": []}},
        {"host": "d-9", "action": "edge_status", "task": "t", "unreachable": True},
    ],
    "failures": [],
}


def made(at: str = "2026-11-22T05:00:00Z", **different: Any) -> dict[str, Any]:
    return plans.of_record({**copy.deepcopy(RECORD), **different}, environment="staging", commit=COMMIT, at=at)


def test_a_plan_has_what_is_approved_and_its_digest() -> None:
    plan = made()
    assert plan["release"]["version"] == "v2"
    assert plan["waves"] == {"canary": ["d-1", "d-2"], "fleet": []}
    assert plan["unreachable"] == ["d-9"]
    assert plan["digest"] == plans.digest(plan)


def test_a_device_that_is_off_makes_no_other_plan_and_a_change_does() -> None:
    without = made(tasks=[task for task in RECORD["tasks"] if task["host"] == "control"])
    assert without["digest"] == made()["digest"]
    assert made(at="2026-11-23T05:00:00Z")["digest"] == made()["digest"], "nor does another time"
    cloud = copy.deepcopy(RECORD["cloud"])
    cloud["plan"][3]["after"]["memory_mb"] = 512
    assert made(cloud=cloud)["digest"] != made()["digest"]


def test_a_run_that_failed_is_no_plan() -> None:
    failure = {"host": "control", "action": "cloud", "task": "Make", "message": "AccessDenied"}
    with pytest.raises(PipelineError, match="control: Make: AccessDenied"):
        made(failures=[failure])


def test_what_matters_comes_first() -> None:
    page = comment.page(made())
    titles = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]
    expected = ["Who may do what", "What costs money", "Removed", "Created", "Changed", "Devices"]
    assert titles == [*expected, "Not declared any more, and left alone"]
    assert "**2 created, 2 changed, 1 removed, v2 on 2 devices**" in page


def test_who_may_do_what_and_what_costs_money() -> None:
    sections = {part.split("\n")[0]: part for part in comment.page(made()).split("### ")}
    assert "`operator`: trust" in sections["Who may do what"]
    assert '"Statement": []' in sections["Who may do what"]
    assert "dispatch" not in sections["Who may do what"]
    costly = sections["What costs money"]
    assert [name in costly for name in ("way-out", "dispatch", "development", "operator")] == [True, True, True, False]
    assert "memory_mb: `128` → `256`" in sections["Changed"]


def test_a_value_is_no_markdown() -> None:
    assert 'tags: `{}` → `{"a": "\'b\'"}`' in comment.page(made())


def test_a_secret_is_neither_shown_nor_to_be_guessed() -> None:
    words = [approval.without_secrets({"DB_PASSWORD": word}) for word in ("hunter22", "hunter23")]
    page = comment.page(made(cloud={"plan": [change("update", "function", "f", environment=tuple(words))]}))
    assert '`{"DB_PASSWORD": "(withheld)"}` → another one' in page
    assert page.count("(withheld)") == 3
    assert "(withheld, " not in page


def test_an_endless_page_is_cut_to_what_gitlab_takes() -> None:
    many = [change("create", "role", f"role-{number}", trust=(None, "x" * 500)) for number in range(3000)]
    page = comment.page(made(cloud={"plan": many}))
    assert len(page) < 1_000_000
    assert page.endswith("all of it is in the artifact.\n")


def test_nothing_to_change() -> None:
    plan = made(cloud={"plan": []}, tasks=[])
    assert not plans.differs(plan)
    assert "**Nothing to change.**" in comment.page(plan)


def test_what_is_not_declared_any_more_differs() -> None:
    assert plans.differs(made(cloud={"plan": [], "orphans": [{"kind": "bucket", "name": "left"}]}, tasks=[]))


def test_a_plan_that_somebody_has_edited_is_refused(tmp_path: Path) -> None:
    plan = made()
    path = tmp_path / "staging.json"
    path.write_text(json.dumps(plan))
    assert plans.read(path) == plan
    plan["cloud"][3]["after"]["memory_mb"] = 10240
    path.write_text(json.dumps(plan))
    with pytest.raises(PipelineError, match="expected the plan with digest"):
        plans.read(path)
    path.write_text("not JSON")
    with pytest.raises(PipelineError, match="expected a plan as `make plan` writes it"):
        plans.read(path)


@pytest.mark.parametrize(
    ("different", "message"),
    [
        ({"environment": "production"}, "expected one of production, got one of staging"),
        ({"commit": "f" * 40}, "it was made for commit 0123456789ab, and this is ffffffffffff; nothing was changed"),
        ({"approved_digest": "feedfeedfeed"}, "feedfeedfeed was approved, and this is"),
        ({"approved_digest": "3f"}, "digest: expected 12 to 64 hexadecimal digits of a plan, got '3f'"),
    ],
    ids=["of another environment", "of another commit", "of another digest", "of hardly a digest"],
)
def test_a_plan_for_something_else_is_refused(different: dict[str, str], message: str) -> None:
    plan = made()
    right = {"environment": "staging", "commit": COMMIT, "approved_digest": plan["digest"][:12]}
    plans.check_approved(plan, **right)
    with pytest.raises(PipelineError, match=message):
        plans.check_approved(plan, **{**right, **different})
