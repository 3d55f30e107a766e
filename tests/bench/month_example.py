"""The examples in docs/reports of the monthly report and of retraining: ``python -m tests.bench.month_example``.

The month is made up (tests/unit/workflows/months.py). The retraining is a real one, of v1, judged on the plant's field.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from monthly_report import page
from retrain import judgement, proposal, training
from retrain.judgement import Outcome
from river.datasets import Shuttle
from toolbox import pdf, report
from toolbox.models import Model
from twinops import release

from tests.unit.workflows import months

CLONE = Path(__file__).parents[2]
REPORTS = CLONE / "docs/reports"


def month() -> None:
    frames = {
        device: months.decisions(device, off=(16, 18) if device == "device-005" else None) for device in months.DEVICES
    }
    made = page.report(months.month(frames, incidents=months.incidents()))
    (REPORTS / "monthly-report.html").write_text(report.html(made), "utf-8")
    (REPORTS / "monthly-report.pdf").write_bytes(pdf.pdf(made))


def retraining() -> None:
    """As workflows/retrain/run.py does it, without a bucket: v1 is the champion."""
    candidates = training.read_candidates(CLONE / "workflows/retrain/candidates.yml", "more-trees deeper-trees linear")
    base = (CLONE / "edge/releases/v1.yml").read_text("utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        proposal.clone(CLONE, tree)
        champion = Path(scratch) / "v1"
        subprocess.run([sys.executable, tree / "edge/training/train.py", "v1", champion], check=True)
        version = training.next_version(tree, [])
        tried = [
            training.train(tree, version, training.release_text(base, version, one, "d"), one, Path(scratch) / one.name)
            for one in candidates
        ]
        chosen = max(tried, key=lambda one: one.held_out_f1)
        rows = pd.read_csv(Shuttle().path, compression="gzip")
        field = rows[rows.index % 5 == 3]
        ids = [f"shuttle-{row}" for row in field.index]
        records = field.drop(columns="anomaly").assign(record_id=ids)
        labels = pd.Series(field["anomaly"].to_numpy(), index=ids)
        models = (Model(champion / "model.onnx"), Model(chosen.folder / "model.onnx"))
        judged = judgement.judge(records, labels, *models)
        data_version = str(chosen.training["data_version"])
        path = release.release_path(version)
        about = training.describe("v1", data_version, chosen.candidate)
        (tree / path).write_text(training.release_text(base, version, chosen.candidate, about), "utf-8")
        made = proposal.propose(tree, path, f"retrain/{version}", f"Propose {version}, a challenger of v1")
        outcome = Outcome("v1", version, data_version, chosen, tried, judged, made.branch, patch=made.patch)
        found = judgement.page(outcome, env="sandbox", why="model shuttle-anomaly", run="An example.")
    (REPORTS / "retrain.html").write_text(report.html(found), "utf-8")


if __name__ == "__main__":
    month()
    retraining()
