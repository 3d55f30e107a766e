"""``state.json`` and the ``current`` link: what a device knows about itself (docs/interfaces.md, "Device")."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import release, slots
from ..errors import TwinopsError
from . import durable

METADATA = "metadata"
TARGETS = "targets"
DELTAS = "deltas"
"""Folders of ``incoming/``, laid out like a repository."""

LATER_KEYS = {key: slots.empty_state()[key] for key in ("waiting", "current_serial")}
"""A state.json written before these existed is not damaged."""


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def note(path: Path, outcome: str, why: str) -> None:
    """Keep what came of the last pull or report; not where the disk is full or read-only, which ``why`` says then."""
    with contextlib.suppress(OSError):
        durable.write_file(path, json.dumps({"at": now(), "outcome": outcome, "reason": why}).encode() + b"\n")


class Device:
    """The folders of one device. Only :meth:`write_state` and :meth:`point_to` change what runs."""

    def __init__(self, root: Path, incoming: Path | None = None) -> None:
        self.root = root
        self.slots = root / "slots"
        self.incoming = incoming or root / "incoming"
        self.link = root / "current"
        self.state_path = root / "state.json"

    def settings(self) -> dict[str, Any]:
        """``device.json``, written when the device was enrolled.

        :raises TwinopsError: it was not enrolled
        """
        path = self.root / "device.json"
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise TwinopsError(
                f"{path}: expected the settings of an enrolled device, found none; enrol it: "
                "ansible-playbook playbooks/edge.yml --tags edge_base"
            ) from error
        except ValueError as error:
            raise TwinopsError(f"{path}: expected JSON, got {error}; enrol the device again") from error
        return dict(settings)

    def slot(self, name: str) -> Path:
        return self.slots / name

    def linked_slot(self) -> str | None:
        """The slot ``current`` points to: the one that runs, whatever any file says."""
        try:
            name = self.link.readlink().name
        except FileNotFoundError:
            return None
        return name if name in ("a", "b") else None

    def point_to(self, slot: str | None) -> None:
        """Switch, by one rename; ``None`` takes the link away (a device whose first release failed)."""
        if slot is not None:
            durable.point_link(self.link, f"slots/{slot}")
        elif self.link.is_symlink():
            self.link.unlink()
            durable.sync_folder(self.root)

    def read_state(self) -> dict[str, Any]:
        """The state; a damaged file is replaced by what the running slot itself proves."""
        try:
            stored = json.loads(self.state_path.read_bytes())
            state = {key: stored[key] for key in slots.empty_state() if key not in LATER_KEYS}
            state |= {key: stored.get(key, default) for key, default in LATER_KEYS.items()}
        except FileNotFoundError:
            return self._state_of_slot("there was no state.json")
        except (ValueError, KeyError, TypeError):
            return self._state_of_slot("state.json was damaged")
        if slots.link_is_settled(state) and state["slot"] != self.linked_slot():
            return {**self._state_of_slot("current was moved by somebody else"), "history": state["history"]}
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        durable.write_file(self.state_path, release.as_json_bytes(state))

    def _state_of_slot(self, why: str) -> dict[str, Any]:
        slot = self.linked_slot()
        state = slots.empty_state()
        if slot is None:
            return state
        try:
            content = (self.slot(slot) / release.MANIFEST).read_bytes()
            manifest = release.parse_manifest(content, "current/manifest.json")
        except (OSError, TwinopsError):
            return {**state, "reason": f"{why}, and slot {slot} holds no readable manifest"}
        return {
            **state,
            "phase": slots.COMMITTED,
            "slot": slot,
            "release": manifest.release,
            "release_digest": release.sha256(content),
            "reason": f"{why}; read from slot {slot}",
        }
