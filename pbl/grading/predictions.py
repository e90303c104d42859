"""`predictions.csv` and `boxes.json` of strangers, read only in the locked worker."""

import re
from collections.abc import Sequence

import numpy as np

from pbl.grading.formats import BOXES, BOXES_LIMIT, PICTURE, PREDICTIONS, parse_json
from pbl.grading.refusals import Refusal, clean
from pbl.grading.tables import TableError, find_words, fold, read_table, reads_as_number

SUM_TOLERANCE = 1e-2  # for the sum of an image's probabilities if they are written with all digits
SCORES_HEADER = ["id", "score", "alarm"]
_NO, _YES = ["no", "false", "0"], ["yes", "true", "1"]
HALF = 2**23  # in steps of 2**-24, in which float32 represents both a probability and its difference from 1 exactly


def read_predictions(
    content: bytes, ids: Sequence[str], class_names: Sequence[str]
) -> tuple[np.ndarray, dict[str, int | bool]]:
    """Reads a table of predictions.

    Args:
        content: The file, as spreadsheets save it (see `pbl.grading.tables`), with the header `id,label` and, optionally, one column of
            probabilities for each class, named by the class or `p(class)`. Labels are the classes' names, or all of them
            their numbers from 0; an id may have a folder before it and `.png` after it.
        ids: The ids of the hidden images, in the order of the result.
        class_names: The classes of the task.

    Returns:
        `float32 [n, classes]`, whose largest value is at the label: rows that sum to 1, or 1 at the label if there are no
        probabilities. And facts about it: `has_probabilities`, and `ties`, the rows in which several classes have the largest
        probability.

    Raises:
        Refusal: It cannot be read, or lacks ids, or names other classes; the message names the first wrong row.
    """
    header, rows, lines, separator = _split(content, ["id", "label"], "table_header")
    order = _read_columns(header[2:], class_names)
    places = _read_ids([row[0] for row in rows], lines, ids)
    labels = _read_labels([row[1] for row in rows], lines, class_names)
    result = np.zeros((len(ids), len(class_names)), np.float32)
    if not order:
        result[places, labels] = 1
        return result, {"has_probabilities": False}
    values = _read_probabilities([row[2:] for row in rows], lines, separator)[:, order]
    largest, own = values.max(axis=1), values[np.arange(len(values)), labels]
    if (own < largest).any():
        first = int((own < largest).argmax())
        told = {"label": clean(rows[first][1], 40), "name": clean(class_names[int(values[first].argmax())], 40)}
        raise Refusal("label_unlike_probabilities", rows=int((own < largest).sum()), line=lines[first], **told)
    ties = np.flatnonzero((values == largest[:, None]).sum(axis=1) > 1)
    values[ties, np.array(labels)[ties]] = np.nextafter(largest[ties], np.float32(2))  # the label decides between ties
    result[places] = values
    return result, {"has_probabilities": True, "ties": len(ties)}


