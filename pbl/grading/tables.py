"""Tables as spreadsheets and learning platforms write them: any separator, several encodings. Plain Python; the locked worker uses it too."""

import codecs
import contextlib
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

SEPARATORS = ",;\t"
LONGEST_CELL = 100_000


class TableError(Exception):
    """A file is not a table, or can be read in several ways.

    Attributes:
        what: The reason, in a few words.
    """

    def __init__(self, what: str):
        super().__init__(what)
        self.what = what


class Table(NamedTuple):
    """A table as it is in its file.

    Attributes:
        rows: The cells of each row that is not empty, the header first, as they are written.
        lines: The line of the file at which each row ends.
        separator: The character between two cells.
    """

    rows: list[list[str]]
    lines: list[int]
    separator: str


def decode(content: bytes) -> str | None:
    """Returns the text of a table as spreadsheets save it, in UTF-8, cp932 or UTF-16 with its mark; None for any other bytes."""
    # cp932 accepts nearly any bytes, those of UTF-16 too, so the mark of UTF-16 is checked first.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if is_utf16 else ("utf-8-sig", "cp932"):
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode(encoding).lstrip("\ufeff")
    return None


def fold(text: str) -> str:
    """A word without what people and spreadsheets change without noticing: width, case, and spaces at its ends or doubled."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_table(content: bytes, is_header: Callable[[Sequence[str]], bool] = bool) -> Table:
    """Reads a table.

    Args:
        content: The file: commas, semicolons or tabs; a first line `sep=;`, which Excel reads, names its separator.
        is_header: Whether some cells are the expected header; it decides between separators.

    Raises:
        TableError: It is not text, a row is broken, or several separators are equally likely.
    """
    text = decode(content)
    if text is None or "\x00" in text:
        raise TableError("it is neither UTF-8 nor cp932 text")
    skipped = 0
    named = None
    if first := re.match(rf"sep=([{SEPARATORS}])(?:\r?\n|$)", text, re.IGNORECASE):
        named, text, skipped = first[1], text[first.end() :], 1
    csv.field_size_limit(LONGEST_CELL)
    try:
        separator = named or _find_separator(text, is_header)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        found = [(row, reader.line_num + skipped) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error:
        raise TableError("a row is broken") from None
    return Table([row for row, _ in found], [line for _, line in found], separator)


def _find_separator(text: str, is_header: Callable[[Sequence[str]], bool]) -> str:
    first = next((line for line in text.splitlines() if line.strip(SEPARATORS + " ")), "")
    present = [sign for sign in SEPARATORS if len(next(csv.reader([first], delimiter=sign), ())) > 1]
    if len(present) < 2:
        return present[0] if present else ","
    fitting = [sign for sign in present if is_header(next(csv.reader([first], delimiter=sign)))]
    if len(fitting) != 1:  # if the header does not decide, all rows must have the same number of cells
        start = io.StringIO("".join(text.splitlines(keepends=True)[:50]), newline="").read()
        widths = {sign: {len(row) for row in csv.reader(start.splitlines(), delimiter=sign) if row} for sign in present}
        fitting = [sign for sign in present if len(widths[sign]) == 1]
    if len(fitting) != 1:
        raise TableError("its separator cannot be recognised: it contains commas, semicolons and tabs")
    return fitting[0]


def find_words(cells: Sequence[str], words: Sequence[str]) -> list[int | None]:
    """Finds out which word each cell means, however a spreadsheet has changed it.

    Args:
        cells: The cells as they are in a table.
        words: The possible words.

    Returns:
        For each cell the index of its word: of exactly that word, otherwise of the one that `fold` makes equal, otherwise of the one that is the
        same number (`0.0` is `0`, `7` is `007`); None if there is none, or several.
    """
    found: list[int | None] = [None] * len(cells)
    for way in (lambda text: unicodedata.normalize("NFC", text).strip(), fold, _as_number):
        places: dict[object, int | None] = {}
        for place, word in enumerate(words):
            key = way(word)
            places[key] = None if key in places else place
        found = [places.get(way(cell)) if place is None else place for cell, place in zip(cells, found, strict=True)]
    return found


def _as_number(text: str) -> float | str:
    word = fold(text)
    return float(word) if re.fullmatch(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", word) else text


def reads_as_number(text: str) -> bool:
    """Whether a spreadsheet would read a cell as a number, and so may have shortened it."""
    return _as_number(text) is not text
