"""A company on one machine: a sandbox with the accounts' cloud and the devices, a GitLab, and the people's keys.

What a company writes into its clone (docs/real-account.md) is one commit: the devices' addresses in ``hosts.yml``, and
``group_vars/<env>/zz_this_machine.yml``. Playbooks, roles and all other variables are those of the repository. Three of
the sandbox's devices are staging's and three production's; both environments are in its one account.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from twinops.aws.ledger import Ledger, Rollout
from twinops.names import Names

from pipeline.local import model
from pipeline.local.model import Pipeline
from pipeline.local.runner import Project
from pipeline.tools import PipelineError, git
from sandbox.estate import Estate
from sandbox.settings import ACCOUNT, CLONE, REDSHIFT_CLUSTER, REGION, Settings

ENVIRONMENTS = ("staging", "production")
ISSUER = "https://gitlab.example.com"
PATH = "plant/twinops"
DEVICES_EACH = 3
DEVICES = DEVICES_EACH * len(ENVIRONMENTS)
PLAYBOOK_TIMEOUT_S = 900
PUSH_TIMEOUT_S = 2400

OFFLINE_KEYS = ("root-1", "root-2", "root-3", "targets-1")
ONLINE_KEYS = ("snapshot-1", "timestamp-1")
SIGNING_KEYS = {"staging": ("staging-1",), "production": ("production-1", "production-2")}
APPROVERS_KEY = "production-2"

HOOK = """\
#!/bin/sh
# What GitLab does after a push: run the pipeline. Whoever pushes sees how it goes.
cd {clone} || exit 1
exec env -i HOME="$HOME" PATH="{path}" PYTHONPATH=module_utils:. \\
  {python} -m pipeline.local {folder} receive "${{PUSHER:-somebody}}"
"""


class Indented(yaml.SafeDumper):
    """Writes lists as yamllint wants them: the pipeline checks this company's files, too."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def as_yaml(content: Any) -> str:
    return yaml.dump(content, Dumper=Indented, sort_keys=False, width=1000)