def read_scores(content: bytes, ids: Sequence[str]) -> tuple[np.ndarray, dict[str, bool]]:
    """Reads a table of scores and alarms, as anomaly detection hands them in.

    Args:
        content: The file, as for `read_predictions`, with the header `id,score,alarm`. A score is any finite number, high if
            the image is like an anomaly; an alarm is `yes` or `no`, `1` or `0`, `true` or `false`.
        ids: The ids of the hidden images, in the order of the result.

    Returns:
        `float32 [n, 2]`, rows that sum to exactly 1; the second column has the scores' order and ties, and is above .5 if there is
        an alarm. And facts about it: `has_probabilities`, whether there are more than two different scores, and so more than alarms.

    Raises:
        Refusal: It cannot be read, or lacks ids; an image without an alarm does not have a lower score than one with an alarm.
    """
    header, rows, lines, separator = _split(content, SCORES_HEADER, "scores_header")
    if len(header) > len(SCORES_HEADER):
        raise Refusal("scores_header", found=clean(",".join(header[:4]), 60))
    places = _read_ids([row[0] for row in rows], lines, ids)
    scores = _read_numbers([row[1:2] for row in rows], lines, separator, "score_number")[:, 0]
    words = find_words([row[2] for row in rows], _NO + _YES)
    if None in words:
        first = words.index(None)
        raise Refusal("alarm_word", rows=words.count(None), line=lines[first], name=clean(rows[first][2], 40))
    alarm = np.array(words) >= len(_NO)
    quiet, loud = np.where(alarm, -np.inf, scores), np.where(alarm, scores, np.inf)
    if quiet.max() >= loud.min():
        raise Refusal("alarm_unlike_score", line=lines[quiet.argmax()], other=lines[loud.argmin()])
    levels, rank = np.unique(scores, return_inverse=True)
    steps = np.where(alarm, HALF, 0) + rank + 1
    result = np.empty((len(ids), 2), np.float32)
    result[places] = np.stack([2 * HALF - steps, steps], axis=1) / (2 * HALF)
    return result, {"has_probabilities": len(levels) > 2}


def read_boxes(content: bytes, ids: Sequence[str], class_names: Sequence[str]) -> tuple[np.ndarray, float]:
    """Reads found boxes; the judge checks their positions and scores (`pbl.grading.box_rows`).

    Args:
        content: `{"threshold": t, "images": {ID: [[left, top, right, bottom, CLASS, score], ...], ...}}`: the lowest score at which a box is
            shown, and every image, with [] if nothing is found; ids as for `read_predictions`, classes by name.
        ids: The ids of the hidden images, in whose order the result is sorted.
        class_names: The classes of the task.

    Returns:
        `float64 [boxes, 7]`: index of the image, left, top, right, bottom, index of the class, score; and the threshold.

    Raises:
        Refusal: It cannot be read, or lacks ids, or names other classes; the message names the first wrong box.
    """
    told = parse_json(content, BOXES, BOXES_LIMIT, depth=8)
    threshold, images = told.get("threshold"), told.get("images")
    if not isinstance(images, dict) or not _is_number(threshold) or not 0 <= threshold <= 1:
        raise Refusal("boxes_form", name="threshold" if isinstance(images, dict) else "images")
    number_of, rows = dict[str, int | None](), []
    for place, name in sorted(zip(_read_ids(list(images), None, ids), images, strict=True)):
        for number, box in enumerate(images[name] if isinstance(images[name], list) else [images[name]], 1):
            *corners, kind, score = box if isinstance(box, list) and len(box) == 6 else [None] * 6
            if not all(map(_is_number, [*corners, score])) or not isinstance(kind, str):
                raise Refusal("box_form", image=clean(name, 40), number=number, found=clean(box, 60))
            if kind not in number_of:
                number_of[kind] = find_words([kind], class_names)[0]
            if number_of[kind] is None:
                told = {"name": clean(kind, 40), "classes": clean(", ".join(class_names))}
                raise Refusal("box_class", image=clean(name, 40), number=number, **told)
            rows.append([place, *corners, number_of[kind], score])
    return np.array(rows, np.float64).reshape(-1, 7), float(threshold)


def _is_number(value: object) -> bool:
    """Whether it is a number that an array of numbers can hold."""
    return type(value) in (int, float) and abs(value) < 1e9


def _split(content: bytes, expected: list[str], reason: str) -> tuple[list[str], list[list[str]], list[int], str]:
    """The header, the rows below it, their lines, and the separator; a header with another beginning is refused for `reason`."""

    def begins_so(cells: Sequence[str]) -> bool:
        return [fold(cell) for cell in cells[: len(expected)]] == expected

    try:
        table = read_table(content, begins_so)
    except TableError as error:
        raise Refusal("no_table", what=error.what, header=",".join(expected)) from None
    header, *rows = [_strip_end(row) for row in table.rows] or [[]]
    if not begins_so(header):
        raise Refusal(reason, found=clean(",".join(header[:4]), 60))
    for row, line in zip(rows, table.lines[1:], strict=True):
        if len(row) != len(header):
            raise Refusal("table_cells", line=line, found=len(row), expected=len(header))
    return header, rows, table.lines[1:], table.separator


