"""What a proposal means, in lines for the person who is asked to sign it. Pure: contents are read by the caller.

Only bytes whose digest is in the proposal are shown, so nobody signs one thing and reads another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tuf.api.metadata import Metadata, TargetFile  # type: ignore[attr-defined]

from .. import release
from ..errors import TwinopsError
from .keys import name_of
from .repository import Repository

Read = Callable[[TargetFile], bytes]
METRICS = ("accuracy", "f1", "alarm_rate")


def describe(
    repository: Repository, proposals: Mapping[str, Metadata[Any]], read: Read, evaluation: Mapping[str, Any] | None
) -> list[str]:
    """Lines about every proposal. ``read`` returns the verified bytes of a target; ``evaluation`` is about its model.

    :raises TwinopsError: the evaluation is about another model
    """
    lines: list[str] = []
    after = {**repository.published, **proposals}
    for role, proposal in proposals.items():
        lines.append(f"{role}, version {proposal.signed.version}, good until {proposal.signed.expires:%Y-%m-%d}:")
        if role in ("root", "targets"):
            found = list(_keys(repository, after, role))
        else:
            found = list(_targets(repository, role, proposal, read, evaluation))
        lines += [f"  {line}" for line in found or ["nothing changes; it is only signed again"]]
        lines.append(f"  signed by {', '.join(_signers(repository, after, role)) or 'nobody yet'}")
    return lines


def _signers(repository: Repository, after: Mapping[str, Metadata[Any]], role: str) -> list[str]:
    proposal = after[role]
    possible = repository.keys_of(role, after)
    if role == "root" and repository.published:
        possible = [*repository.keys_of(role, repository.published), *possible]
    return list(dict.fromkeys(name_of(key) for key in possible if key.keyid in proposal.signatures))


def _keys(repository: Repository, after: Mapping[str, Metadata[Any]], role: str) -> Iterator[str]:
    """Which keys a new root or targets gives and takes, role by role."""
    env = repository.env
    delegated = ("root", "targets", "snapshot", "timestamp") if role == "root" else (release.current_role(env), env)
    for name in delegated:
        before = _who(repository, repository.published, name)
        now = _who(repository, after, name)
        if before != now:
            yield f"{name}: {now}" + (f"; until now {before}" if before else "")


def _who(repository: Repository, roles: Mapping[str, Metadata[Any]], name: str) -> str:
    if not roles:
        return ""
    keys = [f"{name_of(key)} ({key.keyid[:8]})" for key in repository.keys_of(name, roles)]
    root, delegations = roles["root"].signed, roles["targets"].signed.delegations
    role = root.roles.get(name) or (delegations.roles.get(name) if delegations else None)
    return f"{role.threshold} of {', '.join(keys)}" if role else ""


def _targets(
    repository: Repository, role: str, proposal: Metadata[Any], read: Read, evaluation: Mapping[str, Any] | None
) -> Iterator[str]:
    """Releases that come or change, files that go, and the release that becomes the current one."""
    published = repository.published.get(role)
    before = published.signed.targets if published else {}
    after = proposal.signed.targets
    for path in sorted(set(before) - set(after)):
        yield f"no longer signed: {path}"
    for path, info in sorted(after.items()):
        if before.get(path) == info:
            continue
        if path.endswith(f"/{release.MANIFEST}"):
            changes = ", WHICH WAS PUBLISHED BEFORE WITH OTHER BYTES" if path in before else ""
            manifest = release.parse_manifest(read(info), path)
            yield f"release {manifest.release}{changes}"
            yield from _release(manifest, repository.env, after, read)
            yield f"  evaluation     {_verdict(manifest, evaluation)}"
        elif path == release.current_target(repository.env):
            yield f"the current release becomes {json.loads(read(info))['release']}"
        elif "/files/" not in path:
            yield f"a file that no release has: {path}"


def _release(manifest: release.Manifest, env: str, signed: Mapping[str, TargetFile], read: Read) -> Iterator[str]:
    yield f"  release digest {manifest.digest}"
    yield f"  model          {manifest.model['sha256']} ({manifest.model['name']})"
    yield f"  commit         {manifest.git_sha}"
    yield f"  inputs         {manifest.inputs_sha256}"
    yield f"  data           {manifest.data_version}"
    yield f"  files          {len(manifest.files)}, {manifest.size_bytes} bytes"
    missing = [file.path for file in manifest.files if release.file_target(env, file.sha256) not in signed]
    if missing:
        yield f"  INCOMPLETE     devices would refuse it, these files are not in the proposal: {', '.join(missing)}"
        return
    digest = next(file.sha256 for file in manifest.files if file.path == "training.json")
    metrics = json.loads(read(signed[release.file_target(env, digest)])).get("metrics", {})
    yield "  in training    " + ", ".join(f"{name} {metrics[name]:.4f}" for name in METRICS if name in metrics)


def _verdict(manifest: release.Manifest, evaluation: Mapping[str, Any] | None) -> str:
    """The verdict of ``evaluation.json`` on the model of ``manifest``."""
    if evaluation is None:
        return "none given; -e evaluation=<evaluation.json of the run that judged it>"
    versions = evaluation.get("versions") or []
    newest = versions[-1] if versions else {}
    if newest.get("model_sha256") != manifest.model["sha256"]:
        raise TwinopsError(
            f"evaluation: expected one whose newest version is the model {manifest.model['sha256'][:12]} of "
            f"{manifest.release}, got {newest.get('release')} {str(newest.get('model_sha256'))[:12]}"
        )
    comparison = evaluation.get("comparison")
    if not comparison:
        return f"no verdict: {newest['release']} was the only version"
    champion = versions[-2]["release"]
    return f"{comparison['verdict']} against {champion}: {'; '.join(comparison['reasons'])}"


def key_table(repository: Repository) -> list[dict[str, Any]]:
    """Who may sign what as it is published, and whose private keys are here."""
    signers = repository.keys.signers()
    return [
        {
            "role": name,
            "version": metadata.signed.version,
            "expires": f"{metadata.signed.expires:%Y-%m-%dT%H:%M:%SZ}",
            "threshold": int(_who(repository, repository.published, name).split(" ")[0]),
            "keys": [
                {"name": name_of(key), "keyid": key.keyid, "is_here": key.keyid in signers}
                for key in repository.keys_of(name, repository.published)
            ],
        }
        for name, metadata in repository.published.items()
    ]
