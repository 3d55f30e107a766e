"""What can go wrong in the service without ending it: health says `failed` with the message until it is over."""

from __future__ import annotations


class EdgeError(Exception):
    """Base of the errors below. The message says where, what, and what was expected."""


class SettingsError(EdgeError):
    """A settings file is missing or says something impossible."""


class SensorError(EdgeError):
    """The sensor gives nothing that could be read."""


class ModelError(EdgeError):
    """The model cannot be loaded, or answers something that is not a decision."""


class SpoolError(EdgeError):
    """A decision cannot be made durable."""
