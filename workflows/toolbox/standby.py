"""Keeps a runner standing by: ``python -m toolbox.standby``, by ``bin/prepare`` and by a run that found none.

A run is acknowledged when its runner has taken it, and a Python that has to load botocore first needs a third of a
second for that (docs/adr/0009-runners-stand-by.md). Here one process, the *keeper*, has loaded everything. It forks a
runner, which makes its clients and waits; when ``bin/run-once`` asks for a run (:mod:`toolbox.runner.handover`), the
keeper passes the request on to it, and forks the next. A runner carries out one run, as ``python -m toolbox.run_once``
does, with the environment of who asked for it, and ends.

The keeper holds no credentials and does nothing for a run: it may be killed at any time. It ends by itself when another
one has taken its place (that of the commit that ran last has it), after a day, and when a run comes with other settings
for AWS than its own. Whoever finds nobody standing by starts a runner as if there were no such thing.
"""

from __future__ import annotations

import gc
import json
import os
import re
import selectors
import signal
import socket
import sys
import time
import traceback
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from twinops import runs

from .runner import handover
from .runner.handover import HandoverError, Pipe, Request
from .runner.housekeeping import in_use
from .runner.locks import alone

LONGEST_LIFE_S = 24 * 3600
TICK_S = 5
"""How often the keeper looks whether it is still wanted."""
NEXT_RUNNER_AFTER_S = 0.5
"""When the next runner is made after one has got a run, if nobody asks for it: the script is being started then."""
MOST_FAILURES = 3
"""So many runners, one after another, could not get ready: there is no use in going on."""
LONGEST_LOG_BYTES = 1_000_000

CLIENTS = ("dynamodb", "logs")
"""Made before a run comes."""
LATER_CLIENTS = ("s3", "sns", "cloudwatch")
"""Their descriptions are loaded before, which takes most of the time that a client takes."""

_READY = b"ready"
_OTHER_SETTINGS = b"other settings"
_MESSAGE_BYTES = 1024
_COMMIT = re.compile(r"[0-9a-f]{40}")


def main() -> int:
    """Keep a runner standing by, unless somebody does so already, or is about to."""
    home, code = Path(os.environ["TWINOPS_HOME"]), Path(__file__).absolute().parents[2]
    if not _COMMIT.fullmatch(code.name):
        print(f"standby: expected the checkout of a commit, got {code}", file=sys.stderr)
        return 2
    _leave_the_caller(home)
    with ExitStack() as held:
        with alone(home / "lock" / "standby") as is_alone:
            if not is_alone or handover.is_read(home, code.name):
                return 0
            for folder in (code, home / "envs" / Path(sys.prefix).name):
                held.enter_context(in_use(folder))
            keeper = Keeper(home, code.name)
        keeper.serve()
    return 0


@dataclass
class Runner:
    """A forked runner, as its keeper sees it."""

    connection: socket.socket
    is_ready: bool = False


