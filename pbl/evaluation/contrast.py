"""How good learned features are: probes with few labels and with many, nearest neighbours, and pairs of images; compared with simple controls.

A number for the encoder alone says nothing: on MNIST the nearest neighbour in plain pixels beats it if all labels are there. So each
number is shown next to that of pixels and of the untrained network. Needs NumPy and scikit-learn alone.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pbl.statistics import (
    crossed_interval,
    crossed_mean_interval,
    mcnemar_test,
    paired_interval,
    summarise_seeds,
)

SHARES = (0.01, 0.05, 0.1, 1.0)  # shares of the training labels
MOST_LABELS = 10_000  # labels that a probe learns from
DRAWS = 3  # draws of the labelled images, if they are few
FEW = 2_000  # labels; with more, a probe is trained once
LENGTH = 10.0  # mean squared length of a probe's input: with C = 1 about the best for MNIST's pixels, with 200 to 10,000 labels
MOST_PAIRED = 600  # images whose pairs are all looked at
BOOTSTRAPS = 200
FALSE_ACCEPTANCE = (0.01, 0.001)
ARMS = ("encoder", "untrained", "pixels")
CONTROLS = (
    ("pixels", "probe"),
    ("pixels", "nearest"),
    ("untrained", "probe"),
)  # the encoder's probe is compared with these


def measure_spread(embeddings: np.ndarray) -> float:
    """Returns how far apart points on the unit sphere are: the root of their variance, 1 for all directions alike, 0 for one point.

    Args:
        embeddings: `float [n, size]`, each of length 1.
    """
    return float(np.sqrt(max(0.0, 1 - np.square(np.asarray(embeddings, np.float64).mean(axis=0)).sum())))


def scale_rows(features: np.ndarray) -> np.ndarray:
    """Scales each row to length 1, `float32`; a row of zeros stays."""
    features = features.reshape(len(features), -1).astype(np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def find_nearest(rows: np.ndarray, among: np.ndarray, itself: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Finds for each row the most similar other one by cosine.

    Args:
        rows, among: `float32 [n, size]` and `float32 [m, size]`, of length 1.
        itself: Whether both are the same images: then a row is not its own nearest.

    Returns:
        Index and cosine of the nearest one, `int [n]` and `float32 [n]`.
    """
    number, cosine = np.empty(len(rows), int), np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 1_000):
        similarity = rows[start : start + 1_000] @ among.T
        if itself:
            similarity[np.arange(len(similarity)), start + np.arange(len(similarity))] = -np.inf
        chosen = similarity.argmax(axis=1)
        number[start : start + 1_000] = chosen
        cosine[start : start + 1_000] = similarity[np.arange(len(chosen)), chosen]
    return number, cosine


