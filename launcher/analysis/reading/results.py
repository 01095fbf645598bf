"""Reads any results.csv honestly: what is there is kept, what is odd is repaired, and each repair is told.

What writers left behind, seen or read in Ultralytics' source, and what becomes of it here:

- headers padded with blanks, columns in any order, YOLOv5's names, 3 or 8 lr columns: columns go by name;
- a line cut short by a kill: left out. Without its line end the last number may be cut, too: it counts as missing;
- an epoch written again by a resumed process: the last row counts, and rows of epochs after it that are older are
  left out, because training went back to before them;
- `time` is cumulative within one process: the seconds of an epoch are its difference, or the value itself after a
  restart;
- zeros in all metrics and validation losses, where validation was off: they count as missing;
- epochs counted from 0 (versions before 8.1), blocks of NUL bytes (a power cut), other encodings, a byte order mark.
"""

from __future__ import annotations

import codecs
import heapq
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.analysis.reading.view import Repair, Results, Series
from launcher.errors import DataError, NotFoundError, Problem

EPOCH_LIMIT = 100_000  # a number above is no epoch: two lines that grew together look like that
GREATEST = 1e30  # a loss beyond it is as good as infinite, and sums of squares of what is below it still are numbers
SIZE_LIMIT = 256 << 20  # bytes; a results.csv of 100,000 epochs has 20 MB
OTHER_NAMES = {  # YOLOv5's; its obj_loss has no equivalent and keeps its name
    "metrics/precision": "metrics/precision(B)",
    "metrics/recall": "metrics/recall(B)",
    "metrics/mAP_0.5": "metrics/mAP50(B)",
    "metrics/mAP_0.5:0.95": "metrics/mAP50-95(B)",
    **{f"x/lr{index}": f"lr/pg{index}" for index in range(8)},
}
_FAMILIES = ("train/", "val/", "metrics/", "lr/")
_Line = tuple[str, dict[str, float]]
_NUMBERS = re.compile(r"[-+\d.eE, ]*")
_LINE = re.compile(r"\r\n|\r|\n")
_NOT_A_NUMBER = frozenset({"nan", "+nan", "-nan", "inf", "+inf", "-inf", "infinity", "-infinity", "none", "null"})
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_results(source: Path | str | bytes) -> Results:
    """The table in a file, or in the bytes of one. Raises NotFoundError for no file, DataError for no table in it.

    Whatever else is wrong with it is repaired, and `Results.repairs` says how.
    """
    file = None if isinstance(source, bytes) else Path(source)
    data = source if isinstance(source, bytes) else _bytes(Path(source))
    told = _Told()
    lines, names = _rows(_text(data, told), told)
    if names is None:
        remedy = "name a results.csv of Ultralytics, or the folder that it lies in"
        raise DataError([Problem("holds no table of epochs", str(file) if file else None, remedy=remedy)])
    rows, rewritten = _once_each(_counted(lines, told), told)
    restarts = _laps(rows, rewritten, told)
    epochs = tuple(row.epoch for row in rows)
    columns = _columns(names, _validated([row.values for row in rows], told))
    missing = tuple(sorted(set(range(epochs[0], epochs[-1])) - set(epochs))) if epochs else ()
    if missing:
        told.add("missing-epochs", f"no row for {_some(missing)}", len(missing))
    if epochs and epochs[0] > 1:
        told.add("late-start", f"the first row is of epoch {epochs[0]}: a resumed run whose earlier table is not here")
    seconds = tuple(row.seconds for row in rows)
    return Results(epochs, columns, seconds, restarts, missing, rewritten, told.repairs())


class _Told:
    """What was repaired: each code once, with how often."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def add(self, code: str, text: str, count: int = 1) -> None:
        """Another case; the first text of a code is the one shown."""
        self._texts.setdefault(code, text)
        self._counts[code] += count

    def repairs(self) -> tuple[Repair, ...]:
        """In the order in which they were met."""
        return tuple(Repair(code, text, self._counts[code]) for code, text in self._texts.items())


@dataclass
class _Row:
    """One line. `key` is its text, to know the same line again; `values` by column."""

    epoch: int
    key: str
    values: Mapping[str, float]
    seconds: float = field(default=math.nan)


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > SIZE_LIMIT:
            raise DataError([Problem(f"is larger than {SIZE_LIMIT >> 20} MB: no results.csv", str(file))])
        return file.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {file}") from None
    except OSError as error:
        raise NotFoundError(f"{file} cannot be read: {error.strerror}") from error


def _text(data: bytes, told: _Told) -> str:
    """Decoded; a character cut in two at the end is left out."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            if encoding != "utf-8":
                told.add("encoding", f"the file is in {encoding.upper()[:6]}, not UTF-8")
            return _without_nuls(data[len(mark) :].decode(encoding, "ignore"), told)
    if data[1:2] == b"\0" and data[:1].isascii() and data[:1] != b"\0":
        told.add("encoding", "the file is in UTF-16 without a byte order mark")
        return _without_nuls(data.decode("utf-16-le", "ignore"), told)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        told.add("encoding", "the file is not UTF-8; read byte by byte (Latin-1)")
        text = data.decode("latin-1")
    return _without_nuls(text, told)


