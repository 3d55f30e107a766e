"""Runs the jobs of a pipeline, each in a clone of its own, by gitlab-ci-local; several at a time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from pipeline import secrets
from pipeline.local import locks, model
from pipeline.local.model import FAILED, SUCCESS, WARNING, Job, Pipeline
from pipeline.local.tokens import Issuer
from pipeline.tools import PipelineError, git, gitlab_ci_local, run
from sandbox import processes

JOBS_AT_A_TIME = 2
LOCK_TIMEOUT_S = 1800
LISTING_TIMEOUT_S = 120
GRACE_S = 20
MARKER = "TWINOPS_PIPELINE_JOB"
"""In the environment of every process of a job: by it what a lost runner has left is found."""

RESULT = re.compile(r"^\S.* finished in .*?(?: (?P<word>FAIL|WARN) (?P<code>\d+))?\s*$", re.MULTILINE)


class Project:
    """A project as GitLab would know it: where it is, and its settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = json.loads((folder / "project.json").read_text())
        self.bare = Path(self.settings["bare"])
        self.host = str(urlsplit(self.settings["issuer"]).hostname)
        self.issuer = Issuer(folder, self.settings["issuer"])

    def next_number(self) -> int:
        with (self.folder / "counter").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            number = int(file.read() or 0) + 1
            file.truncate(0)
            file.write(str(number))
        return number


def create(project: Project, *, source: str, ref: str, commit: str, before: str, user: str) -> Pipeline:
    """A pipeline of a commit, with the jobs that its file and rules give it. Raises PipelineError for a broken file."""
    pipeline = Pipeline(project.next_number(), source, ref, commit, before, user, runner=os.getpid())
    folder = _checkout(project, pipeline, "pipeline")
    given = _variables(project, pipeline, None)
    options = ["--variables-file", str(_write_variables(folder, given))]
    options += [] if before else ["--no-evaluate-rule-changes"]
    listed = run(gitlab_ci_local("--list-json", *options), cwd=folder, timeout_s=LISTING_TIMEOUT_S)
    preview = run(gitlab_ci_local("--preview", *options), cwd=folder, timeout_s=LISTING_TIMEOUT_S)
    if listed.returncode or preview.returncode:
        raise PipelineError(f".gitlab-ci.yml of {commit[:12]}: {listed.stderr or preview.stderr}")
    jobs = [job for job in json.loads(listed.stdout) if job["when"] != "never"]
    pipeline.jobs = model.parse(jobs, yaml.safe_load(preview.stdout))
    pipeline.save(project.folder)
    return pipeline


def go_on(project: Project, pipeline: Pipeline) -> None:
    """Run what can be run, until nothing is left or everything waits for a person."""
    pipeline.runner = os.getpid()
    with ThreadPoolExecutor(JOBS_AT_A_TIME) as pool:
        at_work: dict[Future[None], Job] = {}
        while True:
            for job in model.advance(pipeline):
                at_work[pool.submit(_perform, project, pipeline, job)] = job
            pipeline.save(project.folder)
            if not at_work:
                break
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                at_work.pop(future)
                future.result()
    pipeline.runner = 0
    pipeline.save(project.folder)


def is_at_work(pipeline: Pipeline) -> bool:
    """Whether the process that runs it lives."""
    try:
        return b"pipeline.local" in Path(f"/proc/{pipeline.runner}/cmdline").read_bytes()
    except OSError:
        return False


def _perform(project: Project, pipeline: Pipeline, job: Job) -> None:
    """Run one job to its end, its status and message set, whatever happens."""
    began, holder = time.time(), f"pipeline {pipeline.number}, {job.name}"
    job.started_at = began
    lock = _lock(project, pipeline, job, holder) if job.resource_group else nullcontext("")
    try:
        with lock as message:
            job.waited_s, job.message = time.time() - began, message
            for attempt in range(1 + job.retries):
                job.attempts = attempt + 1
                job.status, failure = _attempt(project, pipeline, job)
                if job.status != FAILED or not _retried(job, failure):
                    break
    except (PipelineError, OSError, subprocess.SubprocessError) as error:
        job.status, job.message = FAILED, str(error)
    job.ended_at = time.time()


