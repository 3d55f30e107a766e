"""Who may do what: for each operation exactly the actions and ARNs that AWS's authorisation reference names.

Each case is a call and the statements it needs. With all of them it works; without any one of them it is refused.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REGION
from tests.sandbox.support import OwnSandbox, policy
from tests.sandbox.test_aws import credentials
from tests.sandbox.test_tagging import zipped

pytestmark = pytest.mark.sandbox

Statement = dict[str, Any]
DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation")
LOCAL = f"{REGION}:{ACCOUNT}"
TAGS = [{"Key": "owner", "Value": "us"}]


class Person:
    """An IAM user whose only policy the tests write."""

    def __init__(self, own: OwnSandbox, iam: Any) -> None:
        self._iam, self._own, self._clients = iam, own, {}  # type: ignore[var-annotated]
        self.name = f"person-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=self.name)
        self._key = iam.create_access_key(UserName=self.name)["AccessKey"]

    def may(self, *statements: Statement) -> None:
        """From now on exactly this; nothing without statements."""
        nothing = {"Effect": "Deny", "Action": "account:Close", "Resource": "*"}
        allowed = [{"Effect": "Allow", **statement} for statement in statements]
        self._iam.put_user_policy(UserName=self.name, PolicyName="all", PolicyDocument=policy(*allowed, nothing))

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self._own.settings.endpoint_url,
                region_name=REGION,
                aws_access_key_id=self._key["AccessKeyId"],
                aws_secret_access_key=self._key["SecretAccessKey"],
                config=Config(retries={"total_max_attempts": 1}),
            )
        return self._clients[service]


@dataclass
class World:
    """What the calls work on, made by the account's root."""

    function: str = "it-function"
    role: str = f"arn:aws:iam::{ACCOUNT}:role/it/lambda"
    notebook_role: str = f"arn:aws:iam::{ACCOUNT}:role/it/notebook"
    key: str = ""
    ids: dict[str, str] = field(default_factory=dict)


