"""Every private name of ministack, moto and hypercorn's world that the emulator touches, with the shape it relies on.

These run on the emulator's own Python and need no sandbox. When an upgrade breaks one, the emulator would break in a
way that is harder to see: change the emulator and the contract together.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox.settings import CLONE

EMULATOR = CLONE / "sandbox/emulator"
PYTHON = CLONE / ".cache/envs/emulator/bin/python"

# module -> function -> its parameters. An empty list: only callable.
FUNCTIONS: dict[str, dict[str, list[str]]] = {
    "ministack.app": {
        "app": ["scope", "receive", "send"],
        "pin_request_origin": ["source_ip", "secure_transport"],
        "_routing_params": ["method", "path", "headers", "body", "query_params"],
    },
    "ministack.core.router": {
        "detect_service": ["method", "path", "headers", "query_params"],
        "extract_access_key_id": ["headers", "query_params"],
    },
    "ministack.core.responses": {"get_account_id": []},
    "ministack.core.iam_actions": {
        "extract_iam_action": ["service", "method", "path", "headers", "body", "query_params"],
        "extract_resource_arn": [
            "service",
            "method",
            "path",
            "headers",
            "body",
            "query_params",
            "region",
            "account_id",
        ],
        "request_tag_context": ["service", "iam_action", "body", "params"],
        "_match_rest_action": ["service", "method", "path", "query_params"],
        "identity_denial_message": ["action", "principal_arn", "resource", "explicit_deny"],
        "access_denied_response": [
            "service",
            "action",
            "principal_arn",
            "request_id",
            "error_code",
            "message",
            "headers",
            "resource_arn",
            "explicit_deny",
            "resource_policy_arn",
        ],
    },
    "ministack.core.iam_evaluator": {
        "_conditions_met": ["conditions", "ctx"],
        "_first_match": ["ctx", "stmts", "effect"],
        "_names_condition_key": ["policies", "prefix"],
        "_resolve_condition_key": ["key", "ctx"],
        "resolve_caller_identity": ["access_key_id"],
        "enforce": ["access_key_id", "iam_action", "service", "region", "resource_arn", "service_context"],
        "evaluate": ["ctx", "policies", "limits"],
        "evaluate_resource_policy": ["doc", "ctx", "service", "named_only", "direct_only"],
        "_gather_role_policies": ["role_name", "account_id"],
        "resolve_credential": ["access_key_id", "account_id", "session_token"],
        "is_root_access_key": ["access_key_id"],
        "_is_root_key": ["access_key_id"],
    },
    "ministack.core.lambda_runtime": {"execution_credentials": ["config"]},
    "ministack.services.sts": {
        "register_session": ["access_key", "session"],
        "_gen_session_access_key": [],
        "_gen_secret": [],
        "_gen_session_token": [],
        "is_root_access_key": ["access_key_id"],
    },
    "ministack.services.sns": {
        "_subscribe": ["params"],
        "_publish": ["params"],
        "_set_topic_attributes": ["params"],
        "_list_subscriptions": ["params"],
        "_list_subscriptions_by_topic": ["params"],
        "_fanout": [
            "topic_arn",
            "msg_id",
            "message",
            "subject",
            "message_structure",
            "message_attributes",
            "message_group_id",
            "message_dedup_id",
        ],
        "_topic_by_arn_any_scope": ["topic_arn"],
        "_resolve_message_for_protocol": ["message", "message_structure", "protocol"],
        "_matches_filter_policy": ["sub", "message_attributes", "message"],
        "_build_envelope": ["topic_arn", "msg_id", "message", "subject", "message_attributes", "raw"],
        "_refresh_subscription_counts": ["topic"],
        "_p": ["params", "key", "default"],
        "_error": ["code", "message", "status"],
        "new_uuid": [],
    },
    "ministack.services.eventbridge": {
        "_invoke_target": ["target", "event", "rule", "view"],
        "_dispatch_to_lambda": ["arn", "payload"],
        "_dispatch_to_sns": ["arn", "payload"],
        "_put_events": ["data", "allow_aws_source"],
        "_delete_rule": ["data"],
        "_rule_key": ["rule_name", "bus_name"],
        "_parse_rate_seconds": ["expr"],
        "_parse_cron_fields": ["expr"],
        "_cron_next_fire": ["fields", "after_dt"],
    },
    "ministack.services.scheduler": {
        "_create_schedule": ["name", "body"],
        "_update_schedule": ["name", "body"],
        "_list_schedules": ["query"],
        "start_scheduler": [],
    },
    "ministack.services.lambda_svc": {
        "invoke_async_with_retry": ["func", "event"],
        "_execute_function": ["func", "event"],
        "_execution_record_for_config": ["func", "config"],
        "_get_func_record_for_ref": ["function_ref"],
        "function_policy_for_arn": ["resource_arn"],
        "_emit_lambda_logs": ["func", "request_id", "log_text", "error", "duration_ms", "log_source"],
        "_create_function": ["data"],
        "_update_config": ["name", "data"],
        "new_uuid": [],
    },
    "ministack.services.iam": {"_p": ["params", "key", "default"], "_extract_tags": [], "_xml": [], "_error": []},
    "ministack.services.kms": {
        "_resolve_key": ["key_id_or_arn"],
        "_create_key": ["data"],
        "_put_key_policy": ["data"],
    },
    "ministack.services.s3": {"_bucket_default_sse_headers": ["bucket_name"]},
    "ministack.services.cloudwatch": {
        "_put_metric_alarm": ["params", "cbor_data", "is_cbor", "is_json"],
        "_dispatch_alarm_actions": ["alarm", "old_state", "new_state", "reason"],
        "_evaluate_alarm": ["alarm"],
        "_evaluate_all_alarms": [],
        "_evaluate_parent_alarms": ["child", "seen"],
        "_record_history": ["alarm_name", "old_state", "new_state", "reason", "alarm_type", "reason_data"],
        "_dims_from_list": ["dimensions"],
        "_dims_key": ["dims"],
        "_calc_stats": ["points"],
        "_stat_value": ["stats", "stat_name", "points"],
        "record_metric": ["namespace", "metric_name", "value", "unit", "dimensions"],
    },
    "ministack.services.cognito": {"_decode_id_token_unverified": ["id_token"]},
    "ministack.services.ssm": {"_public_parameter": ["name"]},
    "ministack.services.tagging": {"resource_tags": ["arn"], "_get_resources": ["data"]},
    "moto.backends": {"get_backend": ["name"]},
    "moto.ec2.utils": {
        "filter_iam_instance_profiles": [
            "account_id",
            "partition",
            "iam_instance_profile_arn",
            "iam_instance_profile_name",
        ],
        "generic_filter": ["filters", "objects"],
    },
    "moto.ec2.models.nat_gateways": {"NatGatewayBackend.describe_nat_gateways": ["self", "filters", "nat_gateway_ids"]},
    "moto.server": {"DomainDispatcherApplication": ["create_app"], "create_backend_app": ["service"]},
}

# Expressions that must be true: the data the emulator reads or replaces.
FACTS = [
    "{'s3', 'lambda', 'monitoring'} <= ministack.app.SERVICE_HANDLERS.keys()",
    "isinstance(ministack.core.router.SERVICE_PATTERNS, dict)",
    "isinstance(ministack.core.router._KNOWN_AWS_SERVICE_NAMES, (frozenset, type(None)))",
    "isinstance(ministack.core.iam_actions.SERVICE_TO_IAM_NAMESPACE, dict)",
    "hasattr(ministack.services.iam._roles, 'get_scoped')",
    "hasattr(ministack.services.sns._topics, 'values')",
    "hasattr(ministack.services.eventbridge._targets, 'get')",
    "hasattr(ministack.services.cloudwatch_logs._log_groups, '__contains__')",
    "{'notebook_instances', 'notebook_instance_lifecycle_configurations'} "
    "<= vars(moto.backends.get_backend('sagemaker')['123456789012']['eu-central-1']).keys()",
    "hasattr(moto.backends.get_backend('redshift')['123456789012']['eu-central-1'], 'clusters')",
    "{'notebook_instance_name', 'role_arn', 'status', 'arn', 'tags', 'lifecycle_config_name', 'volume_size_in_gb',"
    " 'instance_type', 'last_modified_time', 'default_code_repository', 'root_access'} "
    "<= set(vars(notebook))",
    "callable(notebook.validate_instance_type) and notebook.is_deletable is False",
    "{'on_create', 'on_start', 'creation_time', 'last_modified_time', 'arn'} <= set(vars(lifecycle))",
    "{f.name for f in dataclasses.fields(ministack.core.iam_evaluator.EvalContext)} >= "
    "{'principal_arn', 'principal_type', 'principal_account', 'action', 'resource_arn', 'region', 'service_context'}",
    # Authorisation: what is looked up by name when a request comes.
    "isinstance(ministack.core.iam_actions._BOTOCORE_SERVICE_MAP, dict)",
    "isinstance(ministack.core.iam_actions._DENIED_CODES, dict)",
    "all(f'            {name},' in inspect.getsource(ministack.app._dispatch_service_request)"
    " for name in ('access_denied_response', 'extract_iam_action', 'extract_resource_arn', 'request_tag_context'))",
    "'from ministack.services.tagging import resource_tags' in inspect.getsource(ministack.core.iam_evaluator.enforce)",
    "'_IAM_HANDLERS.get(action)' in inspect.getsource(ministack.services.iam)",
    "{'GetOpenIDConnectProvider', 'DeletePolicy'} <= ministack.services.iam._IAM_HANDLERS.keys()",
    "all(hasattr(store, 'get') for store in (ministack.services.iam._groups, ministack.services.cloudwatch._alarms))",
    "'test-subject' in inspect.getsource(ministack.services.sts.handle_request)",
    "hasattr(moto.backends.get_backend('ec2')['123456789012']['eu-central-1'], 'iam_instance_profile_associations')",
    "all(hasattr(table, '_associations') for table in ec2.route_tables.values())",
    # Alarms, queues, encryption.
    "'_evaluate_alarm(alarm)' in inspect.getsource(ministack.services.cloudwatch._evaluate_all_alarms)",
    "'\"PutMetricAlarm\": _put_metric_alarm' in inspect.getsource(ministack.services.cloudwatch.handle_request)",
    "'_dims_key(req_dims) if req_dims else None' in inspect.getsource(ministack.services.cloudwatch._get_metric_data)",
    "'_dims_key(req_dims) if req_dims else None'"
    " in inspect.getsource(ministack.services.cloudwatch._get_metric_statistics)",
    "all(hasattr(store, 'get') for store in (ministack.services.cloudwatch._metrics, ministack.services.s3._buckets))",
    "hasattr(ministack.services.sqs._queues, 'values') and callable(ministack.core.iam_evaluator.caller_arn)",
    "all(f'\"{name}\": _' in inspect.getsource(ministack.services.kms) for name in ('CreateKey', 'PutKeyPolicy'))",
    "'\"SetTopicAttributes\": _set_topic_attributes' in inspect.getsource(ministack.services.sns.handle_request)",
    # Schedules.
    "'_sched_mod.start_scheduler()' in inspect.getsource(ministack.app)",
    "all(f'return {name}(' in inspect.getsource(ministack.services.scheduler.handle_request)"
    " for name in ('_create_schedule', '_update_schedule', '_list_schedules'))",
    "isinstance(ministack.services.scheduler._schedules._data, dict)",
    # Tags, wherever they are kept.
    "all({'s3', 'lambda', 'sqs', 'sns', 'dynamodb', 'events', 'kms', 'scheduler'} <= functions.keys() for functions in"
    " (ministack.services.tagging._COLLECTORS, ministack.services.tagging._WRITERS,"
    " ministack.services.tagging._REMOVERS))",
    "ministack.services.tagging._HANDLERS['GetResources'] is ministack.services.tagging._get_resources",
    "all('_COLLECTORS.values()' in inspect.getsource(ministack.services.tagging._HANDLERS[name])"
    " for name in ('GetTagKeys', 'GetTagValues'))",
    "issubclass(ministack.services.tagging._ResourceNotFound, Exception)",
    "all(hasattr(store, 'values') for store in (ministack.services.iam._users, ministack.services.iam._policies,"
    " ministack.services.iam._instance_profiles, ministack.services.iam._oidc_providers))",
    "all(hasattr(store, 'values') for store in (ministack.services.cloudwatch._alarms,"
    " ministack.services.cloudwatch._composite_alarms, ministack.services.cloudwatch._resource_tags))",
    "hasattr(ministack.services.secretsmanager._secrets, 'values')",
    "all(hasattr(store, 'values') for store in (ministack.services.ssm._parameters, ministack.services.ssm._tags))",
    "isinstance(ministack.services.ssm._PUBLIC_AMI_PARAMETERS, dict)",
    # moto's EC2: the records that our rules read.
    "{'tags', 'vpcs', 'subnets', 'route_tables', 'internet_gateways', 'nat_gateways', 'addresses', 'vpc_end_points',"
    " 'groups', 'enis', 'amis', 'volumes'} <= set(vars(ec2))",
    "{'owner_alias', 'owner_id'} <= set(vars(next(iter(ec2.amis.values()))))",
    "{'_eni', 'subnet_id'} <= set(vars(nat))",
    "{'route_table_ids', 'subnet_ids', 'security_group_ids', 'network_interface_ids', 'policy_document',"
    " 'private_dns_enabled', 'destination_prefix_list_id', 'vpc_endpoint_type', 'service_name', 'vpc_id'}"
    " <= set(vars(endpoint))",
    "{'_group_set', 'subnet', 'instance', 'device_index', 'id'} <= set(vars(nat._eni))",
    "{'allocation_id', 'association_id', 'public_ip', 'eni'} <= set(vars(ec2.addresses[0]))",
    "{'ingress_rules', 'egress_rules', 'name', 'id'} <= set(vars(group)) and group.egress_rules[0].source_group == {}",
    "{'enable_dns_support', 'enable_dns_hostnames'} <= set(vars(vpc))",
    "{'http_tokens', 'http_put_response_hop_limit', 'http_endpoint', 'http_protocol_ipv6', 'instance_metadata_tags'}"
    " <= set(vars(instance.metadata_options))",
    "any(group.is_default for group in ec2.groups[vpc.id].values()) and instance.nics[0].description is not None",
    "{'authorize_security_group_ingress', 'get_security_group_from_id', 'create_network_interface'} <= set(dir(ec2))",
    "'t3.small' in moto.ec2.models.instance_types.INSTANCE_TYPES",
    "all(module.filter_iam_instance_profiles is moto.ec2.utils.filter_iam_instance_profiles"
    " for module in (moto.ec2.models.iam_instance_profile, moto.ec2.responses.instances))",
    # The listing of roles, and what is put before each of them.
    "ministack.services.iam._IAM_HANDLERS['GetAccountAuthorizationDetails']"
    " is ministack.services.iam._get_account_authorization_details",
    "'PermissionsBoundary' not in inspect.getsource(ministack.services.iam._get_account_authorization_details)",
    "'<RoleName>{role[\\'RoleName\\']}</RoleName>' in"
    " inspect.getsource(ministack.services.iam._get_account_authorization_details)",
    # Handlers are looked up by name at each call, so replacing the module's function takes effect.
    "'\"Subscribe\": _subscribe' in inspect.getsource(ministack.services.sns.handle_request)",
    "'\"DeleteRule\": _delete_rule' in inspect.getsource(ministack.services.eventbridge.handle_request)",
    "'SERVICE_HANDLERS.get(service)' in inspect.getsource(ministack.app._dispatch_service_request)",
    "'_create_function(' in inspect.getsource(ministack.services.lambda_svc.handle_request)",
    "'_update_config(' in inspect.getsource(ministack.services.lambda_svc.handle_request)",
    "'request_id = new_uuid()' in inspect.getsource(ministack.services.lambda_svc._execute_function)",
    "importlib.util.find_spec('websocket') is None",
]

PROBE = """
import dataclasses, importlib, importlib.util, inspect, json, operator, sys
import ministack.app, moto.backends, moto.server
functions, facts = json.load(sys.stdin)
found = {}
for module_name, names in functions.items():
    module = importlib.import_module(module_name)
    for name in names:
        target = operator.attrgetter(name)(module) if hasattr(module, name.split(".")[0]) else None
        found[f"{module_name}.{name}"] = list(inspect.signature(target).parameters) if callable(target) else None
