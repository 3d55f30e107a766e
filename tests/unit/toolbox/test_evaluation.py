"""The model evaluation: what it finds, what it says first, and its page."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from model_evaluation import evaluation
from toolbox import report
from toolbox.context import Context

from tests.unit.toolbox.conftest import START, Decide

RUN = Context("0" * 24, "a" * 40, "2026-11-22T18:05:00.000000Z", {"lookback_h": 24}, {"env": "sandbox"}, Path())


def rollout(decide: Decide) -> pd.DataFrame:
    """v1 on two devices, then v2, which is better."""
    return pd.concat(
        [
            *(decide("v1", device, count=2500, wrong=0.02) for device in ("device-001", "device-002")),
            *(decide("v2", device, start_s=60, count=2500, wrong=0.001) for device in ("device-001", "device-002")),
        ]
    )


def tried_v3(decide: Decide) -> pd.DataFrame:
    return pd.concat([rollout(decide), decide("v3", "device-001", start_s=120, count=1500, wrong=None)])


def page(decisions: pd.DataFrame, labels: pd.Series) -> report.Report:
    result = evaluation.evaluate(decisions, labels)
    return evaluation.page(result, decisions, since=START - timedelta(hours=24), until=START, run=RUN)


def test_versions_in_the_order_in_which_they_came(decide: Decide, labels: pd.Series) -> None:
    result = evaluation.evaluate(rollout(decide), labels)
    assert [version.release for version in result.versions] == ["v1", "v2"]
    v1, v2 = result.versions
    assert (v1.running_on, v2.running_on) == ((), ("device-001", "device-002"))
    assert (v2.n_decisions, v2.n_labelled, v2.coverage) == (5000, 5000, 1.0)
    assert [device.device for device in v2.devices] == ["device-001", "device-002"]
    assert json.loads(json.dumps(asdict(result)))["comparison"]["verdict"] == "promote"


def test_a_feed_that_starts_over_is_counted_once(decide: Decide, labels: pd.Series) -> None:
    once = decide("v1", "device-001", count=3000)
    twice = decide("v1", "device-001", count=6000)
    assert evaluation.evaluate(twice, labels).versions[0].n_decisions == len(once)


def test_records_without_a_label_are_coverage(decide: Decide, labels: pd.Series) -> None:
    result = evaluation.evaluate(decide("v1", "device-001", count=1000), labels.iloc[:250])
    assert (result.versions[0].n_labelled, result.versions[0].coverage) == (250, 0.25)


def test_better(decide: Decide, labels: pd.Series) -> None:
    said = page(rollout(decide), labels)
    assert (said.state, said.headline) == ("ok", "v2 is better than v1")


def test_worse_and_running_says_how_to_go_back(decide: Decide, labels: pd.Series) -> None:
    said = page(tried_v3(decide), labels)
    assert (said.state, said.headline) == ("act", "v3 is worse than v2 and runs on 1 device")
    assert "playbooks/rollback.yml -l <environment> -e release=v2" in said.action
    assert said.reasons[0].startswith("class collapsed")


def test_worse_and_rolled_back_is_fine(decide: Decide, labels: pd.Series) -> None:
    back = pd.concat([tried_v3(decide), decide("v2", "device-001", start_s=180, count=10)])
    said = page(back, labels)
    assert (said.state, said.headline) == ("ok", "v3 is worse than v2, and no device runs it")


def test_little_evidence_waits(decide: Decide, labels: pd.Series) -> None:
    said = page(rollout(decide), labels.iloc[:100])
    assert (said.state, said.headline) == ("watch", "v2 is not clearly better than v1")


def test_one_version(decide: Decide, labels: pd.Series) -> None:
    said = page(decide("v1", "device-001"), labels)
    assert (said.state, said.headline) == ("ok", "v1 is the only version; nothing to compare it with")


def test_no_labels(decide: Decide, labels: pd.Series) -> None:
    said = page(decide("v1", "device-001"), labels.iloc[:0])
    assert (said.state, said.headline) == ("none", "v1 decides, but none of its records has a label yet")


def test_no_decisions(decide: Decide, labels: pd.Series) -> None:
    nothing = decide("v1", "device-001").iloc[:0]
    said = page(nothing, labels)
    assert (said.state, said.headline) == ("none", "No decisions in the last 24 h")
    assert evaluation.numbers(evaluation.evaluate(nothing, labels)) == {"Decisions": 0}


def test_numbers_are_those_of_the_version_in_use(decide: Decide, labels: pd.Series) -> None:
    result = evaluation.evaluate(tried_v3(decide), labels)
    assert evaluation.numbers(result)["MacroF1"] < 0.6, "one device each: the newer counts"
    result = evaluation.evaluate(rollout(decide), labels)
    numbers = evaluation.numbers(result)
    assert numbers["MacroF1"] == (result.versions[1].quality and result.versions[1].quality.macro_f1)
    assert set(numbers) == {
        *("Decisions", "LabelCoverage", "AlarmRate"),
        *("MacroF1", "Accuracy", "FalseAlarmRate", "MissedAlarmRate"),
    }


class Outline(HTMLParser):
    """What matters of a page: its elements, its references and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def outline(decide: Decide, labels: pd.Series) -> Outline:
    return Outline(report.html(page(tried_v3(decide), labels)))


