"""Turns a drawing on the pad into an image like MNIST's digits: fitted into a box, its centre of mass in the middle."""

import numpy as np
from PIL import Image

from pbl.errors import InputError

# MNIST's digits were fitted into 20 x 20 pixels of 28 x 28, their proportions kept, and moved so that their centre of mass is in
# the middle (LeCun, Cortes and Burges, The MNIST database). That is pixel 14 of 0 to 27: in 1,000 test images, measured, the centre is
# between 13.5 and 14.5 in both directions. Other sizes use the same shares.
BOX, CENTRE = 20 / 28, 14.5 / 28
DRAWN = 16  # of 255: anything fainter is not a stroke


def read_ink(picture: np.ndarray) -> np.ndarray:
    """Returns how much is drawn at each place of a picture, `uint8 [height, width]`: 0 nothing, 255 a stroke.

    Args:
        picture: `uint8 [height, width, 1 or 3]`, dark on white.
    """
    return (255 - picture.mean(axis=-1)).round().astype(np.uint8)


def fit_sketch(ink: np.ndarray, size: tuple[int, int], is_light: bool = True) -> np.ndarray:
    """Brings a drawing to the form of MNIST's digits, and in proportion for other sizes.

    The drawing is cut out, shrunk into a box of 20/28 of the image's sides with its proportions kept, and moved by whole pixels so
    that its centre of mass is in the middle, as far as the image has space.

    Args:
        ink: `uint8 [height, width]` of any size: 0 nothing, 255 a stroke.
        size: Height and width wanted, in pixels.
        is_light: Whether strokes are light on dark, as in MNIST; otherwise dark on light.

    Returns:
        `uint8 [*size, 1]`.

    Raises:
        InputError: Nothing is drawn.

    Example:
        `fit_sketch(read_ink(picture), (28, 28))`
    """
    rows, columns = (np.flatnonzero((ink >= DRAWN).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise InputError("The pad is empty. Draw on it first.")
    drawn = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = min(max(1, round(side * BOX)) / own for side, own in zip(size, (drawn.height, drawn.width), strict=True))
    height, width = (max(1, round(own * scale)) for own in (drawn.height, drawn.width))
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    small = np.asarray(drawn.resize((width, height), resample), np.float64)
    corner = []
    for axis, (side, own) in enumerate(zip(size, small.shape, strict=True)):
        weights = small.sum(axis=1 - axis)
        centre = float((weights * (np.arange(own) + 0.5)).sum() / weights.sum())
        corner.append(int(np.clip(round(side * CENTRE - centre), 0, side - own)))
    image = np.zeros(size, np.uint8)
    image[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = small.round()
    return (image if is_light else 255 - image)[..., None]
