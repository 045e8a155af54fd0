"""docs/spec/block.md: a worked block, its tree and seal, the items of its sections, all domain tags."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import chain
from chain import merkle
from chain.codec import pack, unpack
from chain.evidence import TwoSeals, TwoVotes, read_evidence
from chain.header import SealedHeader, seal_message
from chain.rating.items import KINDS
from chain.training_records import RoundRecord
from chain.types import Block, Body
from chain.votes import sign_vote
from tests.spec.example import job_story, story
from tests.spec.fields import rows
from tests.spec.markdown import byte_table, hashed, table, values
from tests.spec.watch import hashes

WORKED = 3
"""Height of the worked block: it holds a transfer and the votes of slot 2."""
LEAVES = ("transactions", "ratings", "training records", "votes", "evidence")


def worked() -> Block:
    return story().blocks[WORKED - 1]


def encoding(name: str, obj: Any, data: bytes, decode: Callable[[bytes], object], **how: Any) -> str:
    """A byte table, and the whole encoding beneath it."""
    return f"{byte_table(rows(obj, data, decode, **how), data)}\n\n{values((name, data))}"


def _genesis() -> str:
    genesis = story().world.genesis
    people = table(
        ("validator", "rating", "account", "VRF key"),
        (
            (f.name, f.rating, f"`{f.public.hex()}`", f"`{f.vrf_public.hex()}`")
            for f in sorted(genesis.validators, key=lambda founder: founder.name)
        ),
    )
    [document] = hashes(lambda: replace(genesis).chain_id)
    assert document.digest == genesis.chain_id
    shown = values(
        ("genesis time in ms", genesis.time_ms),
        f"chain id = {hashed('genesis', 'genesis')}",
        ("genesis", document.data),
        ("chain id", genesis.chain_id),
    )
    return f"{people}\n\n{shown}"


def _sealed() -> str:
    sealed = worked().sealed
    return encoding("sealed header", sealed, sealed.encoded, SealedHeader.decode)


def _body() -> str:
    body = worked().body
    return encoding("body", body, body.encode(), Body.decode, fold=("Tx", "Vote"))


def _tree() -> str:
    """All values of the tree, by the names of the leaves under a node."""
    block = worked()
    leaves = block.body.leaves(block.sealed.leaf0)
    entries: list[tuple[str, object] | str] = ["leaf i, as it is hashed: SHA-256(00 ‖ leaf i)"]
    entries += [(f"leaf {i}", leaf) for i, leaf in enumerate(leaves)]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    entries += [(f"hash of leaf {i}", digest) for i, digest in enumerate(hashes)]
    entries.append("inner nodes: SHA-256(01 ‖ left ‖ right)")
    nodes: list[tuple[str, object]] = []
    root = _node(hashes, 0, nodes)
    assert root == block.sealed.header.merkle_root
    sections = table(("leaf", "section", "items in the example"), _sections(block))
    return f"{sections}\n\n{values(*entries, *nodes)}\n\n{_drawn(hashes, root)}"


def _sections(block: Block) -> list[tuple[object, ...]]:
    counts = [len(section) for section in block.body.to_item() if isinstance(section, tuple)]
    return [(0, "the proposer's data", 1)] + [
        (i, name, count) for i, (name, count) in enumerate(zip(LEAVES, counts, strict=True), 1)
    ]


def _node(hashes: Sequence[bytes], first: int, found: list[tuple[str, object]]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    left = _node(hashes[:split], first, found)
    right = _node(hashes[split:], first + split, found)
    digest = merkle.node_hash(left, right)
    found.append((f"node {first}…{first + len(hashes) - 1}", digest))
    return digest


def _drawn(hashes: Sequence[bytes], root: bytes) -> str:
    lines = ["```", f"merkle root {root.hex()[:8]}…"]

    def draw(part: Sequence[bytes], first: int, margin: str) -> None:
        split = 1 << (len(part) - 1).bit_length() - 1
        for last, (piece, at) in enumerate(((part[:split], first), (part[split:], first + split))):
            arm, deeper = ("└─ ", "   ") if last else ("├─ ", "│  ")
            if len(piece) == 1:
                what = (
                    "leaf 0: the proposer's data" if at == 0 else f"leaf {at}: root of the {LEAVES[at - 1]}"
                )
                lines.append(f"{margin}{arm}{piece[0].hex()[:8]}…  {what}")
            else:
                lines.append(f"{margin}{arm}{_node(piece, at, []).hex()[:8]}…")
                draw(piece, at, margin + deeper)

    draw(hashes, 0, "")
    return "\n".join((*lines, "```"))


def _seal() -> str:
    block, chain_id = worked(), story().world.genesis.chain_id
    header = block.sealed.header
    return values(
        f"block id = {hashed('hdr', 'header')}",
        ("header", pack(header.to_item())),
        ("block id", header.block_id),
        f"sealed = {hashed('seal', 'chain id', 'block id')}; the seal is the signature over it",
        ("sealed", seal_message(chain_id, header.block_id)),
        ("proposer", block.sealed.proposer),
        ("seal", block.sealed.seal),
    )


def _record() -> str:
    jobs, _ = job_story()
    entry = jobs.world.state.round(jobs.id, 0)
    assert entry is not None
    assert entry.record is not None
    shown = values(
        f"signed = {hashed('round-record', 'the record without its signature')}",
        ("signed", entry.record.signing_bytes()),
        ("requester", jobs.requester.public),
    )
    return f"{encoding('round record', entry.record, entry.record.encode(), RoundRecord.decode)}\n\n{shown}"


def _evidence() -> str:
    told = story()
    world, [vote, *_] = told.world, told.votes_at(1)
    keys = world.by_public[vote.voter].keypair
    other = sign_vote(keys, world.genesis.chain_id, vote.slot, vote.link, told.blocks[1].block_id)
    block = worked()
    twin = world.reseal(block, header={"timestamp_ms": block.sealed.timestamp_ms}, body=Body())
    found = []
    for evidence in (TwoVotes(vote, other), TwoSeals(block.sealed, twin.sealed)):
        evidence.check(world.genesis.chain_id)
        name = type(evidence).__name__
        data = evidence.encoded
        found.append(
            encoding(
                f"evidence of {'two votes' if name == 'TwoVotes' else 'two seals'}",
                evidence,
                data,
                lambda raw: read_evidence(unpack(raw, len(raw))),
                fold=("Vote", "SealedHeader"),
            )
        )
    return "\n\n".join(found)


def _tags() -> str:
    """Every `H("tag", …)` of chain and node, by reading their sources; a tag belongs to one module."""
    found: dict[str, dict[str, None]] = {}
    owners: dict[str, Path] = {}
    root = Path(next(iter(chain.__path__))).parent
    for kind in KINDS.values():
        found[kind.TAG] = {"`chain_id, pack(self.to_item()[:-1])`": None}
        owners[kind.TAG] = root / "chain" / "rating" / "items.py"
    for path in sorted((*root.glob("chain/**/*.py"), *root.glob("p2pml/*/*.py"))):
        source = "" if path.parent.name == "sim" else path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if re.search(r"\b(H|unit)\(", source) else ():
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) in ("H", "unit", "lottery.unit")):
                continue
            if not isinstance(node.args[0], ast.Constant):
                continue  # whoever calls it says the tag
            name = ast.unparse(node.args[0]).strip("'")
            assert owners.setdefault(name, path) == path, f"{path.name}: {name!r} is another module's tag"
            parts = ", ".join(ast.unparse(part) for part in node.args[1:])
            found.setdefault(name, {})[f"`{parts}`"] = None
    return table(
        ("tag", "what is hashed, in the code's words", "where"),
        ((f"`{t}`", "; ".join(found[t]), f"`{owners[t].relative_to(root)}`") for t in sorted(found)),
    )


REGIONS = {
    "example-genesis": _genesis,
    "sealed-header": _sealed,
    "body": _body,
    "block-tree": _tree,
    "seal": _seal,
    "round-record": _record,
    "evidence": _evidence,
    "domain-tags": _tags,
}
