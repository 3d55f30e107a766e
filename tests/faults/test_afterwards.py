"""When all is over: one mail about each run, no effect came late, and no log has a link, a token or a cookie."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.support import Faults
from tests.sandbox.dispatching import NAMES

Outcome = Callable[[str, str], None]

SHORTEST_SECRET = 16
"""Shorter ones are no secrets, and would be found by chance."""


def test_each_run_was_mailed_once_and_had_its_effect_once(faults: Faults, outcome: Outcome) -> None:
    if not faults.sent:
        faults.end(faults.send(faults.payload("alone")))
    for run_id, mark in faults.sent.items():
        assert len(faults.mails(run_id)) == (2 if run_id in faults.mailed_twice else 1), faults.run(run_id)
        assert faults.count(mark) <= 1, faults.run(run_id)
    outcome("afterwards", f"{len(faults.sent)} runs: none had a second effect, none an unexpected mail")


def test_no_secret_is_in_any_log(faults: Faults, outcome: Outcome) -> None:
    run_id = next(iter(faults.sent), None) or faults.send(faults.payload("alone"))
    faults.end(run_id)
    secrets = {line.strip('"').rstrip("=") for line in (faults.folder / "secrets").read_text().splitlines()}
    secrets = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
    assert len(secrets) > 3, "a link's token, cookies and session tokens were seen"
    texts = dict(everything_written(faults))
    kinds = {name.partition(": ")[0] for name in texts}
    assert kinds == {"CloudWatch", "ledger", "mail", "reports", "sandbox", "twin"}
    for kind in ("CloudWatch", "ledger", "mail", "twin"):
        found = any(run_id in text for name, text in texts.items() if name.startswith(kind))
        assert found, f"{kind}: expected to find what is there"
    leaks = [name for name, text in texts.items() for secret in (*secrets, "authToken=") if secret in uncensored(text)]
    assert leaks == []
    outcome("all logs searched afterwards", f"none of {len(secrets)} links, cookies and tokens in {len(texts)} texts")


def uncensored(text: str) -> str:
    """A text without the places where Jupyter has blotted out a link's token itself."""
    return text.replace("authToken=[secret]", "")


def everything_written(faults: Faults) -> Iterator[tuple[str, str]]:
    """Name -> text of everything that functions, twin, ledger, mailbox and sandbox have written."""
    logs = faults.own.client("logs")
    for page in logs.get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            yield f"CloudWatch: {group['logGroupName']}", "\n".join(lines_of(faults, group["logGroupName"]))
    for page in faults.own.client("dynamodb").get_paginator("scan").paginate(TableName=NAMES.ledger):
        yield f"ledger: {page['Items'][0]['pk']['S'] if page['Items'] else ''}", json.dumps(page["Items"])
    bucket = faults.own.client("s3")
    for page in bucket.get_paginator("list_objects_v2").paginate(Bucket=NAMES.bucket("reports")):
        for entry in page.get("Contents", []):
            body = bucket.get_object(Bucket=NAMES.bucket("reports"), Key=entry["Key"])["Body"].read()
            yield f"reports: {entry['Key']}", body.decode("utf-8", "replace")
    home = faults.own.settings.home
    for kind, folder in (("mail", home / "mail"), ("sandbox", home / "logs")):
        yield from files(kind, folder)
    for name in ("log", "runs"):
        yield from files("twin", faults.twinops / name)
    for name in ("calls.jsonl", "decisions.jsonl"):
        yield f"sandbox: {name}", (home / name).read_text()


def lines_of(faults: Faults, group: str) -> Iterator[str]:
    for page in faults.own.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group):
        for event in page["events"]:
            yield event["message"]


def files(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"{kind}: {path.relative_to(folder)}", path.read_text("utf-8", "replace")
