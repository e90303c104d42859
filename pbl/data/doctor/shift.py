"""Whether the images of one split look unlike those of another."""

from collections.abc import Mapping

import numpy as np

from pbl.data.doctor.classifiers import NEIGHBOURS
from pbl.data.doctor.finding import Finding, Part, one_finding
from pbl.data.doctor.vectors import choose, one_thread
from pbl.statistics import hanley_mcneil_interval

# Limits for the lower bound of the interval of the area under the ROC curve: for a "note", and for "act". Of 160 random subsets of 300 to
# 3,000 images without a fault, none exceeded the second; a quarter less resolution, other brightness, or noise in val mostly do.
SHIFT_AUC, SHIFT_LARGE_AUC = 0.6, 0.8
SHIFT_CAP = 5_000  # images of each side

# What `measure_images` returns, in its order.
STATISTICS = (
    "mean brightness,contrast,darkest pixel,brightest pixel,5% quantile,25% quantile,median brightness,75% quantile,"
    "95% quantile,horizontal difference,vertical difference,sharpness,mean red,mean green,mean blue"
).split(",")


def measure_images(pixels: np.ndarray) -> np.ndarray:
    """Twelve fixed statistics of each image, and its mean colours if it has colours.

    Args:
        pixels: `uint8 [n, height, width, channels]`.

    Returns:
        `float64 [n, 12 or 15]`: mean, standard deviation, smallest, largest, five quantiles, mean absolute horizontal and
        vertical difference of neighbours, mean absolute Laplacian, then the mean of each colour.
    """
    grey = pixels.astype(np.float32).mean(axis=-1)
    flat = grey.reshape(len(grey), -1)
    horizontal, vertical = np.abs(np.diff(grey, axis=2)), np.abs(np.diff(grey, axis=1))
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner

    def mean(differences: np.ndarray) -> np.ndarray:
        return differences.mean(axis=(1, 2)) if differences[0].size else np.zeros(len(differences))

    columns = [
        flat.mean(axis=1),
        flat.std(axis=1),
        flat.min(axis=1),
        flat.max(axis=1),
        *np.quantile(flat, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1),
        mean(horizontal),
        mean(vertical),
        mean(np.abs(laplacian)),
    ]
    if pixels.shape[-1] == 3:
        columns += list(pixels.mean(axis=(1, 2)).T)
    return np.stack(columns, axis=1).astype(np.float64)


def find_shift(splits: Mapping[str, Part], cap: int = SHIFT_CAP, seed: int = 0) -> list[Finding]:
    """Whether a simple classifier tells the images of a split from those of train, by fixed statistics of the image.

    A classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests"): logistic regression,
    the area under its ROC curve by 5-fold cross-validation; images of a group stay in one fold and count as one. A lower bound of the
    area above .60 is a "note", since small differences that harm nobody are found too and no accuracy is known yet; above .80 it is "act".

    Args:
        splits: See `examine`.
        cap: Images of either side that are looked at, chosen by `seed`.
        seed: Seed of the choice and of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def statistics(part: Part, index: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [measure_images(part.pixels[some]) for some in np.array_split(index, len(index) // 500 + 1)]
        )

    findings = []
    is_grouped = any(part.groups is not None for part in splits.values())
    folds = StratifiedGroupKFold if is_grouped else StratifiedKFold
    chosen = {split: choose(len(part.labels), cap, seed) for split, part in splits.items()}
    units = {split: part.units[chosen[split]] for split, part in splits.items()}
    train, train_units = statistics(splits["train"], chosen["train"]), units["train"]
    for split in ("val", "test"):
        if split not in splits:
            continue
        # Frames of one film are not independent images: they stay in one fold, and groups are counted.
        counts = [len(set(of.tolist())) for of in (units[split], train_units)]
        if min(counts) < 2 * NEIGHBOURS:
            continue
        other = statistics(splits[split], chosen[split])
        values = np.concatenate([train, other])
        is_other = np.repeat([0, 1], [len(train), len(other)])
        with one_thread():
            probability = cross_val_predict(
                make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced")),
                values,
                is_other,
                groups=np.concatenate([train_units, train_units.max() + 1 + units[split]]) if is_grouped else None,
                cv=folds(5, shuffle=True, random_state=seed),
                method="predict_proba",
            )[:, 1]
        auc = float(roc_auc_score(is_other, probability))
        low, high = hanley_mcneil_interval(auc, *counts)
        if low <= SHIFT_AUC:
            continue
        # Where to look: the statistic that differs most, in standard deviations of train.
        difference = (other.mean(axis=0) - train.mean(axis=0)) / np.maximum(train.std(axis=0), 1e-9)
        most = int(np.abs(difference).argmax())
        order = np.argsort(-probability[len(train) :], kind="stable")
        index = chosen[split]
        findings += one_finding(
            "shift",
            "act" if low > SHIFT_LARGE_AUC else "note",
            "A simple classifier distinguishes {split} images from training images (area under the ROC curve {auc:.2f}, 95% interval from "
            "{low:.2f}; 0.50 if they were alike); they differ most in {statistic}: check whether both were made and read in the same way, such as "
            "0 to 255, colour order, size.",
            [splits[split].names[index[i]] for i in order[:40]],
            split=split,
            auc=auc,
            low=low,
            high=high,
            images=len(other),
            train_images=len(train),
            statistic=STATISTICS[most],
            difference=float(difference[most]),
        )
    return findings
