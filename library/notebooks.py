#!/usr/bin/python
"""Keep the twins of an environment as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: notebooks
short_description: Keep the twins of an environment as declared
description:
  - A twin is a SageMaker notebook instance with the script that it runs at every start.
  - Most changes of a notebook instance need it stopped; the plan then lists the steps C(stop), C(update), C(start).
  - A changed script takes effect when the twin starts the next time.
options:
  env:
    description: Environment whose names, policies and tags are used.
    type: str
    required: true
    choices: [sandbox, staging, production]
  state:
    description: V(present) makes the set and keeps it as declared; V(absent) removes what twinops owns of it.
    type: str
    default: present
    choices: [present, absent]
  tags:
    description: Further tags. Tags that others put on a resource are kept.
    type: dict
    default: {}
  region:
    description: AWS region. By default boto3's own choice (E(AWS_DEFAULT_REGION), profile).
    type: str
  profile:
    description: Profile of the AWS configuration. By default boto3's own choice.
    type: str
  endpoint_url:
    description: URL of the AWS endpoint, for emulators. By default boto3's own choice.
    type: str
  twins:
    description: The notebook instances.
    type: list
    elements: dict
    required: true
    suboptions:
      twin:
        description: Which twin.
        type: str
        required: true
        choices: [development, deployment]
      instance_type:
        description: Size of the machine.
        type: str
        default: ml.t3.medium
      volume_size_gb:
        description: Size of the persistent volume. It can only grow.
        type: int
        default: 20
      running:
        description: Whether it is started (and kept so by every run) or stopped.
        type: bool
        default: true
  script:
    description: Path of the script that runs at every start. The values it needs are put in front as shell variables.
    type: path
    required: true
  repository:
    description: Git URL that twins fetch workflows from.
    type: str
    required: true
  git_ref:
    description: Branch whose environment twins prepare at start. Runs use the exact commit of their rule.
    type: str
    default: HEAD
  redshift:
    description: Cluster with the plant's tables. Written to the twin's C(twin.json).
    type: dict
    suboptions:
      cluster:
        description: Identifier of the cluster.
        type: str
        required: true
      database:
        description: Name of the database.
        type: str
        required: true
      db_user:
        description: Database user that workflows query as.
        type: str
        required: true
  wait:
    description: Whether to wait until the twins are in service.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait at most.
    type: int
    default: 900
requirements:
  - boto3
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Reads, plans, and reports exactly what would be changed. Makes no call that writes.
  diff_mode:
    support: full
    description: Shows the fields that differ, before and after.
"""

EXAMPLES = r"""
- name: Ensure the deployment twin runs
  notebooks:
    env: staging
    twins:
      - twin: deployment
        instance_type: ml.t3.large
    script: roles/twins/files/on_start.sh
    repository: https://gitlab.example.com/plant/twinops.git
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {action: update, kind: notebook, name: twinops-staging-deployment, fields: [tags]}
conditions:
  description: What is not normal at the moment (C(Reconciling), C(Stalled)), and one C(Ready) for the whole set.
  returned: success
  type: list
  elements: dict
  sample:
    - {type: Ready, status: true, reason: AsDeclared}
calls:
  description: Number of AWS calls that were made.
  returned: success
  type: int
  sample: 14
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import desired as estate
from ansible.module_utils.twinops.archives import read_text
from ansible.module_utils.twinops.aws.module import OPTIONS, converge, failure
from ansible.module_utils.twinops.desired import TwinSettings, TwinSpec
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.names import TWINS
from ansible.module_utils.twinops.policies import Redshift
from ansible.module_utils.twinops.resources import Resource, Scope

REDSHIFT = {
    "cluster": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "db_user": {"type": "str", "required": True},
}
TWIN = {
    "twin": {"type": "str", "required": True, "choices": list(TWINS)},
    "instance_type": {"type": "str", "default": "ml.t3.medium"},
    "volume_size_gb": {"type": "int", "default": 20},
    "running": {"type": "bool", "default": True},
}
SPEC = {
    **OPTIONS,
    "twins": {"type": "list", "elements": "dict", "required": True, "options": TWIN},
    "script": {"type": "path", "required": True},
    "repository": {"type": "str", "required": True},
    "git_ref": {"type": "str", "default": "HEAD"},
    "redshift": {"type": "dict", "options": REDSHIFT},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 900},
}


def desired(scope: Scope, params: dict) -> tuple[Resource, ...]:
    redshift = Redshift(**params["redshift"]) if params["redshift"] else None
    settings = TwinSettings(params["repository"], params["git_ref"], redshift)
    specs = [TwinSpec(**twin) for twin in params["twins"]]
    return estate.twins(scope, params["tags"], specs, settings, read_text(Path(params["script"])))


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = converge(module.params, lambda scope: desired(scope, module.params), check_mode=module.check_mode)
    except TwinopsError as error:
        module.fail_json(**failure(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