class Probe:
    """Logistic regression on fixed features (scikit-learn's, with its C of 1).

    Features are centred and scaled to one mean length; both are computed from images that need no labels. So neither scale nor number of
    features gives an advantage.

    Args:
        features: `float [n, ...]`, of images with or without labels.
    """

    def __init__(self, features: np.ndarray):
        features = features.reshape(len(features), -1).astype(np.float32)
        self._mean = features.mean(axis=0)
        length = float(np.square(features - self._mean).sum(axis=1).mean())
        self._scale = np.float32(np.sqrt(length / LENGTH)) if length > 0 else np.float32(1)

    def scale(self, features: np.ndarray) -> np.ndarray:
        """Scales features for the regression, `float32 [n, size]`."""
        return (features.reshape(len(features), -1).astype(np.float32) - self._mean) / self._scale

    def predict(self, known: np.ndarray, labels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
        """Learns from features with labels, and returns the classes of the others, `int [m]`; the features must be scaled."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(labels)) == 1:
            return np.full(len(unknown), labels[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(max_iter=100, tol=1e-3).fit(known, labels).predict(unknown)


def choose_labelled(hashes: Sequence[str], labels: np.ndarray, share: float, draw: int = 0) -> np.ndarray:
    """Chooses the images whose labels are known: this share of each class, at least one; by content, so that the choice is the same everywhere.

    With the same `draw` a smaller share is part of a larger one. Returns `bool [n]`.
    """
    order = np.array([hashlib.sha256(f"labels {draw} {content}".encode()).hexdigest() for content in hashes])
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = max(1, round(share * len(of_class)))
        chosen[of_class[np.argsort(order[of_class])[:count]]] = True
    return chosen


def list_shares(images: int, kept: int, num_classes: int) -> list[float]:
    """The shares of the training labels at which probes are trained: those with at least two labels for every class on average.

    Args:
        images: Training images in all.
        kept: How many of them the probe may learn from; the largest share is of these.
        num_classes: Number of classes.
    """
    few = [share for share in SHARES if share < 1 and 2 * num_classes <= share * images <= kept / 2]
    return [*few, kept / images]


def judge_probes(
    arms: Mapping[str, tuple[np.ndarray, np.ndarray]],
    hashes: Sequence[str],
    labels: np.ndarray,
    truth: np.ndarray,
    images: int,
) -> dict[str, Any]:
    """Probes features with few labels and with many, by logistic regression and by the nearest neighbour.

    Args:
        arms: By the names in `ARMS`, the features of training images and of judged images, `float [n, ...]` and `float [m, ...]`.
        hashes, labels: Those of the training images.
        truth: `int [m]`, the classes of the judged images.
        images: Training images in all, of which these are a sample.

    Returns:
        `levels`: for each number of labels, the accuracy of each arm with its 95% interval, and the differences of the encoder's probe from
        the controls, on the same images. With several draws of the labels both intervals are over draws and images
        (`crossed_mean_interval`): other labels would have been as likely. With one draw they are over the images (Wilson's). And `by_level`: `float32 [m, levels]`, how often the encoder's probe was right on each image.
    """
    probes = {name: Probe(train) for name, (train, _) in arms.items()}
    scaled = {name: tuple(probes[name].scale(part) for part in arms[name]) for name in arms}
    unit = {name: tuple(map(scale_rows, arms[name])) for name in arms}
    levels, by_level = [], []
    for share in list_shares(images, len(labels), int(labels.max()) + 1):
        is_all = share * images >= len(labels)
        draws = 1 if share * images > FEW or is_all else DRAWS
        right: dict[tuple[str, str], list[np.ndarray]] = {}
        for draw in range(draws):
            chosen = choose_labelled(hashes, labels, share * images / len(labels), draw) if not is_all else slice(None)
            for name in arms:
                known, unknown = scaled[name]
                found = probes[name].predict(known[chosen], labels[chosen], unknown)
                right.setdefault((name, "probe"), []).append(found == truth)
                number, _ = find_nearest(unit[name][1], unit[name][0][chosen])
                right.setdefault((name, "nearest"), []).append(labels[chosen][number] == truth)
        stacked = {key: np.stack(values) for key, values in right.items()}
        level: dict[str, Any] = {"labels": len(labels[chosen]), "share": float(share), "draws": draws, "arms": []}
        for (name, way), values in stacked.items():
            low, high = crossed_mean_interval(summarise_seeds(values))
            level["arms"].append({"name": name, "way": way, "accuracy": float(values.mean()), "low": low, "high": high})
        level["differences"] = [
            {"name": name, "way": way, **compare_arms(stacked["encoder", "probe"], stacked[name, way])}
            for name, way in CONTROLS
            if (name, way) in stacked
        ]
        levels.append(level)
        by_level.append(stacked["encoder", "probe"].mean(axis=0))
    return {"levels": levels, "by_level": np.stack(by_level, axis=1).astype(np.float32)}


def compare_arms(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """The difference in accuracy between two arms on the same images, first minus second, with its 95% interval.

    With several draws of the labels the interval is over draws and images (`crossed_interval`), with one draw over the images.

    Args:
        first, second: `bool [draws, n]`.
    """
    if len(first) > 1:
        # Both learned from the same labels in each draw: what a draw does to both in the same way is not a difference.
        differences = first.astype(float) - second
        found = crossed_interval(summarise_seeds(differences), summarise_seeds(np.zeros_like(differences)))
        return {"value": found.difference, "low": found.low, "high": found.high, "p": found.p}
    one, other = first[0], second[0]
    both, only_one, only_other = int((one & other).sum()), int((one & ~other).sum()), int((other & ~one).sum())
    low, high = paired_interval(both, only_one, only_other, len(one))
    p = float(mcnemar_test(only_one, only_other))
    return {"value": (only_one - only_other) / len(one), "low": low, "high": high, "p": p}


class Pairs(NamedTuple):
    """All pairs of some images, from the most to the least similar.

    Attributes:
        cosine: `float32 [pairs]`, decreasing.
        same: `bool [pairs]`: whether both are of one class, or one identity.
        one, other: `int [pairs]`, the classes of both.
    """

    cosine: np.ndarray
    same: np.ndarray
    one: np.ndarray
    other: np.ndarray


def make_pairs(features: np.ndarray, labels: np.ndarray) -> Pairs:
    """Makes all pairs of some images from features `float [n, ...]` and labels `int [n]`."""
    rows = scale_rows(features)
    at = np.triu_indices(len(rows), 1)
    # Multiplied in double precision: otherwise rounding, which depends on the place of the rows, would order pairs that are equally alike.
    wide = rows.astype(np.float64)
    cosine = (wide @ wide.T)[at].astype(np.float32)
    order = np.argsort(-cosine, kind="stable")
    one, other = labels[at[0]][order], labels[at[1]][order]
    return Pairs(cosine[order], one == other, one, other)


def _accept(pairs: Pairs, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Shares of different pairs and of same pairs that are accepted: first of none, then down to each distinct cosine.

    Pairs of one cosine are accepted together, since no threshold lies between them: the order in which they stand is that of the images.
    `_find_ends` tells where each cosine ends. Two arrays, `float [1 + cosines]`.

    Args:
        pairs: The pairs.
        weights: How often each class was drawn, `float [classes]`; by default each once.
    """
    if weights is None:
        of = np.ones(len(pairs.same))
    else:  # for a pair of two classes both must be drawn; for a class that is drawn twice each pair counts twice
        of = np.where(pairs.same, weights[pairs.one], weights[pairs.one] * weights[pairs.other])
    ends = _find_ends(pairs)
    same = np.append(0.0, np.cumsum(of * pairs.same)[ends])
    different = np.append(0.0, np.cumsum(of * ~pairs.same)[ends])
    return different / max(different[-1], 1e-12), same / max(same[-1], 1e-12)


def _find_ends(pairs: Pairs) -> np.ndarray:
    """The place of the last pair of each distinct cosine, `int [cosines]`."""
    return np.flatnonzero(np.append(pairs.cosine[1:] != pairs.cosine[:-1], True))


def _read_rates(false: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The rates that are reported: the equal error rate, and the true acceptance at each rate of false acceptance."""
    at = int(np.argmax(false >= 1 - true))  # from here on more different pairs are accepted than same pairs refused
    before = max(at - 1, 0)
    # Where the two rates cross on the straight line between both: many pairs may have one cosine.
    lacking, beyond = 1 - true[before] - false[before], false[at] - (1 - true[at])
    way = lacking / max(lacking + beyond, 1e-12)
    rates = {"eer": float(false[before] + way * (false[at] - false[before]))}
    for share in FALSE_ACCEPTANCE:
        allowed = (
            np.searchsorted(false, share + 1e-12, side="right") - 1
        )  # the last place where no more than this share is accepted
        rates[name_rate(share)] = float(true[allowed])
    return rates


def name_rate(share: float) -> str:
    """The rate's name: `true_at_1` for 0.01, in percent of false acceptance; `true_at_01` for 0.001."""
    return "true_at_" + f"{100 * share:g}".replace("0.", "0")


def judge_pairs(
    pairs: Pairs, thresholds: Mapping[str, float] | None = None, samples: int = BOOTSTRAPS
) -> tuple[dict[str, Any], np.ndarray] | tuple[None, None]:
    """Measures how well the cosine separates pairs of one class from pairs of two classes.

    Args:
        pairs: The pairs.
        thresholds: Those chosen on validation; by default chosen here.
        samples: Number of bootstrap samples.

    Returns:
        The equal error rate `eer`, the true acceptance at 1% and 0.1% false acceptance (None if there are too few different
        pairs to see such a share), each with a 95% interval over the classes (bootstrap samples of them); `thresholds`: the cosine of
        equal errors, and that of each false acceptance; `at_thresholds`: the results of these thresholds on these pairs. And the equal error rate of each
        bootstrap sample, which is the same sample for other features of the same images. Both are None if there are not two kinds of pairs.

    Source: A. Jain, A. Ross, K. Nandakumar (2011), Introduction to biometrics, section 1.4; the interval resamples identities, since pairs
    that share one are not independent (R. M. Bolle, N. K. Ratha, S. Pankanti (2004), Error analysis of pattern recognition systems, CVIU 93).
    """
    n_same, n_different = int(pairs.same.sum()), int((~pairs.same).sum())
    if not n_same or not n_different:
        return None, None
    false, true = _accept(pairs)
    rates = _read_rates(false, true)
    classes = np.unique(np.concatenate([pairs.one, pairs.other]))
    random, drawn_rates = np.random.default_rng(0), []
    for _ in range(samples):
        drawn = np.bincount(classes[random.integers(0, len(classes), len(classes))], minlength=classes[-1] + 1)
        if (drawn > 0).sum() > 1 and (drawn[pairs.one[pairs.same]] > 0).any():
            drawn_rates.append(_read_rates(*_accept(pairs, drawn.astype(float))))
    metrics, intervals = {}, {}
    for name, value in rates.items():
        share = next((share for share in FALSE_ACCEPTANCE if name_rate(share) == name), None)
        is_known = share is None or n_different * share >= 10
        metrics[name] = value if is_known else None
        if is_known and len(drawn_rates) > samples // 2:
            ends = np.quantile([of[name] for of in drawn_rates], [0.025, 0.975])
            intervals[name] = [float(min(ends[0], value)), float(max(ends[1], value))]
    if thresholds is None:
        thresholds = {"eer": _find_threshold(pairs, int(np.argmax(false >= 1 - true)))}
        for share in FALSE_ACCEPTANCE:
            allowed = int(np.searchsorted(false, share + 1e-12, side="right")) - 1
            if metrics[name_rate(share)] is not None:
                thresholds[name_rate(share)] = _find_threshold(pairs, allowed)
    at_thresholds = {
        name: {
            "false": float((pairs.cosine[~pairs.same] >= value).mean()),
            "true": float((pairs.cosine[pairs.same] >= value).mean()),
        }
        for name, value in thresholds.items()
    }
    result = {
        "same": n_same,
        "different": n_different,
        "classes": len(classes),
        "metrics": metrics,
        "intervals": intervals,
        "thresholds": dict(thresholds),
        "at_thresholds": at_thresholds,
        "quantiles": np.quantile(pairs.cosine[~pairs.same], np.linspace(0, 1, 201)).tolist(),
    }
    return result, np.array([of["eer"] for of in drawn_rates])


def _find_threshold(pairs: Pairs, accepted: int) -> float:
    """A cosine between the last of so many accepted distinct cosines and the next one; above all of them if none is accepted."""
    if accepted == 0:
        return float(np.nextafter(pairs.cosine[0], np.float32(np.inf)))
    last = int(_find_ends(pairs)[accepted - 1])
    after = pairs.cosine[min(last + 1, len(pairs.cosine) - 1)]
    return float((float(pairs.cosine[last]) + float(after)) / 2)


def map_features(features: np.ndarray, way: str, seed: int = 0) -> np.ndarray:
    """Reduces features to two dimensions, `float [n, 2]`.

    Args:
        features: `float [n, ...]`, each of length 1, so that distances agree with the cosine.
        way: "pca": the directions of the largest variance; "tsne": L. van der Maaten, G. Hinton (2008), JMLR 9: neighbours stay neighbours,
            and distances between groups mean little.
        seed: Seed of t-SNE.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = scale_rows(features).astype(np.float64)
    if way == "pca" or len(rows) < 4:
        return PCA(2, random_state=seed).fit_transform(rows)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)
