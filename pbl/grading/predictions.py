"""`predictions.csv` of strangers, read in the locked worker alone."""

import re
from collections.abc import Sequence

import numpy as np

from pbl.grading.refusals import Refusal, clean
from pbl.grading.tables import Table, TableError, find_words, fold, read_table, reads_as_number

SUM_TOLERANCE = 1e-2  # of the probabilities of an image that are written in full
SCORES_HEADER = ["id", "score", "alarm"]
_NO, _YES = ["no", "false", "0"], ["yes", "true", "1"]
HALF = 2**23  # in steps of 2**-24, in which float32 writes both a probability and what is left of 1 exactly


def read_predictions(
    content: bytes, ids: Sequence[str], class_names: Sequence[str]
) -> tuple[np.ndarray, dict[str, int | bool]]:
    """Reads a table of predictions.

    Args:
        content: The file, as spreadsheets save it (see `pbl.grading.tables`), with the header `id,label` and, optionally, one column of
            probabilities for each class, called by the class or `p(class)`. Labels are the classes' names, or all of them
            their numbers from 0; an id may have a folder before it and `.png` behind.
        ids: The ids of the hidden images, in the order of the result.
        class_names: The classes of the task.

    Returns:
        `float32 [n, classes]`, whose largest value stands at the label: rows that sum to 1, or 1 at the label where there are no
        probabilities. And what is told of it: `has_probabilities`, and `ties`, the rows in which several classes have the largest
        probability.

    Raises:
        Refusal: It cannot be read, or lacks ids, or names other classes; the first row that is wrong is named.
    """
    try:
        table = read_table(content, lambda cells: [fold(cell) for cell in cells[:2]] == ["id", "label"])
    except TableError as error:
        raise Refusal("no_table", what=error.what, header="id,label") from None
    header, rows, lines = _take_apart(table)
    if [fold(cell) for cell in header[:2]] != ["id", "label"]:
        raise Refusal("table_header", found=clean(",".join(header[:4]), 60))
    _check_widths(rows, lines, len(header))
    order = _read_columns(header[2:], class_names)
    places = _read_ids([row[0] for row in rows], lines, ids)
    labels = _read_labels([row[1] for row in rows], lines, class_names)
    result = np.zeros((len(ids), len(class_names)), np.float32)
    if not order:
        result[places, labels] = 1
        return result, {"has_probabilities": False}
    values = _read_probabilities([row[2:] for row in rows], lines, table.separator)[:, order]
    largest, own = values.max(axis=1), values[np.arange(len(values)), labels]
    if (own < largest).any():
        first = int((own < largest).argmax())
        told = {"label": clean(rows[first][1], 40), "name": clean(class_names[int(values[first].argmax())], 40)}
        raise Refusal("label_unlike_probabilities", rows=int((own < largest).sum()), line=lines[first], **told)
    ties = np.flatnonzero((values == largest[:, None]).sum(axis=1) > 1)
    values[ties, np.array(labels)[ties]] = np.nextafter(largest[ties], np.float32(2))  # of several the label counts
    result[places] = values
    return result, {"has_probabilities": True, "ties": len(ties)}


