"""S3 buckets: versioned, encrypted, private, TLS only, with old versions that expire."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...policies import canonical
from ...resources import Bucket
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none, until_accepted
from . import key
from .tags import as_pairs, from_pairs

SERVICES = ("s3", "kms")
WORKERS = 4
READ_BACK = False

_KMS = "aws:kms"
_MISSING = ("404", "NoSuchBucket")
_EMPTYING_S = 60
_PRIVATE = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    s3 = aws.client("s3")
    # Names are global, and ours can be guessed: what somebody else made first must not be taken for ours.
    owner = {"ExpectedBucketOwner": aws.scope.account}
    versioning = absent_as_none(s3.get_bucket_versioning, *_MISSING, Bucket=name, **owner)
    if versioning is None:
        return None
    encryption, master_key = _encryption(s3, name)
    policy = absent_as_none(s3.get_bucket_policy, "NoSuchBucketPolicy", Bucket=name)
    return Observed(
        Bucket(
            name=name,
            tags=tags_of(aws, f"arn:{aws.scope.partition}:s3:::{name}", lambda: _tags(s3, name)),
            versioning=versioning.get("Status", "never enabled"),
            encryption=encryption,
            key=key.name_of(aws, master_key),
            public_access_blocked=_is_private(s3, name),
            policy=canonical(json.loads(policy["Policy"])) if policy else {},
            lifecycle=_lifecycle(s3, name),
        )
    )


def _tags(s3: Any, name: str) -> dict[str, str]:
    found = absent_as_none(s3.get_bucket_tagging, "NoSuchTagSet", Bucket=name)
    return from_pairs((found or {}).get("TagSet", []))


def _encryption(s3: Any, name: str) -> tuple[str, str]:
    """The algorithm and, for KMS, the key. Without a bucket key, each object costs a call of KMS: not what we set."""
    missing = "ServerSideEncryptionConfigurationNotFoundError"
    found = absent_as_none(s3.get_bucket_encryption, missing, Bucket=name)
    if found is None:
        return "none", ""
    rule = found["ServerSideEncryptionConfiguration"]["Rules"][0]
    default = rule["ApplyServerSideEncryptionByDefault"]
    algorithm = str(default["SSEAlgorithm"])
    if algorithm == _KMS and not rule.get("BucketKeyEnabled"):
        algorithm += " without bucket key"
    return algorithm, str(default.get("KMSMasterKeyID", ""))


def _is_private(s3: Any, name: str) -> bool:
    found = absent_as_none(s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration", Bucket=name)
    return found is not None and found["PublicAccessBlockConfiguration"] == _PRIVATE


def _lifecycle(s3: Any, name: str) -> tuple[dict[str, Any], ...]:
    found = absent_as_none(s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration", Bucket=name)
    return tuple(_with_filter(rule) for rule in (found or {}).get("Rules", []))


def _with_filter(rule: dict[str, Any]) -> dict[str, Any]:
    """An empty filter comes back as {} or with an empty prefix, depending on how it was written."""
    return {**rule, "Filter": rule.get("Filter") or {"Prefix": ""}}


def create(aws: Aws, change: Change) -> None:
    bucket = cast(Bucket, change.desired)
    region = aws.scope.region
    # us-east-1 is the default and the only region that must not be named
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    aws.client("s3").create_bucket(Bucket=bucket.name, **where)
    _set(aws, bucket, change.fields)


def update(aws: Aws, change: Change) -> None:
    _set(aws, cast(Bucket, change.desired), change.fields)


def _set(aws: Aws, bucket: Bucket, fields: tuple[str, ...]) -> None:
    s3, name = aws.client("s3"), bucket.name
    if "public_access_blocked" in fields:
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=_PRIVATE)
    if "versioning" in fields:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": bucket.versioning})
    if {"encryption", "key"} & set(fields):
        encryption = {"Rules": [_encryption_rule(aws, bucket)]}
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration=encryption)
    if "policy" in fields:
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps(bucket.policy))
    if "lifecycle" in fields:
        rules = {"Rules": list(bucket.lifecycle)}
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=rules)
    if "tags" in fields:  # S3 replaces the whole set, others' tags included
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": as_pairs({**_tags(s3, name), **bucket.tags})})


def _encryption_rule(aws: Aws, bucket: Bucket) -> dict[str, Any]:
    """With the key's ARN: by an alias, S3 would take the key of that name of whoever stores an object."""
    if bucket.encryption != _KMS:
        return {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": bucket.encryption}}
    default = {"SSEAlgorithm": _KMS, "KMSMasterKeyID": key.arn(aws, bucket.key)}
    return {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}


def delete(aws: Aws, change: Change) -> None:
    """Its content first: who plans the removal of a kind with ``data`` has asked for that.

    Devices store on while their role is there: what has come meanwhile goes as well.
    """
    s3, name = aws.client("s3"), change.name

    def empty_and_delete() -> None:
        _empty(s3, name)
        absent_as_none(s3.delete_bucket, *_MISSING, Bucket=name)

    until_accepted(empty_and_delete, ("BucketNotEmpty",), timeout_s=_EMPTYING_S)


def _empty(s3: Any, name: str) -> None:
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=name)
    for page in absent_as_none(lambda: list(pages), *_MISSING) or []:
        versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        objects = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]
        if objects:
            s3.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})
