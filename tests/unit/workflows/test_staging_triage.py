"""The triage of devices: as a run on real buckets and a ledger, its debug routines, and its pages."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from staging_triage import pages, routines, triage
from toolbox import fleet, report
from toolbox.context import Context
from toolbox.fleet import Heard, Release
from twinops import diagnosis
from twinops import release as releases
from twinops.edge import alarms
from twinops.spec import for_environment, matching_event
from twinops.spec_files import load_workflows

from tests.unit import test_diagnosis
from tests.unit.toolbox import onnx_models
from tests.unit.workflows.conftest import CLONE, World

FOLDER = CLONE / "workflows/staging_triage"
ENV = "sandbox"
LIMIT = 24.0
RECORDS = [[20.0, 0.0, 150.0], [22.0, 1.0, 120.0], [25.0, -1.0, 180.0]]
FAHRENHEIT = {"f1": {"below": [68, 71.6, 77]}}
RUN = Context("0" * 24, "a" * 40, "2026-11-22T18:05:00.000000Z", {"device": "", "history_h": 48}, {"env": ENV}, Path())


def now() -> datetime:
    return datetime.now(timezone.utc)


def decided(records: Sequence[Sequence[float]], alarms: Sequence[int]) -> list[dict[str, Any]]:
    """Records and what a device decided about them, as it reports them."""
    return [
        {"record_id": f"r{at}", "recorded_at": "", "features": list(record), "label": label, "score": 0.5}
        for at, (record, label) in enumerate(zip(records, alarms))
    ]


def device(at: datetime, sensor: Mapping[str, Any] | None = None, **said: Any) -> dict[str, Any]:
    """Facts of a device that is well, but for what is said, written at a time; it decides by the model below."""
    time = f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"
    health = {"last_upload_at": time, "started_at": time, **said.pop("health", {})}
    facts = test_diagnosis.facts({"reported_at": time, "starts": [], "health": health, **said}, sensor or {})
    facts["readings"]["recent"] = decided(RECORDS, [0, 0, 1])
    return facts


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    """An alarm where f1 is above 24."""
    return onnx_models.above(tmp_path / "model.onnx", LIMIT, width=3).read_bytes()


def published(model: bytes, labels: Sequence[int] = (0, 0, 1)) -> tuple[str, dict[str, bytes]]:
    """(release digest, key -> content) of v2 in the bucket for models."""
    golden = json.dumps({"records": RECORDS, "labels": list(labels)}).encode()
    named = {"model.onnx": model, "golden.json": golden}
    files = tuple(releases.BundleFile(name, releases.sha256(body), len(body)) for name, body in named.items())
    about = {"name": "m", "version": "v2", "sha256": releases.sha256(model)}
    manifest = releases.Manifest("v2", "a" * 40, "d" * 64, "i" * 64, about, files).to_bytes()
    digest = releases.sha256(manifest)
    targets = {releases.file_target(ENV, releases.sha256(body)): body for body in named.values()}
    targets[releases.manifest_target(ENV, "v2")] = manifest
    return digest, {
        f"tuf/targets/{releases.stored_path(target, releases.sha256(body))}": body for target, body in targets.items()
    }


@pytest.fixture
def four_devices(world: World, model: bytes) -> World:
    """Four devices that run v2; f1 of device-003 is reported in Fahrenheit, for the last two of five hours."""
    digest, objects = published(model)
    for key, body in objects.items():
        world.put(key, body)
    at = now()
    for number in range(1, 5):
        name = f"device-00{number}"
        sensor = FAHRENHEIT if number == 3 else {}
        facts = device(at, sensor, device=name, release_digest=digest)
        if number == 3:
            facts["readings"]["recent"] = decided(
                [[record[0] * 1.8 + 32, *record[1:]] for record in RECORDS], [1, 1, 1]
            )
        world.put(f"facts/{name}/latest.json", json.dumps(facts).encode())
    for hours in range(5):
        then = at - timedelta(hours=hours)
        facts = device(then, FAHRENHEIT if hours < 2 else {}, device="device-003", release_digest=digest)
        world.put(f"facts/device-003/history/{then:%Y-%m-%d/%H}.json", json.dumps(facts).encode())
    world.ledger.record_rollout(
        {
            "rollout_id": "r1", "release": "v2", "release_digest": digest, "state": "completed",
            "started_at": "2026-11-20T08:00:00.000000Z",
            "devices": json.dumps({f"device-00{number}": "committed" for number in range(1, 5)}),
        }
    )  # fmt: skip
    world.ledger.record_deployment(
        {"device": "device-003", "release": "v2", "state": "committed", "rollout_id": "r1",
         "valid_from": "2026-11-20T08:01:00.000000Z"}, at="2026-11-20T08:01:00.000000Z",
    )  # fmt: skip
    return world


class Here:
    """The workflow's script in this process, which saves the seconds that its libraries take to load."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.world, self._monkeypatch, self._capsys = world, monkeypatch, capsys

    def run(self, device: str, *, exit_code: int = 0) -> tuple[Path, str]:
        """The folder of what it made, and what it printed."""
        output = self.world.folder / "output"
        output.mkdir()
        asked = {"device": device, "history_h": 48}
        about = {"run_id": "1" * 24, "git_sha": "a" * 40, "started_at": f"{now():%Y-%m-%dT%H:%M:%S.%fZ}"}
        file = self.world.folder / "run.json"
        file.write_text(json.dumps({**about, "parameters": asked, "twin": self.world.twin}))
        self._monkeypatch.setenv("TWINOPS_RUN", str(file))
        self._monkeypatch.setenv("TWINOPS_OUTPUT", str(output))
        self._monkeypatch.syspath_prepend(str(FOLDER))
        assert runpy.run_path(str(FOLDER / "run.py"))["main"]() == exit_code
        said = self._capsys.readouterr()
        return output, said.out + said.err


