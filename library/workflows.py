#!/usr/bin/python
"""Keep all workflows of an environment as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: workflows
short_description: Keep all workflows of an environment as declared
description:
  - Reads every C(workflows/<name>/workflow.yml) and makes one EventBridge rule and one log group for each.
  - Makes the dispatch and backup functions that serve all of them, their layer, and the dead-letter queue.
  - Rules and log groups of workflows whose folder is gone are removed, if they carry the tags of twinops.
  - Every mistake in every spec is reported before anything is changed.
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
  repository:
    description: Root of the work tree that has C(workflows/), C(dispatch/) and C(module_utils/).
    type: path
    required: true
  git_sha:
    description: Commit of the work tree; runs of the workflows use exactly this commit.
    type: str
    required: true
  runtime:
    description: Runtime of the functions.
    type: str
    default: python3.12
  retention_days:
    description: Days for which the logs of workflows are kept; one of the values that CloudWatch offers.
    type: int
    default: 365
    choices: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
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
- name: Ensure that every workflow has its rule
  workflows:
    env: staging
    repository: "{{ playbook_dir | dirname }}"
    git_sha: 0123456789abcdef0123456789abcdef01234567
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {action: update, kind: rule, name: twinops-staging-model_evaluation, fields: [tags]}
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

import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import archives
from ansible.module_utils.twinops import desired as estate
from ansible.module_utils.twinops.aws.module import OPTIONS, RETENTION_DAYS, converge, failure
from ansible.module_utils.twinops.aws.reconcile import Family
from ansible.module_utils.twinops.errors import SpecError, TwinopsError
from ansible.module_utils.twinops.resources import LogGroup, Resource, Rule, Scope
from ansible.module_utils.twinops.spec import Workflow, parse_workflow

SPEC = {
    **OPTIONS,
    "repository": {"type": "path", "required": True},
    "git_sha": {"type": "str", "required": True},
    "runtime": {"type": "str", "default": "python3.12"},
    "retention_days": {"type": "int", "default": 365, "choices": RETENTION_DAYS},
}


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_node.value} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_workflows(root: Path) -> list[Workflow]:
    """The workflows of a work tree. Raises SpecError with every mistake of every spec."""
    workflows, mistakes = [], []
    for spec in sorted(root.glob("workflows/*/workflow.yml")):
        where = spec.relative_to(root).as_posix()
        try:
            files = {path.name for path in spec.parent.iterdir()}
            workflows.append(parse_workflow(load_yaml(spec, where), where, files))
        except SpecError as error:
            mistakes += error.mistakes
    if mistakes:
        raise SpecError(mistakes)
    if not workflows:
        raise SpecError([f"{root}/workflows: expected at least one folder with a workflow.yml, found none"])
    return workflows


def load_yaml(path: Path, where: str) -> object:
    try:
        return yaml.load(archives.read_text(path), StrictLoader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"{error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise SpecError([f"{where}:{line} not valid YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise SpecError([f"{where}: not valid YAML: {error}"]) from error


def build(root: Path) -> tuple[bytes, bytes]:
    """The archives of the functions and of their layer."""
    code = archives.zip_bytes(
        {
            **archives.read_python_tree(root / "dispatch", "dispatch"),
            **archives.read_python_tree(root / "module_utils/twinops", "twinops"),
        }
    )
    layer = archives.zip_bytes(archives.read_distribution("websocket-client", "websocket", below="python"))
    return code, layer


def families(scope: Scope) -> tuple[Family, ...]:
    """What may be left behind by a workflow whose folder was removed."""
    rules = Family(Rule.kind, scope.names.prefix, estate.WORKFLOW_TAG)
    log_groups = Family(LogGroup.kind, scope.names.workflow_log_group(""), estate.WORKFLOW_TAG)
    return (rules, log_groups)


def desired(scope: Scope, params: dict, workflows: list[Workflow], code: estate.DispatchCode) -> list[Resource]:
    tags = params["tags"]
    per_workflow = [
        resource
        for workflow in workflows
        for resource in (
            estate.workflow_log_group(scope, tags, workflow, params["retention_days"]),
            estate.rule(scope, tags, workflow, params["git_sha"]),
        )
    ]
    return [*estate.dispatcher(scope, tags, code), *per_workflow]


def converge_workflows(params: dict, check_mode: bool) -> dict:
    root = Path(params["repository"])
    workflows = load_workflows(root)
    code, layer = build(root)
    digests = estate.DispatchCode(archives.lambda_sha256(code), archives.sha256(layer), params["runtime"])
    return converge(
        params,
        lambda scope: desired(scope, params, workflows, digests),
        check_mode=check_mode,
        families=families,
        archives={digests.code_sha256: code, digests.layer_sha256: layer},
    )


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = converge_workflows(module.params, module.check_mode)
    except TwinopsError as error:
        module.fail_json(**failure(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
