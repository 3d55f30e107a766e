"""An AWS endpoint for the script of the workflow."""

from tests.unit.endpoint import _endpoint_url, endpoint  # noqa: F401
