"""A peer that can misbehave at every layer: TCP, multistream, noise, records, yamux.

Its cryptography is real and its own, so that it gets as deep as any peer does; everything it sends is bytes
that the attack chooses. It answers nothing by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.peer.id import ID
from libp2p.security.noise.messages import NoiseHandshakePayload, make_handshake_payload_sig
from noise.connection import Keypair, NoiseConnection

from p2pml.net.secure.records import RecordReader, RecordWriter
from p2pml.net.yamux import frames
from p2pml.net.yamux.frames import ACK, DATA, FIN, PING, RST, SYN, WINDOW_UPDATE, Body, Header

MULTISTREAM, NOISE, YAMUX = "/multistream/1.0.0", "/noise", "/yamux/1.0.0"
NOT_AVAILABLE = "na"
FRAME_BYTES = 60_000
WITHIN_S = 25.0
FLOOD_S = 10.0
"""Seconds that the victim may take for what it must do, on a machine under load."""


def varint(number: int) -> bytes:
    """Unsigned LEB128, the length in front of multistream lines and protobuf messages."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def prefixed(data: bytes) -> bytes:
    return varint(len(data)) + data


def line(text: str) -> bytes:
    return prefixed(text.encode() + b"\n")


class Link:
    """A TCP connection to the victim."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._unread = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def flood(self, parts: Callable[[int], bytes], most: int) -> bool:
        """Send `parts(0)`, `parts(1)`, … until the victim has had enough.

        Returns:
            Whether it cut the connection (or stopped reading) before all `most` of them were sent.
        """
        try:
            with trio.fail_after(FLOOD_S):
                for number in range(most):
                    await self.stream.send_all(parts(number))
        except (trio.BrokenResourceError, trio.TooSlowError):
            return True
        return False

    async def read(self, count: int) -> bytes:
        with trio.fail_after(WITHIN_S):
            while len(self._unread) < count:
                self._unread += await self.more()
        data, self._unread = self._unread[:count], self._unread[count:]
        return data

    async def more(self) -> bytes:
        """Some bytes; raises EOFError at the end."""
        data = bytes(await self.stream.receive_some(65536))
        if not data:
            raise EOFError
        return data

    async def read_line(self) -> str:
        size = (await self.read(1))[0]
        return (await self.read(size)).decode().rstrip("\n")

    async def select(self, protocol: str) -> str:
        """Ask for a protocol by multistream; the answer."""
        await self.send(line(MULTISTREAM) + line(protocol))
        assert await self.read_line() == MULTISTREAM
        return await self.read_line()

    async def ended(self) -> None:
        """Wait until the victim closes the connection; fails when it does not."""
        with trio.fail_after(WITHIN_S):
            try:
                while await self.stream.receive_some(65536):
                    pass
            except trio.BrokenResourceError:
                return

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)


@dataclass
class Handshake:
    """What a noise handshake says; tests change it to say something wrong.

    Attributes:
        message: called with the number (1 to 3) and the bytes of each message that is sent.
        payload: called with the honest payload; the one to send.
    """

    message: Callable[[int, bytes], bytes] = lambda number, data: data
    payload: Callable[[bytes], bytes] = lambda data: data


class Attacker:
    """One hostile peer with an identity of its own.

    Args:
        seed: 32 bytes, its Ed25519 key.
        port: of the victim on loopback.
    """

    def __init__(self, seed: bytes, port: int) -> None:
        self.keys = create_new_key_pair(seed)
        self.id = ID.from_pubkey(self.keys.public_key)
        self.peer_id: str = self.id.to_base58()
        self.port = port
        self._links: list[Link] = []

    async def dial(self, port: int | None = None) -> Link:
        """A bare TCP connection, to the victim or to what stands before it."""
        return self.adopt(await trio.open_tcp_stream("127.0.0.1", port or self.port))

    def adopt(self, stream: trio.SocketStream) -> Link:
        """Use a connection that was accepted; it is closed with the others."""
        link = Link(stream)
        self._links.append(link)
        return link

    async def secured(self, said: Handshake | None = None, port: int | None = None) -> Secured:
        """A connection after the noise handshake."""
        link = await self.dial(port)
        assert await link.select(NOISE) == NOISE
        return await self.shake(link, True, said)

    async def muxed(self, port: int | None = None) -> Muxed:
        """A connection that is ready for streams."""
        secured = await self.secured(port=port)
        await secured.send(line(MULTISTREAM) + line(YAMUX))
        assert await secured.read_line() == MULTISTREAM
        assert await secured.read_line() == YAMUX
        return Muxed(secured)

    async def shake(self, link: Link, initiator: bool, said: Handshake | None = None) -> Secured:
        """The noise handshake, pattern XX, on a connection where it was agreed on."""
        said = said or Handshake()
        static = create_noise_key_pair()
        state: Any = NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_SHA256")
        state.set_keypair_from_private_bytes(Keypair.STATIC, static.private_key.to_bytes())
        state.set_as_initiator() if initiator else state.set_as_responder()
        state.start_handshake()
        signature = make_handshake_payload_sig(self.keys.private_key, static.public_key)
        payload = NoiseHandshakePayload(self.keys.public_key, signature).serialize()
        for number in (1, 2, 3):
            if (number % 2 == 1) == initiator:
                inner = b"" if number == 1 else said.payload(payload)
                await link.send(sized(said.message(number, bytes(state.write_message(inner)))))
            else:
                state.read_message(await link.read(int.from_bytes(await link.read(2), "big")))
        return Secured(link, state.noise_protocol)

    async def aclose(self) -> None:
        for link in self._links:
            await link.aclose()


def sized(data: bytes) -> bytes:
    """A noise message or record behind its length."""
    return len(data).to_bytes(2, "big") + data


class Secured:
    """A connection with keys agreed on."""

    def __init__(self, link: Link, noise: Any) -> None:
        self.link = link
        self.writer = RecordWriter(bytes(noise.cipher_state_encrypt.k))
        self._reader = RecordReader(bytes(noise.cipher_state_decrypt.k))
        self._unread = bytearray()

    async def send(self, data: bytes) -> None:
        await self.link.send(self.seal(data))

    def seal(self, data: bytes) -> bytes:
        return self.writer.seal([data])

    async def receive(self) -> bytes:
        """Some bytes; raises EOFError at the end."""
        if not self._unread:
            for payload in self._reader.feed(await self.link.more()):
                self._unread += payload
        data = bytes(self._unread)
        self._unread.clear()
        return data

    async def read_line(self) -> str:
        with trio.fail_after(WITHIN_S):
            while not self._unread or len(self._unread) <= self._unread[0]:
                self._unread += self._reader_feed(await self.link.more())
        size = self._unread[0]
        text = bytes(self._unread[1 : 1 + size])
        del self._unread[: 1 + size]
        return text.decode().rstrip("\n")

    def _reader_feed(self, data: bytes) -> bytes:
        return b"".join(self._reader.feed(data))


class Muxed:
    """A connection that speaks yamux, frame by frame."""

    def __init__(self, secured: Secured) -> None:
        self.secured, self.link = secured, secured.link
        self._frames = frames.FrameReader()
        self._headers: deque[Header] = deque()
        self._stream = 0  # that the present body is for
        self._credit: dict[int, int] = {}
        self.received: dict[int, bytes] = {}

    async def send(self, *parts: bytes) -> None:
        await self.secured.send(b"".join(parts))

    async def flood(self, parts: Callable[[int], bytes], most: int) -> bool:
        """Like `Link.flood`, of frames."""
        return await self.link.flood(lambda number: self.secured.seal(parts(number)), most)

    async def open(self, stream: int, protocol: str, data: bytes = b"") -> None:
        """Open a stream and send `data` on it, without waiting for anything."""
        await self.send(opening(stream, protocol, data))

    async def send_all(self, stream: int, content: bytes) -> None:
        """Send on a stream as an honest peer does, no more than the victim's window."""
        for start in range(0, len(content), FRAME_BYTES):
            part = content[start : start + FRAME_BYTES]
            while self._credit_of(stream) < len(part) + FRAME_BYTES:  # what `open` sent is not counted
                await self.until(lambda header: header.kind == WINDOW_UPDATE and header.stream == stream)
            self._credit[stream] = self._credit_of(stream) - len(part)
            await self.send(data(stream, part))

    def _credit_of(self, stream: int) -> int:
        return self._credit.get(stream, frames.INITIAL_WINDOW)

    async def until(self, wanted: Callable[[Header], bool]) -> Header:
        """The next frame that is wanted; fails when it does not come. Bodies are kept in `received`."""
        with trio.fail_after(WITHIN_S):
            while True:
                while self._headers:
                    if wanted(header := self._headers.popleft()):
                        return header
                for event in self._frames.feed(await self.secured.receive()):
                    if isinstance(event, Body):
                        self.received[self._stream] = self.received.get(self._stream, b"") + bytes(event.data)
                        continue
                    self._stream = event.stream
                    if event.kind == WINDOW_UPDATE:
                        self._credit[event.stream] = self._credit_of(event.stream) + event.length
                    self._headers.append(event)

    async def was_reset(self, stream: int) -> None:
        """Wait until the victim resets a stream (or ends its side of it)."""
        await self.until(lambda header: header.stream == stream and bool(header.flags & (RST | FIN)))

    async def answers(self, number: int = 77) -> None:
        """The connection is still served: a ping of yamux is answered."""
        await self.send(frames.encode(PING, SYN, 0, number))
        await self.until(lambda header: header == Header(PING, ACK, 0, number))

    async def ended(self) -> None:
        """The victim closes the connection."""
        await self.link.ended()


def data(stream: int, body: bytes, flags: int = 0) -> bytes:
    """A data frame."""
    return frames.encode(DATA, flags, stream, len(body)) + body


def window(stream: int, more: int = 0, flags: int = 0) -> bytes:
    """A window update, with flags also what opens, ends and resets streams."""
    return frames.encode(WINDOW_UPDATE, flags, stream, more)


def opening(stream: int, protocol: str, body: bytes = b"") -> bytes:
    """The frames that open a stream, agree on a protocol without waiting, and send `body`."""
    return data(stream, line(MULTISTREAM) + line(protocol) + body, SYN)
