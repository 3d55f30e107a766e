"""EventBridge refuses to delete a rule that still has targets; ministack deletes both, which would hide the mistake."""

from __future__ import annotations

from typing import Any

from ministack.services import eventbridge

from sandbox.emulator.answers import Answer, json_error


def install() -> None:
    delete = eventbridge._delete_rule

    def delete_rule(request: dict[str, Any]) -> Answer:
        if eventbridge._targets.get(eventbridge._rule_key(request["Name"], request.get("EventBusName", "default"))):
            return json_error("ValidationException", "Rule can't be deleted since it has targets.")
        answer: Answer = delete(request)
        return answer

    eventbridge._delete_rule = delete_rule
