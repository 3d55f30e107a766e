"""The command line of the jobs (``make plan``, ...). What went wrong is said without secrets, such as those in URLs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twinops.approval import text_without_secrets
from twinops.names import ENVIRONMENTS

from pipeline import jobs
from pipeline.tools import PipelineError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    parser.add_argument("verb", choices=["plan", "deploy", "drift", "page", "propose", "note", "tag"])
    parser.add_argument("env", choices=ENVIRONMENTS)
    parser.add_argument("--plan", type=Path, help="the approved plan, for deploy")
    parser.add_argument("--digest", default="", help="what was approved: the beginning of the plan's digest")
    arguments = parser.parse_args()
    env: str = arguments.env
    try:
        if arguments.verb == "deploy":
            if arguments.plan is None:
                parser.error("deploy: expected --plan")
            return jobs.deploy(env, arguments.plan, arguments.digest)
        verbs = {
            "plan": jobs.plan,
            "drift": jobs.drift,
            "page": jobs.page,
            "propose": jobs.propose,
            "note": jobs.note,
            "tag": jobs.tag,
        }
        return verbs[arguments.verb](env)
    except PipelineError as error:
        print(text_without_secrets(f"\n{arguments.verb} {env}: {error}"), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