def test_the_page_needs_nothing_from_elsewhere(outline: Outline) -> None:
    for _, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "data"):
            reference = attributes.get(name)
            assert reference is None or reference.startswith("#"), reference
    assert not outline.all("script")
    assert not outline.all("link")


def test_the_page_is_accessible(outline: Outline) -> None:
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("h1")) == 1
    figures = [one for one in outline.all("svg") if "aria-hidden" not in one]
    assert len(figures) == 3
    assert all(one["role"] == "img" and one["aria-label"] for one in figures)
    assert all(one.get("scope") in ("col", "row") for one in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table")) == 3


def test_ids_are_unique(outline: Outline) -> None:
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert ids
    assert len(ids) == len(set(ids))


def test_the_first_screen_answers(outline: Outline) -> None:
    start = outline.text.index("Something has to be done")
    assert outline.text.index("v3 is worse than v2") < start + 200
    assert outline.text.index("What to do:") < start + 300


def test_same_data_same_bytes(decide: Decide, labels: pd.Series) -> None:
    assert report.html(page(tried_v3(decide), labels)) == report.html(page(tried_v3(decide), labels))


def test_names_from_devices_are_escaped(decide: Decide, labels: pd.Series) -> None:
    text = report.html(page(decide("<script>alert(1)</script>", "<b>device</b>"), labels))
    assert "<script>" not in text
    assert "<b>device" not in text


def test_the_mail_says_the_same(decide: Decide, labels: pd.Series) -> None:
    said = page(tried_v3(decide), labels)
    lines = report.text(said).splitlines()
    assert lines[0] == said.headline
    assert "Something has to be done" in lines[2]
    assert "`" not in report.text(said)


# -- the champion of the registry, groups of devices, and rollouts that were stopped --------------------------------


def test_the_newest_version_is_compared_with_the_champion_of_the_registry(decide: Decide, labels: pd.Series) -> None:
    decisions = tried_v3(decide)
    by_order = evaluation.evaluate(decisions, labels)
    assert by_order.champion is not None
    assert by_order.champion.release == "v2"
    named = evaluation.evaluate(decisions, labels, champions=["v1" * 8, "v2" * 8])
    assert named.champion is not None
    assert named.champion.release == "v1"


@pytest.mark.parametrize("champions", [["v3" * 8, "v1" * 8], ["unseen", "v1" * 8]])
def test_a_champion_is_compared_with_the_one_before_and_one_that_was_not_seen_is_passed_over(
    champions: list[str], decide: Decide, labels: pd.Series
) -> None:
    found = evaluation.evaluate(tried_v3(decide), labels, champions=champions)
    assert found.champion is not None
    assert found.champion.release == "v1"


def test_each_group_of_devices_is_evaluated(decide: Decide, labels: pd.Series) -> None:
    groups = {"line_1": ["device-001"], "line_2": ["device-9*"]}
    found = evaluation.evaluate(rollout(decide), labels, groups=groups)
    assert [[(one.device, one.n_decisions) for one in version.groups] for version in found.versions] == [
        [("line_1", 2500), ("others", 2500)]
    ] * 2
    section = next(one for one in groups_page(found, decide).sections if one.title == "Every group of devices")
    assert [row[:2] for row in section.tables[0].rows] == [
        ("line_1", "v1"), ("line_1", "v2"), ("others", "v1"), ("others", "v2"),
    ]  # fmt: skip


def groups_page(found: evaluation.Result, decide: Decide) -> report.Report:
    return evaluation.page(found, rollout(decide), since=START - timedelta(hours=24), until=START, run=RUN)


def test_without_groups_there_is_no_table_of_them(decide: Decide, labels: pd.Series) -> None:
    found = groups_page(evaluation.evaluate(rollout(decide), labels), decide)
    assert "Every group of devices" not in [section.title for section in found.sections]


@pytest.mark.parametrize("wrong", [None, 0.001])
def test_of_a_rollout_that_was_stopped_nobody_keeps_the_release_and_nobody_has_to_act(
    wrong: float | None, decide: Decide, labels: pd.Series
) -> None:
    """Although the canary's newest decision, of before it was taken back, is one of v3."""
    tried = decide("v3", "device-001", start_s=120, count=1500, wrong=wrong)
    found = evaluation.evaluate(pd.concat([rollout(decide), tried]), labels)
    assert found.versions[-1].running_on == ("device-001",)
    said = evaluation.answer(found, 24, "blocked")
    assert said.state == "ok"
    assert said.headline.endswith("than v2, and its rollout was stopped")
    assert said.action.startswith("Nothing for the devices")
    assert "may keep" not in said.action
    running = evaluation.answer(found, 24, "running")
    assert "1 device" in running.headline + running.action
