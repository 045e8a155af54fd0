"""The tables of `metainfo_cases`: each hostile file is refused for its own reason, each odd one taken."""

from __future__ import annotations

import pytest

from tests.torrent.metainfo_cases import HOSTILE, ODD, Case
from torrent.errors import RemoteError
from torrent.metainfo import Metainfo


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_refused_with_its_reason(case: Case) -> None:
    with pytest.raises(RemoteError, match=case.reason):
        Metainfo.parse(case.data)


@pytest.mark.parametrize(("name", "data"), ODD, ids=[name for name, _ in ODD])
def test_odd_but_right(name: str, data: bytes) -> None:
    parsed = Metainfo.parse(data)
    assert parsed.content_length > 0
    assert sum(file.length for file in parsed.files) == parsed.total_length


def test_the_tables_are_as_long_as_they_claim() -> None:
    assert len({case.name for case in HOSTILE}) == len(HOSTILE) >= 100
    assert len({name for name, _ in ODD}) == len(ODD) >= 30
    assert all(case.reason for case in HOSTILE)
