"""What the jobs do, one function each. By hand it is the same: ``make plan``, ``make deploy PLAN=...``, ``make drift``.

Files: ``build/plans/<env>.json`` and ``.md`` (a plan), ``build/deployments/<env>.json`` and ``.log`` (what became of a
deployment): ``{"environment", "commit", "state": "deployed"|"failed"|"refused"|"running", "message", "plan", "by",
"pipeline", "started_at", "ended_at"}``. A deployment that was killed stays "running"; the next one goes on from there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from twinops.edge import durable

from pipeline import access, comment, mail, notes, plans, playbook, secrets
from pipeline.tools import CLONE, PipelineError, git, kingfisher

BUILD = CLONE / "build"
MESSAGE = re.compile(r"^\[ERROR\]: (?:Task failed: )?(?:Module failed: |Action failed: )?(?P<text>.*)")


def plan(env: str) -> int:
    """Find out what a deployment would change, keep it, and say so. Raises PipelineError where it cannot be known."""
    _, page = _plan(env)
    print(f"\n{page}")
    return 0


def drift(env: str) -> int:
    """Report what differs from git, by mail as well; change nothing.

    No failure, whatever it finds: make would make one exit code of that and of a job that could not find out.
    """
    found, page = _plan(env)
    print(f"\n{page}")
    if found["unreachable"]:
        print(f"{env}: not known of {len(found['unreachable'])} devices, which do not answer")
    if not plans.differs(found):
        print(f"{env}: as git says")
        return 0
    with _without_secrets(BUILD / "plans"):
        mail.send(env, f"twinops {env}: something differs from git", page, log=BUILD / f"plans/{env}.log")
    print(f"{env}: differs from git; `repair-{env}` would make it as above")
    return 0


def _plan(env: str) -> tuple[plans.Plan, str]:
    """The plan, kept as JSON and as a page, and that page; both were looked through for secrets."""
    log = BUILD / f"plans/{env}.log"
    for path in (_plan_file(env, "json"), _plan_file(env, "md"), log):
        path.unlink(missing_ok=True)
    with _without_secrets(BUILD / "plans"), tempfile.TemporaryDirectory(prefix="twinops-plan-") as folder:
        record = Path(folder) / "record.json"  # as Ansible has it, with secrets
        recording = {"TWINOPS_PLAN_FILE": str(record), "ANSIBLE_CALLBACKS_ENABLED": "plan_file"}
        code = playbook.run("site.yml", env, "--check", "--diff", role=access.PLAN, log=log, variables=recording)
        if not record.exists():
            raise PipelineError(f"ansible-playbook ended with {code} before there was a plan; the reason is above")
        made = plans.of_record(json.loads(record.read_text()), environment=env, commit=_commit(), at=_now())
        page = comment.page(made)
        _write(_plan_file(env, "json"), json.dumps(made, indent=1) + "\n")
        _write(_plan_file(env, "md"), page)
    return made, page


def deploy(env: str, plan_file: Path, approved_digest: str) -> int:
    """Apply exactly the plan that was approved, and record what became of it."""
    record, log = _begin(env), BUILD / f"deployments/{env}.log"
    log.unlink(missing_ok=True)
    try:
        approved = plans.read(plan_file)
        record["plan"] = approved["digest"]
        plans.check_approved(approved, environment=env, commit=record["commit"], approved_digest=approved_digest)
        kingfisher()  # without the scanner a deployment could be done, and not be reported
        extra = json.dumps({"twinops_approved": str(plan_file.resolve())})
        code = playbook.run("site.yml", env, "-e", extra, role=access.DEPLOY, log=log)
    except PipelineError as error:
        _end(env, record, "refused", str(error))
        raise
    with _without_secrets(BUILD / "deployments"):
        if code:
            _fail(env, record, reason(log.read_text(encoding="utf-8")) or f"ansible-playbook ended with {code}", log)
        _end(env, record, "deployed", f"{env} is as commit {record['commit'][:12]} says")
    return 0


def _fail(env: str, record: dict[str, Any], message: str, log: Path) -> NoReturn:
    """Record a deployment that went wrong, mail it, and say what comes next."""
    is_refused = "the plan that was approved is not the plan" in message
    _end(env, record, "refused" if is_refused else "failed", message)
    mail.send(env, f"twinops {env}: the deployment of {record['commit'][:12]} {record['state']}", message, log=log)
    if is_refused:
        raise PipelineError(message)
    raise PipelineError(
        f"failed: {message}\nWhat was done is kept; the same job, or a later deployment, goes on from here."
    )


def page(env: str) -> int:
    """Read what the status page shows of ``env``; where that fails the page says why (``build/status/<env>.problem``).

    In the role that deploys, which may read reports and what devices say; the role of plans sees nobody's data.
    """
    document, problem = (BUILD / f"status/{env}.{suffix}" for suffix in ("json", "problem"))
    log = BUILD / f"status/{env}.log"
    for file in (document, problem, log):
        file.unlink(missing_ok=True)
    try:
        code = playbook.run("playbooks/page.yml", env, role=access.DEPLOY, log=log)
        message = (reason(log.read_text(encoding="utf-8")) or f"ansible-playbook ended with {code}") if code else ""
    except PipelineError as error:
        message = str(error)
    if message:
        _write(problem, message + "\n")
        raise PipelineError(f"{message}\nThe page says so.")
    return 0


def propose(env: str) -> int:
    """Have the release built, signed with the pipeline's keys, and left for the others to sign."""
    log = BUILD / f"deployments/{env}.proposal.log"
    log.unlink(missing_ok=True)
    return playbook.run("playbooks/propose.yml", env, role=access.DEPLOY, log=log)


