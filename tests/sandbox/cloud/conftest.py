"""Staging as all tests of this folder find and leave it, and production for those that make and remove."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twinops.aws import session

from tests.sandbox.cloud.support import Deployment, Environment, found_by_botocore
from tests.sandbox.support import OwnSandbox


@pytest.fixture(autouse=True)
def credentials(own_sandbox: OwnSandbox) -> Iterator[None]:
    """For each test apart: tests of other folders, which run in the same process, have other endpoints."""
    with found_by_botocore(own_sandbox):
        yield


@pytest.fixture(autouse=True)
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """This endpoint has no rates. Playbooks, which are processes of their own, are paced as ever."""
    monkeypatch.setattr(session._PACER, "wait", lambda *_: None)


@pytest.fixture(scope="session")
def deployment(own_sandbox: OwnSandbox) -> Deployment:
    with found_by_botocore(own_sandbox):
        environment = Environment(own_sandbox, "staging")
        resources = environment.resources()
        check, writes = environment.writes_of(lambda: environment.reconcile(resources, apply=False))
        return Deployment(environment, check, writes, environment.reconcile(resources))


@pytest.fixture
def staging(deployment: Deployment) -> Environment:
    return deployment.environment


@pytest.fixture
def production(own_sandbox: OwnSandbox, credentials: None) -> Environment:
    """Another environment in the same account. Who uses it removes what it made."""
    return Environment(own_sandbox, "production")
