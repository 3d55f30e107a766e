"""The stand-in for GitLab, by hand: ``python -m pipeline.local FOLDER VERB ...``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.local import model, runner
from pipeline.local.model import Pipeline
from pipeline.local.runner import Project
from pipeline.tools import PipelineError, git

NOTHING = "0" * 40
USAGE = """\
usage: python -m pipeline.local FOLDER receive USER          old, new and ref on standard input, as git's hook gets them
       python -m pipeline.local FOLDER merge-request USER BRANCH
       python -m pipeline.local FOLDER schedule
       python -m pipeline.local FOLDER play NUMBER JOB USER  start a manual job, or a failed one again
       python -m pipeline.local FOLDER show NUMBER
"""


def receive(project: Project, user: str) -> int:
    """Run the pipeline of what was pushed to main; other branches have theirs by merge requests."""
    code = 0
    for line in sys.stdin.read().splitlines():
        before, commit, ref = line.split()
        if ref != "refs/heads/main" or commit == NOTHING:
            continue
        before = "" if before == NOTHING else before
        new = runner.create(project, source="push", ref="main", commit=commit, before=before, user=user)
        code = max(code, perform(project, new))
    return code


def merge_request(project: Project, user: str, branch: str) -> int:
    commit, target = (git(project.bare, "rev-parse", ref) for ref in (branch, "main"))
    before = git(project.bare, "merge-base", commit, target)
    source = "merge_request_event"
    return perform(project, runner.create(project, source=source, ref=branch, commit=commit, before=before, user=user))


def schedule(project: Project) -> int:
    commit = git(project.bare, "rev-parse", "main")
    user = "schedule"
    return perform(project, runner.create(project, source="schedule", ref="main", commit=commit, before="", user=user))


def play(project: Project, number: str, name: str, user: str) -> int:
    pipeline = model.load(project.folder, int(number))
    for lost in model.take_over(pipeline) if not runner.is_at_work(pipeline) else []:
        print(f"{lost}: its runner was lost")
    model.play(pipeline, name, user)
    return perform(project, pipeline)


def perform(project: Project, pipeline: Pipeline) -> int:
    """Run it as far as it goes; exit code 1 for one that failed."""
    runner.go_on(project, pipeline)
    show(pipeline)
    return int(pipeline.status == model.FAILED)


def show(pipeline: Pipeline) -> None:
    print(f"pipeline {pipeline.number}: {pipeline.source} of {pipeline.ref}@{pipeline.commit[:8]}: {pipeline.status}")
    for job in pipeline.jobs:
        took = f"{job.ended_at - job.started_at:6.1f} s" if job.ended_at else ""
        print(f"  {job.stage:<11}{job.name:<50}{job.status:<9}{took:>9}  {job.message}")


def main(arguments: list[str]) -> int:
    verbs: dict[str, Callable[..., int]] = {
        "receive": receive,
        "merge-request": merge_request,
        "schedule": schedule,
        "play": play,
    }
    try:
        folder, verb, *rest = arguments
        project = Project(Path(folder))
        if verb == "show":
            show(model.load(project.folder, int(rest[0])))
            return 0
        return verbs[verb](project, *rest)
    except (KeyError, TypeError, IndexError):
        sys.stderr.write(USAGE)
        return 2
    except (PipelineError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
