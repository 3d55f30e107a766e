"""Comments on merge requests, by GitLab's API (https://docs.gitlab.com/api/notes/): one a subject, kept up to date."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from pipeline.tools import PipelineError

TIMEOUT_S = 30
TOKEN = "TWINOPS_GITLAB_TOKEN"  # noqa: S105  (the name of a variable)


def post(text: str, *, about: str, variables: Mapping[str, str] = os.environ) -> int:
    """Put ``text`` on the merge request of this pipeline, or of this commit. Says so where there is none.

    A comment that cannot be posted does not fail a deployment: it is said in the log, and what was to be said is there.
    """
    if not variables.get(TOKEN):
        print(f"{about}: no comment, because {TOKEN} is not set (docs/pipeline.md)")
        return 0
    try:
        requests = _merge_requests(variables)
        for number in requests:
            _put(variables, number, f"<!-- twinops: {about} -->\n{text}", about)
    except (OSError, ValueError, KeyError) as error:
        print(f"{about}: the comment could not be posted: {error}")
        return 0
    print(f"{about}: commented on {', '.join(f'!{number}' for number in requests) or 'nothing: no merge request'}")
    return 0


def _merge_requests(variables: Mapping[str, str]) -> list[int]:
    if variables.get("CI_MERGE_REQUEST_IID"):
        return [int(variables["CI_MERGE_REQUEST_IID"])]
    commit = variables["CI_COMMIT_SHA"]
    found = _call(variables, "GET", f"repository/commits/{commit}/merge_requests")
    return [int(each["iid"]) for each in found if each["state"] == "merged"]


def _put(variables: Mapping[str, str], number: int, text: str, about: str) -> None:
    """Change our comment about it, or add one."""
    notes = f"merge_requests/{number}/notes"
    listed = _call(variables, "GET", f"{notes}?per_page=100&order_by=created_at&sort=desc")
    ours = next((note["id"] for note in listed if str(note["body"]).startswith(f"<!-- twinops: {about} -->")), None)
    if ours is None:
        _call(variables, "POST", notes, {"body": text})
    else:
        _call(variables, "PUT", f"{notes}/{ours}", {"body": text})


def _call(variables: Mapping[str, str], method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
    api = variables["CI_API_V4_URL"]
    if urllib.parse.urlsplit(api).scheme not in ("http", "https"):
        raise PipelineError(f"CI_API_V4_URL: expected an address, got {api}")
    project = urllib.parse.quote(variables["CI_PROJECT_ID"], safe="")
    request = urllib.request.Request(  # noqa: S310  (its scheme was checked)
        f"{api}/projects/{project}/{path}",
        data=json.dumps(content).encode() if content is not None else None,
        headers={"PRIVATE-TOKEN": variables[TOKEN], "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        return json.load(answer)
