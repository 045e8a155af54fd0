"""Attacks by the side that is dialled: the victim trusts nobody because it chose the address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from p2pml.net import errors
from p2pml.net.yamux import frames
from tests.net.hostile.arena import Arena
from tests.net.hostile.attacker import (
    MULTISTREAM,
    NOISE,
    NOT_AVAILABLE,
    YAMUX,
    Attacker,
    Handshake,
    Link,
    Secured,
    line,
    sized,
    varint,
)
from tests.net.hostile.cases import hostile

DIAL_S = 1.5
Behaviour = Callable[[Link], Awaitable[object]]


async def _dialled(arena: Arena, attacker: Attacker, behave: Behaviour, peer: str = "") -> None:
    """Let the victim dial the attacker, or `peer` at the attacker's address; it must not get connected."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def answer(link: Link) -> None:
        with suppress(EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            await behave(link)

    async def accept(nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(answer, attacker.adopt(await listener.accept()))

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(accept, nursery)
        target = peer or attacker.peer_id
        with pytest.raises(errors.RemoteError):
            await arena.victim.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{target}", DIAL_S)
        assert not arena.victim.is_connected(target)
        assert not arena.victim.is_connected(attacker.peer_id)
        nursery.cancel_scope.cancel()


async def _agreed_on_noise(link: Link) -> None:
    assert await link.read_line() == MULTISTREAM
    await link.send(line(MULTISTREAM))
    assert await link.read_line() == NOISE
    await link.send(line(NOISE))


async def _secured(attacker: Attacker, link: Link, said: Handshake | None = None) -> Secured:
    await _agreed_on_noise(link)
    return await attacker.shake(link, False, said)


@hostile()
async def answers_a_dial_with_nothing(arena: Arena, attacker: Attacker) -> None:
    await _dialled(arena, attacker, lambda link: link.ended())


@hostile()
async def hangs_up_at_once(arena: Arena, attacker: Attacker) -> None:
    await _dialled(arena, attacker, lambda link: link.aclose())


@hostile()
async def answers_a_dial_with_random_bytes(arena: Arena, attacker: Attacker) -> None:
    await _dialled(arena, attacker, lambda link: link.send(b"\x21" * 5000))


@hostile()
async def answers_a_dial_with_a_line_without_end(arena: Arena, attacker: Attacker) -> None:
    async def behave(link: Link) -> None:
        await link.send(varint(1 << 30))
        await link.flood(lambda number: bytes(1 << 20), 64)

    await _dialled(arena, attacker, behave)


@hostile()
async def knows_no_protocol_at_all(arena: Arena, attacker: Attacker) -> None:
    async def behave(link: Link) -> None:
        await link.send(line(MULTISTREAM) + line(NOT_AVAILABLE) * 50)
        await link.ended()

    await _dialled(arena, attacker, behave)


@hostile()
async def has_another_key_than_was_dialled(arena: Arena, attacker: Attacker) -> None:
    wanted = ID.from_pubkey(create_new_key_pair(b"\x79" * 32).public_key).to_base58()
    await _dialled(arena, attacker, lambda link: _secured(attacker, link), wanted)


@hostile()
async def random_bytes_for_the_second_message(arena: Arena, attacker: Attacker) -> None:
    async def behave(link: Link) -> None:
        await _agreed_on_noise(link)
        await link.send(sized(b"\x33" * 200))
        await link.ended()

    await _dialled(arena, attacker, behave)


@hostile()
async def a_second_message_that_never_comes(arena: Arena, attacker: Attacker) -> None:
    async def behave(link: Link) -> None:
        await _agreed_on_noise(link)
        await link.send(b"\xff\xff" + bytes(50))
        await link.ended()

    await _dialled(arena, attacker, behave)


@hostile()
async def a_second_message_without_payload(arena: Arena, attacker: Attacker) -> None:
    said = Handshake(payload=lambda payload: b"")
    await _dialled(arena, attacker, lambda link: _secured(attacker, link, said))


@hostile()
async def agrees_on_no_muxer(arena: Arena, attacker: Attacker) -> None:
    async def behave(link: Link) -> None:
        secured = await _secured(attacker, link)
        await secured.send(line(MULTISTREAM) + line(NOT_AVAILABLE) * 10)
        await link.ended()

    await _dialled(arena, attacker, behave)


@hostile()
async def leaves_as_soon_as_it_is_connected(arena: Arena, attacker: Attacker) -> None:
    """The dial may succeed; what is asked of it then must not hang."""

    async def behave(link: Link) -> None:
        secured = await _secured(attacker, link)
        await secured.send(line(MULTISTREAM) + line(YAMUX))
        await secured.send(frames.encode(frames.GO_AWAY, 0, 0, 0))
        await link.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, trio.open_nursery() as nursery:

        async def accept() -> None:
            with suppress(EOFError, trio.BrokenResourceError):
                await behave(attacker.adopt(await listener.accept()))

        nursery.start_soon(accept)
        arena.victim.learn(attacker.peer_id, [f"/ip4/127.0.0.1/tcp/{port}/p2p/{attacker.peer_id}"])
        with pytest.raises(errors.RemoteError):
            await arena.victim.request(attacker.peer_id, "/test/echo/1.0.0", "there?", 2)
        nursery.cancel_scope.cancel()
