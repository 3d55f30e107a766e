"""Comments on merge requests, against a server that answers as GitLab's API does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipeline import notes

PROJECT = "/api/v4/projects/plant%2Ftwinops"
COMMIT = "c" * 40


class GitLab(ThreadingHTTPServer):
    """Merge request 5 was merged as COMMIT; 6 is open. Only the right token gets in."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.notes: dict[int, list[dict[str, Any]]] = {5: [], 6: []}

    @property
    def variables(self) -> dict[str, str]:
        api = f"http://127.0.0.1:{self.server_address[1]}/api/v4"
        of_job = {"CI_API_V4_URL": api, "CI_PROJECT_ID": "plant/twinops", "CI_COMMIT_SHA": COMMIT}
        return {"TWINOPS_GITLAB_TOKEN": "right", **of_job}


class Answer(BaseHTTPRequestHandler):
    server: GitLab

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == f"{PROJECT}/repository/commits/{COMMIT}/merge_requests":
            return self.say([{"iid": 5, "state": "merged"}, {"iid": 6, "state": "opened"}])
        return self.say(list(reversed(self.server.notes[int(path.split("/")[-2])])))

    def do_POST(self) -> None:
        found = self.server.notes[int(self.path.split("/")[-2])]
        found.append({"id": len(found) + 1, **self.content})
        self.say(found[-1])

    def do_PUT(self) -> None:
        *_, number, _, note = self.path.split("/")
        found = self.server.notes[int(number)][int(note) - 1]
        found.update(self.content)
        self.say(found)

    @property
    def content(self) -> dict[str, Any]:
        return dict(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def say(self, what: Any) -> None:
        right = self.headers["PRIVATE-TOKEN"] == "right"
        body = json.dumps(what if right else {"message": "401 Unauthorized"}).encode()
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with GitLab() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def bodies(gitlab: GitLab, number: int) -> list[str]:
    return [note["body"] for note in gitlab.notes[number]]


def test_a_merge_request_has_one_comment_a_subject_kept_up_to_date(gitlab: GitLab) -> None:
    variables = {**gitlab.variables, "CI_MERGE_REQUEST_IID": "6"}
    for about, text in [("plan for staging", "one"), ("plan for production", "two"), ("plan for staging", "three")]:
        assert notes.post(text, about=about, variables=variables) == 0
    assert [body.splitlines()[1] for body in bodies(gitlab, 6)] == ["three", "two"]


def test_a_deployment_is_told_to_the_merge_request_that_it_came_from(gitlab: GitLab) -> None:
    notes.post("It is deployed", about="deployment of staging", variables=gitlab.variables)
    assert (len(bodies(gitlab, 5)), bodies(gitlab, 6)) == (1, [])
    assert "It is deployed" in bodies(gitlab, 5)[0]


def test_a_comment_that_cannot_be_posted_is_said_and_fails_nothing(
    gitlab: GitLab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notes.post("text", about="plan", variables={**gitlab.variables, "TWINOPS_GITLAB_TOKEN": "wrong"}) == 0
    assert "plan: the comment could not be posted: HTTP Error 401" in capsys.readouterr().out
    assert notes.post("text", about="plan", variables={}) == 0
    assert "TWINOPS_GITLAB_TOKEN is not set" in capsys.readouterr().out
    assert bodies(gitlab, 5) == bodies(gitlab, 6) == []
