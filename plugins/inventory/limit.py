"""Says what a misspelt ``--limit`` should have been, before Ansible says that no host is left.

Loaded last, by ``inventories/limit.yml``: by then all hosts and groups are known, and no limit is applied yet.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from ansible import context
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.display import Display

DOCUMENTATION = r"""
name: limit
short_description: Refuse a limit that names nothing
description: Adds no host. Ends with one error where C(--limit) names a host or group that no inventory has.
options:
  plugin:
    description: Must be C(limit).
    required: true
"""

PLAIN_NAME = re.compile(r"^[\w.-]+$")  # patterns, slices and files (@...) are Ansible's to judge


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]  # Ansible ships no types
    """An inventory source that only checks."""

    NAME = "limit"

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """End the program with an error where the limit names nothing."""
        super().parse(inventory, loader, path, cache)
        error = mistake(context.CLIARGS.get("subset") or "", {*inventory.hosts, *inventory.groups})
        if error:
            # Ansible would bury an exception under three lines about unparsed sources.
            Display().error(error, wrap_text=False)
            raise SystemExit(1)


def mistake(limit: str, names: set[str]) -> str | None:
    """What is wrong with ``limit``, or None."""
    for part in re.split(r"[,:]", limit):
        name = part.strip().lstrip("!&")
        if PLAIN_NAME.match(name) and name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Environments are sandbox, staging and production."
            return f"--limit: expected a host or group of the inventories, got {name}. {hint}"
    return None
