"""CSV: one sample a line, numbers, and a column with the label (RFC 4180)."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from p2pml.formats.shards import MAX_CLASSES
from p2pml.training.datasets import base
from p2pml.training.datasets.base import (
    Dataset,
    DatasetError,
    Reading,
    make_shard,
    train_and_test,
    whole_bytes,
)
from p2pml.training.datasets.sources import Entry

MAX_LINE = 4 << 20
MAX_COLUMNS = 65_536
LABELS = ("label", "class", "target", "y")
"""Columns that hold the label where the job names none, in any case."""

_CHUNK_ROWS = 1024


def load(files: Sequence[Entry], reading: Reading, max_bytes: int) -> Dataset:
    """One or several files with the same columns; those with `test` in their names are the test set.

    A first line that is not numbers, or is 0, 1, 2 and so on, names the columns, in all files that have one
    in the same order. Labels are whole numbers from 0, or any texts, which are numbered in their order.

    Raises:
        DatasetError: lines of different lengths, files with different columns, a cell that is not a number,
            no label, or too large.
        OSError: a file cannot be read.
    """
    reading = replace(reading, scale=reading.scale_of(np.float32))  # a cell is a number, never a byte
    train, test = train_and_test(files, lambda entry: entry.name)
    table = _Table(reading, max_bytes)
    counts = tuple((entry.name, table.read(entry)) for entry in train)
    count = sum(samples for _, samples in counts)
    for entry in test:
        table.read(entry)
    if not count:
        raise DatasetError(f"{train[0].where} holds no samples")
    where = files[0].whole
    x = base.reshaped(whole_bytes(table.samples()), reading.shape, where)
    y = table.labels(where)
    rest = make_shard(x[count:], y[count:], reading.scale, where) if test else None
    return Dataset(make_shard(x[:count], y[:count], reading.scale, where), rest, counts)


@dataclass(slots=True)
class _Table:
    """The rows of all files, as they are read."""

    reading: Reading
    left: int
    columns: int | None = None
    _named: tuple[str, list[str]] | None = None  # the first file that names its columns, and their names
    _chunks: list[npt.NDArray[np.float32]] = field(default_factory=list)
    _rows: list[list[float]] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)  # label texts in the order of their appearance
    _labels: array[int] = field(default_factory=lambda: array("q"))

    def read(self, entry: Entry) -> int:
        """Add a file; returns how many samples it holds."""
        before = len(self._labels)
        try:
            with entry.open() as source:
                lines = _lines(source, entry)
                rows = csv.reader(lines, strict=True, delimiter="\t" if entry.name.endswith(".tsv") else ",")
                self._read(rows, entry)
        except csv.Error as error:
            raise DatasetError(f"{entry.where} is not CSV: {error}") from error
        self._flush()
        return len(self._labels) - before

    def samples(self) -> npt.NDArray[np.float32]:
        """[n, columns]."""
        chunks, self._chunks = self._chunks, []
        return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)

    def labels(self, where: str) -> npt.NDArray[np.int64]:
        """[n], numbered."""
        texts = list(self._numbers)
        numbers = self.reading.numbers or all(map(base.is_number, texts))
        order = base.numbered(texts, replace(self.reading, numbers=numbers), where)
        values = [order[text] for text in texts]
        return np.array(values, np.int64)[np.frombuffer(self._labels, np.int64)]

    def _read(self, rows: Iterator[list[str]], entry: Entry) -> None:
        first = next(rows, None)
        if not first:
            raise DatasetError(f"{entry.where} holds no samples")
        if len(first) > MAX_COLUMNS:
            raise DatasetError(f"{entry.where} has {len(first)} columns, at most {MAX_COLUMNS} are allowed")
        header = _is_header(first, self.reading.label)
        label = _label_column(first, header, self.reading.label, entry)
        if self.columns not in (None, len(first)):
            raise DatasetError(f"{entry.where} has {len(first)} columns, the file before it {self.columns}")
        self.columns = len(first)
        names = first if header else [str(number) for number in range(len(first))]
        if header:
            self._check_names(names[:label] + names[label + 1 :], entry.where)
        else:
            self._add(first, label, names, f"{entry.where}, line 1")
        for line, row in enumerate(rows, start=2):
            if row:  # an empty line says nothing
                self._add(row, label, names, f"{entry.where}, line {line}")

    def _check_names(self, names: list[str], where: str) -> None:
        """That the columns are those of the first file that names them: samples are told apart by place."""
        names = [_plain(name) for name in names]
        self._named = self._named or (where, names)
        for name, first in zip(names, self._named[1], strict=True):
            if name != first:
                raise DatasetError(
                    f"{where} has the column {name[:40]!r} where {self._named[0]} has {first[:40]!r}",
                    "give all files the same columns in the same order",
                )

    def _add(self, row: list[str], label: int, names: list[str], where: str) -> None:
        if len(row) != len(names):
            raise DatasetError(f"{where}: {len(row)} values where there are {len(names)} columns")
        self.left -= 4 * len(row) + 8
        base.check_size(max(0, -self.left), 0, where)
        text = row.pop(label).strip()
        if not text:
            raise DatasetError(f"{where}: the label is missing", "fill it in, or leave the line out")
        self._labels.append(self._numbers.setdefault(text, len(self._numbers)))
        if len(self._numbers) > MAX_CLASSES:
            raise DatasetError(f"{where}: more than {MAX_CLASSES} different labels", "set data.label")
        try:
            self._rows.append([float(cell) for cell in row])
        except ValueError:
            names = names[:label] + names[label + 1 :]
            name, cell = next(pair for pair in zip(names, row, strict=True) if not _is_number(pair[1]))
            raise DatasetError(
                f"{where}, column {name[:40]!r}: {cell[:40]!r} is not a number",
                "write numbers there, or leave the column out",
            ) from None
        if len(self._rows) == _CHUNK_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            with np.errstate(over="ignore"):  # what overflows is refused as not finite
                self._chunks.append(np.array(self._rows, np.float64).astype(np.float32))
            self._rows = []


def _lines(source: Iterator[bytes], entry: Entry) -> Iterator[str]:
    read = source.readline  # type: ignore[attr-defined]
    number = 0
    while line := read(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise DatasetError(f"{entry.where}, line {number}: longer than {MAX_LINE} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DatasetError(f"{entry.where}, line {number}: not UTF-8 text") from error


def _is_header(first: list[str], label: str | int | None) -> bool:
    """Whether a first line names the columns; a label's text alone does not make it one, but 0, 1, 2 and so
    on to its end do, which is how pandas writes columns without names."""
    if first == [str(number) for number in range(len(first))]:
        return True
    at = label if isinstance(label, int) and -len(first) <= label < len(first) else None
    cells = [cell for number, cell in enumerate(first) if at is None or number != at % len(first)]
    return not all(_is_number(cell) for cell in cells)


def _plain(name: str) -> str:
    """A column's name as it is compared."""
    return name.strip().lower()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _label_column(first: list[str], header: bool, label: str | int | None, entry: Entry) -> int:
    if isinstance(label, int) and -len(first) <= label < len(first):
        return label % len(first)
    if header and not isinstance(label, int):
        wanted = LABELS if label is None else (label.lower(),)
        names = [_plain(name) for name in first]
        for name in wanted:
            if name in names:
                return names.index(name)
    shown = ", ".join(name[:20] for name in first[:10]) if header else f"{len(first)}, without names"
    what = "a label" if label is None else repr(label)
    raise DatasetError(
        f"{entry.where} has no column {what}; its columns: {shown}",
        "set data.label to the name or the number of the label's column (0 is the first, -1 the last)",
    )
