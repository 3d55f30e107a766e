"""What the tests of the cloud share: an environment on a real endpoint, as our modules see it.

The resources are those of ``staging`` and ``production``, in the sandbox's account: nobody else uses these names there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from twinops import archives, desired
from twinops.aws import session
from twinops.aws.reconcile import Extent, reconcile, remove
from twinops.aws.session import Aws
from twinops.desired import DispatchCode, Estate
from twinops.resources import Resource, Scope
from twinops.spec import Alarms, Workflow

from tests.sandbox.support import OwnSandbox

GIT_SHA = "0" * 40
SCRIPT = "#!/bin/sh\ntrue\n"
PROBE = b'''
"""Does one AWS call with the role of the function, and says what AWS answered."""
import boto3


def dispatch(event, context):
    client = boto3.client(event["service"])
    try:
        getattr(client, event["operation"])(**event["arguments"])
    except client.exceptions.ClientError as error:
        return error.response["Error"]
    return {}


def backup(event, context):
    return event


def watchdog(event, context):
    return event
'''
CODE = archives.zip_bytes({"dispatch/handler.py": PROBE})
LAYER = archives.zip_bytes({"python/websocket/__init__.py": b""})
CODE_DIGESTS = DispatchCode(archives.lambda_sha256(CODE), archives.sha256(LAYER))
ARCHIVES = {archives.lambda_sha256(CODE): CODE, archives.sha256(LAYER): LAYER}
WAIT_S = 120

Tamper = Callable[[Callable[[str], Any], Scope], Any]
"""What somebody does by hand, given ``aws("<service>")`` and the scope of the environment."""


def workflow(name: str, **changes: Any) -> Workflow:
    spec = Workflow(
        name=name,
        description=f"Does {name}.",
        owner="mlops@example.com",
        entrypoint="run.py",
        timeout_s=600,
        schedule="cron(0 5 * * ? *)",
        event={"source": ["twinops"], "detail-type": [f"{name} requested"]},
    )
    return dataclasses.replace(spec, **changes)


WORKFLOWS = (
    workflow("drift_report"),
    workflow("model_evaluation", schedule=None, alarms=Alarms(missing_after_h=26)),
    workflow("monthly_report", schedule="cron(0 6 1 * ? *)", timezone="Europe/Berlin", event=None),
)


PLANT = {"name": "plant", "type": "redshift", "cluster": "twinops-sandbox", "database": "plant", "db_user": "twinops"}

# What the roles of playbooks/cloud.yml declare together, part by part.
DECLARED: dict[str, dict[str, Any]] = {
    "env": {"data_sources": [PLANT]},
    "network": {"cidr": "10.41.0.0/20", "services": ["logs", "sns"], "host": True},
    "data_access": {"sources": [PLANT]},
    "storage": {"buckets": [{"purpose": purpose, "noncurrent_days": 30} for purpose in ("models", "reports", "data")]},
    "notifications": {"mail_to": ["mlops@example.com"]},
    "observability": {},
    "twins": {
        "instances": [{"twin": "deployment"}],
        "script": __file__,
        "repository": "/nowhere",
        "subnet": "private-1",
        "data_sources": [PLANT],
    },
    "airflow": {"enabled": True, "user_data": "#!/bin/sh\ntrue\n"},
    "workflows": {"retention_days": 30},
}


class Environment:
    """One environment in the sandbox, as our modules see it."""

    def __init__(self, sandbox: OwnSandbox, env: str) -> None:
        self.sandbox = sandbox
        self.aws = Aws(env)
        self.aws.archives.update(ARCHIVES)
        self.scope = self.aws.scope

    def resources(
        self,
        *parts: str,
        workflows: tuple[Workflow, ...] = WORKFLOWS,
        script: str = SCRIPT,
        **changed: Mapping[str, Any],
    ) -> tuple[Resource, ...]:
        """The resources of ``parts`` (default: all); ``changed`` are other options, by part."""
        estate = Estate(self.scope, {}, GIT_SHA, workflows, CODE_DIGESTS, script)
        declared = {part: complete(part, {**DECLARED[part], **changed.get(part, {})}) for part in parts or DECLARED}
        return desired.resources(estate, declared)

    def reconcile(
        self, resources: tuple[Resource, ...], *, apply: bool = True, parts: tuple[str, ...] = (), prune: bool = False
    ) -> dict[str, Any]:
        """``parts``: of which what twinops owns is looked at; by default of all that resources carry the tag of."""
        found = parts or tuple({each.tags["twinops:part"] for each in resources if each.taggable})
        wait_timeout_s = WAIT_S if apply else 0
        self.aws.forget()  # as a play that has not read AWS yet
        return reconcile(self.aws, resources, apply=apply, extent=Extent(found, prune), wait_timeout_s=wait_timeout_s)

    def remove(self, resources: tuple[Resource, ...], *, apply: bool = True, with_data: bool = True) -> dict[str, Any]:
        self.aws.forget()
        return remove(self.aws, resources, apply=apply, with_data=with_data)

    def writes_of(self, action: Callable[[], Any]) -> tuple[Any, list[str]]:
        """The answer of ``action``, and the calls that it made and that write."""
        before = len(self.sandbox.calls())
        answer = action()
        return answer, [call["action"] for call in self.sandbox.calls()[before:] if call["write"]]


@dataclasses.dataclass
class Deployment:
    """Staging, with what a check of nothing said and what its creation did."""

    environment: Environment
    check: dict[str, Any]
    writes_of_check: list[str]
    created: dict[str, Any]


@contextmanager
def found_by_botocore(own: OwnSandbox) -> Iterator[None]:
    """botocore's own chain finds the sandbox, as the play's ``environment:`` makes it; afterwards nobody's."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.settings.aws_environment.items():
            patch.setenv(name, value)
        forget_sessions()
        yield
    forget_sessions()


def forget_sessions() -> None:
    """Of another test's environment."""
    session.session.cache_clear()
    session.client.cache_clear()
    boto3.DEFAULT_SESSION = None


def complete(part: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` with defaults, as the module completes them."""
    checked = ArgumentSpecValidator(desired.OPTIONS[part]).validate(dict(options))
    assert checked.error_messages == []
    return dict(checked.validated_parameters)


def check_drift(
    environment: Environment, aws: Callable[[str], Any], tamper: Tamper, expected: str, *parts: str
) -> None:
    """What ``tamper`` does is seen by a check that writes nothing, shown with a diff, and repaired by a converge.

    ``parts``: of which the resources are looked at (default: all).
    """
    resources = environment.resources(*parts)
    tamper(aws, environment.scope)
    try:
        seen, writes = environment.writes_of(lambda: environment.reconcile(resources, apply=False))
    finally:  # the next case starts from what is declared, whatever happened in this one
        repaired = environment.reconcile(resources)
    assert [f"{it['action']} {it['kind']}: {' '.join(it['fields'])}" for it in seen["changes"]] == [expected]
    assert writes == []
    assert seen["diff"]["before"] != seen["diff"]["after"]
    assert repaired["changes"] == seen["changes"]
    assert environment.reconcile(resources, apply=False)["changes"] == []
