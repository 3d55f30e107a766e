"""Trains challengers of a model's champion, compares the best with it, and proposes a better one as a new release.

Reads the model registry, the champion (bucket for models), decisions (S3), readings and labels (data source plant).
Writes the report, evaluation.json, the model; where the challenger is better also a branch ``retrain/<version>`` or
proposal.patch, and the registry: the challenger, never the champion.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from retrain import judgement, proposal, training
from retrain.judgement import Outcome
from retrain.proposal import ProposalError
from retrain.training import Trained, TrainingError
from toolbox import context, data, models, published, report, training_data
from toolbox.context import Context
from toolbox.registry import CHAMPION, Registry, State, Version, after
from twinops import release
from twinops.errors import TwinopsError

CODE = Path(__file__).resolve().parents[2]
TOKEN_FILE = "push-token"  # noqa: S105 - its name, not what is in it
CANDIDATES = Path(__file__).with_name("candidates.yml")


def main() -> int:
    """Exit code 0: done, whatever came of it; 2: something that it needs cannot be had."""
    run = context.load()
    try:
        with tempfile.TemporaryDirectory(prefix="retrain-") as scratch:
            outcome = retrain(run, Path(scratch))
    except TwinopsError as error:
        print(f"retrain: {error}", file=sys.stderr)
        return 2
    why = f"model {run.parameters['model']}, decisions of the last {run.parameters['lookback_h']} h"
    made = judgement.page(outcome, env=run.twin["env"], why=why, run=f"Run {run.run_id}, commit {run.git_sha[:12]}.")
    patch = f"\nproposal.patch:\n\n{outcome.patch}" if outcome.patch else ""  # nothing else carries it
    report.write(run.output, made, judgement.numbers(outcome), mail_ends=patch)
    print(made.headline)
    return 0


def retrain(run: Context, scratch: Path) -> Outcome:
    """Train, choose, judge, propose, register, in this order; each step may be repeated.

    :raises TwinopsError: there is no champion, its data or model cannot be had, a candidate cannot be trained
    """
    registry = Registry(run.client("s3"), run.twin["models_bucket"], run.parameters["model"])
    state = after(registry.history())
    if CHAMPION not in state.aliases:
        raise TrainingError(f"model {run.parameters['model']}: expected a champion in the registry, there is none")
    champion = state.versions[state.aliases[CHAMPION]]
    training_data.of_version(run, champion)  # what it was trained on is what its release says, by its digests
    tree = scratch / "tree"
    proposal.clone(CODE, tree)
    base = base_text(tree, champion)
    version = training.next_version(tree, list(state.versions))
    tried = train_all(run, tree, champion, base, version)
    chosen = max(tried, key=lambda one: one.held_out_f1)
    version, same_as = name_of(chosen, version, state, tree)
    outcome = Outcome(
        champion=champion.name,
        version=version,
        data_version=champion.data_version,
        chosen=chosen,
        tried=tried,
        judgement=judge(run, champion, chosen, scratch),
        same_as=same_as,
    )
    evaluation = keep(run, outcome)
    if outcome.judgement.comparison.verdict != "promote" or same_as:
        return outcome
    outcome = propose(run, tree, outcome, base)
    registered = Version(
        name=version,
        sha256=chosen.sha256("model.onnx"),
        data_version=champion.data_version,
        git_sha=run.git_sha,
        evaluation_sha256=chosen.sha256("training.json"),
    )
    reason = f"better than {champion.name} in evaluation {evaluation}"
    if version not in state.versions:
        registry.register(registered, approver=f"run {run.run_id}", reason=reason)
    registry.challenge(version, approver=f"run {run.run_id}", reason=reason)
    return outcome


def base_text(tree: Path, champion: Version) -> str:
    """The release file of the champion."""
    file = training.release_file(tree, champion.name)
    if file is None:
        raise TrainingError(f"edge/releases/{champion.name}.yml: expected the champion's release in this commit")
    return file.read_text("utf-8")


def train_all(run: Context, tree: Path, champion: Version, base: str, version: str) -> list[Trained]:
    """Every candidate, on the data version that is registered for the champion."""
    tried = []
    for candidate in training.read_candidates(CANDIDATES, run.parameters["candidates"]):
        about = training.describe(champion.name, champion.data_version, candidate)
        text = training.release_text(base, version, candidate, about)
        trained = training.train(tree, version, text, candidate, tree.parent / candidate.name)
        found = trained.training["data_version"]
        if found != champion.data_version:
            raise TrainingError(
                f"data: expected version {champion.data_version[:12]}, on which {champion.name} was trained; "
                f"edge/training of this commit trains on {found[:12]}"
            )
        print(f"{candidate.name}: F1 {trained.held_out_f1} on held-out records")
        tried.append(trained)
    return tried


def name_of(chosen: Trained, version: str, state: State, tree: Path) -> tuple[str, str]:
    """The name to propose, and the release that has exactly this model already, or an empty text.

    A model that an earlier run registered, and whose release is not in this commit yet, keeps its name.
    """
    digest = chosen.sha256("model.onnx")
    same = [known.name for known in state.versions.values() if known.sha256 == digest]
    released = training.release_like(tree, chosen.candidate, but=version)
    released += [name for name in same if training.release_file(tree, name)]
    if released:
        return version, released[0]
    return (same[0] if same else version), ""


def judge(run: Context, champion: Version, chosen: Trained, scratch: Path) -> judgement.Judgement:
    """The chosen candidate against the champion's own file, on labelled records that devices decided lately."""
    since = run.started - timedelta(hours=run.parameters["lookback_h"])
    decisions = data.decisions(run.client("s3"), run.twin["data_bucket"], since=since)
    store = data.source(run, "plant")
    features = chosen.training["features"]
    if decisions.empty:
        raise TrainingError(f"decisions: expected some since {since:%Y-%m-%d %H:%M} UTC to judge on, got none")
    known = data.readings(store, decisions["record_id"], features)
    records = judgement.field_records(decisions, known, features)
    target = release.file_target(run.twin["env"], champion.sha256)
    model = published.read(run.client("s3"), run.twin["models_bucket"], target, champion.sha256)
    (scratch / "champion.onnx").write_bytes(model)
    old, new = (models.Model(path) for path in (scratch / "champion.onnx", chosen.folder / "model.onnx"))
    return judgement.judge(records, data.labels(store, records["record_id"]), old, new)