def trust(service: str) -> str:
    return policy({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"})


@pytest.fixture(scope="module")
def world(aws: Callable[[str], Any]) -> World:
    made, iam, ec2 = World(), aws("iam"), aws("ec2")
    for name, service in (
        ("lambda", "lambda"),
        ("notebook", "sagemaker"),
        ("host", "ec2"),
        ("rule", "events"),
        ("time", "scheduler"),
    ):
        iam.create_role(RoleName=name, Path="/it/", AssumeRolePolicyDocument=trust(f"{service}.amazonaws.com"))
    iam.create_instance_profile(InstanceProfileName="host", Path="/it/")
    iam.add_role_to_instance_profile(InstanceProfileName="host", RoleName="host")
    iam.create_instance_profile(InstanceProfileName="empty", Path="/it/")
    code = {"ZipFile": zipped()}
    aws("lambda").create_function(
        FunctionName=made.function, Runtime="python3.11", Role=made.role, Handler="handler.handle", Code=code
    )
    aws("lambda").publish_layer_version(LayerName="it-layer", Content=code)
    aws("logs").create_log_group(logGroupName="/it")
    made.key = aws("kms").create_key()["KeyMetadata"]["KeyId"]
    aws("kms").create_alias(AliasName="alias/it", TargetKeyId=made.key)
    aws("cloudwatch").put_composite_alarm(AlarmName="it-composite", AlarmRule="FALSE")
    vpc = ec2.create_vpc(CidrBlock="10.5.0.0/16")["Vpc"]["VpcId"]
    made.ids = {
        "vpc": vpc,
        "subnet": ec2.create_subnet(VpcId=vpc, CidrBlock="10.5.0.0/24")["Subnet"]["SubnetId"],
        "group": ec2.create_security_group(GroupName="it", Description="d", VpcId=vpc)["GroupId"],
        "table": ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"],
        "image": ec2.describe_images()["Images"][0]["ImageId"],
    }
    return made


@pytest.fixture(scope="module")
def person(own_sandbox: OwnSandbox, aws: Callable[[str], Any]) -> Iterator[Person]:
    yield Person(own_sandbox, aws("iam"))


def on(action: str, resource: str | list[str] = "*", **condition: Any) -> Statement:
    statement: Statement = {"Action": action, "Resource": resource}
    if condition:
        statement["Condition"] = condition
    return statement


def passing(role: str, service: str) -> Statement:
    return on("iam:PassRole", role, StringEquals={"iam:PassedToService": f"{service}.amazonaws.com"})


def function(name: str = "it-function") -> str:
    return f"arn:aws:lambda:{LOCAL}:function:{name}"


def in_ec2(kind: str, name: str = "*") -> str:
    return f"arn:aws:ec2:{LOCAL}:{kind}/{name}"


def in_scheduler(resource: str) -> str:
    return f"arn:aws:scheduler:{LOCAL}:{resource}"


SCHEDULE = {
    "Name": "it-schedule",
    "ScheduleExpression": "rate(1 day)",
    "FlexibleTimeWindow": {"Mode": "OFF"},
    "Target": {"Arn": function(), "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/it/time"},
}


def tag_spec(kind: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": TAGS}]


def on_creation(kind: str, operation: str) -> Statement:
    return on("ec2:CreateTags", in_ec2(kind), StringEquals={"ec2:CreateAction": operation})


Case = tuple[str, Callable[[Any, World], Any], Callable[[World], list[Statement]]]


def new() -> str:
    return f"it-{uuid.uuid4().hex[:8]}"


# name -> service, the call, and what it needs.
CASES: dict[str, Case] = {
    # ---- Lambda
    "a function": (
        "lambda",
        lambda client, world: client.create_function(
            FunctionName=new(),
            Runtime="python3.11",
            Role=world.role,
            Handler="handler.handle",
            Code={"ZipFile": zipped()},
            Layers=[f"arn:aws:lambda:{LOCAL}:layer:it-layer:1"],
            Tags={"owner": "us"},
        ),
        lambda world: [
            on("lambda:CreateFunction", function("it-????????")),
            on("lambda:TagResource", function("it-????????"), StringEquals={"aws:RequestTag/owner": "us"}),
            on("lambda:GetLayerVersion", f"arn:aws:lambda:{LOCAL}:layer:it-layer:1"),
            passing(world.role, "lambda"),
        ],
    ),
    "a function's settings": (
        "lambda",
        lambda client, world: client.update_function_configuration(FunctionName=world.function, Timeout=9),
        lambda world: [on("lambda:UpdateFunctionConfiguration", function())],
    ),
    "a function's role": (
        "lambda",
        lambda client, world: client.update_function_configuration(FunctionName=world.function, Role=world.role),
        lambda world: [on("lambda:UpdateFunctionConfiguration", function()), passing(world.role, "lambda")],
    ),
    "how a function is retried": (
        "lambda",
        lambda client, world: client.put_function_event_invoke_config(
            FunctionName=world.function, MaximumRetryAttempts=1
        ),
        lambda world: [on("lambda:PutFunctionEventInvokeConfig", function())],
    ),
    "how a function is retried, changed": (
        "lambda",
        lambda client, world: client.update_function_event_invoke_config(
            FunctionName=world.function, MaximumRetryAttempts=1
        ),
        lambda world: [on("lambda:UpdateFunctionEventInvokeConfig", function())],
    ),
    "how a function is retried, read": (
        "lambda",
        lambda client, world: client.get_function_event_invoke_config(FunctionName=world.function),
        lambda world: [on("lambda:GetFunctionEventInvokeConfig", function())],
    ),
    "who may invoke a function": (
        "lambda",
        lambda client, world: client.add_permission(
            FunctionName=function(),
            StatementId=new(),
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
        ),
        lambda world: [on("lambda:AddPermission", function())],
    ),
    "a function by its ARN": (
        "lambda",
        lambda client, world: client.get_function_configuration(FunctionName=function()),
        lambda world: [on("lambda:GetFunctionConfiguration", function())],
    ),
    "all functions": (
        "lambda",
        lambda client, world: client.list_functions(),
        lambda world: [on("lambda:ListFunctions")],
    ),
    "a function's tags": (
        "lambda",
        lambda client, world: client.tag_resource(Resource=function(), Tags={"owner": "us"}),
        lambda world: [
            on("lambda:TagResource", function(), **{"ForAllValues:StringEquals": {"aws:TagKeys": ["owner"]}})
        ],
    ),
    "a layer": (
        "lambda",
        lambda client, world: client.publish_layer_version(LayerName="it-layer", Content={"ZipFile": zipped()}),
        lambda world: [on("lambda:PublishLayerVersion", f"arn:aws:lambda:{LOCAL}:layer:it-layer")],
    ),
    "a layer's versions": (
        "lambda",
        lambda client, world: client.list_layer_versions(LayerName="it-layer"),
        lambda world: [on("lambda:ListLayerVersions", f"arn:aws:lambda:{LOCAL}:layer:it-layer")],
    ),
    "a version of a layer": (
        "lambda",
        lambda client, world: client.get_layer_version(LayerName="it-layer", VersionNumber=1),
        lambda world: [on("lambda:GetLayerVersion", f"arn:aws:lambda:{LOCAL}:layer:it-layer:1")],
    ),
    "an old version of a layer": (
        "lambda",
        lambda client, world: client.delete_layer_version(LayerName="it-layer", VersionNumber=77),
        lambda world: [on("lambda:DeleteLayerVersion", f"arn:aws:lambda:{LOCAL}:layer:it-layer:77")],
    ),
    # ---- EventBridge
    "a rule": (
        "events",
        lambda client, world: client.put_rule(Name="it-rule", ScheduleExpression="rate(1 day)", Tags=TAGS),
        lambda world: [
            on("events:PutRule", f"arn:aws:events:{LOCAL}:rule/it-rule"),
            on("events:TagResource", f"arn:aws:events:{LOCAL}:rule/it-rule"),
        ],
    ),
    "a rule's targets": (
        "events",
        lambda client, world: client.put_targets(
            Rule="it-rule",
            Targets=[{"Id": "1", "Arn": function(), "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/it/rule"}],
        ),
        lambda world: [
            on("events:PutTargets", f"arn:aws:events:{LOCAL}:rule/it-rule"),
            passing(f"arn:aws:iam::{ACCOUNT}:role/it/rule", "events"),
        ],
    ),
    "a group of schedules": (
        "scheduler",
        lambda client, world: client.create_schedule_group(Name="it-group", Tags=TAGS),
        lambda world: [
            on("scheduler:CreateScheduleGroup", in_scheduler("schedule-group/it-group")),
            on("scheduler:TagResource", in_scheduler("schedule-group/it-group")),
        ],
    ),
    "a schedule": (
        "scheduler",
        lambda client, world: client.create_schedule(**SCHEDULE),
        lambda world: [
            on("scheduler:CreateSchedule", in_scheduler("schedule/default/it-schedule")),
            passing(f"arn:aws:iam::{ACCOUNT}:role/it/time", "scheduler"),
        ],
    ),
    "another schedule": (
        "scheduler",
        lambda client, world: client.update_schedule(**SCHEDULE),
        lambda world: [
            on("scheduler:UpdateSchedule", in_scheduler("schedule/default/it-schedule")),
            passing(f"arn:aws:iam::{ACCOUNT}:role/it/time", "scheduler"),
        ],
    ),
    "a schedule of a group, read": (
        "scheduler",
        lambda client, world: client.get_schedule(Name="it-schedule", GroupName="other"),
        lambda world: [on("scheduler:GetSchedule", in_scheduler("schedule/other/it-schedule"))],
    ),
    "a schedule of a group, deleted": (
        "scheduler",
        lambda client, world: client.delete_schedule(Name="it-schedule", GroupName="other"),
        lambda world: [on("scheduler:DeleteSchedule", in_scheduler("schedule/other/it-schedule"))],
    ),
    "a group, with the schedules that go with it": (
        "scheduler",
        lambda client, world: client.delete_schedule_group(Name="it-other"),
        lambda world: [
            on("scheduler:DeleteScheduleGroup", in_scheduler("schedule-group/it-other")),
            on("scheduler:DeleteSchedule", in_scheduler("schedule/it-other/*")),
        ],
    ),
    "the tags of a group": (
        "scheduler",
        lambda client, world: client.list_tags_for_resource(ResourceArn=in_scheduler("schedule-group/it-group")),
        lambda world: [on("scheduler:ListTagsForResource", in_scheduler("schedule-group/it-group"))],
    ),
    "a listing of schedules": (
        "scheduler",
        lambda client, world: client.list_schedules(GroupName="it-group"),
        lambda world: [on("scheduler:ListSchedules")],
    ),
    "a rule's targets, read": (
        "events",
        lambda client, world: client.list_targets_by_rule(Rule="it-rule"),
        lambda world: [on("events:ListTargetsByRule", f"arn:aws:events:{LOCAL}:rule/it-rule")],
    ),
    "a rule's tags": (
        "events",
        lambda client, world: client.list_tags_for_resource(ResourceARN=f"arn:aws:events:{LOCAL}:rule/it-rule"),
        lambda world: [on("events:ListTagsForResource", f"arn:aws:events:{LOCAL}:rule/it-rule")],
    ),
    "all rules": (
        "events",
        lambda client, world: client.list_rules(NamePrefix="it-"),
        lambda world: [on("events:ListRules")],
    ),
    # ---- Logs
    "a log group": (
        "logs",
        lambda client, world: client.create_log_group(logGroupName=f"/{new()}", tags={"owner": "us"}),
        lambda world: [
            on("logs:CreateLogGroup", f"arn:aws:logs:{LOCAL}:log-group:/it-????????:*"),
            on("logs:TagResource", f"arn:aws:logs:{LOCAL}:log-group:/it-????????"),
        ],
    ),
    "a log group's retention": (
        "logs",
        lambda client, world: client.put_retention_policy(logGroupName="/it", retentionInDays=7),
        lambda world: [on("logs:PutRetentionPolicy", f"arn:aws:logs:{LOCAL}:log-group:/it:*")],
    ),
    "a log group's tags": (
        "logs",
        lambda client, world: client.tag_resource(
            resourceArn=f"arn:aws:logs:{LOCAL}:log-group:/it", tags={"owner": "us"}
        ),
        lambda world: [on("logs:TagResource", f"arn:aws:logs:{LOCAL}:log-group:/it")],
    ),
    "all log groups": (
        "logs",
        lambda client, world: client.describe_log_groups(logGroupNamePrefix="/it"),
        lambda world: [on("logs:DescribeLogGroups", f"arn:aws:logs:{LOCAL}:log-group:*")],
    ),
    # ---- CloudWatch
    "an alarm": (
        "cloudwatch",
        lambda client, world: client.put_metric_alarm(
            AlarmName=new(),
            Namespace="n",
            MetricName="m",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            Tags=TAGS,
        ),
        lambda world: [
            on("cloudwatch:PutMetricAlarm", f"arn:aws:cloudwatch:{LOCAL}:alarm:it-*"),
            on(
                "cloudwatch:TagResource",
                f"arn:aws:cloudwatch:{LOCAL}:alarm:it-*",
                StringEquals={"aws:RequestTag/owner": "us"},
            ),
        ],
    ),
    "a composite alarm": (
        "cloudwatch",
        lambda client, world: client.put_composite_alarm(AlarmName="it-composite", AlarmRule="FALSE"),
        lambda world: [on("cloudwatch:PutCompositeAlarm")],
    ),
    "alarms, read": (
        "cloudwatch",
        lambda client, world: client.describe_alarms(AlarmNamePrefix="it-"),
        lambda world: [on("cloudwatch:DescribeAlarms", f"arn:aws:cloudwatch:{LOCAL}:alarm:*")],
    ),
    "composite alarms, read": (
        "cloudwatch",
        lambda client, world: client.describe_alarms(AlarmTypes=["CompositeAlarm"]),
        lambda world: [on("cloudwatch:DescribeAlarms")],
    ),
    "a dashboard": (
        "cloudwatch",
        lambda client, world: client.put_dashboard(DashboardName="it", DashboardBody=json.dumps({"widgets": []})),
        lambda world: [on("cloudwatch:PutDashboard", f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/it")],
    ),
    # ---- KMS, SNS, SQS, DynamoDB, SSM
    "a key": (
        "kms",
        lambda client, world: client.create_key(Tags=[{"TagKey": "owner", "TagValue": "us"}]),
        lambda world: [on("kms:CreateKey"), on("kms:TagResource")],
    ),
    "a key by its alias": (
        "kms",
        lambda client, world: client.describe_key(KeyId="alias/it"),
        lambda world: [on("kms:DescribeKey", f"arn:aws:kms:{LOCAL}:key/{world.key}")],
    ),
    "an alias": (
        "kms",
        lambda client, world: client.create_alias(AliasName=f"alias/{new()}", TargetKeyId=world.key),
        lambda world: [
            on("kms:CreateAlias", f"arn:aws:kms:{LOCAL}:key/{world.key}"),
            on("kms:CreateAlias", f"arn:aws:kms:{LOCAL}:alias/it-*"),
        ],
    ),
    "a topic": (
        "sns",
        lambda client, world: client.create_topic(Name="it", Tags=TAGS),
        lambda world: [
            on("sns:CreateTopic", f"arn:aws:sns:{LOCAL}:it"),
            on("sns:TagResource", f"arn:aws:sns:{LOCAL}:it"),
        ],
    ),
    "a topic's tags": (
        "sns",
        lambda client, world: client.list_tags_for_resource(ResourceArn=f"arn:aws:sns:{LOCAL}:it"),
        lambda world: [on("sns:ListTagsForResource", f"arn:aws:sns:{LOCAL}:it")],
    ),
    "a queue": (
        "sqs",
        lambda client, world: client.create_queue(QueueName="it", tags={"owner": "us"}),
        lambda world: [on("sqs:CreateQueue", f"arn:aws:sqs:{LOCAL}:it"), on("sqs:TagQueue", f"arn:aws:sqs:{LOCAL}:it")],
    ),
    "a table": (
        "dynamodb",
        lambda client, world: client.create_table(
            TableName=new(),
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            Tags=TAGS,
        ),
        lambda world: [
            on("dynamodb:CreateTable", f"arn:aws:dynamodb:{LOCAL}:table/it-*"),
            on("dynamodb:TagResource", f"arn:aws:dynamodb:{LOCAL}:table/it-*"),
        ],
    ),
    "the latest image": (
        "ssm",
        lambda client, world: client.get_parameter(
            Name="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
        ),
        lambda world: [
            on("ssm:GetParameter", f"arn:aws:ssm:{REGION}::parameter/aws/service/ami-amazon-linux-latest/*")
        ],
    ),
    # ---- IAM
    "a role": (
        "iam",
        lambda client, world: client.create_role(
            RoleName=new(), Path="/it/", AssumeRolePolicyDocument=trust("lambda.amazonaws.com"), Tags=TAGS
        ),
        lambda world: [
            on("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/it/*"),
            on("iam:TagRole", f"arn:aws:iam::{ACCOUNT}:role/it/*", StringEquals={"aws:RequestTag/owner": "us"}),
        ],
    ),
    "a role with a path": (
        "iam",
        lambda client, world: client.get_role(RoleName="lambda"),
        lambda world: [on("iam:GetRole", world.role)],
    ),
    "a managed policy": (
        "iam",
        lambda client, world: client.create_policy(
            PolicyName=new(), Path="/it/", PolicyDocument=policy(on("s3:GetObject") | {"Effect": "Allow"})
        ),
        lambda world: [on("iam:CreatePolicy", f"arn:aws:iam::{ACCOUNT}:policy/it/*")],
    ),
    "an instance profile": (
        "iam",
        lambda client, world: client.create_instance_profile(InstanceProfileName=new(), Path="/it/"),
        lambda world: [on("iam:CreateInstanceProfile", f"arn:aws:iam::{ACCOUNT}:instance-profile/it/*")],
    ),
    "a provider of identities": (
        "iam",
        lambda client, world: client.create_open_id_connect_provider(Url=f"https://{new()}.example.com"),
        lambda world: [on("iam:CreateOpenIDConnectProvider", f"arn:aws:iam::{ACCOUNT}:oidc-provider/it-*.example.com")],
    ),
    "the whole account": (
        "iam",
        lambda client, world: client.get_account_authorization_details(),
        lambda world: [on("iam:GetAccountAuthorizationDetails")],
    ),
    # ---- EC2
    "a VPC": (
        "ec2",
        lambda client, world: client.create_vpc(CidrBlock="10.6.0.0/16", TagSpecifications=tag_spec("vpc")),
        lambda world: [on("ec2:CreateVpc", in_ec2("vpc")), on_creation("vpc", "CreateVpc")],
    ),
    "a security group": (
        "ec2",
        lambda client, world: client.create_security_group(GroupName=new(), Description="d", VpcId=world.ids["vpc"]),
        lambda world: [
            on("ec2:CreateSecurityGroup", in_ec2("security-group")),
            on("ec2:CreateSecurityGroup", in_ec2("vpc", world.ids["vpc"])),
        ],
    ),
    "an endpoint": (
        "ec2",
        lambda client, world: client.create_vpc_endpoint(
            VpcId=world.ids["vpc"],
            ServiceName=f"com.amazonaws.{REGION}.logs",
            VpcEndpointType="Interface",
            SubnetIds=[world.ids["subnet"]],
            SecurityGroupIds=[world.ids["group"]],
            PrivateDnsEnabled=False,
        ),
        lambda world: [
            on("ec2:CreateVpcEndpoint", in_ec2("vpc-endpoint")),
            on("ec2:CreateVpcEndpoint", in_ec2("vpc", world.ids["vpc"])),
            on("ec2:CreateVpcEndpoint", in_ec2("subnet", world.ids["subnet"])),
            on("ec2:CreateVpcEndpoint", in_ec2("security-group", world.ids["group"])),
        ],
    ),
    "a route table's subnet": (
        "ec2",
        lambda client, world: client.associate_route_table(
            RouteTableId=world.ids["table"], SubnetId=world.ids["subnet"]
        ),
        lambda world: [
            on("ec2:AssociateRouteTable", in_ec2("route-table", world.ids["table"])),
            on("ec2:AssociateRouteTable", in_ec2("subnet", world.ids["subnet"])),
        ],
    ),
    "tags in EC2": (
        "ec2",
        lambda client, world: client.create_tags(Resources=[world.ids["vpc"]], Tags=TAGS),
        lambda world: [
            on("ec2:CreateTags", in_ec2("vpc", world.ids["vpc"]), StringEquals={"aws:RequestTag/owner": "us"})
        ],
    ),
    "networks, read": ("ec2", lambda client, world: client.describe_vpcs(), lambda world: [on("ec2:DescribeVpcs")]),
    "an instance": (
        "ec2",
        lambda client, world: client.run_instances(
            ImageId=world.ids["image"],
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            SubnetId=world.ids["subnet"],
            SecurityGroupIds=[world.ids["group"]],
            IamInstanceProfile={"Name": "host"},
            TagSpecifications=tag_spec("instance"),
        ),
        lambda world: [
            on("ec2:RunInstances", in_ec2("instance")),
            on("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/{world.ids['image']}"),
            on("ec2:RunInstances", in_ec2("network-interface")),
            on("ec2:RunInstances", in_ec2("volume")),
            on("ec2:RunInstances", in_ec2("subnet", world.ids["subnet"])),
            on("ec2:RunInstances", in_ec2("security-group", world.ids["group"])),
            on_creation("instance", "RunInstances"),
            passing(f"arn:aws:iam::{ACCOUNT}:role/it/host", "ec2"),
        ],
    ),
    "a role in an instance profile": (
        "iam",
        lambda client, world: client.add_role_to_instance_profile(InstanceProfileName="empty", RoleName="host"),
        lambda world: [
            on("iam:AddRoleToInstanceProfile", f"arn:aws:iam::{ACCOUNT}:instance-profile/it/empty"),
            passing(f"arn:aws:iam::{ACCOUNT}:role/it/host", "ec2"),
        ],
    ),
    # ---- SageMaker, tags
    "a notebook": (
        "sagemaker",
        lambda client, world: client.create_notebook_instance(
            NotebookInstanceName="It-Notebook", InstanceType="ml.t3.medium", RoleArn=world.notebook_role, Tags=TAGS
        ),
        lambda world: [
            on("sagemaker:CreateNotebookInstance", f"arn:aws:sagemaker:{LOCAL}:notebook-instance/it-notebook"),
            on("sagemaker:AddTags", f"arn:aws:sagemaker:{LOCAL}:notebook-instance/it-notebook"),
            passing(world.notebook_role, "sagemaker"),
        ],
    ),
    "tagged resources": (
        "resourcegroupstaggingapi",
        lambda client, world: client.get_resources(),
        lambda world: [on("tag:GetResources")],
    ),
    "tags by the tagging API": (
        "resourcegroupstaggingapi",
        lambda client, world: client.tag_resources(
            ResourceARNList=[f"arn:aws:logs:{LOCAL}:log-group:/it"], Tags={"owner": "us"}
        ),
        lambda world: [on("tag:TagResources"), on("logs:TagResource", f"arn:aws:logs:{LOCAL}:log-group:/it")],
    ),
}


def code_of(call: Callable[..., Any], *arguments: Any) -> str:
    """The error code of a call, empty when it succeeded."""
    try:
        call(*arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


@pytest.mark.parametrize("what", CASES)
def test_a_call_needs_exactly_these_statements(what: str, person: Person, world: World) -> None:
    service, call, needed = CASES[what]
    statements = needed(world)
    for index, left_out in enumerate(statements):
        person.may(*statements[:index], *statements[index + 1 :])
        assert code_of(call, person.client(service), world) in DENIED, f"not needed: {left_out}"
    person.may(*statements)
    answered = code_of(call, person.client(service), world)
    assert answered not in DENIED, f"{answered} with {statements}"


@pytest.mark.parametrize(
    ("what", "resource"),
    [
        ("all functions", function("*")),
        ("all rules", f"arn:aws:events:{LOCAL}:rule/*"),
        ("composite alarms, read", f"arn:aws:cloudwatch:{LOCAL}:alarm:*"),
        ("a composite alarm", f"arn:aws:cloudwatch:{LOCAL}:alarm:it-composite"),
        ("the whole account", f"arn:aws:iam::{ACCOUNT}:role/*"),
        ("networks, read", in_ec2("vpc")),
        ("a log group's retention", f"arn:aws:logs:{LOCAL}:log-group:/it"),
        ("all log groups", f"arn:aws:logs:{LOCAL}:log-group:/it*"),
        ("alarms, read", f"arn:aws:cloudwatch:{LOCAL}:alarm:it-*"),
        ("a key by its alias", f"arn:aws:kms:{LOCAL}:alias/it"),
        ("a rule", f"arn:aws:events:{LOCAL}:rule/default/it-rule"),
        ("a role with a path", f"arn:aws:iam::{ACCOUNT}:role/lambda"),
    ],
)
def test_a_narrower_resource_is_not_enough(what: str, resource: str, person: Person, world: World) -> None:
    service, call, needed = CASES[what]
    person.may(*({**statement, "Resource": resource} for statement in needed(world)))
    assert code_of(call, person.client(service), world) in DENIED


def test_a_denial_names_action_and_resource(person: Person, world: World) -> None:
    person.may()
    with pytest.raises(ClientError) as refused:
        person.client("ec2").create_vpc(CidrBlock="10.6.0.0/16")
    assert refused.value.response["Error"]["Code"] == "UnauthorizedOperation"
    assert f"ec2:CreateVpc on resource: arn:aws:ec2:{LOCAL}:vpc/*" in refused.value.response["Error"]["Message"]


# ---- condition keys


def test_a_role_is_passed_only_to_the_service_named(person: Person, world: World) -> None:
    person.may(on("lambda:*"), passing(world.role, "ec2"))
    change = {"FunctionName": world.function, "Role": world.role}
    assert code_of(lambda: person.client("lambda").update_function_configuration(**change)) in DENIED


@pytest.mark.parametrize(("owner", "allowed"), [("us", True), ("them", False)])
def test_tags_of_the_resource(
    owner: str, allowed: bool, person: Person, world: World, aws: Callable[[str], Any]
) -> None:
    aws("lambda").tag_resource(Resource=function(), Tags={"owner": owner})
    aws("logs").tag_resource(resourceArn=f"arn:aws:logs:{LOCAL}:log-group:/it", tags={"owner": owner})
    aws("ec2").create_tags(Resources=[world.ids["subnet"]], Tags=[{"Key": "owner", "Value": owner}])
    aws("iam").tag_role(RoleName="rule", Tags=[{"Key": "owner", "Value": owner}])
    ours = {"StringEquals": {"aws:ResourceTag/owner": "us"}}
    person.may(
        on("lambda:*", **ours),
        on("logs:*", **ours),
        on("iam:*", **ours),
        on("ec2:ModifySubnetAttribute", StringEquals={"ec2:ResourceTag/owner": "us"}),
    )
    calls = [
        lambda: person.client("lambda").get_function(FunctionName=world.function),
        lambda: person.client("logs").put_retention_policy(logGroupName="/it", retentionInDays=7),
        lambda: person.client("iam").get_role(RoleName="rule"),
        lambda: person.client("ec2").modify_subnet_attribute(
            SubnetId=world.ids["subnet"], MapPublicIpOnLaunch={"Value": False}
        ),
    ]
    assert [code_of(call) in DENIED for call in calls] == [not allowed] * len(calls)


def test_a_boundary_limits_what_a_role_may(
    own_sandbox: OwnSandbox, aws: Callable[[str], Any], make_role: Callable[..., str]
) -> None:
    boundary = aws("iam").create_policy(
        PolicyName=new(),
        PolicyDocument=policy(
            {"Effect": "Allow", "Action": "lambda:GetFunction", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": "iam:GetRole",
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:ResourceTag/owner": "us"}},
            },
        ),
    )["Policy"]["Arn"]
    name = new()
    make_role(name, "sagemaker.amazonaws.com", {"Action": ["lambda:*", "iam:*"], "Resource": "*"})
    aws("iam").tag_role(RoleName=name, Tags=[{"Key": "owner", "Value": "us"}])
    aws("iam").put_role_permissions_boundary(RoleName=name, PermissionsBoundary=boundary)
    keys = credentials(own_sandbox, name)
    account = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["Token"], REGION)

    def client(service: str) -> Any:
        return account.client(service, endpoint_url=own_sandbox.settings.endpoint_url)

    assert code_of(lambda: client("lambda").get_function(FunctionName="nobody")) == "ResourceNotFoundException"
    assert code_of(client("lambda").list_functions) in DENIED
    assert code_of(lambda: client("iam").get_role(RoleName=name)) == ""
    aws("iam").delete_role_permissions_boundary(RoleName=name)
    assert code_of(client("lambda").list_functions) == ""


def test_only_roles_within_a_boundary_are_made(person: Person, aws: Callable[[str], Any]) -> None:
    boundary = aws("iam").create_policy(
        PolicyName=new(), PolicyDocument=policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})
    )["Policy"]["Arn"]
    within = {"StringEquals": {"iam:PermissionsBoundary": boundary}}
    person.may(on("iam:CreateRole", **within), on("iam:PutRolePolicy", **within))
    iam, name, free = person.client("iam"), new(), new()
    role = {"AssumeRolePolicyDocument": trust("lambda.amazonaws.com")}
    assert code_of(lambda: iam.create_role(RoleName=name, **role)) in DENIED
    assert code_of(lambda: iam.create_role(RoleName=name, PermissionsBoundary=boundary, **role)) == ""
    aws("iam").create_role(RoleName=free, **role)
    document = policy({"Effect": "Allow", "Action": "*", "Resource": "*"})

    def put(role_name: str) -> str:
        return code_of(lambda: iam.put_role_policy(RoleName=role_name, PolicyName="p", PolicyDocument=document))

    assert put(name) == ""
    assert put(free) in DENIED


def test_only_named_policies_are_attached(person: Person, aws: Callable[[str], Any]) -> None:
    allowed, other = (
        aws("iam").create_policy(
            PolicyName=new(), PolicyDocument=policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})
        )["Policy"]["Arn"]
        for _ in range(2)
    )
    name = new()
    aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust("lambda.amazonaws.com"))
    person.may(on("iam:AttachRolePolicy", ArnEquals={"iam:PolicyARN": allowed}))
    attach = person.client("iam").attach_role_policy
    assert code_of(lambda: attach(RoleName=name, PolicyArn=other)) in DENIED
    assert code_of(lambda: attach(RoleName=name, PolicyArn=allowed)) == ""
    attached = aws("iam").list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert [one["PolicyArn"] for one in attached] == [allowed]


