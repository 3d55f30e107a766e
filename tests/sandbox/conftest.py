"""Sandboxes of the sandbox's own tests: each has a home, a port and a network of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sandbox.support import OwnSandbox, policy


@pytest.fixture
def new_sandbox() -> Iterator[OwnSandbox]:
    """A sandbox that is not up yet."""
    own = OwnSandbox()
    yield own
    own.remove()


@pytest.fixture(scope="session")
def own_sandbox() -> Iterator[OwnSandbox]:
    """A running sandbox that the tests of this folder share; nobody may take it down."""
    own = OwnSandbox()
    try:
        own.json("up")
        yield own
    finally:
        own.remove()


@pytest.fixture(scope="session")
def aws(own_sandbox: OwnSandbox) -> Callable[[str], Any]:
    """``aws("s3")``: a client with the account's root keys."""
    clients: dict[str, Any] = {}
    return lambda service: clients.setdefault(service, own_sandbox.client(service))


@pytest.fixture(scope="session")
def make_role(aws: Callable[[str], Any]) -> Callable[..., str]:
    """``make_role("name", "lambda.amazonaws.com", {"Action": ..., "Resource": ...})``: the ARN of a new role."""

    def make(name: str, trusted: str, *statements: dict[str, Any]) -> str:
        trust = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
        role = aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]
        if statements:
            allowed = [{"Effect": "Allow", **statement} for statement in statements]
            aws("iam").put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=policy(*allowed))
        return str(role["Arn"])

    return make
