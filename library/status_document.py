#!/usr/bin/python
"""Documents the action plugin of the same name (plugins/action/status_document.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_document
short_description: Write what the status page shows of an environment
description:
  - Reads the ledger, the results of workflows, alarms, signatures and the facts of devices, and writes one JSON
    document. Devices are not asked.
  - A source that cannot be read is named in the document with its reason; the task does not fail for it.
  - Changes nothing in AWS. Runs where C(ansible-playbook) runs, whatever the host's connection is. Takes boto3's
    credentials from the play's C(environment).
extends_documentation_fragment: [aws]
options:
  waves:
    description: The devices of each wave, as the inventory has them.
    type: dict
    required: true
  repository:
    description: The work tree with the workflows.
    type: path
    required: true
  artifacts:
    description:
      - The folder in which jobs of the pipeline leave C(plans/<env>.json) and C(deployments/<env>.json).
      - Where there is none, the page says that nobody has looked for drift, and not who deployed.
    type: path
    required: true
  dest:
    description: Where the document is written, as a whole or not at all.
    type: path
    required: true
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Reads, and writes no file.
"""

EXAMPLES = r"""
- name: Write what the status page shows
  status_document:
    env: staging
    waves:
      canary: [staging-device-001]
    repository: "{{ playbook_dir }}/.."
    artifacts: build
    dest: build/status/staging.json
"""

RETURN = r"""
answer:
  description: What the first screen says, C(tone), C(headline) and C(items).
  returned: success
  type: dict
sources:
  description: What was read, each with C(name), C(holds), C(state) and C(problem).
  returned: success
  type: list
  elements: dict
"""
