"""What the values of masks mean: one grey value or one colour for each class; which of them is the background; the names of the classes."""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import UnidentifiedImageError

from pbl.data.cache import cache_folder, make_cache_folder
from pbl.data.doctor.finding import Finding, one_finding
from pbl.data.images import MOST_PIXELS, opened
from pbl.data.store import KEPT_FROM
from pbl.errors import InputError, Sentence, join_sentences
from pbl.storage.reading import read_json
from pbl.storage.writing import write_json

MOST_CLASSES = (
    64  # a mask with more values is a photograph, or was saved as JPEG, which blurs classes, unless they have names
)
MOST_NAMED = 256  # classes: the class of a pixel is stored in one byte
MOST_VALUE = 65535
_FORMAT = 1  # version of what is kept in the cache; part of its name
_AT_ONCE = 512  # masks whose files are in memory at the same time


class Coding(NamedTuple):
    """What the values of masks mean.

    Attributes:
        values: The grey value of each class, or its colour as red * 65536 + green * 256 + blue.
        names: The name of each class; the background first.
        is_colour: Whether the values are colours.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    is_colour: bool

    def to_classes(self, values: np.ndarray, name: str) -> np.ndarray:
        """Returns the class of each pixel, `uint8 [height, width]`; raises InputError if a value is not a class."""
        known = np.array(self.values)
        order = np.argsort(known)
        at = np.searchsorted(known[order], values).clip(0, len(known) - 1)
        wrong = known[order][at] != values
        if wrong.any():
            raise InputError(
                "The mask {name} has the value {value} in {pixels} {pixels:pixel|pixels}, which is not a class. Valid values: {values}.",
                name=name,
                value=self._say(int(values[wrong][0])),
                pixels=int(wrong.sum()),
                values=", ".join(map(self._say, self.values)),
            )
        return order[at].astype(np.uint8)

    def _say(self, value: int) -> str:
        return say_value(value, self.is_colour)


def say_value(value: int, is_colour: bool) -> str:
    """A grey value as one number, a colour as its three numbers."""
    return f"{value >> 16} {value >> 8 & 255} {value & 255}" if is_colour else str(value)


def decode_values(content: bytes, name: str) -> np.ndarray:
    """Decodes a mask unchanged, `uint8` or `uint16 [height, width]`, or `uint8 [height, width, 3]`; transparent pixels become black.

    Raises:
        InputError: It is empty, not an image, damaged, or too large.
    """
    try:
        with opened(content) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(Sentence("it has more than {most} million pixels", most=MOST_PIXELS // 10**6))
            if picture.mode.startswith(("I", "F")):  # 16 or 32 bits
                values = np.asarray(picture)
                if not ((values >= 0) & (values <= MOST_VALUE) & (values == np.floor(values))).all():
                    raise ValueError(Sentence("its values are not whole numbers from 0 to {most}", most=MOST_VALUE))
                return values.astype(np.uint16)
            if picture.mode in ("1", "L"):
                return np.asarray(picture.convert("L"))
            values = np.asarray(picture.convert("RGBA"))
            return values[..., :3] * (values[..., 3:] > 0)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            "The mask {name} cannot be decoded: {error}. Save it again, as PNG.",
            name=name,
            error=Sentence("it is not an image that can be read") if content else Sentence("it is empty (0 bytes)"),
        ) from None
    except Exception as error:  # Pillow raises nearly any exception for damaged files
        raise InputError(
            "The mask {name} cannot be decoded: {error}. Save it again, as PNG.",
            name=name,
            error=error.args[0] if error.args and isinstance(error.args[0], Sentence) else error,
        ) from None


def to_numbers(values: np.ndarray, is_colour: bool) -> np.ndarray:
    """One number for each pixel, `int64 [height, width]`: the grey value, or for a colour red * 65536 + green * 256 + blue."""
    if values.ndim == 2:
        return values.astype(np.int64) * (0x10101 if is_colour else 1)
    red, green, blue = np.moveaxis(values.astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue if is_colour else red


class Values(NamedTuple):
    """The values that occur in masks.

    Attributes:
        grey: For each grey value, how many pixels have it, and the name of a mask that has it.
        colours: The same for colours, each as one number (`to_numbers`); black and other greys in masks without a colour are in `grey`.
        masks: How many masks there are.
        jpeg: How many of them are JPEG files.
    """

    grey: dict[int, tuple[int, str]]
    colours: dict[int, tuple[int, str]]
    masks: int
    jpeg: int


def find_values(masks: Iterable[tuple[str, Callable[[], bytes]]], place: str, listing: str) -> Values:
    """Reads all masks to find their values. The result is kept in the local cache if that took a while.

    Args:
        masks: The name of each mask, and a function that reads its file.
        place: A name for the masks that stays the same when their content changes.
        listing: Changes when the masks change.

    Raises:
        InputError: Some cannot be read or decoded (up to ten are named).
    """
    key = hashlib.sha256(f"values of masks {_FORMAT} {place}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    file = cache_folder() / f"{key}.json"
    if (kept := _read_kept(file, listing)) is not None:
        return kept
    begin = time.perf_counter()
    grey: dict[int, tuple[int, str]] = {}
    colours: dict[int, tuple[int, str]] = {}
    count, jpeg, problems = 0, 0, []
    masks = iter(masks)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while some := list(islice(masks, _AT_ONCE)):
            for found in threads.map(_look, some):
                count += 1
                if isinstance(found, InputError):
                    problems.append(Sentence(found.template, **found.fields))
                    continue
                jpeg += found.is_jpeg
                into = colours if found.is_colour else grey
                for value, pixels in zip(found.values.tolist(), found.counts.tolist(), strict=True):
                    before, example = into.get(value, (0, found.name))
                    into[value] = (before + pixels, example)
    if problems:
        raise InputError(
            "{n} {n:mask|masks} cannot be read: {reasons}{more}",
            n=len(problems),
            reasons=join_sentences(problems[:10]),
            more=Sentence(" And {n} more.", n=len(problems) - 10) if len(problems) > 10 else "",
        )
    found = Values(grey, colours, count, jpeg)
    if time.perf_counter() - begin > KEPT_FROM and len(grey) + len(colours) <= 2 * MOST_CLASSES:
        # Without the cache the masks are read again. Why a cache cannot be written is reported when images are kept in it.
        with contextlib.suppress(InputError):
            make_cache_folder()
            write_json(file, {"listing": listing, "values": found._asdict()})
    return found


class _Looked(NamedTuple):
    name: str
    values: np.ndarray
    counts: np.ndarray
    is_colour: bool
    is_jpeg: bool


def _look(mask: tuple[str, Callable[[], bytes]]) -> _Looked | InputError:
    name, read = mask
    try:
        content = read()
        values = decode_values(content, name)
    except InputError as error:
        return error
    is_colour = values.ndim == 3 and bool((values != values[..., :1]).any())
    numbers = to_numbers(values, True) if is_colour else values if values.ndim == 2 else values[..., 0]
    numbers, counts = np.unique(numbers, return_counts=True)
    return _Looked(name, numbers, counts, is_colour, content.startswith(b"\xff\xd8"))


def _read_kept(file: Path, listing: str) -> Values | None:
    """Returns what was kept; None if it is missing, old or damaged."""
    with contextlib.suppress(InputError, FileNotFoundError, LookupError, TypeError, ValueError, AttributeError):
        kept = read_json(file)
        if kept["listing"] == listing:
            values = kept["values"]
            grey, colours = (
                {int(value): (int(pixels), str(name)) for value, (pixels, name) in values[kind].items()}
                for kind in ("grey", "colours")
            )
            return Values(grey, colours, int(values["masks"]), int(values["jpeg"]))
    return None


Named = list[tuple[int | None, str]]  # value or colour, if one is given, and name of each class


def read_names(file: Path) -> Named:
    """Reads the names of the classes, one on each line, the background first; none if there is no file.

    Raises:
        InputError: It cannot be read; some lines have a value and others do not; a value occurs twice; the background is not first.
    """
    if not file.is_file():
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "{file} cannot be read: {error}. Write one class a line, in UTF-8.", file=file, error=error
        ) from None
    named: Named = []
    for line in filter(None, map(str.strip, lines)):
        colour = re.match(r"(\d{1,3})[ \t,;]+(\d{1,3})[ \t,;]+(\d{1,3})[ \t,;:]+(\S.*)", line)
        single = re.match(r"(\d+)[ \t,;:]+(\S.*)", line)
        if colour and max(map(int, colour.groups()[:3])) <= 255:
            red, green, blue = map(int, colour.groups()[:3])
            named.append((red << 16 | green << 8 | blue, colour[4]))
        else:
            named.append((int(single[1]), single[2]) if single else (None, line))
    values = [value for value, _ in named]
    if None in values and set(values) != {None}:
        raise InputError(
            "{file}: the line '{line}' has no value, but others have one. Begin each line with its value, or no line.",
            file=file,
            line=named[values.index(None)][1],
        )
    twice = [name for at, (value, name) in enumerate(named) if value is not None and value in values[:at]]
    if twice:
        raise InputError(
            "{file}: the value of '{name}' occurs twice. Give each class its own value.", file=file, name=twice[0]
        )
    late = [name for _, name in named[1:] if name.casefold() in ("background", "背景")]
    if late:
        raise InputError(
            "{file}: '{name}' is not the first line, but the first line is the background. Put it there.",
            file=file,
            name=late[0],
        )
    return named


def choose_coding(found: Values, given: Named, file: Path | str) -> tuple[Coding, list[Finding]]:
    """Finds what the values mean.

    The background is 0, black. If no mask has it and no names are given, it is the value with the most pixels, and this is reported.

    Args:
        found: The values in the masks.
        given: Names of the classes, the background first, with or without values; empty if there are none.
        file: The file that they come from, for errors.

    Raises:
        InputError: There are too many values for classes, or only one; the names do not fit them.
    """
    is_colour = bool(found.colours)
    pixels = dict(found.colours if is_colour else found.grey)
    if is_colour:  # a mask with only one grey value, such as black, has that colour
        for value, (count, name) in found.grey.items():
            pixels[value * 0x10101] = (pixels.get(value * 0x10101, (0, name))[0] + count, name)
    values = sorted(pixels) or [0]

    def say(values: Iterable[int]) -> str:
        return ", ".join(say_value(value, is_colour) for value in values)

    _check_count(given, file)
    if len(values) > max(MOST_CLASSES, len(given)) or (found.jpeg and len(values) > 2):
        raise InputError(
            "The masks have {n} different values, such as {values} in {name}: a mask has one value per class. JPEG, or resizing with smoothing, "
            "mixes the values of classes: save masks as PNG, and resize them with nearest neighbour.",
            n=len(values),
            values=say(values[1:4]),
            name=pixels[values[1]][1],
        )
    findings: list[Finding] = []
    background = 0
    if not given and len(values) > 1 and 0 not in pixels:
        background = max(values, key=lambda value: pixels[value][0])
        findings = one_finding(
            "background_chosen",
            "act",
            "No mask has the value 0, which is the background. The most common value, {value}, is used as the background: {share:.0%} of the pixels. If the background has another value, name the classes in classes.txt, the background first, each line with its value.",
            value=say_value(background, is_colour),
            share=pixels[background][0] / sum(count for count, _ in pixels.values()),
        )
    if not given or any(value is None for value, _ in given):
        if len(values) == len(given):
            order = values
        else:
            order = [background, *(value for value in values if value != background)]
        coding = _name(order, is_colour, [name for _, name in given], file, say)
    else:
        known = [value for value, _ in given]
        unnamed = [value for value in values if value not in known]
        if unnamed:
            raise InputError(
                "{file} has no name for the value {value}, but masks have it.", file=file, value=say(unnamed[:1])
            )
        coding = Coding(tuple(known), tuple(name for _, name in given), is_colour)
    if len(values) < 2:
        raise InputError(
            "The masks have no value except {value}: nothing is marked in any of {n} masks. The background is 0, and each class has another value.",
            value=say(values),
            n=found.masks,
        )
    return coding, findings


def name_numbers(names: Sequence[str], file: Path | str) -> Coding:
    """What the values mean if they are the numbers of the classes; raises InputError if there are too many."""
    _check_count(names, file)
    return Coding(tuple(range(len(names))), tuple(names), False)


def _check_count(names: Sequence, file: Path | str) -> None:
    if len(names) > MOST_NAMED:
        raise InputError(
            "{file} names {n} classes. At most {most} are learned.", file=file, n=len(names), most=MOST_NAMED
        )


def _name(values: list[int], is_colour: bool, names: list[str], file: Path | str, say: Callable) -> Coding:
    """Classes in the order of their values, with the given names or with generated ones."""
    if not names:
        if len(values) == 2:
            return Coding(tuple(values), ("background", "foreground"), is_colour)
        made = ["background", *(f"#{value:06x}" if is_colour else str(value) for value in values[1:])]
        return Coding(tuple(values), tuple(made), is_colour)
    if len(names) < len(values):
        raise InputError(
            "{file} names {named} class(es), but the masks have {n} values: {values}. Name each, the background first.",
            file=file,
            named=len(names),
            n=len(values),
            values=say(values),
        )
    if len(names) > len(values):
        if is_colour or max(values) >= len(names):
            raise InputError(
                "{file} names {named} class(es), but the masks have {n} values: {values}. Begin each line with its value.",
                file=file,
                named=len(names),
                n=len(values),
                values=say(values),
            )
        values = list(range(len(names)))  # classes that no mask has
    return Coding(tuple(values), tuple(names), is_colour)
