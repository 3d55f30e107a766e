"""OpenID Connect providers: whose tokens the account accepts for roles that trust them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import OidcProvider
from ..owned import Owned, owned_by_tags
from ..session import Aws, absent_as_none
from .tags import as_pairs, from_pairs

SERVICES = ("iam",)
WORKERS = 1
READ_BACK = False
PARTS = ("bootstrap",)

_MISSING = "NoSuchEntity"


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    found = _described(aws, _arn(aws, name))
    if found is None:
        return None
    provider = OidcProvider(
        name=name,
        tags=from_pairs(found.get("Tags", [])),
        audiences=tuple(sorted(found.get("ClientIDList", []))),
    )
    return Observed(provider, handles={"arn": _arn(aws, name)})


def list_owned(aws: Aws) -> list[Owned]:
    listed = aws.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    tags = {each["Arn"]: from_pairs((_described(aws, each["Arn"]) or {}).get("Tags", [])) for each in listed}
    keys = {arn: (OidcProvider.kind, arn.partition(":oidc-provider/")[2]) for arn in tags}
    return [found for arn, its in tags.items() if (found := owned_by_tags(aws, keys[arn], its))]


def _described(aws: Aws, arn: str) -> dict[str, Any] | None:
    read = aws.client("iam").get_open_id_connect_provider
    return aws.once(arn, lambda: absent_as_none(read, _MISSING, OpenIDConnectProviderArn=arn))


def create(aws: Aws, change: Change) -> None:
    provider = cast(OidcProvider, change.desired)
    # No thumbprints: AWS checks the issuer's certificate against its own library of authorities, or pins it itself.
    aws.client("iam").create_open_id_connect_provider(
        Url=f"https://{provider.name}", ClientIDList=list(provider.audiences), Tags=as_pairs(provider.tags)
    )


def update(aws: Aws, change: Change) -> None:
    iam, provider, observed = aws.client("iam"), cast(OidcProvider, change.desired), cast(Observed, change.observed)
    arn, current = observed.handles["arn"], cast(OidcProvider, observed.resource).audiences
    if "audiences" in change.fields:
        for audience in sorted(set(provider.audiences) - set(current)):
            iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID=audience)
        for audience in sorted(set(current) - set(provider.audiences)):
            iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID=audience)
    if "tags" in change.fields:
        iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=arn, Tags=as_pairs(provider.tags))


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(
        aws.client("iam").delete_open_id_connect_provider,
        _MISSING,
        OpenIDConnectProviderArn=_arn(aws, change.name),
    )


def _arn(aws: Aws, name: str) -> str:
    return f"arn:{aws.scope.partition}:iam::{aws.scope.account}:oidc-provider/{name}"
