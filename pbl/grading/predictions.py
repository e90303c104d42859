"""`predictions.csv` of strangers, read in the locked worker alone."""

import csv
import io
import unicodedata
from collections.abc import Sequence

import numpy as np

from pbl.grading.outcomes import Refusal, clean


def read_predictions(content: bytes, ids: Sequence[str], class_names: Sequence[str]) -> tuple[np.ndarray, bool]:
    """Reads a table of predictions.

    Args:
        content: The file: UTF-8 (also with a mark) or cp932, commas, the header `id,label` and, optionally, one column of
            probabilities for each class, called by the class or `p(class)`. A label is a class's name, or else its number.
        ids: The ids of the hidden images, in the order of the result.
        class_names: The classes of the task.

    Returns:
        `float32 [n, classes]`, and whether they are probabilities: else each row has 1 at the label.

    Raises:
        Refusal: It cannot be read, or lacks ids, or names other classes.
    """
    text = _decode(content)
    if text is None or "\x00" in text:
        raise Refusal("no_table", what="it is not text")
    csv.field_size_limit(1000)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row)]
    except csv.Error:
        raise Refusal("no_table", what="a row is broken") from None
    names = [unicodedata.normalize("NFC", name) for name in class_names]
    header = [unicodedata.normalize("NFC", cell.strip()) for cell in rows[0]] if rows else []
    if header[:2] != ["id", "label"]:
        raise Refusal("no_table", what="its first row is not id,label")
    columns = [name.removeprefix("p(").removesuffix(")") if name.startswith("p(") else name for name in header[2:]]
    if columns and sorted(columns) != sorted(names):
        missing, unknown = len(set(names) - set(columns)), sorted(set(columns) - set(names))
        raise Refusal(
            "class_names", missing=missing, unknown=len(unknown), names=clean(", ".join(unknown[:3]) or "columns twice")
        )
    body = rows[1:]
    if any(len(row) != len(header) for row in body):
        raise Refusal("no_table", what="a row has more or fewer cells than the header")
    place = {name: number for number, name in enumerate(ids)}
    told = [row[0].strip() for row in body]
    known = set(told) & place.keys()
    if len(told) != len(ids) or len(known) != len(ids):
        unknown = len(set(told) - place.keys())
        raise Refusal(
            "ids",
            found=len(known),
            expected=len(ids),
            missing=len(ids) - len(known),
            unknown=unknown,
            twice=len(told) - len(set(told)),
        )
    number_of = {**{str(number): number for number in range(len(names))}, **{name: n for n, name in enumerate(names)}}
    labels = [unicodedata.normalize("NFC", row[1].strip()) for row in body]
    strange = [label for label in labels if label not in number_of]
    if strange:
        raise Refusal("unknown_label", rows=len(strange), name=clean(strange[0], 40))
    result = np.zeros((len(ids), len(names)), np.float32)
    if not columns:
        for name, label in zip(told, labels, strict=True):
            result[place[name], number_of[label]] = 1
        return result, False
    try:
        values = np.array([[float(cell) for cell in row[2:]] for row in body], np.float64)
    except ValueError:
        raise Refusal("no_table", what="a probability is no number") from None
    values = values[:, [columns.index(name) for name in names]]
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        raise Refusal("predictions_not_finite", rows=broken)
    chosen = np.array([number_of[label] for label in labels])
    unlike = int((values[np.arange(len(values)), chosen] < values.max(axis=1)).sum())
    if unlike:
        raise Refusal("label_unlike_probabilities", rows=unlike)
    result[[place[name] for name in told]] = values
    return result, True


def _decode(content: bytes) -> str | None:
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            pass
    return None
