"""The grammar of policies: a union is short and allows no less."""

from __future__ import annotations

import json

from twinops import iam


def test_a_union_has_one_statement_a_service_and_condition() -> None:
    region = {"StringEquals": {"aws:RequestedRegion": ["eu-central-1"]}}
    union = iam.union(
        [
            iam.allow("A", ["s3:GetObject"], ["arn:aws:s3:::a/*"]),
            iam.allow("B", ["s3:PutObject", "sns:Publish"], ["arn:aws:s3:::b/x"]),
            iam.allow("C", ["events:ListRules"], ["*"], region),
            iam.allow("D", ["tag:GetResources"], ["*"], region),
            iam.allow("E", ["s3:ListBucket"], ["arn:aws:s3:::a"], {"StringLike": {"s3:prefix": ["x"]}}),
        ]
    )
    found = [(each["Action"], each["Resource"], "Condition" in each) for each in union["Statement"]]
    assert found == [
        (["events:ListRules", "tag:GetResources"], ["*"], True),
        (["s3:GetObject", "s3:PutObject"], ["arn:aws:s3:::a/*", "arn:aws:s3:::b/x"], False),
        (["s3:ListBucket"], ["arn:aws:s3:::a"], True),
        (["sns:Publish"], ["arn:aws:s3:::b/x"], False),
    ]


def test_a_union_leaves_out_what_is_included() -> None:
    wide, narrow = "arn:aws:lambda:r:1:function:twinops-*", "arn:aws:lambda:r:1:function:twinops-backup"
    union = iam.union([iam.allow("A", ["lambda:GetFunction"], [narrow]), iam.allow("B", ["lambda:GetPolicy"], [wide])])
    assert [each["Resource"] for each in union["Statement"]] == [[wide]]


def test_white_space_does_not_count() -> None:
    policy = iam.document([iam.allow("A", ["s3:GetObject"], ["arn:aws:s3:::a/*"])])
    assert iam.size(policy) == len(json.dumps(policy, separators=(",", ":")))
