"""Reads what the status page shows of an environment. Writes nothing.

Each source is read apart: one that cannot be read is named in the document with its reason, and the rest is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .. import runs as states
from ..errors import TwinopsError
from ..names import Names
from ..overview import findings, quality
from ..overview.model import Read, Source
from . import registry
from .ledger import Ledger

RUNS_READ = 400
ROLLOUTS_READ = 50
DEPLOYMENTS_READ = 20_000
"""A device has a handful for each rollout."""
LARGEST_FACTS_BYTES = 1 << 20
LARGEST_RESULT_BYTES = 1 << 25
"""Drift of nine columns on 1,000 devices is told in 7 MB."""
PARALLEL_CALLS = 16
FACTS = "facts/"
CHAMPION_ACTIONS = ("promote", "roll back")
JUDGES: Mapping[str, tuple[int, tuple[str, ...]]] = {
    quality.EVALUATION: (30, (quality.METRICS, quality.VERSIONS)),
    findings.REPORT: (1, (findings.RESULT,)),
}
"""Workflow → of how many of its newest runs the page shows results, and which files."""

FAILED, ABSENT, FINE = "failed", "absent", "ok"
_NOT_THERE = ("ResourceNotFoundException", "NoSuchBucket", "NoSuchKey", "404")


class Absent(TwinopsError):
    """There is nothing of it yet; no fault."""


@dataclass(frozen=True)
class Question:
    """Something to read: what of the page comes from it, and what stands for it where it cannot be read."""

    name: str
    holds: str
    read: Callable[[], Any]
    empty: Callable[[], Any]


def ask(question: Question) -> tuple[Source, Any]:
    """How it went, and the answer."""
    try:
        found = question.read()
    except Absent as error:
        return Source(question.name, question.holds, ABSENT, str(error)), question.empty()
    except (TwinopsError, BotoCoreError, ClientError, OSError, ValueError, KeyError, TypeError) as error:
        state = ABSENT if any(code in str(error) for code in _NOT_THERE) else FAILED
        problem = f"expected another form, missing {error}" if isinstance(error, (KeyError, TypeError)) else str(error)
        return Source(question.name, question.holds, state, problem), question.empty()
    return Source(question.name, question.holds, FINE), found


def read(
    env: str,
    *,
    waves: Mapping[str, str],
    specs: Sequence[Any],
    commit: str,
    now: str,
    artifacts: Path,
    client: Callable[[str], Any],
) -> Read:
    """What is to be known of ``env`` at ``now``.

    ``waves``: device → wave; ``specs``: the workflows of the work tree ``commit``; ``artifacts``: the folder with what
    jobs of the pipeline leave behind; ``client`` makes a client of a service, and may be called by several threads.
    """

    def ledger() -> Ledger:
        return Ledger(Names(env).ledger, client("dynamodb"))

    of_runs, runs = ask(Question("ledger: runs", "workflows", lambda: ledger().runs(limit=RUNS_READ), list))

    questions = {
        "rollouts": Question(
            "ledger: rollouts", "rollouts, release", lambda: ledger().rollouts(limit=ROLLOUTS_READ), list
        ),
        "deployments": Question(
            "ledger: deployments",
            "releases of devices",
            lambda: ledger().newest_deployments(limit=DEPLOYMENTS_READ),
            list,
        ),
        "facts": Question("facts", "health of devices", lambda: _facts(client, env, waves), dict),
        "results": Question(
            "reports", "model quality, drift of data", lambda: _results(client("s3"), of_runs, runs), dict
        ),
        "alarms": Question("alarms", "alarms", lambda: _alarms(client("cloudwatch"), Names(env)), list),
        "signed_by": Question("signatures", "who signed", lambda: _signers(client, env), list),
        "promotions": Question("registry", "who approved", lambda: _promotions(client, env), dict),
        "deployment": Question(
            "pipeline: deployment", "who deployed", lambda: _record(artifacts, "deployments", env), dict
        ),
        "plan": Question("pipeline: drift", "drift of the cloud", lambda: _plan(artifacts, env), dict),
    }
    with ThreadPoolExecutor(len(questions)) as pool:
        answers = dict(zip(questions, pool.map(ask, questions.values())))
    found = {name: answer for name, (_, answer) in answers.items()}
    return Read(
        env=env,
        created_at=now,
        commit=commit,
        sources=(of_runs, *(source for source, _ in answers.values())),
        waves=waves,
        specs=tuple(specs),
        runs=tuple(runs),
        rollouts=tuple(found["rollouts"]),
        deployments=tuple(found["deployments"]),
        facts=found["facts"],
        alarms=tuple(found["alarms"]),
        results=found["results"],
        plan=found["plan"] or None,
        deployment=found["deployment"] or None,
        signed_by=tuple(found["signed_by"]),
        promotions=found["promotions"],
    )


def _bucket(client: Callable[[str], Any], env: str, purpose: str) -> str:
    return Names(env, str(client("sts").get_caller_identity()["Account"])).bucket(purpose)


def _facts(client: Callable[[str], Any], env: str, devices: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Device → its facts with ``heard_at``; those that are no JSON object are told as a problem of the device."""
    bucket, s3 = _bucket(client, env, "data"), client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=FACTS, Delimiter="/")
    there = {each["Prefix"] for page in pages for each in page.get("CommonPrefixes", ())}
    wanted = [device for device in devices if f"{FACTS}{device}/" in there]
    with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
        answers = pool.map(lambda device: _facts_of(s3, bucket, device), wanted)
        found = {device: facts for device, facts in zip(wanted, answers) if facts}
    if not found:
        raise Absent("no device has reported yet")
    return found


