"""A world in a bare AWS endpoint, for workflows that are run as the twin runs them: as processes."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger

from tests.unit.dispatch.conftest import ledger
from tests.unit.endpoint import _endpoint_url, endpoint

__all__ = ["_endpoint_url", "endpoint", "ledger"]

CLONE = Path(__file__).parents[3]
BATCH = 5000


@dataclass
class World:
    """Buckets and a ledger, and what a test does in them."""

    folder: Path
    bucket: str
    """Of data, reports and models alike."""
    ledger: Ledger
    runs: int = 0

    @property
    def twin(self) -> dict[str, Any]:
        """What the twin was told (twin.json); labels are a file."""
        return {
            "env": "sandbox",
            "ledger_table": self.ledger.table,
            "reports_bucket": self.bucket,
            "data_bucket": self.bucket,
            "models_bucket": self.bucket,
            "repository": str(CLONE),
            "data_sources": {"plant": {"type": "s3", "bucket": self.bucket, "prefix": "plant/"}},
        }

    def upload(self, decisions: pd.DataFrame) -> None:
        """Store decisions as their device does, in the order of ``seq``."""
        columns = ["device", "seq", "record_id", "recorded_at", "release", "model_sha256", "label", "score"]
        for start in range(0, len(decisions), BATCH):
            batch = decisions.iloc[start : start + BATCH][columns]
            day, device = batch["recorded_at"].iloc[0].date(), batch["device"].iloc[0]
            body = batch.assign(recorded_at=batch["recorded_at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
            key = f"decisions/device={device}/{day}/{batch['seq'].iloc[0]}-{batch['seq'].iloc[-1]}.jsonl.gz"
            self.put(key, gzip.compress(body.to_json(orient="records", lines=True).encode()))

    def label(self, labels: pd.Series[int]) -> None:
        """Have these labels, and no others."""
        table = pd.DataFrame({"record_id": labels.index, "label": labels.to_numpy()})
        self.put("plant/labels.csv", table.to_csv(index=False).encode())

    def put(self, key: str, body: bytes) -> None:
        client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)

    def start(
        self, workflow: str, parameters: dict[str, Any], *, at: str, ok: bool = True
    ) -> tuple[Path, subprocess.CompletedProcess[str]]:
        """Run a workflow's script as ``run-once`` does; the folder of what it made, and what it printed."""
        self.runs += 1
        output = self.folder / f"run-{self.runs}"
        output.mkdir()
        run = {"run_id": f"{self.runs:024}", "git_sha": "a" * 40, "started_at": at, "parameters": parameters}
        file = self.folder / f"run-{self.runs}.json"
        file.write_text(json.dumps({**run, "twin": self.twin}))
        done = subprocess.run(
            [sys.executable, "-u", "run.py"],
            cwd=CLONE / "workflows" / workflow,
            env={
                **os.environ,
                "TWINOPS_RUN": str(file),
                "TWINOPS_OUTPUT": str(output),
                "PYTHONPATH": f"{CLONE}/workflows:{CLONE}/module_utils",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return output, done


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger) -> World:
    """Nothing is in it yet."""
    bucket = f"world-{uuid.uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return World(tmp_path, bucket, ledger)
