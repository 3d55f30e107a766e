"""Who is compared: the programs, their environments, and what the resources are called that both of them make."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml

from sandbox.settings import ACCOUNT, CLONE, REGION, Settings
from tests.bench.report import CHANGED_CHECK, CHECKS, PEER, TEARDOWN, TWINOPS
from tests.bench.workload import Workload, name

PARTS = ("env", "network", "storage", "notifications", "observability", "workflows")
"""What both sides make: not twins, for which the collections have no module, and no host."""

PEER_FOLDER = CLONE / "tests/bench/peer"
PEER_PYTHON = CLONE / ".cache/envs/peer"
TASK = re.compile(r"TASK \[(?P<title>.*)\] \**$")
CHANGED = re.compile(r"changed: \[\S+\](?: => \(item=(?P<item>.*)\))?")
RESULT = re.compile(r"^(?:changed|ok): \[\S+\] => \n((?:    .*\n)+)", re.MULTILINE)

SITE_PACKAGES = PEER_PYTHON / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"  # set-up's Python
MITOGEN_STRATEGIES = SITE_PACKAGES / "ansible_mitogen/plugins/strategy"


@dataclass(frozen=True)
class Command:
    """A program that can be started as it stands."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path


@dataclass(frozen=True)
class Names:
    """What a contender calls the resources that are changed behind its back."""

    rule: str
    other_rule: str
    log_group: str
    alarms: str  # what their names begin with
    role: str
    bucket: str
    function: str
    queue: str
    topic: str
    table: str


class Contender(Protocol):
    """Somebody who keeps an environment as declared."""

    @property
    def name(self) -> str: ...
    @property
    def names(self) -> Names: ...

    def command(self, phase: str, workload: Workload, settings: Settings) -> Command: ...

    def announced(self, output: str) -> set[str]:
        """What a run says it changes: ``kind: fields``, or ``task: item``."""


@dataclass(frozen=True)
class Peer:
    """amazon.aws and community.aws, in one of two designs and with one of several ways to start modules."""

    name: str
    design: str = "function_per_workflow"
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, phase: str, workload: Workload, settings: Settings) -> Command:
        state = "absent" if phase == TEARDOWN else "present"
        argv = [str(PEER_PYTHON / "bin/ansible-playbook"), "site.yml", "-e", f"@{workload.peer_variables}"]
        argv += ["-e", f"design={self.design}", "-e", f"state={state}", *_check_options(phase)]
        ansible = {"ANSIBLE_HOME": str(settings.home / "ansible")}
        return Command(argv, {**_environment(settings, PEER_PYTHON), **ansible, **self.environment}, PEER_FOLDER)

    def announced(self, output: str) -> set[str]:
        found, task = set(), ""
        for line in output.splitlines():
            heading, changed = TASK.match(line), CHANGED.match(line)
            task = heading["title"] if heading else task
            if changed:
                found.add(f"{task}: {changed['item'] or ''}")
        return found

    @property
    def names(self) -> Names:
        prefix = "peer-sandbox"
        of_workflow = self.design == "function_per_workflow"
        return Names(
            rule=f"{prefix}-{name(1)}",
            other_rule=f"{prefix}-{name(2)}",
            log_group=f"/aws/lambda/{prefix}-{name(1)}" if of_workflow else f"/peer/sandbox/workflows/{name(1)}",
            alarms=f"{prefix}-{name(1)}",
            role=f"{prefix}-device",
            bucket=f"{prefix}-data-{ACCOUNT}",
            function=f"{prefix}-{name(1)}" if of_workflow else f"{prefix}-dispatch",
            queue=f"{prefix}-dead-letters",
            topic=f"{prefix}-workflows",
            table=f"{prefix}-ledger",
        )


@dataclass(frozen=True)
class Twinops:
    """The work tree that this file lies in."""

    name: str = TWINOPS

    def command(self, phase: str, workload: Workload, settings: Settings) -> Command:
        buckets = [{"purpose": "data", "noncurrent_days": 365}]
        variables = {"twinops_repository": str(workload.repository), "storage_buckets": buckets, "with_data": True}
        playbook = "playbooks/teardown.yml" if phase == TEARDOWN else "playbooks/cloud.yml"
        argv = [str(CLONE / ".venv/bin/ansible-playbook"), playbook, "-l", "sandbox"]
        argv += ["-e", json.dumps(variables), *_check_options(phase)]
        if phase != TEARDOWN:
            argv += ["--tags", ",".join(PARTS)]
        sandbox = {**settings.environment, "SANDBOX_DEVICES": "3"}
        return Command(argv, {**_environment(settings, CLONE / ".venv"), **sandbox}, CLONE)

    def announced(self, output: str) -> set[str]:
        results = [yaml.safe_load(result) for result in RESULT.findall(output)]
        changes = [change for result in results for change in result.get("changes", [])]
        return {f"{change['kind']}: {', '.join(change['fields'])}" for change in changes}

    @property
    def names(self) -> Names:
        prefix = "twinops-sandbox"
        return Names(
            rule=f"{prefix}-{name(1)}",
            other_rule=f"{prefix}-{name(2)}",
            log_group=f"/twinops/sandbox/workflows/{name(1)}",
            alarms=f"{prefix}-failed-{name(1)}",
            role=f"{prefix}-device",
            bucket=f"{prefix}-data-{ACCOUNT}",
            function=f"{prefix}-dispatch",
            queue=f"{prefix}-dead-letters",
            topic=f"{prefix}-workflows",
            table=f"{prefix}-ledger",
        )


CONTENDERS: Mapping[str, Contender] = {
    contender.name: contender
    for contender in (
        Peer(PEER),
        Peer("peer-pipelined", environment={"ANSIBLE_PIPELINING": "true"}),
        Peer(
            "peer-mitogen",
            environment={"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(MITOGEN_STRATEGIES)},
        ),
        Peer("peer-shared", design="shared_function"),
        Twinops(),
    )
}


def _check_options(phase: str) -> list[str]:
    verbose = ["-v"] if phase == CHANGED_CHECK else []  # the result says which fields of which resource differ
    return ["--check", "--diff", *verbose] if phase in CHECKS else []


def _environment(settings: Settings, python: Path) -> dict[str, str]:
    """The caller's environment without its AWS account and its Ansible settings."""
    kept = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith(("AWS_", "ANSIBLE_", "SANDBOX_", "PYTHON"))
    }
    path = f"{python}/bin{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, **settings.aws_environment, "AWS_REGION": REGION, "PATH": path, "ANSIBLE_NOCOLOR": "1"}
