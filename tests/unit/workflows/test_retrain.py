"""Retraining: what is tried and proposed, and that it never promotes. The run trains, with the trainer of releases."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from retrain import judgement, proposal, run, training
from retrain.judgement import Judgement, Outcome
from retrain.proposal import ProposalError
from retrain.training import Candidate, Trained, TrainingError
from river.datasets import Shuttle
from toolbox import compare, report
from toolbox.context import Context
from toolbox.registry import Registry, Version, after
from twinops import release
from twinops.aws.clients import client

from tests.unit.workflows.conftest import CLONE, World

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
FEATURES = [f"f{number}" for number in range(1, 10)]
BOOSTING = Candidate("boosting", "gradient_boosting", {"n_estimators": 60, "random_state": 1})
BASE = (CLONE / "edge/releases/v1.yml").read_text()
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


# ---- candidates and the release file


def test_the_candidates_are_ones_that_training_knows() -> None:
    found = training.read_candidates(CLONE / "workflows/retrain/candidates.yml", "")
    assert len({one.name for one in found}) == len(found) > 2
    assert {one.trainer for one in found} == {"gradient_boosting", "logistic_regression"}


def test_only_some_candidates_in_the_order_of_the_file() -> None:
    found = training.read_candidates(CLONE / "workflows/retrain/candidates.yml", "linear boosting")
    assert [one.name for one in found] == ["boosting", "linear"]
    with pytest.raises(TrainingError, match=r"candidates: expected some of boosting, .*, got forest"):
        training.read_candidates(CLONE / "workflows/retrain/candidates.yml", "boosting forest")


def test_a_release_file_differs_from_the_champions_only_in_what_is_new() -> None:
    text = training.release_text(BASE, "v7", BOOSTING, 'Challenger of "v1".')
    made = release.parse_release(yaml.safe_load(text), "edge/releases/v7.yml")
    old = release.parse_release(yaml.safe_load(BASE), "edge/releases/v1.yml")
    assert (made.version, made.description, made.trainer) == ("v7", 'Challenger of "v1".', "gradient_boosting")
    assert dict(made.parameters) == BOOSTING.parameters
    assert (made.model_name, dict(made.config), made.device_class) == (old.model_name, dict(old.config), "any")
    assert text[text.index("config:") :] == BASE[BASE.index("config:") :], "with its comments"


def test_a_device_class_stays_and_a_shadow_does_not() -> None:
    base = BASE.replace("model:", "device_class: aarch64\nshadow: v2\nmodel:", 1)
    made = yaml.safe_load(training.release_text(base, "v7", BOOSTING, "d"))
    assert made["device_class"] == "aarch64"
    assert "shadow" not in made


def test_a_release_that_is_laid_out_otherwise_is_refused() -> None:
    moved = "config: {}\n" + BASE[: BASE.index("config:")]
    with pytest.raises(TrainingError, match=r"edge/releases/v7\.yml: expected a release after the pattern of v1"):
        training.release_text(moved, "v7", BOOSTING, "d")


@pytest.mark.parametrize(
    ("files", "registered", "expected"),
    [
        (["v1", "v2", "v4-hangs"], ["v2"], "v5"),
        (["v1"], ["v1", "v9-0123456789ab"], "v10"),
        (["pilot"], [], "v1"),
    ],
)
def test_the_next_version(tmp_path: Path, files: list[str], registered: list[str], expected: str) -> None:
    (tmp_path / "edge/releases").mkdir(parents=True)
    for name in files:
        (tmp_path / f"edge/releases/{name}.yml").touch()
    assert training.next_version(tmp_path, registered) == expected


def test_releases_that_have_a_candidates_model_already() -> None:
    boosting, deeper = (
        training.read_candidates(CLONE / "workflows/retrain/candidates.yml", name)[0]
        for name in ("boosting", "deeper-trees")
    )
    assert training.release_like(CLONE, boosting, but="v5") == ["v2"]
    assert training.release_like(CLONE, boosting, but="v2") == []
    assert training.release_like(CLONE, deeper, but="v5") == []


# ---- the records that are judged on


def test_each_record_once_as_a_device_read_it() -> None:
    decisions = pd.DataFrame(
        {
            "device": ["a", "b", "a", "b", "a"],
            "record_id": ["r1", "r1", "r2", "r2", "r3"],
            "recorded_at": [NOON, NOON, NOON, NOON, NOON],
            "release": "v1",
        }
    )
    before, later = (f"{NOON + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (-1, 1))
    readings = pd.DataFrame(
        [("*", "r1", "", 1.0), ("*", "r2", "", 2.0), ("a", "r2", before, 20.0), ("a", "r1", later, 9.0),
         ("*", "r3", "", None), ("*", "r4", "", 4.0)],
        columns=["device", "record_id", "since", "f1"],
    )  # fmt: skip
    found = judgement.field_records(decisions, readings, ["f1"])
    assert list(found.itertuples(index=False, name=None)) == [("r1", 1.0), ("r2", 20.0)]


# ---- what is proposed


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A checkout as the twin has it: of one commit, with nothing before."""
    origin = tmp_path / "origin"
    (origin / "edge/releases").mkdir(parents=True)
    (origin / "edge/releases/v1.yml").write_text(BASE)
    git(origin, "init", "-q", "-b", "main")
    for message in ("First", "Second"):
        git(origin, "add", ".")
        git(origin, "commit", "-q", "--allow-empty", "-m", message)
    checkout = tmp_path / "code"
    git(tmp_path, "init", "-q", str(checkout))
    git(checkout, "fetch", "-q", "--depth", "1", str(origin), "HEAD")
    git(checkout, "checkout", "-q", "FETCH_HEAD")
    return checkout


