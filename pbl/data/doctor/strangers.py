"""Images unlike the others: drawings or screenshots among photographs, images of nearly one colour, blurred ones."""

from collections.abc import Mapping

import numpy as np

from pbl.data.doctor.finding import Finding, Part, one_finding
from pbl.data.doctor.shift import STATISTICS, measure_images
from pbl.data.doctor.vectors import choose

FEWEST_IMAGES = 50  # to know what is usual
LOOKED_AT = 5_000  # images of all splits together
NEIGHBOUR = 5
# Robust standard deviations from the median beyond which a value is an outlier (B. Iglewicz, D. Hoaglin 1993, "How to Detect and
# Handle Outliers", section 3), and beyond which an image is named: among thousands of images some are outliers by nature.
# planted_faults.md lists what is found, and how many images of clean data sets are named.
OUTLIER, NAMED = 3.5, 4.0
FARTHEST = 8.0  # robust standard deviations; a single statistic is clipped here
# Conventions: a standard deviation of at most 5 levels (0 to 255), and at most a fifth of what is usual in the data.
FAINT, FAINT_SHARE = 5, 0.2


def find_strangers(splits: Mapping[str, Part], cap: int = LOOKED_AT, seed: int = 0) -> list[Finding]:
    """Images unlike all others, of nearly one colour, or strongly blurred: "notes", with pictures.

    "stranger": each image is described by the statistics of `shift.measure_images` and of `measure_surface`, as robust scores. The
    logarithm of its distance to the fifth nearest image (S. Ramaswamy, R. Rastogi, K. Shim 2000, SIGMOD) is an outlier.
    "faint_image": nearly white, nearly black or nearly of another colour everywhere. Images of exactly one colour are not counted.
    "blurred_image": sharpness, the mean absolute Laplacian divided by the contrast, is an outlier at the low end.

    Clean data have unusual images too. In the six sets on which the limit of 4 was chosen, at most 1% of the images are named as
    strangers (15 of 1,797 digits, 7 of 1,344 tiles, 1 to 3 of 2,000 CIFAR-10 images) and .1% as blurred; in 20 draws of 300 digits
    1.5%.

    Args:
        splits: See `examine`.
        cap: Images that are looked at, chosen by `seed`.
        seed: Seed of the choice.
    """
    names, values = _measure(splits, cap, seed)
    if len(names) < FEWEST_IMAGES:
        return []
    contrast, laplacian = (values[:, STATISTICS.index(word)] for word in ("contrast", "sharpness"))
    distance = _measure_distances(np.clip(_score(values), -FARTHEST, FARTHEST))
    faint = np.where(contrast < min(FAINT, FAINT_SHARE * np.median(contrast)), 1 / (contrast + 1), 0)
    # The small constants keep the noise of an even picture from being taken for sharpness.
    blurred = -_score(np.log((laplacian + 0.05) / (contrast + 1)))
    blurred[faint > 0] = 0
    strange = _score(np.log(distance + 1e-3))
    findings = []
    if found := _name_largest(strange, NAMED, names):
        findings += one_finding(
            "stranger",
            "note",
            "Images unlike all others: {images} of {looked_at}, such as {examples}; clean data have some too, about 1%: check whether these belong here, or are drawings, screenshots or placeholders.",
            found,
            images=len(found),
            looked_at=len(names),
        )
    if found := _name_largest(faint, 0, names):
        findings += one_finding(
            "faint_image",
            "note",
            "Images of nearly a single colour: {images} of {looked_at}, such as {examples}; check whether anything is visible in them.",
            found,
            images=len(found),
            looked_at=len(names),
        )
    if found := _name_largest(blurred, NAMED, names):
        findings += one_finding(
            "blurred_image",
            "note",
            "Images much less sharp than the others: {images} of {looked_at}, such as {examples}; check whether a person could name them.",
            found,
            images=len(found),
            looked_at=len(names),
        )
    return findings


def _name_largest(scores: np.ndarray, limit: float, names: list[str]) -> list[str]:
    """Names of the images whose score is above the limit, the largest first."""
    return [names[i] for i in np.argsort(-scores, kind="stable") if scores[i] > limit]


def _measure(splits: Mapping[str, Part], cap: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Names and statistics of the images that are looked at, without those of exactly one colour."""
    begins = np.cumsum([0, *(len(part.names) for part in splits.values())])
    chosen = choose(int(begins[-1]), cap, seed)
    names: list[str] = []
    values = []
    for part, begin in zip(splits.values(), begins, strict=False):
        index = np.sort(chosen[(chosen >= begin) & (chosen < begin + len(part.names))] - begin)
        for some in np.array_split(index, len(index) // 500 + 1):
            pixels = part.pixels[some]
            if len(some) and min(pixels.shape[1:3]) >= 3:
                values.append(np.concatenate([measure_images(pixels), measure_surface(pixels)], axis=1))
                names += [part.names[i] for i in some]
    if not values:
        return [], np.empty((0, 0))
    measured = np.concatenate(values)
    varies = measured[:, STATISTICS.index("contrast")] > 0
    return [name for name, keep in zip(names, varies, strict=True) if keep], measured[varies]


def measure_surface(pixels: np.ndarray) -> np.ndarray:
    """Statistics that tell drawings from photographs: the share of pixels equal to their neighbours, the variety of greys, colourfulness.

    Args:
        pixels: `uint8 [n, height, width, channels]`.

    Returns:
        `float64 [n, 3]`: pixels that differ by at most 1 level from the next ones to the right and below, from 0 to 1; entropy of
        the greys in 32 steps, in nats; mean difference of the largest and the smallest channel, in levels.
    """
    channels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).astype(np.int16)
    largest_step = np.maximum(
        np.abs(np.diff(channels, axis=3)).max(axis=0)[:, :-1], np.abs(np.diff(channels, axis=2)).max(axis=0)[:, :, :-1]
    )
    of_image = 32 * np.arange(len(pixels))[:, None]
    greys = (channels.sum(axis=0) // (8 * len(channels))).reshape(len(pixels), -1) + of_image
    share = np.bincount(greys.ravel(), minlength=32 * len(pixels)).reshape(-1, 32) / greys.shape[1]
    variety = -(share * np.log(np.maximum(share, 1e-9))).sum(axis=1)
    colourful = (channels.max(axis=0) - channels.min(axis=0)).mean(axis=(1, 2))
    return np.stack([(largest_step <= 1).mean(axis=(1, 2)), variety, colourful], axis=1)


def _score(values: np.ndarray) -> np.ndarray:
    """How far values lie from their median, column by column, in robust standard deviations (1.4826 times the median absolute deviation)."""
    middle = np.median(values, axis=0)
    deviation = 1.4826 * np.median(np.abs(values - middle), axis=0)
    return (values - middle) / np.maximum(deviation, 1e-3 * (np.abs(middle) + 1e-3))


def _measure_distances(values: np.ndarray) -> np.ndarray:
    """The Euclidean distance of each row to the fifth nearest other one."""
    squares = (values**2).sum(axis=1)
    blocks = []
    for begin in range(0, len(values), 128):  # so that they fit into the processor's cache
        some = slice(begin, begin + 128)
        distances = squares[some, None] + squares - 2 * values[some] @ values.T
        blocks.append(np.partition(distances, NEIGHBOUR, axis=1)[:, NEIGHBOUR])
    return np.sqrt(np.maximum(np.concatenate(blocks), 0))
