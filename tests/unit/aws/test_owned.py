"""From ARNs and tags to what is ours."""

from __future__ import annotations

import pytest
from twinops.aws.owned import key_of

CASES = {
    "arn:aws:s3:::twinops-staging-data-1": ("bucket", "twinops-staging-data-1"),
    "arn:aws:dynamodb:eu-central-1:1:table/twinops-staging-ledger": ("table", "twinops-staging-ledger"),
    "arn:aws:dynamodb:eu-central-1:1:table/twinops-staging-ledger/index/kind-at": None,
    "arn:aws:sns:eu-central-1:1:twinops-staging-workflows": ("topic", "twinops-staging-workflows"),
    "arn:aws:sqs:eu-central-1:1:twinops-staging-dead-letters": ("queue", "twinops-staging-dead-letters"),
    "arn:aws:lambda:eu-central-1:1:function:twinops-staging-dispatch": ("function", "twinops-staging-dispatch"),
    "arn:aws:events:eu-central-1:1:rule/twinops-staging-drift_report": ("rule", "twinops-staging-drift_report"),
    "arn:aws:logs:eu-central-1:1:log-group:/twinops/staging/workflows/a": ("log_group", "/twinops/staging/workflows/a"),
    "arn:aws-cn:sagemaker:cn-north-1:1:notebook-instance/twinops-staging-deployment": (
        "notebook",
        "twinops-staging-deployment",
    ),
    "arn:aws:cloudwatch:eu-central-1:1:alarm:twinops-staging-failed-any": ("alarm", "twinops-staging-failed-any"),
    "arn:aws:cloudwatch:eu-central-1:1:alarm:twinops-staging-any-workflow-failed": (
        "composite_alarm",
        "twinops-staging-any-workflow-failed",
    ),
    "arn:aws:scheduler:eu-central-1:1:schedule-group/twinops-staging-workflows": (
        "schedule_group",
        "twinops-staging-workflows",
    ),
    "arn:aws:ecs:eu-central-1:1:cluster/somebody": None,
    "not an ARN": None,
}


@pytest.mark.parametrize("arn", CASES)
def test_kind_and_name_of_an_arn(arn: str) -> None:
    assert key_of(arn, {}) == CASES[arn]


def test_a_key_has_its_name_in_a_tag() -> None:
    arn = "arn:aws:kms:eu-central-1:1:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    assert key_of(arn, {"twinops:name": "twinops-staging-data"}) == ("key", "twinops-staging-data")
    assert key_of(arn, {}) is None