for name in (
    "iam", "sns", "sts", "eventbridge", "cloudwatch", "cloudwatch_logs", "lambda_svc", "secretsmanager", "ssm",
    "tagging", "sqs", "s3", "kms", "scheduler",
):
    importlib.import_module(f"ministack.services.{name}")
import ministack.core.iam_actions, ministack.core.iam_evaluator, ministack.core.router
backend = moto.backends.get_backend("sagemaker")["123456789012"]["eu-central-1"]
notebook = backend.create_notebook_instance("n", "ml.t3.medium", "arn:aws:iam::123456789012:role/r")
lifecycle = backend.create_notebook_instance_lifecycle_config("c", [], [])
import moto.ec2.models.instance_types, moto.ec2.models.iam_instance_profile, moto.ec2.responses.instances
ec2 = moto.backends.get_backend("ec2")["123456789012"]["eu-central-1"]
vpc = ec2.create_vpc("10.0.0.0/16")
subnet = ec2.create_subnet(vpc.id, "10.0.0.0/24", "eu-central-1a")
group = ec2.create_security_group("g", "d", vpc.id)
nat = ec2.create_nat_gateway(subnet.id, ec2.allocate_address("vpc").allocation_id)
endpoint = ec2.create_vpc_endpoint(vpc.id, "com.amazonaws.eu-central-1.s3", "Gateway", None, [])
instance = ec2.run_instances(
    "ami-1", 1, None, [], subnet_id=subnet.id, instance_type="t3.small", is_instance_type_default=False
).instances[0]
print(json.dumps([found, [fact for fact in facts if not eval(fact)]]))
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    """Signatures found on the emulator's Python, and the facts that do not hold."""
    folder = tmp_path_factory.mktemp("emulator")
    done = subprocess.run(
        [str(PYTHON), "-c", PROBE],
        input=json.dumps([FUNCTIONS, FACTS]),
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    signatures, broken = json.loads(done.stdout.splitlines()[-1])
    return signatures, broken


@pytest.mark.parametrize(
    ("name", "parameters"),
    [(f"{module}.{name}", parameters) for module, names in FUNCTIONS.items() for name, parameters in names.items()],
)
def test_function(probed: tuple[dict[str, Any], list[str]], name: str, parameters: list[str]) -> None:
    found = probed[0][name]
    assert found is not None, f"{name} is gone"
    if parameters:
        assert found == parameters


def test_facts(probed: tuple[dict[str, Any], list[str]]) -> None:
    assert probed[1] == []


def test_every_private_name_has_a_contract() -> None:
    """What the emulator's source says ``module._name`` of must be listed above."""
    aliases = {
        "ministack_app": "ministack.app",
        "iam_evaluator": "ministack.core.iam_evaluator",
        "iam_actions": "ministack.core.iam_actions",
        "router": "ministack.core.router",
        **{name: f"ministack.services.{name}" for name in ("iam", "sts", "sns", "eventbridge", "lambda_svc")},
        **{
            name: f"ministack.services.{name}"
            for name in ("cloudwatch", "kms", "s3", "secretsmanager", "sqs", "ssm", "tagging")
        },
        "cloudwatch_logs": "ministack.services.cloudwatch_logs",
    }
    listed = {f"{module}.{name}" for module, names in FUNCTIONS.items() for name in names}
    known = listed | {match for fact in FACTS for match in re.findall(r"ministack(?:\.\w+)+", fact)}
    pattern = re.compile(rf"\b({'|'.join(aliases)})\.(_\w+)")
    used = {
        f"{aliases[module]}.{name}"
        for path in EMULATOR.glob("*.py")
        for module, name in pattern.findall(Path(path).read_text())
    }
    covered = {name for name in used if any(fact == name or fact.startswith(f"{name}.") for fact in known)}
    assert used - covered == set()
