"""Checks on what a playbook is about to touch: one environment, complete in its inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .errors import SpecError
from .names import ENVIRONMENTS

WAVES = ("edge_canary", "edge_early", "edge_fleet")


def check_target(targeted: Mapping[str, str], inventory: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> str:
    """The one environment that is targeted.

    ``targeted``: host -> ``twinops_env`` (empty where not set) of the hosts left by ``--limit``; ``inventory``: the
    same of all hosts; ``groups``: group -> hosts. Raises SpecError with every mistake found.
    """
    environments = sorted({env for env in targeted.values() if env})
    if len(environments) > 1:
        raise SpecError(
            [
                f"--limit: expected hosts of one environment, got {len(environments)} ({', '.join(environments)}). "
                f"Name one: ansible-playbook site.yml -l {environments[-1]}"
            ]
        )
    mistakes = [
        f"inventory: {host}: expected the variable twinops_env ({', '.join(ENVIRONMENTS)}), got none"
        for host, env in sorted(targeted.items())
        if not env
    ]
    if not mistakes:
        (env,) = environments
        mistakes += inventory_mistakes(env, inventory, groups)
    if mistakes:
        raise SpecError(mistakes)
    return environments[0]


def inventory_mistakes(env: str, inventory: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What is missing or double in the inventory of ``env``."""
    where = f"inventories/{env}"
    members = {name: {host for host in hosts if inventory.get(host) == env} for name, hosts in groups.items()}
    if env not in ENVIRONMENTS:
        yield f"{where}: twinops_env: expected one of {', '.join(ENVIRONMENTS)}, got {env}"
    control_hosts = sorted(members.get(f"{env}_cloud", set()))
    if len(control_hosts) != 1:
        yield f"{where}: group {env}_cloud: expected exactly one control host, got {', '.join(control_hosts) or 'none'}"
    for wave in WAVES:
        if not members.get(wave):
            yield f"{where}: group {wave}: expected at least one device, got none (a rollout needs all three waves)"
    for device in sorted(members.get(f"{env}_devices", set())):
        waves = [wave for wave in WAVES if device in members.get(wave, set())]
        if len(waves) != 1:
            yield f"{where}: {device}: expected in exactly one of {', '.join(WAVES)}, got {', '.join(waves) or 'none'}"
