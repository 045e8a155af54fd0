"""Plaintext lets anyone claim any identity: libp2p's default host believes it, ours does not speak it."""

from __future__ import annotations

from typing import Any

import pytest
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, make_exchange_message
from multiaddr import Multiaddr

from p2pml.net.raw_host import new_raw_host
from p2pml.net.yamux import frames
from tests.net.hostile.attacker import YAMUX, Attacker, prefixed

SOMEBODY = create_new_key_pair(b"\x62" * 32).public_key
SOMEBODYS_ID = ID.from_pubkey(SOMEBODY)


async def peers_believed(victim: Any) -> list[str]:
    """Who the victim takes an attacker for that only shows the public key of somebody else."""
    async with victim.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        attacker = Attacker(b"\x61" * 32, int(str(victim.get_transport_addrs()[0]).split("/")[4]))
        try:
            link = await attacker.dial()
            if await link.select(PLAINTEXT_PROTOCOL_ID) == PLAINTEXT_PROTOCOL_ID:
                claim = make_exchange_message(SOMEBODY)
                await link.send(prefixed(claim.SerializeToString()))
                await link.read((await link.read(1))[0])
                assert await link.select(YAMUX) == YAMUX
                await link.send(frames.encode(frames.PING, frames.SYN, 0, 1))
                await link.read(frames.HEADER_BYTES)
            return [peer.to_base58() for peer in victim.get_network().connections]
        finally:
            await attacker.aclose()


@pytest.mark.slow
async def test_the_default_host_of_the_library_believes_a_forged_identity() -> None:
    assert await peers_believed(new_host(key_pair=create_new_key_pair(b"\x63" * 32))) == [
        SOMEBODYS_ID.to_base58()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["fast", "stock"])
async def test_our_host_does_not(transport: str) -> None:
    assert await peers_believed(new_raw_host(b"\x63" * 32, transport)) == []
