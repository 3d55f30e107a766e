#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Builds, signs and publishes a release; runs on the control host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_bundle
short_description: Build, sign and publish a release for edge devices
description:
  - Trains the model of a release if these inputs were never trained, bundles it with process and config, and
    publishes it in a TUF repository in the bucket for models, below C(tuf/).
  - The bucket is the truth. A release that is published from the same inputs is left as it is, and nothing is trained.
  - Metadata that nears its expiry is signed again.
  - A release that needs the signature of a key that is not here is left in the bucket as a proposal, and the task fails
    saying whose signature it lacks; C(playbooks/sign.yml) gives it, and the next run publishes.
  - Keeps the model registry (C(registry/) in the same bucket) - a release is registered before it is published, and its
    model becomes champion when it becomes the current one.
  - In check mode nothing is built, signed or written; a release that is not published yet has no digest then.
extends_documentation_fragment: [aws, signing]
options:
  release:
    description: The version, the name of a file in C(edge/releases).
    type: str
    required: true
  state:
    description:
      - C(published) makes the release available to rollouts.
      - C(proposed) does the same, but is content with a proposal: I(waiting) says whose signature is lacking.
      - C(current) also makes it the one that the environment runs, which is what the next release is compared with.
      - C(reaffirmed) signs again that the current one is current, because I(release) was blocked. A device that runs
        the blocked one, and was not reached when it was taken back, returns to the current one when it pulls.
        Nothing is signed where I(release) is itself the current one.
    type: str
    choices: [proposed, published, current, reaffirmed]
    default: published
  project:
    description: The clone of the twinops repository.
    type: path
    required: true
  build_cache:
    description: Folder for trained models and bundles; by default C(build) in the clone.
    type: path
  development_keys:
    description: Make missing keys for a new repository. Only for the sandbox, because all keys then lie on one disk.
    type: bool
    default: false
  signature_threshold:
    description: How many keys of the environment must sign a release.
    type: int
    default: 1
  key_roles:
    description:
      - Who may sign what, for a new repository; C(root), C(targets), C(release), C(current), C(snapshot), C(timestamp).
      - Each has C(keys), a list of names, and C(threshold). A role that is left out has the keys of docs/keys.md.
    type: dict
  rollout_id:
    description: For C(current) - the rollout that makes it so; devices that pull note it in their history.
    type: str
    default: ''
  approver:
    description: Who wants this, for the model registry; by default the ARN of the caller.
    type: str
    default: ''
  rebuild:
    description: Let a published version change with the work tree, committed or not. Only for the sandbox.
    type: bool
    default: false
author: twinops contributors
"""

EXAMPLES = r"""
- name: Ensure that the release is published
  release_bundle:
    env: staging
    release: v2
    project: "{{ playbook_dir | dirname }}"
    repository: build/staging/tuf
    keys: /run/secrets/twinops-keys
"""

RETURN = r"""
release_digest:
  description: SHA-256 of the manifest; empty in check mode for a release that is not published.
  returned: success
  type: str
waiting:
  description: Why the release is not published yet.
  returned: for state proposed and in check mode, where signatures are lacking
  type: str
written:
  description: What was written to the bucket, below C(tuf/).
  returned: when a manifest is known
  type: list
promoted:
  description: Whether the model of the release became the champion now.
  returned: when a manifest is known
  type: bool
git_sha:
  description: The commit that the release was built from.
  returned: when a manifest is known
  type: str
model_sha256:
  description: SHA-256 of the model.
  returned: when a manifest is known
  type: str
data_version:
  description: Digest of the data that the model was trained on.
  returned: when a manifest is known
  type: str
hold_out:
  description: Records held out in training, and alarms of the model on them.
  returned: when a manifest is known
  type: dict
current:
  description: The release that the environment runs, with its C(hold_out).
  returned: success
  type: dict
metadata:
  description: Paths in the repository that every device gets.
  returned: when a manifest is known
  type: list
files:
  description: SHA-256 to path and size of each file of the bundle; a device gets those it lacks.
  returned: when a manifest is known
  type: dict
calls:
  description: Number of AWS calls.
  returned: when a manifest is known
  type: int
"""

from datetime import datetime, timezone
from pathlib import Path

import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import names, release
from ansible.module_utils.twinops.access import ACCESS, access
from ansible.module_utils.twinops.aws import session
from ansible.module_utils.twinops.aws.clients import caller_arn
from ansible.module_utils.twinops.aws.registry import Registry
from ansible.module_utils.twinops.aws.release_bundle import (
    CURRENT,
    PROPOSED,
    PUBLISHED,
    REAFFIRMED,
    Options,
    reconcile,
)
from ansible.module_utils.twinops.aws.releases import Bucket
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.publishing.keys import key_plan
from ansible.module_utils.twinops.publishing.options import SIGNING, key_ring

SPEC = {
    "env": {"type": "str", "required": True},
    "release": {"type": "str", "required": True},
    "state": {"type": "str", "choices": [PROPOSED, PUBLISHED, CURRENT, REAFFIRMED], "default": PUBLISHED},
    "project": {"type": "path", "required": True},
    "build_cache": {"type": "path"},
    "development_keys": {"type": "bool", "default": False, "no_log": False},
    "signature_threshold": {"type": "int", "default": 1},
    "key_roles": {"type": "dict", "no_log": False},
    "approver": {"type": "str", "default": ""},
    "rollout_id": {"type": "str", "default": ""},
    "rebuild": {"type": "bool", "default": False},
    **SIGNING,
    **ACCESS,
}


def read_spec(clone: Path, version: str) -> release.ReleaseSpec:
    where = release.release_path(version)
    try:
        data = yaml.safe_load((clone / where).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(path.stem for path in (clone / where).parent.glob("*.yml"))) or "none"
        raise TwinopsError("%s: no such release; expected one of: %s" % (where, known)) from error
    except yaml.YAMLError as error:
        raise TwinopsError("%s: expected YAML, got %s" % (where, error)) from error
    return release.parse_release(data, where)


def run(params: dict, apply: bool) -> dict:
    clone = Path(params["project"]).resolve()
    spec = read_spec(clone, params["release"])
    aws = access(params)
    caller = caller_arn(**aws)
    options = Options(
        env=params["env"],
        spec=spec,
        challenger=read_spec(clone, spec.shadow) if spec.shadow else None,
        state=params["state"],
        clone=clone,
        repository=Path(params["repository"]).resolve(),
        build_cache=Path(params["build_cache"] or clone / "build").resolve(),
        keys=key_ring(params),
        key_plan=key_plan(params["env"], params["signature_threshold"], params["key_roles"]),
        development_keys=params["development_keys"],
        rebuild=params["rebuild"],
        rollout_id=params["rollout_id"],
        approver=params["approver"] or caller,
    )
    name = params["bucket"] or names.Names(options.env, caller.split(":")[4]).bucket("models")
    s3 = session.client("s3", **aws)

    def registry(model: str) -> Registry:
        return Registry(s3, name, model)

    return reconcile(options, Bucket(name, s3), datetime.now(timezone.utc), apply=apply, registry=registry)


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