def _lock(project: Project, pipeline: Pipeline, job: Job, holder: str) -> AbstractContextManager[str]:
    """The job's resource group; the oldest pipeline's job first."""

    def is_turn() -> bool:
        earlier = [number for number in range(1, pipeline.number) if model.path(project.folder, number).exists()]
        others = [model.load(project.folder, number) for number in earlier]
        return not any(is_at_work(each) and model.will_take(each, job.resource_group) for each in others)

    clear = _end_leftovers(project)
    group, timeout_s = job.resource_group, LOCK_TIMEOUT_S
    return locks.held(project.folder, group, holder, timeout_s=timeout_s, clear=clear, is_turn=is_turn)


def _retried(job: Job, failure: str) -> bool:
    return "always" in job.retry_when or failure in job.retry_when


def _attempt(project: Project, pipeline: Pipeline, job: Job) -> tuple[str, str]:
    """One try: the status, and for a failure GitLab's word for what kind it is."""
    folder = _checkout(project, pipeline, job.name)
    for needed in pipeline.needed_by(job):
        _copy(_artifacts(project, pipeline, needed), folder)
    variables = _write_variables(folder, _variables(project, pipeline, job))
    log = log_file(project, pipeline, job)
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = gitlab_ci_local(job.name, "--no-needs", "--force-shell-executor", "--no-artifacts-to-source")
    argv += ["--variables-file", str(variables), "--home", str(folder / ".gitlab-ci-local/home")]
    argv += ["--concurrency", "1"]
    begins_at = log.stat().st_size if log.exists() else 0
    timed_out = _execute(argv, folder, _environment(project, pipeline, job), log, job.timeout_s)
    variables.unlink()
    output = log.read_bytes()[begins_at:].decode(errors="replace")
    result = next(iter(reversed(list(RESULT.finditer(output)))), None)
    status = SUCCESS if result and not result["word"] else WARNING if result and result["word"] == "WARN" else FAILED
    if job.artifacts and job.artifacts_when in ("always", "on_success" if status != FAILED else "on_failure"):
        _keep(folder, job.artifacts, _artifacts(project, pipeline, job))
    leaked = secrets.in_files(log, *[path for path in [_artifacts(project, pipeline, job)] if path.exists()])
    if leaked:
        _withdraw(project, pipeline, job)
        job.message = "a secret was in what it printed or left behind; both were removed:\n" + "\n".join(
            map(str, leaked)
        )
        return FAILED, "script_failure"
    if timed_out:
        job.message = f"took longer than {job.timeout_s} s, and was ended"
        return FAILED, "job_execution_timeout"
    if result is None:
        job.message = f"gitlab-ci-local ended before the job did; its output: {log}"
        return FAILED, "runner_system_failure"
    if status == FAILED:
        job.message = f"exit code {result['code']}"
    return status, "script_failure" if status == FAILED else ""


