"""Debug routines: what an engineer would try next, tried on the twin. A release and what a device said in, answers
out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from toolbox.fleet import Finding, Release, diagnosis
from toolbox.models import Model, ModelError

FITS = {
    "golden": (diagnosis.MODEL, diagnosis.SERVICE, diagnosis.RESTARTS, diagnosis.ALARMS),
    "replay": (diagnosis.MODEL, diagnosis.ALARMS, *diagnosis.OF_SENSORS),
    "converted": (diagnosis.UNIT,),
}
"""Which routine fits which finding. Where nothing is found, the first two say whether that is so."""


@dataclass(frozen=True)
class Routine:
    """One thing that was tried."""

    question: str
    answer: str
    is_fine: bool
    rows: Sequence[Sequence[str]] = ()
    """Of the records that differ."""
    columns: Sequence[str] = ("Record", "Decided on the device", "Decided here")


@dataclass(frozen=True)
class Recent:
    """The last records of a device that it decided, with what it decided."""

    ids: Sequence[str]
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: Sequence[str]


def recent(facts: Mapping[str, Any]) -> Recent | None:
    """The last records in what a device reports; None where there is none, or it is not what was expected."""
    try:
        readings = facts["readings"]
        names, records = list(readings["features"]), readings["recent"]
        features = np.array([record["features"] for record in records], dtype=np.float32)
        labels = np.array([record["label"] for record in records], dtype=np.int64)
        ids = [str(record["record_id"])[:60] for record in records]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if features.ndim != 2 or features.shape != (len(labels), len(names)) or not len(labels):
        return None
    return Recent(ids, features, labels, names)


def run(findings: Sequence[Finding], release: Release, facts: Mapping[str, Any]) -> list[Routine]:
    """The routines that fit what was found.

    :raises ModelError: the release's model cannot be used
    """
    kinds = {finding.kind for finding in findings}
    wanted = {name for name, fits in FITS.items() if kinds & set(fits)} if kinds else {"golden", "replay"}
    last = recent(facts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(release.model)
        model = Model(path)
        done = [golden(model, release)] if "golden" in wanted else []
        if last and "replay" in wanted:
            done.append(replay(model, release, last))
        if last and "converted" in wanted:
            done += [converted(model, last, finding) for finding in findings if finding.conversion]
        return done


def golden(model: Model, release: Release) -> Routine:
    """Does the published model still answer as when it was trained?"""
    question = f"Does the model of {release.version}, as published, answer its golden records as when it was trained?"
    try:
        records = np.array(release.golden["records"], dtype=np.float32)
        expected = np.array(release.golden["labels"], dtype=np.int64)
    except (KeyError, ValueError) as error:
        raise ModelError(f"golden.json of {release.version}: expected records and labels: {error!r}") from error
    decided = _decide(model, records)
    same = int((decided == expected).sum())
    if same == len(expected):
        return Routine(question, f"Yes, all {same}. What is wrong is on the device, not in the release.", True)
    rows = [(f"golden {at}", str(expected[at]), str(decided[at])) for at in np.flatnonzero(decided != expected)]
    answer = f"No: {same} of {len(expected)}. Do not roll this release out."
    return Routine(question, answer, False, rows, columns=("Record", "Expected", "Decided here"))


def replay(model: Model, release: Release, last: Recent) -> Routine:
    """Does the model decide here as it did there?"""
    question = (
        f"Does the model of {release.version} decide the device's last {len(last.labels)} records here as it did there?"
    )
    decided = _decide(model, last.features)
    differs = np.flatnonzero(decided != last.labels)
    if not len(differs):
        return Routine(question, "Yes, all of them. The device computes rightly on what its sensors say.", True)
    rows = [(last.ids[at], str(last.labels[at]), str(decided[at])) for at in differs]
    answer = f"No: {len(differs)} differ. It runs another model, or its runtime or memory is broken."
    return Routine(question, answer, False, rows)


def converted(model: Model, last: Recent, finding: Finding) -> Routine:
    """What would have been decided in the right unit?"""
    factor, offset = finding.conversion or (1.0, 0.0)
    question = f"What would it have decided with {finding.subject} in the right unit?"
    if finding.subject not in last.names:
        return Routine(question, "The last records do not have this feature.", False)
    features = last.features.copy()
    column = list(last.names).index(finding.subject)
    features[:, column] = features[:, column] * factor + offset
    decided = _decide(model, features)
    differs = np.flatnonzero(decided != last.labels)
    answer = (
        f"{len(differs)} of the last {len(last.labels)} decisions would have been others; "
        f"alarms: {int((decided != 0).sum())} instead of {int((last.labels != 0).sum())}."
    )
    rows = [(last.ids[at], str(last.labels[at]), str(decided[at])) for at in differs]
    return Routine(
        question, answer, not len(differs), rows, columns=("Record", "Decided on the device", "In the right unit")
    )


def _decide(model: Model, features: NDArray[np.float32]) -> NDArray[Any]:
    return model.decide(features, [str(at) for at in range(features.shape[1])]).labels
