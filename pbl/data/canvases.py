"""A data set of objects by code: handwritten digits strewn over canvases, with exact boxes. No download."""

import numpy as np

from pbl.data.boxes import from_boxed_arrays
from pbl.data.source import Source
from pbl.errors import InputError

TEST_SHARE = 0.25  # of the digits, and of the canvases
GREY_LEVELS = 16  # of scikit-learn's digits
PAPER = 40  # the brightest that a canvas's ground may be
TRIES = 12  # places that are tried for a digit; where all overlap, the canvas has one digit less


def digit_canvases(count: int = 1000, side: int = 64, most: int = 5, seed: int = 0) -> Source:
    """Strews handwritten digits over canvases, with the box of each: an empty canvas, or up to `most` digits on one.

    Each digit is one of scikit-learn's 1,797 real ones of 8x8 pixels (`pbl.data.catalogue.digits`), enlarged to between 2 and 3 times that
    size by bilinear interpolation, brighter than the ground, which is grey noise. A box is that of the pixels that were drawn. Boxes do not
    overlap. A quarter of the canvases are an official test split, of digits that no training canvas shows: not the very same image of a
    digit stands on both sides.

    Args:
        count: Canvases, test split included.
        side: Height and width of a canvas in pixels, at least 32.
        most: The most digits on a canvas, at least 1; each number from 0 on is as frequent, but where there is no room.
        seed: Another seed, other canvases.

    Raises:
        InputError: A number is too small.
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
    for_test = round(TEST_SHARE * len(order))
    canvases = round(TEST_SHARE * count)
    drawn = {
        split: _draw(number, side, most, bunch.images[chosen], bunch.target[chosen], random)
        for split, number, chosen in (
            ("train", count - canvases, order[for_test:]),
            ("test", canvases, order[:for_test]),
        )
    }
    return from_boxed_arrays(*drawn["train"], [str(digit) for digit in range(10)], test=drawn["test"])


def _draw(
    count: int, side: int, most: int, digits: np.ndarray, labels: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws canvases `uint8 [count, side, side]` and their boxes `float32 [count, most, 5]`."""
    from PIL import Image

    images = random.integers(0, PAPER + 1, (count, side, side), np.uint8)
    boxes = np.tile(np.array([0, 0, 0, 0, -1], np.float32), (count, most, 1))
    wanted = random.integers(0, most + 1, count)
    for image, rows, digits_on_it in zip(images, boxes, wanted, strict=True):
        taken: list[tuple[int, int, int, int]] = []
        for chosen in random.integers(0, len(digits), digits_on_it):
            size = int(random.integers(16, 25))
            grey = Image.fromarray((digits[chosen] * (255 / GREY_LEVELS)).astype(np.uint8))
            large = np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR))
            is_ink = large > PAPER  # what would not be told from the ground is no part of the digit
            across, down = np.flatnonzero(is_ink.any(axis=0)), np.flatnonzero(is_ink.any(axis=1))
            ink = large[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
            height, width = ink.shape
            for left, top in random.integers(0, (side - width + 1, side - height + 1), (TRIES, 2)).tolist():
                box = left, top, left + width, top + height
                if all(box[0] >= x1 or x0 >= box[2] or box[1] >= y1 or y0 >= box[3] for x0, y0, x1, y1 in taken):
                    place = image[top : box[3], left : box[2]]
                    np.maximum(place, ink, out=place)
                    rows[len(taken)] = *box, labels[chosen]
                    taken.append(box)
                    break
    return images, boxes
