#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Shows what waits for signatures, and signs it; runs on the host of an approver or a keeper of root keys."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_signature
short_description: Show what waits for a signature, and sign it
description:
  - Without I(sign), shows the proposals - releases with digests, commit, metrics and the verdict of an evaluation, and
    keys that are added or revoked. Only verified bytes are shown. Changes nothing.
  - With I(sign), signs exactly what was shown, with every key on this host that may, and puts the signatures back.
  - Where the online keys are as well, what is complete is published; else a later run of the pipeline does it.
extends_documentation_fragment: [aws, signing]
options:
  sign:
    description: The digest that was shown. Anything else is refused, so nothing is signed that was not looked at.
    type: str
  evaluation:
    description: An C(evaluation.json) to show the verdict of; refused if it is about another model.
    type: path
  folder:
    description: A copy of C(tuf/) to work on instead of the bucket, for a host without a network.
    type: path
author: twinops contributors
"""

EXAMPLES = r"""
- name: Show what waits for my signature
  release_signature:
    env: production
    keys: ~/.twinops/production
    repository: build/production/tuf
"""

RETURN = r"""
lines:
  description: What is proposed, for a person.
  returned: always
  type: list
digest:
  description: What I(sign) has to be to sign it; null when nothing waits.
  returned: always
  type: str
summary:
  description: What a person does next.
  returned: always
  type: list
lacking:
  description: Which signatures are still missing, in sentences.
  returned: with I(sign)
  type: list
"""

import json
from datetime import datetime, timezone
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.access import ACCESS, access
from ansible.module_utils.twinops.aws import release_keys
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.publishing.keys import key_plan
from ansible.module_utils.twinops.publishing.options import SIGNING, key_ring

SPEC = {
    "env": {"type": "str", "required": True},
    "sign": {"type": "str"},
    "evaluation": {"type": "path"},
    "folder": {"type": "path"},
    **SIGNING,
    **ACCESS,
}


def read_evaluation(path: str) -> dict:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TwinopsError("evaluation: %s: expected the evaluation.json of a run, got %s" % (path, error)) from error


def run(params: dict, apply: bool) -> dict:
    keys = key_ring(params)
    store = release_keys.open_store(
        params["env"],
        keys,
        key_plan(params["env"], 1),
        copy=Path(params["repository"]).resolve(),
        bucket=params["bucket"],
        folder=Path(params["folder"]).resolve() if params["folder"] else None,
        now=datetime.now(timezone.utc),
        aws=access(params),
    )
    seen = release_keys.look(store, read_evaluation(params["evaluation"]) if params["evaluation"] else None)
    if not params["sign"]:
        how = "to sign exactly this: -e sign=%s" % seen["digest"] if seen["digest"] else "nothing waits for a signature"
        return {"changed": False, **seen, "summary": [how]}
    outcome = release_keys.sign(store, keys, params["sign"], apply=apply)
    published = outcome["is_published"]
    return {**seen, **outcome, "summary": release_keys.summary(outcome, None if published else seen["digest"])}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = run(module.params, apply=not module.check_mode)
    except TwinopsError as error:
        module.fail_json(msg=str(error))
    result.pop("warnings", None)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
