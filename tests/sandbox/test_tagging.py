"""The tagging API sees every resource that the sandbox offers and AWS lists, in pages, and nothing else."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REGION
from tests.sandbox.support import policy

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]
OWNER = "tagging-test"


def name() -> str:
    return f"tagged-{uuid.uuid4().hex[:8]}"


def listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def in_ec2(kind: str, tags: dict[str, str]) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": listed(tags)}]}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("handler.py", "def handle(event, context):\n    return event\n")
    return buffer.getvalue()


def make_function(aws: Aws, tags: dict[str, str]) -> str:
    role = aws("iam").create_role(
        RoleName=name(),
        AssumeRolePolicyDocument=policy(
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ),
    )["Role"]["Arn"]
    made = aws("lambda").create_function(
        FunctionName=name(),
        Runtime="python3.11",
        Role=role,
        Handler="handler.handle",
        Code={"ZipFile": zipped()},
        Tags=tags,
    )
    return str(made["FunctionArn"])


def make_bucket(aws: Aws, tags: dict[str, str]) -> str:
    bucket = name()
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    aws("s3").put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": listed(tags)})
    return f"arn:aws:s3:::{bucket}"


def make_queue(aws: Aws, tags: dict[str, str]) -> str:
    url = aws("sqs").create_queue(QueueName=name(), tags=tags)["QueueUrl"]
    return str(aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def make_table(aws: Aws, tags: dict[str, str]) -> str:
    made = aws("dynamodb").create_table(
        TableName=name(),
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        Tags=listed(tags),
    )
    return str(made["TableDescription"]["TableArn"])


def make_log_group(aws: Aws, tags: dict[str, str]) -> str:
    group = f"/tagged/{name()}"
    aws("logs").create_log_group(logGroupName=group, tags=tags)
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"


def alarm_arn(alarm: str) -> str:
    return f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{alarm}"


def make_alarm(aws: Aws, tags: dict[str, str]) -> str:
    alarm = name()
    aws("cloudwatch").put_metric_alarm(
        AlarmName=alarm,
        Namespace="n",
        MetricName="m",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        Tags=listed(tags),
    )
    return alarm_arn(alarm)


def make_composite_alarm(aws: Aws, tags: dict[str, str]) -> str:
    alarm = name()
    aws("cloudwatch").put_composite_alarm(AlarmName=alarm, AlarmRule="FALSE", Tags=listed(tags))
    return alarm_arn(alarm)


def make_notebook(aws: Aws, tags: dict[str, str]) -> str:
    arn = aws("sagemaker").create_notebook_instance(
        NotebookInstanceName=name(),
        InstanceType="ml.t3.medium",
        RoleArn=aws("iam").create_role(
            RoleName=name(),
            AssumeRolePolicyDocument=policy(
                {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ),
        )["Role"]["Arn"],
        Tags=listed(tags),
    )["NotebookInstanceArn"]
    return str(arn)


def make_endpoint(aws: Aws, vpc: str, tags: dict[str, str]) -> str:
    service = f"com.amazonaws.{REGION}.s3"
    endpoint = aws("ec2").create_vpc_endpoint(VpcId=vpc, ServiceName=service, **in_ec2("vpc-endpoint", tags))
    return str(endpoint["VpcEndpoint"]["VpcEndpointId"])


def make_in_ec2(aws: Aws, tags: dict[str, str]) -> list[str]:
    """The ARNs of one resource of each type."""
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16", **in_ec2("vpc", tags))["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.0.0/24", **in_ec2("subnet", tags))["Subnet"]["SubnetId"]
    address = ec2.allocate_address(Domain="vpc", **in_ec2("elastic-ip", tags))["AllocationId"]
    group = {"GroupName": "g", "Description": "d", "VpcId": vpc}
    nat = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address, **in_ec2("natgateway", tags))["NatGateway"]
    made = {
        "vpc": vpc,
        "subnet": subnet,
        "elastic-ip": address,
        "natgateway": nat["NatGatewayId"],
        "route-table": ec2.create_route_table(VpcId=vpc, **in_ec2("route-table", tags))["RouteTable"]["RouteTableId"],
        "security-group": ec2.create_security_group(**group, **in_ec2("security-group", tags))["GroupId"],
        "internet-gateway": ec2.create_internet_gateway(**in_ec2("internet-gateway", tags))["InternetGateway"][
            "InternetGatewayId"
        ],
        "vpc-endpoint": make_endpoint(aws, vpc, tags),
        "instance": ec2.run_instances(
            ImageId=ec2.describe_images()["Images"][0]["ImageId"],
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            **in_ec2("instance", tags),
        )["Instances"][0]["InstanceId"],
    }
    return [f"arn:aws:ec2:{REGION}:{ACCOUNT}:{kind}/{resource_id}" for kind, resource_id in made.items()]


MAKERS: dict[str, Callable[[Aws, dict[str, str]], str]] = {
    "s3:bucket": make_bucket,
    "sqs:queue": make_queue,
    "sns": lambda aws, tags: aws("sns").create_topic(Name=name(), Tags=listed(tags))["TopicArn"],
    "dynamodb:table": make_table,
    "lambda:function": make_function,
    "events:rule": lambda aws, tags: aws("events").put_rule(
        Name=name(), ScheduleExpression="rate(1 day)", Tags=listed(tags)
    )["RuleArn"],
    "scheduler:schedule-group": lambda aws, tags: aws("scheduler").create_schedule_group(
        Name=name(), Tags=listed(tags)
    )["ScheduleGroupArn"],
    "logs:log-group": make_log_group,
    "cloudwatch:alarm": make_alarm,
    "cloudwatch": make_composite_alarm,
    "kms:key": lambda aws, tags: aws("kms").create_key(
        Tags=[{"TagKey": key, "TagValue": value} for key, value in tags.items()]
    )["KeyMetadata"]["Arn"],
    "sagemaker:notebook-instance": make_notebook,
}


@pytest.fixture(scope="module")
def resources(aws: Aws) -> Iterator[dict[str, list[str]]]:
    """By type: the ARNs of what was made with the tags of this test."""
    tags = {"owner": OWNER, "stage": "a"}
    made = {kind: [make(aws, tags)] for kind, make in MAKERS.items()}
    for arn in make_in_ec2(aws, tags):
        made[f"ec2:{arn.split(':')[5].split('/')[0]}"] = [arn]
    yield made
    notebook = made["sagemaker:notebook-instance"][0].rpartition("/")[2]
    aws("sagemaker").get_waiter("notebook_instance_in_service").wait(
        NotebookInstanceName=notebook, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    aws("sagemaker").stop_notebook_instance(NotebookInstanceName=notebook)


def found(aws: Aws, **filters: Any) -> dict[str, dict[str, str]]:
    pages = aws("resourcegroupstaggingapi").get_paginator("get_resources").paginate(**filters)
    return {
        one["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]}
        for page in pages
        for one in page["ResourceTagMappingList"]
    }


def owned(**filters: Any) -> dict[str, Any]:
    return {"TagFilters": [{"Key": "owner", "Values": [OWNER]}], **filters}


def test_every_service_is_found(aws: Aws, resources: dict[str, list[str]]) -> None:
    expected = sorted(arn for arns in resources.values() for arn in arns)
    answer = found(aws, **owned())
    assert sorted(answer) == expected
    assert all(tags == {"owner": OWNER, "stage": "a"} for tags in answer.values())


def test_filters_by_type(aws: Aws, resources: dict[str, list[str]]) -> None:
    for kind, arns in resources.items():
        answer = found(aws, **owned(ResourceTypeFilters=[kind]))
        assert set(arns) <= set(answer)
        assert {arn.split(":")[2] for arn in answer} == {kind.split(":")[0]}


def test_filters_by_tags(aws: Aws, resources: dict[str, list[str]]) -> None:
    both = [{"Key": "owner", "Values": ["x", OWNER]}, {"Key": "stage"}]
    assert len(found(aws, TagFilters=both)) == sum(map(len, resources.values()))
    assert found(aws, TagFilters=[*both, {"Key": "stage", "Values": ["b"]}]) == {}


def test_pages(aws: Aws, resources: dict[str, list[str]]) -> None:
    client, sizes, token = aws("resourcegroupstaggingapi"), [], ""
    while True:
        page = client.get_resources(**owned(ResourcesPerPage=6, PaginationToken=token))
        sizes.append(len(page["ResourceTagMappingList"]))
        token = page["PaginationToken"]
        if not token:
            break
    assert sizes == [6, 6, 6, sum(map(len, resources.values())) - 18]
    with pytest.raises(ClientError) as refused:
        client.get_resources(ResourcesPerPage=101)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"


def test_what_aws_does_not_list(aws: Aws, make_role: Callable[..., str]) -> None:
    role = name()
    make_role(role, "lambda.amazonaws.com")
    aws("iam").tag_role(RoleName=role, Tags=listed({"hidden": "x"}))
    aws("sagemaker").create_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName=name(), Tags=listed({"hidden": "x"})
    )
    assert found(aws, TagFilters=[{"Key": "hidden"}]) == {}


def test_what_is_deleted_is_forgotten(aws: Aws) -> None:
    vpc = aws("ec2").create_vpc(CidrBlock="10.4.0.0/16", **in_ec2("vpc", {"gone": "x"}))["Vpc"]["VpcId"]
    assert len(found(aws, TagFilters=[{"Key": "gone"}])) == 1
    aws("ec2").delete_vpc(VpcId=vpc)
    assert found(aws, TagFilters=[{"Key": "gone"}]) == {}


def test_tags_are_set_and_removed(aws: Aws, resources: dict[str, list[str]]) -> None:
    client = aws("resourcegroupstaggingapi")
    arns = sorted(arn for arns in resources.values() for arn in arns)
    for batch in (arns[:15], arns[15:]):
        assert client.tag_resources(ResourceARNList=batch, Tags={"added": "1"})["FailedResourcesMap"] == {}
    assert sorted(found(aws, TagFilters=[{"Key": "added", "Values": ["1"]}])) == arns
    for batch in (arns[:15], arns[15:]):
        assert client.untag_resources(ResourceARNList=batch, TagKeys=["added"])["FailedResourcesMap"] == {}
    assert found(aws, TagFilters=[{"Key": "added"}]) == {}
    unknown = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/nowhere"
    failed = client.tag_resources(ResourceARNList=[unknown], Tags={"added": "1"})["FailedResourcesMap"]
    assert failed[unknown]["ErrorCode"] == "InvalidParameterException"
