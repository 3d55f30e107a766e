"""Pages about the environments of :mod:`tests.page.worlds`."""

from __future__ import annotations

from dataclasses import replace

from twinops.overview.model import Read

from page.documents import Environment
from page.render import html
from tests.page import worlds

FOR_EVER_H = 24 * 365 * 100
"""Until a page is stale, in tests about something else."""


def drawn(*reads: Read, stale_after_h: float = FOR_EVER_H) -> str:
    """The page about what was read."""
    documents = [worlds.as_document(read) for read in reads]
    return html([Environment(made["env"], made) for made in documents], stale_after_h=stale_after_h)


def several() -> str:
    """Three environments: one fine, one in trouble, one whose status could not be read."""
    documents = [worlds.as_document(read) for read in (replace(worlds.healthy(), env="sandbox"), worlds.troubled())]
    environments = [Environment(made["env"], made) for made in documents]
    unread = Environment("production", problem="The config profile (twinops-production) could not be found")
    return html([*environments, unread], stale_after_h=FOR_EVER_H)