def note(env: str) -> int:
    """Tell the merge request: its plan, or what became of its deployment."""
    deployed = _read_deployment(env)
    if deployed is not None:
        title = {"deployed": "is deployed", "failed": "could not be deployed"}.get(deployed["state"], deployed["state"])
        text = f"**{env}: `{deployed['commit'][:12]}` {title}**\n\n````\n{deployed['message']}\n````\n"
        return notes.post(text, about=f"deployment of {env}")
    page = _plan_file(env, "md")
    if not page.exists():
        print(f"{page}: nothing to tell")
        return 0
    return notes.post(page.read_text(encoding="utf-8"), about=f"plan for {env}")


def tag(env: str) -> int:
    """Name the commit that `env` runs: ``<env>-<time>-<commit>``, pushed with the job's own token."""
    name = f"{env}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{_commit()[:8]}"
    git(CLONE, "tag", "-a", name, "-m", f"Deployed to {env}")
    git(CLONE, "push", "-q", os.environ.get("TWINOPS_TAG_URL") or os.environ.get("CI_REPOSITORY_URL", "origin"), name)
    print(name)
    return 0


def reason(output: str) -> str:
    """Why a playbook failed, in Ansible's words; the last of them counts."""
    lines, found = output.splitlines(), ""
    for number, line in enumerate(lines):
        match = MESSAGE.match(line)
        if match:
            following = []
            for each in lines[number + 1 :]:
                if not each.strip() or each.startswith(("Origin:", "TASK [", "PLAY ")):
                    break
                following.append(each)
            found = "\n".join([match["text"], *following])
    return found


@contextmanager
def _without_secrets(folder: Path) -> Iterator[None]:
    """However a job ends: what it has written is looked through for secrets before it becomes an artifact.

    Raises PipelineError that names them, after the reason for which the job has failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    try:
        yield
    except PipelineError as error:
        failures.append(str(error))
    finally:
        failures += _withhold(folder)
    if failures:
        raise PipelineError("\n".join(failures))


def _withhold(folder: Path) -> list[str]:
    """Remove the files that hold a secret, all where that cannot be known; returns what to tell a person."""
    try:
        found = secrets.in_files(folder)
    except PipelineError as error:
        shutil.rmtree(folder)
        return [str(error), f"{folder}: removed, as nobody knows whether there is a secret in it"]
    for path in {Path(finding.path) for finding in found}:
        (path if path.is_absolute() else CLONE / path).unlink(missing_ok=True)
    removed = ["expected no secret in what the job leaves behind; removed these files:"] if found else []
    return [*removed, *map(str, found)]


def _begin(env: str) -> dict[str, Any]:
    record = {
        "environment": env,
        "commit": _commit(),
        "state": "running",
        "message": "",
        "plan": "",
        "by": os.environ.get("GITLAB_USER_LOGIN") or os.environ.get("USER", ""),
        "pipeline": os.environ.get("CI_PIPELINE_URL") or os.environ.get("CI_PIPELINE_ID", ""),
        "started_at": _now(),
        "ended_at": "",
    }
    _write(_deployment_file(env), json.dumps(record, indent=1) + "\n")
    return record


def _end(env: str, record: dict[str, Any], state: str, message: str) -> None:
    record |= {"state": state, "message": message, "ended_at": _now()}
    _write(_deployment_file(env), json.dumps(record, indent=1) + "\n")


def _read_deployment(env: str) -> dict[str, Any] | None:
    path = _deployment_file(env)
    return dict(json.loads(path.read_text())) if path.exists() else None


def _plan_file(env: str, suffix: str) -> Path:
    return BUILD / f"plans/{env}.{suffix}"


def _deployment_file(env: str) -> Path:
    return BUILD / f"deployments/{env}.json"


def _commit() -> str:
    return git(CLONE, "rev-parse", "HEAD")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(path: Path, text: str) -> None:
    """As a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_file(path, text.encode())
