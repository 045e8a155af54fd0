"""A job's log: numbered, bounded, and readable whatever happened to its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pml.storage.job_log import JobLog, LogLine, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def test_lines_are_numbered_and_have_their_time(path: Path) -> None:
    times = iter([1000.5, 1001.25])
    log = JobLog(path, lambda: next(times))
    log.write("round 1 begins")
    log.write("n1 left: no memory\nTraceback\nMemoryError")
    assert path.read_text().splitlines()[0] == "1 1970-01-01T00:16:40.500+00:00 round 1 begins"
    assert read(path) == [
        LogLine(1, 1000.5, "round 1 begins"),
        LogLine(2, 1001.25, "n1 left: no memory"),
        LogLine(3, 1001.25, "    Traceback"),
        LogLine(4, 1001.25, "    MemoryError"),
    ]
    assert [line.number for line in read(path, 3)] == [4]


def test_it_stays_below_its_bound_and_keeps_the_newest(path: Path) -> None:
    log = JobLog(path, lambda: 0.0, max_bytes=4000)
    largest = 0
    for number in range(1, 501):
        log.write(f"line {number}")
        largest = max(largest, path.stat().st_size)
    lines = read(path)
    assert largest <= 4000
    assert path.stat().st_size > 1500
    assert [line.number for line in lines] == list(range(lines[0].number, 501))
    assert all(line.text == f"line {line.number}" for line in lines)
    assert [item.name for item in path.parent.iterdir()] == ["log.txt"]


def test_a_line_of_any_length_is_cut(path: Path) -> None:
    JobLog(path).write("x" * 10_000)
    assert len(read(path)[0].text) == 500


def test_numbers_go_on_after_a_restart_and_a_torn_line_is_left_out(path: Path) -> None:
    JobLog(path, lambda: 0.0).write("before")
    with path.open("ab") as file:
        file.write(b"2 1970-01-0")
    log = JobLog(path, lambda: 0.0)
    log.write("next")
    log.write("after")
    assert [(line.number, line.text) for line in read(path)] == [
        (1, "before"),
        (2, "next"),
        (3, "after"),
    ]


def test_a_disk_that_refuses_costs_the_line_and_nothing_else(path: Path) -> None:
    path.mkdir()
    log = JobLog(path)
    log.write("lost")
    assert read(path) == []
    path.rmdir()
    log.write("kept")
    assert [(line.number, line.text) for line in read(path)] == [(1, "kept")]
