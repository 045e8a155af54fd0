"""What the application of every rating item asks first: the window, the phase, the claim, the leaf."""

from __future__ import annotations

from chain import merkle
from chain.baseline.net import Net
from chain.baseline.trace import Leaf
from chain.draft import Draft
from chain.errors import InvalidRating
from chain.rating.entries import Claim, Window
from chain.rating.items import Point, ProvenLeaf
from chain.rating.schedule import Schedule, schedule_of
from chain.state import State

NET = Net()
"""Steps and segments are the same whatever the data set."""


def running(ledger: Draft | State, point: Point) -> tuple[Window, Schedule]:
    """The window that runs, if the item is of it and made for this branch's draw.

    Raises:
        InvalidRating: it is not.
    """
    window = ledger.window()
    if window.over or point.window != window.start:
        raise InvalidRating(f"there is no rating window of slot {point.window} under way")
    if not window.drawn_for(point) or point.drawn != window.drawn_for(point):
        raise InvalidRating("the item was made for another draw than this branch's")
    return window, schedule_of(ledger.genesis.params, window)


def check_phase(slot: int, first: int, end: int, what: str) -> None:
    """Raises InvalidRating unless first <= slot < end."""
    if not first <= slot < end:
        raise InvalidRating(f"{what} belongs into blocks of the slots {first} to {end - 1}, not {slot}")


def claim_of(ledger: Draft | State, public: bytes, window: Window) -> Claim:
    """The account's claim in the window. Raises InvalidRating if it made none."""
    claim = ledger.claim(public, window.start)
    if claim is None:
        raise InvalidRating("the account has committed to nothing in this window")
    return claim


def check_leaf(leaf: ProvenLeaf, size: int, root: bytes) -> None:
    """Raises InvalidRating unless the leaf lies at its index of the tree of `size` leaves under `root`."""
    if len(leaf.digest) != 32 or any(len(node) != 32 for node in leaf.path):
        raise InvalidRating("the digest of a leaf and the nodes of its path have 32 bytes")
    data = Leaf(leaf.episode, leaf.segment, leaf.digest).encode()
    if not merkle.verify_path(data, leaf.index, size, leaf.path, root):
        raise InvalidRating(f"leaf {leaf.index} is not under the root that was committed to")


def registered_for(ledger: Draft | State, public: bytes, window: Window) -> bool:
    """Whether an account takes part in the window: registered before its start, and not convicted."""
    validator = ledger.validator(public)
    if validator is None or validator.convicted:
        return False
    return ledger.standing(public).since < window.start
