"""How people are told."""

from __future__ import annotations

from ..resources import Resource, Topic
from .common import Estate, Options

PART = "notifications"

OPTIONS = {"mail_to": {"type": "list", "elements": "str", "required": True}}


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    mail_to = tuple(sorted(set(options["mail_to"])))
    return (Topic(name=estate.scope.names.topic, tags=estate.tags(PART), mail_to=mail_to),)
