"""A/B slots as a transition table: the next step, and what to do with whatever an earlier run left behind. Pure.

``state.json`` is written and fsynced *before* the step that a phase names, so a phase found at start says "this step
was begun, and perhaps done". Steps up to ``smoke-tested`` only touch the slot that does not run; from ``switched`` on,
the link may point to either slot, and only the pair (old slot, target) tells what is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IDLE = "idle"
PENDING = "pending"
FETCHED = "fetched"
VERIFIED = "verified"
STAGED = "staged"
SMOKE_TESTED = "smoke-tested"
SWITCHED = "switched"
PROBING = "probing"
COMMITTED = "committed"
ROLLED_BACK = "rolled-back"

TRANSITIONS: Mapping[str, tuple[str, ...]] = {
    IDLE: (PENDING,),
    PENDING: (FETCHED, VERIFIED, IDLE, COMMITTED, PENDING),
    FETCHED: (VERIFIED, IDLE, COMMITTED, PENDING),
    VERIFIED: (STAGED, SWITCHED, IDLE, COMMITTED, PENDING),
    STAGED: (SMOKE_TESTED, IDLE, COMMITTED, PENDING),
    SMOKE_TESTED: (SWITCHED, IDLE, COMMITTED, PENDING),
    SWITCHED: (PROBING, SWITCHED, ROLLED_BACK),
    PROBING: (COMMITTED, SWITCHED, ROLLED_BACK),
    COMMITTED: (PENDING,),
    ROLLED_BACK: (PENDING, ROLLED_BACK),
}
"""phase -> phases that may follow. A failed step before the switch returns to what was: ``committed``, or ``idle``.
``verified -> switched`` is the short way of a release that lies in its slot already (:func:`reverts`)."""

BEFORE_SWITCH = (PENDING, FETCHED, VERIFIED, STAGED, SMOKE_TESTED)
AFTER_SWITCH = (SWITCHED, PROBING)
AT_REST = (IDLE, COMMITTED, ROLLED_BACK)

HISTORY_LENGTH = 20

PULL = "pull"
"""The ``rollout_id`` of what a device pulled by itself begins with this (:func:`pulled`)."""

NOTHING = "nothing"
INSTALL = "install"
FINISH = "finish"
UNDO = "undo"
WAIT = "wait"
"""What a device outside its maintenance window does instead of ``install``."""


@dataclass(frozen=True)
class Choice:
    """What to do first, given what was found: ``action`` is one of nothing, install, finish, undo."""

    action: str
    why: str


def other(slot: str | None) -> str:
    """The slot to install into: the one that does not run."""
    return "b" if slot == "a" else "a"


def empty_state() -> dict[str, Any]:
    """The state of a device that never had a release.

    ``waiting`` names the release that waits for the maintenance window; ``current_serial`` is that of ``current.json``
    when this device last decided about a release (:func:`may_follow`).
    """
    return {
        "phase": IDLE,
        "slot": None,
        "release": None,
        "release_digest": None,
        "previous": None,
        "target": None,
        "rollout_id": None,
        "reason": None,
        "waiting": None,
        "current_serial": 0,
        "history": [],
    }


def choose(state: Mapping[str, Any], wanted_digest: str, linked_slot: str | None) -> Choice:
    """What to do on finding ``state`` when ``wanted_digest`` is to run; ``linked_slot`` is what ``current`` points to.

    After ``undo`` or ``finish`` the caller asks again, until the answer is ``nothing`` or ``install``.
    """
    phase, target = state["phase"], state["target"]
    runs = state["release_digest"] == wanted_digest and linked_slot == state["slot"]
    if phase == ROLLED_BACK and target is not None:
        return Choice(UNDO, f"the way back from {target['release']} was interrupted")
    if phase in AFTER_SWITCH:
        if target["release_digest"] == wanted_digest:
            return Choice(FINISH, f"the switch to {target['release']} was interrupted at {phase}")
        return Choice(UNDO, f"the switch to {target['release']} was interrupted at {phase} and is no longer wanted")
    if phase in BEFORE_SWITCH:
        action = UNDO if runs else INSTALL
        return Choice(
            action, f"an install of {target['release']} was interrupted at {phase}; it touched nothing that runs"
        )
    if runs:
        return Choice(NOTHING, f"{state['release']} runs")
    return Choice(INSTALL, f"{state['release'] or 'no release'} runs")


def link_is_settled(state: Mapping[str, Any]) -> bool:
    """Whether ``current`` must point to the committed slot: not between a switch and its end."""
    return state["phase"] not in AFTER_SWITCH and (state["phase"] != ROLLED_BACK or state["target"] is None)


def at_rest(state: Mapping[str, Any]) -> bool:
    """Whether no transaction is open: nothing to finish, nothing to undo."""
    return state["phase"] in AT_REST and state["target"] is None


def begin(state: Mapping[str, Any], target: Mapping[str, Any], rollout_id: str | None) -> dict[str, Any]:
    """The state with which a transaction towards ``target`` (slot, release, release_digest) starts."""
    started = {"target": dict(target), "rollout_id": rollout_id, "reason": None, "waiting": None}
    return {**enter(state, PENDING), **started}


def wait(state: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a device at rest that will install ``wanted`` (release, release_digest, window) in its window."""
    return {**state, "waiting": dict(wanted)}


