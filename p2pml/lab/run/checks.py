"""What must be true of a network, looked up at every live node through its API and on its disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from p2pml.errors import ExitCode, UserError
from p2pml.scenario.spec import OPEN_BLOCKS

BEHIND = 3
"""Blocks that a node may be behind the best head: a block takes a while to arrive, and short forks heal."""
SHARDS_SUFFIX = "-shards"
COPIES = 2
"""Peers that hold each shard: who trains it and who takes over (p2pml.training.placement)."""
_POLL_S = 0.5


class Getter(Protocol):
    """The reading half of a node's API."""

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer of a GET below `/api/v1`."""


@dataclass(frozen=True, slots=True)
class Result:
    """Whether a check held, and what was seen."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """One node's fetch of a dataset: how many others had all of it when it began, and the bytes by source."""

    node: str
    data: str
    holders: int
    sources: Mapping[str, int]


def patiently(
    check: Callable[[], Result], within: float, tell: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
) -> Result:  # fmt: skip
    """The check's first good result, or its last bad one after `within` seconds.

    `tell` hears why it does not hold yet, each reason once in a row.
    """
    deadline, told = clock() + within, ""
    while True:
        result = check()
        if result.ok or clock() >= deadline:
            return result
        if result.text != told:
            tell(f"{result.name} not yet: {result.text}")
            told = result.text
        sleep(_POLL_S)


def heads(nodes: Mapping[str, Getter]) -> Result:
    """All nodes have the same block at some height at most `BEHIND` below the best head."""
    try:
        best = max(int(api.get("/status")["head"]["height"]) for api in nodes.values())
        for height in range(best, max(0, best - BEHIND - 1), -1):
            ids = {name: _block_id(api, height) for name, api in nodes.items()}
            if None not in ids.values() and len(set(ids.values())) == 1:
                block = next(iter(ids.values()))
                return Result(
                    "heads", True,
                    f"{len(nodes)} nodes agree on block {height} ({str(block)[:12]}), best head {best}",
                )  # fmt: skip
    except UserError as error:
        return Result("heads", False, f"a node does not answer: {error.cause}")
    told = ", ".join(f"{name} {_head_text(api)}" for name, api in nodes.items())
    return Result("heads", False, f"no common block within {BEHIND} of the best head {best}: {told}")


def books(nodes: Mapping[str, Getter]) -> Result:
    """At one and the same head, every node's books add up and are equal."""
    try:
        seen = {name: _books_at_head(api) for name, api in nodes.items()}
    except UserError as error:
        return Result("books", False, f"a node does not answer: {error.cause}")
    for name, (_, supply) in seen.items():
        left, right = _sides(supply)
        if left != right or not supply["adds_up"]:
            return Result(
                "books",
                False,
                f"{name}: balances + escrow + bonds + vesting = {left}, but issued and kept {right}",
            )
    if len({head for head, _ in seen.values()}) != 1:
        told = ", ".join(f"{name} {head[:8]}" for name, (head, _) in seen.items())
        return Result("books", False, f"the nodes' heads differ, so their books cannot be compared: {told}")
    supplies = [supply for _, supply in seen.values()]
    if any(supply != supplies[0] for supply in supplies):
        return Result("books", False, f"the same head, but different books: {supplies}")
    left, right = _sides(supplies[0])
    return Result(
        "books", True,
        f"{len(nodes)} nodes: balances + escrow + bonds + vesting = {left} = genesis + issued - burned,"
        " all equal",
    )  # fmt: skip


def finality(nodes: Mapping[str, Getter]) -> Result:
    """On every node all but the last few blocks are final, and the deepest final one is the same block."""
    try:
        heads = {name: api.get("/status")["head"] for name, api in nodes.items()}
        height = min(head["final_height"] for head in heads.values())
        ids = {_block_id(api, height) for api in nodes.values()}
    except UserError as error:
        return Result("finality", False, f"a node does not answer: {error.cause}")
    open_ = {name: head["height"] - head["final_height"] for name, head in heads.items()}
    told = ", ".join(f"{name} {count}" for name, count in open_.items())
    if max(open_.values()) > OPEN_BLOCKS:
        return Result("finality", False, f"blocks that are not final: {told}")
    if len(ids) != 1:
        return Result("finality", False, f"different final blocks at height {height}")
    return Result("finality", True, f"block {height} is final on {len(nodes)} nodes; not final yet: {told}")