def read_scores(content: bytes, ids: Sequence[str]) -> tuple[np.ndarray, dict[str, bool]]:
    """Reads a table of scores and alarms, as anomaly detection hands them in.

    Args:
        content: The file, as for `read_predictions`, with the header `id,score,alarm`. A score is any finite number, high where
            the image is like an anomaly; an alarm is `yes` or `no`, `1` or `0`, `true` or `false`.
        ids: The ids of the hidden images, in the order of the result.

    Returns:
        `float32 [n, 2]`, rows that sum to exactly 1. The second column stands for the score: it has the scores' order, equal values
        where they are equal, and is above .5 where there is an alarm. And what is told of it: `has_probabilities`, whether there
        are more different scores than two, so that they say more than the alarms do.

    Raises:
        Refusal: It cannot be read, or lacks ids; an image without an alarm has no lower score than one with an alarm.
    """
    try:
        table = read_table(content, lambda cells: [fold(cell) for cell in cells] == SCORES_HEADER)
    except TableError as error:
        raise Refusal("no_table", what=error.what, header=",".join(SCORES_HEADER)) from None
    header, rows, lines = _take_apart(table)
    if [fold(cell) for cell in header] != SCORES_HEADER:
        raise Refusal("scores_header", found=clean(",".join(header[:4]), 60))
    _check_widths(rows, lines, len(header))
    places = _read_ids([row[0] for row in rows], lines, ids)
    scores = _read_numbers(_point_decimals([row[1:2] for row in rows], table.separator), lines, "score_number")[:, 0]
    alarm = _read_alarms([row[2] for row in rows], lines)
    if alarm.any() and not alarm.all():
        quiet, loud = np.where(alarm, -np.inf, scores).argmax(), np.where(alarm, scores, np.inf).argmin()
        if scores[quiet] >= scores[loud]:
            told = {"score": clean(rows[quiet][1], 30), "other": lines[loud], "less": clean(rows[loud][1], 30)}
            raise Refusal("alarm_unlike_score", line=lines[quiet], **told)
    levels, rank = np.unique(scores, return_inverse=True)
    steps = np.where(alarm, HALF, 0) + (rank + 1) * (HALF // (len(levels) + 1))
    result = np.zeros((len(ids), 2), np.float32)
    result[places, 1] = steps / (2 * HALF)
    result[places, 0] = 1 - steps / (2 * HALF)
    return result, {"has_probabilities": len(levels) > 2}


def _read_alarms(cells: list[str], lines: list[int]) -> np.ndarray:
    found = find_words(cells, _NO + _YES)
    strange = [number for number, place in enumerate(found) if place is None]
    if strange:
        told = {"line": lines[strange[0]], "name": clean(cells[strange[0]], 40)}
        raise Refusal("alarm_word", rows=len(strange), **told)
    return np.array(found, int) >= len(_NO)


def _take_apart(table: Table) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows below it, and their lines; empty cells at a row's end are none."""
    header, *rows = [_strip_end(row) for row in table.rows] or [[]]
    return header, rows, table.lines[1:]


def _check_widths(rows: list[list[str]], lines: list[int], width: int) -> None:
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise Refusal("table_cells", line=line, found=len(row), expected=width)


def _strip_end(row: list[str]) -> list[str]:
    while row and not row[-1].strip():
        row = row[:-1]
    return row


def _read_columns(cells: list[str], class_names: Sequence[str]) -> list[int]:
    """Which column is the first, second, ... class's."""
    if not cells:
        return []
    found = find_words(cells, class_names)
    inner = find_words(
        [re.sub(r"^\s*p\s*\((.*)\)\s*$", r"\1", cell, flags=re.IGNORECASE) for cell in cells], class_names
    )
    found = [own if own is not None else place for own, place in zip(found, inner, strict=True)]
    unknown = [cell for cell, place in zip(cells, found, strict=True) if place is None]
    missing = len(class_names) - len(set(found) - {None})
    if unknown or missing or len(found) != len(class_names):
        names = clean(", ".join(unknown[:3]) or "columns twice")
        raise Refusal("class_names", missing=missing, unknown=len(unknown), names=names)
    return [found.index(place) for place in range(len(class_names))]


def _read_ids(cells: list[str], lines: list[int], ids: Sequence[str]) -> list[int]:
    cells = [re.sub(r"\.(png|jpe?g|bmp|gif|webp|tiff?)$", "", re.split(r"[/\\]", cell.strip())[-1], flags=re.IGNORECASE) for cell in cells]  # fmt: skip
    found = find_words(cells, ids)
    known, strange = set(found) - {None}, [number for number, place in enumerate(found) if place is None]
    if len(found) == len(known) == len(ids):
        return found
    changed = [number for number in strange if reads_as_number(cells[number])]
    if changed:
        raise Refusal("ids_changed", rows=len(changed), line=lines[changed[0]], name=clean(cells[changed[0]], 40))
    told = {"found": len(known), "expected": len(ids), "missing": len(ids) - len(known), "unknown": len(strange)}
    first, seen = "", set()
    for cell, line, place in zip(cells, lines, found, strict=True):
        if place is None or place in seen:
            first = f"{clean(cell, 40)} (line {line})"
            break
        seen.add(place)
    first = first or ids[min(set(range(len(ids))) - known)]
    raise Refusal("ids", **told, twice=len(found) - len(strange) - len(known), first=first)


def _read_labels(cells: list[str], lines: list[int], class_names: Sequence[str]) -> list[int]:
    """The class of each row. Names or numbers, one way for all rows: of the classes 1, 2, 3 the numbers 0, 1, 2 begin with 0."""
    found = find_words(cells, class_names)
    if None in found:
        numbers = find_words(cells, [str(number) for number in range(len(class_names))])
        found = found if None in numbers else numbers
    strange = [number for number, place in enumerate(found) if place is None]
    if strange:
        told = {
            "name": clean(cells[strange[0]], 40),
            "line": lines[strange[0]],
            "classes": clean(", ".join(class_names)),
        }
        raise Refusal("unknown_label", rows=len(strange), **told)
    return found


def _point_decimals(rows: list[list[str]], separator: str) -> list[list[str]]:
    """Numbers with a point: 0,5 is 0.5 where a comma is no separator."""
    if separator == ",":
        return rows
    return [[cell.replace(",", ".") for cell in row] for row in rows]


def _read_numbers(rows: list[list[str]], lines: list[int], reason: str) -> np.ndarray:
    """`float64 [rows, columns]` of finite numbers; a cell that is none is refused for `reason`."""
    values = np.empty((len(rows), len(rows[0]) if rows else 0))
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            try:
                values[number, column] = float(cell)
            except ValueError:
                raise Refusal(reason, line=lines[number], name=clean(cell, 40)) from None
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        raise Refusal("predictions_not_finite", rows=int(broken.sum()))
    return values


def _read_probabilities(rows: list[list[str]], lines: list[int], separator: str) -> np.ndarray:
    """`float32 [rows, columns]` of rows that sum to 1, as exactly as their digits allow."""
    rows = _point_decimals(rows, separator)
    values = _read_numbers(rows, lines, "table_number")
    sums = values.sum(axis=1)
    # Each of so many columns is off by half of its last digit at most.
    tolerance = SUM_TOLERANCE
    if np.abs(sums - 1).max(initial=0) > tolerance:
        digits = max(len(cell.strip().partition(".")[2]) for row in rows for cell in row)
        tolerance = max(tolerance, min(0.5, values.shape[1] * 0.5 * 10.0**-digits))
    wrong = (values.min(axis=1, initial=0) < 0) | (np.abs(sums - 1) > tolerance + 1e-9)
    if wrong.any():
        first = int(wrong.argmax())
        raise Refusal("table_sum", rows=int(wrong.sum()), line=lines[first], found=f"{sums[first]:.4g}")
    values[np.abs(sums - 1) > SUM_TOLERANCE] /= sums[np.abs(sums - 1) > SUM_TOLERANCE, None]
    return values.astype(np.float32)
