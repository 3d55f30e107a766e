"""Rings at the deployment twin: wakes it, types one line into a new terminal, waits for the start to be in the ledger.

The presigned URL is made for each attempt and never logged.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from twinops import runs
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger
from twinops.runs import Claim, Run

from . import terminal
from .settings import Context, DispatchError, Settings, report, say

if TYPE_CHECKING:
    from .transport import Transport

RESERVE_S = 4
"""Kept of the Lambda's time to release the claim and to report, after waiting for the twin has come to nothing."""

RING_S = 20
"""What is left of the backup's time, at least, for ringing once the twin is in service."""

FIRST_LOOK_S = 1.0
"""When the ledger is first asked whether a run that was rung for has started: on a busy twin that takes a second."""

STARTING = ("Pending", "Updating", "Stopping", "Stopped")
"""States of a twin that is in service before long, once it has been told to start."""

RUN_ONCE = '"$HOME/SageMaker/twinops/bin/run-once"'


class TwinNotReady(DispatchError):
    """The twin is not in service (yet). ``starting``: waiting is enough."""

    def __init__(self, message: str, *, starting: bool) -> None:
        super().__init__(message)
        self.starting = starting


class Doorbell:
    """Rings at the deployment twin and looks into the ledger for who answers, within the Lambda's time."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_table, client("dynamodb"))
        self._context = context
        self._sagemaker = client("sagemaker")

    def require_twin(self) -> None:
        """Return if the twin is in service; start it if it is stopped, and raise, because that takes minutes."""
        status = self._wake_twin()
        if status != "InService":
            raise TwinNotReady(
                f"twin {self.settings.twin}: expected InService, it is {status}; it is being started and the backup "
                "function tries again when it is there",
                starting=status in STARTING,
            )

    def await_twin(self) -> None:
        """Wait for the twin to be in service, starting it if it is stopped, as long as the time allows."""
        while True:
            status = self._wake_twin()
            if status == "InService":
                return
            if self._remaining_s() < RING_S:
                raise TwinNotReady(
                    f"twin {self.settings.twin}: expected InService in time, it is {status}; look at its page in "
                    "SageMaker and at the log of its lifecycle configuration",
                    starting=status in STARTING,
                )
            time.sleep(2)

    def ring(self, claim: Claim, epoch: int) -> dict[str, Any]:
        """Have the twin start the run and wait until the ledger says that it has.

        :raises TwinNotReady: it is not in service; a twin that is stopped is told to start
        """
        from .transport import Transport  # noqa: PLC0415  (half of all imports of ours: only for who does ring)

        transport = Transport()
        made = self._new_terminal(transport)
        try:
            transport.run(terminal.ring(made, command(claim, epoch)))
            run = self._await_start(claim["run_id"], epoch)
        finally:
            _hang_up(transport, made)
        return report(claim["run_id"], "started", epoch=run["epoch"], state=run["state"])

    def _new_terminal(self, transport: Transport) -> terminal.Terminal:
        """Go straight to the twin: only who does not get in asks what state it is in, which takes as long as a link."""
        try:
            return transport.run(terminal.create(self._presigned_url()))
        except (ClientError, terminal.TerminalError):
            self.require_twin()
            raise

    def _wake_twin(self) -> str:
        """The twin's status; a stopped or failed one is told to start first."""
        name = self.settings.twin
        status = str(self._sagemaker.describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"])
        if status in ("Stopped", "Failed"):
            self._sagemaker.start_notebook_instance(NotebookInstanceName=name)
        return status

    def _presigned_url(self) -> str:
        answer = self._sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName=self.settings.twin)
        return str(answer["AuthorizedUrl"])

    def _await_start(self, run_id: str, epoch: int) -> Run:
        """The run once it has started. It is looked at rarely: the script does not wait for us."""
        pause_s = FIRST_LOOK_S
        while True:
            time.sleep(pause_s)
            run = self.ledger.run(run_id)
            if run and (run["state"] in runs.ACKNOWLEDGED or run["epoch"] > epoch):
                return run
            pause_s = min(pause_s * 2, 2)
            if self._remaining_s() < RESERVE_S + pause_s:
                raise DispatchError(
                    f"run {run_id}: expected RUNNING in the ledger after ringing at twin {self.settings.twin}, "
                    f"it is {run['state'] if run else 'missing'}; look at SageMaker/twinops/log/ on the twin"
                )

    def _remaining_s(self) -> float:
        return self._context.get_remaining_time_in_millis() / 1000


def command(claim: Claim, epoch: int) -> str:
    """The one line that is typed: in a session of its own, so that the run outlives its terminal."""
    return f"setsid {RUN_ONCE} {claim['run_id']} {epoch} {claim['git_sha']} </dev/null >/dev/null 2>&1 &"


def _hang_up(transport: Transport, made: terminal.Terminal) -> None:
    """Delete the terminal; one that stays behind is untidy, not a failure of the run."""
    try:
        transport.run(terminal.hang_up(made))
    except terminal.TerminalError as error:
        say(step="hang up", error=str(error))
