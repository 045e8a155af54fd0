"""What the lab raises."""

from __future__ import annotations

from p2pml.errors import UserError


class LabError(UserError):
    """Something the lab needs is missing or was asked for wrongly; it says what and what to do."""


class UnsupportedError(LabError):
    """This place to run cannot do what was asked: loopback processes have no links."""
