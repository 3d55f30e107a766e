"""What the tests of the parts share: an environment on paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from twinops import desired
from twinops.desired import DispatchCode, Estate
from twinops.resources import Resource, Scope
from twinops.spec import Workflow

SCOPE = Scope("staging", "111122223333", "eu-central-1")
WORKFLOW = Workflow(
    name="drift_report",
    description="Compares what devices see with what models were trained on.",
    owner="mlops@example.com",
    entrypoint="run.py",
    timeout_s=600,
    schedule="rate(1 day)",
    event={"source": ["twinops"]},
)
GIT_SHA = "0" * 40
SCRIPT = "#!/bin/sh\ntrue\n"


def estate(**changed: Any) -> Estate:
    """An estate with one workflow; ``changed`` are other fields."""
    fields = {
        "scope": SCOPE,
        "git_sha": GIT_SHA,
        "workflows": (WORKFLOW,),
        "code": DispatchCode("code", "layer"),
        "twin_script": SCRIPT,
    }
    return Estate(**{**fields, **changed})


def part(name: str, options: Mapping[str, Any], **changed: Any) -> tuple[Resource, ...]:
    """The resources of a part, with the defaults of options that are not given."""
    checked = ArgumentSpecValidator(desired.OPTIONS[name]).validate(dict(options))
    assert checked.error_messages == []
    return desired.PARTS[name](estate(**changed), checked.validated_parameters)
