"""The one mail about a run: what came of it and, unless all is well, what to do next. Pure.

Every run that ends is mailed once, by whoever ended it, or by the watchdog if that one died before.
"""

from __future__ import annotations

from . import runs
from .runs import Run

SUBJECT_CHARACTERS = 99
"""SNS takes fewer than 100, ASCII only."""

_HEADLINES = {
    runs.FAILED: "FAILED",
    runs.TIMED_OUT: "stopped, it took too long",
    runs.CANCELLED: "cancelled",
    runs.LOST: "LOST",
}


def about(run: Run, *, env: str, summary: str = "", link: str = "") -> tuple[str, str]:
    """Subject and text. ``summary`` is the script's own (its first line the headline), ``link`` leads to the report."""
    summary = summary.strip()
    headline = _HEADLINES.get(run["state"]) or (summary.splitlines()[0] if summary else "done")
    subject = f"[twinops {env}] {run['workflow']}: {headline}".encode("ascii", "replace").decode()
    parts = [_trouble(run, env), summary, _where(run, env, link)]
    return subject[:SUBJECT_CHARACTERS], "\n\n".join(part for part in parts if part) + "\n"


def _trouble(run: Run, env: str) -> str:
    reason = run.get("reason") or f"the script ended with exit code {run.get('exit_code')}"
    if run["state"] == runs.SUCCEEDED:
        return ""
    if run["state"] == runs.CANCELLED:
        return f"The run of {run['workflow']} was {reason}. Nothing is to be done."
    again = f"  ansible-playbook playbooks/invoke.yml -l {env} -e rerun={run['run_id']}"
    if run["state"] == runs.LOST:
        why = f"it was lost {run['epoch']} times" if run["idempotent"] else "its spec does not say idempotent: true"
        return (
            f"The run of {run['workflow']} is lost: {reason}.\n\n"
            "What to do: look at the log (below) how far it came, and at the twin why it ended. It is not started "
            f"again by itself: {why}.\nWhen you know that repeating it does no harm:\n{again}"
        )
    return (
        f"The run of {run['workflow']} failed: {reason}.\n\n"
        f"What to do: read the log (below) and mend the cause. Then start it again, with the same commit:\n{again}\n"
        "or with the commit that is deployed by then:\n"
        f"  ansible-playbook playbooks/invoke.yml -l {env} -e workflow={run['workflow']}"
    )


def _where(run: Run, env: str, link: str) -> str:
    """Where everything is, as commands that work with and without a console."""
    code = run.get("exit_code")
    lines = [
        "--",
        f"Run:    {run['run_id']}, {run['state']}, exit code {'none' if code is None else code}, "
        f"{run.get('duration_s', 0):g} s, commit {run['git_sha'][:12]}{_attempt(run)}",
        f"Log:    {_log(run, env)}",
    ]
    if run.get("report_key"):
        lines.append(f"Report: aws s3 cp s3://{run['report_bucket']}/{run['report_key']} report.html")
    if link:
        lines.append(f"        or, for a few hours, {link}")
    return "\n".join(lines)


def _attempt(run: Run) -> str:
    return f", attempt {run['epoch']}" if run["epoch"] > 1 else ""


def _log(run: Run, env: str) -> str:
    if run.get("log_stream"):
        return f"aws logs tail {run['log_group']} --log-stream-names {run['log_stream']} --since 7d"
    return f"aws logs tail /aws/lambda/twinops-{env}-backup --filter-pattern {run['run_id']} --since 7d"
