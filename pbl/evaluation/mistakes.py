"""Which classes are taken for each other, and the images that show it."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_PAIRS = 24  # pairs of classes of which images are kept
OF_EACH = 6  # images of each pair of classes: the mistakes with the highest confidence
LONGEST_SIDE = 48  # pixels of a small image
MOST_KEPT = MOST_PAIRS * OF_EACH


class Pair(NamedTuple):
    """A true class, and another class for which its images were taken.

    Attributes:
        true, predicted: Indices of the classes.
        count: How many images.
        places: Indices of the mistakes with the highest confidence, the highest first.
    """

    true: int
    predicted: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks for here
    places: list[int]


def count_confusions(labels: np.ndarray, predicted: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns true class, predicted class and number of images for each pair of classes that is confused, the most frequent first."""
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(a), int(b), int(n)) for (a, b), n in zip(pairs[order], counts[order], strict=True)]


def find_pairs(labels: np.ndarray, probabilities: np.ndarray, most: int = MOST_PAIRS) -> list[Pair]:
    """Returns the pairs of classes that are confused most often, the most frequent first.

    Args:
        labels: `int [n]`.
        probabilities: `float [n, classes]`.
        most: How many pairs, at most.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    pairs = []
    for true, other, count in count_confusions(labels, predicted)[:most]:
        places = np.flatnonzero((labels == true) & (predicted == other))
        surest = places[np.argsort(-confidence[places], kind="stable")][:OF_EACH]
        pairs.append(Pair(true, other, count, surest.tolist()))
    return pairs


def make_small_images(pixels: Sequence[np.ndarray]) -> np.ndarray:
    """Returns images of one size with at most 48 pixels a side, `uint8 [n, height, width, channels]`.

    Args:
        pixels: Images, each `uint8 [height, width, 1 or 3]`.
    """
    from PIL import Image  # imported only when images are made: a run is opened without it

    small = []
    for image in pixels:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        height, width = image.shape[:2]
        share = min(1.0, LONGEST_SIDE / max(height, width))
        size = max(1, round(width * share)), max(1, round(height * share))
        picture = picture.resize(size, Image.Resampling.BOX) if share < 1 else picture
        small.append(np.asarray(picture).reshape(size[1], size[0], image.shape[-1]))
    return np.stack(small) if small else np.zeros((0, 1, 1, 1), np.uint8)


def write_png(image: np.ndarray) -> bytes:
    """Returns an image, `uint8 [height, width, 1 or 3]`, as a PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
