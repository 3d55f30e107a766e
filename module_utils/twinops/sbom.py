"""The bill of materials of a release: CycloneDX 1.6 as JSON. Pure; same inputs, same bytes (so it has no time in it).

It names the model, what it was trained on, each file of the process, and the Python packages of the device's lock with
the hashes that the lock allows. The packages are those of the commit that the release was built from; which ones a
device has now, its ``venv`` link says.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SPEC_VERSION = "1.6"
ENTRY = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)([^\n]*(?:\n[ \t]+[^\n]*)*)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
MARKER = re.compile(r";\s*([^\\\n]+)")
NAMESPACE = uuid.UUID("4f1d2c7a-6a8e-5b0e-9d64-7f0f5a3c9b21")
"""Of our serial numbers, which follow from the content."""
METRICS = ("accuracy", "f1", "alarm_rate")


def make(
    *,
    version: str,
    models: Sequence[Mapping[str, str]],
    training: Mapping[str, Any],
    files: Mapping[str, str],
    lock: str,
    git_sha: str,
    inputs_sha256: str,
) -> dict[str, Any]:
    """The bill of materials.

    ``models``: the one that decides and, in shadow mode, its challenger, as in the manifest; ``training``: the content
    of ``training.json``; ``files``: path -> SHA-256 of the bundle; ``lock``: the text of ``locks/device.txt``.
    """
    packages = list(_packages(lock))
    champion, *challengers = models
    watching = [{**_bare_model(model), "bom-ref": "challenger"} for model in challengers]
    components = [_model(champion, training), *watching, _data(training), *_files(files), *packages]
    content: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": "release", "name": "twinops-inference", "version": version},
            "properties": [
                {"name": "twinops:git_sha", "value": git_sha},
                {"name": "twinops:inputs_sha256", "value": inputs_sha256},
            ],
        },
        "components": components,
        "dependencies": [
            {"ref": "release", "dependsOn": [item["bom-ref"] for item in components if item["type"] != "data"]},
            {"ref": "model", "dependsOn": ["data"]},
        ],
    }
    return {**content, "serialNumber": uuid.uuid5(NAMESPACE, repr(sorted(content.items()))).urn}


def _model(model: Mapping[str, str], training: Mapping[str, Any]) -> dict[str, Any]:
    metrics = training.get("metrics", {})
    measured = [{"type": name, "value": repr(metrics[name])} for name in METRICS if name in metrics]
    return {
        **_bare_model(model),
        "modelCard": {
            "modelParameters": {"approach": {"type": "supervised"}, "datasets": [{"ref": "data"}]},
            "quantitativeAnalysis": {"performanceMetrics": measured},
        },
    }


def _bare_model(model: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": model["name"],
        "version": model["version"],
        "hashes": [{"alg": "SHA-256", "content": model["sha256"]}],
    }


def _data(training: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "data", "bom-ref": "data", "name": "training data", "version": str(training["data_version"])}


def _files(files: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for path, digest in sorted(files.items()):
        if not path.endswith(".onnx"):
            hashes = [{"alg": "SHA-256", "content": digest}]
            yield {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": hashes}


def _packages(lock: str) -> Iterator[dict[str, Any]]:
    """The packages of a requirements file with hashes; one that differs by Python has an entry for each."""
    for name, version, rest in sorted(ENTRY.findall(lock)):
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
        marker = MARKER.search(rest)
        hashes = [{"alg": "SHA-256", "content": digest} for digest in HASH.findall(rest)]
        package: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "externalReferences": [
                {"type": "distribution", "url": f"https://pypi.org/project/{name}/{version}/", "hashes": hashes}
            ],
        }
        if marker:
            package["properties"] = [{"name": "twinops:marker", "value": marker.group(1).strip()}]
        yield package
