"""The tagging API over every service the sandbox offers, in pages; and the tags of one resource, for IAM conditions.

ministack answers everything at once, knows nothing of alarms, log groups, EC2 and what moto keeps, and leaves a service
out when reading it fails.
"""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ministack.services import cloudwatch, cloudwatch_logs, iam, secretsmanager, ssm, tagging

from sandbox.emulator import ec2, moto_bridge
from sandbox.emulator.answers import Answer, json_answer, json_error

Tags = dict[str, str]
Tagged = Iterable[tuple[str, Tags]]

PAGE_DEFAULT, PAGE_MAX = 50, 100

# ARNs of these name no type of resource; a filter may.
UNTYPED = {"s3": "bucket", "sns": "topic", "sqs": "queue"}

# What ministack's own functions read and write right.
MINISTACK = ("s3", "lambda", "sqs", "sns", "dynamodb", "events", "kms", "scheduler")


@dataclass(frozen=True)
class Store:
    """The tags of one service's resources. ``add`` and ``remove`` say whether the resource exists."""

    tagged: Callable[[], Tagged]
    add: Callable[[str, Tags], bool]
    remove: Callable[[str, list[str]], bool]


def install() -> None:
    tagging._COLLECTORS = {
        **{service: tagging._COLLECTORS[service] for service in MINISTACK},
        **{service: _collector(store) for service, store in STORES.items()},
    }
    tagging._WRITERS = {
        **{service: tagging._WRITERS[service] for service in MINISTACK},
        **{service: _changer(store.add) for service, store in STORES.items()},
    }
    tagging._REMOVERS = {
        **{service: tagging._REMOVERS[service] for service in MINISTACK},
        **{service: _changer(store.remove) for service, store in STORES.items()},
    }
    tagging._HANDLERS["GetResources"] = get_resources
    tagging.resource_tags = tags_of