def shards_running(
    participants: Mapping[str, tuple[Getter, Path]],
    asked: Mapping[str, set[int]],
    shard_count: int,
    lost: int,
) -> Result:
    """While a job runs: each participant has the job's torrent with some shards of it and no others.

    Args:
        participants: their APIs and the folders of their piece stores.
        asked: which shards the requester wants each of them to hold now. Who held one before a later trainer
            relieved it may keep that copy.
        shard_count: into how many shards the job's data is divided.
        lost: participants that are gone, whose shards others took over.
    """
    held: dict[str, set[int]] = {}
    for name, (api, pieces) in participants.items():
        found = [item for item in api.get("/datasets") if _is_shards(item)]
        if len(found) != 1:
            return Result("shards", False, f"{name} has {len(found)} job torrents, not one")
        held[name] = {place for place, file in enumerate(found[0]["files"]) if file["complete"]}
        stray = _stray_files(found[0], pieces)
        if stray:
            return Result("shards", False, f"{name} has on its disk what it did not ask for: {stray[0]}")
        if not held[name]:
            return Result("shards", False, f"{name} has no shard yet")
    copies = sum(len(shards) for shards in held.values())
    told = "; ".join(f"{name} holds {sorted(shards)}" for name, shards in held.items())
    if missing := sorted(set(range(shard_count)) - set().union(*held.values())):
        return Result("shards", False, f"nobody holds shards {missing}: {told}")
    relieved = sum(len(shards - asked[name]) for name, shards in held.items())
    if copies - relieved > (COPIES + lost) * shard_count or relieved > shard_count:
        return Result("shards", False, f"{copies} copies of {shard_count} shards: {told}")
    if len(held) > COPIES and not lost and all(len(shards) == shard_count for shards in held.values()):
        return Result("shards", False, f"everybody has everything: {told}")
    return Result("shards", True, f"{shard_count} shards: {told}")


def shards_over(nodes: Mapping[str, Getter], restarted: Sequence[str]) -> Result:
    """After a job: nobody who trained to its end has its torrent any more.

    Args:
        nodes: those that trained to the end.
        restarted: those that did not; they keep their shards for a while, in case the job goes on.
    """
    left = [
        f"{name} has {item['name']}"
        for name, api in nodes.items()
        for item in api.get("/datasets")
        if _is_shards(item)
    ]
    if left:
        return Result("shards", False, f"job torrents are left: {'; '.join(left)}")
    if not nodes:
        return Result("shards", False, "nobody trained to the job's end")
    later = f"; restarted meanwhile, so not looked at: {', '.join(restarted)}" if restarted else ""
    return Result("shards", True, f"no job torrents on {', '.join(nodes)}{later}")


def sources(fetches: Sequence[Fetch]) -> Result:
    """Every fetch of a dataset that at least two nodes had got bytes from at least two."""
    many = [fetch for fetch in fetches if fetch.holders >= 2]
    if not many:
        return Result("sources", False, "nothing was fetched that two nodes had; get it twice")
    told = "; ".join(f"{f.node} got {f.data} from {_by_source(f.sources)}" for f in many)
    ok = all(sum(1 for count in fetch.sources.values() if count > 0) >= 2 for fetch in many)
    return Result("sources", ok, told)


def _by_source(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count} B" for name, count in sorted(found.items())) or "nobody"


def _block_id(api: Getter, height: int) -> str | None:
    try:
        return str(api.get(f"/blocks/{height}")["id"])
    except UserError as error:
        if error.code is ExitCode.FAILURE:  # it has no block of that height yet
            return None
        raise


def _head_text(api: Getter) -> str:
    try:
        head = api.get("/status")["head"]
    except UserError:
        return "silent"
    return f"{head['height']}:{head['id'][:8]}"


def _books_at_head(api: Getter) -> tuple[str, dict[str, Any]]:
    """A head and the books of that very head."""
    while True:
        before = api.get("/status")["head"]["id"]
        supply = api.get("/supply")
        if api.get("/status")["head"]["id"] == before:
            return before, supply


def _sides(supply: Mapping[str, Any]) -> tuple[int, int]:
    held = sum(supply[name] for name in ("balances", "escrow", "bonds", "vesting"))
    return held, supply["genesis"] + supply["issued"] - supply["burned"]


def _is_shards(dataset: Mapping[str, Any]) -> bool:
    return bool(dataset["private"]) and str(dataset["name"]).endswith(SHARDS_SUFFIX)


def _stray_files(dataset: Mapping[str, Any], pieces: Path) -> list[str]:
    """Content files in the torrent's folder that hold bytes of a shard which is not complete here."""
    complete = {Path(file["location"]).resolve() for file in dataset["files"] if file["complete"]}
    known = {Path(file["location"]).resolve() for file in dataset["files"]}
    folder = pieces / str(dataset["infohash"])
    found = [path.resolve() for path in folder.rglob("*") if path.is_file()]
    return [
        str(path.relative_to(folder.resolve()))
        for path in found
        if path in known and path not in complete and path.stat().st_blocks > 0
    ]
