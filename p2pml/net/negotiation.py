"""A bound on the lines of multistream, on connections and on streams.

libp2p 0.8.1 reads a line of whatever length its sender announces: a stranger, before any handshake, could
fill the memory with one. Source: multistream-select specification, "messages".
"""

from __future__ import annotations

from typing import Any

from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException
from libp2p.io.utils import read_exactly
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils.varint import decode_uvarint_from_stream

MAX_LINE = 1024
"""Bytes of a line with its end; names of protocols are far shorter."""


def bound_lines() -> None:
    """Let every negotiation of this process refuse lines above `MAX_LINE`; nothing to do the second time."""
    MultiselectCommunicator.read = _read_line


async def _read_line(self: Any) -> str:
    """One line, without its end.

    Raises:
        MultiselectCommunicatorError: it is too long, is not a line of text, or does not come.
    """
    try:
        size = await decode_uvarint_from_stream(self.read_writer)
        if not 0 < size <= MAX_LINE:
            raise MultiselectCommunicatorError(f"a line of {size} bytes")
        data = await read_exactly(self.read_writer, size)
        if not data.endswith(b"\n"):
            raise MultiselectCommunicatorError("a line without its end")
        return bytes(data[:-1]).decode()
    except (IOException, ParseError, UnicodeDecodeError) as error:
        raise MultiselectCommunicatorError("no line came") from error
