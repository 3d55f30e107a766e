"""Why a deployment failed, as Ansible says it: what people get by mail and on the merge request."""

from __future__ import annotations

from pipeline.jobs import reason

OUTPUT = """\
TASK [edge_release : Ensure that the device runs the release] ****
[ERROR]: Task failed: Module failed: device-001: the model answered otherwise than in training
Origin: /builds/plant/twinops/roles/edge_release/tasks/main.yml:3:3

fatal: [device-001]: FAILED! =>
    msg: the model answered otherwise than in training
...ignoring

TASK [edge_gate : Stop the rollout] ****
[ERROR]: Task failed: Action failed: canary: device-001: alarm rate 0.0, expected 0.2.
3 devices returned to v1
Origin: /builds/plant/twinops/roles/edge_gate/tasks/stop.yml:12:3

12 - name: Stop the rollout

PLAY RECAP ****
"""


def test_the_last_error_counts_with_all_of_its_lines() -> None:
    assert reason(OUTPUT) == "canary: device-001: alarm rate 0.0, expected 0.2.\n3 devices returned to v1"


def test_where_nothing_is_said_there_is_no_reason() -> None:
    assert reason("PLAY RECAP ****\n") == ""
