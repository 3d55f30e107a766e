"""The log of IAM's decisions (``decisions.jsonl``): which statements let a role do what it did, or that none did.

AWS keeps it as CloudTrail's events and Access Analyzer's findings. It answers "what does this policy lack", and "which
statement does nobody need": one by which alone no call was allowed. Root has no policies and is not in it.
"""

from __future__ import annotations

import contextvars
import json
from pathlib import Path
from typing import Any

from ministack.core import iam_evaluator

_of_a_resource: contextvars.ContextVar[bool] = contextvars.ContextVar("of_a_resource", default=False)


def install(path: Path) -> None:
    """Write a line for every decision from now on, into a new file. What a resource's own policy says is not one."""
    log = path.open("w", buffering=1)
    evaluate, evaluate_resource_policy = iam_evaluator.evaluate, iam_evaluator.evaluate_resource_policy

    def evaluate_and_log(context: iam_evaluator.EvalContext, policies: Any, *limits: Any) -> iam_evaluator.EvalResult:
        result = evaluate(context, policies, *limits)
        if not _of_a_resource.get():
            line = {
                "principal": context.principal_arn,
                "action": context.action,
                "resource": context.resource_arn,
                "decision": result.decision,
                "allowed_by": _matching(context, policies),
            }
            log.write(json.dumps(line) + "\n")
        return result

    def evaluate_quietly(*arguments: Any, **options: Any) -> iam_evaluator.EvalResult:
        token = _of_a_resource.set(True)
        try:
            return evaluate_resource_policy(*arguments, **options)
        finally:
            _of_a_resource.reset(token)

    iam_evaluator.evaluate = evaluate_and_log
    iam_evaluator.evaluate_resource_policy = evaluate_quietly


def _matching(context: iam_evaluator.EvalContext, policies: Any) -> list[str]:
    """The Sids of all statements that allow it; ministack itself looks for the first only."""
    statements = [statement for policy in policies for statement in policy]
    return sorted({each.sid for each in statements if iam_evaluator._first_match(context, [each], "Allow")})
