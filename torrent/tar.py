"""Index a tar archive: where each member's bytes lie, so that they can be read in place and never be
extracted.

Reads ustar and its common extensions: GNU long names, pax records (path, size), binary sizes
(POSIX.1-1988, pax of POSIX.1-2001, the GNU tar manual). The archive is untrusted input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torrent.errors import TarError

RECORD = 512
MAX_HEADERS = 2_000_000
MAX_EXTENSION = 1 << 20
"""Bytes of one long name or set of pax records."""

_SPARSE = "sparse members are not supported: their bytes are not in one piece"

Read = Callable[[int, int], bytes]
"""``read(offset, length)`` returns exactly ``length`` bytes of the archive (short only past its end)."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file inside the archive: its name as stored, and its bytes' offset and size."""

    name: str
    offset: int
    size: int


@dataclass(slots=True)
class _Pending:
    """What extension records say about the next member."""

    name: bytes | None = None
    size: int | None = None


def is_tar(head: bytes) -> bool:
    """Whether a file that begins with these (at least 512) bytes looks like a tar archive."""
    return len(head) >= RECORD and head[257:262] == b"ustar" and _checksum_right(head[:RECORD])


def index_tar(read: Read, size: int) -> Iterator[Member]:
    """The regular files of an archive of ``size`` bytes, in order, as they are found.

    Raises ``TarError``. Calls ``read`` once per header, so give it something buffered or near, and stop
    early where a few members are enough.
    """
    pending, everywhere = _Pending(), _Pending()
    at = headers = 0
    while at + RECORD <= size:
        headers += 1
        if headers > MAX_HEADERS:
            raise TarError(f"more than {MAX_HEADERS} headers")
        header = read(at, RECORD)
        if len(header) != RECORD:
            raise TarError(f"archive ends inside the header at byte {at}")
        if not any(header):
            break
        if not _checksum_right(header):
            raise TarError(f"damaged header at byte {at}")
        kind = header[156:157]
        length = _number(header[124:136], at)
        if kind in b"LKxg":
            content = _extension(read, at, length, size)
            _extend(kind, content, everywhere if kind == b"g" else pending)
        else:
            if kind == b"S":
                raise TarError(_SPARSE)
            # links, devices, folders and pipes have no data whatever their size field says
            length = 0 if kind in b"123456" else _first(pending.size, everywhere.size, length)
            if kind in (b"0", b"\0", b"7"):
                name = pending.name or everywhere.name or _name(header)
                if not (kind == b"\0" and name.endswith(b"/")):  # how the oldest format marks a folder
                    yield _member(name, at + RECORD, length, size)
            pending = _Pending()
        at += RECORD + -(-length // RECORD) * RECORD
    else:
        if at > size:
            raise TarError("archive is cut short")
    if not at:
        raise TarError("not a tar archive")


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _member(name: bytes, offset: int, length: int, size: int) -> Member:
    if offset + length > size:
        raise TarError(f"member at byte {offset} runs past the end of the archive")
    # names are shown and matched, never opened: undecodable bytes only have to stay visible
    return Member(name.decode("utf-8", "backslashreplace"), offset, length)


def _extension(read: Read, at: int, length: int, size: int) -> bytes:
    if length > MAX_EXTENSION or at + RECORD + length > size:
        raise TarError(f"extension record of {length} bytes at byte {at}")
    content = read(at + RECORD, length)
    if len(content) != length:
        raise TarError(f"archive ends inside the extension record at byte {at}")
    return content


def _extend(kind: bytes, content: bytes, pending: _Pending) -> None:
    if kind == b"L":
        pending.name = content.rstrip(b"\0")
    elif kind in b"xg":
        records = _pax(content)
        if b"path" in records:
            pending.name = records[b"path"]
        if b"size" in records:
            pending.size = _decimal(records[b"size"])
        if any(key.startswith(b"GNU.sparse") for key in records):
            raise TarError(_SPARSE)


def _pax(content: bytes) -> dict[bytes, bytes]:
    """Records ``"%d %s=%s\\n"`` whose number is the length of the whole record."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(content) and content[at]:
        space = content.find(b" ", at, at + 8)
        end = at + _decimal(content[at:space]) if space > at else 0
        if not space < end <= len(content) or content[end - 1 : end] != b"\n":
            raise TarError("malformed pax record")
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise TarError("pax record without a value")
        records[key] = value
        at = end
    return records


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise TarError(f"malformed number {text[:20]!r}")
    return int(text)


def _number(field: bytes, at: int) -> int:
    """An octal field, or a binary one when the high bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40 or value >= 1 << 62:
            raise TarError(f"number out of range at byte {at}")
        return value
    text = field.strip(b" \0")
    if not text:
        return 0
    if any(digit not in b"01234567" for digit in text):
        raise TarError(f"malformed number at byte {at}")
    return int(text, 8)


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    # GNU's own format uses the prefix field for other things and marks itself by "ustar  "
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _checksum_right(header: bytes) -> bool:
    try:
        stored = _number(header[148:156], 0)
    except TarError:
        return False
    blanked = header[:148] + b" " * 8 + header[156:]
    # some old writers summed signed characters
    return stored in (sum(blanked), sum(byte - 256 if byte > 127 else byte for byte in blanked))
