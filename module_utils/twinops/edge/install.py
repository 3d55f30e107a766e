"""The transaction that brings a device from one release to another, and survives being killed anywhere.

    pending -> fetched -> verified -> staged -> smoke-tested -> switched -> probing -> committed
                                                                    \\-> rolled-back

The rules are in ``twinops/slots.py``: the state is on disk before the step it names, the slot that ``current``
points to is never written to, and the switch is one rename. So whatever is found at start can be finished or undone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import release, slots, windows
from ..errors import TwinopsError
from . import durable, rebuilding, smoke, staging
from .rebuilding import WholeFilesNeededError
from .state import Device, now

__all__ = ["InstallError", "Settings", "Wanted", "WholeFilesNeededError", "install", "look", "needs", "revert"]

LOCK = "run/edge_release.lock"


@dataclass(frozen=True)
class Settings:
    """How long each step may take, and by whom the service is run."""

    service_manager: str
    smoke_timeout_s: float = 60
    start_timeout_s: float = 60
    probe_s: float = 10
    lock_wait_s: float = 120
    maintenance_window: str = ""
    """When a release may be installed, as in ``twinops/windows.py``; empty is always."""

    def is_open(self) -> bool:
        return windows.is_open(self.maintenance_window, datetime.now(timezone.utc))


@dataclass(frozen=True)
class Wanted:
    """The release to run: named by its signed manifest's digest, never by version alone."""

    env: str
    release: str
    release_digest: str
    pulled_at: int | None = None
    """The serial of ``current.json`` that a pull follows; ``None`` for a push, which follows nobody."""


class InstallError(TwinopsError):
    """The release did not come to run; the message says at which step, why, and what runs instead."""


def look(root: Path, wanted: Wanted, settings: Settings) -> dict[str, Any]:
    """What installing would do, touching nothing: ``action``, ``why``, and the ``state`` that was found."""
    device = Device(root)
    state = device.read_state()
    choice = slots.choose(state, wanted.release_digest, device.linked_slot())
    waits = choice.action == slots.INSTALL and not settings.is_open()
    return {"action": slots.WAIT if waits else choice.action, "why": choice.why, "state": state}