def _execute(argv: list[str], folder: Path, environment: Mapping[str, str], log: Path, timeout_s: float) -> bool:
    """Run a program, its output into ``log``; returns whether it had to be ended."""
    with (
        log.open("ab") as output,
        subprocess.Popen(
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            processes.end(processes.with_environment(f"{MARKER}={environment[MARKER]}"), grace_s=GRACE_S)
            return True
    return False


def _environment(project: Project, pipeline: Pipeline, job: Job) -> dict[str, str]:
    """What a runner's machine gives to jobs: programs and a home, nothing of the person who started the runner."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "USER") if name in os.environ}
    prepared = project.settings["prepared"]
    return {**kept, "TWINOPS_PREPARED": prepared, MARKER: marker(project, pipeline.number, job.name)}


def marker(project: Project, number: int, job: str) -> str:
    return f"{project.folder}:pipeline {number}, {job}"


def _end_leftovers(project: Project) -> Any:
    def clear(holder: str) -> None:
        survivors = processes.end(processes.with_environment(f"{MARKER}={project.folder}:{holder}"), grace_s=GRACE_S)
        if survivors:
            listed = ", ".join(str(process.pid) for process in survivors)
            raise PipelineError(f"{holder} was lost, and its processes {listed} do not end; nothing was started")

    return clear


def _variables(project: Project, pipeline: Pipeline, job: Job | None) -> dict[str, Any]:
    """The project's variables, and those that GitLab predefines. A value may be {environment: value}."""
    predefined = {
        "CI_PIPELINE_SOURCE": pipeline.source,
        "CI_PIPELINE_ID": str(pipeline.number),
        "CI_COMMIT_BRANCH": "" if pipeline.source == "merge_request_event" else pipeline.ref,
        "CI_COMMIT_REF_NAME": pipeline.ref,
        "CI_REPOSITORY_URL": str(project.bare),
        "GITLAB_USER_LOGIN": (job.approved_by if job else "") or pipeline.user,
    }
    given = {**project.settings["variables"], **predefined}
    if job:
        lifetime_s = project.settings.get("token_lifetime_s", job.timeout_s)
        of_job = {"project": project.settings["path"], "pipeline": pipeline, "job": job, "lifetime_s": lifetime_s}
        given |= {name: project.issuer.token(audience=audience, **of_job) for name, audience in job.id_tokens.items()}
    return given


def _write_variables(folder: Path, variables: Mapping[str, Any]) -> Path:
    """A file for gitlab-ci-local, for nobody else to read: a value on the command line would be seen by everybody."""
    path = folder / ".gitlab-ci-local/variables.yml"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    described = {
        name: {"type": "variable", "values": value if isinstance(value, dict) else {"*": value}}
        for name, value in variables.items()
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        yaml.safe_dump(described, file)
    return path


def _checkout(project: Project, pipeline: Pipeline, name: str) -> Path:
    """A new clone of the pipeline's commit. What `rules:changes` compares with is its origin/main."""
    folder = project.folder / f"builds/{pipeline.number}/{_file_name(name)}"
    shutil.rmtree(folder, ignore_errors=True)
    git(project.folder, "clone", "-q", "--shared", "--no-checkout", str(project.bare), str(folder))
    git(folder, "checkout", "-q", "-B", pipeline.ref, pipeline.commit)
    git(folder, "remote", "add", "gcl-origin", f"git@{project.host}:{project.settings['path']}.git")
    git(folder, "update-ref", "refs/remotes/origin/main", pipeline.before or pipeline.commit)
    git(folder, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    return folder


def log_file(project: Project, pipeline: Pipeline, job: Job) -> Path:
    return project.folder / f"jobs/{pipeline.number}/{_file_name(job.name)}.log"


def _artifacts(project: Project, pipeline: Pipeline, job: Job) -> Path:
    return project.folder / f"artifacts/{pipeline.number}/{_file_name(job.name)}"


def _keep(folder: Path, patterns: list[str], target: Path) -> None:
    """Copy what a job leaves behind; a pattern that matches nothing is none."""
    shutil.rmtree(target, ignore_errors=True)
    for pattern in patterns:
        for path in folder.glob(pattern.rstrip("/")):
            destination = target / path.relative_to(folder)
            destination.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, destination, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, destination)


def _withdraw(project: Project, pipeline: Pipeline, job: Job) -> None:
    shutil.rmtree(_artifacts(project, pipeline, job), ignore_errors=True)
    log_file(project, pipeline, job).write_text("removed: it had a secret\n")


def _copy(source: Path, folder: Path) -> None:
    if source.exists():
        shutil.copytree(source, folder, dirs_exist_ok=True)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")
