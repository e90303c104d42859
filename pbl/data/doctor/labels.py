"""Labels that are probably wrong: of single images, and of the training split as a whole."""

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from pbl.data.doctor.classifiers import (
    NEIGHBOURS,
    cross_validate,
    describe_images,
    kernel_classifier,
    majority,
    measure_margin,
    measure_skill,
    neighbour_labels,
)
from pbl.data.doctor.counts import FEW_IN_VALIDATION, FEWEST_IN_CLASS
from pbl.data.doctor.finding import Finding, Part, one_finding
from pbl.data.doctor.strangers import OUTLIER
from pbl.data.doctor.vectors import choose, one_thread, reduce
from pbl.statistics import wilson_interval

LABEL_CAP = 5_000  # training images whose labels are looked at
# Skill (see `measure_skill`, 0 to 1) below which a classifier reports nothing. Among 2,380 clean images of CIFAR-10 (skill .44) it would
# suspect 901. Digits and MNIST with 30% wrong labels have a skill of .56 to .63, and 8 of 10 wrong labels are named.
LABEL_SKILL = 0.5
FIRST = 30  # images whose labels are looked at first
TRIED, TRIAL_CAP = 0.05, 1_000  # share of labels that are changed, to see how many are found; in at most so many images
LEAST_GAIN = 1.5  # times chance; a list that does less helps nobody
# The lower bound from which labels are said to be wrong: among 8 draws of clean digits 3 had a bound of .5%, about three odd images, the
# others 0. A convention.
LEAST_TOLD = 0.01
SUREST = 40  # the upper bound comes from at least so many predictions
SHARES = (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
# Pairs of classes that are mixed: an outlier among all pairs as in `strangers`; for clean digits and MNIST the largest is 2.8.
PAIRS_TO_COMPARE, MIXED_SHARE, LEAST_DEVIATION = 10, 0.05, 0.5
# Labels that are wrong in training only: the difference of losses in standard errors, and as a share of what models know about
# the validation labels; with many images even a negligible difference is significant. Among 157 draws of ten clean data sets,
# 280 to 2,300 images, none exceeded 3.2. Among 72 with 30% wrong labels all exceed both bounds (3.9 to 17; share .35 to .9), among
# 36 with 10% wrong labels 17 do.
HARDER_Z, HARDER_SHARE = 3.5, 0.1
HARDER_CAP = 2_000  # images of either side
HARDER_LEAST = 100  # training images; with 50 digits, 1 clean draw in 30 was reported


def find_labels_unlike_neighbours(
    splits: Mapping[str, Part], class_names: list[str], cap: int = LABEL_CAP, seed: int = 0
) -> list[Finding]:
    """Training images whose five nearest training images all carry one other label: a "note", and pictures to look at.

    Nothing is reported if neighbours know little about the classes (skill below .5), as with photographs.

    Args:
        splits: See `examine`.
        class_names: Name of each class.
        cap: Training images that are looked at, chosen by `seed`; they are compared with all training images.
        seed: Seed of the choice.
    """
    train = splits["train"]
    if train.groups is not None:  # one image of each group: the frames of a film would all agree
        order = choose(len(train.labels), len(train.labels), seed)
        train = train.take(np.sort(order[np.unique(train.units[order], return_index=True)[1]]))
    index = np.sort(choose(len(train.labels), cap, seed))
    if len(index) <= NEIGHBOURS:
        return []
    neighbours = neighbour_labels(train, index, train, own=True)
    labels = train.labels[index]
    skill = measure_skill(float((majority(neighbours, len(class_names)) == labels).mean()), labels)
    agree = (neighbours == neighbours[:, :1]).all(axis=1) & (neighbours[:, 0] != labels)
    suspected = np.flatnonzero(agree)
    if skill <= LABEL_SKILL or not len(suspected):
        return []
    return one_finding(
        "labels_unlike_neighbours",
        "note",
        "Training images whose five nearest images all belong to one other class: {images} of {looked_at} ({share:.2%}), such as {examples}; look at their labels.",
        [train.names[index[i]] for i in suspected],
        looked_at=len(index),
        images=len(suspected),
        share=len(suspected) / len(index),
        skill=skill,
        repeated=_measure_repetition(labels[suspected], neighbours[suspected, 0], len(class_names)),
        labelled=[class_names[labels[i]] for i in suspected],
        suggested=[class_names[neighbours[i, 0]] for i in suspected],
    )


def _measure_repetition(labels: np.ndarray, suggested: np.ndarray, classes: int) -> float:
    """How often two images suggest the same change of label, divided by how often they would if all changes were equally frequent.

    About 1 for labels that are wrong at random; high if two classes merely look alike, since then the same pairs of classes return.
    """
    _, counts = np.unique(labels * classes + suggested, return_counts=True)
    n = len(labels)
    same = (counts * (counts - 1)).sum() / max(n * (n - 1), 1)
    return float(same * classes * (classes - 1))


def find_labels_unlike_predictions(
    splits: Mapping[str, Part], class_names: list[str], cap: int = LABEL_CAP, seed: int = 0
) -> list[Finding]:
    """Which training images' labels to look at first, how many may be wrong, and classes that are mixed.

    Logistic regression on `describe_images`, 5-fold; images of a group stay in one fold.

    "labels_unlike_predictions", a "note": the images whose label is least probable compared with the most probable other class, at
    least 30, and as many as are surely wrong. How well such a list finds wrong labels is tried out on these data: 5% of the labels are
    changed at random, and the changed ones are counted among the first images: as many as were changed, at most 30. Nothing is
    reported if they are hardly more frequent there than anywhere else. The share of wrong labels is bounded by `bound_wrong_labels`.

    "mixed_classes", a "note": two classes are taken for each other far more often than other pairs of classes.

    Args:
        splits: See `examine`.
        class_names: Name of each class.
        cap: Training images that are looked at, chosen by `seed`.
        seed: Seed of the choice, of the folds, and of the trial.
    """
    train = splits["train"]
    index = np.sort(choose(len(train.labels), cap, seed))
    # Each fold needs every class; a class with fewer images, or groups, was reported by `counts`.
    units = train.units[index]
    of_class = [set(units[train.labels[index] == c].tolist()) for c in range(len(class_names))]
    enough = np.array([len(of) >= FEWEST_IN_CLASS for of in of_class])
    index = index[enough[train.labels[index]]]
    if len(index) < 4 * NEIGHBOURS or enough.sum() < 2:
        return []
    classes, labels = np.unique(train.labels[index], return_inverse=True)
    images, units = describe_images(train.pixels[index]), train.units[index]
    chances = cross_validate(images, labels, units, seed)
    margin = measure_margin(chances, labels)
    low, high = bound_wrong_labels(chances, labels, len(set(units.tolist())) / len(units))
    order = np.argsort(margin, kind="stable")[: max(FIRST, round(low * len(labels)))]
    changed, first = _try_out(images, labels, units, seed)
    other = np.where(np.arange(len(classes)) == labels[:, None], -np.inf, chances).argmax(axis=1)
    findings = []
    if low > 0 or changed > LEAST_GAIN * TRIED * first:
        findings += one_finding(
            "labels_unlike_predictions",
            "note",
            (
                "Simple models estimate that {low:.0%} to {high:.0%} of all labels are wrong. Begin with these {images} of {looked_at} training images ({examples})."
                if low >= LEAST_TOLD
                else "Simple models estimate that 0% to {high:.0%} of all labels are wrong. To look at some, begin with these {images} of {looked_at} training images ({examples})."
            )
            # With a fifth of one class labelled as another, the list named 11 of 21 on digits and none on photographs.
            + (
                " Test with {tried:.0%} of the labels changed at random: {changed} of the first {first} were changed labels; mistakes between classes that look alike are harder to find."
                if first
                else ""
            ),
            [train.names[index[i]] for i in order],
            images=len(order),
            looked_at=len(index),
            tried=TRIED,
            changed=changed,
            first=first,
            low=low,
            high=high,
            labelled=[class_names[classes[labels[i]]] for i in order],
            suggested=[class_names[classes[other[i]]] for i in order],
        )
    return findings + _find_mixed(chances, labels, [class_names[c] for c in classes])


def _try_out(images: np.ndarray, labels: np.ndarray, units: np.ndarray, seed: int) -> tuple[int, int]:
    """5% of the labels are changed at random: how many of these are among the first images to look at, and how many first images there are;
    0 and 0 if some class has too few images to try."""
    random = np.random.default_rng(seed)
    some = np.sort(choose(len(labels), TRIAL_CAP, seed))
    classes, changed = np.unique(labels[some], return_inverse=True)
    wrong = random.permutation(len(some))[: round(TRIED * len(some))]
    changed[wrong] = (changed[wrong] + random.integers(1, len(classes), len(wrong))) % len(classes)
    if len(classes) < 2 or np.bincount(changed, minlength=len(classes)).min() < FEWEST_IN_CLASS or not len(wrong):
        return 0, 0
    margin = measure_margin(cross_validate(images[some], changed, units[some], seed), changed)
    first = np.argsort(margin, kind="stable")[: min(FIRST, len(wrong))]
    return int(np.isin(first, wrong).sum()), len(first)


def bound_wrong_labels(chances: np.ndarray, labels: np.ndarray, independent: float = 1.0) -> tuple[float, float]:
    """Bounds for the share of the labels that are wrong, as far as predictions for images that were not seen can tell.

    Predictions contradict labels less often the surer they are. If a share of the labels is wrong, contradictions do not become rarer
    than that share: the share of contradictions by margin is fitted as n + (1 - n) / (1 + exp(a + b sqrt(margin))), as one fits lapses
    of attention (F. Wichmann, N. Hill 2001, Perception & Psychophysics 63, 1293-1313). The lower bound is the least n within 1.92 of
    the largest log likelihood (95%), and 0 if simple models know too little. The upper bound is the upper 95% bound of the share of
    contradictions among the surest twentieth, if these models made no mistake there.

    Args:
        chances: Logarithms of probabilities, `float [n, classes]`.
        labels: `int [n]`.
        independent: The share of the images that are independent, if they are in groups, such as the frames of films.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    best = np.sort(chances, axis=1)
    margin, is_wrong = np.sqrt(best[:, -1] - best[:, -2]), chances.argmax(axis=1) != labels
    surest = np.argsort(-margin, kind="stable")[: max(SUREST, len(labels) // 20)]
    apart = max(1, round(len(surest) * independent))
    high = wilson_interval(round(float(is_wrong[surest].mean()) * apart), apart)[1]
    # Among 20 clean draws of 300 ants and bees (skill .15 to .34) 19 had a lower bound of 1% or more.
    if measure_skill(1 - float(is_wrong.mean()), labels) < LABEL_SKILL:
        return 0.0, high

    def loss(line: np.ndarray, share: float) -> float:
        chance = share + (1 - share) * expit(-line[0] - np.exp(np.clip(line[1], -9, 9)) * margin)
        return -float(np.log(np.clip(np.where(is_wrong, chance, 1 - chance), 1e-6, 1)).sum())

    line, losses = np.zeros(2), []
    for share in SHARES:
        result = minimize(loss, line, args=(share,), method="Nelder-Mead", options={"xatol": 1e-2, "fatol": 1e-2})
        line = result.x
        losses.append(result.fun)
    low = SHARES[int(np.flatnonzero(np.array(losses) <= min(losses) + 1.92 / independent)[0])]
    return min(low, high), high


def _find_mixed(chances: np.ndarray, labels: np.ndarray, class_names: list[str]) -> list[Finding]:
    """Pairs of classes that are taken for each other far more often than other pairs; none with fewer than ten pairs, which are too few to know what is usual."""
    pairs = list(itertools.combinations(range(len(class_names)), 2))
    if len(pairs) < PAIRS_TO_COMPARE:
        return []
    equal = chances - np.log(np.bincount(labels) / len(labels))  # as if all classes were equally frequent
    more = np.stack(
        [(equal[labels == c] > equal[labels == c, c][:, None]).mean(axis=0) for c in range(len(class_names))]
    )
    shares = np.array([(more[one, other] + more[other, one]) / 2 for one, other in pairs])
    logarithm = np.log(shares + MIXED_SHARE / 5)
    deviation = 1.4826 * np.median(np.abs(logarithm - np.median(logarithm)))
    scores = (logarithm - np.median(logarithm)) / max(deviation, LEAST_DEVIATION)
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > OUTLIER and shares[i] > MIXED_SHARE]
    if not order:
        return []
    one, other = (class_names[c] for c in pairs[order[0]])
    return one_finding(
        "mixed_classes",
        "note",
        "Models confuse images of '{one}' and '{other}' that they were not trained on in {share:.0%} of cases, far more often than other pairs of classes. Either the two classes look alike, or their labels were mixed up: look at some.",
        one=one,
        other=other,
        share=float(shares[order[0]]),
        classes=[[class_names[c] for c in pairs[i]] for i in order],
        shares=[float(shares[i]) for i in order],
    )


def find_labels_harder_than_validation(
    splits: Mapping[str, Part], copies: Collection[str] = (), cap: int = HARDER_CAP, seed: int = 0
) -> list[Finding]:
    """Labels of training images that simple models find harder to predict than those of validation images: an "act".

    Five models learn from four fifths of the training images each, and from their mirror images: logistic regression on
    `describe_images` with the features of a Gaussian kernel (C. Williams, M. Seeger 2001, NIPS, "Using the Nystroem method").
    The fifth that a model did not see, and validation, which none saw, are equally hard if both were drawn and labelled in the same way.
    Losses are compared class by class, since the shares of classes may differ.

    Args:
        splits: See `examine`.
        copies: Names of validation images that are copies of training images; exact copies are found here.
        cap: Images of either side that are looked at, chosen by `seed`.
        seed: Seed of the choice, of the folds and of the kernel's features.
    """
    import pandas as pd
    from sklearn.model_selection import StratifiedKFold

    folds = 5
    train, val = splits["train"], splits["val"]
    index, of_val = (choose(len(part.labels), cap, seed) for part in (train, val))
    # Equally many images of a class in each fold: otherwise a model has learned from fewer images of the class that it is tested on.
    place = pd.Series(index).groupby(train.labels[index])
    index = np.sort(index[place.cumcount() < place.transform("size") // folds * folds])
    seen = set(train.hashes)
    of_val = np.sort([i for i in of_val if val.hashes[i] not in seen and val.names[i] not in copies]).astype(int)
    # At least two of a class, so that its losses have a variance.
    classes = np.intersect1d(train.labels[index], np.flatnonzero(np.bincount(val.labels[of_val]) >= 2))
    index, of_val = index[np.isin(train.labels[index], classes)], of_val[np.isin(val.labels[of_val], classes)]
    if len(index) < HARDER_LEAST or len(of_val) < FEW_IN_VALIDATION or len(classes) < 2:
        return []
    labels, val_labels = train.labels[index], val.labels[of_val]
    small = reduce(train.pixels[index], grey=False)
    images, mirrored = describe_images(small), describe_images(small[:, :, ::-1])
    val_images = describe_images(val.pixels[of_val])
    losses, val_losses = np.zeros(len(index)), np.zeros(len(of_val))
    with one_thread():
        for learned, left_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(images, labels):
            model = kernel_classifier(images.shape[1], 2 * len(learned), seed)
            model.fit(np.concatenate([images[learned], mirrored[learned]]), np.tile(labels[learned], 2))
            losses[left_out] = _losses(model, images[left_out], labels[left_out])
            val_losses += _losses(model, val_images, val_labels) / folds
    shares = np.bincount(val_labels)[classes] / len(val_labels)
    sides = [pd.Series(values).groupby(of) for values, of in ((losses, labels), (val_losses, val_labels))]
    loss, val_loss = (float(shares @ side.mean()) for side in sides)
    error = float(sum(shares**2 @ (side.var() / side.size()) for side in sides)) ** 0.5
    z, known = (loss - val_loss) / max(error, 1e-12), float(-(shares * np.log(shares)).sum()) - val_loss
    if known <= 0 or z <= HARDER_Z or loss - val_loss <= HARDER_SHARE * known:
        return []
    return one_finding(
        "labels_harder_than_validation",
        "act",
        "Simple models have a loss of {loss:.2f} on {images} training images that they were not trained on and of {val_loss:.2f} on {val_images} validation images: this difference is too large for chance. Look at the labels of training images: probably some are wrong, or validation is easier.",
        loss=loss,
        val_loss=val_loss,
        images=len(index),
        val_images=len(of_val),
        z=z,
        share=(loss - val_loss) / known,
    )


def _losses(model: Any, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The negative logarithm of the probability of each image's label, which counts as at least .001: `float [n]`."""
    of_label = model.predict_proba(images)[np.arange(len(labels)), np.searchsorted(model.classes_, labels)]
    return -np.log(np.maximum(of_label, 1e-3))
