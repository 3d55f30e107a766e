"""What reconciling an environment asks of AWS: its clients, paced and counted, listings read once, errors explained."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoRegionError

from ..errors import TwinopsError
from ..names import ENVIRONMENT_TAG
from ..resources import Scope
from .clients import account_id, client, session
from .kinds.tags import from_pairs
from .pacing import Pacer

_REFUSED = "use the environment's deploy role; if it is that, let the administrator run playbooks/bootstrap.yml"
_ADVICE = {
    "AccessDenied": _REFUSED,
    "UnauthorizedOperation": _REFUSED,
    "ExpiredToken": "log in again and rerun",
    "InvalidClientTokenId": "check the profile or keys in aws_environment",
    "Throttling": "AWS limits the rate: rerun, what is done stays done",
    "LimitExceeded": "ask AWS for a higher quota, or remove what is no longer used",
    "ServiceQuotaExceeded": "ask AWS for a higher quota, or remove what is no longer used",
    "BucketAlreadyExists": "the name belongs to another account: choose another environment or account",
    "DependencyViolation": "something that twinops did not make still uses it: look for it in the VPC console",
    "BucketNotEmpty": "empty it first; twinops never deletes data",
}

_PACER = Pacer()  # the rates are the account's: one for the whole process

Item = TypeVar("Item")
Result = TypeVar("Result")


class Aws:
    """The clients of one reconciliation, made before threads start, and the number of calls they made."""

    def __init__(
        self,
        env: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self._env = env
        self._options = {"region": region, "profile": profile, "endpoint_url": endpoint_url}
        self._clients: dict[str, Any] = {}
        self._next_call = itertools.count(1)  # its next() is atomic
        self._known: dict[str, Any] = {}
        self._reading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self.calls = 0
        self.archives: dict[str, bytes] = {}  # by digest, as the plan names them
        try:
            actual_region = session(profile, region).get_config_variable("region")
            if not actual_region:
                raise NoRegionError
            account = self._account()
        except NoRegionError:
            where = "the option region, AWS_DEFAULT_REGION or the profile"
            raise TwinopsError(f"region: expected one from {where}, got none") from None
        except (BotoCoreError, ClientError) as error:
            raise explain(error, "AWS account") from error
        partition = session(profile, region).get_partition_for_region(actual_region)
        self.scope = Scope(env=env, account=account, region=actual_region, partition=partition)

    def client(self, service: str) -> Any:
        """A client of this environment. Not for threads before somebody else has asked for the same service."""
        if service not in self._clients:
            made = client(service, **self._options)
            made.meta.events.register("before-send", self._count, unique_id=f"twinops-calls-{id(self)}")
            self._clients[service] = made
        return self._clients[service]

    def tagged(self) -> dict[str, dict[str, str]]:
        """ARN -> tags of everything that has the tag of the environment (``GetResources``; one listing, remembered)."""
        wanted = [{"Key": ENVIRONMENT_TAG, "Values": [self._env]}]

        def read() -> dict[str, dict[str, str]]:
            pages = self.client("resourcegroupstaggingapi").get_paginator("get_resources")
            entries = (
                entry
                for page in pages.paginate(TagFilters=wanted, PaginationConfig={"PageSize": 100})
                for entry in page["ResourceTagMappingList"]
            )
            return {entry["ResourceARN"]: from_pairs(entry["Tags"]) for entry in entries}

        return self.once("tagged", read)

    def _account(self) -> str:
        """The account of the caller: the listing, which every reconciliation needs, names it unless it is empty."""
        accounts = (arn.split(":")[4] for arn in self.tagged())
        return next(filter(None, accounts), "") or account_id(**self._options)

    def once(self, what: str, read: Callable[[], Result]) -> Result:
        """The answer of ``read``, which several kinds need and one thread asks for; the others wait for it."""
        with self._lock:
            reading = self._reading.setdefault(what, threading.Lock())
        with reading:
            if what in self._known:
                answer = self._known[what]
            else:
                answer = self._known[what] = read()
        return cast(Result, answer)  # also when another thread has it forgotten by now

    def forget(self, *what: str) -> None:
        """Let the next :meth:`once` of ``what`` (default: of everything) ask again, because something was changed."""
        for each in what or list(self._known):
            self._known.pop(each, None)

    def each(self, call: Callable[[Item], Result], items: Iterable[Item], workers: int = 8) -> list[Result]:
        """``call(item)`` for every item, in parallel, in order. All are tried; then their errors are raised as one."""
        with ThreadPoolExecutor(max_workers=workers) as pool:
            futures = [pool.submit(call, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in errors:
            if not isinstance(error, TwinopsError) or len(errors) == 1:
                raise error
        if errors:
            raise TwinopsError("\n".join(str(error) for error in errors))
        return [future.result() for future in futures]

    def found(self, call: Callable[[Item], Result | None], items: Collection[Item]) -> dict[Item, Result]:
        """``call(item)`` for every item, in parallel, without those that have no answer."""

        def named(item: Item) -> Result | None:
            try:
                return call(item)
            except (BotoCoreError, ClientError) as error:
                raise explain(error, str(item)) from error

        answers = zip(items, self.each(named, items))
        return {item: answer for item, answer in answers if answer is not None}

    def _count(self, event_name: str, **_: Any) -> None:
        """Called by botocore before each attempt, as ``before-send.<service>.<operation>``."""
        service, operation = event_name.split(".")[1:3]
        _PACER.wait(service, operation)
        self.calls = next(self._next_call)


def in_order(
    call: Callable[[Result], object], stages: Mapping[str, Result], before: Callable[[str], Collection[str]]
) -> None:
    """``call(stage)`` for each of ``stages``, in parallel, each after those that come ``before`` it.

    What comes after a failed stage is not tried. All errors are raised as one TwinopsError.
    """
    finished = {name: threading.Event() for name in stages}
    failed: dict[str, TwinopsError | None] = {}

    def run(name: str) -> None:
        try:
            earlier = [each for each in before(name) if each in stages]
            for each in earlier:
                finished[each].wait()
            if any(each in failed for each in earlier):
                failed[name] = None
                return
            call(stages[name])
        except TwinopsError as error:
            failed[name] = error
        except BaseException:
            failed[name] = None
            raise
        finally:
            finished[name].set()

    with ThreadPoolExecutor(max_workers=max(1, len(stages))) as pool:
        for future in [pool.submit(run, name) for name in stages]:
            future.result()
    errors = [str(error) for error in failed.values() if error is not None]
    if errors:
        raise TwinopsError("\n".join(errors))


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def absent_as_none(call: Callable[..., Result], *codes: str, **arguments: object) -> Result | None:
    """The answer of ``call``, or None where AWS answers with one of ``codes``: what was asked for does not exist."""
    try:
        return call(**arguments)
    except ClientError as error:
        if error_code(error) in codes:
            return None
        raise


def until_accepted(call: Callable[[], Result], refusals: tuple[str, ...], timeout_s: float = 60) -> Result:
    """Repeat ``call`` while AWS refuses it for one of ``refusals`` (parts of a message), for at most ``timeout_s``.

    AWS is eventually consistent: a role made a moment ago cannot be assumed yet.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.5
    while True:
        try:
            return call()
        except ClientError as error:
            is_passing = any(refusal in str(error) for refusal in refusals)
            if not is_passing or time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 5)


def until(is_done: Callable[[], bool], what: str, timeout_s: float, pause_s: float = 0.5) -> None:
    """Wait until ``is_done``; raises TwinopsError naming ``what`` after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not is_done():
        if time.monotonic() + pause_s > deadline:
            raise TwinopsError(f"{what}: not within {timeout_s:g} s; rerun, what is done stays done")
        time.sleep(pause_s)


def explain(error: BotoCoreError | ClientError, what: str) -> TwinopsError:
    """An error of botocore as one sentence: resource, operation, AWS's code and message, and what to do."""
    if isinstance(error, EndpointConnectionError):
        return TwinopsError(f"{what}: {error} Is the sandbox running (python -m sandbox status)? Is the network up?")
    if not isinstance(error, ClientError):
        return TwinopsError(f"{what}: {error}")
    details = error.response.get("Error", {})
    code = str(details.get("Code", "Unknown"))
    advice = next((text for start, text in _ADVICE.items() if code.startswith(start)), "")
    said = f"{what}: {error.operation_name}: {code}: {details.get('Message', '')}"
    return TwinopsError(f"{said.rstrip('.')}. To do: {advice}" if advice else said)