@pytest.fixture
def here(four_devices: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(four_devices, monkeypatch, capsys)


# ---- as a run


def test_a_device_is_diagnosed_and_what_fits_is_tried(four_devices: World) -> None:
    """As the twin runs it."""
    asked = {"device": "device-003", "history_h": 48}
    made, done = four_devices.start("staging_triage", asked, at=f"{now():%Y-%m-%dT%H:%M:%S.%fZ}")
    assert "device-003: f1 is reported in another unit: C to F" in done.stdout
    page = (made / "report.html").read_text()
    assert "its reports show it since" in page
    assert "decide the device&#39;s last 3 records here as it did there? Yes, all of them" in page
    assert "2 of the last 3 decisions would have been others; alarms: 1 instead of 3." in page
    assert "2026-11-20 08:01:00" in page, "what ran on it"
    assert (made / "summary.txt").read_text().startswith("device-003: f1 is reported in another unit")
    findings = json.loads((made / "findings.json").read_text())
    assert [one["kind"] for one in findings["device-003"]] == ["unit_change"]
    (item,) = four_devices.ledger.triages("device-003")
    assert (item["state"], json.loads(item["findings"])) == ("act", findings["device-003"])
    assert item["report_key"] == f"staging_triage/{item['run_id']}/report.html"


def test_all_devices_at_once_those_that_never_reported_as_well(here: Here) -> None:
    here.world.ledger.record_rollout(
        {
            "rollout_id": "r2", "release": "v2", "release_digest": "later", "state": "superseded",
            "started_at": "2026-11-21T08:00:00.000000Z", "devices": json.dumps({"device-009": "unreachable"}),
        }
    )  # fmt: skip
    here.world.put("facts/device-004/latest.json", b"\xff nonsense")
    made, _ = here.run("")
    findings = json.loads((made / "findings.json").read_text())
    assert {device: [one["kind"] for one in found] for device, found in findings.items()} == {
        "device-001": [], "device-002": [], "device-003": ["unit_change"], "device-004": ["service"],
        "device-009": ["silent"],
    }  # fmt: skip
    numbers = json.loads((made / "metrics.json").read_text())
    assert numbers == {"DevicesExamined": 5, "DevicesWithFindings": 3, "DevicesSilent": 1}


def test_a_device_that_nobody_knows_is_a_result(here: Here) -> None:
    made, said = here.run("device-777")
    assert "device-777 has never reported, or not for a month" in said
    assert "devices that report: device-001, device-002" in (made / "summary.txt").read_text()


def test_a_ledger_that_cannot_be_read_is_one_line(here: Here) -> None:
    here.world.ledger.table = "nowhere"
    _, said = here.run("device-001", exit_code=2)
    assert said.splitlines()[-1].startswith("staging_triage: ledger nowhere: ")


# ---- whom a device is compared with, and since when


def heard(at: datetime, **facts: Mapping[str, Any]) -> dict[str, Heard]:
    return {name.replace("_", "-"): Heard(said, at) for name, said in facts.items()}


def test_peers_are_those_whose_service_works() -> None:
    at = now()
    said = heard(
        at, device_1=device(at), device_2=device(at), device_3=device(at, health={"status": "failed"}),
        device_4=device(at, interval_s=600),
    )  # fmt: skip
    said["device-4"] = replace(said["device-4"], at=at - timedelta(hours=3))
    assert triage.peers("device-1", said, at) == ["device-2"]


def test_alone_it_is_compared_with_its_own_past() -> None:
    at = now()
    past = [Heard(device(at - timedelta(hours=hours)), at - timedelta(hours=hours)) for hours in (3, 2)]
    one = triage.examine("d", heard(at, d=device(at, FAHRENHEIT)), at, digests=frozenset(), history=past)
    assert [finding.kind for finding in one.findings] == ["unit_change"]
    assert one.compared_with == "its own reports of 2 hours"


def test_each_finding_is_dated_and_a_report_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """f1 is wrong for two hours, f2 lacks values for one, and was well in between."""
    at, gaps = now(), {"f2": {"missing": 200}}
    sensors = [(5, gaps), (4, {}), (3, {}), (2, FAHRENHEIT), (1, {**FAHRENHEIT, **gaps})]
    past = [Heard(device(at - timedelta(hours=back), one), at - timedelta(hours=back)) for back, one in sensors]
    known = {f"device-{number}": Heard(device(at), at) for number in range(3)}
    known["d"] = Heard(device(at, {**FAHRENHEIT, **gaps}), at)
    looked_at: list[int] = []
    really = diagnosis.diagnose
    monkeypatch.setattr(diagnosis, "diagnose", lambda *asked, **how: looked_at.append(1) or really(*asked, **how))
    one = triage.examine("d", known, at, digests=frozenset(), history=past)
    began = {finding.subject: finding.evidence[-1] for finding in one.findings}
    assert began == {
        subject: f"its reports show it since {at - timedelta(hours=hours):%d %B %H:%M} UTC"
        for subject, hours in (("f1", 2), ("f2", 1))
    }
    assert len(looked_at) == 1 + 3, "now, and each hour until none of them shows"


def test_alone_and_without_a_past_it_is_believed_what_it_says_itself() -> None:
    at = now()
    said = device(at, FAHRENHEIT)
    wrong = diagnosis.diagnose(Heard(said, at), at, [device(at)])
    said["alarms"] = json.loads(json.dumps([asdict(one) for one in wrong]))
    one = triage.examine("d", heard(at, d=said), at, digests=frozenset())
    assert [(finding.kind, finding.subject, finding.severity) for finding in one.findings] == [
        ("unit_change", "f1", "watch")
    ]
    assert one.findings[0].conversion == wrong[0].conversion
    assert "the device says so" in one.findings[0].evidence[-1]
    with_others = {f"device-{number}": Heard(device(at), at) for number in range(3)}
    confirmed = triage.examine("d", {**with_others, "d": Heard(said, at)}, at, digests=frozenset())
    assert [finding.severity for finding in confirmed.findings] == ["act"], "said once, by who knows more"


@pytest.mark.parametrize("alarms_said", [7, [7], [{}], [{"kind": "clock"}], [{"kind": 1, "title": 2, "action": 3}]])
def test_alarms_that_are_none_are_ignored(alarms_said: Any) -> None:
    at = now()
    said = {**device(at), "alarms": alarms_said}
    assert triage.examine("d", heard(at, d=said), at, digests=frozenset()).findings == ()


def test_without_anything_to_compare_with_no_sensor_is_judged() -> None:
    at = now()
    alone = triage.examine("d", heard(at, d=device(at, FAHRENHEIT)), at, digests=frozenset())
    assert alone.findings == ()
    assert "there are no other devices" in alone.compared_with


def test_allowed_are_the_last_completed_release_and_one_that_is_rolled_out() -> None:
    rollouts = [
        {"release_digest": digest, "state": state}
        for digest, state in (("v4", "running"), ("v3", "blocked"), ("v2", "completed"), ("v1", "completed"))
    ]
    assert triage.allowed_digests(rollouts) == {"v4", "v2"}


# ---- what is tried


def findings_of(sensor: Mapping[str, Any], **said: Any) -> tuple[dict[str, Any], tuple[fleet.Finding, ...]]:
    at = now()
    facts = device(at, sensor, **said)
    others = {f"device-{number}": Heard(device(at), at) for number in range(3)}
    return facts, triage.examine("d", {**others, "d": Heard(facts, at)}, at, digests=frozenset()).findings


def test_a_device_that_decides_otherwise_than_its_model_is_found_out(model: bytes) -> None:
    facts, found = findings_of({})
    facts["readings"]["recent"][0]["label"] = 1
    _, replayed = routines.run(found, Release("v2", "d", model, {"records": RECORDS, "labels": [0, 0, 1]}), facts)
    assert not replayed.is_fine
    assert replayed.answer.startswith("No: 1 differ.")
    assert replayed.rows == [("r0", "1", "0")]


def test_a_release_that_answers_otherwise_than_when_it_was_trained_is_found_out(model: bytes) -> None:
    facts, found = findings_of({}, model_file_sha256="f" * 64)
    golden, _ = routines.run(found, Release("v2", "d", model, {"records": RECORDS, "labels": [1, 0, 1]}), facts)
    assert (golden.is_fine, golden.answer[:11]) == (False, "No: 2 of 3.")
    assert golden.rows == [("golden 0", "1", "0")]


@pytest.mark.parametrize(
    "recent",
    [None, 7, [], [{}], [{"features": [1], "label": 0, "record_id": "x"}], [{"features": ["a"] * 3, "label": 0}]],
)
def test_records_that_are_none_are_not_replayed(recent: Any, model: bytes) -> None:
    facts, found = findings_of({})
    facts["readings"]["recent"] = recent
    (only,) = routines.run(found, Release("v2", "d", model, {"records": RECORDS, "labels": [0, 0, 1]}), facts)
    assert "golden records" in only.question


# ---- pages


class Outline(HTMLParser):
    """What a browser would run or load, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in ("script", "link", "iframe", "img") or any(name.startswith("on") for name in named):
            self.loaded.append(tag)


def test_what_a_hostile_device_reports_is_text() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    facts, found = findings_of(
        {}, release=evil, health={"status": "failed", "reason": evil, "release": evil}, log=[evil], problems=[evil],
        starts=evil, history=[{"release": evil, "at": evil}],
    )  # fmt: skip
    facts["readings"]["features"][evil] = facts["readings"]["features"]["f1"]
    one = triage.Triage(evil, Heard(facts, now()), False, found, (facts,), "others")
    tried = [routines.Routine(evil, evil, False, [(evil, evil, evil)])]
    for page in (
        pages.of_device(one, tried, evil, [], now=now(), run=RUN),
        pages.of_all([one], now=now(), run=RUN),
        pages.of_nobody(evil, [evil], now=now(), run=RUN),
    ):
        made = report.html(page)
        assert Outline(made).loaded == []
        assert "alert(1)" in made


def test_a_page_about_a_thousand_devices_stays_small() -> None:
    at = now()
    everyone = {
        f"device-{number:04}": Heard(device(at, FAHRENHEIT if number % 50 == 7 else {}), at) for number in range(1000)
    }
    references = list(everyone)[:20]
    known = {name: everyone[name] for name in references}
    found = [
        triage.examine(name, {**known, name: everyone[name]}, at, digests=frozenset()) for name in list(everyone)[:200]
    ]
    page = pages.of_all(found, now=at, run=RUN)
    assert page.headline == "4 of 200 devices need a look"
    assert len(report.html(page)) < 200_000


def test_nothing_reported_is_said_as_such() -> None:
    page = pages.of_all([], now=now(), run=RUN)
    assert (page.state, page.headline) == ("none", "No device has reported within a month")


# ---- what starts it


def test_what_a_device_puts_on_the_bus_is_what_starts_it() -> None:
    """Of its own environment only; and so does what `playbooks/invoke.yml` puts."""
    (workflow,) = [one for one in load_workflows(CLONE) if one.name == "staging_triage"]
    pattern = for_environment(workflow.event, "staging")
    facts = {**device(now(), disk={"total_bytes": 100, "free_bytes": 1}), "env": "staging"}
    _, news, _ = alarms.examine(facts, {})
    detail = alarms.event(facts, news)
    assert pattern == {
        "source": [alarms.SOURCE], "detail-type": [alarms.DETAIL_TYPE], "detail": {"env": [detail["env"]]},
    }  # fmt: skip
    assert set(detail["parameters"]) <= {parameter.name for parameter in workflow.parameters}
    by_hand = for_environment(matching_event(workflow), "staging")
    assert by_hand == {"source": alarms.SOURCE, "detail-type": alarms.DETAIL_TYPE, "detail": {"env": "staging"}}