class Company:
    """The sandbox of ``settings``, its GitLab below ``<home>/gitlab``, and an engineer's clone."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._estate = Estate(settings)
        self.folder = settings.home / "gitlab"
        self.bare, self.clone = self.folder / "twinops.git", self.folder / "clone"

    @cached_property
    def project(self) -> Project:
        return Project(self.folder)

    # -- set-up ---------------------------------------------------------------------------------------------------

    def sandbox(self, *arguments: str) -> None:
        """``python -m sandbox`` for this company's sandbox."""
        self._run([sys.executable, "-m", "sandbox", *arguments], CLONE, timeout_s=600)

    @property
    def _sandbox(self) -> dict[str, str]:
        """The settings by which every program finds this sandbox, and no other."""
        return {**self.settings.environment, "SANDBOX_DEVICES": str(DEVICES)}

    def found(self, variables: Mapping[str, Any]) -> None:
        """A new GitLab project with ``variables``, this repository in it, and what docs/real-account.md asks for."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        settings = {"bare": str(self.bare), "issuer": ISSUER, "path": PATH, "prepared": str(CLONE)}
        (self.folder / "project.json").write_text(json.dumps({**settings, "variables": self._variables(variables)}))
        git(CLONE, "clone", "-q", "--bare", "--single-branch", str(CLONE), str(self.bare))
        git(self.bare, "branch", "-f", "main", git(CLONE, "rev-parse", "HEAD"))
        git(self.bare, "symbolic-ref", "HEAD", "refs/heads/main")
        git(self.folder, "clone", "-q", "--branch", "main", str(self.bare), str(self.clone))
        for name in (".venv", ".cache"):
            (self.clone / name).symlink_to((CLONE / name).resolve())
        (self.clone / ".git/info/exclude").write_text(".venv\n.cache\n")
        oidc = self.settings.home / "oidc"
        oidc.mkdir(exist_ok=True)
        (oidc / "gitlab.json").write_text(json.dumps(self.project.issuer.key_set))
        for env in ENVIRONMENTS:
            self._fill_in(env)
        self.commit("Fill in the placeholders of this company")

    def bootstrap(self, env: str) -> None:
        """What people do once: the administrator the account, the keepers their keys (docs/keys.md)."""
        self.playbook("playbooks/bootstrap.yml", env)
        self.playbook("playbooks/cloud.yml", env, "--tags", "env,notifications,storage")
        everybody = self.keys(env, "everybody")
        names = ",".join((*OFFLINE_KEYS, *ONLINE_KEYS, *SIGNING_KEYS[env]))
        self.playbook("playbooks/keys.yml", env, "-e", f"make={names}", keys=everybody)
        self.playbook("playbooks/keys.yml", env, keys=everybody)
        for name in (*ONLINE_KEYS, *SIGNING_KEYS[env]):
            owner = "approver" if name == APPROVERS_KEY else "pipeline"
            self.keys(env, owner).mkdir(parents=True, exist_ok=True)
            shutil.copy2(everybody / f"{name}.pem", self.keys(env, owner))

    def open_for_pushes(self) -> None:
        """From now on a push runs the pipeline."""
        self.commit("Public keys, and the roots of trust that devices pin")
        path = f"{CLONE / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
        hook = HOOK.format(clone=CLONE, path=path, python=CLONE / ".venv/bin/python", folder=self.folder)
        self._hook.parent.mkdir(exist_ok=True)
        self._hook.write_text(hook)
        self._hook.chmod(0o755)

    @property
    def is_open(self) -> bool:
        """Whether set-up was done to its end, so that pushes run the pipeline."""
        return self._hook.exists()

    @property
    def _hook(self) -> Path:
        return self.bare / "hooks/post-receive"

    def keys(self, env: str, owner: str) -> Path:
        """The folder of private keys of ``everybody``, of the ``pipeline`` or of the ``approver``."""
        return self.folder / f"keys/{env}/{owner}"

    def _variables(self, given: Mapping[str, Any]) -> dict[str, Any]:
        keys = {env: str(self.keys(env, "pipeline")) for env in ENVIRONMENTS}
        accounts = {f"TWINOPS_ACCOUNT_{env.upper()}": ACCOUNT for env in ENVIRONMENTS}
        endpoint = {"AWS_ENDPOINT_URL": self.settings.endpoint_url}
        return {"TWINOPS_DEPLOY": "true", **accounts, **endpoint, "TWINOPS_KEYS_DIR": keys, **given}

    def _fill_in(self, env: str) -> None:
        folder = self.clone / f"inventories/{env}"
        hosts = yaml.safe_load((folder / "hosts.yml").read_text())
        groups = hosts["all"]["children"]
        first = 1 + DEVICES_EACH * ENVIRONMENTS.index(env)
        devices = {f"{env}-device-{number:03}": number for number in range(first, first + DEVICES_EACH)}
        groups[f"{env}_devices"] = {"hosts": {name: self._device(env, number) for name, number in devices.items()}}
        for wave, name in zip(("edge_canary", "edge_early", "edge_fleet"), devices):
            groups[wave] = {"hosts": {name: None}}
        (folder / "hosts.yml").write_text(as_yaml(hosts))
        (folder / f"group_vars/{env}/zz_this_machine.yml").write_text(as_yaml(self._values(env)))

    def _device(self, env: str, number: int) -> dict[str, Any]:
        """As the sandbox's inventory describes its devices, with the role of this environment's."""
        inventory = importlib.util.spec_from_file_location("devices", CLONE / "inventories/sandbox/devices.py")
        if inventory is None or inventory.loader is None:
            raise PipelineError("inventories/sandbox/devices.py: expected the sandbox's inventory")
        module = importlib.util.module_from_spec(inventory)
        inventory.loader.exec_module(module)
        described: dict[str, Any] = module.device_variables(self.settings, number)
        url = self.settings.credentials_url(f"twinops-{env}-device")
        described["edge_aws_environment"] |= {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
        return described

    def _values(self, env: str) -> dict[str, Any]:
        """What docs/real-account.md asks for, and gates that look at seconds instead of an hour."""
        plant = {"cluster": REDSHIFT_CLUSTER, "database": "plant", "db_user": "twinops"}
        gitlab = {"url": ISSUER, "audience": ISSUER, "project": PATH, "branches": ["main"]}
        return {
            "bootstrap_aws_environment": {**self.settings.aws_environment, "AWS_REGION": REGION},
            "bootstrap_gitlab": {**gitlab, "manage_provider": env == "staging"},
            "data_access_sources": [{"name": "plant", "type": "redshift", **plant}],
            "twins_repository": str(self.bare),
            "twinops_wait_timeout_s": 300,
            "edge_release_version": "v1",
            "edge_pull_interval_s": 300,
            "edge_release_probe_s": 3,
            "edge_gate_bake_s": 120,
            "edge_gate_poll_s": 2,
        }

    # -- what people do -------------------------------------------------------------------------------------------

    def playbook(self, name: str, env: str, *arguments: str, keys: Path | None = None, check: bool = True) -> str:
        """Ansible's output, run by a person in the engineer's clone as the administrator of the account."""
        administrator = {"aws_environment": {**self.settings.aws_environment, "AWS_REGION": REGION}}
        argv = [str(CLONE / ".venv/bin/ansible-playbook"), name, "-l", env, "-e", json.dumps(administrator), *arguments]
        variables = {"TWINOPS_KEYS_DIR": str(keys)} if keys else {}
        return self._run(argv, self.clone, variables=variables, check=check)

    def edit(self, path: str, before: str, after: str) -> None:
        """Change a file of the engineer's clone."""
        file = self.clone / path
        text = file.read_text()
        if before not in text:
            raise PipelineError(f"{path}: expected {before!r}")
        file.write_text(text.replace(before, after, 1))

    def set_release(self, env: str, version: str) -> None:
        path = self.clone / f"inventories/{env}/group_vars/{env}/zz_this_machine.yml"
        values = yaml.safe_load(path.read_text())
        path.write_text(as_yaml({**values, "edge_release_version": version}))

    def commit(self, message: str) -> str:
        git(self.clone, "add", "-A")
        git(self.clone, "commit", "-q", "-m", message)
        return git(self.clone, "rev-parse", "HEAD")

    def start_push(self, user: str = "erin") -> subprocess.Popen[str]:
        """A push to main that runs its pipeline until nothing is left to do without a person."""
        environment = {**os.environ, "PUSHER": user, "GIT_CONFIG_GLOBAL": os.devnull}
        return subprocess.Popen(
            ["git", "push", "-q", "origin", "HEAD:main"],
            cwd=self.clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def push(self, user: str = "erin") -> Pipeline:
        """The pipeline of a push, as far as it goes."""
        number = self.latest + 1
        with self.start_push(user) as pushing:
            output = pushing.communicate(timeout=PUSH_TIMEOUT_S)[0]
        if self.latest < number:
            raise PipelineError(f"git push: expected a pipeline, got:\n{output}")
        return self.pipeline(number)

    def gitlab(self, *arguments: str) -> Pipeline:
        """``python -m pipeline.local``: what a person clicks in GitLab, or its clock does."""
        number = int(arguments[1]) if arguments[0] == "play" else self.latest + 1
        argv = [sys.executable, "-m", "pipeline.local", str(self.folder), *arguments]
        self._run(argv, CLONE, variables={"PYTHONPATH": "module_utils:."}, timeout_s=PUSH_TIMEOUT_S, check=False)
        return self.pipeline(number)

    @property
    def latest(self) -> int:
        counter = self.folder / "counter"
        return int(counter.read_text() or 0) if counter.exists() else 0

    def pipeline(self, number: int) -> Pipeline:
        return model.load(self.folder, number)

    def log(self, pipeline: Pipeline, job: str) -> str:
        return (self.folder / f"jobs/{pipeline.number}/{job}.log").read_text()

    def artifact(self, pipeline: Pipeline, job: str, path: str) -> Any:
        return json.loads(self._artifact(pipeline, job, path))

    def page(self, pipeline: Pipeline, job: str) -> str:
        """The status page that a job has drawn."""
        return self._artifact(pipeline, job, "public/index.html")

    def _artifact(self, pipeline: Pipeline, job: str, path: str) -> str:
        return (self.folder / f"artifacts/{pipeline.number}/{job}/{path}").read_text()

    # -- what there is --------------------------------------------------------------------------------------------

    def client(self, service: str) -> Any:
        """With the root keys of the account."""
        return self._estate.client(service)

    def rollouts(self, env: str) -> list[Rollout]:
        names = Names(env, ACCOUNT)
        if names.ledger not in self.client("dynamodb").list_tables()["TableNames"]:
            return []
        return Ledger(names.ledger, self.client("dynamodb")).rollouts()

    def rule(self, env: str, workflow: str) -> dict[str, Any] | None:
        """The rule of a workflow as EventBridge has it."""
        events = self.client("events")
        found = {rule["Name"]: rule for rule in events.list_rules()["Rules"]}
        return found.get(Names(env, ACCOUNT).rule(workflow))

    def releases(self, env: str) -> list[str]:
        """What the devices of ``env`` say that they run, asked over SSH; "none" where they have none."""
        first = 1 + DEVICES_EACH * ENVIRONMENTS.index(env)
        numbers = range(first, first + DEVICES_EACH)
        return [self._estate.version(f"device-{number:03}") or "none" for number in numbers]

    def mails(self) -> list[str]:
        """All mails, oldest first."""
        paths = sorted((self.settings.home / "mail").glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_text(errors="replace") for path in paths]

    def _run(
        self,
        argv: Sequence[str],
        folder: Path,
        *,
        variables: Mapping[str, str] | None = None,
        timeout_s: float = PLAYBOOK_TIMEOUT_S,
        check: bool = True,
    ) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CI", "GITLAB_"))}
        environment = {**kept, **self._sandbox, "ANSIBLE_NOCOLOR": "1", **(variables or {})}
        done = subprocess.run(
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise PipelineError(f"{' '.join(argv[:4])} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout
