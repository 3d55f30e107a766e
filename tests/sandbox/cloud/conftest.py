"""Staging as all tests of this folder find and leave it, and production for those that make and remove."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twinops.aws import session

from tests.sandbox.cloud.support import Deployment, Environment
from tests.sandbox.support import OwnSandbox


@pytest.fixture(scope="session")
def credentials(own_sandbox: OwnSandbox) -> Iterator[None]:
    """boto3's own chain finds the sandbox, as the play's ``environment:`` makes it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own_sandbox.settings.aws_environment.items():
            patch.setenv(name, value)
        session.session.cache_clear()
        session.client.cache_clear()
        yield
    session.session.cache_clear()
    session.client.cache_clear()


@pytest.fixture(scope="session")
def deployment(own_sandbox: OwnSandbox, credentials: None) -> Deployment:
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
