"""CSV: headers, labels, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pml.training.dataset import Reading
from p2pml.training.datasets import table
from tests.training.test_dataset_formats import load, refused


def test_csv_labels_and_headers(tmp_path: Path) -> None:
    def read(text: str, label: str | int | None = None) -> tuple[list[list[float]], list[int]]:
        loaded = load(tmp_path, {"d.csv": text.encode()}, Reading(label=label)).train
        return loaded.x.tolist(), loaded.y.tolist()

    assert read("a,Class\n0.5,1\n-2,0\n") == ([[0.5], [-2.0]], [1, 0])
    assert read('a,kind\r\n1.5,"rose, red"\r\n2,aster\r\n', "kind") == ([[1.5], [2.0]], [1, 0])
    assert read("5.1,3.5,setosa\n6.2,2.9,other\n\n", -1)[1] == [1, 0]
    assert read("7,0.5\n3,0.25\n", 0) == ([[0.5], [0.25]], [7, 3])
    assert read("\ufefflabel,a\n1,0.5\n", None) == ([[0.5]], [1])
    tsv = load(tmp_path, {"d.tsv": b"label\ta\n1\t0.5\n"})
    assert tsv.train.y.tolist() == [1]
    both = load(tmp_path, {"train.csv": b"label,a\nx,0.5\ny,1\n", "test.csv": b"label,a\ny,0.5\n"})
    assert both.test is not None
    assert (both.train.y.tolist(), both.test.y.tolist()) == ([0, 1], [1])


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        (b"a,b\n1,2\n", None, "no column a label; its columns: a, b | set data.label"),
        (b"1,2\n3,4\n", None, "its columns: 2, without names | set data.label"),
        (b"a,b\n1,2\n", "c", "no column 'c'"),
        (b"a,b\n1,2\n", 2, "no column 2"),
        (b"label,a\n1,2\n1\n", None, "line 3: 1 values where there are 2 columns"),
        (b"label,a\n1,red\n", None, "line 2, column 'a': 'red' is not a number | write numbers"),
        (b"label,a\nred,1\n ,2\n", None, "d.csv, line 3: the label is missing | fill it in"),
        (b"a,b\n1,\n", -1, "d.csv, line 2: the label is missing"),
        (b"label,a\n1,nan\n", None, "not finite"),
        (b"label,a\n1,1e999\n", None, "not finite"),
        (b"label,a\n1,\xff\n", None, "line 2: not UTF-8"),
        (b"label,a\n", None, "no samples"),
        (b"", None, "no samples"),
        (b'label,a\n1,"2\n', None, "is not CSV"),
        (b"label" + b",a" * 70_000, None, "70001 columns, at most"),
        (b"label,a\n-1,0.5\nx,2\n-1,3", 5, "no column 5"),
    ],
)
def test_csv_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, text: bytes, label: str | int | None, message: str
) -> None:
    assert message in refused(tmp_path, {"d.csv": text}, Reading(label=label))


def test_a_csv_line_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_LINE", 100)
    assert "longer than 100 bytes" in refused(tmp_path, {"d.csv": b"label,a\n1," + b"1" * 200})


def test_files_whose_columns_differ_are_refused(tmp_path: Path) -> None:
    first = {"clinic-a.csv": b"age,pressure,label\n0.5,80,0\n"}
    swapped = b"label,pressure,age\n1,90,0.25\n"
    for name in ("clinic-b.csv", "test/clinic-b.csv"):  # to evaluate on is no better than to train on
        why = refused(tmp_path, {**first, name: swapped})
        assert f"{name} has the column 'pressure' where t.tar:clinic-a.csv has 'age'" in why
        assert "the same columns in the same order" in why
    # The label's place is each file's own, and how a name is written does not matter.
    moved = {**first, "clinic-b.csv": b"label, Age,PRESSURE \n1,0.25,90\n"}
    loaded = load(tmp_path, moved).train
    assert (loaded.x.tolist(), loaded.y.tolist()) == ([[0.5, 80], [0.25, 90]], [0, 1])
    # As `split` leaves a long file: names in its first part only.
    parts = {"a.csv": b"age,pressure,label\n0.5,80,0\n", "b.csv": b"0.25,90,1\n"}
    assert load(tmp_path, parts, Reading(label=-1)).train.x.tolist() == [[0.5, 80], [0.25, 90]]
    late = {**parts, "c.csv": swapped}
    assert "c.csv has the column 'label' where t.tar:a.csv has 'age'" in refused(
        tmp_path, late, Reading(label=-1)
    )


def test_columns_that_are_named_by_their_numbers(tmp_path: Path) -> None:
    """`pandas.DataFrame(x).to_csv(index=False)` writes such a first line; it is no sample."""
    loaded = load(tmp_path, {"d.csv": b"0,1,2\n0.5,0.25,1\n2,3,0\n"}, Reading(label=-1)).train
    assert (loaded.x.tolist(), loaded.y.tolist()) == ([[0.5, 0.25], [2.0, 3.0]], [1, 0])
    by_name = load(tmp_path, {"d.csv": b"0,1,2\n0.5,0.25,1\n2,3,0\n"}, Reading(label="0")).train
    assert by_name.x.tolist() == [[0.25, 1.0], [3.0, 0.0]]
    for other in (b"0,1,3\n", b"1,2,3\n", b"0.0,1,2\n"):  # samples like any other
        assert len(load(tmp_path, {"d.csv": other + b"2,3,0\n"}, Reading(label=-1)).train) == 2
