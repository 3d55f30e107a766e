"""What reconciliation does where AWS refuses: errors that no emulator makes on request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from twinops.aws import reconcile
from twinops.aws.kinds import rule
from twinops.aws.session import Aws
from twinops.errors import TwinopsError
from twinops.plan import CREATE, DELETE, Change
from twinops.resources import Instance, LogGroup, Notebook, OidcProvider, Table

OURS = {"twinops:owner": "twinops", "twinops:environment": "staging"}


class FakeKind:
    """Creates everything and deletes nothing."""

    WORKERS = 2

    def __init__(self) -> None:
        self.created: list[str] = []

    def create(self, _aws: Aws, change: Change) -> None:
        self.created.append(change.name)

    update = create

    def delete(self, _aws: Aws, _change: Change) -> None:
        error = {"Error": {"Code": "DependencyViolation", "Message": "it is in use"}}
        raise ClientError(error, "DeleteSecurityGroup")  # type: ignore[arg-type]


def test_a_deletion_that_fails_keeps_nothing_else_from_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, logs = FakeKind(), FakeKind()
    monkeypatch.setattr(reconcile, "KINDS", {"security_group": groups, "log_group": logs})
    changes = [
        Change(DELETE, "security_group", "old", ()),
        Change(CREATE, "log_group", "new", (), desired=LogGroup("new", OURS, 30)),
    ]
    aws = Aws.__new__(Aws)
    aws._known = {}
    with pytest.raises(reconcile.ApplyError, match=r"security_group old: .*DependencyViolation"):
        reconcile._apply(aws, changes)
    assert logs.created == ["new"]


def answers(*failures: int) -> Iterator[dict[str, Any]]:
    for count in failures:
        entries = [{"ErrorCode": "ConcurrentModificationException", "ErrorMessage": "try again"}] * count
        yield {"FailedEntryCount": count, "FailedEntries": entries}


def test_targets_that_eventbridge_did_not_take_are_put_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule.time, "sleep", lambda _: None)
    some = answers(1, 0)
    rule._all_entries(lambda **_: next(some), Rule="r")
    assert next(some, None) is None, "it was asked twice"
    never = answers(1, 1, 1, 1)
    with pytest.raises(TwinopsError, match="rule r: targets: ConcurrentModificationException: try again; rerun"):
        rule._all_entries(lambda **_: next(never), Rule="r")


def test_data_and_peoples_work_are_never_pruned() -> None:
    assert not any(kind.may_be_pruned() for kind in (Table, Notebook, Instance))
    assert LogGroup.may_be_pruned()


@pytest.mark.parametrize(
    ("tags", "audiences", "refused"),
    [({}, ("theirs",), True), ({}, ("ours",), False), (OURS, ("theirs",), False)],
    ids=["of others", "interrupted creation", "ours, changed by hand"],
)
def test_a_provider_of_others_is_not_taken_over(
    tags: dict[str, str], audiences: tuple[str, ...], refused: bool
) -> None:
    wanted = OidcProvider("gitlab.com", OURS, ("ours",))
    found = OidcProvider("gitlab.com", tags, audiences)
    different = [name for name in wanted.values() if wanted.differs(name, found)]
    assert any("manage_provider: false" in wanted.obstacle(name, found) for name in different) == refused
