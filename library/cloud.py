#!/usr/bin/python
"""Keep the cloud of an environment as its roles declared it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud
short_description: Keep the cloud of an environment as its roles declared it
description:
  - The cloud roles only declare (action C(declare)); this module compares all of it with AWS and makes it so, in one
    process and in the order of its dependencies. Reading AWS once for everything is what makes it fast.
  - Sees every field that twinops owns, and repairs it. What nobody declared (a colleague's tag) is left alone.
  - Removes what belongs to a workflow whose folder is gone. Lists other resources that carry the tags of twinops and
    are not declared any more as C(orphans), and removes them with O(prune).
  - Every mistake in everything declared and in every workflow's spec is reported before anything is changed.
options:
  env:
    description: Environment whose names, policies and tags are used.
    type: str
    required: true
    choices: [sandbox, staging, production]
  declared:
    description:
      - What the roles declared, by part (C(env), C(storage), ...). What each part takes is in the README of its role.
      - Only these parts are looked at.
    type: dict
    required: true
  state:
    description:
      - V(present) makes the declared parts and keeps them as declared.
      - V(absent) removes what twinops owns of them.
    type: str
    default: present
    choices: [present, absent]
  prune:
    description: Whether orphans are removed. Those that hold data (buckets, tables) never are.
    type: bool
    default: false
  with_data:
    description: Whether V(absent) also removes what holds data (buckets with all versions of all objects, the ledger).
    type: bool
    default: false
  tags:
    description: Further tags. Tags that others put on a resource are kept.
    type: dict
    default: {}
  repository:
    description: Root of the work tree that has C(workflows/), C(dispatch/) and C(module_utils/).
    type: path
    required: true
  uncommitted:
    description: What to do about files that are not committed and therefore would not run.
    type: str
    default: fail
    choices: [fail, warn]
  region:
    description: AWS region. By default boto3's own choice (E(AWS_DEFAULT_REGION), profile).
    type: str
  profile:
    description: Profile of the AWS configuration. By default boto3's own choice.
    type: str
  endpoint_url:
    description: URL of the AWS endpoint, for emulators. By default boto3's own choice.
    type: str
  wait:
    description: Whether to wait until what starts (a twin) is in service.
    type: bool
    default: true
  wait_timeout:
    description: For how many seconds at most.
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
- name: Declare the buckets and the ledger
  declare:
    storage:
      buckets: [{purpose: reports, noncurrent_days: 30}]

- name: Make the environment what its roles declared
  cloud:
    env: staging
    declared: "{{ twinops_declared }}"
    repository: "{{ playbook_dir | dirname }}"
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
orphans:
  description: What carries the tags of twinops, is not declared any more, and was left alone.
  returned: O(state=present)
  type: list
  elements: dict
  sample:
    - {kind: bucket, name: twinops-staging-old-123456789012}
kept:
  description: What holds data and was therefore not removed.
  returned: O(state=absent)
  type: list
  elements: dict
  sample:
    - {kind: table, name: twinops-staging-ledger}
git_sha:
  description: The commit that the rules name, where workflows were declared.
  returned: success
  type: str
  sample: 0123456789abcdef0123456789abcdef01234567
calls:
  description: Number of AWS calls that were made.
  returned: success
  type: int
  sample: 51
"""

from pathlib import Path

import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.twinops import archives, work_tree
from ansible.module_utils.twinops import desired as estate
from ansible.module_utils.twinops.aws.module import OPTIONS, failure
from ansible.module_utils.twinops.aws.reconcile import Extent, reconcile, remove
from ansible.module_utils.twinops.aws.session import Aws
from ansible.module_utils.twinops.errors import SpecError, TwinopsError
from ansible.module_utils.twinops.spec import Workflow, parse_workflow

