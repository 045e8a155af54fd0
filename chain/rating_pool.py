"""Rating points that wait for a block: bounded for every account, so that nobody's flood displaces others.

Only validators have a place here, and each a fixed number of them: one commitment, one reveal, one sealed and
one opened audit, a few challenges, answers and accusations of the window that the chain is in. What does not
apply yet waits: the block that it follows from may not have come here. Of two items for one place the first
stays, unless the chain has turned to a branch with another draw. In a full pool the lighter validator gives
way, and of equal ones the one that has more bytes here than the other would have.

An accusation waits for a ruling: whoever replays it tells the pool what came out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from chain.draft import Draft
from chain.errors import InvalidRating, PoolFull
from chain.rating import admission
from chain.rating.items import (
    Accusation,
    Answer,
    AuditCommit,
    AuditReveal,
    Challenge,
    Commit,
    Point,
    RatingItem,
    Reveal,
    Ruling,
)
from chain.recent import Recent
from chain.state import State
from chain.transition import apply_rating

MAX_POOL_BYTES = 16 * 1024 * 1024
PLACES: Mapping[type[Point], int] = {
    Commit: 1, Reveal: 1, AuditCommit: 1, AuditReveal: 1, Challenge: 64, Answer: 4, Accusation: 4,
}  # fmt: skip
"""Items of a kind that an account may have waiting. Three auditors challenge a subject at most; whoever was
drawn for more subjects than it may challenge at once does so one block later."""
_RULED = 256
"""Rulings that are remembered, should their accusation come, or come back."""

_Place = tuple[type[Point], bytes]
"""Kind, and what tells items of one kind and account apart."""


class RatingPool:
    """The waiting items, by account.

    Args:
        max_bytes: of all items together, encoded.
    """

    def __init__(self, max_bytes: int = MAX_POOL_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: Counter[bytes] = Counter()
        self._accounts: dict[bytes, dict[_Place, Point]] = {}
        self._by_id: dict[bytes, Point] = {}
        self._ruled: Recent[bytes, bool] = Recent(_RULED)

    def __len__(self) -> int:
        return len(self._by_id)

    def points(self) -> tuple[Point, ...]:
        """All that wait, in order of arrival."""
        return tuple(self._by_id.values())

    def has(self, point_id: bytes) -> bool:
        """Whether an item waits here."""
        return point_id in self._by_id

    def add(self, point: Point, state: State, slot: int) -> bool:
        """Take an item; False if it waits here already.

        Args:
            state: after the head.
            slot: that runs as the item arrives.

        Raises:
            InvalidRating: nobody may send it now, or its sender has sent something else.
            PoolFull: there is no room for it.
        """
        if point.id not in self._by_id and admission.is_late(point, state, slot):
            raise InvalidRating("the commitment comes more than a slot after the end of the training")
        return self._add(point, state, slot)

    def put_back(self, point: Point, state: State, slot: int) -> bool:
        """As `add`, for what was in time once: a commitment that a reverted block held is not late."""
        return self._add(point, state, slot)

    def _add(self, point: Point, state: State, slot: int) -> bool:
        if point.id in self._by_id:
            return False
        admission.check(point, state, slot)
        if not point.signed_for(state.genesis.chain_id):
            raise InvalidRating("the signature is not the signer's")
        waiting = self._accounts.get(point.signer, {})
        if _place(point) in waiting:
            raise InvalidRating("another item of this account waits in its place")
        if sum(kind is type(point) for kind, _ in waiting) >= PLACES[type(point)]:
            raise InvalidRating(f"more than {PLACES[type(point)]} {point.TAG} items of one account")
        self._make_room(point, state, slot)
        self._accounts.setdefault(point.signer, {})[_place(point)] = point
        self._by_id[point.id] = point
        self._held[point.signer] += len(point.encoded)
        return True

    def _make_room(self, point: Point, state: State, slot: int) -> None:
        """Let lighter validators give way, or such as hold more. Raises PoolFull if there are none."""
        table = state.table_at(max(slot, state.slot))

        def rank(public: bytes, more: int = 0) -> tuple[int, int]:
            entry = table.get(public)
            return 0 if entry is None else entry.rating, -more - self._held[public]

        size = len(point.encoded)
        while self._held.total() + size > self._max_bytes:
            lightest = min(self._accounts, key=rank, default=point.signer)
            if rank(lightest) >= rank(point.signer, size):
                raise PoolFull("the pool of waiting rating items is full")
            for each in tuple(self._accounts[lightest].values()):
                self._remove(each)

    def _remove(self, point: Point) -> None:
        waiting = self._accounts[point.signer]
        del waiting[_place(point)], self._by_id[point.id]
        self._held[point.signer] -= len(point.encoded)
        if not waiting:
            del self._accounts[point.signer], self._held[point.signer]

    # -- accusations -------------------------------------------------------------------------------------

    def unruled(self) -> tuple[Accusation, ...]:
        """Accusations that nobody has ruled on, at most one of each accuser: the ruling may convict it."""
        found: dict[bytes, Accusation] = {}
        for point in self._by_id.values():
            if isinstance(point, Accusation) and point.id not in self._ruled:
                found.setdefault(point.signer, point)
        return tuple(found.values())

    def ruled(self, accusation_id: bytes, guilty: bool) -> None:
        """What a replay found. The accusation may enter blocks now, with this ruling."""
        self._ruled.put(accusation_id, guilty)

    # -- blocks ------------------------------------------------------------------------------------------

    def select(self, draft: Draft, slot: int, limit: int | None = None) -> tuple[RatingItem, ...]:
        """Apply to the draft what applies in `slot`: rulings first, then by weight, then as they came.

        Args:
            limit: items at most; what a block may hold when None.
        """
        params = draft.genesis.params
        limit = params.max_rating_items if limit is None else limit
        chosen: list[RatingItem] = []
        rulings = 0
        for point in self._in_order(draft, slot):
            if len(chosen) == limit:
                break
            if isinstance(point, Accusation) and rulings == params.max_rulings:
                continue
            item = self._applied(draft, point, slot)
            if item is not None:
                chosen.append(item)
                rulings += isinstance(item, Ruling)
        return tuple(chosen)

    def _in_order(self, draft: Draft, slot: int) -> list[Point]:
        table = draft.table_at(slot)

        def rank(point: Point) -> tuple[bool, int]:
            weight = table.get(point.signer)
            return not isinstance(point, Accusation), -weight.rating if weight else 0

        return sorted(self._by_id.values(), key=rank)

    def _applied(self, draft: Draft, point: Point, slot: int) -> RatingItem | None:
        """The item as it stands in a block, applied to the draft; None if it does not apply."""
        item: RatingItem
        if isinstance(point, Accusation):
            guilty = self._ruled.get(point.id)
            if guilty is None:
                return None
            item = Ruling(point, guilty)
        else:
            item = point  # type: ignore[assignment]  # every other kind stands there as it is
        try:
            apply_rating(draft, item, slot)
        except InvalidRating:
            return None
        return item

    def on_head(self, included: Iterable[RatingItem], state: State, slot: int) -> None:
        """Forget what is on the chain, and what has become impossible."""
        for item in included:
            point = self._by_id.get(item.accusation.id if isinstance(item, Ruling) else item.id)
            if point is not None:
                self._remove(point)
        for point in tuple(self._by_id.values()):
            try:
                admission.check(point, state, slot)
            except InvalidRating:
                self._remove(point)


def _place(point: Point) -> _Place:
    """Items of one account that cannot both stand on a chain have one place."""
    match point:
        case Challenge():
            return Challenge, point.subject
        case Answer():
            return Answer, point.challenger
        case Accusation():
            return Accusation, point.id
    return type(point), b""