def _facts_of(s3: Any, bucket: str, device: str) -> dict[str, Any] | None:
    try:
        answer = s3.get_object(Bucket=bucket, Key=f"{FACTS}{device}/latest.json")
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise
    try:
        content = _parsed(answer, f"{FACTS}{device}/latest.json", LARGEST_FACTS_BYTES)
    except TwinopsError as error:
        content = {"problems": [str(error)]}
    return {**content, "heard_at": states.timestamp(answer["LastModified"])}


def _results(s3: Any, of_runs: Source, runs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Run → file → content, of those that have a report; a file that a run has not written is left out.

    :raises TwinopsError: the runs could not be read, or what one wrote is not JSON
    """
    if of_runs.state == FAILED:
        raise TwinopsError("the runs are not known")
    wanted: list[tuple[str, str, str, str]] = []
    for workflow, (newest, files) in JUDGES.items():
        done = [run for run in runs if run["workflow"] == workflow and run["state"] == states.SUCCEEDED]
        for run in [run for run in done if run.get("report_key")][:newest]:
            folder = run["report_key"].rpartition("/")[0]
            wanted += [(run["run_id"], file, run["report_bucket"], f"{folder}/{file}") for file in files]
    with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
        contents = list(pool.map(lambda each: _json(s3, each[2], each[3]), wanted))
    found: dict[str, dict[str, Any]] = {}
    for (run_id, file, _, _), content in zip(wanted, contents):
        if content is not None:
            found.setdefault(run_id, {})[file] = content
    return found


def _json(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    """An object's JSON; ``None`` where there is no such object. Raises as :func:`_parsed`."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise
    return _parsed(answer, f"s3://{bucket}/{key}", LARGEST_RESULT_BYTES)


def _parsed(answer: Mapping[str, Any], where: str, most_bytes: int) -> dict[str, Any]:
    """What S3 answered, as a JSON object.

    :raises TwinopsError: it is none, or is larger than anybody would write
    """
    body = answer["Body"].read(most_bytes + 1)
    if len(body) > most_bytes:
        raise TwinopsError(f"{where}: expected at most {most_bytes} bytes")
    try:
        content = json.loads(body)
    except ValueError as error:
        raise TwinopsError(f"{where}: expected JSON: {error}") from error
    if not isinstance(content, dict):
        raise TwinopsError(f"{where}: expected a JSON object, got {type(content).__name__}")
    return content


def _alarms(cloudwatch: Any, names: Names) -> list[dict[str, str]]:
    """Alarms on metrics that are on. Those on other alarms say nothing new."""
    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=names.prefix, StateValue="ALARM", AlarmTypes=["MetricAlarm"]
    )
    return [
        {
            "name": alarm["AlarmName"],
            "reason": alarm.get("StateReason", ""),
            "since": states.timestamp(alarm["StateUpdatedTimestamp"]),
        }
        for page in pages
        for alarm in page["MetricAlarms"]
        if not alarm["AlarmName"].startswith(names.composite_alarm(""))
    ]


def _signers(client: Callable[[str], Any], env: str) -> list[str]:
    """Names of the keys whose signatures the newest list of releases bears, as its metadata say.

    Who installs verifies them; here they are only shown.
    """
    bucket, s3 = _bucket(client, env, "models"), client("s3")
    timestamp = _metadata(s3, bucket, "timestamp")
    snapshot = _metadata(s3, bucket, f"{timestamp['meta']['snapshot.json']['version']}.snapshot")
    targets = _metadata(s3, bucket, f"{snapshot['meta']['targets.json']['version']}.targets")
    signed = _json(s3, bucket, f"tuf/metadata/{snapshot['meta'][f'{env}.json']['version']}.{env}.json") or {}
    keys = targets["delegations"]["keys"]
    ids = [signature["keyid"] for signature in signed.get("signatures", ())]
    return [str(keys.get(keyid, {}).get("x-twinops-name") or keyid[:8]) for keyid in ids]


def _metadata(s3: Any, bucket: str, name: str) -> dict[str, Any]:
    content = _json(s3, bucket, f"tuf/metadata/{name}.json")
    if content is None:
        raise Absent("no release was published yet")
    return dict(content["signed"])


def _promotions(client: Callable[[str], Any], env: str) -> dict[str, str]:
    """Digest of a model → who made it the champion last, in all models of the registry."""
    bucket, s3 = _bucket(client, env, "models"), client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=registry.PREFIX, Delimiter="/")
    names = [each["Prefix"].split("/")[-2] for page in pages for each in page.get("CommonPrefixes", ())]
    found: dict[str, str] = {}
    for name in names:
        events = registry.Registry(s3, bucket, name).history()
        versions = registry.after(events).versions
        found.update({versions[e.version].sha256: e.approver for e in events if e.action in CHAMPION_ACTIONS})
    if not found:
        raise Absent("no model was made the champion yet")
    return found


def _record(artifacts: Path, what: str, env: str) -> dict[str, Any]:
    """What a job of the pipeline has left behind.

    :raises Absent: no such job was in this pipeline, or nothing is kept of it
    """
    path = artifacts / what / f"{env}.json"
    if not path.exists():
        raise Absent(f"{path.name}: none of this pipeline's jobs has left one in {path.parent.name}/")
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, dict):
        raise TwinopsError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def _plan(artifacts: Path, env: str) -> dict[str, Any]:
    """The plan of a job."""
    plan = _record(artifacts, "plans", env)
    if not (isinstance(plan.get("cloud"), list) and isinstance(plan.get("at"), str)):
        raise TwinopsError(f"plans/{env}.json: expected cloud, a list of changes, and at, when it was made")
    return plan
