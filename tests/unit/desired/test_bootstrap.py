"""What the administrator makes: the provider, the boundary, the deploy role, the state bucket."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from twinops import desired, policies
from twinops.errors import SpecError
from twinops.resources import Bucket, ManagedPolicy, OidcProvider, Resource, Role

from tests.unit.desired.support import SCOPE, estate, part

GITLAB = {
    "url": "https://gitlab.example.com/",
    "audience": "https://deploy.example.com",
    "project": "plant/twinops",
    "branches": ["main", "production"],
}
PLANT = {"name": "plant", "type": "redshift", "cluster": "plant", "database": "plant", "db_user": "twinops"}


def bootstrap(**options: Any) -> tuple[Resource, ...]:
    return part("bootstrap", {"gitlab": GITLAB, **options})


def the(kind: type[Resource], resources: tuple[Resource, ...]) -> Any:
    (found,) = [each for each in resources if isinstance(each, kind)]
    return found


def role_of(purpose: str, resources: tuple[Resource, ...]) -> Any:
    (found,) = [each for each in resources if isinstance(each, Role) and each.name == f"twinops-staging-{purpose}"]
    return found


def test_pipelines_of_the_declared_branches_only() -> None:
    resources = bootstrap()
    provider, role = the(OidcProvider, resources), role_of("deploy", resources)
    assert (provider.name, provider.audiences) == ("gitlab.example.com", ("https://deploy.example.com",))
    (statement,) = role.trust["Statement"]
    assert statement["Principal"] == {"Federated": ["arn:aws:iam::111122223333:oidc-provider/gitlab.example.com"]}
    assert statement["Condition"]["StringEquals"]["gitlab.example.com:sub"] == [
        "project_path:plant/twinops:ref_type:branch:ref:main",
        "project_path:plant/twinops:ref_type:branch:ref:production",
    ]


def test_the_provider_of_another_environment_is_left_to_it() -> None:
    resources = bootstrap(gitlab={**GITLAB, "manage_provider": False})
    assert not [each for each in resources if isinstance(each, OidcProvider)]
    assert role_of("deploy", resources) == role_of("deploy", bootstrap())


def test_a_gitlab_that_aws_cannot_ask() -> None:
    with pytest.raises(SpecError, match=r"bootstrap: gitlab\.url: expected https://"):
        bootstrap(gitlab={**GITLAB, "url": "http://gitlab.example.com"})


def test_the_deploy_role_has_all_of_its_policies_and_no_other() -> None:
    resources = bootstrap()
    made = [each.name for each in resources if isinstance(each, ManagedPolicy) and "-deploy-" in each.name]
    assert [arn.rpartition("/")[2] for arn in role_of("deploy", resources).attached] == sorted(made)
    assert len(made) <= 10, "AWS attaches ten policies to a role"
    assert role_of("deploy", resources).policies == {}


def test_any_branch_may_plan_and_a_plan_only_reads() -> None:
    resources = bootstrap()
    role = role_of("plan", resources)
    (statement,) = role.trust["Statement"]
    assert statement["Condition"] == {
        "StringEquals": {"gitlab.example.com:aud": ["https://deploy.example.com"]},
        "StringLike": {"gitlab.example.com:sub": ["project_path:plant/twinops:ref_type:branch:ref:*"]},
    }
    attached = [each for each in resources if each.name in {arn.rpartition("/")[2] for arn in role.attached}]
    assert [each.name for each in attached] == ["twinops-staging-plan-network", "twinops-staging-plan-workflows"]
    statements = [statement for policy in attached for statement in policy.document["Statement"]]
    actions = {action for statement in statements for action in statement["Action"]}
    verbs = {action.partition(":")[2] for action in actions}
    assert {verb for verb in verbs if not verb.startswith(("Describe", "Get", "List", "Query"))} == {
        "Decrypt",
        "GenerateDataKey",
        "Publish",
    }
    objects = next(statement for statement in statements if "s3:GetObject" in statement["Action"])
    assert objects["Resource"] == ["arn:aws:s3:::twinops-staging-models-111122223333/*"]


def test_the_state_bucket_is_private_and_keeps_versions() -> None:
    bucket = the(Bucket, bootstrap())
    assert bucket.name == "twinops-staging-state-111122223333"
    assert (bucket.versioning, bucket.public_access_blocked) == ("Enabled", True)


def test_sessions_that_aws_does_not_offer() -> None:
    with pytest.raises(SpecError, match="bootstrap: session_s: expected 3600–43200, got 60"):
        bootstrap(session_s=60)


def test_the_boundary_is_the_one_that_the_roles_want() -> None:
    options = {"data_sources": [PLANT], "targets": ["arn:aws:iam::444455556666:role/twinops-production-mlops"]}
    boundary = [each for each in bootstrap(**options) if each.name == "twinops-staging-boundary"]
    assert boundary == [each for each in part("env", options) if each.name == "twinops-staging-boundary"]
    assert boundary[0].tags["twinops:part"] == "bootstrap", "removing the roles does not remove it"


@pytest.mark.parametrize("purpose", policies.DESCRIPTIONS)
def test_the_boundary_allows_what_each_role_is_allowed(purpose: str) -> None:
    """Every action of a role is in the boundary, for at least its resources."""
    bound = policies.boundary(SCOPE, (), ())["Statement"]
    document = {**policies.of_roles(SCOPE), policies.HOST: policies.host(SCOPE)}[purpose]
    for statement in document["Statement"]:
        for action in statement["Action"]:
            matching = [each for each in bound if action in each["Action"]]
            for resource in statement["Resource"]:
                assert any(_includes(each["Resource"], resource) for each in matching), f"{action} {resource}"


def _includes(patterns: list[str], resource: str) -> bool:
    return any(fnmatch.fnmatchcase(resource, pattern) for pattern in patterns)


def test_parts_that_share_a_resource_are_given_the_same_options() -> None:
    declared = {
        "env": {"data_sources": [PLANT], "trusted_principals": [], "tools": None, "targets": [], "session_s": 3600},
        "data_access": {"sources": []},
    }
    with pytest.raises(SpecError) as wrong:
        desired.resources(estate(), declared)
    (mistake,) = wrong.value.mistakes
    assert mistake.startswith("managed_policy twinops-staging-data-access: expected env and data_access to be given")
    made = desired.resources(estate(), {**declared, "data_access": {"sources": [PLANT]}})
    assert len(made) == len({(each.kind, each.name) for each in made})


def test_removing_a_part_leaves_what_belongs_to_another() -> None:
    made = part("env", {})
    names = [each.name for each in desired.belonging_to(made, ["env"])]
    assert "twinops-staging-mlops" in names
    assert "twinops-staging-boundary" not in names
    assert "twinops-staging-data-access" not in names
