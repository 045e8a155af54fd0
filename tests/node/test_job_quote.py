"""`train --dry-run`: what a job would take, without beginning it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import trio

from p2pml.cli.job_quote import describe_quote
from p2pml.errors import UserError

pytestmark = pytest.mark.slow
TOKEN = 10**8


async def test_a_quote_is_what_the_job_then_takes(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        jobs, spec = world.requester.jobs, job_spec(rounds=3, clients=4, least=2)
        quote = await jobs.quote(spec, world.root, "job.yaml")
        assert jobs.list() == []
        assert world.chain.included == []
        assert not world.torrents
        shown = await world.finish(await jobs.start(spec, world.root, "job.yaml"))
        assert (quote.price, quote.params, quote.clients) == (shown["price"], 8 * 4 + 4, 4)
        assert quote.samples == 400
        assert quote.steps == 12  # 100 samples, twice, in batches of 20, and one more an epoch at most
        assert quote.per_round == 4 * 36 * (2 + 4)
        assert [peer.name for peer in quote.peers] == ["node1", "node2"]
        paid = 1000 * TOKEN - world.chain.balance(world.requester.account) - shown["spent"]
        escrow = world.chain.job(bytes.fromhex(shown["chain_job"])).escrow
        assert paid - escrow <= quote.fees == 5 * TOKEN // 10
        text = describe_quote(asdict(quote))
        for line in ("2 would be invited now, 2 are needed", "36 parameters", "paid after every round"):
            assert line in text


async def test_a_quote_says_what_is_missing(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        jobs = world.requester.jobs
        spec = job_spec(rounds=200, least=3).replace("clouds.npz", "rain.npz").replace("10}", "2000}")
        quote = await jobs.quote(spec, world.root, "job.yaml")
        text = describe_quote(asdict(quote))
        for line in (
            "2 more must come before it can begin",
            "not known yet: the data is not on this node: nobody has rain.npz",
            "1,000 tokens: not enough",
        ):
            assert line in text
        with pytest.raises(UserError, match="unknown key 'roundz'"):
            await jobs.quote(job_spec(extra="roundz: 1\n"), world.root, "job.yaml")
        with pytest.raises(UserError, match="cannot be divided among 401 clients"):
            await jobs.quote(job_spec(clients=401), world.root, "job.yaml")
        await trio.lowlevel.checkpoint()
