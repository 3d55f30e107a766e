"""A sandbox with everything deployed, from a clone of this work tree that has a few workflows more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinops.aws.ledger import Ledger
from twinops.names import Names
from twinops.runs import FINISHED, Run

from sandbox.settings import ACCOUNT, CLONE, REGION, load
from tests.sandbox.support import OwnSandbox, eventually

NAMES = Names("sandbox", ACCOUNT)
RUN_WITHIN_S = 90

_GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]


class Dispatching:
    """A sandbox with everything deployed, and what a test wants to know about a run."""

    def __init__(self, own: OwnSandbox, repository: Path) -> None:
        self.own = own
        self.repository = repository
        self.ledger = Ledger(NAMES.ledger, own.client("dynamodb"))
        self.home = own.settings.home / "notebooks" / NAMES.twin("deployment")

    def playbook(
        self, name: str, *variables: str, ok: bool = True, acting_as: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook to its end, with the account's root keys or those of one of our roles."""
        process = self.start_playbook(name, *variables, acting_as=acting_as)
        output, _ = process.communicate(timeout=400)
        assert (process.returncode == 0) == ok, output[-6000:]
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def start_playbook(self, name: str, *variables: str, acting_as: str = "") -> subprocess.Popen[str]:
        """Start a playbook as a terminal does: in a process group of its own. Standard error is in its output.

        What it prints comes at once, as on a terminal; into a pipe Python would keep it back.
        """
        rights = [json.dumps({"aws_environment": self._keys_of(acting_as)})] if acting_as else []
        return subprocess.Popen(
            [Path(sys.executable).with_name("ansible-playbook"), f"playbooks/{name}.yml", "-l", "sandbox"]
            + [word for variable in (*variables, *rights) for word in ("-e", variable)],
            env={**self.own.environment, "PYTHONUNBUFFERED": "1"},
            cwd=CLONE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def _keys_of(self, purpose: str) -> dict[str, str]:
        arn = f"arn:aws:iam::{ACCOUNT}:role/{NAMES.role(purpose)}"
        keys = self.own.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.own.settings.endpoint_url,
        }

    @contextmanager
    def at_work(self, mark: str) -> Iterator[str]:
        """A probe that is at work until the body ends, however slow this machine is; its event."""
        hold = self.home / f"hold-{mark}"
        hold.touch()
        try:
            payload = {**self.payload(mark=mark), "timeout_s": 120}
            assert self.invoke("dispatch", payload)["outcome"] == "started"
            eventually(lambda: self.effects(mark))
            yield payload["event_id"]
        finally:
            hold.unlink()

    def queued(self, event_id: str) -> Run:
        """The run of an event, once it waits for its turn."""
        run: Run = eventually(
            lambda: found if (found := self.run_of(event_id)) and found["state"] == "QUEUED" else None
        )
        return run

    def put_event(self, what: str = "Probe", **parameters: Any) -> str:
        """Request a probe (or a notebook); the event's id."""
        entry = {"Source": "twinops.tests", "DetailType": f"{what} requested"}
        detail = json.dumps({"parameters": parameters})
        return str(self.own.client("events").put_events(Entries=[{**entry, "Detail": detail}])["Entries"][0]["EventId"])

    def payload(self, **parameters: Any) -> dict[str, Any]:
        """What the rule makes of an event."""
        head = subprocess.run(
            ["git", "-C", self.repository, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
        )
        return {
            "workflow": "probe",
            "event_id": str(uuid.uuid4()),
            "time": "2026-11-22T05:00:00Z",
            "detail-type": "Probe requested",
            "detail": {"parameters": parameters},
            "git_sha": head.stdout.strip(),
            "timeout_s": 6,
            "idempotent": False,
            "concurrency": "queue",
        }

    def run_of(self, event_id: str) -> Run | None:
        return next((run for run in self.ledger.runs(limit=30) if run["event_id"] == event_id), None)

    def end_of(self, event_id: str) -> Run:
        def ended() -> Run | None:
            run = self.run_of(event_id)
            return run if run and run["state"] in FINISHED else None

        run: Run = eventually(ended, RUN_WITHIN_S)
        return run

    def effects(self, mark: str) -> int:
        file = self.home / f"effect-{mark}"
        return len(file.read_text()) if file.exists() else 0

    def mails_about(self, run: Run) -> list[str]:
        """Mails that name a run; waits for the first."""
        return list(eventually(lambda: [mail for mail in self.own.mails() if run["run_id"] in mail]))

    def invoke(self, function: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Call a function and wait for its answer."""
        answer = self.own.client("lambda").invoke(
            FunctionName=NAMES.function(function), Payload=json.dumps(payload).encode()
        )
        body: dict[str, Any] = json.loads(answer["Payload"].read())
        return {**body, "failed": "FunctionError" in answer}


def make_repository(
    repository: Path, workflows: Mapping[str, Mapping[str, str]], files: Mapping[str, str] | None = None
) -> None:
    """This work tree as it is, committed or not, with more workflows: name -> file -> content; and more files."""
    subprocess.run([*_GIT, "clone", "-q", CLONE, repository], check=True)
    for folder in ("workflows", "module_utils", "dispatch"):
        shutil.rmtree(repository / folder)
        shutil.copytree(CLONE / folder, repository / folder, ignore=shutil.ignore_patterns("__pycache__"))
    added = {f"workflows/{name}/{file}": text for name, parts in workflows.items() for file, text in parts.items()}
    for path, text in {**added, **(files or {})}.items():
        (repository / path).parent.mkdir(exist_ok=True)
        (repository / path).write_text(text)
    subprocess.run([*_GIT, "-C", repository, "add", "."], check=True)
    subprocess.run([*_GIT, "-C", repository, "commit", "-q", "-m", "Add workflows for tests"], check=True)


def deploy(own: OwnSandbox, repository: Path) -> Dispatching:
    """Bring the sandbox up and deploy its cloud from the repository."""
    own.environment["SANDBOX_DEVICES"] = "3"  # one for each wave, without which no playbook runs
    own.settings = load(own.environment)
    own.json("up")
    made = Dispatching(own, repository)
    made.playbook("cloud", f"twins_repository={repository}", f"twinops_repository={repository}")
    return made
