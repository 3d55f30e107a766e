"""What a run leaves behind: objects in the reports bucket, CloudWatch metrics, one mail."""

from __future__ import annotations

import json
import math
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from twinops import runs
from twinops.errors import TwinopsError
from twinops.metrics import of_run
from twinops.runs import Run

REPORT = "report.html"
SUMMARY = "summary.txt"
METRICS = "metrics.json"
MOST_METRICS = 100
MAIL_SUBJECT_CHARACTERS = 99
"""SNS takes fewer than 100, ASCII only."""


class ResultError(TwinopsError):
    """What a script wrote for twinops is not what was expected."""


def store(folder: Path, client: Any, *, bucket: str, prefix: str) -> list[str]:
    """Put every file of a folder under ``prefix``, never over an object that is there; the keys, sorted.

    An object that an earlier attempt at the same run has put stays as it is: reports are written once.
    """
    keys = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        key = f"{prefix}/{file.relative_to(folder).as_posix()}"
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        try:
            client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes(), ContentType=kind, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("PreconditionFailed", "412"):
                raise
        keys.append(key)
    return keys


def read_metrics(folder: Path) -> dict[str, float]:
    """The numbers of ``metrics.json``, if there is one.

    :raises ResultError: it is not a JSON object of finite numbers
    """
    file = folder / METRICS
    if not file.exists():
        return {}
    try:
        metrics = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ResultError(f"{METRICS}: expected JSON, {error}") from error
    if not isinstance(metrics, dict) or len(metrics) > MOST_METRICS:
        raise ResultError(f"{METRICS}: expected an object of at most {MOST_METRICS} numbers")
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ResultError(f"{METRICS}: {name}: expected a finite number, got {value!r}")
    return {name: float(value) for name, value in metrics.items()}


def put_metrics(client: Any, *, namespace: str, workflow: str, metrics: Mapping[str, float]) -> None:
    """Publish numbers under the workflow's name; whether it failed also for all workflows together."""
    client.put_metric_data(Namespace=namespace, MetricData=of_run(workflow, metrics))


def mail(run: Run, *, env: str, summary: str) -> tuple[str, str]:
    """Subject and text of the one mail about a run: what came of it; after a failure also what to do next."""
    headline = summary.strip().splitlines()[0] if summary.strip() else "done"
    if run["state"] != runs.SUCCEEDED:
        headline = _FAILURES[run["state"]]
    subject = f"[twinops {env}] {run['workflow']}: {headline}".encode("ascii", "replace").decode()
    parts = [summary.strip()] if summary.strip() else []
    if run["state"] != runs.SUCCEEDED:
        parts.insert(0, _failure(run))
    return subject[:MAIL_SUBJECT_CHARACTERS], "\n\n".join([*parts, _where(run)]) + "\n"


_FAILURES = {
    runs.FAILED: "FAILED",
    runs.TIMED_OUT: "stopped, it took too long",
}


def _failure(run: Run) -> str:
    code = run.get("exit_code")
    what = run.get("reason") or f"the script ended with exit code {code}"
    return (
        f"The workflow {run['workflow']} failed: {what}.\n\n"
        "What to do: read the log (below), mend the cause, then start it again:\n"
        f"  ansible-playbook playbooks/invoke.yml -l <environment> -e workflow={run['workflow']}"
    )


def _where(run: Run) -> str:
    """Where everything is, as commands that work with and without a console."""
    report = (
        f"Report: aws s3 cp s3://{run['report_bucket']}/{run['report_key']} report.html"
        if run.get("report_key")
        else "Report: none"
    )
    code = run.get("exit_code")
    return "\n".join(
        [
            "--",
            f"Run:    {run['run_id']}, {run['state']}, exit code {'none' if code is None else code}, "
            f"{run.get('duration_s', 0):g} s, commit {run['git_sha'][:12]}",
            f"Log:    aws logs tail {run['log_group']} --log-stream-names {run['log_stream']} --since 7d",
            report,
        ]
    )
