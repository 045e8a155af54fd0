"""The tar index against archives made by the standard library, and against damage."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrent.errors import TarError
from torrent.tar import Member, index_tar, is_tar

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def archive(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, links: bool = False) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        if links:
            for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
                extra = tarfile.TarInfo(f"special{kind.decode()}")
                extra.type, extra.linkname = kind, "elsewhere"
                tar.addfile(extra)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def index(data: bytes) -> tuple[Member, ...]:
    return tuple(index_tar(lambda offset, length: data[offset : offset + length], len(data)))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("links", [False, True])
def test_members_and_their_bytes(form: int, links: bool) -> None:
    files = {
        "a.txt": b"hello",
        "empty": b"",
        "dir/b": bytes(range(256)) * 3,
        "d" * 60 + "/" + "f" * 80: b"x" * 512,
    }
    data = archive(files, form, links)
    members = index(data)
    assert {m.name: data[m.offset : m.offset + m.size] for m in members} == files
    assert is_tar(data[:512])


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(form: int) -> None:
    files = {"x" * 300: b"1", "ü/é" * 60: b"22", "z": b"333"}
    data = archive(files, form)
    assert {m.name: data[m.offset : m.offset + m.size] for m in index(data)} == files


@given(
    st.dictionaries(
        st.text(
            st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]),
            min_size=1,
            max_size=120,
        )
        .map(lambda text: text.strip("/"))
        .filter(bool),
        st.binary(max_size=700),
        max_size=4,
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_agrees_with_the_standard_library(files: dict[str, bytes], form: int) -> None:
    data = archive(files, form)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        theirs = [(info.name, info.offset_data, info.size) for info in tar if info.isreg()]
    if files:
        assert [(m.name, m.offset, m.size) for m in index(data)] == theirs


def test_a_size_in_binary() -> None:
    info = tarfile.TarInfo("big")
    info.size = 1 << 40
    header = info.tobuf(tarfile.GNU_FORMAT)
    total = len(header) + info.size
    (member,) = index_tar(lambda at, length: header[at : at + length] if at < 512 else bytes(length), total)
    assert member == Member("big", 512, 1 << 40)


def spoil(data: bytes, at: int, patch: bytes, mend: bool = True) -> bytes:
    """Overwrite bytes of the first header and, when ``mend``, put its checksum right again."""
    header = bytearray(data[:512])
    header[at : at + len(patch)] = patch
    if mend:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


GOOD = archive({"a": b"x" * 600, "b": b"y"}, tarfile.USTAR_FORMAT)
PAX = archive({"ä": b"x"}, tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 511,
        bytes(10_240),
        b"not a tar archive".ljust(2048, b"!"),
        spoil(GOOD, 0, b"Z", mend=False),
        spoil(GOOD, 124, b"7" * 11),
        spoil(GOOD, 124, b"99999999999"),
        spoil(GOOD, 124, b"\xff" * 12),
        spoil(GOOD, 124, b"\x80" + b"\xff" * 11),
        spoil(GOOD, 156, b"S"),
        spoil(GOOD, 156, b"x"),
        GOOD[: 512 + 300],
        spoil(PAX, 124, b"00010000000\0"),
        PAX[:512] + b"9999 path=x\n".ljust(512, b"\0") + PAX[1024:],
        PAX[:512] + b"-5 path=x\n".ljust(512, b"\0") + PAX[1024:],
        PAX[:512] + b"x path=x\n".ljust(512, b"\0") + PAX[1024:],
        PAX[:512] + b"9 pathxx\n".ljust(512, b"\0") + PAX[1024:],
        PAX[:512] + b"12 size=1_0\n".ljust(512, b"\0") + PAX[1024:],
        PAX[:512] + b"22 GNU.sparse.major=1\n".ljust(512, b"\0") + PAX[1024:],
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(TarError):
        index(data)


@given(st.sampled_from([GOOD, PAX]), st.integers(0, 2047), st.binary(min_size=1, max_size=12), st.booleans())
def test_fuzz_only_tar_errors_escape(data: bytes, at: int, patch: bytes, mend: bool) -> None:
    damaged = spoil(data, at % 500, patch, mend) if at < 512 else data[:at] + patch + data[at + len(patch) :]
    try:
        members = index(damaged)
    except TarError:
        return
    assert all(m.offset + m.size <= len(damaged) for m in members)
