"""What the administrator of an account makes, once: how the pipeline gets in, and how far that can go."""

from __future__ import annotations

from collections.abc import Sequence

from .. import data_sources, deploy_policies, policies
from ..data_sources import Source
from ..errors import SpecError
from ..resources import Bucket, ManagedPolicy, OidcProvider, Resource, Role
from .common import Estate, Options, check_session, managed_policy
from .storage import expire_old_versions

PART = "bootstrap"

GITLAB = {
    "url": {"type": "str", "required": True},
    "audience": {"type": "str", "required": True},
    "project": {"type": "str", "required": True},
    "branches": {"type": "list", "elements": "str", "required": True},
    "manage_provider": {"type": "bool", "default": True},
}
OPTIONS = {
    "gitlab": {"type": "dict", "required": True, "options": GITLAB},
    "session_s": {"type": "int", "default": 3600},
    "state_noncurrent_days": {"type": "int", "default": 365},
    "targets": {"type": "list", "elements": "str", "default": []},
    "data_sources": data_sources.LIST,
}


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """The boundary of all roles, the provider that vouches for pipelines, their two roles, and the state bucket.

    Raises SpecError for a GitLab that AWS could not ask.
    """
    gitlab, sources = options["gitlab"], data_sources.parse(options["data_sources"])
    issuer = _issuer(gitlab["url"])
    check_session(PART, options["session_s"])
    provider = OidcProvider(name=issuer, tags=estate.tags(PART), audiences=(gitlab["audience"],))
    return (
        *((provider,) if gitlab["manage_provider"] else ()),
        boundary(estate, sources, options["targets"]),
        *_deploy_role(estate, issuer, options),
        *_plan_role(estate, issuer, options),
        _state_bucket(estate, options["state_noncurrent_days"]),
    )


def boundary(estate: Estate, sources: Sequence[Source], targets: Sequence[str]) -> ManagedPolicy:
    """The permissions boundary of every role that the deploy role can make."""
    description = "What no role of an environment of twinops can exceed; the administrator's."
    document = policies.boundary(estate.scope, sources, targets)
    return managed_policy(estate, PART, policies.BOUNDARY, description, document)


def _deploy_role(estate: Estate, issuer: str, options: Options) -> tuple[Resource, ...]:
    """The role, and its policies, a part each: together they are longer than one policy may be."""
    scope, gitlab = estate.scope, options["gitlab"]
    documents = deploy_policies.by_part(scope)
    made = [
        managed_policy(estate, PART, f"{policies.DEPLOY}-{part}", f"What deploying takes: {part}.", document)
        for part, document in documents.items()
    ]
    subjects = [f"project_path:{gitlab['project']}:ref_type:branch:ref:{branch}" for branch in gitlab["branches"]]
    role = Role(
        name=scope.names.role(policies.DEPLOY),
        tags=estate.tags(PART),
        description="The pipeline: deploys an environment of twinops, and nothing else.",
        trust=deploy_policies.trust(scope, issuer, gitlab["audience"], subjects),
        policies={},
        attached=tuple(sorted(scope.policy_arn(f"{policies.DEPLOY}-{part}") for part in documents)),
        session_s=options["session_s"],
    )
    return (*made, role)


def _plan_role(estate: Estate, issuer: str, options: Options) -> tuple[Resource, ...]:
    """The role that only reads. Any branch of the project has it: plans are made of merge requests."""
    scope, gitlab = estate.scope, options["gitlab"]
    documents = deploy_policies.reading_by_part(scope)
    made = [
        managed_policy(estate, PART, f"{policies.PLAN}-{part}", f"What a plan takes: {part}.", document)
        for part, document in documents.items()
    ]
    subject = f"project_path:{gitlab['project']}:ref_type:branch:ref:*"
    role = Role(
        name=scope.names.role(policies.PLAN),
        tags=estate.tags(PART),
        description="The pipeline: finds out what a deployment would change. Reads, and sends mail.",
        trust=deploy_policies.trust(scope, issuer, gitlab["audience"], [subject], patterns=True),
        policies={},
        attached=tuple(sorted(scope.policy_arn(f"{policies.PLAN}-{part}") for part in documents)),
        session_s=options["session_s"],
    )
    return (*made, role)


def _state_bucket(estate: Estate, noncurrent_days: int) -> Bucket:
    """Where the pipeline keeps what it has to remember. With S3's own key: it is there before the environment's is."""
    name = estate.scope.names.bucket("state")
    return Bucket(
        name=name,
        tags=estate.tags(PART),
        versioning="Enabled",
        encryption="AES256",
        key="",
        public_access_blocked=True,
        policy=policies.tls_only(estate.scope.partition, name),
        lifecycle=(expire_old_versions(noncurrent_days),),
    )


def _issuer(url: str) -> str:
    """The URL as IAM names a provider by it."""
    scheme, _, issuer = url.rstrip("/").partition("://")
    if scheme != "https" or not issuer:
        raise SpecError([f"bootstrap: gitlab.url: expected https://..., which AWS asks for its keys; got {url}"])
    return issuer