def _strip_end(row: list[str]) -> list[str]:
    while row and not row[-1].strip():
        row = row[:-1]
    return row


def _read_columns(cells: list[str], class_names: Sequence[str]) -> list[int]:
    """The column of the first, second, ... class."""
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


def _read_ids(cells: list[str], lines: list[int] | None, ids: Sequence[str]) -> list[int]:
    """The image of each cell; a file that is not a table has no lines."""
    cells = [PICTURE.sub("", re.split(r"[/\\]", cell.strip())[-1]) for cell in cells]
    found = find_words(cells, ids)
    known, strange = set(found) - {None}, [number for number, place in enumerate(found) if place is None]
    if len(found) == len(known) == len(ids):
        return found
    changed = [number for number in strange if reads_as_number(cells[number])]
    if changed and lines is not None:
        raise Refusal("ids_changed", rows=len(changed), line=lines[changed[0]], name=clean(cells[changed[0]], 40))
    told = {"found": len(known), "expected": len(ids), "missing": len(ids) - len(known), "unknown": len(strange)}
    first_at = {place: at for at, place in reversed(list(enumerate(found)))}
    at = next((at for at, place in enumerate(found) if place is None or first_at[place] != at), None)
    first = ids[min(set(range(len(ids))) - known)] if at is None else clean(cells[at], 40)
    if at is not None and lines is not None:
        first += f" (line {lines[at]})"
    told |= {"twice": len(found) - len(strange) - len(known), "first": first}
    raise Refusal("ids", file=BOXES if lines is None else PREDICTIONS, **told)


def _read_labels(cells: list[str], lines: list[int], class_names: Sequence[str]) -> list[int]:
    """The class of each row, by names or by numbers, in the same way for all rows: for classes named 1, 2, 3, the numbers 0, 1, 2 are used if a 0 occurs."""
    found = find_words(cells, class_names)
    if None in found:
        numbers = find_words(cells, [str(number) for number in range(len(class_names))])
        found = found if None in numbers else numbers
    strange = [number for number, place in enumerate(found) if place is None]
    if strange:
        told = {"line": lines[strange[0]], "classes": clean(", ".join(class_names))}
        raise Refusal("unknown_label", rows=len(strange), name=clean(cells[strange[0]], 40), **told)
    return found


def _read_numbers(rows: list[list[str]], lines: list[int], separator: str, reason: str) -> np.ndarray:
    """`float64 [rows, columns]` of finite numbers; any other cell is refused for `reason`."""
    if separator != ",":  # 0,5 if the comma is not the separator
        rows = [[cell.replace(",", ".") for cell in row] for row in rows]
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
    """`float32 [rows, columns]` with rows that sum to 1, as exactly as their digits allow."""
    values = _read_numbers(rows, lines, separator, "table_number")
    sums = values.sum(axis=1)
    # Each column is off by half of its last digit at most.
    tolerance = SUM_TOLERANCE
    if np.abs(sums - 1).max(initial=0) > tolerance:
        digits = max(len(cell.strip().replace(",", ".").partition(".")[2]) for row in rows for cell in row)
        tolerance = max(tolerance, min(0.5, values.shape[1] * 0.5 * 10.0**-digits))
    wrong = (values.min(axis=1, initial=0) < 0) | (np.abs(sums - 1) > tolerance + 1e-9)
    if wrong.any():
        first = int(wrong.argmax())
        raise Refusal("table_sum", rows=int(wrong.sum()), line=lines[first], found=f"{sums[first]:.4g}")
    values[np.abs(sums - 1) > SUM_TOLERANCE] /= sums[np.abs(sums - 1) > SUM_TOLERANCE, None]
    return values.astype(np.float32)