def decided(state: Mapping[str, Any], current_serial: int) -> dict[str, Any]:
    """The target was found good enough to be tried while ``current.json`` had this serial; it is written down before.

    Whatever becomes of it now, a pull does not try again before the environment moves on.
    """
    return {**state, "current_serial": current_serial}


def pulled(rollout_id: str) -> str:
    """The ``rollout_id`` of what a device pulls; ``rollout_id`` made it current, and is empty where none did."""
    return f"{PULL} of {rollout_id}" if rollout_id else PULL


def is_pulled(state: Mapping[str, Any]) -> bool:
    """Whether the open transaction, if any, was begun by a pull: then a pull may go on with it."""
    return not at_rest(state) and str(state["rollout_id"]).partition(" ")[0] == PULL


def may_follow(state: Mapping[str, Any], current_serial: int) -> bool:
    """Whether a device that pulls may follow the ``current.json`` with this serial.

    Not while a transaction is open, and not back: what a rollout pushed is newer than ``current.json``, which moves
    only when the rollout has passed its last gate; what failed here is not tried for ever.
    """
    return at_rest(state) and current_serial > state["current_serial"]


def reverts(state: Mapping[str, Any], reason: str) -> dict[str, Any] | None:
    """The target of a way back to the release verified before, because the fleet says so; ``None`` without one."""
    previous = state["previous"]
    return None if previous is None else {**previous, "reverts": reason}


def enter(state: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """The state to write before the step named ``phase``.

    :raises ValueError: the table does not allow it (a mistake in this program)
    """
    if phase not in TRANSITIONS[state["phase"]]:
        raise ValueError(f"{state['phase']} -> {phase} is not a transition")
    previous, target = state["previous"], state["target"]
    if phase == STAGED and previous is not None and previous["slot"] == target["slot"]:
        previous = None  # its slot is about to be overwritten: there is no way back to it any more
    return {**state, "phase": phase, "previous": previous}


def commit(state: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The target proved itself and is what runs; what ran before is kept as ``previous``.

    A way back ends as ``rolled-back`` instead, and what was left is no ``previous``: nobody may fall back to it.
    """
    target, left = state["target"], running(state)
    reason = target.get("reverts")
    runs = {key: target[key] for key in ("slot", "release", "release_digest")}
    if reason is None:
        settled = {**enter(state, COMMITTED), **runs, "previous": left, "target": None, "reason": None}
        return _log(settled, at, "committed", runs, None)
    settled = {**state, "phase": ROLLED_BACK, **runs, "previous": None, "target": None, "reason": reason}
    return _log(settled, at, "rolled_back", left or runs, reason)


def abandon(state: Mapping[str, Any]) -> dict[str, Any]:
    """Before the switch, the target is dropped: what ran goes on running."""
    return {**enter(state, COMMITTED if state["release"] else IDLE), "target": None}


def fail(state: Mapping[str, Any], at: str, reason: str) -> dict[str, Any]:
    """A step before the switch failed: what ran goes on running, and the history says why."""
    return _log({**abandon(state), "reason": reason}, at, "failed", state["target"], reason)


def roll_back(state: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Written before the way back; ``target`` stays until it is done, which is how an interrupted one is recognised."""
    return {**enter(state, ROLLED_BACK), "reason": reason}


def rolled_back(state: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The way back is done."""
    return _log({**state, "target": None}, at, "rolled_back", state["target"], state["reason"])


def running(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """The committed release: slot, release, release_digest."""
    if not state["release"]:
        return None
    return {key: state[key] for key in ("slot", "release", "release_digest")}


def _log(
    state: Mapping[str, Any], at: str, outcome: str, target: Mapping[str, Any], reason: str | None
) -> dict[str, Any]:
    entry = {
        "at": at,
        "release": target["release"],
        "release_digest": target["release_digest"],
        "outcome": outcome,
        "reason": reason,
        "rollout_id": state["rollout_id"],
    }
    return {**state, "history": [*state["history"], entry][-HISTORY_LENGTH:]}
