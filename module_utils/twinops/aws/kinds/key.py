"""Customer-managed KMS keys: alias, policy, rotation, and a deletion that waits for seven days.

AWS makes the identifier of a key, so a second creation makes a second key. Ours is found by its tags, whatever became
of its alias: also one whose creation was interrupted before it got an alias. A key that waits for its deletion and has
no alias is gone for us (that is what :func:`delete` leaves); with its alias, somebody scheduled it by mistake.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from ...errors import TwinopsError
from ...names import ENVIRONMENT_TAG, NAME_TAG, OWNER, OWNER_TAG
from ...plan import Change, Observed
from ...policies import canonical
from ...resources import Key
from ..owned import arns_of
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none, until_accepted
from .tags import as_pairs, from_pairs

SERVICES = ("kms",)
WORKERS = 1
READ_BACK = False

DELETION_WAITS_DAYS = 7  # the shortest that AWS offers

KNOWN_WITHIN_S = 300.0
"""KMS is eventually consistent: what it authorises by tags may lag so long behind (KMS developer guide, "ABAC")."""
_NOT_KNOWN_YET = ("NotFoundException", "AccessDeniedException")

_PENDING_DELETION = "PendingDeletion"
_MISSING = ("NotFoundException",)
_PAIRS = {"key": "TagKey", "value": "TagValue"}


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    found, target = _find(aws, name)
    if found is None:
        return None
    kms, key_id = aws.client("kms"), found["KeyId"]
    return Observed(
        Key(
            name=name,
            tags=tags_of(aws, found["Arn"], lambda: _tags(kms, key_id)),
            description=found.get("Description", ""),
            aliased=target == found["Arn"],
            enabled=found["KeyState"] == "Enabled",
            rotated=_is_rotated(kms, found),
            policy=canonical(json.loads(kms.get_key_policy(KeyId=key_id, PolicyName="default")["Policy"])),
        ),
        handles={"id": key_id, "state": found["KeyState"], "alias_target": target},
    )


def arn(aws: Aws, name: str) -> str:
    """ARN of the key that ``name`` is the alias of. Raises TwinopsError if there is none."""
    found = _aliased(aws, name)
    if found is None:
        raise TwinopsError(f"key {name}: expected one with this alias; declare the part notifications, too")
    return str(found["Arn"])


def name_of(aws: Aws, identifier: str) -> str:
    """The name of the environment's key where it is meant by ARN, id or alias; else what was given."""
    name = aws.scope.names.key
    if identifier in ("", f"alias/{name}", aws.scope.arn("kms", f"alias/{name}")):
        return name if identifier else ""
    found = _aliased(aws, name)
    return name if found and identifier in (found["Arn"], found["KeyId"]) else identifier


def create(aws: Aws, change: Change) -> None:
    kms, key = aws.client("kms"), cast(Key, change.desired)
    made = kms.create_key(
        Description=key.description, Policy=json.dumps(key.policy), Tags=as_pairs(key.tags, **_PAIRS)
    )["KeyMetadata"]
    until_accepted(lambda: _set_rotation(kms, made["KeyId"], key), _NOT_KNOWN_YET, KNOWN_WITHIN_S)
    alias = {"AliasName": f"alias/{key.name}", "TargetKeyId": made["KeyId"]}
    until_accepted(lambda: kms.create_alias(**alias), _NOT_KNOWN_YET, KNOWN_WITHIN_S)
    aws.forget(_memory(key.name))