class Keeper:
    """Forks runners, and passes requests on to them. It has one thread and no credentials."""

    def __init__(self, home: Path, commit: str) -> None:
        self._home = home
        self._commit = commit
        self._settings = _load(home)
        self._ends_at = time.monotonic() + LONGEST_LIFE_S
        self._pipe = Pipe(home, commit)
        self._selector = selectors.PollSelector()  # not epoll, whose state forked processes share
        self._selector.register(self._pipe.descriptor, selectors.EVENT_READ)
        self._requests: deque[Request] = deque()
        self._next: Runner | None = None
        self._next_due_at = 0.0
        self._failures = 0
        self._is_told_to_end = False

    def serve(self) -> None:
        """Until it is not wanted any more. Requests that nobody has taken by then are seen to by who waits for them."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a runner ended: the ledger says it
        _say(f"a runner with the code of {self._commit} stands by")
        try:
            while not (reason := self._reason_to_end()):
                self._pipe.remove_unseen()
                if self._next is None and (self._requests or time.monotonic() >= self._next_due_at):
                    self._fork()
                for key, _ in self._selector.select(self._pause_s()):
                    if key.data is None:
                        self._requests += self._pipe.read()
                    else:
                        self._listen_to(key.data)
                self._hand_over()
            _say(f"nobody stands by with the code of {self._commit} any more: {reason}")
        finally:
            self._pipe.withdraw()

    def _reason_to_end(self) -> str:
        reasons = {
            "a run came with other settings for AWS": self._is_told_to_end,
            f"{MOST_FAILURES} runners could not get ready": self._failures >= MOST_FAILURES,
            "it is a day old": time.monotonic() > self._ends_at,
            "another one has its place": not self._pipe.is_in_place(),
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def _pause_s(self) -> float:
        return TICK_S if self._next else max(0.0, min(TICK_S, self._next_due_at - time.monotonic()))

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            ours.close()
            self._let_go()
            _run_and_exit(self._home, self._commit, self._settings, theirs)
        theirs.close()
        self._next = Runner(ours)
        self._selector.register(ours, selectors.EVENT_READ, self._next)

    def _let_go(self) -> None:
        """In a forked process: close what only the keeper may have, above all its lock on the pipe."""
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)

    def _listen_to(self, runner: Runner) -> None:
        said = b""
        with suppress(ConnectionError):
            said = runner.connection.recv(_MESSAGE_BYTES)
        if said == _READY:
            runner.is_ready = True
            self._failures = 0
            return
        if said == _OTHER_SETTINGS:
            self._is_told_to_end = True
        self._forget(runner)

    def _forget(self, runner: Runner) -> None:
        """It has ended, or has taken a run."""
        self._selector.unregister(runner.connection)
        runner.connection.close()
        if runner is self._next:
            self._next = None
            self._next_due_at = time.monotonic() + NEXT_RUNNER_AFTER_S
            self._failures += not runner.is_ready

    def _hand_over(self) -> None:
        if self._requests and self._next and self._next.is_ready:
            request = self._requests[0]
            try:
                self._next.connection.send(f"{request.run_id} {request.epoch} {request.caller}".encode())
            except OSError:
                self._forget(self._next)
                return
            self._requests.popleft()
            self._next, self._next_due_at = None, time.monotonic() + NEXT_RUNNER_AFTER_S


def _run_and_exit(home: Path, commit: str, settings: dict[str, str], keeper: socket.socket) -> None:
    """The life of a runner. It never returns into the keeper's code, whose files and locks are not its own."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = _run(home, commit, settings, keeper)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _run(home: Path, commit: str, settings: dict[str, str], keeper: socket.socket) -> int:
    """Get ready, wait for a request, and carry it out."""
    from . import run_once  # noqa: PLC0415  (the keeper has loaded it)

    _make_clients()
    keeper.send(_READY)
    asked = keeper.recv(_MESSAGE_BYTES).decode().split()
    if not asked:
        return 0  # the keeper has ended
    request = Request(asked[0], int(asked[1]), int(asked[2]))
    environment = handover.environment_of_process(request.caller)
    if handover.for_aws({"AWS_DEFAULT_REGION": os.environ["AWS_DEFAULT_REGION"], **environment}) != settings:
        keeper.send(_OTHER_SETTINGS)
        return 0
    keeper.close()
    _become(environment, home / "log" / "run-once.log")
    request.accept(home)
    return run_once.main([request.run_id, str(request.epoch), commit])


def _make_clients() -> None:
    """The clients with which a run begins, with credentials of one's own.

    :raises HandoverError: there are no credentials now; a run that comes later may find some
    """
    from twinops.aws.clients import client, session  # noqa: PLC0415  (the keeper has loaded it)

    for service in CLIENTS:
        client(service)
    if session().get_credentials() is None:
        raise HandoverError("standby: expected credentials of the twin's role, there are none")


def _become(environment: dict[str, str], log: Path) -> None:
    """Take the place of the process that asked: its environment, and the log into which it writes."""
    kept = {name: os.environ[name] for name in ("TWINOPS_HOME", "PYTHONPATH")}
    os.environ.clear()
    os.environ.update({**environment, **kept})
    _print_to(log)


def _leave_the_caller(home: Path) -> None:
    """Hold nothing of who started us: no folder, no files."""
    for name in ("lock", "log"):
        (home / name).mkdir(exist_ok=True)
    os.chdir(home)
    log = home / "log" / "standby.log"
    if log.exists() and log.stat().st_size > LONGEST_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    _print_to(log)


def _print_to(file: Path) -> None:
    """Have what is printed from now on in a file; nowhere if it cannot be opened."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)


def _load(home: Path) -> dict[str, str]:
    """Load the runner's code and the descriptions of AWS's services; the settings that clients are made with."""
    from botocore import UNSIGNED  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from twinops.aws.clients import CONFIG, session  # noqa: PLC0415

    from . import run_once  # noqa: F401, PLC0415

    twin = json.loads((home / "twin.json").read_text("utf-8"))
    os.environ.setdefault("AWS_DEFAULT_REGION", twin["region"])
    unsigned = CONFIG.merge(Config(signature_version=UNSIGNED))  # which asks for no credentials
    for service in (*CLIENTS, *LATER_CLIENTS):
        session().create_client(service, config=unsigned)  # the session keeps the descriptions
    gc.collect()
    gc.freeze()  # what is loaded now is shared with all forked processes, as long as nobody writes to it
    return handover.for_aws(os.environ)


def _say(text: str) -> None:
    with suppress(OSError):  # its log may be on a full disk
        print(f"{runs.now()} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
