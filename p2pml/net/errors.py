"""Everything that a peer can cause, as one family of errors.

A local mistake (a port in use, an address that does not parse, an object that cannot be encoded) raises a
local error instead: blame is a type.
"""

from __future__ import annotations


class RemoteError(Exception):
    """A peer, or the way to it, failed us.

    Attributes:
        noted: it has been counted for or against the peer, see `net.standing`.
    """

    noted = False


class Closed(RemoteError):
    """The stream or its connection ended before the exchange was complete."""


class TimedOut(RemoteError):
    """The peer did not answer within the time that was set."""


class Malformed(RemoteError):
    """The peer sent bytes that are not a message of the protocol, or too many of them."""


class Unreachable(RemoteError):
    """No connection to the peer, or it does not speak the protocol."""


class Declined(RemoteError):
    """We turn down what the peer asks for: it is too much at a time, or not for it. No proof of bad faith."""
