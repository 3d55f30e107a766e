"""The gate after a wave: pass, fail or inconclusive, from what the devices themselves say. Pure: no I/O, no clock.

It judges the whole rollout so far, not the last batch: failures are counted against a budget, each kind on its own, and
the alarms of all devices that run the new release are pooled. Few samples are *inconclusive*: hold, not pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import NormalDist
from typing import Any

from . import slots
from .errors import SpecError

PASS = "pass"  # noqa: S105
FAIL = "fail"
INCONCLUSIVE = "inconclusive"

OK = "ok"
FAILED = "failed"
UNREACHABLE = "unreachable"
TIMED_OUT = "timed_out"
NEVER_REPORTED = "never_reported"
WAITING = "waiting"
"""For its maintenance window; no trouble, but nothing is known either."""
TROUBLES = (FAILED, UNREACHABLE, TIMED_OUT, NEVER_REPORTED)


@dataclass(frozen=True)
class Policy:
    """What a rollout may do to the fleet. Shares are 0–1, budgets are percent of the devices in the rollout."""

    budget_percent: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TROUBLES, 0.0))
    min_records: int = 500
    significance: float = 0.0001
    """A healthy release is stopped about once in 1 / significance judgements; a dead model shows far below it."""
    max_alarm_change: float = 0.5
    """Largest relative change of the alarm rate: 0.5 allows 0.5 to 1.5 times the champion's."""
    min_alarm_change: float = 0.005
    """A change of the alarm rate below this many points is never an effect, however significant."""
    max_error_share: float = 0.01
    max_latency_p99_ms: float = 1000.0
    min_agreement: float = 0.95
    """In shadow mode: the share of records on which champion and challenger have to agree."""


@dataclass(frozen=True)
class Alarms:
    """Alarms among records, and whose they are, for the message."""

    records: int
    alarms: int
    of: str

    @property
    def rate(self) -> float:
        return self.alarms / self.records if self.records else 0.0

    def __str__(self) -> str:
        return f"{self.rate:.2%} ({self.alarms} of {self.records} records, {self.of})"


@dataclass(frozen=True)
class Verdict:
    """``reasons`` say with numbers why it is not a pass; ``devices`` maps each to ok, waiting or its trouble."""

    verdict: str
    reasons: tuple[str, ...]
    devices: Mapping[str, str]
    metrics: Mapping[str, Any]


def parse_policy(data: Mapping[str, Any]) -> Policy:
    """The limits as written in group_vars.

    :raises SpecError: unknown keys or values that are not numbers
    """
    known = {item.name for item in fields(Policy)}
    mistakes = [f"edge_gate_policy: {key}: unknown key, expected one of {sorted(known)}" for key in set(data) - known]
    budget = data.get("budget_percent", {})
    mistakes += [
        f"edge_gate_policy: budget_percent.{key}: unknown key, expected one of {', '.join(TROUBLES)}"
        for key in set(budget) - set(TROUBLES)
    ]
    numbers = {**{key: value for key, value in data.items() if key != "budget_percent"}, **budget}
    mistakes += [
        f"edge_gate_policy: {key}: expected a number of at least 0, got {value!r}"
        for key, value in numbers.items()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0
    ]
    if mistakes:
        raise SpecError(sorted(mistakes))
    whole = {**dict.fromkeys(TROUBLES, 0.0), **budget}
    return Policy(**{**data, "budget_percent": whole})


def explain(verdict: Verdict, release: str, wave: str) -> str:
    """The verdict in one sentence."""
    reasons = "; ".join(verdict.reasons)
    if verdict.verdict == FAIL:
        return f"{release} stopped at wave {wave}: {reasons}"
    if verdict.verdict == INCONCLUSIVE:
        return f"{release} held at wave {wave}: {reasons}"
    return f"{release} passed wave {wave}: {len(verdict.devices)} devices, {verdict.metrics['records']} records"


def classify(status: Mapping[str, Any] | None, release_digest: str) -> tuple[str, str]:
    """(ok, waiting or a trouble, why) of one device that should run ``release_digest``.

    ``status`` is its ``device_status``; ``{"unreachable": true}`` without a connection, ``None`` if nobody asked it.
    """
    if status is None:
        return NEVER_REPORTED, "no status was read"
    if status.get("unreachable"):
        return UNREACHABLE, "no connection"
    if slots.at_rest(status) and status["release_digest"] == release_digest:
        return _classify_health(status.get("health"), release_digest)
    return _classify_other(status, release_digest)


def _classify_other(status: Mapping[str, Any], release_digest: str) -> tuple[str, str]:
    """Of a device that answers and does not run ``release_digest``, or is not done with it."""
    waiting = status.get("waiting") or {}
    if slots.at_rest(status) and waiting.get("release_digest") == release_digest:
        return WAITING, f"waits for its maintenance window, {waiting['window']} UTC; its clock says {status['clock']}"
    if not status.get("release") and not status.get("history"):
        return NEVER_REPORTED, f"no release ever ran there ({status.get('phase') or 'no state'})"
    if not slots.at_rest(status):
        return TIMED_OUT, f"still at phase {status['phase']}"
    return FAILED, _why_not_installed(status, release_digest)


