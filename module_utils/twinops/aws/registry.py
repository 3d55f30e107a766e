"""Versions of a model and which of them is champion, challenger and previous champion, now and at any time before.

A model has a log of events in S3, ``<prefix><model>/<number>.json``. Each event is one object that has the aliases as
they are after it, written with ``If-None-Match``: it happens as a whole or not at all, two writers cannot both write
the next one, and nothing is ever changed or removed. docs/adr/0012-model-registry.md says why not SageMaker's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from ..errors import TwinopsError
from .objects import put_once

PREFIX = "registry/"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
Action = Literal["register", "challenge", "promote", "roll back"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TRIES = 10
"""Of an event, when others write at the same time."""


class RegistryError(TwinopsError):
    """What was asked for cannot be done: says of which model, what is the case and what was expected."""


@dataclass(frozen=True)
class Version:
    """One version of a model: where it came from. It never changes."""

    name: str
    sha256: str
    """Of the ONNX file."""
    data_version: str
    """Digest of the data set that it was trained on (:mod:`toolbox.datasets`)."""
    git_sha: str
    evaluation_sha256: str
    """Digest of the evaluation that speaks for it."""


@dataclass(frozen=True)
class Event:
    """What happened to a model, who wanted it, and the aliases since then. ``at`` is ISO 8601 UTC."""

    number: int
    at: str
    action: Action
    version: str
    approver: str
    reason: str
    aliases: Mapping[str, str]
    registered: Version | None = None


@dataclass(frozen=True)
class State:
    """A model after some events."""

    versions: Mapping[str, Version] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Alias → name of a version."""


def after(events: Sequence[Event], at: datetime | None = None) -> State:
    """The state after all events, or as it was at a moment."""
    until = _timestamp(at) if at else None
    past = [event for event in events if until is None or event.at <= until]
    versions = {event.registered.name: event.registered for event in past if event.registered}
    return State(versions, past[-1].aliases if past else {})


class Registry:
    """The versions of one model, in a bucket."""

    def __init__(
        self,
        s3: Any,
        bucket: str,
        model: str,
        *,
        prefix: str = PREFIX,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """:raises RegistryError: ``model`` cannot be part of a key"""
        self._s3, self._bucket, self._clock = s3, bucket, clock
        self._where = f"registry of model {model}"
        if not _NAME.fullmatch(model):
            raise RegistryError(f"{self._where}: expected a name of letters, digits, dots, - and _")
        self._folder = f"{prefix}{model}/"
        self._events: dict[str, Event] = {}
        """Those read so far by their key: an event is never changed or removed."""

    def register(self, version: Version, *, approver: str, reason: str) -> bool:
        """Add a version; False where it is registered already.

        :raises RegistryError: another model is registered under its name
        """

        def decide(state: State) -> Event | None:
            known = state.versions.get(version.name)
            if known and known != version:
                raise RegistryError(f"{self._where}: version {version.name}: registered already with other contents")
            return None if known else Event(0, "", "register", version.name, approver, reason, state.aliases, version)

        return self._append(decide)

    def challenge(self, name: str, *, approver: str, reason: str) -> bool:
        """Make a version the challenger; False where it is.

        :raises RegistryError: it is not registered, or is the champion
        """

        def decide(state: State) -> Event | None:
            self._expect_known(state, name)
            if state.aliases.get(CHAMPION) == name:
                raise RegistryError(f"{self._where}: version {name}: expected a challenger, it is the champion")
            aliases = {**state.aliases, CHALLENGER: name}
            return None if aliases == state.aliases else Event(0, "", "challenge", name, approver, reason, aliases)

        return self._append(decide)

    def promote(self, name: str, *, approver: str, reason: str) -> bool:
        """Make a version the champion, and the champion the previous one; False where it is champion.

        :raises RegistryError: it is not registered
        """

        def decide(state: State) -> Event | None:
            self._expect_known(state, name)
            if state.aliases.get(CHAMPION) == name:
                return None
            # One model may have two versions, of other libraries: it is no challenger of itself, nor its predecessor.
            sha256 = state.versions[name].sha256
            aliases = {alias: one for alias, one in state.aliases.items() if state.versions[one].sha256 != sha256}
            if CHAMPION in aliases:
                aliases[PREVIOUS] = aliases[CHAMPION]
            return Event(0, "", "promote", name, approver, reason, {**aliases, CHAMPION: name})

        return self._append(decide)

    def roll_back(self, *, approver: str, reason: str) -> str:
        """Make the previous champion the champion again; its name. There is no previous one after that.

        :raises RegistryError: there is none
        """
        name = ""

        def decide(state: State) -> Event:
            nonlocal name
            if PREVIOUS not in state.aliases:
                raise RegistryError(f"{self._where}: expected a previous champion to go back to, there is none")
            name = state.aliases[PREVIOUS]
            aliases = {alias: other for alias, other in state.aliases.items() if alias != PREVIOUS}
            return Event(0, "", "roll back", name, approver, reason, {**aliases, CHAMPION: name})

        self._append(decide)
        return name

    def champion(self, at: datetime | None = None) -> Version | None:
        """The champion, now or at a moment; None before the first."""
        state = after(self.history(), at)
        return state.versions[state.aliases[CHAMPION]] if CHAMPION in state.aliases else None

    def history(self) -> list[Event]:
        """Everything that happened, in order.

        :raises RegistryError: the bucket cannot be read, or holds something else
        """
        try:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._folder)
            keys = sorted(item["Key"] for page in pages for item in page.get("Contents", []))
            self._events.update({key: self._read(key) for key in keys if key not in self._events})
            return [self._events[key] for key in keys]
        except (BotoCoreError, ClientError) as error:
            raise RegistryError(
                f"{self._where}: s3://{self._bucket}/{self._folder}: cannot be read: {error}"
            ) from error

    def _read(self, key: str) -> Event:
        body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        try:
            fields = json.loads(body)
            registered = fields.pop("registered")
            return Event(**fields, registered=Version(**registered) if registered else None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"{self._where}: s3://{self._bucket}/{key}: expected an event: {error!r}") from error

    def _expect_known(self, state: State, name: str) -> None:
        if name not in state.versions:
            known = ", ".join(state.versions) or "none"
            raise RegistryError(f"{self._where}: version {name}: expected a registered one ({known})")

    def _append(self, decide: Callable[[State], Event | None]) -> bool:
        """Write the event that ``decide`` makes of the newest state; whether there was one to write."""
        for _ in range(_TRIES):
            events = self.history()
            event = decide(after(events))
            if event is None:
                return False
            # The order of events is that of their numbers; no clock of another writer makes it another one.
            at = max(_timestamp(self._clock()), events[-1].at if events else "")
            if self._write(replace(event, number=len(events) + 1, at=at)):
                return True
        raise RegistryError(f"{self._where}: expected to write an event, others wrote theirs {_TRIES} times before")

    def _write(self, event: Event) -> bool:
        """False where somebody else has written an event of that number."""
        body = json.dumps(asdict(event), indent=1).encode() + b"\n"
        key = f"{self._folder}{event.number:08d}.json"
        try:
            return put_once(self._s3, self._bucket, key, body)
        except (BotoCoreError, ClientError) as error:
            raise RegistryError(f"{self._where}: s3://{self._bucket}/{key}: cannot be written: {error}") from error


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
