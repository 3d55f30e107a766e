"""Where data is kept: the buckets, and the ledger of runs, deployments and rollouts."""

from __future__ import annotations

from .. import policies
from ..resources import Bucket, Json, Resource, Table
from .common import Estate, Options

PART = "storage"

FACTS_DAYS = 30

OPTIONS = {
    "buckets": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "purpose": {"type": "str", "required": True, "choices": ["models", "reports", "data"]},
            "noncurrent_days": {"type": "int", "default": 365},
        },
    },
    "encryption": {"type": "str", "default": "AES256", "choices": ["AES256", "aws:kms"]},
    "ledger_recovery": {"type": "bool", "default": True},
}


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    buckets = [
        _bucket(estate, spec["purpose"], spec["noncurrent_days"], options["encryption"]) for spec in options["buckets"]
    ]
    return (*buckets, _ledger(estate, options["ledger_recovery"]))


def _bucket(estate: Estate, purpose: str, noncurrent_days: int, encryption: str) -> Bucket:
    """``noncurrent_days``: how long replaced and deleted versions stay recoverable."""
    name = estate.scope.names.bucket(purpose)
    expiry = (expire_old_versions(noncurrent_days), *([expire_facts()] if purpose == "data" else []))
    return Bucket(
        name=name,
        tags=estate.tags(PART),
        versioning="Enabled",
        encryption=encryption,
        key=estate.scope.names.key if encryption == "aws:kms" else "",
        public_access_blocked=True,
        policy=policies.tls_only(estate.scope.partition, name),
        lifecycle=expiry,
    )


def _ledger(estate: Estate, point_in_time_recovery: bool) -> Table:
    return Table(
        name=estate.scope.names.ledger,
        tags=estate.tags(PART),
        key=("pk", "sk"),
        indexes={"kind-at": ("kind", "at")},
        billing="PAY_PER_REQUEST",
        point_in_time_recovery=point_in_time_recovery,
    )


def expire_old_versions(days: int) -> Json:
    return {
        "ID": "expire-old-versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": days},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }


def expire_facts() -> Json:
    """Of what devices report of themselves every few minutes, a month of history stays, and no replaced version."""
    return {
        "ID": "expire-facts",
        "Status": "Enabled",
        "Filter": {"Prefix": "facts/"},
        "Expiration": {"Days": FACTS_DAYS},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    }
