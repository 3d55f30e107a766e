"""Errors a person caused and a person can mend. Every message says where, what, and what was expected."""

from __future__ import annotations

from collections.abc import Iterable


class TwinopsError(Exception):
    """Base of all errors that are reported without a traceback."""


class SpecError(TwinopsError):
    """One or more mistakes in a spec, an inventory or a bundle, all of them reported at once."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))