def _classify_health(health: Mapping[str, Any] | None, release_digest: str) -> tuple[str, str]:
    if not health:
        return TIMED_OUT, "the service gives no answer"
    if health["status"] == "starting":
        return TIMED_OUT, "the service is still starting"
    if health["status"] != "ok" or health["release_digest"] != release_digest:
        return FAILED, f"health: {health['status']} ({health.get('reason') or 'no reason'})"
    return OK, ""


def _why_not_installed(status: Mapping[str, Any], release_digest: str) -> str:
    tries = [entry for entry in status.get("history") or () if entry["release_digest"] == release_digest]
    if tries and tries[-1]["outcome"] != "committed":
        return f"{tries[-1]['outcome']}: {tries[-1]['reason']}"
    return f"runs {status.get('release')}"


def judge(
    *,
    wave: Sequence[str],
    rollout: Sequence[str],
    statuses: Mapping[str, Mapping[str, Any] | None],
    release_digest: str,
    fleet_size: int,
    baseline: Alarms | None,
    policy: Policy,
    evaluation: Mapping[str, Any] | None = None,
    since: str = "",
    is_retry: bool = False,
) -> Verdict:
    """Judge the rollout after ``wave``. ``rollout``: the devices of all waves so far; ``baseline``: the alarms before.

    Without ``baseline`` (nothing new is tried: devices catch up, or an operator rolls back) only health is judged.
    ``evaluation``: what ``model_evaluation`` said last about the model (``twinops.aws.verdicts``). It sees labels,
    which the gate does not: its *block* stops the rollout, whenever it was said, and its *hold* holds the rollout if it
    was said ``since`` this rollout began; *promote* is no reason to overlook anything else. Where this ``is_retry`` of
    a blocked release, a *block* from before it began is what was insisted against.
    """
    judged = {device: classify(statuses.get(device), release_digest) for device in rollout}
    devices = {device: kind for device, (kind, _) in judged.items()}
    health = {device: (statuses[device] or {})["health"] for device in rollout if devices[device] == OK}
    metrics, failures, doubts = _judge_metrics(health, baseline, policy)
    failures = [*_over_budget(judged, fleet_size, policy), *failures]
    if evaluation and baseline:
        said = f"model_evaluation says {evaluation['verdict']}: {_explain(evaluation)}"
        is_of_now = evaluation["at"] >= since
        if evaluation["verdict"] == "block" and (is_of_now or not is_retry):
            failures.append(said)
        elif evaluation["verdict"] == "hold" and is_of_now:
            doubts.append(said)
    waits = [f"{device} {why}" for device, (kind, why) in judged.items() if kind == WAITING]
    if waits:
        doubts.append(f"{len(waits)} of {fleet_size} devices wait: {'; '.join(waits[:5])}")
    elif wave and not any(devices[device] == OK for device in wave):
        whys = "; ".join(f"{device}: {judged[device][1]}" for device in wave)
        doubts.append(f"no device of this wave runs the release: {whys}")
    verdict = FAIL if failures else INCONCLUSIVE if doubts else PASS
    return Verdict(verdict, tuple(failures or doubts), devices, metrics)


def _explain(evaluation: Mapping[str, Any]) -> str:
    reasons = "; ".join(map(str, evaluation["reasons"])) or "no reason given"
    compared = f"against {evaluation['champion']} on {evaluation['n']} labelled records"
    return f"{reasons} ({compared}; run {evaluation['run_id']})"


def _over_budget(judged: Mapping[str, tuple[str, str]], fleet_size: int, policy: Policy) -> list[str]:
    over = []
    for trouble in TROUBLES:
        whys = [f"{device}: {why}" for device, (kind, why) in judged.items() if kind == trouble]
        allowed = math.floor(fleet_size * policy.budget_percent.get(trouble, 0) / 100)
        if len(whys) > allowed:
            name = trouble.replace("_", " ")
            over.append(f"{len(whys)} of {fleet_size} devices {name}, {allowed} allowed ({'; '.join(whys[:5])})")
    return over


