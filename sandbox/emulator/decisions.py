"""The log of IAM's decisions (``decisions.jsonl``): which statements let a role do what it did, or that none did.

AWS keeps it as CloudTrail's events and Access Analyzer's findings. It answers "what does this policy lack", and "which
statement does nobody need": one by which alone no call was allowed. Root has no policies and is not in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ministack.core import iam_evaluator


def install(path: Path) -> None:
    """Write a line for every decision from now on, into a new file."""
    log = path.open("w", buffering=1)
    evaluate = iam_evaluator.evaluate

    def evaluate_and_log(context: iam_evaluator.EvalContext, policies: Any, *limits: Any) -> iam_evaluator.EvalResult:
        result = evaluate(context, policies, *limits)
        line = {
            "principal": context.principal_arn,
            "action": context.action,
            "resource": context.resource_arn,
            "decision": result.decision,
            "allowed_by": _matching(context, policies),
        }
        log.write(json.dumps(line) + "\n")
        return result

    iam_evaluator.evaluate = evaluate_and_log


def _matching(context: iam_evaluator.EvalContext, policies: Any) -> list[str]:
    """The Sids of all statements that allow it; ministack itself looks for the first only."""
    statements = [statement for policy in policies for statement in policy]
    return sorted({each.sid for each in statements if iam_evaluator._first_match(context, [each], "Allow")})