def proposed(code: Path, tree: Path, text: str = "version: v2\n") -> proposal.Proposal:
    proposal.clone(code, tree)
    (tree / "edge/releases/v2.yml").write_text(text)
    return proposal.propose(tree, "edge/releases/v2.yml", "retrain/v2", "Propose v2, a challenger of v1")


@pytest.fixture
def remote(tmp_path: Path, code: Path) -> Path:
    """Where a branch retrain/<version> may be pushed to, and no other."""
    bare = tmp_path / "remote.git"
    git(tmp_path, "clone", "-q", "--bare", "origin", str(bare))
    hook = bare / "hooks/update"
    hook.write_text('#!/bin/sh\ncase $1 in refs/heads/retrain/*) exit 0 ;; esac\necho "protected: $1" >&2\nexit 1\n')
    hook.chmod(0o755)
    return bare


def test_a_repeated_run_proposes_the_same_commit_and_finds_its_branch(code: Path, remote: Path, tmp_path: Path) -> None:
    before = git(code, "status", "--porcelain", "--branch")
    one, two = proposed(code, tmp_path / "one"), proposed(code, tmp_path / "two")
    assert one == two
    assert git(code, "status", "--porcelain", "--branch") == before, "other runs use this folder"
    assert proposal.push(tmp_path / "one", one, str(remote), title="t") == "pushed; open a merge request for it"
    assert proposal.push(tmp_path / "two", two, str(remote), title="t") == "was there already"
    assert git(remote, "log", "-2", "--format=%s|%an", "retrain/v2").splitlines() == [
        "Propose v2, a challenger of v1|twinops retrain",
        "Second|test",
    ]
    assert git(remote, "show", "--name-only", "--format=", "retrain/v2") == "edge/releases/v2.yml"


def test_another_proposal_of_that_name_is_left_alone(code: Path, remote: Path, tmp_path: Path) -> None:
    proposal.push(tmp_path / "one", proposed(code, tmp_path / "one"), str(remote), title="t")
    there = git(remote, "rev-parse", "retrain/v2")
    other = proposed(code, tmp_path / "two", "version: v2 # other\n")
    with pytest.raises(ProposalError, match="branch retrain/v2: expected none, there is one with other contents"):
        proposal.push(tmp_path / "two", other, str(remote), title="t")
    assert git(remote, "rev-parse", "retrain/v2") == there


def test_the_report_says_why_nothing_was_pushed_and_names_no_branch_that_is_taken(
    code: Path, remote: Path, tmp_path: Path
) -> None:
    git(remote, "branch", "retrain/v7", "HEAD")
    proposal.clone(code, tmp_path / "tree")
    context = Context("1" * 24, "a" * 40, STARTED, {}, {"push_repository": str(remote)}, tmp_path)
    found = run.propose(context, tmp_path / "tree", outcome(TRUTH), BASE)
    assert "edge/releases/v7.yml" in found.patch == (tmp_path / "proposal.patch").read_text()
    page = said(found)
    assert "branch retrain/v7: expected none, there is one with other contents" in page.reasons[-1]
    assert "`git switch -c <name> && git am < proposal.patch && git push -u origin HEAD`" in page.action
    assert "<name>" not in report.html(page)


