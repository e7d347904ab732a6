"""``.csv``: a table of points, bits or symbols, one a row.

- Fields are separated by semicolons, tabs or commas: by the first of these that the first line holds outside quotes. Where
  they are not commas, a comma in a number is its decimal point.
- The first line names the columns if none of its fields is a number.
- A column called label, class, target or y (in any case) holds the labels; y only where no column is called x, and where its
  values are whole numbers or names.
- Where every value of every other column is 0 or 1, the rows are bits.
- Where every value is a whole number from 0 and at most 31, written without a decimal point, the rows are symbols, as those of
  a whole-number ``.npy`` are. A ``.npy`` says by its type that its numbers are whole, up to 255; text does not, and a table of
  ages or pixels is whole too: hence the lower limit, and a sentence in the log wherever it could have been the other.
- All else is points, and so are whole coordinates, columns called x and y.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unstir.data.raw import Source, Values, index_labels
from unstir.data.rows import LARGEST_ALPHABET, interpret
from unstir.errors import UserError

_LABEL_NAMES = ("label", "labels", "class", "target", "y")
_MISSING = {"", "na", "n/a", "nan", "null", "none", "nil", "missing", "?", "-"}
_FEW = 32  # symbols, above which whole numbers in a table are more likely measured than spelled


def table_source(path: Path) -> Source:
    """The points, bits or symbols of a ``.csv`` file."""
    return Source({path.name: path}, lambda: _read(path))


@dataclass(frozen=True)
class Table:
    """Fields as text, with the line of the file each row ends in."""

    path: Path
    names: list[str] | None
    rows: list[list[str]]
    lines: list[int]
    decimal_comma: bool

    def place(self, row: int, column: int) -> str:
        name = f" ({self.names[column]})" if self.names and self.names[column] else ""
        return f"{self.path}: row {self.lines[row]}, column {column + 1}{name}"

    def number(self, field: str) -> float:
        """The number a field holds; NaN where it holds none."""
        try:
            return float(field.replace(",", ".") if self.decimal_comma and "." not in field else field)
        except ValueError:
            return math.nan

    def column(self, column: int) -> np.ndarray:
        """A column of finite numbers.

        Raises:
            UserError: for the first field that holds none, with its place.
        """
        values = np.array([self.number(row[column]) for row in self.rows])
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            field, place = self.rows[wrong[0]][column].strip(), self.place(int(wrong[0]), column)
            if field.lower() in _MISSING:
                raise UserError(f"{place}: the value is missing; fill it in or remove the row")
            if math.isinf(values[wrong[0]]):
                raise UserError(f"{place}: {field} is not finite; correct it or remove the row")
            hint = "" if self.names else "; class names need a first line that calls their column label"
            raise UserError(f"{place}: {field[:40]!r} is not a number{hint}")
        return values


def _read(path: Path) -> Values:
    table = parse(path)
    columns = list(range(len(table.rows[0])))
    log = []
    if counts_rows(table):
        log.append("the first column has no name and counts the rows: left out")
        columns = columns[1:]
    labels, classes, column = _labels(table, columns, log)
    columns = [i for i in columns if i != column]
    if not columns:
        raise UserError(f"{path}: there are no columns of numbers beside the labels")
    x = np.stack([table.column(i) for i in columns], axis=1)
    if np.isin(x, (0, 1)).all():
        log.append("every value is 0 or 1: taken as bits; save a .npy of floats to have points")
        return Values("bits", x.astype(np.bool_), labels, classes, log)
    if _spelled(table, x, columns, log):
        return Values("symbols", x.astype(np.uint8), labels, classes, log, symbols=int(x.max()) + 1)
    return interpret(x, labels, classes, path.name, log)


def parse(path: Path) -> Table:
    """The fields of a ``.csv``, each row as long as the first; the first names the columns where none of it is a number."""
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    unquoted = re.sub(r'"[^"]*"', "", first)
    delimiter = next((mark for mark in ";\t," if mark in unquoted), ",")
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t")
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}: row {reader.line_num} cannot be read as CSV ({error})") from error
    if not rows:
        raise UserError(f"{path}: the file is empty")
    rows[0][0] = rows[0][0].removeprefix("#").strip()  # as numpy.savetxt writes a header
    for row, line in zip(rows, lines):
        if len(row) != len(rows[0]):
            raise UserError(f"{path}: row {line} has {len(row)} fields where row {lines[0]} has {len(rows[0])}")
    table = Table(path, None, rows, lines, delimiter != ",")
    if any(math.isfinite(table.number(field)) for field in rows[0]):
        return table
    names = [field.strip() for field in rows[0]]
    if len(rows) == 1:
        raise UserError(f"{path}: no numbers in it, only the line {', '.join(names)[:60]!r}")
    return Table(path, names, rows[1:], lines[1:], delimiter != ",")


def _text(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"  # both as spreadsheets save them
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not {encoding[:6].rstrip('-')} text (byte {error.start:,}); save it as UTF-8"
        ) from error
    if "\0" in text:
        raise UserError(f"{path}: not text; a .csv holds lines of numbers")
    return text


def _spelled(table: Table, x: np.ndarray, columns: list[int], log: list[str]) -> bool:
    """Whether these columns, of values x, are symbols; the log says what was decided, and how to have the other."""
    highest = x.max()
    if (x != np.round(x)).any() or x.min() < 0 or highest >= LARGEST_ALPHABET:
        return False
    found = f"whole numbers 0 … {highest:.0f} in every column"
    if not all(row[i].strip().isdecimal() for row in table.rows for i in columns):
        log.append(
            f"{found}, not all written as such: read as points; write them without a decimal point to have symbols"
        )
        return False
    if {"x", "y"} <= {(table.names or [])[i].lower() for i in columns if table.names}:
        log.append(f"{found}, of which two are called x and y: read as points; rename them to have symbols")
        return False
    if highest >= _FEW:
        log.append(f"{found}: read as points; for an alphabet of so many symbols save a .npy of whole numbers")
        return False
    log.append(f"{found}: read as symbols, which have no order; write them with a decimal point to have points")
    return True


def counts_rows(table: Table) -> bool:
    """Whether the first column is the index that pandas writes."""
    if not table.names or table.names[0].lower() not in ("", "unnamed: 0") or len(table.names) == 1:
        return False
    return [row[0].strip() for row in table.rows] == [str(i) for i in range(len(table.rows))]


def _labels(table: Table, columns: list[int], log: list[str]) -> tuple[np.ndarray | None, tuple[str, ...], int | None]:
    """Labels, class names and the column they come from."""
    names = [name.lower() for name in table.names or ()]
    chosen = [i for i in columns if names and names[i] in _LABEL_NAMES and not (names[i] == "y" and "x" in names)]
    chosen = [i for i in chosen if names[i] != "y" or not _fractional(table, i)]
    if not chosen:
        return None, (), None
    if len(chosen) > 1:
        both = " and ".join((table.names or [])[i] for i in chosen[:2])
        raise UserError(f"{table.path}: the columns {both} could both be the labels; rename one")
    column = chosen[0]
    fields = [row[column].strip() for row in table.rows]
    for i, field in enumerate(fields):
        if field.lower() in _MISSING:
            raise UserError(f"{table.place(i, column)}: the label is missing; fill it in or remove the row")
    numbers = np.array([table.number(field) for field in fields])
    if np.isfinite(numbers).all():
        wrong = np.flatnonzero((numbers != np.round(numbers)) | (np.abs(numbers) > 2**53))
        if len(wrong):
            place = table.place(int(wrong[0]), column)
            raise UserError(f"{place}: labels are whole numbers or names, not {fields[wrong[0]]}; rename the column")
        values = numbers.astype(np.int64)
    else:
        values = np.array(fields)
    log.append(f"labels taken from the column {(table.names or [])[column]!r}")
    return *index_labels(values, table.path.name), column


def _fractional(table: Table, column: int) -> bool:
    numbers = np.array([table.number(row[column]) for row in table.rows])
    return bool((np.isfinite(numbers) & (numbers != np.round(numbers))).any())