def keep(run: Context, outcome: Outcome) -> str:
    """Store the challenger and its evaluation with the run; the digest of the evaluation."""
    for file in ("model.onnx", "training.json"):
        (run.output / file).write_bytes((outcome.chosen.folder / file).read_bytes())
    found: dict[str, Any] = {
        "champion": outcome.champion,
        "challenger": outcome.version,
        "data_version": outcome.data_version,
        "model_sha256": outcome.chosen.sha256("model.onnx"),
        "candidate": asdict(outcome.chosen.candidate),
        "comparison": asdict(outcome.judgement.comparison),
    }
    content = json.dumps(found, indent=2).encode() + b"\n"
    (run.output / "evaluation.json").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def propose(run: Context, tree: Path, outcome: Outcome, base: str) -> Outcome:
    """Put the new release file where a person decides on it: a branch, or a patch where nothing may be pushed."""
    version, candidate = outcome.version, outcome.chosen.candidate
    about = training.describe(outcome.champion, outcome.data_version, candidate)
    text = training.release_text(base, version, candidate, about)
    path = release.release_path(version)
    (tree / path).write_text(text, "utf-8")
    title = f"Propose {version}, a challenger of {outcome.champion}"
    made = proposal.propose(tree, path, f"retrain/{version}", title)
    url = run.twin.get("push_repository", "")
    done = replace(outcome, branch=made.branch)
    if url:
        try:
            return replace(done, proposed=proposal.push(tree, made, url, title=title, token=push_token(url)))
        except ProposalError as error:
            print(f"retrain: {error}", file=sys.stderr)
            done = replace(done, not_pushed=" ".join(str(error).split()))
    (run.output / "proposal.patch").write_text(made.patch, "utf-8")
    return replace(done, patch=made.patch)


def push_token(url: str) -> str:
    """The token for a URL of the web, from a file that a person left on the twin; a path or an SSH URL needs none."""
    if not url.startswith("https://"):
        return ""
    file = Path(os.environ["TWINOPS_HOME"]) / TOKEN_FILE
    try:
        if file.stat().st_mode & 0o077:
            raise ProposalError(f"{file}: expected mode 0600, as nobody else may read it: chmod 600 {file}")
        return file.read_text("utf-8").strip()
    except OSError as error:
        raise ProposalError(f"{file}: expected the token for {url}: {error.strerror}") from error


if __name__ == "__main__":
    try:
        sys.exit(main())
    except context.ContextError as mistake:
        sys.exit(f"retrain: {mistake}")