def test_only_who_lists_a_bucket_learns_what_is_missing(person: Person, aws: Callable[[str], Any]) -> None:
    bucket = new()
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    objects = on("s3:GetObject", f"arn:aws:s3:::{bucket}/*")

    def read() -> list[str]:
        missing = {"Bucket": bucket, "Key": "missing"}
        return [code_of(lambda: s3.get_object(**missing)), code_of(lambda: s3.head_object(**missing))]

    s3 = person.client("s3")
    person.may(objects)
    assert read() == ["AccessDenied", "403"]
    person.may(objects, on("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
    assert read() == ["NoSuchKey", "404"]


@pytest.mark.parametrize(
    ("condition", "accepted"),
    [
        ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, True),
        ({"StringEquals": {"aws:SourceAccount": "999999999999"}}, False),
        ({"ArnLike": {"aws:SourceArn": f"arn:aws:lambda:{LOCAL}:function:trusted-*"}}, True),
        ({"ArnLike": {"aws:SourceArn": f"arn:aws:lambda:{LOCAL}:function:others-*"}}, False),
    ],
    ids=["account", "another account", "function", "another function"],
)
def test_conditions_of_a_trust_policy_count(aws: Callable[[str], Any], condition: Any, accepted: bool) -> None:
    statement = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = aws("iam").create_role(
        RoleName=new(), AssumeRolePolicyDocument=policy({**statement, "Condition": condition})
    )["Role"]["Arn"]
    function = {"FunctionName": f"trusted-{new()}", "Runtime": "python3.11", "Role": role, "Handler": "handler.handle"}
    code = code_of(lambda: aws("lambda").create_function(**function, Code={"ZipFile": zipped()}))
    assert code == ("" if accepted else "InvalidParameterValueException")
