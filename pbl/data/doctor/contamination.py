"""Anomalies among the normal training images, found with the help of known anomalies."""

from typing import NamedTuple

import numpy as np

from pbl.data.doctor.classifiers import cross_validate, describe_images, measure_margin
from pbl.data.doctor.finding import Part
from pbl.data.doctor.vectors import choose
from pbl.statistics import wilson_interval

CAP = 2_000  # images of either side
HIDDEN = 0.05  # known anomalies that are called normal, as a share of the normal images
FEWEST_HIDDEN = 8  # fewest hidden ones for an estimate; at most a quarter of the known ones is hidden
# At most this share of the hidden anomalies may be among the less suspect four fifths of the images that are called normal; else nothing
# is reported. Digits and MNIST have 0 to .07, clean and with 10% anomalies. Classes of CIFAR-10 have .04 (ships) and .16 to .33: up to 4% of
# these would be suspected though they are clean.
MOST_HIDDEN_WELL, LESS_SUSPECT = 0.1, 0.8
FIRST, MOST_FIRST = 10, 30  # images to look at first


class Contamination(NamedTuple):
    """How many normal images may be anomalies.

    Attributes:
        share: Estimated share of the normal images that were looked at, 0 to 1.
        low, high: Its interval: the 95% bounds of both counts together, so it is rather too wide than too narrow.
        looked_at: How many.
        suspects: How many of them are as suspect as the more suspect half of the known anomalies.
        names: Those to look at first, the most suspect one first.
    """

    share: float
    low: float
    high: float
    looked_at: int
    suspects: int
    names: list[str]


def measure_contamination(normal: Part, anomalies: Part, seed: int = 0) -> Contamination | None:
    """Estimates how many of the images that are called normal are anomalies of the kinds that are known.

    Some known anomalies are called normal too ("hidden"). Models that did not see an image (logistic regression on `describe_images`,
    5-fold) give how much more normal than anomalous it is. Half of the hidden anomalies are below their own median. Half of the
    anomalies that nobody hid are below it too, and hardly any normal image. So the estimate is about twice the share of the images below it.

    Args:
        normal: Images that are called normal; at most 2,000 are looked at, chosen by `seed`.
        anomalies: Known anomalies; likewise.
        seed: Seed of the choices and folds.

    Returns:
        None if no estimate is possible: fewer than 32 known anomalies, or simple models do not tell the hidden ones from the others.

    Example:
        >>> import numpy as np
        >>> import pbl
        >>> from pbl.data.doctor.contamination import measure_contamination
        >>> data = pbl.load_data("digits", normal=["8"])
        >>> parts, anomalies = data.parts("train", "val"), np.flatnonzero(~data.is_normal("val"))
        >>> found = measure_contamination(parts["train"], parts["val"].take(anomalies))
        >>> found.looked_at, found.low < 0.05  # of the eights
        (104, True)
    """
    normal, anomalies = (part.take(np.sort(choose(len(part.labels), CAP, seed))) for part in (normal, anomalies))
    count, most = round(HIDDEN * len(normal.labels)), len(anomalies.labels) // 4
    count = min(max(count, FEWEST_HIDDEN), most)
    if count < FEWEST_HIDDEN or len(normal.labels) < count:
        return None
    is_hidden = np.isin(np.arange(len(anomalies.labels)), choose(len(anomalies.labels), count, seed + 1))
    labels = np.concatenate([np.zeros(len(normal.labels), int), np.where(is_hidden, 0, 1)])
    images = np.concatenate([describe_images(part.pixels) for part in (normal, anomalies)])
    units = np.concatenate([normal.units, anomalies.units + normal.units.max() + 1])
    margin = measure_margin(cross_validate(images, labels, units, seed), labels)
    own, hidden = margin[: len(normal.labels)], margin[len(normal.labels) :][is_hidden]
    if (hidden > np.quantile(own, 1 - LESS_SUSPECT)).mean() > MOST_HIDDEN_WELL:
        return None
    border = np.median(hidden)  # several images may have this margin, if models are as sure as they can be
    found, below = int((own <= border).sum()), int((hidden <= border).sum())
    (low, high), (least, most) = wilson_interval(found, len(own)), wilson_interval(below, count)
    names = np.argsort(own, kind="stable")[: min(max(FIRST, 2 * found), MOST_FIRST)]
    return Contamination(
        min(found / len(own) * count / below, 1.0),
        low / most,
        min(high / least, 1.0),
        len(own),
        found,
        [normal.names[at] for at in names],
    )
