"""The monthly report: what it counts, what it says first, and that the page and the PDF say the same."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypdf
import pytest
import yaml
from monthly_report import customers, page
from monthly_report import month as months
from monthly_report.customers import CustomerError
from monthly_report.month import Month, Span
from scipy import stats
from sklearn.metrics import f1_score
from toolbox import chart, pdf, report

from tests.unit.workflows.months import DEVICES, END, START, at, decisions, incidents, labels_of, month

CLONE = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def october() -> Month:
    """A month with a device that is silent for three days, a run that failed, and a release that was stopped."""
    frames = {device: decisions(device, off=(16, 18) if device == "device-005" else None) for device in DEVICES}
    return month(frames, incidents=incidents())


# ---- what is counted


def test_days_agree_with_a_count_by_hand() -> None:
    frame = decisions("device-001")
    labels = labels_of(frame)
    (found,) = [one for one in months.days_of(frame, labels) if one.day == "2026-10-07"]
    day = frame[frame["recorded_at"].dt.day == 7]
    labelled = day[day["record_id"].isin(labels.index)]
    expected = np.array([[((labelled.truth == t) & (labelled.label == a)).sum() for a in (0, 1)] for t in (0, 1)])
    assert (found.decisions, found.alarms, found.counted) == (len(day), day["label"].sum(), len(day))
    assert np.array(found.confusion).tolist() == expected.tolist()
    assert found.release == "v1"


def test_a_record_that_comes_again_is_use_but_no_more_evidence() -> None:
    once = decisions("device-001")
    again = once.assign(seq=once["seq"] + len(once), recorded_at=once["recorded_at"] + timedelta(seconds=1))
    first, both = (months.days_of(frame, labels_of(once)) for frame in (once, pd.concat([once, again])))
    assert sum(one.decisions for one in both) == 2 * sum(one.decisions for one in first)
    assert [one.confusion for one in both] == [one.confusion for one in first]


def test_a_batch_that_was_uploaded_twice_counts_once() -> None:
    once = decisions("device-001")
    assert months.days_of(pd.concat([once, once]), labels_of(once)) == months.days_of(once, labels_of(once))


def test_macro_f1_and_intervals_agree_with_others() -> None:
    frame = decisions("device-001")
    total = page.Totals.of(months.days_of(frame, labels := labels_of(frame)))
    labelled = frame[frame["record_id"].isin(labels.index)]
    assert total.quality
    assert total.quality.macro_f1 == pytest.approx(f1_score(labelled.truth, labelled.label, average="macro"), abs=1e-12)
    anomalies = labelled[labelled.truth == 1]
    exact = stats.binomtest(int(anomalies.label.sum()), len(anomalies)).proportion_ci(method="exact")
    assert total.recall == page.Interval(anomalies.label.mean(), *exact)
    assert total.coverage == len(labelled) / len(frame)


CASES = yaml.safe_load((CLONE / "tests/plans/monthly_report/silences.yml").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_silences(case: dict[str, Any]) -> None:
    found = months.silences_of(
        "device-001",
        pd.Series([_at(text) for text in case["decisions"]]),
        in_use_since=_at(case["in_use_since"]) if case["in_use_since"] else None,
        until=END,
        silent_after_min=case["silent_after_min"],
    )
    assert [[_text(one.since), _text(one.until)] for one in found] == case["silences"]


def _at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}+00:00")


def _text(moment: str) -> str:
    return moment[5:16].replace("T", " ")


def test_incidents_are_those_of_the_customers_devices() -> None:
    found = incidents()
    assert [(one.kind, one.what) for one in found] == [
        ("run", "Workflow model_evaluation"),
        ("rollout", "Release v3 on device-001"),
        ("device", "Release v3 on device-001"),
    ]
    rollout = {
        "started_at": at(2),
        "release": "v3",
        "state": "blocked",
        "reason": "",
        "devices": '{"device-001": "pending"}',
    }
    other = {"recorded_at": at(2), "device": "device-002", "release": "v3", "state": "failed"}
    good = {"claimed_at": at(2), "workflow": "w", "state": "SUCCEEDED"}
    assert months.incidents_of(["device-001"], [good], [rollout], [other]) == []


@pytest.mark.parametrize(
    ("asked", "today", "expected"),
    [
        ("", date(2026, 11, 5), "2026-10"),
        ("", date(2026, 1, 31), "2025-12"),
        ("2024-02", date(2026, 1, 31), "2024-02"),
    ],
)
def test_the_month(asked: str, today: date, expected: str) -> None:
    span = Span.of(asked, today)
    assert span.name == expected
    assert span.end.day == 1
    assert timedelta(days=27) < span.end - span.start < timedelta(days=32)


@pytest.mark.parametrize("asked", ["2026-13", "October", "2026-12"])
def test_no_month(asked: str) -> None:
    with pytest.raises(ValueError, match=f"month: expected one .*, got '{asked}'"):
        Span.of(asked, date(2026, 11, 23))


# ---- who owns what

TABLE = """
customer_features:
  anomaly-detection: {title: Anomaly detection, model: shuttle-anomaly}
