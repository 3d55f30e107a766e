"""What ``release_keys`` and ``release_signature`` do: who may sign, and signing what others have proposed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, TargetFile  # type: ignore[attr-defined]

from .. import names, release
from ..errors import TwinopsError
from ..publishing import pending, review
from ..publishing.exchange import Folder
from ..publishing.keys import KeyPlan, KeyRing, name_of
from ..publishing.repository import Repository
from .clients import account_id, client
from .releases import Bucket, Publication, ReleaseStore


def open_store(
    env: str,
    keys: KeyRing,
    plan: KeyPlan,
    *,
    copy: Path,
    bucket: str | None,
    folder: Path | None,
    now: datetime,
    aws: Mapping[str, Any],
) -> ReleaseStore:
    """The repository in the bucket for models or, on a host without a network, in ``folder``; ``copy`` is its copy."""
    if folder is not None:
        return ReleaseStore(Folder(folder), copy, env, keys, plan=plan, now=now)
    name = bucket or names.Names(env, account_id(**aws)).bucket("models")
    return ReleaseStore(Bucket(name, client("s3", **aws)), copy, env, keys, plan=plan, now=now)


def reconcile_keys(store: ReleaseStore, keys: KeyRing, plan: KeyPlan, *, apply: bool) -> dict[str, Any]:
    """Make the published roles name the keys of ``plan``, and propose again what nears its expiry.

    What lacks signatures stays a proposal, which is no error: others sign it, and the next run publishes it. Then the
    root is kept beside the public keys: in git, it is what new devices pin, and what the bucket is held to.
    """

    def make(repository: Repository) -> list[str]:
        repository.trust(plan)
        return repository.renew(everything=True)

    require_place(store)
    publication = store.change(make, apply=apply)
    outcome = _outcome(store, publication)
    if store.repository is None or publication.lacking:
        return {**outcome, "pinned": False, "keys": review.key_table(store.repository) if store.repository else []}
    pinned = apply and keys.pin_root(store.newest_root)
    outcome["changed"] = outcome["changed"] or pinned
    return {**outcome, "pinned": pinned, "keys": review.key_table(store.repository)}


def look(store: ReleaseStore, evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """What waits for signatures: ``lines`` for a person, and the ``digest`` of all of it."""
    require_place(store)
    repository, proposals = _proposals(store)
    lines = review.describe(repository, proposals, lambda info: _content(store, info), evaluation)
    return {"lines": lines, "digest": pending.digest_of_all(proposals) if proposals else None}


def sign(store: ReleaseStore, keys: KeyRing, digest: str, *, apply: bool) -> dict[str, Any]:
    """Sign the proposals with every key here that may; publish when nothing is lacking and the online keys are here.

    :raises TwinopsError: the proposals are not those that ``digest`` names, or no key here may sign them
    """
    require_place(store)
    repository, proposals = _proposals(store)
    found = pending.digest_of_all(proposals) if proposals else None
    if found != digest:
        raise TwinopsError(
            f"sign: expected the digest of what is proposed, {found or 'which is nothing'}, got {digest}; "
            "look again: somebody has proposed something else since"
        )
    signers = keys.signers()
    mine = {key.keyid for role in proposals for key in _possible(repository, role)} & set(signers)
    if not mine:
        names = sorted({name for role in proposals for name in _names(repository, role)})
        raise TwinopsError(f"{keys.folder}: no key that may sign this; expected one of {', '.join(names)}")
    online = all(key.keyid in signers for role in ("snapshot", "timestamp") for key in repository.keys_of(role))
    publication = store.finish(repository, [], {}, apply=apply, only_propose=not online)
    return {**_outcome(store, publication), "is_published": apply and online and not publication.lacking}


def require_place(store: ReleaseStore) -> None:
    if not store.has_bucket:
        raise TwinopsError(f"{store.place}: expected the bucket for models, or a copy of its tuf/, found none")


def _proposals(store: ReleaseStore) -> tuple[Repository, dict[str, Metadata[Any]]]:
    """The repository as it would be with everything that is proposed, and the proposals."""
    repository, proposals = copy.deepcopy(store.repository), store.pending()
    if repository is None:
        if not {"root", "targets"} <= set(proposals):
            raise TwinopsError(f"{store.place}: nothing is published or proposed; begin with playbooks/keys.yml")
        repository = store.adopt_first(proposals)
    repository.adopt(proposals)
    return repository, {name: proposals[name] for name in repository.signed_by_people if name in proposals}


def _possible(repository: Repository, role: str) -> list[Any]:
    before = repository.keys_of(role, repository.published) if role == "root" and repository.published else []
    return [*before, *repository.keys_of(role)]


def _names(repository: Repository, role: str) -> list[str]:
    return [name_of(key) for key in _possible(repository, role)]


def _content(store: ReleaseStore, info: TargetFile) -> bytes:
    digest = str(info.hashes["sha256"])
    return store.target(release.stored_path(info.path, digest), digest)


def summary(outcome: Mapping[str, Any], digest: str | None = None) -> list[str]:
    """What a person does next. ``digest`` is that of what was proposed."""
    if outcome.get("lacking"):
        return [f"missing: {sentence}" for sentence in outcome["lacking"]] + ["give it with playbooks/sign.yml"]
    if outcome.get("pinned"):
        return ["published; the root of trust beside the public keys is new: commit it"]
    if digest:
        return ["nothing is missing; the pipeline publishes it: playbooks/keys.yml for keys, release.yml for a release"]
    return ["published" if outcome["written"] else "nothing to change"]


def _outcome(store: ReleaseStore, publication: Publication) -> dict[str, Any]:
    return {
        "changed": bool(publication.written),
        "written": publication.written,
        "warnings": publication.warnings,
        "lacking": [str(state) for state in publication.lacking],
        "versions": store.repository.versions() if store.repository else {},
    }