def test_gitlab_is_asked_for_a_merge_request(code: Path, remote: Path, tmp_path: Path) -> None:
    git(remote, "config", "receive.advertisePushOptions", "true")
    told = tmp_path / "told"
    hook = remote / "hooks/post-receive"
    hook.write_text(f'#!/bin/sh\nprintf "%s\\n" "$GIT_PUSH_OPTION_0" "$GIT_PUSH_OPTION_1" > {told}\n')
    hook.chmod(0o755)
    made = proposed(code, tmp_path / "one")
    assert proposal.push(tmp_path / "one", made, str(remote), title="Propose v2") == "pushed, with a merge request"
    assert told.read_text().splitlines() == ["merge_request.create", "merge_request.title=Propose v2"]


def test_a_remote_that_refuses_says_why(code: Path, remote: Path, tmp_path: Path) -> None:
    made = replace(proposed(code, tmp_path / "one"), branch="main-2")
    with pytest.raises(ProposalError, match=r"git push: (?s:.*)protected: refs/heads/main-2"):
        proposal.push(tmp_path / "one", made, str(remote), title="t")


def test_the_token_reaches_git_by_its_environment_only(tmp_path: Path) -> None:
    """git's own machinery of credentials is asked, as a push over HTTPS would ask it."""
    filled = subprocess.run(
        ["git", "-c", "credential.helper=", "-c", f"credential.helper={proposal._HELPER}", "credential", "fill"],
        input="protocol=https\nhost=gitlab.example.com\n\n",
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), proposal.TOKEN_VARIABLE: "glpat-secret"},
        capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    assert "password=glpat-secret" in filled.splitlines()
    assert "glpat" not in proposal._HELPER


def test_the_token_is_in_a_file_that_only_its_owner_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINOPS_HOME", str(tmp_path))
    url = "https://gitlab.example.com/plant/twinops.git"
    with pytest.raises(ProposalError, match="push-token: expected the token for https://gitlab"):
        run.push_token(url)
    (tmp_path / "push-token").write_text("glpat-secret\n")
    (tmp_path / "push-token").chmod(0o644)
    with pytest.raises(ProposalError, match="push-token: expected mode 0600"):
        run.push_token(url)
    (tmp_path / "push-token").chmod(0o600)
    assert run.push_token(url) == "glpat-secret"
    assert run.push_token("git@gitlab.example.com:plant/twinops.git") == run.push_token("/srv/twinops.git") == ""


def test_the_patch_can_be_applied(code: Path, tmp_path: Path) -> None:
    made = proposed(code, tmp_path / "one")
    (tmp_path / "proposal.patch").write_text(made.patch)
    git(tmp_path / "origin", "switch", "-q", "-c", made.branch)
    git(tmp_path / "origin", "am", "-q", "../proposal.patch")
    assert (tmp_path / "origin/edge/releases/v2.yml").read_text() == "version: v2\n"