customers:
  orbital:
    title: Orbital Freight
    features: {anomaly-detection: {least_recall: 0.9}}
    devices: [{match: "device-00?", until: 2026-10-11}, {match: device-007, since: 2026-10-11}]
  meridian:
    title: Meridian Launch
    features: {}
    devices: []
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "customers.yml").write_text(TABLE)
    return tmp_path / "customers.yml"


def test_devices_belong_to_a_customer_for_a_time(table: Path) -> None:
    (orbital,) = customers.load(table, "anomaly-detection")
    assert (orbital.model, orbital.agreed.least_recall, orbital.agreed.most_false_alarm_rate) == (
        "shuttle-anomaly",
        0.9,
        None,
    )
    owned = orbital.owned(["device-007", "device-001", "device-0010"], date(2026, 10, 1), date(2026, 11, 1))
    assert [(one.device, one.since.day, one.until.day) for one in owned] == [
        ("device-001", 1, 11),
        ("device-007", 1, 11),
        ("device-007", 11, 1),
    ]


@pytest.mark.parametrize(
    ("change", "asked", "message"),
    [
        (
            ("", ""),
            ("anomaly-detection", "meridian"),
            r"customers: expected one who has anomaly-detection \(orbital\), got",
        ),
        (("", ""), ("drift", ""), "customer_features: expected one of anomaly-detection, got 'drift'"),
        (
            ("since: 2026-10-11", "since: October"),
            ("anomaly-detection", ""),
            "expected a day such as 2026-10-01, got 'October'",
        ),
        (
            ("least_recall", "recall"),
            ("anomaly-detection", ""),
            "customers.orbital: expected title, features and devices",
        ),
        (("customers:", "clients:"), ("anomaly-detection", ""), "customers: expected a mapping, got None"),
        (("title: Orbital", "title: {"), ("anomaly-detection", ""), "expected the table of customers"),
        (
            ("features: {anomaly-detection: {least_recall: 0.9}}", "features: {}"),
            ("anomaly-detection", ""),
            "customers: expected some who have anomaly-detection, got none",
        ),
    ],
    ids=["customer", "feature", "day", "agreed", "customers", "yaml", "nobody"],
)
def test_a_wrong_table(table: Path, change: tuple[str, str], asked: tuple[str, str], message: str) -> None:
    table.write_text(TABLE.replace(*change) if change[0] else TABLE)
    with pytest.raises(CustomerError, match=message):
        customers.chosen(customers.load(table, asked[0]), asked[1])


@pytest.mark.parametrize(
    ("agreed", "message"),
    [
        ("least_recall: 95", "least_recall: expected a share from 0 to 1, got 95"),
        ("least_recall: '0.9'", "least_recall: expected a share from 0 to 1, got '0.9'"),
        ("most_false_alarm_rate: .nan", "most_false_alarm_rate: expected a share from 0 to 1, got nan"),
        ("least_recall: true", "least_recall: expected a share from 0 to 1, got True"),
        ("silent_after_min: 0", "silent_after_min: expected whole minutes, 1 or more, got 0"),
        ("silent_after_min: 1h", "silent_after_min: expected whole minutes, 1 or more, got '1h'"),
    ],
    ids=["percent", "text", "no number", "truth", "no time", "unit"],
)
def test_what_cannot_have_been_agreed(table: Path, agreed: str, message: str) -> None:
    table.write_text(TABLE.replace("least_recall: 0.9", agreed))
    with pytest.raises(CustomerError, match=rf"customers\.yml: customers\.orbital: .*{message}"):
        customers.load(table, "anomaly-detection")


