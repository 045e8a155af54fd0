"""The job journal: what was appended is read back, and a torn tail costs only itself."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pml.storage.journal import Journal, JournalError, read, write_atomic


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "job" / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("open", job="00")
        journal.append("round", number=0, chosen=[[0, "a"]])
        journal.append("round", number=1)
    with Journal(path) as journal:
        assert [entry["kind"] for entry in journal.entries] == ["open", "round", "round"]
        last = journal.last("round")
        assert last is not None
        assert last["number"] == 1
        assert [entry["number"] for entry in journal.all("round")] == [0, 1]
        assert journal.last("nothing") is None
    assert len(read(path)) == 3


def test_every_torn_tail_is_cut_off(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with Journal(whole) as journal:
        journal.append("one", text="ä")
        first = whole.stat().st_size
        journal.append("two", value=2)
    data = whole.read_bytes()
    for cut in range(first, len(data)):
        torn = tmp_path / "torn"
        torn.write_bytes(data[:cut])
        with Journal(torn) as journal:
            assert [entry["kind"] for entry in journal.entries] == ["one"]
            journal.append("three")
        assert [entry["kind"] for entry in read(torn)] == ["one", "three"]


def test_garbage_at_the_end_is_cut_off_and_before_it_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"kind":"one"}\n\x00\x00\x00\n')
    assert [entry["kind"] for entry in read(path)] == ["one"]
    path.write_bytes(b'{"kind":"one"}\nrubbish\n{"kind":"two"}\n')
    with pytest.raises(JournalError, match="line 2") as caught:
        read(path)
    assert caught.value.line == 2


def test_no_file_is_an_empty_journal(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing") == []


def test_what_is_not_json_is_refused_and_not_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        with pytest.raises(ValueError, match="JSON compliant"):
            journal.append("loss", value=float("nan"))
        assert (tmp_path / "journal").stat().st_size == 0


def test_a_disk_that_is_full_in_the_middle_of_an_entry_costs_only_that_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    write = os.write
    with Journal(path) as journal:
        journal.append("n", n=0)

        def full(handle: int, data: bytes) -> int:
            if len(data) < 8:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(handle, data[:-7])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                journal.append("n", n=1)
        journal.append("n", n=2)
        assert [entry["n"] for entry in journal.entries] == [0, 2]
    assert [entry["n"] for entry in read(path)] == [0, 2]


def test_atomic_write_replaces_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.slow
def test_entries_that_were_reported_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    program = (
        "import sys; from pathlib import Path; from p2pml.storage.journal import Journal\n"
        "j = Journal(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n j.append('n', n=n)\n print(n, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    reported = -1
    for line in child.stdout:
        reported = int(line)
        if reported >= 20:
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    child.wait()
    numbers = [entry["n"] for entry in read(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > reported