def update(aws: Aws, change: Change) -> None:
    kms, key, observed = aws.client("kms"), cast(Key, change.desired), cast(Observed, change.observed)
    key_id = observed.handles["id"]
    if "enabled" in change.fields:  # first: AWS changes nothing of a key that waits for its deletion
        if observed.handles["state"] == _PENDING_DELETION:
            kms.cancel_key_deletion(KeyId=key_id)
        kms.enable_key(KeyId=key_id)
    if "policy" in change.fields:
        kms.put_key_policy(KeyId=key_id, PolicyName="default", Policy=json.dumps(key.policy))
    if "rotated" in change.fields:
        _set_rotation(kms, key_id, key)
    if "description" in change.fields:
        kms.update_key_description(KeyId=key_id, Description=key.description)
    if "tags" in change.fields:
        kms.tag_resource(KeyId=key_id, Tags=as_pairs(key.tags, **_PAIRS))
    if "aliased" in change.fields:
        point = kms.update_alias if observed.handles["alias_target"] else kms.create_alias
        point(AliasName=f"alias/{key.name}", TargetKeyId=key_id)
        aws.forget(_memory(key.name))


def delete(aws: Aws, change: Change) -> None:
    """The alias first: without it, a deletion that is under way counts as done, and its name is free."""
    kms, observed = aws.client("kms"), cast(Observed, change.observed)
    if cast(Key, observed.resource).aliased:
        absent_as_none(kms.delete_alias, *_MISSING, AliasName=f"alias/{change.name}")
        aws.forget(_memory(change.name))
    if observed.handles["state"] != _PENDING_DELETION:
        waits = {"PendingWindowInDays": DELETION_WAITS_DAYS}
        absent_as_none(kms.schedule_key_deletion, *_MISSING, KeyId=observed.handles["id"], **waits)


def _find(aws: Aws, name: str) -> tuple[dict[str, Any] | None, str]:
    """Our key as AWS describes it, and the ARN of the key that its alias points to, if any."""
    aliased = _aliased(aws, name)
    target = str(aliased["Arn"]) if aliased else ""
    known = arns_of(aws, (Key.kind, name))
    if target and (target in known or not known):
        return aliased, target
    alive = [key for each in known if (key := _describe(aws, each)) and key["KeyState"] != _PENDING_DELETION]
    found = alive[0] if alive else aliased or _scan(aws, name)
    return found, target


def _scan(aws: Aws, name: str) -> dict[str, Any] | None:
    """Among all keys of the account, the one with our tags: the listing by tags may not know a new one for a while.

    Only where there is no alias, which is before the creation, or after one that was interrupted.
    """
    kms = aws.client("kms")
    pages = kms.get_paginator("list_keys").paginate()
    for key_id in [entry["KeyId"] for page in pages for entry in page["Keys"]]:
        # keys of others may refuse to show their tags: then they do not have ours
        own = absent_as_none(lambda key_id=key_id: _tags(kms, key_id), *_MISSING, "AccessDeniedException") or {}
        if _is_named(aws, own, name):
            found = _describe(aws, key_id)
            if found and found["KeyState"] != _PENDING_DELETION:
                return found
    return None


def _is_named(aws: Aws, own: Mapping[str, str], name: str) -> bool:
    wanted = {OWNER_TAG: OWNER, ENVIRONMENT_TAG: aws.scope.env, NAME_TAG: name}
    return wanted.items() <= own.items()


def _aliased(aws: Aws, name: str) -> dict[str, Any] | None:
    return aws.once(_memory(name), lambda: _describe(aws, f"alias/{name}"))


def _describe(aws: Aws, identifier: str) -> dict[str, Any] | None:
    found = absent_as_none(aws.client("kms").describe_key, *_MISSING, KeyId=identifier)
    return dict(found["KeyMetadata"]) if found else None


def _is_rotated(kms: Any, found: Mapping[str, Any]) -> bool:
    return bool(kms.get_key_rotation_status(KeyId=found["KeyId"])["KeyRotationEnabled"])


def _set_rotation(kms: Any, key_id: str, key: Key) -> None:
    switch = kms.enable_key_rotation if key.rotated else kms.disable_key_rotation
    switch(KeyId=key_id)


def _tags(kms: Any, key_id: str) -> dict[str, str]:
    pages = kms.get_paginator("list_resource_tags").paginate(KeyId=key_id)
    return {name: value for page in pages for name, value in from_pairs(page["Tags"], **_PAIRS).items()}


def _memory(name: str) -> str:
    return f"key of alias {name}"