OCTOBER = (date(2026, 10, 1), date(2026, 11, 1))
OF_ORBITAL = "until: 2026-10-11}, {match: device-007, since: 2026-10-11}]"
OF_MERIDIAN = "features: {}\n    devices: []"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((OF_ORBITAL, OF_ORBITAL.replace("11}, ", "12}, ")), r"at 2026-10-11 it is matched twice \(orbital\)"),
        (
            (OF_MERIDIAN, "features: {anomaly-detection: }\n    devices: [{match: '*7', since: 2026-10-30}]"),
            r"at 2026-10-30 it is matched twice \(orbital and meridian\)",
        ),
    ],
    ids=["by one customer", "by two"],
)
def test_a_device_that_is_matched_twice_at_a_time(table: Path, change: tuple[str, str], message: str) -> None:
    table.write_text(TABLE.replace(*change))
    with pytest.raises(CustomerError, match=f"device-007: expected one match at a time, {message}"):
        customers.owners(customers.load(table, "anomaly-detection"), ["device-001", "device-007"], *OCTOBER)


def test_the_newest_entry_may_come_first(table: Path) -> None:
    newest_first = "since: 2026-10-11}, {match: device-007, until: 2026-10-11}]"
    table.write_text(TABLE.replace(OF_ORBITAL, newest_first).replace("device-00?", "device-007"))
    found = customers.owners(customers.load(table, "anomaly-detection"), ["device-007"], *OCTOBER)
    assert [(one.since.day, one.until.day) for one in found["orbital"]] == [(1, 11), (11, 1)]


@pytest.mark.parametrize("env", ["sandbox", "staging", "production"])
def test_the_tables_of_our_environments(env: str) -> None:
    """Each device of an environment has one customer at a time, and the feature is one that we release."""
    found = customers.load(customers.path(CLONE, env), "anomaly-detection")
    devices = [f"device-{n:03}" if env == "sandbox" else f"{env}-device-{n:03}" for n in range(1, 101)]
    owned = customers.owners(found, devices, *OCTOBER)
    assert sorted(one.device for some in owned.values() for one in some) == devices
    assert {"v1", "v2"} <= customers.releases_of(CLONE, found[0].model)


# ---- what it says


def test_all_is_well() -> None:
    said = page.report(month())
    assert (said.state, said.headline) == ("ok", "Anomaly detection did what was agreed in October 2026")
    assert said.action == "Nothing."


def test_a_device_that_was_silent(october: Month) -> None:
    said = page.report(october)
    assert (said.state, said.headline) == (
        "watch",
        "Anomaly detection did its job in October 2026, but one device was silent once",
    )
    assert said.reasons[-1] == "1 new release did not pass its tests on your devices and was taken back at once."


def test_a_device_that_is_silent_at_the_end() -> None:
    said = page.report(
        month({"device-001": decisions("device-001", off=(20, 31)), "device-003": decisions("device-003")})
    )
    assert (said.state, said.headline) == ("act", "1 of 2 devices stopped deciding in October 2026")
    assert "power and network of device-001" in said.action


def test_less_than_agreed() -> None:
    said = page.report(month({"device-001": decisions("device-001", missed=0.3)}))
    assert said.state == "act"
    assert re.search(
        r"did not do what was agreed in October 2026: \d\d\.\d% of the anomalies found instead of 90\.0%", said.headline
    )


def test_too_few_labels_to_be_sure() -> None:
    said = page.report(month({"device-001": decisions("device-001", missed=0.15)}, share=0.02))
    assert said.state == "watch"
    assert "may have done less than agreed" in said.headline


def test_more_false_alarms_than_agreed() -> None:
    said = page.report(month({"device-001": decisions("device-001", wrong=0.06)}))
    assert said.state == "act"
    assert "false alarms instead of 2.0%" in said.headline


def test_shares_that_are_nearly_the_same_are_told_apart() -> None:
    agreed = {**month().agreed, "most_false_alarm_rate": 0.0099999}
    broken = page.answer(month({"device-001": decisions("device-001", wrong=0.0102)}, share=1, agreed=agreed)).headline
    said = re.search(r"([\d.]+)% false alarms instead of ([\d.]+)%", broken)
    assert said and said[1] != said[2]


def test_no_labels() -> None:
    said = page.report(month(share=0))
    assert (said.state, said.headline) == (
        "none",
        "Anomaly detection ran in October 2026; how well it did nobody can say yet",
    )
    assert said.facts[2].value == "–"


def test_no_decisions_and_no_devices() -> None:
    silent = {"device-001": decisions("device-001").iloc[:0]}
    assert page.report(month(silent)).headline == "Anomaly detection: no device decided anything in October 2026"
    assert page.report(month({})).headline == "No device of yours had Anomaly detection in October 2026"


