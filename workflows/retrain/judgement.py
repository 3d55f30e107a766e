"""Champion and challenger on labelled records of the field, and what to do about it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from retrain.training import Trained
from toolbox import compare, readings
from toolbox.compare import Comparison
from toolbox.models import Model
from toolbox.report import Fact, Report, Section, State, Table


def field_records(decisions: pd.DataFrame, known: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """What devices read of the records that they decided, each record once: ``record_id`` and the features.

    ``known``: the readings that the historian has. A record that lacks a value is left out: no device decides one.
    """
    seen = readings.as_seen(decisions, known, features).dropna(subset=list(features))
    first = seen.sort_values(["record_id", "device", "recorded_at"]).drop_duplicates("record_id")
    return first[["record_id", *features]].reset_index(drop=True)


@dataclass(frozen=True)
class Judgement:
    """The challenger against the champion: ``n_records`` were decided and are readable, ``comparison.n`` labelled."""

    n_records: int
    comparison: Comparison


def judge(records: pd.DataFrame, labels: pd.Series[int], champion: Model, challenger: Model) -> Judgement:
    """Let both decide the labelled ones of ``records``."""
    names = [name for name in records.columns if name != "record_id"]
    labelled = records[records["record_id"].isin(labels.index)]
    values = labelled[names].to_numpy(dtype=np.float32)
    old, new = (model.decide(values, names).labels for model in (champion, challenger))
    truth = labelled["record_id"].map(labels).to_numpy(dtype=np.int64)
    return Judgement(len(records), compare.compare(truth, old, new))


@dataclass(frozen=True)
class Outcome:
    """What a run came to. ``proposed`` is what became of the branch, or empty where there is none."""

    champion: str
    version: str
    data_version: str
    chosen: Trained
    tried: Sequence[Trained]
    judgement: Judgement
    branch: str = ""
    proposed: str = ""
    not_pushed: str = ""
    """Why the branch is not where it should have been pushed to."""
    patch: str = ""
    same_as: str = ""
    """The release that has exactly this model already."""


def page(outcome: Outcome, *, env: str, why: str, run: str) -> Report:
    """The report for who decides."""
    found = outcome.judgement.comparison
    state, headline, action = _answer(outcome)
    challenger = outcome.version
    rows = [
        ("Macro-F1", *(_number(scores.macro_f1) for scores in (found.champion, found.challenger))),
        ("Accuracy", *(_percent(scores.accuracy) for scores in (found.champion, found.challenger))),
        ("Recall of alarms", *(_percent(scores.recall[1]) for scores in (found.champion, found.challenger))),
        ("Precision of alarms", *(_percent(scores.precision[1]) for scores in (found.champion, found.challenger))),
        ("Only this one is right", f"{found.only_champion_right:,}", f"{found.only_challenger_right:,}"),
    ]
    coverage = found.n / outcome.judgement.n_records if outcome.judgement.n_records else None
    return Report(
        title="Retraining",
        subtitle=f"Environment {env} · {why}",
        state=state,
        headline=headline,
        action=action,
        reasons=[*found.reasons, *([f"Nothing was pushed: {outcome.not_pushed}."] if outcome.not_pushed else [])],
        facts=[
            Fact("Verdict", found.verdict, f"{challenger} against {outcome.champion}"),
            Fact("Macro-F1", _number(found.challenger.macro_f1), f"champion {_number(found.champion.macro_f1)}"),
            Fact("Judged on", f"{found.n:,} records", f"{_percent(coverage)} of those decided have a label"),
            Fact("Tried", f"{len(outcome.tried)} candidates", f"chosen: {outcome.chosen.candidate.name}"),
        ],
        sections=[
            Section(
                f"{challenger} against {outcome.champion}",
                "On records of the field, which neither of them was trained on.",
                tables=[Table(("", outcome.champion, challenger), rows, f"The same {found.n:,} records for both.")],
            ),
            _candidates(outcome),
            *([_patch(outcome)] if outcome.patch else []),
        ],
        footer=(
            f"Trained on data version {outcome.data_version}, which is registered for {outcome.champion}. The choice "
            "among candidates was made on records that training holds out, the verdict on records of the field.",
            run,
        ),
    )


def _answer(outcome: Outcome) -> tuple[State, str, str]:
    champion, version, verdict = outcome.champion, outcome.version, outcome.judgement.comparison.verdict
    if outcome.same_as:
        return (
            "watch",
            f"The best candidate is the model of {outcome.same_as}, which is a release already",
            f"Release {outcome.same_as} where it does not run, or add others to `workflows/retrain/candidates.yml`.",
        )
    if verdict != "promote":
        worse = "is worse than" if verdict == "block" else "is not clearly better than"
        return (
            "watch",
            f"No better model was found: the best candidate {worse} {champion}",
            "Look for the cause in the report of `drift_report`; if the data changed for good, train on new data.",
        )
    return (
        "act",
        f"A better model is proposed: {version} for {champion}",
        f"{_review(outcome)}. Merged it is a release; it runs nowhere until `edge_release_version` names it.",
    )


def _review(outcome: Outcome) -> str:
    branch, apply = outcome.branch, "git am < proposal.patch && git push -u origin"
    if outcome.proposed:
        return f"Review branch `{branch}` ({outcome.proposed})"
    if outcome.not_pushed:
        return (
            "Mend what kept the branch from being pushed (below), and start `retrain` again; or apply the patch in a "
            f"clone, on a branch with another name than `{branch}`: `git switch -c <name> && {apply} HEAD`"
        )
    return f"Apply the patch below in a clone and push it: `git switch -c {branch} && {apply} {branch}`"


_UNSEEN = ("random_state", "tol", "max_iter")
"""Parameters that steer the computation, and say nothing about the model."""


def _candidates(outcome: Outcome) -> Section:
    rows = [
        (
            one.candidate.name + (" (chosen)" if one is outcome.chosen else ""),
            f"{one.held_out_f1:.4f}",
            one.candidate.trainer,
            ", ".join(f"{name} {value}" for name, value in one.candidate.parameters.items() if name not in _UNSEEN),
        )
        for one in outcome.tried
    ]
    columns = ("Candidate", "F1", "Trainer", "Parameters")
    caption = "F1 on records that training holds out. From workflows/retrain/candidates.yml."
    table = Table(columns, rows, caption, text_columns=(2, 3))
    return Section("Candidates", "All were trained on the same data with the trainer of releases.", tables=[table])


def _patch(outcome: Outcome) -> Section:
    return Section(
        "The change", "proposal.patch: a new release file, and nothing else.", lines=outcome.patch.splitlines()
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def numbers(outcome: Outcome) -> dict[str, Any]:
    """For CloudWatch."""
    found = outcome.judgement.comparison
    scores = {"ChampionMacroF1": found.champion.macro_f1, "ChallengerMacroF1": found.challenger.macro_f1}
    proposed = float(bool(outcome.branch))
    return {"Proposed": proposed, **{name: value for name, value in scores.items() if value is not None}}
