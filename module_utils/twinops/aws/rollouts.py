"""Writes rollouts and what they did to each device into the ledger, and tells of their ends on the bus.

Repeating a write writes the same item again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from .. import rollout as rollouts
from .ledger import Deployment, Ledger, LedgerError, Rollout

RELEASE = ("release", "release_digest", "model_digest", "git_sha", "data_version")
ATTRIBUTES = ("rollout_id", *RELEASE, "started_at")


class Recorder:
    """The rollouts of one environment. With ``apply`` false nothing is written, and a missing table is an empty one."""

    def __init__(self, ledger: Ledger, *, apply: bool) -> None:
        self._ledger = ledger
        self._apply = apply

    def newest(self) -> list[Rollout]:
        """The newest rollouts, newest first."""
        try:
            return self._ledger.rollouts()
        except LedgerError as error:
            if not self._apply and "ResourceNotFoundException" in str(error):
                return []  # check mode before the cloud was deployed
            raise

    def open(self, plan: rollouts.Plan, bundle: Mapping[str, Any], now: str) -> dict[str, Any]:
        """Write the rollout of ``plan``, and end those it supersedes. Returns what later calls need to know of it."""
        earlier = {rollout["rollout_id"]: rollout for rollout in self.newest()} if plan.is_resumed else {}
        started_at = earlier[plan.rollout_id]["started_at"] if plan.rollout_id in earlier else now
        described = {
            "release": bundle["release"],
            "release_digest": bundle["release_digest"],
            "git_sha": bundle.get("git_sha", ""),
            "model_digest": bundle.get("model_sha256", ""),
            "data_version": bundle.get("data_version", ""),
            "started_at": started_at,
        }
        if self._apply:
            self._supersede(plan, now)
            if not plan.is_resumed:
                pending = dict.fromkeys(plan.devices, "pending")
                self._write(
                    {**described, "rollout_id": plan.rollout_id}, pending, state=rollouts.RUNNING, wave="canary"
                )
        return described

    def _supersede(self, plan: rollouts.Plan, now: str) -> None:
        for old in self.newest() if plan.superseded else ():
            if old["rollout_id"] in plan.superseded:
                reason = f"superseded by {plan.rollout_id}"
                self._ledger.record_rollout({**old, "state": rollouts.SUPERSEDED, "reason": reason, "ended_at": now})

    def record(
        self,
        rollout: Mapping[str, Any],
        statuses: Mapping[str, rollouts.Status | None],
        *,
        wave: str,
        state: str,
        reason: str,
        now: str,
    ) -> dict[str, str]:
        """Write each device's outcome up to ``wave``, then the rollout. Returns device -> outcome, or pending."""
        devices = {device: "pending" for wave_devices in rollout["waves"].values() for device in wave_devices}
        earlier = self._earlier(rollout) if self._apply else []
        for device in rollouts.waves_up_to(rollout["waves"], wave):
            outcome, why, at = rollouts.outcome(statuses.get(device), rollout["release_digest"], rollout["rollout_id"])
            devices[device] = outcome
            if self._apply:
                self._record_history(device, statuses.get(device) or {}, [rollout, *earlier])
                if not at:
                    self._record_silence(rollout, device, outcome, why)
        ended_at = "" if state == rollouts.RUNNING else now
        if self._apply:
            self._write(rollout, devices, state=state, wave=wave, reason=reason, ended_at=ended_at)
        return devices

    def announce(self, ended: Iterable[Rollout | None], events: Callable[[], Any]) -> list[str]:
        """Put an event for each rollout whose end nobody was told of; what kept us from that, a sentence each.

        ``events`` makes a client of EventBridge. The note in the ledger comes after the event: who dies between the two
        leaves it to be put once more by the next run; better than never.
        """
        problems = []
        for rollout in ended if self._apply else ():
            if rollout is None or "unannounced" not in rollout:
                continue
            try:
                answer = events().put_events(Entries=[rollouts.finished_event(rollout)])["Entries"][0]
            except (BotoCoreError, ClientError) as error:
                answer = {"ErrorMessage": str(error)}
            if "EventId" in answer:
                self._ledger.announced(rollout["rollout_id"], event_id=answer["EventId"])
            else:
                why = answer.get("ErrorMessage") or answer.get("ErrorCode")
                problems.append(
                    f"rollout {rollout['rollout_id']}: EventBridge was not told of its end: {why}; the next run will"
                )
        return problems

    def _earlier(self, rollout: Mapping[str, Any]) -> list[Rollout]:
        return [old for old in self.newest() if old["rollout_id"] != rollout["rollout_id"]]

    def _record_history(self, device: str, status: rollouts.Status, known: Sequence[Mapping[str, Any]]) -> None:
        """What the device tells of the time since the rollout before this one: also what another run did not record."""
        since = known[1]["started_at"] if len(known) > 1 else ""
        for entry in status.get("history") or ():
            if entry["at"] < since:
                continue
            same = (rollout for rollout in known if rollout["release_digest"] == entry["release_digest"])
            release: Mapping[str, Any] = next(same, entry)
            deployment = {
                **{name: release.get(name, "") for name in RELEASE},
                "device": device,
                "state": entry["outcome"],
                "reason": entry["reason"] or "",
                "rollout_id": entry["rollout_id"] or "",
                "valid_from": entry["at"],
            }
            self._ledger.record_deployment(cast(Deployment, deployment), at=entry["at"])

    def _record_silence(self, rollout: Mapping[str, Any], device: str, outcome: str, why: str) -> None:
        """What the device has no time for is recorded at the time of the rollout: a repeated run repeats the item."""
        deployment = {
            **{name: rollout[name] for name in RELEASE},
            "device": device,
            "state": outcome,
            "reason": why,
            "rollout_id": rollout["rollout_id"],
            "valid_from": "",
        }
        self._ledger.record_deployment(cast(Deployment, deployment), at=rollout["started_at"])

    def _write(
        self,
        rollout: Mapping[str, Any],
        devices: Mapping[str, str],
        *,
        state: str,
        wave: str,
        reason: str = "",
        ended_at: str = "",
    ) -> None:
        item = {key: rollout[key] for key in ATTRIBUTES} | {
            "state": state,
            "wave": wave,
            "reason": reason,
            "ended_at": ended_at,
            "devices": rollouts.devices_json(devices),
            **({"unannounced": True} if state in rollouts.ENDS else {}),
        }
        self._ledger.record_rollout(cast(Rollout, item))