def _without_nuls(text: str, told: _Told) -> str:
    """NULs end a line, and spoil the values that they touch: they stand where a block was never written."""
    if "\0" not in text:
        return text
    told.add("nul-bytes", "zero bytes in the text, as after a power cut: what they touch is left out", text.count("\0"))
    return re.sub("\0+", "\ufffd\n\ufffd", text)


def _rows(text: str, told: _Told) -> tuple[list[_Line], list[str] | None]:
    """Every whole line as its text and its values by name, and all names in their order.

    No names at all is no table.
    """
    lines = _LINE.split(text)
    ended = not lines[-1].strip()
    found: list[_Line] = []
    names: list[str] | None = None
    header: list[str] = []
    wide = Counter(line.count(",") + 1 for line in lines if line)
    headed = ""
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        last = number == len(lines) - 1 and not ended
        mark = headed if headed and headed in line else _separator(line)
        cells, columns = line.split(mark), None
        if not _NUMBERS.fullmatch(line):
            cells = [cell.strip().strip('"').strip() for cell in cells]
            columns = _header(cells, told)
        if columns is not None:
            if names is not None:
                told.add("header-again", "the header stands in it more than once: two tables, one after the other")
            headed, header, names = mark, columns, list(dict.fromkeys([*(names or ()), *columns]))
        elif header:
            values = _values(cells, _widened(header, len(cells), wide), mark, last, told)
            if values is not None:
                found.append((line.strip(), values))
                if len(values) > len(header) and names is not None:
                    names = list(dict.fromkeys([*names, *values]))
        else:
            told.add("before-header", "lines before the header are left out")
    return found, names


def _separator(line: str) -> str:
    if "," in line and ";" not in line:
        return ","
    return ";" if ";" in line else "\t" if "\t" in line else ","


def _header(cells: Sequence[str], told: _Told) -> list[str] | None:
    """The canonical names, where these cells are a header; a name that comes twice is kept once."""
    if "epoch" not in cells and not any(cell.startswith(_FAMILIES) for cell in cells):
        return None
    names: list[str] = []
    for cell in cells:
        name = OTHER_NAMES.get(cell, cell)
        if name != cell:
            told.add("other-names", f"columns are called as in YOLOv5; {cell} is read as {name}")
        if name and name in names:
            told.add("column-twice", f"column {name} stands there twice; the first one counts")
            name = ""
        names.append(name)
    while names and not names[-1]:
        names.pop()
    return names


def _widened(header: list[str], count: int, wide: Mapping[int, int]) -> list[str]:
    """The header with names for more learning rates than it has, where several rows have them.

    Another optimizer writes 8 lr columns instead of 3, under the header of the process before. One such row alone is
    rather two lines that grew together.
    """
    if count <= len(header) or wide.get(count, 0) < 2 or not header[-1].startswith("lr/pg"):
        return header
    rates = sum(name.startswith("lr/pg") for name in header)
    return [*header, *(f"lr/pg{rates + index}" for index in range(count - len(header)))]


