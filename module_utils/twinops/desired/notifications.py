"""How people are told, and the key that encrypts it."""

from __future__ import annotations

from .. import policies
from ..names import NAME_TAG
from ..resources import Key, Resource, Topic
from .common import Estate, Options

PART = "notifications"

OPTIONS = {
    "mail_to": {"type": "list", "elements": "str", "required": True},
    "encrypted": {"type": "bool", "default": True},
}


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """The topic, and the environment's key, which other parts may use, too."""
    scope = estate.scope
    key = Key(
        # AWS makes a key's identifier: by this tag it is found again, also if its alias is gone.
        name=scope.names.key,
        tags={**estate.tags(PART), NAME_TAG: scope.names.key},
        description=f"Encrypts what twinops stores and sends in {scope.env}.",
        aliased=True,
        enabled=True,
        rotated=True,
        policy=policies.key(scope),
    )
    topic = Topic(
        name=scope.names.topic,
        tags=estate.tags(PART),
        mail_to=tuple(sorted(set(options["mail_to"]))),
        policy=policies.topic(scope),
        key=scope.names.key if options["encrypted"] else "",
    )
    return (key, topic)
