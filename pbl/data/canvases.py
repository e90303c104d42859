"""A data set of objects by code: handwritten digits strewn over canvases, with exact boxes. No download."""

import numpy as np

from pbl.data.boxes import from_boxed_arrays, pad_boxes
from pbl.data.source import Source
from pbl.errors import InputError

SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}  # of the digits and of the canvases
GREY_LEVELS = 16  # of scikit-learn's digits
PAPER = 40  # the highest grey level, of 0 to 255, of a canvas's background
SIZES = (16, 24)  # sides of an enlarged digit in pixels, before the empty border around it is cut off
TRIES = 12  # places that are tried for a digit; if all overlap other digits, the canvas has one digit less


def digit_canvases(count: int = 1000, side: int = 64, most: int = 5, seed: int = 0) -> Source:
    """Strews handwritten digits over canvases, with the box of each: an empty canvas, or up to `most` digits on one.

    Each digit is one of scikit-learn's 1,797 real ones of 8x8 pixels (`pbl.data.catalogue.digits`), enlarged to between 2 and 3 times that
    size by bilinear interpolation, and brighter than the background, which is grey noise. A box surrounds the pixels that were drawn. Boxes do not
    overlap. A quarter of the canvases are an official test split, and 15% the official validation split. No digit image is used in two
    splits.

    Args:
        count: Canvases, validation and test split included.
        side: Height and width of a canvas in pixels, at least 32.
        most: The most digits on a canvas, at least 1; all numbers from 0 to it are equally frequent, unless there is no room.
        seed: Seed of the canvases.

    Raises:
        InputError: A number is too small.

    Example:
        >>> import pbl
        >>> data = pbl.load_data(pbl.data.digit_canvases(100, side=48), boxes=True)
        >>> data.input_shape, data.num_classes
        ((48, 48, 1), 10)
    """
    for name, value, least in (("count", count, 8), ("side", side, 32), ("most", most, 1)):
        if value < least:
            raise InputError(
                "digit_canvases: {name}={value}. Valid: {least} or more.", name=name, value=value, least=least
            )
    from sklearn.datasets import load_digits  # takes 1.4 s, and only this source needs it

    bunch = load_digits()
    random = np.random.default_rng(seed)
    order = random.permutation(len(bunch.target))
    ends = np.cumsum(list(SHARES.values()))
    drawn = {}
    for split, begin, end in zip(SHARES, [0.0, *ends[:-1]], ends, strict=True):
        canvases, chosen = (slice(round(begin * of), round(end * of)) for of in (count, len(order)))
        digits = order[chosen]
        drawn[split] = _draw(
            canvases.stop - canvases.start, side, most, bunch.images[digits], bunch.target[digits], random
        )
    names = [str(digit) for digit in range(10)]
    return from_boxed_arrays(*drawn["train"], names, test=drawn["test"], val=drawn["val"])


def _draw(
    count: int, side: int, most: int, digits: np.ndarray, labels: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws canvases `uint8 [count, side, side]` and their boxes `float32 [count, most, 5]`."""
    images = random.integers(0, PAPER + 1, (count, side, side), np.uint8)
    boxes = pad_boxes([np.zeros((0, 5))] * count, most)
    canvas = np.repeat(np.arange(count), random.integers(0, most + 1, count))  # the canvas of each digit
    chosen = random.integers(0, len(digits), len(canvas))
    sizes = random.integers(SIZES[0], SIZES[1] + 1, len(canvas))
    inks: list = [None] * len(canvas)
    for size in range(SIZES[0], SIZES[1] + 1):
        at = np.flatnonzero(sizes == size)
        for number, ink in zip(at, _enlarge(digits[chosen[at]], size), strict=True):
            # Parts of a digit that cannot be told from the background do not count.
            rows, columns = (np.flatnonzero((ink > PAPER).any(axis=axis)) for axis in (1, 0))
            inks[number] = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    places = random.random((len(canvas), TRIES, 2))
    taken: list[list[tuple[int, int, int, int]]] = [[] for _ in range(count)]
    for number, ink in enumerate(inks):
        height, width = ink.shape
        beside = taken[canvas[number]]
        for left, top in (places[number] * (side - width + 1, side - height + 1)).astype(int).tolist():
            right, bottom = left + width, top + height
            if all(left >= x1 or x0 >= right or top >= y1 or y0 >= bottom for x0, y0, x1, y1 in beside):
                place = images[canvas[number], top:bottom, left:right]
                np.maximum(place, ink, out=place)
                boxes[canvas[number], len(beside)] = left, top, right, bottom, labels[chosen[number]]
                beside.append((left, top, right, bottom))
                break
    return images, boxes


def _enlarge(digits: np.ndarray, size: int) -> np.ndarray:
    """Enlarges `float [n, 8, 8]`, 0 to 16, by bilinear interpolation to `uint8 [n, size, size]`, 0 to 255."""
    where = (np.arange(size) + 0.5) * digits.shape[1] / size - 0.5
    weights = np.stack([np.interp(where, np.arange(digits.shape[1]), row) for row in np.eye(digits.shape[1])], axis=1)
    return (weights @ (digits * (255 / GREY_LEVELS)) @ weights.T).round().astype(np.uint8)
