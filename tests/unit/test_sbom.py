"""The bill of materials: valid CycloneDX, the same bytes each time, and complete."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from twinops import release, sbom

CLONE = Path(__file__).resolve().parents[2]
LOCK = (CLONE / "locks/device.txt").read_text()
SCHEMA = json.loads((CLONE / "tests/unit/cyclonedx-1.6.schema.json").read_text())
"""https://github.com/CycloneDX/specification (Apache-2.0), without its descriptions."""

INPUTS: dict[str, Any] = {
    "version": "v2",
    "models": [{"name": "shuttle-anomaly", "version": "v2", "sha256": "1" * 64}],
    "training": {"data_version": "d" * 64, "metrics": {"accuracy": 0.9998, "f1": 0.9985, "alarm_rate": 0.07}},
    "files": {"model.onnx": "1" * 64, "process/main.py": "2" * 64},
    "lock": LOCK,
    "git_sha": "0" * 40,
    "inputs_sha256": "3" * 64,
}


def components(kind: str, **changes: Any) -> dict[str, Any]:
    found = sbom.make(**{**INPUTS, **changes})["components"]
    return {item["bom-ref"]: item for item in found if item["type"] == kind}


def test_it_is_valid_cyclonedx() -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(sbom.make(**INPUTS))


@pytest.mark.parametrize("broken", [{"bomFormat": "x"}, {"serialNumber": "1"}, {"components": [{"name": "x"}]}])
def test_the_schema_refuses_what_is_wrong(broken: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate({**sbom.make(**INPUTS), **broken})


def test_same_inputs_same_bytes_and_other_inputs_another_number() -> None:
    first, second = sbom.make(**INPUTS), sbom.make(**copy.deepcopy(INPUTS))
    assert release.as_json_bytes(first) == release.as_json_bytes(second)
    assert sbom.make(**{**INPUTS, "git_sha": "9" * 40})["serialNumber"] != first["serialNumber"]


def test_every_package_of_the_lock_is_there_with_all_its_hashes() -> None:
    libraries = components("library")
    lines = [line for line in LOCK.splitlines() if "==" in line and not line.startswith((" ", "#"))]
    assert len(libraries) == len(lines)
    hashes = [entry["content"] for item in libraries.values() for entry in item["externalReferences"][0]["hashes"]]
    assert len(hashes) == LOCK.count("--hash=sha256:")
    assert all(item["externalReferences"][0]["hashes"] for item in libraries.values())


def test_a_package_that_differs_by_python_is_there_twice_with_its_marker() -> None:
    found = {ref: item for ref, item in components("library").items() if item["name"] == "numpy"}
    assert len(found) == 2
    markers = sorted(item["properties"][0]["value"] for item in found.values())
    assert markers == ["python_full_version < '3.12'", "python_full_version >= '3.12'"]


def test_the_model_names_its_data_and_its_metrics() -> None:
    (model,) = components("machine-learning-model").values()
    (data,) = components("data").values()
    assert model["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    assert data["version"] == "d" * 64
    measured = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {item["type"]: item["value"] for item in measured} == {
        "accuracy": "0.9998", "f1": "0.9985", "alarm_rate": "0.07",
    }  # fmt: skip


def test_files_are_there_once() -> None:
    assert list(components("file")) == ["file:process/main.py"]


def test_in_shadow_mode_both_models_are_there() -> None:
    challenger = {"name": "shuttle-anomaly", "version": "v3", "sha256": "4" * 64}
    both = {**INPUTS, "models": [*INPUTS["models"], challenger]}
    jsonschema.Draft7Validator(SCHEMA).validate(sbom.make(**both))
    assert list(components("machine-learning-model", **both)) == ["model", "challenger"]
