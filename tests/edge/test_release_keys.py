"""Key ceremony, rotation and signing in steps: several hosts with own keys, one bucket, and a device that watches.

Every host is a folder of private keys; public keys are in a folder they share, as in git.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from twinops import release
from twinops.aws import release_bundle, release_keys
from twinops.aws.releases import Bucket, ReleaseStore
from twinops.edge.verify import Verifier
from twinops.errors import SpecError, TwinopsError
from twinops.publishing.exchange import Folder
from twinops.publishing.keys import KeyRing, key_plan

from tests.edge.test_release_publish import ENV, Clone

NOW = datetime.now(timezone.utc)  # devices verify by the real clock
KEEPERS = {
    "pipeline": ("staging-1", "snapshot-1", "timestamp-1"),
    "approver": ("staging-2",),
    "ann": ("root-1",),
    "bob": ("root-2",),
    "eve": ("root-3",),
    "targets": ("targets-1",),
}


class Company:
    """Everybody who has keys, the bucket, and what a device sees in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.clone = Clone(folder / "clone")
        self.s3 = self.clone.s3
        self.public = folder / "public"
        self.roles: dict[str, Any] = {}
        self.device = folder / "device"
        for who, names in KEEPERS.items():
            self.ring(who).generate(names)

    def copied_to(self, folder: Path) -> Company:
        """The same company somewhere else: the ceremony costs a second."""
        shutil.copytree(self.folder, folder)
        twin = Company.__new__(Company)
        twin.folder, twin.public, twin.device = folder, folder / "public", folder / "device"
        twin.roles = {}
        twin.clone = copy.deepcopy(self.clone)
        twin.clone.folder = folder / "clone"
        twin.s3 = twin.clone.s3
        return twin

    def ring(self, who: str) -> KeyRing:
        return KeyRing(self.folder / who, self.public)

    def plan(self) -> Any:
        return key_plan(ENV, 2, self.roles)

    def store(self, who: str, now: datetime = NOW, place: Any = None) -> ReleaseStore:
        return ReleaseStore(
            place or Bucket("models", self.s3),
            self.folder / f"{who}-tuf",
            ENV,
            self.ring(who),
            plan=self.plan(),
            now=now,
        )

    def keys(self, who: str = "pipeline", now: datetime = NOW, *, apply: bool = True) -> dict[str, Any]:
        """playbooks/keys.yml on somebody's host."""
        return release_keys.reconcile_keys(self.store(who, now), self.ring(who), self.plan(), apply=apply)

    def look(self, who: str, evaluation: dict[str, Any] | None = None) -> dict[str, Any]:
        return release_keys.look(self.store(who), evaluation)

    def sign(self, *people: str) -> dict[str, Any]:
        """playbooks/sign.yml, twice, on each of their hosts."""
        for who in people:
            store = self.store(who)
            digest = release_keys.look(store, None)["digest"]
            done = release_keys.sign(store, self.ring(who), digest, apply=True)
        return done

    def release(self, version: str = "v1", **changes: Any) -> dict[str, Any]:
        """playbooks/release.yml in the pipeline."""
        return self.clone.run(
            version, now=NOW, keys=self.ring("pipeline"), key_plan=self.plan(), development_keys=False, **changes
        )

    def begin(self) -> None:
        """The ceremony, and v1 published by two people."""
        self.keys()
        self.sign("ann", "bob", "targets", "approver")
        self.keys()
        with pytest.raises(TwinopsError, match="is not published yet"):
            self.release()
        self.sign("approver")
        self.release()

    # -- a device ---------------------------------------------------------------------------------------------

    def mirror(self) -> Path:
        """The bucket as a folder, as it is now."""
        folder = self.folder / "mirror"
        shutil.rmtree(folder, ignore_errors=True)
        for key, content in self.s3.objects.items():
            place = folder / key.removeprefix("tuf/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return folder

    def enrol(self) -> None:
        (self.device / "metadata").mkdir(parents=True)
        (self.device / "metadata/root.json").write_bytes(self.s3.objects["tuf/metadata/1.root.json"])

    def sees(self) -> Verifier:
        """What the device verifies now; it remembers what it has seen."""
        return Verifier(self.device, self.mirror(), ENV)

    def believes(self, manifest: release.Manifest) -> bool:
        try:
            self.sees().manifest(manifest.release, manifest.digest)
        except TwinopsError:
            return False
        return True


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Company:
    company = Company(tmp_path_factory.mktemp("company"))
    company.begin()
    company.enrol()
    company.sees()
    return company


@pytest.fixture
def running(begun: Company, tmp_path: Path) -> Company:
    """Keys and v1 are published, and a device has seen them."""
    return begun.copied_to(tmp_path / "company")


def visible(company: Company) -> list[str]:
    return [key for key in company.s3.objects if key.startswith("tuf/metadata/")]


# -- the ceremony ---------------------------------------------------------------------------------------------------


def test_the_ceremony_on_six_hosts(company: Company) -> None:
    first = company.keys()
    assert [sentence.split(" (not in")[0] for sentence in first["lacking"]] == [
        "root: 0 of 2 signatures, still to sign: root-1 or root-2 or root-3",
        "targets: 0 of 1 signatures, still to sign: targets-1",
        "staging: 1 of 2 signatures (staging-1), still to sign: staging-2",
    ]
    company.sign("ann", "eve", "targets")
    assert visible(company) == []
    assert company.sign("approver")["lacking"] == []
    assert visible(company) == [], "the approver has no online keys"
    done = company.keys()
    assert (done["lacking"], done["pinned"]) == ([], True)
    assert (company.public / "root.json").read_bytes() == company.s3.objects["tuf/metadata/1.root.json"]
    company.enrol()
    assert company.sees()
    assert company.keys()["changed"] is False


def test_private_keys_are_on_one_host_each_and_nowhere_else(company: Company) -> None:
    company.begin()
    for who, names in KEEPERS.items():
        found = {path.stem: path.stat().st_mode & 0o777 for path in (company.folder / who).glob("*.pem")}
        assert found == dict.fromkeys(names, 0o600)
    secrets = [path.read_bytes() for path in company.folder.rglob("*.pem")]
    assert len(secrets) == 8
    assert not any(secret in content for secret in secrets for content in company.s3.objects.values())


def test_a_key_is_never_made_twice(company: Company) -> None:
    with pytest.raises(TwinopsError, match=r"root-1 was made before, and its private part is not in .*/bob"):
        company.ring("bob").generate(["root-1"])
    assert company.ring("ann").generate(["root-1"]) == []


def test_making_a_key_that_was_interrupted_is_finished(company: Company) -> None:
    private = (company.folder / "ann/root-1.pem").read_bytes()
    public = (company.public / "root-1.pub").read_bytes()
    (company.public / "root-1.pub").unlink()
    assert company.ring("ann").generate(["root-1"]) == ["root-1"]
    assert (company.folder / "ann/root-1.pem").read_bytes() == private
    assert (company.public / "root-1.pub").read_bytes() == public


def test_a_host_without_a_network_signs_on_a_copy(company: Company, tmp_path: Path) -> None:
    company.keys()
    stick = Folder(company.mirror())
    digest = release_keys.look(company.store("ann", place=stick), None)["digest"]
    release_keys.sign(company.store("ann", place=stick), company.ring("ann"), digest, apply=True)
    for path in (stick.folder / "pending").rglob("*.json"):
        company.s3.objects[f"tuf/{path.relative_to(stick.folder)}"] = path.read_bytes()
    company.sign("bob", "targets", "approver")
    assert company.keys()["lacking"] == []


def test_check_mode_proposes_and_signs_nothing(company: Company) -> None:
    assert company.keys(apply=False)["changed"] is True
    assert company.s3.objects == {}


# -- two signatures -------------------------------------------------------------------------------------------------


@pytest.mark.fault("release with one of two signatures", "waits in the bucket, unseen by devices")
def test_a_release_is_visible_only_with_both_signatures(running: Company) -> None:
    before = {key: running.s3.objects[key] for key in visible(running)}
    with pytest.raises(TwinopsError, match=r"1 of 2 signatures \(staging-1\), still to sign: staging-2"):
        running.release("v2")
    proposed = running.store("pipeline").proposed("v2")
    assert proposed
    assert {key: running.s3.objects[key] for key in visible(running)} == before
    assert not running.believes(proposed)
    running.sign("approver")
    assert {key: running.s3.objects[key] for key in visible(running)} == before
    published = running.release("v2")
    assert published["release_digest"] == proposed.digest
    assert running.believes(proposed)
    assert running.clone.trained() == ["v1", "v2"], "what was signed is published, not built again"
    assert running.release("v2")["changed"] is False


def test_the_pipeline_on_another_machine_publishes_what_was_signed(running: Company) -> None:
    with pytest.raises(TwinopsError, match="is not published yet"):
        running.release("v2")
    running.sign("approver")
    shutil.rmtree(running.clone.folder / "build")
    shutil.rmtree(running.clone.folder / "tuf")
    running.release("v2")
    assert running.clone.trained() == ["v1", "v2"]


def test_the_approver_reads_what_he_signs(running: Company) -> None:
    with pytest.raises(TwinopsError):
        running.release("v2")
    manifest = running.store("pipeline").proposed("v2")
    assert manifest
    model = manifest.model["sha256"]
    comparison = {"verdict": "promote", "reasons": ["macro-F1 rose by 0.02"]}
    evaluation = {
        "versions": [{"release": "v1", "model_sha256": "0"}, {"release": "v2", "model_sha256": model}],
        "comparison": comparison,
    }
    text = "\n".join(running.look("approver", evaluation)["lines"])
    for expected in (manifest.digest, model, manifest.git_sha, "alarm_rate 0.0720", "signed by staging-1"):
        assert expected in text
    assert "promote against v1: macro-F1 rose by 0.02" in text
    evaluation["versions"][1]["model_sha256"] = "f" * 64
    with pytest.raises(TwinopsError, match="evaluation: expected one whose newest version is the model"):
        running.look("approver", evaluation)


def test_a_file_that_was_swapped_in_the_bucket_is_not_shown(running: Company) -> None:
    with pytest.raises(TwinopsError):
        running.release("v2")
    (path,) = [key for key in running.s3.objects if "/v2/" in key]
    running.s3.objects[path] = running.s3.objects[path].replace(b"v2", b"v9")
    with pytest.raises(TwinopsError, match="not the signed bytes; who changed it"):
        running.look("approver")


@pytest.mark.fault("release swapped between looking and signing", "refused by the digest that was shown")
def test_what_changed_after_one_looked_is_not_signed(running: Company) -> None:
    with pytest.raises(TwinopsError):
        running.release("v2")
    digest = running.look("approver")["digest"]
    running.clone.write_release("v4")
    running.clone.commit()
    with pytest.raises(TwinopsError):
        running.release("v4")
    with pytest.raises(TwinopsError, match=r"expected the digest of what is proposed, .* look again"):
        release_keys.sign(running.store("approver"), running.ring("approver"), digest, apply=True)


def test_a_signature_on_an_earlier_proposal_does_not_count(running: Company) -> None:
    with pytest.raises(TwinopsError):
        running.release("v2")
    running.sign("approver")
    running.clone.write_release("v4")
    running.clone.commit()
    with pytest.raises(TwinopsError, match=r"v4 .* 1 of 2 signatures \(staging-1\)"):
        running.release("v4")


def test_who_has_no_key_for_it_is_told_who_has(running: Company) -> None:
    with pytest.raises(TwinopsError):
        running.release("v2")
    digest = running.look("ann")["digest"]
    with pytest.raises(TwinopsError, match="no key that may sign this; expected one of staging-1, staging-2"):
        release_keys.sign(running.store("ann"), running.ring("ann"), digest, apply=True)


def test_a_forged_signature_does_not_count(running: Company) -> None:
    with pytest.raises(TwinopsError):
        running.release("v2")
    mine = running.ring("pipeline").public("staging-1").keyid
    given = json.loads(running.s3.objects[f"tuf/pending/staging/{mine}.json"])
    keyid = running.ring("approver").public("staging-2").keyid
    forged = {**given, "keyid": keyid}
    running.s3.objects[f"tuf/pending/staging/{keyid}.json"] = json.dumps(forged).encode()
    with pytest.raises(TwinopsError, match="1 of 2 signatures"):
        running.release("v2")


def test_the_current_release_moves_without_a_second_person(running: Company) -> None:
    assert running.release("v1", state="current")["current"]["release"] == "v1"


def test_two_people_who_sign_at_once_lose_nothing(company: Company) -> None:
    company.keys()
    digest = company.look("ann")["digest"]
    stores = {who: company.store(who) for who in ("ann", "bob", "targets", "approver")}
    for who, store in stores.items():  # each has read the bucket before any of them wrote
        release_keys.sign(store, company.ring(who), digest, apply=True)
    assert company.keys()["lacking"] == []


# -- rotation -------------------------------------------------------------------------------------------------------

# role -> new keys, the host that makes the new key, and who else has to sign
ROTATIONS: dict[str, tuple[list[str], str, tuple[str, ...]]] = {
    "root": (["root-2", "root-3", "root-4"], "dan", ("bob", "eve")),
    "targets": (["targets-2"], "dan", ("ann", "bob", "dan")),
    "release": (["staging-1", "staging-3"], "dan", ("targets", "dan")),
    "current": (["staging-4"], "pipeline", ("targets",)),
    "snapshot": (["snapshot-2"], "pipeline", ("ann", "bob")),
    "timestamp": (["timestamp-2"], "pipeline", ("ann", "bob")),
}


def rotate(company: Company, role: str) -> None:
    """Edit the roles, as in a merge request, and propose it."""
    names, maker, _ = ROTATIONS[role]
    company.ring(maker).generate([name for name in names if not (company.public / f"{name}.pub").exists()])
    company.roles[role] = {"keys": names, "threshold": company.plan()[role].threshold}
    company.keys()


@pytest.mark.fault("key rotation", "a device enrolled with the first root follows the chain of roots and installs")
@pytest.mark.parametrize("role", ROTATIONS)
def test_a_key_of_every_role_is_replaced_and_an_old_device_follows(running: Company, role: str) -> None:
    before = {key: running.s3.objects[key] for key in visible(running)}
    rotate(running, role)
    for signer in ROTATIONS[role][2]:
        assert {key: running.s3.objects[key] for key in visible(running)} == before, "visible too early"
        assert running.keys()["lacking"], f"published before {signer} signed"
        running.sign(signer)
    assert running.keys()["lacking"] == []
    manifest = running.store("pipeline").published("v1")
    assert manifest
    assert running.believes(manifest), "a device with the first root"
    shutil.rmtree(running.device)
    (running.device / "metadata").mkdir(parents=True)
    (running.device / "metadata/root.json").write_bytes((running.public / "root.json").read_bytes())
    assert running.believes(manifest), "a device that is enrolled now"
    assert running.keys()["changed"] is False


def test_a_device_that_was_away_follows_three_roots(running: Company) -> None:
    for role in ("snapshot", "targets", "root"):
        rotate(running, role)
        running.sign(*ROTATIONS[role][2])
        assert running.keys()["lacking"] == []
    manifest = running.store("pipeline").published("v1")
    assert manifest
    assert running.believes(manifest)
    assert {path.name for path in (running.device / "metadata/root_history").iterdir()} == {
        "1.root.json", "2.root.json", "3.root.json", "4.root.json",
    }  # fmt: skip


def test_a_root_that_only_new_keys_signed_is_not_published(running: Company) -> None:
    rotate(running, "root")
    running.sign("dan")
    lacking = running.keys()["lacking"]
    assert [sentence.split(":")[0] for sentence in lacking] == ["root by the keys of the root before", "root"]
    running.sign("eve")
    assert [sentence.split(":")[0] for sentence in running.keys()["lacking"]] == ["root by the keys of the root before"]


def test_a_revoked_key_signs_no_more(running: Company) -> None:
    rotate(running, "release")
    running.sign(*ROTATIONS["release"][2])
    running.keys()
    with pytest.raises(TwinopsError, match="still to sign: staging-3"):
        running.release("v2")
    digest = running.look("approver")["digest"]
    with pytest.raises(TwinopsError, match="no key that may sign this; expected one of staging-1, staging-3"):
        release_keys.sign(running.store("approver"), running.ring("approver"), digest, apply=True)


def test_after_most_of_its_time_everything_is_proposed_again(running: Company) -> None:
    later = NOW + timedelta(days=400)
    lacking = running.keys(now=later)["lacking"]
    assert [sentence.split(":")[0] for sentence in lacking] == ["root", "targets", ENV]


@pytest.mark.fault("bucket with somebody else's repository", "refused by the root of trust in git")
def test_the_bucket_of_somebody_else_is_refused(running: Company, tmp_path: Path) -> None:
    other = Company(tmp_path / "other")
    other.begin()
    running.s3.objects = other.s3.objects
    with pytest.raises(TwinopsError, match="expected the root of trust that is pinned in git"):
        running.keys()


def signers(company: Company) -> str:
    """Who has signed what is proposed."""
    return "; ".join(line for line in company.look("ann")["lines"] if "signed by" in line)


# -- interruptions --------------------------------------------------------------------------------------------------


def interrupted_everywhere(company: Company, act: Callable[[], Any], is_done: Callable[[], bool]) -> int:
    """Cut the connection at every upload of ``act``, then do it again; how many uploads there were."""
    start = dict(company.s3.objects)
    copies = {path: path.read_bytes() for path in company.public.iterdir()}
    act()
    assert is_done()
    uploads = len(company.s3.puts())
    for fail_after in range(uploads):
        company.s3.objects, company.s3.fail_after = dict(start), fail_after
        for path in company.public.iterdir():
            path.unlink()
        for path, content in copies.items():
            path.write_bytes(content)
        for folder in company.folder.glob("*-tuf"):
            shutil.rmtree(folder)
        with pytest.raises(TwinopsError, match="PutObject"):
            act()
        company.s3.fail_after = None
        act()
        assert is_done(), f"cut at upload {fail_after}"
    return uploads


@pytest.mark.fault("key change cut at every upload", "the next run converges")
def test_proposing_signing_and_publishing_keys_survive_an_interruption_anywhere(running: Company) -> None:
    company = running
    rotate(company, "targets")
    company.s3.calls.clear()
    assert interrupted_everywhere(company, lambda: company.sign("ann"), lambda: "root-1" in signers(company)) == 1
    company.sign("bob", "dan")
    company.s3.calls.clear()

    def is_published() -> bool:
        manifest = company.store("pipeline").published("v1")
        return manifest is not None and company.believes(manifest) and company.keys()["changed"] is False

    assert interrupted_everywhere(company, company.keys, is_published) == 4


# -- what is wrong in the plan --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"boss": {"keys": ["a"], "threshold": 1}}, "boss: unknown role, expected one of root, targets, release"),
        ({"root": ["root-1"]}, "root: expected a mapping with keys and threshold"),
        (
            {"root": {"keys": ["root-1"], "threshold": 2}},
            "root.threshold: expected 1–1, as many as there are keys, got 2",
        ),
        ({"root": {"keys": ["../x"], "threshold": 1}}, "root.keys: expected names of lower-case letters"),
        ({"root": {"keys": ["a", "a"], "threshold": 2}}, "root.keys: expected each name once"),
    ],
)
def test_a_wrong_plan_says_what_was_expected(roles: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message.replace(".", r"\.")):
        key_plan(ENV, 1, roles)


def test_a_public_key_that_nobody_committed_is_named(running: Company) -> None:
    running.roles["targets"] = {"keys": ["targets-9"], "threshold": 1}
    with pytest.raises(TwinopsError, match=r"public/targets-9.pub: expected the public key targets-9, found none"):
        running.keys()


def test_what_devices_read_is_untouched_by_proposals(running: Company) -> None:
    manifest = running.store("pipeline").published("v1")
    assert manifest
    rotate(running, "root")
    assert running.believes(manifest)
    assert release_bundle.describe(running.store("pipeline"))["v1"] == manifest.digest[:12]
