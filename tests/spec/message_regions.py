"""docs/spec/messages.md, snapshots.md and gossip.md: what nodes ask each other by stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from chain import reconcile, snapshot_messages, sync_messages
from tests.spec.example import job_story, sample, story
from tests.spec.fields import rows
from tests.spec.markdown import byte_table, values


def _example(kind: type) -> Any:
    """A message about the example's chain, by the names and types of its fields."""
    told = story()
    ids = tuple(block.block_id for block in reversed(told.blocks))[:2]
    state = told.states[-1]
    known: dict[str, Any] = {
        "chain_id": told.world.genesis.chain_id,
        "head": ids[0],
        "height": state.height,
        "weight": told.world.chain.head.weight,
        "justified": state.finality.highest.number,
        "locator": (*ids, told.world.genesis.chain_id),
        "id": ids[0],
        "ids": ids,
        "block": told.blocks[0].encoded,
        "blocks": (told.blocks[0].encoded,),
        "bodies": (told.blocks[0].body.encode(),),
        "headers": (told.blocks[0].sealed.encoded,),
        "first": 1024,
        "count": 512,
    }
    return sample(kind, known)


def _messages(kinds: Any, encode: Callable[[Any], bytes], decode: Callable[[bytes], object]) -> str:
    found = []
    for kind in get_args(kinds):
        message = _example(kind)
        data = encode(message)
        assert decode(data) == message
        shown = byte_table(rows(message, data, decode, encoder=encode), data)
        found.append(f"### {kind.__name__}\n\n{shown}\n\n{values((kind.__name__, data))}")
    return "\n\n".join(found)


def _requests() -> str:
    return _messages(sync_messages.Request, sync_messages.encode_request, sync_messages.decode_request)


def _responses() -> str:
    return _messages(sync_messages.Response, sync_messages.encode_response, sync_messages.decode_response)


def _snapshot_requests() -> str:
    return _messages(
        snapshot_messages.PartRequest,
        snapshot_messages.encode_part_request,
        snapshot_messages.decode_part_request,
    )


def _reconcile() -> str:
    """Who has one transaction of the example asks a node that has two and a training record."""
    jobs, txs = job_story()
    entry = jobs.world.state.round(jobs.id, 0)
    assert entry is not None
    assert entry.record is not None
    pool = [
        *(reconcile.Item(tx.id, reconcile.TX, tx.encoded) for tx in txs[:2]),
        reconcile.Item(entry.record.id, reconcile.RECORD, entry.record.encode()),
    ]
    question = reconcile.Question.about([txs[0].id], bytes(range(reconcile.SALT_BYTES)))
    found = []
    for message in (question, reconcile.answer(question, pool)):
        kind, data = type(message), message.encode()
        shown = byte_table(rows(message, data, kind.decode, encoder=kind.encode), data)
        found.append(f"{shown}\n\n{values((kind.__name__.lower(), data))}")
    told = values(("transaction that the asker has", txs[0].id), ("transaction that it lacks", txs[1].id))
    return "\n\n".join((*found, told))


REGIONS = {
    "sync-requests": _requests,
    "sync-responses": _responses,
    "snapshot-requests": _snapshot_requests,
    "reconcile": _reconcile,
}