def _values(cells: list[str], header: list[str], mark: str, last: bool, told: _Told) -> dict[str, float] | None:
    """A line's values by name; None for a line that is not whole."""
    if len(cells) == len(header) and not last:
        try:
            numbers = [float(cell) for cell in cells]
        except ValueError:
            pass
        else:
            within = min(numbers) > -GREATEST and max(numbers) < GREATEST
            if within and not math.isnan(sum(numbers)) and "" not in header:
                return dict(zip(header, numbers, strict=True))
    while len(cells) > len(header) and not cells[-1]:
        cells.pop()
    if len(cells) > len(header):
        told.add("long-line", "lines with too many values, as when two grew together, are left out")
        return None
    if len(cells) < len(header):
        code = "cut-line" if last else "short-line"
        where = "the last line is cut off" if last else "lines with too few values, as after a kill,"
        told.add(code, f"{where} and left out" if last else f"{where} are left out")
        return None
    values: dict[str, float] = {}
    for name, cell in zip(header, cells, strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = _odd(cell, mark, told)
        if not -GREATEST < value < GREATEST:
            if not math.isnan(value) or cell.lower() in _NOT_A_NUMBER:
                told.add("not-finite", "values that are no numbers (nan, inf, beyond 1e30) count as missing")
            value = math.nan
        if name:
            values[name] = value
    if last:
        cut = header[-1]
        told.add("no-line-end", f"the last line has no end, so its last value ({cut}) may be cut: it counts as missing")
        values[cut] = math.nan
    return values


def _odd(cell: str, mark: str, told: _Told) -> float:
    """What float() does not take: a decimal comma, nothing, or some text."""
    if mark in ";\t" and cell.count(",") == 1:
        try:
            value = float(cell.replace(",", "."))
        except ValueError:
            pass
        else:
            told.add("decimal-comma", "numbers have a decimal comma")
            return value
    if cell.lower() not in _NOT_A_NUMBER:
        told.add("unreadable", "values that cannot be read, or are empty, count as missing")
    return math.nan


def _counted(rows: Sequence[_Line], told: _Told) -> list[_Row]:
    """Rows with their epoch, from 1, and without those that have none."""
    if rows and not any("epoch" in values for _, values in rows):
        told.add("no-epoch-column", "there is no column epoch: rows are numbered from 1")
        return [_Row(number, key, values) for number, (key, values) in enumerate(rows, 1)]
    found = []
    for key, values in rows:
        epoch = values.get("epoch", math.nan)
        if math.isfinite(epoch) and epoch.is_integer() and 0 <= epoch <= EPOCH_LIMIT:
            found.append(_Row(int(epoch), key, values))
        else:
            told.add("no-epoch", "rows whose epoch cannot be read are left out")
    if any(row.epoch == 0 for row in found):
        told.add("epochs-from-0", "epochs are counted from 0, as before 8.1; here they count from 1")
        for row in found:
            row.epoch += 1
    return found


def _once_each(rows: list[_Row], told: _Told) -> tuple[list[_Row], dict[int, int]]:
    """Each epoch's last row, by epoch; and how often epochs came again."""
    kept: dict[int, _Row] = {}
    lines: set[str] = set()
    rewritten: Counter[int] = Counter()
    latest: list[int] = []  # a heap of the epochs kept, negated: the greatest comes first
    before = 0
    for row in rows:
        if row.epoch in kept and row.key in lines:
            told.add("line-twice", "lines that stand there twice, letter by letter, count once")
            continue
        lines.add(row.key)
        if row.epoch in kept:
            rewritten[row.epoch] += 1
            told.add("epoch-again", "epochs written again, by a process that resumed: the last row of each counts")
            while -latest[0] > row.epoch:
                told.add("went-back", "rows from before the training went back to an earlier epoch are left out")
                del kept[-heapq.heappop(latest)]
        elif row.epoch < before:
            told.add("out-of-order", "rows are not in the order of their epochs: sorted")
        if row.epoch not in kept:
            heapq.heappush(latest, -row.epoch)
        kept[row.epoch] = row
        before = row.epoch
    return [kept[epoch] for epoch in sorted(kept)], {epoch: rewritten[epoch] for epoch in sorted(rewritten)}


def _laps(rows: Sequence[_Row], rewritten: Mapping[int, int], told: _Told) -> tuple[int, ...]:
    """Fill in each row's seconds from the cumulative time; the epochs that were the first of a new process."""
    restarts = []
    before: _Row | None = None
    for row in rows:
        time = row.values.get("time", math.nan)
        earlier = before.values.get("time", math.nan) if before is not None else math.nan
        if row.epoch in rewritten or time < earlier:
            restarts.append(row.epoch)
            row.seconds = time
        elif before is None:
            row.seconds = time if row.epoch == 1 else math.nan
        elif row.epoch == before.epoch + 1:
            row.seconds = time - earlier
        if time < earlier:
            told.add("time-again", "the column time begins again: it counts from the start of each process")
        before = row
    return tuple(restarts)


def _validated(rows: Sequence[Mapping[str, float]], told: _Told) -> list[Mapping[str, float]]:
    """The rows without the zeros that stand for a validation that was off (val=False; --noval in YOLOv5)."""
    found: list[Mapping[str, float]] = []
    for row in rows:
        measured = [name for name in row if name.startswith(("metrics/", "val/"))]
        losses = any(name.startswith("val/") for name in measured)
        if losses and len(measured) > 1 and not any(row[name] for name in measured):  # NaN is not 0
            told.add("not-validated", "epochs whose metrics and validation losses are all 0 were not validated")
            found.append({name: value for name, value in row.items() if name not in measured})
        else:
            found.append(row)
    return found


def _columns(names: Sequence[str], rows: Sequence[Mapping[str, float]]) -> dict[str, Series]:
    nothing = math.nan
    return {name: tuple(row.get(name, nothing) for row in rows) for name in names if name and name != "epoch"}


def _some(epochs: Sequence[int], most: int = 5) -> str:
    """`epoch 3`, or `epochs 3, 4, 5 and 12 more`."""
    shown = ", ".join(str(epoch) for epoch in epochs[:most])
    more = f" and {len(epochs) - most} more" if len(epochs) > most else ""
    return f"{'epoch' if len(epochs) == 1 else 'epochs'} {shown}{more}"
