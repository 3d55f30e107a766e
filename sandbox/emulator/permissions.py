"""Everything a caller must be allowed to do for one request: the operation on each of its resources, the tags it sets,
the roles it hands to a service (``iam:PassRole``) and the keys it uses. ministack checks the first; the rest is checked
before the service sees the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import uuid4

from ministack import app as ministack_app
from ministack.core import iam_actions, iam_evaluator, router
from ministack.services import s3

from sandbox.emulator import ec2, encryption, iam_resources
from sandbox.emulator.answers import Answer
from sandbox.emulator.iam_resources import Check, Request
from sandbox.settings import ACCOUNT, REGION

# Lambda's operations whose IAM action has another name.
LAMBDA_ACTIONS = {
    "Invoke": "InvokeFunction",
    "InvokeWithResponseStream": "InvokeFunction",
    "GetLayerVersionByArn": "GetLayerVersion",
}
# Where the names of ministack and botocore differ.
MODELS = {"lambda": ["lambda"], "monitoring": ["cloudwatch"], "tagging": ["resourcegroupstaggingapi"]}


def install() -> None:
    """Correct what ministack derives, and put the further checks before every service that has some."""
    for service in ("sagemaker", "redshift", "redshift-data"):
        iam_actions.SERVICE_TO_IAM_NAMESPACE[service] = service
    iam_actions._BOTOCORE_SERVICE_MAP.update(MODELS)
    iam_actions._DENIED_CODES["ec2"] = "UnauthorizedOperation"
    _name_lambda_operations()
    _name_first_resource()
    _name_resource_in_denials()
    for service in (iam_resources.FINDERS.keys() | {"s3"}) & ministack_app.SERVICE_HANDLERS.keys():
        ministack_app.SERVICE_HANDLERS[service] = _checked(service, ministack_app.SERVICE_HANDLERS[service])


def _name_lambda_operations() -> None:
    known = iam_actions.extract_iam_action

    def iam_action(  # noqa: PLR0917 (ministack calls it)
        service: str, method: str, path: str, headers: Any, body: bytes, parameters: Any
    ) -> str | None:
        if service == "lambda":
            operation = iam_actions._match_rest_action(service, method, path, parameters)
            if operation:
                return f"lambda:{LAMBDA_ACTIONS.get(operation, operation)}"
        action: str | None = known(service, method, path, headers, body, parameters)
        return action

    iam_actions.extract_iam_action = iam_action


def _name_first_resource() -> None:
    known = iam_actions.extract_resource_arn

    def resource_arn(  # noqa: PLR0917 (ministack calls it)
        service: str, method: str, path: str, headers: Any, body: bytes, parameters: Any, region: str, account: str
    ) -> str:
        request = _request(service, method, path, headers, body, parameters)
        checks = iam_resources.checks(request) if request else None
        if checks:
            return checks[0].arn
        return str(known(service, method, path, headers, body, parameters, region, account))

    iam_actions.extract_resource_arn = resource_arn


def _name_resource_in_denials() -> None:
    """AWS says on which resource; ministack mostly does not."""
    respond = iam_actions.access_denied_response

    def response(service: str, action: str, principal_arn: str, request_id: str, **options: Any) -> Any:
        if not options.get("error_code") and not options.get("resource_policy_arn"):
            arn, explicit = options.get("resource_arn", "*"), options.get("explicit_deny", False)
            options["message"] = iam_actions.identity_denial_message(action, principal_arn, arn, explicit)
        return respond(service, action, principal_arn, request_id, **options)

    iam_actions.access_denied_response = response


def _request(  # noqa: PLR0917 (what a handler gets)
    service: str, method: str, path: str, headers: dict[str, str], body: bytes, parameters: Any
) -> Request | None:
    action = iam_actions.extract_iam_action(service, method, path, headers, body, parameters)
    if action is None:
        return None
    first = {name: values[0] if isinstance(values, list) else values for name, values in parameters.items() if values}
    return Request(service, action.partition(":")[2], path, body, first)


def _checked(service: str, handler: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        parameters = ministack_app._routing_params(method, path, headers, body, query)
        request = _request(service, method, path, headers, body, parameters)
        if request is None:
            unnamed: Answer = await handler(method, path, headers, body, query)
            return unnamed
        key = router.extract_access_key_id(headers, query)
        tags = iam_actions.request_tag_context(service, f"{service}:{request.operation}", body, parameters)

        def refused(checks: Iterable[Check]) -> Answer | None:
            return next(filter(None, (_enforce(key, service, check, tags, headers) for check in checks)), None)

        denied = refused(_further(request, headers))
        if denied:
            return denied
        answer: Answer = await handler(method, path, headers, body, query)
        return (refused(_of_answer(request, answer)) if service == "s3" else None) or answer

    return handle


def _further(request: Request, headers: dict[str, str]) -> Iterator[Check]:
    """What a request needs beyond its first action and resource."""
    yield from (iam_resources.checks(request) or [])[1:]
    yield from passed_roles(request)
    yield from encryption.key_checks(request, headers)


def _of_answer(request: Request, answer: Answer) -> Iterator[Check]:
    """What reading an object needs: its key; and to learn that it does not exist, the right to list its bucket."""
    if not request.operation.startswith("GetObject"):
        return
    bucket = request.path.strip("/").split("/")[0]
    if answer[0] == 404 and bucket in s3._buckets:
        yield Check("s3:ListBucket", f"arn:aws:s3:::{bucket}")
    yield from encryption.read_checks(answer)


def _enforce(
    access_key: str, service: str, check: Check, tags: dict[str, Any], headers: dict[str, str]
) -> Answer | None:
    context = {**check.context, **(tags if check.creates else {})}
    denied = iam_evaluator.enforce(
        access_key,
        check.action,
        check.action.partition(":")[0],
        REGION,
        resource_arn=check.arn,
        service_context=context,
    )
    if denied is None:
        return None
    principal, explicit = getattr(denied, "principal_arn", ""), getattr(denied, "decision", "") == "Deny"
    status, answer_headers, body = iam_actions.access_denied_response(
        service,
        check.action,
        principal,
        str(uuid4()),
        headers=headers,
        resource_arn=check.arn,
        explicit_deny=explicit,
    )
    return status, answer_headers, body


# ---- iam:PassRole


def passed_roles(request: Request) -> Iterator[Check]:
    """The roles that a request hands to a service."""
    if request.service == "s3":
        return
    role = request.get("Role" if request.service == "lambda" else "RoleArn")
    if request.service == "lambda" and role:
        function = iam_resources.function_arn(request.get("FunctionName") or request.path.split("/")[3])
        yield _passing(role, "lambda", function)
    elif request.service == "sagemaker" and role:
        yield _passing(role, "sagemaker", iam_resources.checks(request)[0].arn)  # type: ignore[index]
    elif request.service == "events":
        targets = [
            target.get("RoleArn") for target in request.document.get("Targets") or [] if isinstance(target, dict)
        ]
        for passed in filter(None, [role, *targets]):
            yield _passing(passed, "events", "")
    elif request.service == "scheduler" and isinstance(target := request.document.get("Target"), dict):
        yield _passing(str(target.get("RoleArn")), "scheduler", "")
    elif request.service == "ec2":
        for passed in ec2.instance_profile_roles(dict(request.parameters)):
            yield _passing(passed, "ec2", "")
    elif request.service == "iam" and request.operation == "AddRoleToInstanceProfile":
        yield _passing(iam_resources.iam_arn("role", request.get("RoleName")), "ec2", "")
    elif request.service == "redshift":
        for passed in request.listed("IamRoles.IamRoleArn"):
            yield _passing(passed, "redshift", "")


def _passing(role_arn: str, service: str, resource_arn: str) -> Check:
    context = {"iam:PassedToService": f"{service}.amazonaws.com"}
    if resource_arn:
        context["iam:AssociatedResourceArn"] = resource_arn
    name = role_arn if role_arn.startswith("arn:") else f"arn:aws:iam::{ACCOUNT}:role/{role_arn}"
    return Check("iam:PassRole", name, context=context)
