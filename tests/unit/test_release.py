"""Release files, manifests and the names of what is signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twinops import release
from twinops.errors import SpecError

WHERE = "edge/releases/v2.yml"
GOOD: dict[str, Any] = {
    "version": "v2",
    "description": "Finds more.",
    "model": {"name": "shuttle", "trainer": "gradient_boosting", "parameters": {"depth": 3}},
    "config": {"stall_s": 10},
}
MODEL = {"model.onnx": b"onnx", "golden.json": b"{}", "training.json": b'{"data_version": "d"}'}
PROCESS = {"main.py": b"print()\n", "lib/parts.py": b"\n"}


def manifest(**changes: Any) -> release.Manifest:
    spec = release.parse_release({**GOOD, **changes}, WHERE)
    files = release.bundle_files(spec, MODEL, PROCESS)
    return release.make_manifest(spec, files, git_sha="0" * 40, inputs="1" * 64, data_version="d")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour: unknown key, expected one of version, description, model, config"),
        ({"device_class": "AArch 64"}, "device_class: expected a class of devices such as gateway-2 or aarch64"),
        ({"shadow": "v2"}, "shadow: expected another release such as v2, got 'v2'"),
        ({"version": "v3"}, "version: expected the name of the file, got 'v3'"),
        ({"version": 2}, "version: expected a string such as v2, got 2"),
        ({"description": ""}, "description: expected a sentence, got ''"),
        ({"config": None}, "config: expected a mapping, got nothing"),
        ({"model": {"name": "n", "trainer": "t"}}, "model.parameters: expected a mapping, got nothing"),
        ({"model": {"name": "n", "trainer": "t", "parameters": {}, "x": 1}}, "model.x: unknown key"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        release.parse_release({**GOOD, **changes}, WHERE)
    assert any(mistake.startswith(f"{WHERE}: {message}") for mistake in caught.value.mistakes), caught.value.mistakes


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        release.parse_release({"version": "V 2", "model": {"x": 1}}, WHERE)
    assert len(caught.value.mistakes) >= 6


def test_something_else_than_a_mapping() -> None:
    with pytest.raises(SpecError, match=r"edge/releases/v2.yml: expected a mapping"):
        release.parse_release(["v2"], WHERE)


def test_same_inputs_same_bytes_whatever_the_order() -> None:
    shuffled = dict(reversed(GOOD.items()))
    assert manifest().to_bytes() == manifest(**shuffled).to_bytes()
    assert manifest().digest == release.sha256(manifest().to_bytes())


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert release.parse_manifest(manifest().to_bytes(), "here") == manifest()


def test_the_manifest_has_what_the_service_and_the_ledger_read() -> None:
    content = json.loads(manifest().to_bytes())
    assert set(content) == {"release", "git_sha", "data_version", "inputs_sha256", "model", "files"}
    assert content["model"] == {"name": "shuttle", "version": "v2", "sha256": release.sha256(b"onnx")}
    assert sorted(content["files"]) == [
        "config.json", "golden.json", "model.onnx", "process/lib/parts.py", "process/main.py", "training.json",
    ]  # fmt: skip
    assert content["files"]["model.onnx"] == {"sha256": release.sha256(b"onnx"), "size_bytes": 4}


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "process/../../x", ".ssh/keys", "a//b", ""])
def test_a_manifest_cannot_name_files_outside_its_slot(path: str) -> None:
    content = json.loads(manifest().to_bytes())
    content["files"][path] = content["files"].pop("model.onnx")
    with pytest.raises(SpecError, match="plain relative paths"):
        release.parse_manifest(release.as_json_bytes(content), "here")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"release": "v2"}', b'{"files": 3}'])
def test_something_else_than_a_manifest(content: bytes) -> None:
    with pytest.raises(SpecError, match="here: expected a release manifest"):
        release.parse_manifest(content, "here")


def test_a_bundle_without_its_parts_is_refused() -> None:
    spec = release.parse_release(GOOD, WHERE)
    with pytest.raises(SpecError) as caught:
        release.bundle_files(spec, {"model.onnx": b""}, {})
    missing = [mistake.split("the file ")[1].split(" ")[0] for mistake in caught.value.mistakes]
    assert missing == ["golden.json", "training.json", "process/main.py"]


def test_inputs_change_with_everything_that_reaches_a_device_and_with_nothing_else() -> None:
    def inputs(training: bytes = b"t", process: bytes = b"p", **changes: Any) -> str:
        spec = release.parse_release({**GOOD, **changes}, WHERE)
        return release.inputs_sha256(spec, {"train.py": training}, {"main.py": process})

    assert inputs(description="Other words.") == inputs()
    different = [
        inputs(training=b"T"),
        inputs(process=b"P"),
        inputs(config={"stall_s": 11}),
        inputs(model={**GOOD["model"], "parameters": {"depth": 4}}),
    ]
    assert len({inputs(), *different}) == 5


def test_names_in_a_repository() -> None:
    assert release.manifest_target("staging", "v2") == "staging/v2/manifest.json"
    assert release.stored_path("staging/files/aa", "aa") == "staging/files/aa.aa"
    assert release.target_patterns("staging") == ["staging/*", "staging/*/*"]


def test_a_class_of_devices_is_part_of_what_is_signed() -> None:
    special = manifest(device_class="gateway-2")
    assert json.loads(special.to_bytes())["device_class"] == "gateway-2"
    assert release.parse_manifest(special.to_bytes(), "here") == special
    assert "device_class" not in json.loads(manifest().to_bytes())
    assert special.digest != manifest().digest


@pytest.mark.parametrize(
    ("device_class", "device", "fits"),
    [
        ("any", {}, True),
        ("gateway-2", {"device_class": "gateway-2"}, True),
        ("gateway-2", {"device_class": "gateway-1"}, False),
        ("gateway-2", {"device_class": "any"}, False),
        ("gateway-2", {}, False),
        ("aarch64", {"device_class": "gateway-1"}, True),
        ("x86_64", {"device_class": "gateway-1"}, False),
    ],
)
def test_a_release_fits_a_class_or_a_processor(device_class: str, device: dict[str, str], fits: bool) -> None:
    assert release.fits(device_class, device, "aarch64") is fits
