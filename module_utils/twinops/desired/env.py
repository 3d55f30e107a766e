"""Who may do what in an environment."""

from __future__ import annotations

from .. import policies
from ..resources import Resource, Role
from .common import Estate, Options

PART = "env"

REDSHIFT = {
    "cluster": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "db_user": {"type": "str", "required": True},
}
OPTIONS = {
    "trusted_principals": {"type": "list", "elements": "str", "default": []},
    "redshift": {"type": "dict", "options": REDSHIFT},
}


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """The roles of people, functions, twins and devices."""
    scope, redshift = estate.scope, redshift_of(options)
    documents = {
        policies.MLOPS: policies.mlops(scope),
        policies.DISPATCH: policies.dispatch(scope),
        policies.DEVELOPMENT_TWIN: policies.development_twin(scope, redshift),
        policies.DEPLOYMENT_TWIN: policies.deployment_twin(scope, redshift),
        policies.DEVICE: policies.device(scope),
    }
    return tuple(
        Role(
            name=scope.names.role(purpose),
            tags=estate.tags(PART),
            description=policies.DESCRIPTIONS[purpose],
            trust=policies.trust(scope, purpose, options["trusted_principals"]),
            policies={scope.names.role(purpose): document},
        )
        for purpose, document in documents.items()
    )


def redshift_of(options: Options) -> policies.Redshift | None:
    return policies.Redshift(**options["redshift"]) if options.get("redshift") else None