def needs(root: Path, wanted: Wanted, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What has to be delivered of ``files`` (SHA-256 -> ``size_bytes``, ``name``).

    The digests that are ``lacking``, the ``bases`` of each that a delta can start from, and the parts of an archive
    that were ``received`` before.
    """
    device = Device(root)
    lacking = staging.lacking(device, wanted.env, {digest: file["size_bytes"] for digest, file in files.items()})
    large = {digest: files[digest]["name"] for digest in lacking if files[digest]["size_bytes"] >= release.LARGE_BYTES}
    return {"lacking": lacking, "bases": rebuilding.bases(device, large), "received": staging.received(device)}


def reason_not_to_pull(state: Mapping[str, Any], wanted: Wanted) -> str | None:
    """Why a pull leaves the device alone; ``None`` where it shall go on, also with what it was interrupted in."""
    if wanted.pulled_at is None or slots.is_pulled(state):
        return None
    if not slots.at_rest(state):
        return f"a pushed transaction is open, at {state['phase']}"
    if state["release_digest"] == wanted.release_digest:
        return f"{state['release']} runs"
    if not slots.may_follow(state, wanted.pulled_at):
        return f"{state['release'] or 'nothing'} runs, decided after {wanted.release} became current"
    return None


def install(
    root: Path,
    wanted: Wanted,
    settings: Settings,
    *,
    rollout_id: str | None,
    archive: Sequence[Path] | None,
    incoming: Path | None = None,
) -> tuple[bool, dict[str, Any]]:
    """Make the device run ``wanted``, finishing or undoing first what an earlier run left. Returns (changed, state).

    ``archive`` are the parts of what was pushed; ``None`` where what is needed lies in ``incoming`` already. Outside
    its maintenance window a device only notes that it waits. A pull that finds a push ahead of it does nothing.

    :raises InstallError: it runs what it ran before, and ``state.json`` says why
    :raises WholeFilesNeededError: a delta did not do; nothing changed, and whole files have to be delivered
    """
    with durable.device_lock(root / LOCK, settings.lock_wait_s):
        transaction = Transaction(Device(root, incoming), settings)
        changed = False
        while True:
            if reason_not_to_pull(transaction.state, wanted):
                return changed, transaction.state
            choice = slots.choose(transaction.state, wanted.release_digest, transaction.device.linked_slot())
            if choice.action == slots.NOTHING:
                transaction.settle()
                return changed, transaction.state
            if choice.action == slots.INSTALL and not settings.is_open():
                transaction.wait(wanted)
                return changed, transaction.state
            changed = True
            if choice.action == slots.UNDO:
                transaction.undo(choice.why)
            elif choice.action == slots.FINISH:
                transaction.switch()
            else:
                transaction.install(wanted, rollout_id, archive)


def revert(
    root: Path, leaving_digest: str, settings: Settings, *, rollout_id: str | None, reason: str
) -> tuple[bool, dict[str, Any]]:
    """Take back the release ``leaving_digest``: run the one verified before again. No bytes are needed for that.

    :raises InstallError: there is none, its slot is damaged, or it does not come up
    """
    with durable.device_lock(root / LOCK, settings.lock_wait_s):
        transaction = Transaction(Device(root), settings)
        changed = False
        while not slots.at_rest(transaction.state):
            changed = True
            if transaction.reverting():
                transaction.switch()
            else:
                transaction.undo(reason)
        if transaction.state["release_digest"] == leaving_digest:
            transaction.revert(rollout_id, reason)
            changed = True
        return changed, transaction.state


class Transaction:
    """One attempt. ``state`` is always what is on disk; call under the device's lock."""

    def __init__(self, device: Device, settings: Settings) -> None:
        self.device = device
        self.state = device.read_state()
        self._settings = settings
        from .service import Service  # noqa: PLC0415 – loads an HTTP client, which ``look`` does without

        self._service = Service(device.root, settings.service_manager, device.settings())

    def settle(self) -> None:
        """Nothing is left to do: forget what was delivered, and what was waited for."""
        staging.clean_incoming(self.device)
        if self.state["waiting"] is not None:
            self._write({**self.state, "waiting": None})

    def wait(self, wanted: Wanted) -> None:
        """Note that ``wanted`` will be installed in the maintenance window; what was begun before it is dropped."""
        if not slots.at_rest(self.state):
            self._write(slots.abandon(self.state))
        waiting = {
            "release": wanted.release,
            "release_digest": wanted.release_digest,
            "window": self._settings.maintenance_window,
        }
        if self.state["waiting"] != waiting:
            self._write(slots.wait(self.state, waiting))

    def install(self, wanted: Wanted, rollout_id: str | None, archive: Sequence[Path] | None) -> None:
        """Bring ``wanted`` into the slot that does not run, then switch."""
        slot = slots.other(self.device.linked_slot())
        target = {"slot": slot, "release": wanted.release, "release_digest": wanted.release_digest}
        self._write(slots.begin(self.state, target, rollout_id))
        with self._failing_safely():
            self._enter(slots.FETCHED)
            if archive is not None:
                staging.unpack(self.device, archive)
            self._enter(slots.VERIFIED)
            trust = _verifier(self.device, wanted.env)
            manifest, manifest_bytes = trust.manifest(wanted.release, wanted.release_digest)
            _require_class(self.device, manifest)
            rebuilding.rebuild(self.device, trust)
            self._enter(slots.STAGED)
            staging.stage(self.device, slot, manifest, manifest_bytes, trust)
            self._write(slots.decided(slots.enter(self.state, slots.SMOKE_TESTED), self._current_serial(trust)))
            python = self.device.root / "venv" / "bin" / "python"
            smoke.smoke_test(python, self.device.slot(slot), self._settings.smoke_timeout_s)
        self.switch()

    def _current_serial(self, trust: Any) -> int:
        """That of the delivered ``current.json``; never less than this device knew before."""
        return max(release.current_serial(trust.current()), int(self.state["current_serial"]))

    def revert(self, rollout_id: str | None, reason: str) -> None:
        """Back to ``previous``, whose slot is checked first."""
        target = slots.reverts(self.state, reason)
        if target is None:
            raise InstallError(f"{self.state['release']} cannot be taken back: this device has no earlier release")
        self._write(slots.begin(self.state, target, rollout_id))
        with self._failing_safely():
            self._enter(slots.VERIFIED)
            staging.check_slot(self.device, target["slot"], target["release_digest"])
        self.switch()

    def switch(self) -> None:
        """Switch to the target, watch it, and commit or go back. Safe to repeat after an interruption."""
        target = self.state["target"]
        try:
            self._enter(slots.SWITCHED)
            self.device.point_to(target["slot"])
            self._service.restart()
            self._enter(slots.PROBING)
            self._service.probe(target["release_digest"], self._settings.start_timeout_s, self._settings.probe_s)
        except (TwinopsError, OSError) as error:
            self._go_back(str(error))
            raise self._error(target["release"], error) from error
        self._write(slots.commit(self.state, now()))
        staging.clean_incoming(self.device)

    def undo(self, reason: str) -> None:
        """Leave the target an earlier run was interrupted on its way to."""
        if self.state["phase"] in slots.BEFORE_SWITCH:
            self._write(slots.abandon(self.state))
        else:
            self._go_back(self.state["reason"] or reason)

    def reverting(self) -> bool:
        """Whether the open transaction is itself a way back that got as far as its switch."""
        target = self.state["target"]
        return self.state["phase"] in slots.AFTER_SWITCH and target.get("reverts") is not None

    def _go_back(self, reason: str) -> None:
        self._write(slots.roll_back(self.state, reason))
        self.device.point_to(self.state["slot"])
        if self.state["slot"] is None:
            self._service.stop()
        else:
            self._service.restart()
            # Reported by health, not by failing here: nothing is left to fall back to.
            with contextlib.suppress(TwinopsError):
                self._service.wait_until_ok(self.state["release_digest"], self._settings.start_timeout_s)
        self._write(slots.rolled_back(self.state, now()))
        staging.clean_incoming(self.device)

    @contextlib.contextmanager
    def _failing_safely(self) -> Any:
        """A failure before the switch: note it, drop what was half done, go on running what runs."""
        try:
            yield
        except WholeFilesNeededError:
            self._write(slots.abandon(self.state))
            raise
        except (TwinopsError, OSError) as error:
            target = self.state["target"]
            # On a full disk even this may fail: the interrupted phase stays, and the next run starts over.
            with contextlib.suppress(OSError):
                shutil.rmtree(self.device.slots / f"{target['slot']}.new", ignore_errors=True)
                staging.clean_incoming(self.device)
                self._write(slots.fail(self.state, now(), str(error)))
            raise self._error(target["release"], error) from error

    def _error(self, version: str, error: Exception) -> InstallError:
        runs = f"{self.state['release']} keeps running" if self.state["release"] else "no release runs"
        return InstallError(f"{version} was not installed: {error}; {runs}")

    def _enter(self, phase: str) -> None:
        self._write(slots.enter(self.state, phase))

    def _write(self, state: dict[str, Any]) -> None:
        self.device.write_state(state)
        self.state = state


def _require_class(device: Device, manifest: release.Manifest) -> None:
    """:raises TwinopsError: the release, however well signed, is for other devices"""
    settings, machine = device.settings(), os.uname().machine
    if not release.fits(manifest.device_class, settings, machine):
        raise TwinopsError(
            f"release {manifest.release} is for devices of class {manifest.device_class}; "
            f"expected {settings.get('device_class', release.ANY_CLASS)} or {machine}, as this device is"
        )


def _verifier(device: Device, env: str) -> Any:
    """The verifier, imported late: ``look`` and a no-op do without python-tuf."""
    try:
        from . import verify  # noqa: PLC0415
    except ImportError as error:
        raise TwinopsError(
            f"{device.root}/venv: expected python-tuf, got {error}; enrol the device again (--tags edge_base)"
        ) from error
    return verify.Verifier(device.root / "tuf", device.incoming, env)
