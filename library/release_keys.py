#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes signing keys, and says in the TUF repository who may sign what; runs where a person keeps keys."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_keys
short_description: Make signing keys, and say who may sign releases
description:
  - With I(make), makes the named keys on this host and touches nothing else. The private part never leaves it.
  - Otherwise makes the published roles name exactly the keys of I(key_roles). A first repository, another key, one less
    (revoked), another threshold and what nears its expiry are all the same - a proposal that needs signatures.
  - Signs with the private keys that are here. What then lacks signatures waits in the bucket for
    M(release_signature) on other hosts; the next run of this module publishes it. Devices see all of it or nothing.
  - In check mode nothing is made, signed or written.
extends_documentation_fragment: [aws, signing]
options:
  make:
    description: Names of keys to make on this host.
    type: list
    elements: str
    default: []
  signature_threshold:
    description: How many keys of the environment must sign a release, where I(key_roles) does not say it.
    type: int
    default: 1
  key_roles:
    description:
      - Who may sign what; C(root), C(targets), C(release), C(current), C(snapshot), C(timestamp).
      - Each has C(keys), a list of names, and C(threshold). A role that is left out has the keys of docs/keys.md.
    type: dict
  folder:
    description: A copy of C(tuf/) to work on instead of the bucket, for a host without a network.
    type: path
author: twinops contributors
"""

EXAMPLES = r"""
- name: Make my key
  release_keys:
    env: production
    make: [root-2]
    keys: ~/.twinops/production
    public_keys: edge/keys/production
    repository: build/production/tuf

- name: Ensure that exactly these keys may sign
  release_keys:
    env: production
    keys: /run/secrets/twinops-keys
    public_keys: edge/keys/production
    key_roles: {targets: {keys: [targets-2], threshold: 1}}
    repository: build/production/tuf
"""

RETURN = r"""
made:
  description: Names of the keys that were made.
  returned: with I(make)
  type: list
summary:
  description: What a person does next.
  returned: always
  type: list
lacking:
  description: Which signatures the proposal lacks, in sentences; empty when everything is published.
  returned: without I(make)
  type: list
keys:
  description: Each published role with version, expiry, threshold and its keys, and whether they are on this host.
  returned: without I(make)
  type: list
pinned:
  description: Whether the root beside the public keys, C(root.json), is new and has to be committed.
  returned: without I(make)
  type: bool
written:
  description: What was written to the bucket, below C(tuf/).
  returned: without I(make)
  type: list
"""

from datetime import datetime, timezone
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.access import ACCESS, access
from ansible.module_utils.twinops.aws.release_keys import open_store, reconcile_keys, summary
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.publishing.keys import NAME, KeyRing, key_plan
from ansible.module_utils.twinops.publishing.options import SIGNING, key_ring

SPEC = {
    "env": {"type": "str", "required": True},
    "make": {"type": "list", "elements": "str", "default": []},
    "signature_threshold": {"type": "int", "default": 1},
    "key_roles": {"type": "dict", "no_log": False},
    "folder": {"type": "path"},
    **SIGNING,
    **ACCESS,
}


def run(params: dict, apply: bool) -> dict:
    keys = key_ring(params)
    if params["make"]:
        return make(keys, params["make"], apply)
    plan = key_plan(params["env"], params["signature_threshold"], params["key_roles"])
    store = open_store(
        params["env"],
        keys,
        plan,
        copy=Path(params["repository"]).resolve(),
        bucket=params["bucket"],
        folder=Path(params["folder"]).resolve() if params["folder"] else None,
        now=datetime.now(timezone.utc),
        aws=access(params),
    )
    outcome = reconcile_keys(store, keys, plan, apply=apply)
    return {**outcome, "summary": summary(outcome)}


def make(keys: KeyRing, wanted: list, apply: bool) -> dict:
    odd = [name for name in wanted if not NAME.fullmatch(name)]
    if odd:
        raise TwinopsError("make: expected names of lower-case letters, digits and '-', got %s" % ", ".join(odd))
    made = keys.generate(wanted) if apply else [name for name in wanted if not keys.has(name)]
    said = "made %s; commit the public part in %s, and keep %s to yourself" % (
        ", ".join(made),
        keys.public_folder,
        keys.folder,
    )
    return {"changed": bool(made), "made": made, "summary": [said if made else "nothing to make"]}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = run(module.params, apply=not module.check_mode)
    except TwinopsError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
