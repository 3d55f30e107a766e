"""Lambda functions: code, configuration, who may invoke them, and what happens when they fail."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import Function
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none, until_accepted
from . import layer

SERVICES = ("lambda",)
WORKERS = 1  # in the order in which they are declared: one may be the on-failure destination of the next
READ_BACK = False

_MISSING = "ResourceNotFoundException"
_CONFIGURATION = ("description", "handler", "runtime", "role", "layer", "memory_mb", "timeout_s", "environment")
_INVOCATION = ("retries", "max_event_age_s", "on_failure")

# A role made a moment ago is not known everywhere yet, nor are its permissions.
_ROLE_NOT_READY = (
    "cannot be assumed by Lambda",
    "role defined for the function",
    "does not have permissions to call",
)


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    functions = aws.found(lambda name: _describe(aws, name), names)
    layers = {_layer_name(arn) for function in functions.values() for arn in _layer_arns(function)}
    references = layer.references(aws, layers)
    return {name: _observed(name, function, references) for name, function in functions.items()}


def _describe(aws: Aws, name: str) -> dict[str, Any] | None:
    functions = aws.client("lambda")
    answer = absent_as_none(functions.get_function, _MISSING, FunctionName=name)
    if answer is None:
        return None
    invocation = absent_as_none(functions.get_function_event_invoke_config, _MISSING, FunctionName=name)
    policy = absent_as_none(functions.get_policy, _MISSING, FunctionName=name)
    return {
        "configuration": answer["Configuration"],
        # The answer has them only for who may lambda:ListTags.
        "tags": tags_of(aws, answer["Configuration"]["FunctionArn"], lambda: answer.get("Tags", {})),
        "invocation": invocation or {},
        "permissions": json.loads(policy["Policy"])["Statement"] if policy else [],
    }


def _observed(name: str, function: Mapping[str, Any], references: Mapping[str, str]) -> Observed:
    configuration, invocation = function["configuration"], function["invocation"]
    destinations = invocation.get("DestinationConfig", {})
    arns = _layer_arns(function)
    return Observed(
        Function(
            name=name,
            tags=function["tags"],
            description=configuration.get("Description", ""),
            code_sha256=configuration["CodeSha256"],
            handler=configuration.get("Handler", ""),
            runtime=configuration.get("Runtime", ""),
            role=configuration["Role"],
            layer=", ".join(references.get(arn, arn) for arn in arns),
            memory_mb=configuration["MemorySize"],
            timeout_s=configuration["Timeout"],
            environment=configuration.get("Environment", {}).get("Variables", {}),
            # what AWS does where nobody configured it: two retries within six hours
            retries=invocation.get("MaximumRetryAttempts", 2),
            max_event_age_s=invocation.get("MaximumEventAgeInSeconds", 21600),
            on_failure=destinations.get("OnFailure", {}).get("Destination", ""),
            permissions={statement["Sid"]: _permission(statement) for statement in function["permissions"]},
        ),
        handles={"arn": configuration["FunctionArn"]},
    )


def _permission(statement: Mapping[str, Any]) -> tuple[str, str]:
    """Who may invoke, from where. Anything but an allowed invocation is shown as it is, so that it is a difference."""
    principal = statement.get("Principal")
    service = principal.get("Service", "") if isinstance(principal, Mapping) else ""
    sources = statement.get("Condition", {}).get("ArnLike", {})
    source = sources.get("AWS:SourceArn", sources.get("aws:SourceArn", ""))
    if (statement.get("Effect"), statement.get("Action")) != ("Allow", "lambda:InvokeFunction") or not service:
        return (json.dumps(principal), json.dumps(statement, sort_keys=True))
    return (service, source)


def create(aws: Aws, change: Change) -> None:
    functions, function = aws.client("lambda"), cast(Function, change.desired)
    configuration = _configuration(aws, function)
    until_accepted(
        lambda: functions.create_function(
            **configuration, Code={"ZipFile": aws.archives[function.code_sha256]}, Tags=dict(function.tags)
        ),
        _ROLE_NOT_READY,
    )
    _wait(functions, "function_active_v2", function.name)
    _set_permissions(functions, function, {})
    _set_invocation(functions, function)


def update(aws: Aws, change: Change) -> None:
    functions, function, fields = aws.client("lambda"), cast(Function, change.desired), set(change.fields)
    observed = cast(Observed, change.observed)
    _wait(functions, "function_active_v2", function.name)  # an interrupted creation may still be Pending
    if "code_sha256" in fields:
        functions.update_function_code(FunctionName=function.name, ZipFile=aws.archives[function.code_sha256])
        _wait(functions, "function_updated_v2", function.name)
    if fields & set(_CONFIGURATION):
        configuration = _configuration(aws, function)
        until_accepted(lambda: functions.update_function_configuration(**configuration), _ROLE_NOT_READY)
        _wait(functions, "function_updated_v2", function.name)
    if "permissions" in fields:
        _set_permissions(functions, function, cast(Function, observed.resource).permissions)
    if fields & set(_INVOCATION):
        _set_invocation(functions, function)
    if "tags" in fields:
        functions.tag_resource(Resource=observed.handles["arn"], Tags=dict(function.tags))


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(aws.client("lambda").delete_function, _MISSING, FunctionName=change.name)


def _configuration(aws: Aws, function: Function) -> dict[str, Any]:
    return {
        "FunctionName": function.name,
        "Description": function.description,
        "Handler": function.handler,
        "Runtime": function.runtime,
        "Role": function.role,
        "Layers": [layer.version_arn(aws, function.layer)],
        "MemorySize": function.memory_mb,
        "Timeout": function.timeout_s,
        "Environment": {"Variables": dict(function.environment)},
    }


def _set_permissions(functions: Any, function: Function, current: Mapping[str, tuple[str, str]]) -> None:
    """A statement cannot be changed: it is removed and added again. Statements we did not declare let strangers in."""
    for sid in [sid for sid, permission in current.items() if function.permissions.get(sid) != permission]:
        functions.remove_permission(FunctionName=function.name, StatementId=sid)
    for sid, (principal, source) in function.permissions.items():
        if current.get(sid) != (principal, source):
            functions.add_permission(
                FunctionName=function.name,
                StatementId=sid,
                Action="lambda:InvokeFunction",
                Principal=principal,
                SourceArn=source,
            )


def _set_invocation(functions: Any, function: Function) -> None:
    until_accepted(
        lambda: functions.put_function_event_invoke_config(
            FunctionName=function.name,
            MaximumRetryAttempts=function.retries,
            MaximumEventAgeInSeconds=function.max_event_age_s,
            DestinationConfig={"OnFailure": {"Destination": function.on_failure}},
        ),
        _ROLE_NOT_READY,
    )


def _wait(functions: Any, waiter: str, name: str) -> None:
    functions.get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def _layer_arns(function: Mapping[str, Any]) -> list[str]:
    return [attached["Arn"] for attached in function["configuration"].get("Layers", [])]


def _layer_name(arn: str) -> str:
    return arn.split(":")[6]