def _judge_metrics(
    health: Mapping[str, Mapping[str, Any]], baseline: Alarms | None, policy: Policy
) -> tuple[dict[str, Any], list[str], list[str]]:
    """(metrics, failures, doubts) of the devices that run the new release, from their health answers."""
    records, errors, hits = (sum(int(a[key]) for a in health.values()) for key in ("records", "errors", "alarms"))
    alarms = Alarms(records, hits, f"on {name_some(list(health))}")
    latencies = sorted(answer["latency_ms"]["p99"] or 0.0 for answer in health.values())
    latency_ms = latencies[len(latencies) // 2] if latencies else 0.0
    metrics: dict[str, Any] = {
        "records": records,
        "alarm_rate": round(alarms.rate, 6),
        "error_share": round(errors / records, 6) if records else 0.0,
        "latency_p99_ms": latency_ms,
    }
    if baseline is None:
        return metrics, [], []
    metrics["baseline_alarm_rate"] = round(baseline.rate, 6)
    if records < policy.min_records:
        doubt = f"{records} records {alarms.of}, {policy.min_records} needed to judge the alarms"
        return metrics, [], [doubt]
    failures, doubts = _judge_shadow(health, policy)
    if errors > policy.max_error_share * records:
        failures.append(f"error share {errors / records:.2%}, {policy.max_error_share:.2%} allowed")
    if latency_ms > policy.max_latency_p99_ms:
        failures.append(f"latency p99 {latency_ms:.0f} ms (median device), {policy.max_latency_p99_ms:.0f} ms allowed")
    metrics["p_value"] = p_value = fisher_exact(alarms.alarms, records, baseline.alarms, baseline.records)
    change = abs(alarms.rate - baseline.rate)
    if p_value < policy.significance and change > max(policy.min_alarm_change, policy.max_alarm_change * baseline.rate):
        failures.append(
            f"alarm rate {alarms} against {baseline}; p = {p_value:.1e}, "
            f"a change of {policy.max_alarm_change:.0%} is allowed"
        )
    return metrics | _shadow_metrics(health), failures, doubts


def _shadow_metrics(health: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What champion and challenger decided on the same records, over all devices; empty without a challenger."""
    shadows = [answer["shadow"] for answer in health.values() if answer.get("shadow")]
    if not shadows:
        return {}
    records, agreed, alarms = (sum(int(shadow[key]) for shadow in shadows) for key in ("records", "agreed", "alarms"))
    return {
        "shadow_records": records,
        "shadow_agreement": round(agreed / records, 6) if records else None,
        "shadow_alarm_rate": round(alarms / records, 6) if records else None,
    }


def _judge_shadow(health: Mapping[str, Mapping[str, Any]], policy: Policy) -> tuple[list[str], list[str]]:
    """(failures, doubts) of the challenger, where there is one.

    It fails where the agreement is too low even at the upper end of what chance allows, or where it does not run.
    """
    shadows = {device: answer["shadow"] for device, answer in health.items() if answer.get("shadow")}
    if not shadows:
        return [], []
    failures = [
        f"challenger {shadow['version']} failed on {device}: {shadow['reason']}"
        for device, shadow in shadows.items()
        if shadow["status"] == "failed"
    ]
    records, agreed = (sum(int(shadow[key]) for shadow in shadows.values()) for key in ("records", "agreed"))
    version = next(iter(shadows.values()))["version"]
    if records < policy.min_records:
        return failures[:5], [
            f"challenger {version} has decided {records} records, {policy.min_records} needed to judge it"
        ]
    share = (
        f"challenger {version} agrees on {agreed / records:.2%} of {records} records, {policy.min_agreement:.2%} needed"
    )
    if wilson_upper(agreed, records, policy.significance) < policy.min_agreement:
        return [*failures[:5], share], []
    return failures[:5], [
        f"{share}; too few records to tell it from chance"
    ] if agreed < policy.min_agreement * records else []


def wilson_upper(hits: int, draws: int, significance: float) -> float:
    """Upper end of Wilson's interval: a true share above it would show as few hits about once in 1 / significance."""
    z = NormalDist().inv_cdf(1 - significance)
    share, weight = hits / draws, z * z / draws
    centre = share + weight / 2
    spread = z * math.sqrt(share * (1 - share) / draws + weight / (4 * draws))
    return min(1.0, (centre + spread) / (1 + weight))


def name_some(devices: Sequence[str], limit: int = 3) -> str:
    """Device names for a message, the first few of many."""
    more = f" and {len(devices) - limit} more" if len(devices) > limit else ""
    return (", ".join(devices[:limit]) or "no device") + more


def fisher_exact(hits: int, draws: int, other_hits: int, other_draws: int) -> float:
    """Two-sided p-value of Fisher's exact test: how likely a table as unlikely as this one is, if nothing differs.

    A fleet that has run for a day has thousands of millions of records, so not every table is looked at: they get ever
    less likely away from the likeliest one, and on each side only those that count are summed.
    """
    total_hits = hits + other_hits
    lowest, highest = max(0, total_hits - other_draws), min(draws, total_hits)
    whole = _log_choose(draws + other_draws, total_hits)

    def log_probability(count: int) -> float:
        return _log_choose(draws, count) + _log_choose(other_draws, total_hits - count) - whole

    limit = log_probability(hits) + 1e-7  # equally likely tables differ in their last bits
    likeliest = (draws + 1) * (total_hits + 1) // (draws + other_draws + 2)
    sides = (range(likeliest, lowest - 1, -1), range(likeliest + 1, highest + 1))
    return min(1.0, math.fsum(_tail(side, log_probability, limit) for side in sides))


def _tail(side: range, log_probability: Callable[[int], float], limit: float) -> float:
    """The sum of the probabilities on ``side``, which fall along it, from the first that is at most ``limit`` (log)."""
    first, last = 0, len(side)
    while first < last:
        middle = (first + last) // 2
        if log_probability(side[middle]) <= limit:
            last = middle
        else:
            first = middle + 1
    total = 0.0
    for count in side[first:]:
        term = math.exp(log_probability(count))
        total += term
        if term <= total * 1e-17:
            break
    return total


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
