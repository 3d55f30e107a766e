"""The registry of models, in a real S3 API: what it answers, about any moment, and with several writers."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from toolbox.registry import Event, Registry, RegistryError, Version, after
from twinops.aws import model_versions
from twinops.aws.clients import client
from twinops.release import BundleFile, Manifest

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
BECAUSE: dict[str, Any] = {"approver": "mlops@example.com", "reason": "evaluation 7"}


def version(name: str, **changed: str) -> Version:
    return Version(
        **{
            "name": name,
            "sha256": name * 4,
            "data_version": "d1",
            "git_sha": "a" * 40,
            "evaluation_sha256": "e",
            **changed,
        }
    )


class Clock:
    """An hour later each time."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"data-{uuid.uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


@pytest.fixture
def registry(bucket: str) -> Registry:
    """v1 is champion, v2 registered."""
    registry = Registry(client("s3"), bucket, "shuttle-anomaly", clock=Clock())
    for name in ("v1", "v2"):
        registry.register(version(name), **BECAUSE)
    registry.promote("v1", **BECAUSE)
    return registry


def aliases(registry: Registry, at: datetime | None = None) -> dict[str, str]:
    return dict(after(registry.history(), at).aliases)


def test_a_promotion_moves_all_aliases_at_once(registry: Registry) -> None:
    registry.challenge("v2", **BECAUSE)
    assert aliases(registry) == {"champion": "v1", "challenger": "v2"}
    assert registry.promote("v2", **BECAUSE)
    assert aliases(registry) == {"champion": "v2", "previous": "v1"}
    assert registry.champion() == version("v2")


def test_one_model_of_two_versions_is_neither_its_challenger_nor_its_predecessor(registry: Registry) -> None:
    registry.promote("v2", **BECAUSE)
    registry.register(version("v2-again", sha256=version("v2").sha256, evaluation_sha256="another"), **BECAUSE)
    registry.challenge("v2-again", **BECAUSE)
    assert registry.promote("v2-again", **BECAUSE)
    assert aliases(registry) == {"champion": "v2-again", "previous": "v1"}


def test_going_back(registry: Registry) -> None:
    registry.promote("v2", **BECAUSE)
    assert registry.roll_back(**BECAUSE) == "v1"
    assert aliases(registry) == {"champion": "v1"}
    with pytest.raises(RegistryError, match="expected a previous champion to go back to"):
        registry.roll_back(**BECAUSE)


def test_who_was_champion_at_any_moment(registry: Registry) -> None:
    registry.promote("v2", **BECAUSE)  # at 16:00; v1 at 15:00, registered at 13:00
    champions = [registry.champion(NOON + timedelta(hours=hours, minutes=-1)) for hours in (1, 3, 4, 5)]
    assert [one and one.name for one in champions] == [None, None, "v1", "v2"]


def test_asked_again_nothing_happens(registry: Registry) -> None:
    before = registry.history()
    assert not registry.register(version("v1"), **BECAUSE)
    assert not registry.promote("v1", **BECAUSE)
    registry.challenge("v2", **BECAUSE)
    assert not registry.challenge("v2", **BECAUSE)
    assert len(registry.history()) == len(before) + 1


def test_the_history_says_who_and_why(registry: Registry) -> None:
    last = registry.history()[-1]
    assert (last.number, last.action, last.version, last.approver, last.reason) == (
        *(3, "promote", "v1"),
        *("mlops@example.com", "evaluation 7"),
    )
    assert last.at == "2026-11-22T15:00:00.000000Z"


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda it: it.promote("v9", **BECAUSE), r"version v9: expected a registered one \(v1, v2\)"),
        (lambda it: it.challenge("v1", **BECAUSE), "version v1: expected a challenger, it is the champion"),
        (
            lambda it: it.register(version("v1", sha256="other"), **BECAUSE),
            "v1: registered already with other contents",
        ),
    ],
    ids=["unknown", "champion", "another model"],
)
def test_mistakes_are_named_and_change_nothing(act: Any, said: str, registry: Registry) -> None:
    before = registry.history()
    with pytest.raises(RegistryError, match=said):
        act(registry)
    assert registry.history() == before


def test_writers_at_the_same_time_lose_no_event(bucket: str) -> None:
    def write(number: int) -> bool:
        return Registry(client("s3"), bucket, "m").register(version(f"v{number}"), **BECAUSE)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write, range(8)))
    events = Registry(client("s3"), bucket, "m").history()
    assert [event.number for event in events] == list(range(1, 9))
    assert {event.version for event in events} == {f"v{number}" for number in range(8)}


def test_a_clock_that_goes_back_does_not_change_the_order(registry: Registry, bucket: str) -> None:
    late = Registry(client("s3"), bucket, "shuttle-anomaly", clock=lambda: NOON - timedelta(days=1))
    late.promote("v2", **BECAUSE)
    assert [event.at for event in registry.history()] == sorted(event.at for event in registry.history())
    champion = registry.champion()
    assert champion is not None
    assert champion.name == "v2"


def test_an_event_is_read_once_and_those_of_others_are_seen(registry: Registry, bucket: str) -> None:
    read: list[str] = []

    class Noting(Registry):
        def _read(self, key: str) -> Event:
            read.append(key.rpartition("/")[2])
            return super()._read(key)

    other = Noting(client("s3"), bucket, "shuttle-anomaly")
    assert model_versions.promote(other, manifest("e1"), approver="a", reason="r")
    registry.promote("v2", **BECAUSE)
    assert other.history() == registry.history()
    assert read == [f"{number:08d}.json" for number in range(1, 7)]


def test_what_is_no_event_is_named(registry: Registry, bucket: str) -> None:
    client("s3").put_object(Bucket=bucket, Key="registry/shuttle-anomaly/00000004.json", Body=json.dumps([1]).encode())
    with pytest.raises(RegistryError, match=r"s3://.*/00000004.json: expected an event"):
        registry.history()


def test_what_cannot_be_reached_is_named(endpoint: str) -> None:
    with pytest.raises(RegistryError, match="registry of model m: s3://nowhere/registry/m/: cannot be read"):
        Registry(client("s3"), "nowhere", "m").champion()
    with pytest.raises(RegistryError, match="expected a name of letters"):
        Registry(client("s3"), "nowhere", "../m")


# ---- the versions that releases bring


def manifest(evaluation: str, model: str = "m1") -> Manifest:
    return Manifest("v3", "b" * 40, "d1", "i1", {"sha256": model}, (BundleFile("training.json", evaluation, 1),))


def test_what_retraining_registered_stays_when_its_very_release_is_published(registry: Registry) -> None:
    registry.register(version("v3", sha256="m1", evaluation_sha256="e1"), **BECAUSE)
    before = registry.history()
    assert model_versions.register(registry, manifest("e1"), approver="a") == "v3"
    assert registry.history() == before


@pytest.mark.parametrize("published", [manifest("e2"), manifest("e1", model="m2")], ids=["libraries", "model"])
def test_a_release_that_was_built_otherwise_is_a_version_of_its_own(registry: Registry, published: Manifest) -> None:
    """Same bytes of the model with other libraries: only the training.json that was published can be read later."""
    registry.register(version("v3", sha256="m1", evaluation_sha256="e1"), **BECAUSE)
    assert model_versions.promote(registry, published, approver="a", reason="r")
    assert registry.champion() == Version(
        f"v3-{published.digest[:12]}", published.model["sha256"], "d1", "b" * 40, published.files[0].sha256
    )
    assert not model_versions.promote(registry, published, approver="a", reason="again")
