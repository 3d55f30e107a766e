"""The twins: notebook instances on which workflows are written (development) and run (deployment)."""

from __future__ import annotations

import base64
import json
import shlex

from .. import data_sources
from ..errors import SpecError
from ..names import TWINS
from ..resources import LifecycleConfig, Notebook, Resource
from .common import Estate, Options

PART = "twins"

OPTIONS = {
    "instances": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "twin": {"type": "str", "required": True, "choices": list(TWINS)},
            "instance_type": {"type": "str", "default": "ml.t3.medium"},
            "volume_size_gb": {"type": "int", "default": 20},
            "running": {"type": "bool", "default": True},
        },
    },
    "script": {"type": "path", "required": True},
    "repository": {"type": "str", "required": True},
    "git_ref": {"type": "str", "default": "HEAD"},
    "push_repository": {"type": "str", "default": ""},
    "subnet": {"type": "str", "default": ""},
    "data_sources": data_sources.LIST,
}

LIFECYCLE_SCRIPT_LIMIT = 16384
"""Characters of a lifecycle script in base64 (AWS)."""


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """Each twin is a notebook instance and the script it starts with.

    Raises SpecError if the script is larger than AWS takes.
    """
    script, subnet, names = lifecycle_script(estate, options), options["subnet"], estate.scope.names
    made: list[Resource] = []
    for spec in options["instances"]:
        name = names.twin(spec["twin"])
        made.append(LifecycleConfig(name=name, tags={}, on_start=script))
        made.append(
            Notebook(
                name=name,
                tags=estate.tags(PART),
                role=estate.scope.role_arn(f"{spec['twin']}-twin"),
                instance_type=spec["instance_type"],
                volume_size_gb=spec["volume_size_gb"],
                lifecycle_config=name,
                root_access=False,
                imds_version="2",
                subnet=names.subnet(subnet) if subnet else "",
                security_groups=(names.security_group("twins"),) if subnet else (),
                direct_internet_access=not subnet,
                running=spec["running"],
            )
        )
    return tuple(made)


def lifecycle_script(estate: Estate, options: Options) -> str:
    """The estate's script with the values it needs as shell variables in front."""
    scope, script = estate.scope, estate.twin_script
    sources = {source.name: source.as_dict() for source in data_sources.parse(options["data_sources"])}
    values = {
        "TWINOPS_ENV": scope.env,
        "TWINOPS_REGION": scope.region,
        "LEDGER_TABLE": scope.names.ledger,
        "TOPIC_ARN": scope.topic_arn,
        "REPORTS_BUCKET": scope.names.bucket("reports"),
        "DATA_BUCKET": scope.names.bucket("data"),
        "MODELS_BUCKET": scope.names.bucket("models"),
        "REPOSITORY": options["repository"],
        "GIT_REF": options["git_ref"],
        "PUSH_REPOSITORY": options["push_repository"],
        "DATA_SOURCES": json.dumps(sources, sort_keys=True),
    }
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    shebang, _, body = script.partition("\n")
    if not shebang.startswith("#!"):
        raise SpecError([f"lifecycle script: first line: expected #! and an interpreter, got {shebang!r}"])
    text = f"{shebang}\n{assignments}{body}"
    size = len(base64.b64encode(text.encode()))
    if size > LIFECYCLE_SCRIPT_LIMIT:
        raise SpecError([f"lifecycle script: expected at most {LIFECYCLE_SCRIPT_LIMIT} base64 characters, got {size}"])
    return text
