"""Writes rollouts and what they did to each device into the ledger. Repeating a write writes the same item again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .. import rollout as rollouts
from .ledger import Deployment, Ledger, LedgerError, Rollout

ATTRIBUTES = ("rollout_id", "release", "release_digest", "git_sha", "started_at")


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
            "model_sha256": bundle.get("model_sha256", ""),
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
        for device in rollouts.waves_up_to(rollout["waves"], wave):
            outcome, why, at = rollouts.outcome(statuses.get(device), rollout["release_digest"], rollout["rollout_id"])
            devices[device] = outcome
            if self._apply:
                self._record_device(rollout, device, outcome, why, at)
        ended_at = "" if state == rollouts.RUNNING else now
        if self._apply:
            self._write(rollout, devices, state=state, wave=wave, reason=reason, ended_at=ended_at)
        return devices

    def _record_device(self, rollout: Mapping[str, Any], device: str, outcome: str, why: str, at: str) -> None:
        deployment: Deployment = {
            "device": device,
            "release": rollout["release"],
            "release_digest": rollout["release_digest"],
            "model_digest": rollout["model_sha256"],
            "git_sha": rollout["git_sha"],
            "state": outcome,
            "reason": why,
            "rollout_id": rollout["rollout_id"],
            "valid_from": at if outcome == "committed" else "",
        }
        # Without a time of the device, that of the rollout: a repeated run then writes the same item, not another one.
        self._ledger.record_deployment(deployment, at=at or rollout["started_at"])

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
        }
        self._ledger.record_rollout(cast(Rollout, item))