def test_a_month_that_is_not_over_says_so() -> None:
    assert "these are the numbers so far" in page.report(month(is_over=False)).subtitle


def test_a_revision_and_what_is_left_out_are_named() -> None:
    said = page.report(month(revision=2, left_out={"v0": 12345}))
    assert "revision 2" in said.subtitle
    assert any("left out: 12,345 of v0" in line for line in said.footer)


def test_many_devices_are_summarised() -> None:
    few = decisions("device-001").iloc[:50]
    frames = {f"device-{n:03}": few.assign(device=f"device-{n:03}") for n in range(1, 13)}
    said = page.report(month(frames))
    assert "usage.csv" in said.sections[-1].text
    assert len(said.sections[0].tables[0].rows) == 12


def test_every_customer_in_one_page() -> None:
    fine, bad = page.report(month()), page.report(month({"device-001": decisions("device-001", missed=0.3)}))
    said = page.overview([("fine", fine), ("bad", bad)], "Anomaly detection", "2026-10")
    assert (said.state, said.action) == ("act", "Read the reports of bad first.")
    assert [row[0] for row in said.sections[0].tables[0].rows] == ["bad", "fine"]


# ---- the page and the PDF


@pytest.mark.parametrize(
    ("value", "top"), [(0, 4), (4, 4), (5, 8), (9, 12), (10, 12), (99, 100), (450, 600), (1200, 1200), (13501, 16000)]
)
def test_the_top_of_an_axis(value: float, top: float) -> None:
    assert chart.nice_ceiling(value) == top


class Words(HTMLParser):
    """The words of a page as a reader sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("style", "title")
        for name, value in attrs:
            assert not (name in ("src", "href", "xlink:href") and not (value or "").startswith("#")), value
        assert tag not in ("script", "link")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += data.split()


@pytest.fixture(scope="module")
def document(october: Month) -> bytes:
    """The PDF of that month."""
    return pdf.pdf(page.report(october))


def test_the_pdf_has_every_number_of_the_page(october: Month, document: bytes) -> None:
    made = page.report(october)
    on_page = Words(report.html(made)).words
    read = pypdf.PdfReader(io.BytesIO(document))
    in_pdf = " ".join(text.extract_text() for text in read.pages).split()
    assert len(on_page) > 600

    def numbers(words: list[str]) -> set[str]:
        return {word.strip("().,;:") for word in words if re.search(r"\d", word)}

    assert numbers(on_page) <= numbers(in_pdf)
    assert numbers(in_pdf) - numbers(on_page) <= {"1", "2", "3", "4", "5"}, "numbers of pages"
    assert read.metadata and read.metadata.title == f"{made.title}: {made.headline}"


def test_same_month_same_bytes(october: Month, document: bytes) -> None:
    again = page.report(Month.from_bytes(october.to_bytes()))
    other = page.report(replace(october, revision=2))
    assert report.html(again) == report.html(page.report(october)) != report.html(other)
    assert pdf.pdf(again) == document != pdf.pdf(other)


def test_a_frozen_month_of_something_else(october: Month) -> None:
    for body in (b"[]", b'{"schema": 2}', b'{"schema": 1}'):
        with pytest.raises(ValueError, match="expected a month"):
            Month.from_bytes(body)


def test_names_of_customers_are_escaped(october: Month) -> None:
    made = page.report(replace(october, days=october.days[:2], customer_title="<b>A & B</b> GmbH, Köln"))
    assert "<b>A &" not in report.html(made)
    text = pypdf.PdfReader(io.BytesIO(pdf.pdf(made))).pages[0].extract_text()
    assert "<b>A & B</b> GmbH, Köln" in text


def test_usage_as_csv(october: Month) -> None:
    table = pd.read_csv(io.StringIO(page.usage_csv(october)))
    assert table["decisions"].sum() == sum(one.decisions for one in october.days)
    assert list(table["labelled"] - table["hits"] - table["missed"] - table["false_alarms"] >= 0) == [True] * len(table)


def test_in_use_since_the_first_release_that_was_kept() -> None:
    deployments = [
        {"state": "failed", "valid_from": at(2)},
        {"state": "committed", "valid_from": at(5)},
        {"state": "committed", "valid_from": at(4)},
        {"state": "unreachable", "valid_from": ""},
    ]
    assert months.in_use_since(deployments, START) == START + timedelta(days=3)
    assert months.in_use_since(deployments, START + timedelta(days=9)) == START + timedelta(days=9)
    assert months.in_use_since(deployments[:1], START) is None