SPEC = {
    **OPTIONS,
    "declared": {"type": "dict", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "prune": {"type": "bool", "default": False},
    "with_data": {"type": "bool", "default": False},
    "tags": {"type": "dict", "default": {}},
    "repository": {"type": "path", "required": True},
    "uncommitted": {"type": "str", "default": "fail", "choices": ["fail", "warn"]},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 900},
}

DEPLOYED_FOLDERS = ("workflows", "dispatch", "module_utils")
"""What runs of workflows fetch by commit."""

SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is there


class StrictLoader(SafeLoader):
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


def check_declared(declared: dict) -> dict:
    """What was declared, with defaults. Raises SpecError with every mistake of every part."""
    complete, mistakes = {}, []
    for part, options in declared.items():
        if part not in estate.OPTIONS:
            mistakes.append(f"declared: {part}: expected one of {', '.join(estate.OPTIONS)}")
            continue
        given = {name: value for name, value in options.items() if value is not None}
        checked = ArgumentSpecValidator(estate.OPTIONS[part]).validate(given)
        mistakes += [f"{part}: {message}" for message in checked.error_messages]
        complete[part] = checked.validated_parameters
    if mistakes:
        raise SpecError(mistakes)
    return complete


def load_workflows(root: Path) -> tuple[Workflow, ...]:
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
    return tuple(workflows)


def load_yaml(path: Path, where: str) -> object:
    try:
        return yaml.load(archives.read_text(path), StrictLoader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"{error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise SpecError([f"{where}:{line} not valid YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise SpecError([f"{where}: not valid YAML: {error}"]) from error


def deployed_commit(module: AnsibleModule, repository: Path) -> str:
    """The commit that runs will fetch. Raises TwinopsError, or warns, about files that would not be in it."""
    git_sha = work_tree.head(repository)
    paths = work_tree.uncommitted(repository, DEPLOYED_FOLDERS)
    if paths:
        message = work_tree.not_in_commit(repository, git_sha, paths)
        if module.params["uncommitted"] == "fail":
            raise TwinopsError(f"{message}. Commit it, or remove it.")
        module.warn(message)
    return git_sha


def read_work_tree(module: AnsibleModule, declared: dict) -> tuple[dict, dict]:
    """What the declared parts need of the work tree, as fields of the estate, and the archives to upload, by digest."""
    repository, fields = Path(module.params["repository"]), {}
    if "twins" in declared:
        fields["twin_script"] = archives.read_text(Path(declared["twins"]["script"]))
    if not declared.keys() & {"workflows", "observability"}:
        return fields, {}
    fields["workflows"] = load_workflows(repository)
    fields["git_sha"] = deployed_commit(module, repository)
    code, layer = work_tree.function_archives(repository)
    digests = estate.DispatchCode(archives.lambda_sha256(code), archives.sha256(layer))
    return {**fields, "code": digests}, {digests.code_sha256: code, digests.layer_sha256: layer}


def converge(module: AnsibleModule) -> dict:
    """Everything a person can get wrong is read and checked before the first call to AWS."""
    params, apply = module.params, not module.check_mode
    declared = check_declared(params["declared"])
    fields, uploads = read_work_tree(module, declared)
    aws = Aws(params["env"], **{option: params[option] for option in ("region", "profile", "endpoint_url")})
    aws.archives.update(uploads)
    read = estate.Estate(scope=aws.scope, extra_tags=params["tags"], **fields)
    resources, extent = estate.resources(read, declared), Extent(tuple(declared), params["prune"])
    if params["state"] == "absent":
        return remove(aws, resources, apply=apply, extent=extent, with_data=params["with_data"])
    wait_timeout_s = params["wait_timeout"] if params["wait"] else 0
    result = reconcile(aws, resources, apply=apply, extent=extent, wait_timeout_s=wait_timeout_s)
    for orphan in result["orphans"]:
        module.warn(f"{orphan['kind']} {orphan['name']}: not declared any more; -e prune=true removes it")
    return {**result, "git_sha": read.git_sha}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = converge(module)
    except TwinopsError as error:
        module.fail_json(**failure(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
