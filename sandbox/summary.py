"""The end of `make demo`: what was created, what ran, which release each device runs, and what can be opened."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twinops.runs import Run

from sandbox.estate import NAMES, Estate
from sandbox.settings import CLONE, PROFILE

MAILS_SHOWN = 8


def text(estate: Estate, *, seconds: float) -> str:
    """The whole summary, ready to print."""
    sections = {
        "Cloud": cloud(estate),
        "Workflow runs": workflow_runs(estate),
        "Rollouts": rollouts(estate),
        "Devices": devices(estate),
        "Mails": mails(estate),
        "Open": places(estate),
    }
    lines = ["", f"twinops runs on this machine ({seconds:.0f} s)", ""]
    for title, rows in sections.items():
        lines += [title, *(f"  {row}" for row in rows), ""]
    return "\n".join(lines)


def cloud(estate: Estate) -> list[str]:
    """What exists, listed from the endpoint itself."""
    roles = [role["RoleName"] for role in estate.client("iam").list_roles()["Roles"]]
    rules = estate.client("events").list_rules(NamePrefix=NAMES.prefix)["Rules"]
    functions = [function["FunctionName"] for function in estate.client("lambda").list_functions()["Functions"]]
    groups = estate.client("logs").describe_log_groups(logGroupNamePrefix="/twinops/")["logGroups"]
    notebooks = estate.client("sagemaker").list_notebook_instances()["NotebookInstances"]
    return aligned(
        [
            ("endpoint", estate.settings.endpoint_url),
            ("roles", ", ".join(own(roles))),
            ("buckets", ", ".join(bucket["Name"] for bucket in estate.client("s3").list_buckets()["Buckets"])),
            ("ledger", NAMES.ledger),
            ("topic", NAMES.topic),
            ("twins", ", ".join(f"{n['NotebookInstanceName']} ({n['NotebookInstanceStatus']})" for n in notebooks)),
            ("functions", ", ".join(own(functions))),
            ("rules", ", ".join(f"{r['Name']} ({r.get('ScheduleExpression', 'event')})" for r in rules)),
            ("log groups", ", ".join(group["logGroupName"] for group in groups)),
        ]
    )


def own(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(NAMES.prefix))


def workflow_runs(estate: Estate) -> list[str]:
    rows = [("run", "workflow", "state", "exit code", "duration", "report")]
    for run in estate.runs():
        rows.append(
            (
                run["run_id"],
                run["workflow"],
                run["state"],
                str(run.get("exit_code", "-")),
                f"{run['duration_s']:.1f} s" if "duration_s" in run else "-",
                shown(report(estate, run)) if "report_key" in run else "-",
            )
        )
    return aligned(rows)


def report(estate: Estate, run: Run) -> Path:
    """The run's report, copied from its bucket so that a browser can open it."""
    path = estate.settings.home / "reports" / run["report_key"]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        body = estate.client("s3").get_object(Bucket=run["report_bucket"], Key=run["report_key"])["Body"].read()
        temporary = path.with_name(f"{path.name}.new")
        temporary.write_bytes(body)
        temporary.replace(path)
    return path


def rollouts(estate: Estate) -> list[str]:
    rows = [("started", "release", "state", "wave", "reason")]
    for rollout in reversed(estate.rollouts()):
        started = rollout["started_at"][:19].replace("T", " ")
        wave, reason = rollout.get("wave") or "all", rollout.get("reason") or "-"
        rows.append((started, rollout["release"], rollout["state"], wave, reason))
    return aligned(rows)


def devices(estate: Estate) -> list[str]:
    versions = estate.device_versions()
    return aligned([("device", "answers over SSH"), *versions.items()])


def mails(estate: Estate) -> list[str]:
    """Subjects of the latest mails, and where all of them are."""
    files = sorted((estate.settings.home / "mail").glob("*.eml"))
    rows = [f"{subject(file)}" for file in files[-MAILS_SHOWN:]]
    if len(files) > MAILS_SHOWN:
        rows.insert(0, f"({len(files) - MAILS_SHOWN} earlier ones)")
    return [*rows, f"in {shown(estate.settings.home / 'mail')}/"]


def subject(file: Path) -> str:
    message: Any = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    return f"{message['Subject']}  (to {message['To']})"


def places(estate: Estate) -> list[str]:
    home = shown(estate.settings.home)
    return aligned(
        [
            *(reports(estate) or [("report", "none yet")]),
            ("Jupyter of the twins", "make jupyter   (links are valid for five minutes)"),
            ("a device", f"ssh -F {home}/ssh_config device-001 twinops-edge status"),
            ("AWS tools", f"AWS_CONFIG_FILE={home}/aws/config AWS_PROFILE={PROFILE}"),
            ("stop", "make down"),
        ]
    )


def reports(estate: Estate) -> list[tuple[str, str]]:
    """The newest report of each workflow."""
    newest: dict[str, Run] = {}
    for run in estate.runs():
        if "report_key" in run:
            newest.setdefault(run["workflow"], run)
    return [(f"report {name}", shown(report(estate, newest[name]))) for name in sorted(newest)]


def shown(path: Path) -> str:
    """A path as a person in the clone would type it."""
    return str(path.relative_to(CLONE)) if path.is_relative_to(CLONE) else str(path)


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as columns; the last column is as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]) for row in rows]
