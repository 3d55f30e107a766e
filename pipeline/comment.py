"""A plan as a page for people (GitLab's Markdown): what costs money or changes who may do what comes first. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from twinops.approval import text_without_secrets

from pipeline.plans import Plan

Change = Mapping[str, Any]

DONE = {"create": "created", "update": "changed", "delete": "removed"}
SIGN = {"create": "+", "update": "~", "delete": "-"}

COSTS = {
    "elastic_ip": "an address is paid for by the hour",
    "nat_gateway": "paid for by the hour and by the gigabyte",
    "vpc_endpoint": "an interface endpoint is paid for by the hour and zone",
    "instance": "a machine is paid for by the hour, its volume by the month",
    "notebook": "a notebook is paid for by the hour while it runs, its volume by the month",
    "key": "a key is paid for by the month",
    "dashboard": "a dashboard is paid for by the month",
}
COSTLY_FIELDS = {
    "billing": "how the table is paid for",
    "point_in_time_recovery": "backups are paid for by the gigabyte",
    "retention_days": "kept logs are paid for by the gigabyte and month",
    "lifecycle": "kept versions are paid for by the gigabyte and month",
    "memory_mb": "functions are paid for by memory and time",
    "schedule": "each run takes time on a paid machine",
}
PRIVILEGED = {"role", "managed_policy", "oidc_provider", "instance_profile", "security_group", "security_rules"}
PRIVILEGED_FIELDS = {
    *("policy", "policies", "permissions", "trust", "attached", "boundary", "role", "public_access_blocked"),
    *("root_access", "direct_internet_access", "public_address", "mail_to", "routes", "environment"),
}
VALUE_LENGTH_MAX = 160
PAGE_LENGTH_MAX = 900_000
"""GitLab takes a million characters."""


def costs(change: Change) -> str:
    """Why somebody who pays should look at it; empty for what costs nothing."""
    if change["action"] != "update" and change["kind"] in COSTS:
        endpoint = change["after" if change["action"] == "create" else "before"].get("endpoint_type")
        return "" if endpoint == "Gateway" else COSTS[change["kind"]]
    fields = [name for name in change["fields"] if name in COSTLY_FIELDS]
    machine = [name for name in change["fields"] if name in ("instance_type", "volume_size_gb", "running")]
    if change["action"] == "update" and machine and change["kind"] in COSTS:
        return COSTS[change["kind"]]
    return COSTLY_FIELDS[fields[0]] if fields and change["action"] == "update" else ""


def privileges(change: Change) -> tuple[str, ...]:
    """The fields by which it changes who may do what, or what can be reached from where."""
    touched = [name for name in change["fields"] if name != "tags"]
    if change["kind"] in PRIVILEGED:
        return tuple(touched)
    return tuple(name for name in touched if name in PRIVILEGED_FIELDS and not _is_empty(change, name))


def _is_empty(change: Change, name: str) -> bool:
    return not change["before"].get(name) and not change["after"].get(name)


def page(plan: Plan) -> str:
    """The whole page."""
    changes = plan["cloud"]
    parts = [
        f"## Plan for {plan['environment']}",
        summary(plan),
        *_section("Who may do what", [_privilege(change) for change in changes if privileges(change)]),
        *_section("What costs money", [f"{_title(each)}: {costs(each)}" for each in changes if costs(each)]),
        *_section("Removed", [_title(each) for each in changes if each["action"] == "delete"]),
        *_section("Created", [_title(each) for each in changes if each["action"] == "create"]),
        *_section("Changed", [_updated(each) for each in changes if each["action"] == "update"]),
        *_section("Devices", list(devices(plan))),
        *_section("Not declared any more, and left alone", [f"{it['kind']} `{it['name']}`" for it in plan["orphans"]]),
        *_section("Warnings", [_code(warning) for warning in plan["warnings"]]),
        f"Commit `{plan['commit'][:12]}`, digest of the plan `{plan['digest'][:12]}`. "
        "Only this plan is applied; where anything else would be changed, the deployment stops.",
    ]
    text = text_without_secrets("\n\n".join(parts) + "\n")
    if len(text) > PAGE_LENGTH_MAX:
        text = text[:PAGE_LENGTH_MAX] + "\n```\n</details>\n\nToo long for a comment: all of it is in the artifact.\n"
    return text


def summary(plan: Plan) -> str:
    """One line: how much of what."""
    counted = Counter(change["action"] for change in plan["cloud"])
    parts = [f"{counted[action]} {done}" for action, done in DONE.items() if counted[action]]
    rolling = sum(len(names) for names in plan["waves"].values())
    if rolling:
        parts.append(f"{plan['release']['version']} on {rolling} device{'s' if rolling > 1 else ''}")
    return f"**{', '.join(parts)}**" if parts else "**Nothing to change.**"


def devices(plan: Plan) -> Iterable[str]:
    """What happens on the devices, wave by wave."""
    for wave, names in plan["waves"].items():
        if names:
            yield f"{wave}: {plan['release']['version']} on {', '.join(f'`{name}`' for name in names)}"
    if plan["release"].get("waiting"):
        yield _code(plan["release"]["waiting"])
    if plan["unreachable"]:
        yield f"does not answer: {', '.join(f'`{name}`' for name in plan['unreachable'])}"


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"### {title}\n\n" + "\n".join(f"- {line}" for line in lines)] if lines else []


def _title(change: Change) -> str:
    return f"`{SIGN[change['action']]}` {change['kind']} `{change['name']}`"


def _updated(change: Change) -> str:
    steps = f" ({', '.join(change['steps'])})" if change.get("steps") else ""
    lines = [
        f"  - {name}: {_from_to(change['before'].get(name), change['after'].get(name))}" for name in change["fields"]
    ]
    return "\n".join([_title(change) + steps, *lines])


def _privilege(change: Change) -> str:
    """The title, and all of the values to unfold: a policy is read in full."""
    fields = privileges(change)
    shown = {
        when: {name: change[when][name] for name in fields if name in change[when]} for when in ("before", "after")
    }
    text = json.dumps({when: values for when, values in shown.items() if values}, indent=1, ensure_ascii=False)
    indented = "\n".join(f"  {line}" for line in ("````json\n" + text + "\n````").splitlines())
    names = ", ".join(fields)
    return f"{_title(change)}: {names}\n  <details><summary>before and after</summary>\n\n{indented}\n\n  </details>"


def _from_to(before: Any, after: Any) -> str:
    shown = [text_without_secrets(_value(value)) for value in (before, after)]
    return f"{shown[0]} → {shown[1] if shown[0] != shown[1] else 'another one'}"


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _code(text if len(text) <= VALUE_LENGTH_MAX else f"{text[:VALUE_LENGTH_MAX]}…")


def _code(text: str) -> str:
    """As code, whatever is in it: a value is no Markdown."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
