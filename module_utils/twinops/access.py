"""How a module is told to reach AWS; documented in plugins/doc_fragments/aws.py. Pure: loading it loads no botocore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ACCESS: Mapping[str, Mapping[str, Any]] = {option: {"type": "str"} for option in ("region", "profile", "endpoint_url")}
"""An argument spec of Ansible."""


def access(params: Mapping[str, Any]) -> dict[str, Any]:
    """Of a module's parameters those that say how to reach AWS, as ``aws.session`` takes them."""
    return {option: params[option] for option in ACCESS}