# ---- a whole run


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1 as it is released."""
    folder = tmp_path_factory.mktemp("v1")
    subprocess.run([sys.executable, CLONE / "edge/training/train.py", "v1", folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def field(world: World, champion: Path) -> World:
    """v1 is champion; a device has decided 4,000 records of the field, and most of them were inspected."""
    digests = {}
    for file in ("model.onnx", "training.json"):
        content = (champion / file).read_bytes()
        digests[file] = hashlib.sha256(content).hexdigest()
        target = release.stored_path(release.file_target("sandbox", digests[file]), digests[file])
        world.put(f"tuf/targets/{target}", content)
    data_version = json.loads((champion / "training.json").read_text())["data_version"]
    registry = Registry(client("s3"), world.bucket, "shuttle-anomaly")
    version = Version("v1", digests["model.onnx"], data_version, "c" * 40, digests["training.json"])
    registry.register(version, approver="a", reason="r")
    registry.promote("v1", approver="a", reason="r")
    rows = pd.read_csv(Shuttle().path, compression="gzip")
    rows = rows[rows.index % 5 == 3].iloc[:4000]
    ids = [f"shuttle-{row}" for row in rows.index]
    decided = {
        "device": "device-001", "seq": range(len(rows)), "record_id": ids, "release": "v1", "score": 0.5,
        "recorded_at": pd.Timestamp(NOON) + pd.to_timedelta(range(len(rows)), unit="s"),
        "model_sha256": digests["model.onnx"], "label": 0,
    }  # fmt: skip
    world.upload(pd.DataFrame(decided))
    readings = rows[FEATURES].assign(device="*", record_id=ids, since="")
    world.put("plant/readings.csv", readings.to_csv(index=False).encode())
    world.label(pd.Series(rows["anomaly"].to_numpy(), index=ids).iloc[:3500])
    return world


ASKED: dict[str, Any] = {"model": "shuttle-anomaly", "candidates": "deeper-trees", "lookback_h": 24}
STARTED = f"{NOON + timedelta(hours=3):%Y-%m-%dT%H:%M:%S.%fZ}"


def test_a_better_model_is_proposed_and_registered_and_not_promoted(field: World) -> None:
    output, done = field.start("retrain", ASKED, at=STARTED)
    evaluation = json.loads((output / "evaluation.json").read_text())
    version = evaluation["challenger"]
    assert done.stdout.splitlines()[-1] == f"A better model is proposed: {version} for v1"
    assert (evaluation["comparison"]["verdict"], evaluation["comparison"]["n"]) == ("promote", 3500)
    patch = (output / "proposal.patch").read_text()
    assert f"edge/releases/{version}.yml" in patch
    assert patch in (output / "summary.txt").read_text(), "nothing else carries it"
    page = (output / "report.html").read_text()
    assert f"git switch -c retrain/{version}" in page

    registry = Registry(client("s3"), field.bucket, "shuttle-anomaly")
    state = after(registry.history())
    assert state.aliases == {"champion": "v1", "challenger": version}
    made = state.versions[version]
    assert made.sha256 == hashlib.sha256((output / "model.onnx").read_bytes()).hexdigest() == evaluation["model_sha256"]
    assert (made.data_version, made.git_sha) == (state.versions["v1"].data_version, "a" * 40)
    digest = hashlib.sha256((output / "evaluation.json").read_bytes()).hexdigest()
    assert registry.history()[-1].reason == f"better than v1 in evaluation {digest}"

    again, _ = field.start("retrain", ASKED, at=STARTED)
    assert (again / "proposal.patch").read_bytes() == (output / "proposal.patch").read_bytes()
    assert len(registry.history()) == 4, "nothing new was registered"


def test_without_a_champion_nothing_is_trained(world: World) -> None:
    _, done = world.start("retrain", ASKED, at=STARTED, ok=False)
    assert done.returncode == 2
    assert "expected a champion in the registry, there is none" in done.stderr


# ---- what the report says

TRUTH = [0] * 400 + [1] * 100


def outcome(challenger: list[int], **changed: Any) -> Outcome:
    champion = [0] * 430 + [1] * 70
    judged = Judgement(1000, compare.compare(TRUTH, champion, challenger))
    trained = Trained(BOOSTING, Path(), {"metrics": {"f1": 0.99}})
    return Outcome("v1", "v7", "d" * 64, trained, [trained], judged, **changed)


def said(found: Outcome) -> report.Report:
    return judgement.page(found, env="sandbox", why="by hand", run="Run 1.")


def test_what_to_do_with_a_proposal() -> None:
    pushed = said(outcome(TRUTH, branch="retrain/v7", proposed="pushed, with a merge request"))
    assert (pushed.state, pushed.headline) == ("act", "A better model is proposed: v7 for v1")
    assert "Review branch `retrain/v7` (pushed, with a merge request)" in pushed.action
    patched = said(outcome(TRUTH, branch="retrain/v7", patch="From 1\n\n+<b>version</b>\n"))
    assert "git am < proposal.patch" in patched.action
    assert "<b>version" not in report.html(patched)


def test_no_better_model() -> None:
    same, worse = said(outcome([0] * 430 + [1] * 70)), said(outcome([0] * 500))
    assert same.headline == "No better model was found: the best candidate is not clearly better than v1"
    assert worse.headline == "No better model was found: the best candidate is worse than v1"
    known = said(outcome(TRUTH, same_as="v2"))
    assert known.headline == "The best candidate is the model of v2, which is a release already"