def get_resources(request: dict[str, Any]) -> Answer:
    """Tagged resources that pass the filters, sorted by ARN; one page."""
    page = int(request.get("ResourcesPerPage") or PAGE_DEFAULT)
    if not 1 <= page <= PAGE_MAX:
        return json_error("InvalidParameterException", f"ResourcesPerPage: expected 1–{PAGE_MAX}, got {page}")
    try:
        last = base64.b64decode(request.get("PaginationToken") or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return json_error("PaginationTokenExpiredException", "The pagination token is not one of this service")
    found = sorted((arn, tags) for arn, tags in _all() if arn > last and _passes(arn, tags, request))
    more = len(found) > page
    return json_answer(
        {
            "ResourceTagMappingList": [{"ResourceARN": arn, "Tags": _listed(tags)} for arn, tags in found[:page]],
            "PaginationToken": base64.b64encode(found[page - 1][0].encode()).decode() if more else "",
        }
    )


def tags_of(arn: str) -> Tags | None:
    """The tags of one resource; None when it has none, or does not exist."""
    service = arn.split(":")[2] if arn.startswith("arn:") else ""
    read = _iam_tagged if service == "iam" else STORES[service].tagged if service in STORES else None
    if read is None and service in MINISTACK:
        read = _reader(tagging._COLLECTORS[service])
    arn = arn.partition(":log-stream:")[0].removesuffix(":*") if service == "logs" else arn
    return next((tags for candidate, tags in read() if candidate == arn), None) if read else None


def _all() -> Iterator[tuple[str, Tags]]:
    for collect in tagging._COLLECTORS.values():
        yield from ((arn, tags) for arn, tags in _reader(collect)() if tags)


def _passes(arn: str, tags: Tags, request: dict[str, Any]) -> bool:
    types = request.get("ResourceTypeFilters")
    arns = request.get("ResourceARNList")
    return (
        (not types or any(_is_of_type(arn, wanted) for wanted in types))
        and (not arns or arn in arns)
        and all(
            one["Key"] in tags and (not one.get("Values") or tags[one["Key"]] in one["Values"])
            for one in request.get("TagFilters", [])
        )
    )


def _is_of_type(arn: str, wanted: str) -> bool:
    """Whether an ARN is of a type such as ``ec2`` or ``ec2:instance``."""
    _, _, service, _, _, resource = arn.split(":", 5)
    kind = UNTYPED.get(service) or resource.replace("/", ":").split(":")[0]
    return wanted in (service, f"{service}:{kind}")


def _listed(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _as_dict(tags: Iterable[dict[str, str]]) -> Tags:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _collector(store: Store) -> Callable[[], Iterator[tuple[str, list[dict[str, str]]]]]:
    """A store's reader in the form that ministack's functions have."""
    return lambda: ((arn, _listed(tags)) for arn, tags in list(store.tagged()))


def _reader(collect: Callable[[], Iterable[tuple[str, list[dict[str, str]]]]]) -> Callable[[], Tagged]:
    return lambda: [(arn, _as_dict(tags)) for arn, tags in collect()]


def _changer(change: Callable[[str, Any], bool]) -> Callable[[Any, str, Any], None]:
    def apply(_specification: Any, arn: str, changes: Any) -> None:
        if not change(arn, changes):
            raise tagging._ResourceNotFound(arn)

    return apply


# ---- tags kept as a dict at each record, found by ARN


def _in_records(records: Callable[[], Iterable[tuple[str, Tags]]]) -> Store:
    """A store whose reader yields the very dicts that the service keeps."""

    def found(arn: str) -> Tags | None:
        return next((tags for candidate, tags in records() if candidate == arn), None)

    def add(arn: str, tags: Tags) -> bool:
        kept = found(arn)
        if kept is not None:
            kept.update(tags)
        return kept is not None

    def remove(arn: str, keys: list[str]) -> bool:
        kept = found(arn)
        for key in keys if kept else ():
            kept.pop(key, None)  # type: ignore[union-attr]
        return kept is not None

    return Store(records, add, remove)


def _log_groups() -> Tagged:
    return [(group["arn"].removesuffix(":*"), group["tags"]) for group in list(cloudwatch_logs._log_groups.values())]


def _alarms() -> Tagged:
    alarms = [*cloudwatch._alarms.values(), *cloudwatch._composite_alarms.values()]
    return [(alarm["AlarmArn"], cloudwatch._resource_tags.setdefault(alarm["AlarmArn"], {})) for alarm in alarms]


def _parameters() -> Tagged:
    return [(one["ARN"], ssm._tags.setdefault(one["ARN"], {})) for one in list(ssm._parameters.values())]


# ---- tags kept as a list of keys and values


def _in_lists(records: Callable[[], Iterable[tuple[str, list[dict[str, str]]]]]) -> Store:
    """A store whose reader yields the very lists that the service keeps."""

    def change(arn: str, replace: Tags, without: Iterable[str]) -> bool:
        kept = next((tags for candidate, tags in records() if candidate == arn), None)
        if kept is None:
            return False
        tags = {key: value for key, value in (_as_dict(kept) | replace).items() if key not in set(without)}
        kept[:] = _listed(tags)
        return True

    return Store(
        lambda: [(arn, _as_dict(tags)) for arn, tags in records()],
        lambda arn, tags: change(arn, tags, ()),
        lambda arn, keys: change(arn, {}, keys),
    )


def _secrets() -> Iterable[tuple[str, list[dict[str, str]]]]:
    return [(secret["ARN"], secret.setdefault("Tags", [])) for secret in list(secretsmanager._secrets.values())]


def _notebooks() -> Iterable[tuple[str, list[dict[str, str]]]]:
    if "moto.sagemaker.models" not in sys.modules:
        return []
    return [(one.arn, one.tags) for one in list(moto_bridge.backend("sagemaker").notebook_instances.values())]


def _clusters() -> Iterable[tuple[str, list[dict[str, str]]]]:
    if "moto.redshift.models" not in sys.modules:
        return []
    return [(one.arn, one.tags) for one in list(moto_bridge.backend("redshift").clusters.values())]


def _iam_tagged() -> Tagged:
    """IAM is global: GetResources of this region lists none of it, conditions still see its tags."""
    stores = (iam._roles, iam._users, iam._policies, iam._instance_profiles, iam._oidc_providers)
    return [(one.get("Arn", ""), _as_dict(one.get("Tags") or [])) for store in stores for one in list(store.values())]


STORES = {
    "ec2": Store(
        ec2.tagged,
        lambda arn, tags: ec2.set_tags(arn.rpartition("/")[2], tags),
        lambda arn, keys: ec2.remove_tags(arn.rpartition("/")[2], keys),
    ),
    "logs": _in_records(_log_groups),
    "cloudwatch": _in_records(_alarms),
    "ssm": _in_records(_parameters),
    "secretsmanager": _in_lists(_secrets),
    "sagemaker": _in_lists(_notebooks),
    "redshift": _in_lists(_clusters),
}
