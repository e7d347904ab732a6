"""``.csv``: dialects, labels, and errors with their place."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstir.data import Dataset, inspect, load
from unstir.errors import UserError

RNG = np.random.default_rng(0)


def written(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def everything(dataset: Dataset) -> np.ndarray:
    return np.concatenate([dataset.train.x, dataset.heldout.x])


def same_rows(a: np.ndarray, b: np.ndarray) -> bool:
    return sorted(row.tobytes() for row in a) == sorted(row.tobytes() for row in b)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_numbers_come_back_whatever_the_dialect(tmp_path: Path, delimiter: str, header: bool, ending: str) -> None:
    x = RNG.normal(size=(30, 3)).astype(np.float32)
    lines = [delimiter.join(map(repr, map(float, row))) for row in x]
    if header:
        lines.insert(0, delimiter.join(["width", '"height, cm"', "depth"]))
    dataset = load(written(tmp_path, ending.join(lines)))
    assert (dataset.spec.kind, dataset.spec.shape, dataset.spec.classes) == ("points", (3,), ())
    assert same_rows(everything(dataset), x)


@given(st.lists(st.tuples(*[st.floats(width=32, allow_nan=False, allow_infinity=False)] * 2), min_size=2, max_size=20))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_finite_number_survives(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float]]
) -> None:
    path = tmp_path_factory.mktemp("table") / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("a", "b"), *rows])
    found = load(path)
    assert found.spec.kind == ("bits" if np.isin(rows, (0, 1)).all() else "points")
    assert same_rows(everything(found).astype(np.float32) + 0.0, np.array(rows, np.float32) + 0.0)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas_are_read_where_commas_separate_nothing(tmp_path: Path, delimiter: str) -> None:
    x = np.array([[1.5, -2.25], [0.125, 3e5], [7, 8], [9, 1.5]], np.float32)
    text = "\n".join(delimiter.join(repr(float(v)).replace(".", ",") for v in row) for row in x)
    assert same_rows(everything(load(written(tmp_path, text))), x)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, encoding: str) -> None:
    text = "label\tx\nä\t1.5\nö\t2.5\nä\t3.5\nö\t4.5\n"
    assert load(written(tmp_path, text.encode(encoding))).spec.classes == ("ä", "ö")


def test_what_numpy_and_pandas_write_is_read(tmp_path: Path) -> None:
    x = RNG.normal(size=(20, 2)).astype(np.float32)
    np.savetxt(tmp_path / "a.csv", x, delimiter=",", header="x,y", fmt="%.9g")
    assert same_rows(everything(load(tmp_path / "a.csv")), x)
    lines = [",x,y", *(f"{i},{a!r},{b!r}" for i, (a, b) in enumerate(x.tolist()))]
    dataset = load(written(tmp_path, "\n".join(lines)))
    assert same_rows(everything(dataset), x)
    assert dataset.log[0] == "the first column has no name and counts the rows: left out"


@pytest.mark.parametrize("name", ["label", "Class", "TARGET", "y"])
@pytest.mark.parametrize(("values", "classes"), [("ab", ("a", "b")), ("01", ("0", "1")), ("37", ("3", "7"))])
def test_a_column_of_that_name_holds_the_labels(tmp_path: Path, name: str, values: str, classes: tuple) -> None:
    x = RNG.normal(size=(24, 2)).astype(np.float32)
    kinds = [values[i % 2] for i in range(24)]
    lines = [f"a,{name},b", *(f"{float(p)!r},{k},{float(q)!r}" for (p, q), k in zip(x, kinds))]
    dataset = load(written(tmp_path, "\n".join(lines)))
    assert dataset.spec.classes == classes
    assert dataset.spec.shape == (2,)
    assert f"labels taken from the column {name!r}" in dataset.log
    for split in (dataset.train, dataset.heldout):
        for row, label in zip(split.x, split.labels):
            assert classes[label] == kinds[int(np.flatnonzero((x == row).all(1))[0])]


def test_x_and_y_are_coordinates(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, "x,y\n1,2\n3,4\n5,6\n"))
    assert (dataset.spec.shape, dataset.spec.classes) == ((2,), ())
    dataset = load(written(tmp_path, "height,y\n1,2.5\n3,4\n5,6\n"))  # a measured quantity, not a class
    assert (dataset.spec.shape, dataset.spec.classes) == ((2,), ())


def test_all_zeros_and_ones_are_bits_unless_one_column_is_not(tmp_path: Path) -> None:
    bits = list(itertools.product([0, 1], repeat=4))
    dataset = load(written(tmp_path, "\n".join(",".join(map(str, row)) for row in bits)))
    assert (dataset.spec.kind, dataset.spec.shape, dataset.train.x.dtype) == ("bits", (4,), np.bool_)
    assert same_rows(everything(dataset), np.array(bits, np.bool_))
    assert "every value is 0 or 1: taken as bits; save a .npy of floats to have points" in dataset.log
    text = "\n".join(",".join(map(str, [*row, "0.5"])) for row in bits)
    assert load(written(tmp_path, text)).spec.kind == "points"
    labelled = "\n".join(["a,b,c,d,label", *(",".join(map(str, [*row, i % 3])) for i, row in enumerate(bits))])
    dataset = load(written(tmp_path, labelled))
    assert (dataset.spec.kind, dataset.spec.shape, dataset.spec.classes) == ("bits", (4,), ("0", "1", "2"))


def write_table(path: Path, rows: np.ndarray, fmt: str, header: str = "") -> Path:
    np.savetxt(path, rows, fmt=fmt, delimiter=",", header=header)
    return path


@pytest.mark.parametrize("header", ["", "a,b,c,d", "label,b,c,d"])
def test_few_whole_numbers_are_the_symbols_that_a_npy_of_them_holds(tmp_path: Path, header: str) -> None:
    rows = RNG.integers(0, 5, (40, 4))
    rows[0] = 4
    table = load(write_table(tmp_path / "a.csv", rows, "%d", header))
    first = 1 if header.startswith("label") else 0
    np.savez(tmp_path / "a.npz", rows[:, first:], *([rows[:, 0]] if first else []))
    array = load(tmp_path / "a.npz")
    assert (table.spec.kind, table.spec.symbols, table.spec.shape) == ("symbols", 5, (4 - first,))
    assert (table.spec.kind, table.spec.hash) == (array.spec.kind, array.spec.hash)
    assert (
        "whole numbers 0 … 4 in every column: read as symbols, which have no order; write them with a decimal point"
        in (" ".join(table.log))
    )


def test_rows_of_symbols_that_repeat_are_one_line_in_the_inspection(tmp_path: Path) -> None:
    rows = np.repeat(np.arange(10)[:, None] % [2, 3, 7], 30, axis=0)
    found = inspect(write_table(tmp_path / "a.csv", rows, "%d"))
    assert found.survey.duplicates == []
    assert sum("10 different rows among 300" in line for line in found.dataset.log) == 1


def test_whole_numbers_with_a_decimal_point_are_points(tmp_path: Path) -> None:
    rows = RNG.integers(0, 5, (40, 4))
    for fmt in ("%.1f", "%.18e"):
        dataset = load(write_table(tmp_path / "a.csv", rows, fmt))
        assert dataset.spec.kind == "points"
        assert "write them without a decimal point to have symbols" in " ".join(dataset.log)
        assert same_rows(everything(dataset), rows.astype(np.float32))


@pytest.mark.parametrize(
    ("highest", "kind", "said"),
    [
        (31, "symbols", "to have points"),
        (32, "points", "save a .npy"),
        (255, "points", "save a .npy"),
        (256, "points", ""),
    ],
)
def test_many_whole_numbers_are_measurements(tmp_path: Path, highest: int, kind: str, said: str) -> None:
    rows = np.array([[0, 3], [5, 1], [highest, 2]])
    dataset = load(write_table(tmp_path / "a.csv", rows, "%d"))
    assert dataset.spec.kind == kind
    assert said in " ".join(dataset.log)
    assert ("whole numbers" in " ".join(dataset.log)) == (highest < 256)
    assert same_rows(everything(dataset).astype(np.float32), rows.astype(np.float32))


@pytest.mark.parametrize("text", ["1,2\n-3,4\n", "1,2\n3,0.5\n", "x,y\n1,2\n3,4\n", "n,x,Y\n0,1,2\n0,3,4\n"])
def test_negative_numbers_fractions_and_coordinates_are_points(tmp_path: Path, text: str) -> None:
    dataset = load(written(tmp_path, text))
    assert dataset.spec.kind == "points"
    # Where symbols were never possible, nothing is said of them.
    assert ("symbols" in " ".join(dataset.log)) == ("x" in text)


def test_empty_lines_are_passed_over(tmp_path: Path) -> None:
    assert len(everything(load(written(tmp_path, "\na,b\n\n1,2\n  \n3,4\n,\n5,6\n\n")))) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "no numbers in it, only the line 'a, b'"),
        ("a,b\n1,2\n3,\n", r"row 3, column 2 \(b\): the value is missing; fill it in or remove the row"),
        ("a,b\n1,2\nNaN,4\n", r"row 3, column 1 \(a\): the value is missing"),
        ("1,2\n3,?\n", "row 2, column 2: the value is missing"),
        ("a,b\n\n1,2\n\n3,four\n", r"row 5, column 2 \(b\): 'four' is not a number"),
        ("1,2,cat\n3,4,dog\n", "row 1, column 3: 'cat' is not a number; class names need a first line"),
        ("a,b\n1,2\n3,inf\n", r"row 3, column 2 \(b\): inf is not finite"),
        ("a,b\n1,2\n3,4,5\n", "row 3 has 3 fields where row 1 has 2"),
        ("1;2\n3\n", "row 2 has 1 fields where row 1 has 2"),
        ("1,2\n3,1e39\n", "1 values are infinite or not a number"),
        ("a;b\n1;1.234,5\n", r"row 2, column 2 \(b\): '1.234,5' is not a number"),
        ("label,a\n,1\nb,2\n", r"row 2, column 1 \(label\): the label is missing"),
        ("label,a\n1,1\n1.5,2\n", r"row 3, column 1 \(label\): labels are whole numbers or names, not 1.5"),
        ("label,class,a\n1,1,2\n", "the columns label and class could both be the labels"),
        ("label\n1\n2\n", "no columns of numbers beside the labels"),
        ('a,b\n1,"2\n3,4\n', "a number|unexpected end|fields"),
        ("1 2\n3 4\n", "no numbers in it|not a number"),
        (b"a,b\n1,\xff\n", "not utf-8 text .byte 6.; save it as UTF-8"),
        (b"1,2\n\0,4\n", "not text"),
        (b"\xff\xfe1", "not utf-16 text"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(written(tmp_path, text))
    assert "a.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
