"""The change of the repository that a person decides on: a commit with the new release file, as a branch or as a patch.

The commit follows from its content and its parent alone (author, date and message too), so a repeated run makes the
same one, and finds its branch there. A branch of that name with other contents is left alone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twinops.errors import TwinopsError

TIMEOUT_S = 120
TOKEN_VARIABLE = "TWINOPS_PUSH_TOKEN"  # noqa: S105 - the name of a variable
_HELPER = f'!f() {{ echo username=twinops; echo "password=${TOKEN_VARIABLE}"; }}; f'
_AUTHOR = {"NAME": "twinops retrain", "EMAIL": "twinops@localhost"}


class ProposalError(TwinopsError):
    """git could not do it: says what was tried, and what git said."""


@dataclass(frozen=True)
class Proposal:
    """A commit on the branch ``branch``; ``patch`` is the same for ``git am``."""

    branch: str
    commit: str
    patch: str


def clone(code: Path, tree: Path) -> None:
    """A work tree of a twin's checkout (code/<commit>), which other runs use as well and which stays as it is."""
    _git(tree.parent, "clone", "--quiet", "--no-hardlinks", "--depth", "1", f"file://{code}", str(tree))


def propose(tree: Path, path: str, branch: str, message: str) -> Proposal:
    """Commit one new file of the work tree on a branch."""
    at = _git(tree, "log", "-1", "--format=%cI")
    who = {
        f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in {**_AUTHOR, "DATE": at}.items()
    }
    _git(tree, "checkout", "--quiet", "-B", branch)
    _git(tree, "add", "--", path)
    _git(tree, "commit", "--quiet", "--no-verify", "-m", message, environment=who)
    patch = _git(tree, "format-patch", "--stdout", "--no-signature", "-1")
    return Proposal(branch, _git(tree, "rev-parse", "HEAD"), f"{patch}\n")


def push(tree: Path, proposal: Proposal, url: str, *, title: str, token: str = "") -> str:
    """Push the branch, and have GitLab open a merge request; what became of it, in a few words.

    ``token``: a password for the URL. It is handed to git in its environment: no list of processes shows it.

    :raises ProposalError: the remote refuses, or has a branch of that name with other contents
    """
    secret = {TOKEN_VARIABLE: token} if token else {}
    helper = ["-c", "credential.helper=", "-c", f"credential.helper={_HELPER}"] if token else []
    ref = f"refs/heads/{proposal.branch}"
    there = _git(tree, *helper, "ls-remote", url, ref, environment=secret).split()[:1]
    if there == [proposal.commit]:
        return "was there already"
    if there:
        raise ProposalError(
            f"{url}: branch {proposal.branch}: expected none, there is one with other contents ({there[0][:12]}); "
            "merge or close its merge request and delete it, then retrain again"
        )
    # https://docs.gitlab.com/topics/git/commit/#push-options
    options = ["merge_request.create", f"merge_request.title={title}", "merge_request.remove_source_branch"]
    flags = [word for option in options for word in ("-o", option)]
    target = f"HEAD:{ref}"
    try:
        _git(tree, *helper, "push", "--quiet", *flags, url, target, environment=secret)
    except ProposalError as error:
        if "does not support push options" not in str(error):
            raise
        _git(tree, *helper, "push", "--quiet", url, target, environment=secret)
        return "pushed; open a merge request for it"
    return "pushed, with a merge request"


def _git(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    said = next(word for word in arguments if not word.startswith(("-", "credential.")))
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProposalError(f"git {said}: {error}") from error
    if done.returncode:
        raise ProposalError(f"git {said}: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout.decode().strip()
