#!/usr/bin/python
"""Read which commit a work tree is at."""

from __future__ import annotations

DOCUMENTATION = r"""
module: git_revision
short_description: Read which commit a work tree is at
description:
  - Returns the commit, and which of the given folders' files differ from it.
  - Runs of workflows fetch exactly this commit, so what is not committed would not run. The module fails on
    uncommitted files, or warns where they are to be expected.
options:
  repository:
    description: Root of the work tree.
    type: path
    required: true
  folders:
    description: Folders, relative to the root, whose content has to be committed.
    type: list
    elements: str
    required: true
  uncommitted:
    description: What to do about files that are not committed.
    type: str
    default: fail
    choices: [fail, warn]
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Only reads.
"""

EXAMPLES = r"""
- name: Read the deployed commit
  git_revision:
    repository: "{{ role_path | dirname | dirname }}"
    folders: [workflows, module_utils]
  register: revision
"""

RETURN = r"""
git_sha:
  description: The commit, 40 hexadecimal digits.
  returned: success
  type: str
  sample: 0123456789abcdef0123456789abcdef01234567
uncommitted:
  description: Paths that differ from the commit.
  returned: success
  type: list
  elements: str
  sample: []
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import work_tree
from ansible.module_utils.twinops.errors import TwinopsError

SPEC = {
    "repository": {"type": "path", "required": True},
    "folders": {"type": "list", "elements": "str", "required": True},
    "uncommitted": {"type": "str", "default": "fail", "choices": ["fail", "warn"]},
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    repository, folders = Path(module.params["repository"]), module.params["folders"]
    try:
        git_sha = work_tree.head(repository)
        paths = work_tree.uncommitted(repository, folders)
    except TwinopsError as error:
        module.fail_json(msg=str(error))
    if paths:
        message = work_tree.not_in_commit(repository, git_sha, paths)
        if module.params["uncommitted"] == "fail":
            module.fail_json(msg=f"{message}. Commit it, or remove it.", git_sha=git_sha, uncommitted=paths)
        module.warn(message)
    module.exit_json(changed=False, git_sha=git_sha, uncommitted=paths)


if __name__ == "__main__":
    main()
