"""How well scores separate anomalies from normal images: areas with intervals, a threshold with a guaranteed false alarm rate, baselines.

An anomaly has a high score. Needs NumPy, SciPy and scikit-learn; no network.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from pbl.diagnosis.anomalies import BASELINE_NAMES
from pbl.evaluation.metrics import GROUPS, Ranking
from pbl.statistics import newcombe_auc_interval

Score = Literal["mean", "max_patch"]
MOST_FITTED = 5_000  # normal training images that the baselines use: nearest neighbours among more would take minutes
LONGEST_SIDE = 64  # pixels of an image's side that they use at most; larger images are averaged
NEIGHBOURS = 5
COMPONENTS = 32  # number of PCA's components if the code's size is not known


class Interval(NamedTuple):
    """A value with its 95% interval; `low` and `high` are None if there are too few images for an interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


def find_patch_side(height: int, width: int) -> int:
    """Side in pixels of the patch of `max_patch`: a 14th of the image's shorter side, odd, at least 3."""
    return max(3, min(height, width) // 14 // 2 * 2 + 1)


def map_errors(images: np.ndarray, reconstructions: np.ndarray, score: Score = "mean") -> np.ndarray:
    """Returns where a reconstruction differs from its image.

    Args:
        images: `uint8` or float `[n, height, width, channels]`, 0 to 255.
        reconstructions: The same shape.
        score: with "max_patch" errors are smoothed: each pixel is the mean of the patch around it (`find_patch_side`), since a single bright pixel
            is noise and a defect has an extent.

    Returns:
        `float32 [n, height, width]`: squared error of pixels on the scale from 0 to 1, averaged over the channels.
    """
    from scipy.ndimage import uniform_filter

    difference = (images.astype(np.float32) - reconstructions.astype(np.float32)) / 255
    errors = np.square(difference).mean(axis=-1)
    if score == "max_patch":
        side = find_patch_side(*errors.shape[1:])
        errors = uniform_filter(errors, (0, side, side), mode="constant")
    return errors


def score_errors(errors: np.ndarray, score: Score = "mean") -> np.ndarray:
    """Returns one score for each image, `float32 [n]`, from `map_errors`: the mean of all pixels, or the largest smoothed patch."""
    return errors.mean(axis=(1, 2)) if score == "mean" else errors.max(axis=(1, 2))


class Promise(NamedTuple):
    """A threshold that few normal images exceed.

    Attributes:
        threshold: An image whose score is above it is called an anomaly; infinite if there are too few normal images.
        asked: The share of normal images that may be called anomalies.
        kept: The expected share, as a mean over all such thresholds; at most `asked`.
        low, high: 95% interval of the share among all normal images, for this one threshold.
        images: How many normal images it was chosen from.
        rank: The threshold is the score at this place among them, 1 the smallest.
    """

    threshold: float
    asked: float
    kept: float
    low: float
    high: float
    images: int
    rank: int

    def predict_found(self, images: int) -> tuple[float, float]:
        """Returns the 95% interval of the share of `images` other normal images that are called anomalies."""
        from scipy.stats import betabinom

        if self.rank > self.images:
            return 0.0, 0.0
        found = betabinom(images, self.images + 1 - self.rank, self.rank)
        return float(found.ppf(0.025)) / images, float(found.ppf(0.975)) / images


def choose_threshold(scores: np.ndarray, false_alarms: float = 0.05) -> Promise:
    """Chooses the threshold from the scores of normal images that the network was not trained on.

    The threshold is the score at place ceil((n + 1)(1 - false_alarms)): the mean share of other normal images above it is then at most
    `false_alarms`, whatever the scores' distribution (a conformal quantile). The share of a single threshold varies around this: it has
    the distribution Beta(n + 1 - place, place).

    Args:
        scores: `float [n]`, of normal images alone.
        false_alarms: Share of normal images that may be called anomalies, above 0, below .5.

    Source: V. Vovk, A. Gammerman, G. Shafer (2005), Algorithmic Learning in a Random World, chapter 2; V. Vovk (2012), ACML,
    proposition 2a; the distribution of an order statistic's share: S. S. Wilks (1941), Annals of Mathematical Statistics 12, 91.
    """
    from scipy.stats import beta

    n = len(scores)
    rank = int(np.ceil((n + 1) * (1 - false_alarms) - 1e-9))
    if rank > n:  # fewer images than 1 / false_alarms - 1
        return Promise(np.inf, false_alarms, 0.0, 0.0, 0.0, n, rank)
    share = beta(n + 1 - rank, rank)
    threshold = float(np.partition(scores, rank - 1)[rank - 1])
    return Promise(
        threshold, false_alarms, (n + 1 - rank) / (n + 1), float(share.ppf(0.025)), float(share.ppf(0.975)), n, rank
    )


def measure_areas(is_anomaly: np.ndarray, scores: Sequence[np.ndarray], groups: Sequence[str] | None = None) -> "Areas":
    """Computes areas under the curves of several scores of the same images, also with one part of the images left out at a time.

    Args:
        is_anomaly: `bool [n]`.
        scores: `float [n]` each.
        groups: A group name for each image: images of one group are left out together, since they are alike.

    Raises:
        ValueError: All images are anomalies, or none.
    """
    return Areas(is_anomaly, scores, groups)


class Areas:
    """AUROC and average precision of several scores, with jackknife intervals; see `measure_areas`.

    Attributes:
        values: `float64 [scores, 2]`: AUROC and average precision.
        without: `float64 [scores, 2, parts]`: the same without each part of the images.
    """

    def __init__(self, is_anomaly: np.ndarray, scores: Sequence[np.ndarray], groups: Sequence[str] | None):
        n = len(is_anomaly)
        rankings = [Ranking(is_anomaly, score) for score in scores]
        if not all(ranking.has_both for ranking in rankings):
            raise ValueError("areas need normal images and anomalies")
        _, group = np.unique(np.arange(n) if groups is None else np.asarray(groups, str), return_inverse=True)
        count = group.max() + 1
        self.parts = min(int(count), GROUPS)
        part = np.random.default_rng(0).permutation(count)[group] % self.parts
        kept = np.concatenate([np.ones((1, n), bool), part != np.arange(self.parts)[:, None]])
        areas = np.array([ranking.areas(kept.astype(np.float64)) for ranking in rankings])
        self.anomalies, self.has_groups = int(is_anomaly.sum()), groups is not None
        self.values, self.without = areas[:, :, 0], areas[:, :, 1:]
        self.images = n

    def interval(self, score: int, area: int = 0) -> Interval:
        """Value and 95% interval of an area (0: AUROC, 1: average precision) for a score.

        AUROC: `newcombe_auc_interval`. AUROC with groups, and average precision: by leaving out parts, on the logit scale, as in
        `pbl.evaluation.metrics.compute_jackknife_intervals`, with Student's t instead of 1.96.
        """
        value, many = self.values[score, area], self.images**2
        if area == 0 and not self.has_groups:
            return Interval(float(value), *newcombe_auc_interval(value, self.anomalies, self.images - self.anomalies))

        def to_scale(
            share: np.ndarray,
        ) -> np.ndarray:  # half a pair of images is added on either side, so that no end is infinite
            return np.log((many * share + 0.5) / (many - many * share + 0.5))

        ends = self._reach(to_scale(value), to_scale(self.without[score, area]))
        if ends is None:
            return Interval(float(value))
        low, high = ((many + 1) / (1 + np.exp(-ends)) - 0.5) / many
        return Interval(float(value), float(min(max(low, 0), value)), float(max(min(high, 1), value)))

    def difference(self, one: int, other: int, area: int = 0) -> Interval:
        """The difference of an area between two scores (first minus second), paired over the images, with its 95% interval."""
        value = self.values[one, area] - self.values[other, area]
        ends = self._reach(value, self.without[one, area] - self.without[other, area])
        return Interval(float(value)) if ends is None else Interval(float(value), *map(float, ends))

    def _reach(self, value: float | np.ndarray, without: np.ndarray) -> np.ndarray | None:
        from scipy.stats import t

        without, g = without[np.isfinite(without)], self.parts
        if (
            len(without) < g or g < 3 or np.ptp(without) < 1e-12
        ):  # if no image changes the value, nothing can be said about other images
            return None
        centre = value - (g - 1) * (without.mean() - value)
        error = np.sqrt((g - 1) / g * np.square(without - without.mean()).sum())
        return centre + np.array([-1, 1]) * t.ppf(0.975, g - 1) * error


BASELINES = tuple(BASELINE_NAMES)


class Baselines:
    """Scores that need no network: PCA, nearest neighbours in two ways, the distance to the mean image, the mean brightness.

    Args:
        normal: Normal training images, `uint8 [n, height, width, channels]`; at most `MOST_FITTED` are used, chosen by seed 0.
        components: Of PCA, at most; as many as the code has numbers.
    """

    def __init__(self, normal: np.ndarray, components: int = COMPONENTS):
        from sklearn.decomposition import PCA
        from sklearn.neighbors import NearestNeighbors

        if len(normal) > MOST_FITTED:
            normal = normal[np.sort(np.random.default_rng(0).permutation(len(normal))[:MOST_FITTED])]
        known = _flatten(normal)
        self.mean = known.mean(axis=0)
        components = min(components, len(known), known.shape[1])
        self.pca = PCA(components, svd_solver="randomized", random_state=0).fit(known)
        self.neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(known)), algorithm="brute").fit(known)
        self.nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(_even_out(known))

    def score(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the scores of images `[n, height, width, channels]`, by the names in `BASELINES`, each `float [n]`.

        "pca": squared error of the reconstruction from the components. "nearest_neighbours": mean distance to the 5 nearest normal
        training images. "nearest_evened": distance to the nearest one after each image was scaled to mean 0 and deviation 1, so that exposure
        does not count: near 0 if the same place was trained on. "mean_image": squared distance to their mean. "brightness": the mean of the pixels.
        """
        pixels = _flatten(images)
        back = self.pca.inverse_transform(self.pca.transform(pixels))
        distances, _ = self.neighbours.kneighbors(pixels)
        nearest, _ = self.nearest.kneighbors(_even_out(pixels))
        return {
            "pca": np.square(pixels - back).mean(axis=1),
            "nearest_neighbours": distances.mean(axis=1),
            "nearest_evened": nearest[:, 0],
            "mean_image": np.square(pixels - self.mean).mean(axis=1),
            "brightness": pixels.mean(axis=1),
        }


def _even_out(pixels: np.ndarray) -> np.ndarray:
    """Scales each row to mean 0 and deviation 1."""
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    return centred / (centred.std(axis=1, keepdims=True) + 1e-6)


def _flatten(images: np.ndarray) -> np.ndarray:
    """Pixels on the scale from 0 to 1, `float32 [n, pixels]`; large images are averaged over blocks."""
    n, height, width, channels = images.shape
    block = -(-max(height, width) // LONGEST_SIDE)
    if block > 1:
        height, width = height // block * block, width // block * block
        blocks = images[:, :height, :width].reshape(n, height // block, block, width // block, block, channels)
        images = blocks.mean(axis=(2, 4), dtype=np.float32)
    return images.reshape(n, -1).astype(np.float32) / 255


def judge_pixels(errors: np.ndarray, masks: np.ndarray, most: float = 0.3) -> dict[str, Any]:
    """Judges a map of errors against the exact masks of the defects.

    Args:
        errors: `float [n, height, width]`, of anomalies and normal images.
        masks: `bool [n, height, width]`, true where the defect is; all false for a normal image.
        most: PRO considers thresholds that call at most this share of the normal pixels defects.

    Returns:
        `pixel_roc_auc`: AUROC over all pixels of all images, to which large defects contribute most. `pro`: area under the curve of the mean
        share of each connected region that is found, against the share of normal pixels called defects, from 0 to `most`, divided by `most`: each region
        counts the same. None if there is no defect, or nothing else.

    Source: P. Bergmann et al. (2020), CVPR, 4183-4192, section 4.2 (PRO, .3).
    """
    from scipy.ndimage import label
    from sklearn.metrics import roc_auc_score

    if not masks.any() or masks.all():
        return {"pixel_roc_auc": None, "pro": None}
    regions, count = np.zeros(masks.shape, np.int32), 0
    for at, mask in enumerate(masks):
        found, n = label(mask, structure=np.ones((3, 3)))
        regions[at] = np.where(found, found + count, 0)
        count += n
    order = np.argsort(-errors, axis=None, kind="stable")
    region, sorted_errors = regions.ravel()[order], errors.ravel()[order]
    sizes = np.bincount(region, minlength=count + 1)
    share = np.concatenate([[0.0], 1.0 / sizes[1:]])[region] / count  # what one pixel adds to the mean over regions
    last = np.flatnonzero(
        np.diff(sorted_errors, append=-np.inf)
    )  # pixels with equal errors are called defects together
    overlap = np.concatenate([[0.0], share.cumsum()[last]])
    called = np.concatenate([[0.0], (region == 0).cumsum()[last] / sizes[0]])
    inside = called <= most
    x, y = called[inside], overlap[inside]
    if not inside.all():  # interpolates up to the end of the considered part
        x, y = np.append(x, most), np.append(y, np.interp(most, called, overlap))
    return {
        "pixel_roc_auc": float(roc_auc_score(masks.ravel(), errors.ravel())),
        "pro": float(np.trapezoid(y, x) / most),
    }
