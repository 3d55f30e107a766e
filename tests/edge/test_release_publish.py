"""Building and publishing: a small clone in git, a bucket in memory that can fail at any upload."""

from __future__ import annotations

import io
import json
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError
from twinops import release
from twinops.aws import release_bundle
from twinops.aws.registry import Registry, after
from twinops.aws.releases import Bucket
from twinops.edge.verify import Verifier
from twinops.errors import TwinopsError
from twinops.publishing.keys import KeyRing, key_plan

ENV = "staging"
NOW = datetime(2026, 11, 22, tzinfo=timezone.utc)

TRAIN = """
import json, pathlib, sys
version, out = sys.argv[1:]
folder = pathlib.Path(out)
counter = pathlib.Path(__file__).with_name("trained.txt")
counter.write_text((counter.read_text() if counter.exists() else "") + version + " ")
if version == "broken":
    sys.exit("no such trainer")
(folder / "model.onnx").write_text("model of " + version)
(folder / "golden.json").write_text("{}")
training = {"data_version": "d1", "rows": {"held_out": 1000}, "metrics": {"alarm_rate": 0.072}}
(folder / "training.json").write_text(json.dumps(training))
"""


class MemoryS3:
    """Objects of one bucket. ``fail_after``: so many uploads succeed, the next one loses its connection."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.exists = True
        self.calls: list[str] = []
        self.fail_after: int | None = None

    def list_objects_v2(self, Prefix: str = "", **_: Any) -> dict[str, Any]:
        self.calls.append("list")
        if not self.exists:
            raise ClientError({"Error": {"Code": "NoSuchBucket", "Message": "none"}}, "ListObjectsV2")
        listed = {key: content for key, content in self.objects.items() if key.startswith(Prefix)}
        return {"Contents": [{"Key": key, "Size": len(content)} for key, content in listed.items()]}

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=lambda **options: [self.list_objects_v2(**options)])

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        self.calls.append(f"get {Key}")
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "none"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[Key])}

    def put_object(self, *, Key: str, Body: bytes, **options: Any) -> dict[str, Any]:
        if self.fail_after is not None:
            if self.fail_after == 0:
                raise ClientError({"Error": {"Code": "RequestTimeout", "Message": "cable cut"}}, "PutObject")
            self.fail_after -= 1
        if options.get("IfNoneMatch") and Key in self.objects:
            raise ClientError({"Error": {"Code": "PreconditionFailed", "Message": "there"}}, "PutObject")
        self.calls.append(f"put {Key}")
        self.objects[Key] = Body
        return {}

    def puts(self) -> list[str]:
        return [call for call in self.calls if call.startswith("put")]


class Clone:
    """A clone with releases v1 and v2, and what ``release_bundle`` does with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.s3 = folder, MemoryS3()
        self.registry = Registry(MemoryS3(), "models", "m")
        folder.mkdir()
        self.git("init", "-q")
        self.write("edge/process/main.py", "print()\n")
        self.write("edge/training/train.py", TRAIN)
        self.write("locks/device.txt", "numpy==2.4.6 \\\n    --hash=sha256:" + "a" * 64 + "\n")
        self.write(".gitignore", "trained.txt\nbuild/\nkeys/\ntuf/\n")
        for version in ("v1", "v2", "broken"):
            self.write_release(version)
        self.commit()

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
        command = ["git", *identity, "-C", str(self.folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def write_release(self, version: str, shadow: str | None = None, **config: Any) -> None:
        model = {"name": "m", "trainer": "t", "parameters": {}}
        data = {"version": version, "description": "d", "model": model, "config": config}
        data |= {"shadow": shadow} if shadow else {}
        self.write(release.release_path(version), yaml.safe_dump(data))

    def spec(self, version: str) -> release.ReleaseSpec:
        where = release.release_path(version)
        return release.parse_release(yaml.safe_load((self.folder / where).read_text()), where)

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD")

    def run(
        self,
        version: str = "v1",
        *,
        apply: bool = True,
        now: datetime = NOW,
        signature_threshold: int = 1,
        **changes: Any,
    ) -> dict[str, Any]:
        spec = self.spec(version)
        options = {
            "env": ENV,
            "spec": spec,
            "challenger": self.spec(spec.shadow) if spec.shadow else None,
            "state": "published",
            "clone": self.folder,
            "repository": self.folder / "tuf",
            "build_cache": self.folder / "build",
            "keys": self.folder / "keys",
            "key_plan": key_plan(ENV, signature_threshold),
            "development_keys": True,
            "rebuild": False,
            "approver": "Ada",
        }
        options |= changes
        keys = options["keys"]
        options["keys"] = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        wanted = release_bundle.Options(**options)
        self.s3.calls.clear()
        return release_bundle.reconcile(
            wanted, Bucket("models", self.s3), now, apply=apply, registry=lambda model: self.registry
        )

    def trained(self) -> list[str]:
        path = self.folder / "edge/training/trained.txt"
        return path.read_text().split() if path.exists() else []

    def content(self) -> dict[str, bytes]:
        return dict(self.s3.objects)

    def verifies(self, result: dict[str, Any], tmp: Path) -> bool:
        """Whether a device that was enrolled with this repository gets the release from the copy on disk."""
        (tmp / "metadata").mkdir(parents=True)
        (tmp / "metadata/root.json").write_bytes((self.folder / "tuf/metadata/root.json").read_bytes())
        trust = Verifier(tmp, self.folder / "tuf", ENV)
        manifest, _ = trust.manifest(result["release"], result["release_digest"])
        return all(trust.delivered(trust.file(file.sha256)).is_file() for file in manifest.files)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.fixture
def real_time(clone: Clone) -> datetime:
    """For what a device verifies: its clock is the real one."""
    return datetime.now(timezone.utc)


def test_a_first_publication_is_what_a_device_verifies(clone: Clone, tmp_path: Path, real_time: datetime) -> None:
    result = clone.run(now=real_time)
    assert result["changed"] is True
    assert clone.verifies(result, tmp_path / "device")
    assert result["hold_out"] == {"records": 1000, "alarms": 72}
    assert result["git_sha"] == clone.git("rev-parse", "HEAD")


def test_a_second_run_signs_writes_and_trains_nothing(clone: Clone) -> None:
    first = clone.run()
    before = clone.content()
    second = clone.run()
    assert (second["changed"], second["written"], second["release_digest"]) == (False, [], first["release_digest"])
    assert clone.content() == before
    assert clone.s3.calls == ["list", "get tuf/metadata/timestamp.json"]
    assert clone.trained() == ["v1"]


def test_the_timestamp_is_uploaded_last_and_targets_first(clone: Clone) -> None:
    clone.run()
    puts = [call.removeprefix("put tuf/") for call in clone.s3.puts()]
    metadata = [path for path in puts if path.startswith("metadata/")]
    assert [path.split("/")[1] for path in metadata] == [
        "1.targets.json", "1.staging.json", "1.staging-current.json", "1.snapshot.json", "1.root.json",
        "timestamp.json",
    ]  # fmt: skip
    assert puts[-len(metadata) :] == metadata


def test_what_two_releases_share_is_stored_once(clone: Clone) -> None:
    clone.run("v1")
    clone.run("v2")
    uploaded = [call for call in clone.s3.puts() if "/files/" in call]
    assert len(uploaded) == 2  # the model, and the bill of materials that names it


@pytest.mark.fault("publication cut at every upload", "nothing of it is visible; the next run publishes")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_interrupted_at_every_upload_the_next_run_converges(
    clone: Clone, tmp_path: Path, real_time: datetime, version: str
) -> None:
    if version == "v2":
        clone.run("v1", now=real_time)
    start = clone.content()
    complete = clone.run(version, now=real_time)
    uploads = len(clone.s3.puts())
    for fail_after in range(uploads):
        clone.s3.objects, clone.s3.fail_after = dict(start), fail_after
        with pytest.raises(TwinopsError, match="PutObject"):
            clone.run(version, now=real_time)
        visible = clone.s3.objects.get("tuf/metadata/timestamp.json")
        assert visible == start.get("tuf/metadata/timestamp.json"), "an unfinished publication was visible"
        clone.s3.fail_after = None
        again = clone.run(version, now=real_time)
        assert again["release_digest"] == complete["release_digest"]
        assert clone.verifies(again, tmp_path / f"device-{fail_after}")
        assert clone.run(version, now=real_time)["changed"] is False


def test_check_mode_writes_nothing_anywhere(clone: Clone) -> None:
    before = sorted(str(path) for path in clone.folder.rglob("*") if ".git/" not in str(path))
    result = clone.run(apply=False)
    assert (result["changed"], result["release_digest"]) == (True, None)
    assert (clone.s3.puts(), clone.trained()) == ([], [])
    assert sorted(str(path) for path in clone.folder.rglob("*") if ".git/" not in str(path)) == before


def test_check_mode_before_there_is_a_bucket(clone: Clone) -> None:
    clone.s3.exists = False
    assert clone.run(apply=False)["changed"] is True


def test_a_missing_bucket_is_named(clone: Clone) -> None:
    clone.s3.exists = False
    with pytest.raises(TwinopsError, match="s3://models: expected the bucket for models, found none"):
        clone.run()


def test_an_emptied_bucket_starts_a_new_repository_and_forgets_the_copy(clone: Clone, real_time: datetime) -> None:
    clone.run("v1", now=real_time)
    clone.run("v2", now=real_time)
    clone.s3.objects.clear()
    result = clone.run("v1", now=real_time)
    copy = {path.name for path in (clone.folder / "tuf/metadata").iterdir()}
    assert result["changed"] is True
    assert "2.snapshot.json" not in copy, "metadata of the repository that is gone"


def test_a_fresh_clone_of_a_published_release_trains_nothing_and_fetches_it(
    clone: Clone, tmp_path: Path, real_time: datetime
) -> None:
    first = clone.run(now=real_time)
    other = Clone(tmp_path / "other")
    other.s3 = clone.s3
    result = other.run(keys=clone.folder / "keys", now=real_time)
    assert (result["changed"], result["release_digest"]) == (False, first["release_digest"])
    assert other.trained() == []
    assert other.verifies(result, tmp_path / "device")


def test_an_unrelated_commit_does_not_change_a_release(clone: Clone) -> None:
    first = clone.run()
    clone.write("README.md", "words\n")
    clone.commit()
    assert clone.run()["release_digest"] == first["release_digest"]


def test_a_published_release_never_changes(clone: Clone) -> None:
    clone.run()
    clone.write("edge/process/main.py", "print('other')\n")
    clone.commit()
    with pytest.raises(TwinopsError, match=r"edge/releases/v1.yml: v1 was published from .* a release never changes"):
        clone.run()


def test_in_the_sandbox_it_may_change_and_says_that_it_is_dirty(clone: Clone) -> None:
    first = clone.run(rebuild=True)
    clone.write("edge/process/main.py", "print('other')\n")
    second = clone.run(rebuild=True)
    assert second["release_digest"] != first["release_digest"]
    assert second["git_sha"].endswith("-dirty")


def test_uncommitted_inputs_are_refused(clone: Clone) -> None:
    clone.write("edge/process/main.py", "print('other')\n")
    with pytest.raises(TwinopsError, match=r"expected everything that goes into v1 to be committed, got:\n.*main.py"):
        clone.run()
    assert clone.s3.puts() == []


def test_training_that_fails_says_why_and_publishes_nothing(clone: Clone) -> None:
    with pytest.raises(TwinopsError, match="training broken: exit code 1: no such trainer"):
        clone.run("broken")
    assert clone.s3.puts() == []


def test_development_keys_are_private(clone: Clone) -> None:
    clone.run()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (clone.folder / "keys").glob("*.pem")}
    assert set(modes.values()) == {0o600}
    assert sorted(modes) == [
        "root-1.pem", "root-2.pem", "root-3.pem", "snapshot-1.pem", "staging-1.pem", "targets-1.pem", "timestamp-1.pem",
    ]  # fmt: skip


def test_a_missing_key_is_named_with_the_way_to_make_it(clone: Clone) -> None:
    with pytest.raises(TwinopsError, match=r"root-1.pub: expected the public key root-1, found none.*openssl pkey"):
        clone.run(development_keys=False)
    clone.run()
    (clone.folder / "keys/staging-1.pem").unlink()
    with pytest.raises(TwinopsError, match=r"0 of 1 signatures, still to sign: staging-1 \(not in .*/keys\)"):
        clone.run("v2")


def test_a_missing_online_key_is_named_with_the_way_to_make_it(clone: Clone) -> None:
    clone.run()
    (clone.folder / "keys/snapshot-1.pem").unlink()
    with pytest.raises(TwinopsError, match=r"snapshot-1.pem: expected the private key .* openssl genpkey"):
        clone.run("v2")


def test_keys_of_another_repository_are_refused(clone: Clone, tmp_path: Path) -> None:
    clone.run()
    Clone(tmp_path / "other").run()
    with pytest.raises(TwinopsError, match=r"staging-1.pem is another key; was this folder"):
        clone.run("v2", keys=tmp_path / "other/keys")


def test_metadata_in_the_bucket_that_others_signed_is_refused(clone: Clone) -> None:
    clone.run()
    path = "tuf/metadata/timestamp.json"
    content = json.loads(clone.s3.objects[path])
    content["signed"]["version"] = 7
    clone.s3.objects[path] = json.dumps(content).encode()
    with pytest.raises(TwinopsError, match="not what these keys signed"):
        clone.run()


def test_what_nears_its_expiry_is_signed_again_and_only_that(clone: Clone) -> None:
    clone.run()
    assert clone.run(now=NOW + timedelta(days=14))["changed"] is False
    result = clone.run(now=NOW + timedelta(days=16))
    assert result["written"] == ["metadata/2.snapshot.json", "metadata/timestamp.json"]


def test_a_role_whose_keys_are_offline_is_a_warning(clone: Clone) -> None:
    clone.run()
    for name in ("root-1", "root-2", "targets-1"):
        (clone.folder / f"keys/{name}.pem").unlink()
    warnings = clone.run(now=NOW + timedelta(days=400))["warnings"]
    assert [warning.split(" expires")[0] for warning in warnings] == ["TUF root", "TUF targets"]


def test_the_current_release_moves_only_on_demand(clone: Clone) -> None:
    assert clone.run()["current"] is None
    promoted = clone.run(state="current")
    assert promoted["current"]["release"] == "v1"
    assert promoted["current"]["hold_out"] == {"records": 1000, "alarms": 72}
    assert clone.run("v2")["current"]["release"] == "v1"
    assert clone.run("v2", state="current")["current"]["release"] == "v2"
    back = clone.run("v1", state="current")
    assert (back["current"]["release"], back["changed"]) == ("v1", True)
    assert clone.run("v1", state="current")["changed"] is False


def test_what_is_current_is_signed_again_when_another_release_was_blocked(clone: Clone) -> None:
    clone.run()
    assert clone.run("v2", state="reaffirmed") == {"changed": False, "current": None, "written": []}
    before = clone.run(state="current")["current"]
    clone.run("v2")
    content = clone.content()
    proposed = clone.run("v2", state="reaffirmed", apply=False)
    assert (proposed["changed"], proposed["current"]["serial"]) == (True, before["serial"] + 1)
    assert clone.content() == content
    again = clone.run("v2", state="reaffirmed")["current"]
    assert again == {**before, "serial": before["serial"] + 1}
    assert clone.run()["current"] == again


def test_a_blocked_release_that_is_current_is_not_called_current_again(clone: Clone) -> None:
    current = clone.run(state="current")["current"]
    content = clone.content()
    found = clone.run("v1", state="reaffirmed")
    assert (found["changed"], found["current"], found["written"]) == (False, current, [])
    assert found["warnings"] == [
        "v1 was blocked and is the current release of staging: a device that pulls and has not tried it yet "
        "installs it. Expected another one: playbooks/rollback.yml -e release=<version>"
    ]
    assert clone.content() == content


def test_a_host_without_the_key_proposes_that_the_current_release_is_signed_again(clone: Clone) -> None:
    clone.run(state="current")
    clone.run("v2")
    (clone.folder / "keys/staging-1.pem").unlink()
    with pytest.raises(TwinopsError, match=r"staging/current.json is not signed again yet: .*staging-1"):
        clone.run("v2", state="reaffirmed")


def test_production_signs_twice(clone: Clone) -> None:
    clone.run(signature_threshold=2)
    (path,) = [key for key in clone.s3.objects if key.endswith(f".{ENV}.json")]
    assert len(json.loads(clone.s3.objects[path])["signatures"]) == 2
    (clone.folder / "keys/staging-2.pem").unlink()
    with pytest.raises(TwinopsError, match=r"1 of 2 signatures \(staging-1\), still to sign: staging-2"):
        clone.run("v2", signature_threshold=2)


def test_the_bundle_has_a_bill_of_materials(clone: Clone) -> None:
    result = clone.run()
    published = [clone.s3.objects[f"tuf/{file['path']}"] for file in result["files"].values()]
    (materials,) = [json.loads(content) for content in published if b"CycloneDX" in content]
    assert materials["metadata"]["component"]["version"] == "v1"
    assert {"numpy", "m"} <= {component["name"] for component in materials["components"]}
    clone.write("locks/device.txt", "numpy==2.5.0 \\\n    --hash=sha256:" + "b" * 64 + "\n")
    clone.commit()
    assert clone.run()["changed"] is False, "new packages on devices are no new release"


def test_a_release_in_shadow_mode_brings_the_challenger_s_model(
    clone: Clone, tmp_path: Path, real_time: datetime
) -> None:
    v2 = clone.run("v2", now=real_time)
    clone.write_release("v1s", shadow="v2")
    clone.commit()
    result = clone.run("v1s", now=real_time)
    assert clone.verifies(result, tmp_path / "device")
    published = {digest: clone.s3.objects[f"tuf/{file['path']}"] for digest, file in result["files"].items()}
    assert published[v2["model_sha256"]] == b"model of v2"
    assert published[result["model_sha256"]] == b"model of v1s"
    (content,) = [content for key, content in clone.s3.objects.items() if "/v1s/" in key]
    manifest = release.parse_manifest(content, "v1s")
    assert manifest.challenger == {"name": "m", "version": "v2", "sha256": v2["model_sha256"]}
    assert clone.trained() == ["v2", "v1s"], "the challenger was trained before"
    assert clone.run("v1s", now=real_time)["changed"] is False


def test_a_challenger_that_changed_makes_another_release(clone: Clone) -> None:
    clone.write_release("v1s", shadow="v2")
    clone.commit()
    clone.run("v1s")
    data = yaml.safe_load((clone.folder / "edge/releases/v1.yml").read_text())
    data["version"], data["model"]["trainer"] = "v2", "another"
    clone.write("edge/releases/v2.yml", yaml.safe_dump(data))
    clone.commit()
    with pytest.raises(TwinopsError, match="a release never changes"):
        clone.run("v1s")


# -- the model registry --------------------------------------------------------------------------------------------


def told(clone: Clone) -> list[tuple[str, str, str]]:
    """What happened in the registry: action, version, approver."""
    return [(event.action, event.version, event.approver) for event in clone.registry.history()]


def test_a_published_release_is_registered_once_with_data_commit_and_evaluation(clone: Clone) -> None:
    result = clone.run()
    clone.run()
    assert told(clone) == [("register", "v1", "Ada")]
    version = after(clone.registry.history()).versions["v1"]
    assert (version.sha256, version.data_version) == (result["model_sha256"], "d1")
    assert version.git_sha == result["git_sha"] == clone.git("rev-parse", "HEAD").strip()
    training = json.loads(clone.s3.objects["tuf/targets/staging/" + stored(clone, "v1", "manifest.json")])
    assert version.evaluation_sha256 == training["files"]["training.json"]["sha256"]
    assert clone.registry.champion() is None, "published is not yet in use"


def stored(clone: Clone, version: str, name: str) -> str:
    """The key of a target below its environment, which has its digest in front of the name."""
    (key,) = [key for key in clone.s3.objects if f"/{ENV}/{version}/" in key and key.endswith(name)]
    return key.partition(f"targets/{ENV}/")[2]


def test_the_release_that_became_current_is_champion_from_then_on(clone: Clone) -> None:
    clone.run()
    assert clone.run(state="current")["promoted"] is True
    assert clone.run(state="current")["promoted"] is False
    clone.run(version="v2")
    clone.run(version="v2", state="current")
    assert told(clone) == [
        ("register", "v1", "Ada"),
        ("promote", "v1", "Ada"),
        ("register", "v2", "Ada"),
        ("promote", "v2", "Ada"),
    ]
    promoted = clone.registry.history()[1]
    champion = clone.registry.champion(datetime.fromisoformat(promoted.at.replace("Z", "+00:00")))
    assert champion is not None
    assert champion.name == "v1"


def test_a_release_from_before_the_registry_is_registered_when_it_becomes_current(clone: Clone) -> None:
    clone.run()
    clone.registry = Registry(MemoryS3(), "models", "m")
    clone.run(state="current")
    assert told(clone) == [("register", "v1", "Ada"), ("promote", "v1", "Ada")]


def test_a_publication_that_was_interrupted_is_registered_once(clone: Clone) -> None:
    clone.s3.fail_after = 2
    with pytest.raises(TwinopsError):
        clone.run()
    clone.s3.fail_after = None
    clone.run()
    assert told(clone) == [("register", "v1", "Ada")]


def test_a_rebuilt_release_with_another_model_has_a_name_of_its_own(clone: Clone) -> None:
    clone.run(rebuild=True)
    clone.write("edge/training/train.py", TRAIN.replace("model of ", "a better model of "))
    result = clone.run(rebuild=True)
    clone.run(rebuild=True, state="current")
    champion = clone.registry.champion()
    assert champion is not None
    assert (champion.name, champion.sha256) == (f"v1-{result['release_digest'][:12]}", result["model_sha256"])


def test_in_check_mode_nothing_is_registered(clone: Clone) -> None:
    clone.run(apply=False)
    assert told(clone) == []
