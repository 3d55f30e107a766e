"""Workflow specs: the cases are in tests/plans/spec, in words that need no Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops import schedule, spec
from twinops.errors import SpecError
from twinops.schedule import schedule_mistake, timezone_mistake
from twinops.spec import matching_event, merge_parameters, parse_workflow

CASES = Path(__file__).parents[1] / "plans" / "spec"
WHERE = "workflows/example/workflow.yml"
FILES = {"run.py", "packages.txt", "workflow.yml"}


def cases(name: str) -> Any:
    return yaml.safe_load((CASES / f"{name}.yml").read_text("utf-8"))


RIGHT = {case["name"]: case for case in cases("right")}
EVERYTHING = RIGHT["everything"]["spec"]


@pytest.mark.parametrize("case", RIGHT.values(), ids=RIGHT.keys())
def test_right(case: dict[str, Any]) -> None:
    workflow = parse_workflow(case["spec"], WHERE, FILES)
    found = {
        "name": workflow.name,
        "idempotent": workflow.idempotent,
        "concurrency": workflow.concurrency,
        "timezone": workflow.timezone,
        "parameters": [[one.name, one.type, one.default] for one in workflow.parameters],
        "event": workflow.event,
        "topic": workflow.report.topic,
        "attach": workflow.report.attach,
        "alarms": [workflow.alarms.failed, workflow.alarms.missing_after_h],
        "dashboard": list(workflow.dashboard),
        "data_sources": list(workflow.data_sources),
        "lock": workflow.lock,
    }
    expected = {
        "event": case["spec"].get("event"),
        "concurrency": "queue",
        "timezone": "UTC",
        "dashboard": [],
        **case["taken_for"],
    }
    assert found == expected
    for field in ("description", "owner", "entrypoint", "schedule", "timeout_s"):
        assert getattr(workflow, field) == case["spec"][field]


@pytest.mark.parametrize("case", cases("mistakes"), ids=lambda case: case["name"])
def test_mistakes(case: dict[str, Any]) -> None:
    spec = {**RIGHT["the smallest"]["spec"], **case["change"]}
    spec = {key: value for key, value in spec.items() if value is not None}
    with pytest.raises(SpecError) as caught:
        parse_workflow(spec, WHERE, FILES)
    assert list(caught.value.mistakes) == [f"{WHERE}: {mistake}" for mistake in case["mistakes"]]


@pytest.mark.parametrize("data", [None, "text", ["a"], 3])
def test_not_a_mapping(data: object) -> None:
    with pytest.raises(SpecError, match="expected a mapping of fields"):
        parse_workflow(data, WHERE, FILES)


@pytest.mark.parametrize("folder", ["Example", "1st", "a-b", "", "a" * 42])
def test_folder_name(folder: str) -> None:
    with pytest.raises(SpecError, match="folder: expected a name like model_evaluation"):
        parse_workflow(EVERYTHING, f"workflows/{folder}/workflow.yml", FILES)


@pytest.mark.parametrize("expression", cases("schedules")["right"])
def test_right_schedule(expression: str) -> None:
    assert schedule_mistake(expression) is None


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Port-au-Prince", "Etc/GMT+5"])
def test_right_timezone(timezone: str) -> None:
    assert timezone_mistake(timezone) is None


@pytest.mark.parametrize("timezone", ["", "utc", "Europe", "europe/berlin", "localtime", "EST5EDT", "../etc/passwd"])
def test_wrong_timezone(timezone: str) -> None:
    expected = f"expected a time zone of the IANA database, like Europe/Berlin, got {timezone!r}"
    assert timezone_mistake(timezone) == expected


def test_a_machine_without_time_zones_asks_for_the_form_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_timezones", frozenset)
    assert timezone_mistake("Europe/Bonn") is None
    assert timezone_mistake("Bonn")


@pytest.mark.parametrize(
    ("expression", "mistake"), {**cases("schedules")["wrong"], **cases("schedules")["wrong_day_or_time"]}.items()
)
def test_wrong_schedule(expression: str, mistake: str) -> None:
    assert schedule_mistake(expression) == mistake


def test_parameters_of_an_event() -> None:
    workflow = parse_workflow(EVERYTHING, WHERE, FILES)
    assert merge_parameters(workflow, {"lookback_h": 1, "share": 0.5}) == {
        "lookback_h": 1,
        "share": 0.5,
        "device": "",
        "quick": False,
    }
    with pytest.raises(SpecError) as caught:
        merge_parameters(workflow, {"lookback_h": "1", "days": 3})
    assert caught.value.mistakes == (
        "example: parameters.lookback_h: expected an integer, got '1'",
        "example: parameters.days: expected one of lookback_h, share, device, quick, got an unknown name",
    )


@pytest.mark.parametrize(
    ("pattern", "event"),
    [
        ({"source": ["a", "b"]}, {"source": "a", "detail-type": "Started by hand", "detail": {}}),
        (
            {"source": [{"prefix": "x"}, "a"], "detail-type": ["T"], "detail": {"n": {"m": [1]}}},
            {"source": "a", "detail-type": "T", "detail": {"n": {"m": 1}}},
        ),
    ],
)
def test_matching_event(pattern: dict[str, Any], event: dict[str, Any]) -> None:
    assert matching_event(parse_workflow({**EVERYTHING, "event": pattern}, WHERE, FILES)) == event


@pytest.mark.parametrize(
    ("pattern", "mistake"),
    [
        ({"source": [{"prefix": "a"}]}, "event.source: expected a plain value"),
        ({"source": ["aws.s3"]}, "AWS reserves aws.s3"),
        ({"source": ["a"], "region": ["eu-central-1"]}, "event.region: expected no condition"),
    ],
)
def test_no_matching_event(pattern: dict[str, Any], mistake: str) -> None:
    with pytest.raises(SpecError, match=mistake):
        matching_event(parse_workflow({**EVERYTHING, "event": pattern}, WHERE, FILES))


HASH = "--hash=sha256:" + "0" * 64
LOCKS = cases("locks")


def locked(spec: dict[str, Any], locks: dict[str, str], entrypoint: str = "run.py") -> tuple[str, ...]:
    """The mistakes of a spec beside which there are these locks; HASH in them stands for a right one."""
    texts = {path: text.replace("HASH", HASH) for path, text in locks.items()}
    try:
        parse_workflow({**RIGHT["the smallest"]["spec"], **spec}, WHERE, {"packages.txt", entrypoint}, texts.get)
    except SpecError as error:
        return error.mistakes
    return ()


@pytest.mark.parametrize("case", LOCKS, ids=lambda case: case["name"])
def test_locks(case: dict[str, Any]) -> None:
    spec = {"environment": {"lock": "packages.txt"}}
    found = locked(spec, {"workflows/example/packages.txt": case["lock"]})
    assert list(found) == [f"workflows/example/packages.txt:{mistake}" for mistake in case["mistakes"]]


def test_the_shared_lock_is_that_of_who_has_no_other() -> None:
    assert locked({}, {"workflows/requirements.txt": "numpy\n"}) == (
        "workflows/requirements.txt:1: expected a package and its version, like numpy==2.1.0, got 'numpy'",
    )
    assert locked({"environment": {"lock": "packages.txt"}}, {"workflows/requirements.txt": "numpy\n"}) == ()


def test_a_notebook_needs_what_executes_it() -> None:
    spec = {"entrypoint": "notebook.ipynb"}
    path, both = "workflows/requirements.txt", "papermill==2.6.0 HASH\nIPykernel==6.29 HASH\n"
    assert locked(spec, {path: both}, "notebook.ipynb") == ()
    assert locked(spec, {path: "papermill==2.6.0 HASH\n"}, "notebook.ipynb") == (
        f"{path}: expected ipykernel, to execute workflows/example/notebook.ipynb; missing",
    )
    assert locked(spec, {path: ""}, "notebook.ipynb") == (
        f"{path}: expected papermill and ipykernel, to execute workflows/example/notebook.ipynb; missing",
    )
    assert locked(spec, {}, "notebook.ipynb") == (), "which cannot be read here"


def test_mistakes_of_spec_and_lock_are_told_together() -> None:
    found = locked({"timeout_s": 0, "environment": {"lock": "packages.txt"}}, {"workflows/example/packages.txt": "a"})
    assert [mistake.split(" ")[0] for mistake in found] == [f"{WHERE}:", "workflows/example/packages.txt:1:"]


@pytest.mark.parametrize(
    ("source", "by_aws"),
    [(["aws.cloudwatch"], True), (["twinops"], False), (["twinops", "aws.s3"], False), ([{"prefix": "aws."}], False)],
    ids=["AWS", "ours", "both", "filter"],
)
def test_who_puts_its_events(source: list[Any], by_aws: bool) -> None:
    workflow = parse_workflow({**RIGHT["the smallest"]["spec"], "event": {"source": source}}, WHERE, FILES)
    assert spec.by_aws(workflow) is by_aws
