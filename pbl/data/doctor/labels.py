"""Labels that are probably wrong: of single images, and of the training split as a whole."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from pbl.data.doctor.classifiers import (
    NEIGHBOURS,
    describe_images,
    kernel_classifier,
    majority,
    measure_skill,
    neighbour_labels,
    one_thread,
    simple_classifier,
)
from pbl.data.doctor.counts import FEW_IN_VALIDATION, FEWEST_IN_CLASS
from pbl.data.doctor.finding import Finding, Part, one_finding
from pbl.data.doctor.vectors import choose, reduce

LABEL_CAP = 5_000  # training images whose labels are looked at
# Skill (see `measure_skill`) below which a classifier reports nothing. Of 2,380 clean images of CIFAR-10 (skill .44) it would
# suspect 901. Digits and MNIST with 30% wrong labels have a skill of .56 to .63, and 8 of 10 wrong labels are named.
LABEL_SKILL = 0.5
# Labels that are wrong in training only: the difference of losses in standard errors, and as a share of what models know of
# the validation labels; with many images even a negligible difference is significant. Of 157 draws of ten clean data sets,
# 280 to 2,300 images, none exceeded 3.2. Of 72 with 30% wrong labels all exceed both bounds (3.9 to 17; share .35 to .9), of
# 36 with 10% wrong labels 17 do.
HARDER_Z, HARDER_SHARE = 3.5, 0.1
HARDER_CAP = 2_000  # images of either side
HARDER_LEAST = 100  # training images; with 50 digits, 1 clean draw in 30 was reported


def find_labels_unlike_neighbours(
    splits: Mapping[str, Part], class_names: list[str], cap: int = LABEL_CAP, seed: int = 0
) -> list[Finding]:
    """Training images whose five nearest training images all carry one other label: a "note", and pictures to look at.

    Nothing is said where neighbours know little of the classes (skill below .5), as on photographs.

    Args:
        splits: See `examine`.
        class_names: Name of each class.
        cap: Training images that are looked at, chosen by `seed`; all are compared with.
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
        "Of {looked_at} training images {images} ({share:.1%}) have five nearest images that all belong to one other class, such as {examples}: look at their labels.",
        [train.names[index[i]] for i in suspected],
        looked_at=len(index),
        images=len(suspected),
        share=len(suspected) / len(index),
        skill=skill,
        labelled=[class_names[labels[i]] for i in suspected],
        suggested=[class_names[neighbours[i, 0]] for i in suspected],
    )


def rank_label_issues(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Finds probable label errors by confident learning.

    A class's threshold is the mean probability of the class over the images that carry its label. An image counts as one of
    class j if its probability of j is at least j's threshold (of several, the most probable); where j is not its label, the
    image is suspected. Source: C. Northcutt, L. Jiang, I. Chuang (2021), JAIR 70, 1373-1411, equations 1 and 2; the method
    "C: confident joint", ranked by normalised margin.

    Args:
        probabilities: `float [n, classes]`, from models that did not see the image.
        labels: `int [n]`.

    Returns:
        Numbers of the suspected images, the most suspicious first.
    """
    classes = probabilities.shape[1]
    threshold = np.array(
        [probabilities[labels == c, c].mean() if (labels == c).any() else np.inf for c in range(classes)]
    )
    confident = np.where(probabilities >= threshold, probabilities, -np.inf)
    guessed = confident.argmax(axis=1)
    suspected = np.flatnonzero(np.isfinite(confident.max(axis=1)) & (guessed != labels))
    margin = probabilities[suspected, labels[suspected]] - probabilities[suspected, guessed[suspected]]
    return suspected[np.argsort(margin, kind="stable")]


def find_labels_unlike_predictions(
    splits: Mapping[str, Part], class_names: list[str], cap: int = LABEL_CAP, seed: int = 0
) -> list[Finding]:
    """Training images that cross-validated models confidently give to another class: a "note", and pictures to look at.

    Logistic regression on `describe_images`, 5-fold; then `rank_label_issues`. Nothing is said where the models know little
    of the classes (skill below .5), as on many photographs.

    Args:
        splits: See `examine`.
        class_names: Name of each class.
        cap: Training images that are looked at, chosen by `seed`.
        seed: Seed of the choice and of the folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict

    train = splits["train"]
    folds = StratifiedKFold if train.groups is None else StratifiedGroupKFold
    index = np.sort(choose(len(train.labels), cap, seed))
    # Each fold needs every class; a class with fewer images has been reported.
    enough = np.bincount(train.labels[index], minlength=len(class_names)) >= FEWEST_IN_CLASS
    index = index[enough[train.labels[index]]]
    if len(index) < 4 * NEIGHBOURS or enough.sum() < 2:
        return []
    labels = train.labels[index]
    classes, numbers = np.unique(labels, return_inverse=True)
    with one_thread():
        probabilities = cross_val_predict(
            simple_classifier(),
            describe_images(train.pixels[index]),
            numbers,
            groups=train.units[index],
            cv=folds(5, shuffle=True, random_state=seed),
            method="predict_proba",
        )
    skill = measure_skill(float((probabilities.argmax(axis=1) == numbers).mean()), numbers)
    suspected = rank_label_issues(probabilities, numbers)
    if skill <= LABEL_SKILL or not len(suspected):
        return []
    return one_finding(
        "labels_unlike_predictions",
        "note",
        "Of {looked_at} training images {images} ({share:.1%}) are confidently given to another class by models that did not see them, such as {examples}: look at their labels.",
        [train.names[index[i]] for i in suspected],
        looked_at=len(index),
        images=len(suspected),
        share=len(suspected) / len(index),
        skill=skill,
        labelled=[class_names[labels[i]] for i in suspected],
        suggested=[class_names[classes[probabilities[i].argmax()]] for i in suspected],
    )


def find_labels_harder_than_validation(
    splits: Mapping[str, Part], copies: Collection[str] = (), cap: int = HARDER_CAP, seed: int = 0
) -> list[Finding]:
    """Labels of training images that simple models find harder to tell than those of validation images: an "act".

    Five models learn from four fifths of the training images each, and from their mirror images: logistic regression on
    `describe_images` with the features of a Gaussian kernel (C. Williams, M. Seeger 2001, NIPS, "Using the Nystroem method").
    The fifth that a model did not see, and validation, which none saw, are as hard where both were drawn and labelled alike.
    Losses are compared class by class, since the shares of classes may differ.

    Args:
        splits: See `examine`.
        copies: Names of validation images that are copies of training images; those that are exact ones are known.
        cap: Images of either side that are looked at, chosen by `seed`.
        seed: Seed of the choice, of the folds and of the kernel's features.
    """
    import pandas as pd
    from sklearn.model_selection import StratifiedKFold

    folds = 5
    train, val = splits["train"], splits["val"]
    index, of_val = (choose(len(part.labels), cap, seed) for part in (train, val))
    # Equally many of a class in each fold: else a model has learned from fewer images of the class that it is tested on.
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
        "Simple models have a loss of {loss:.2f} on {images} training images that they did not learn from and of {val_loss:.2f} on {val_images} validation images, more than by chance: look at the labels of training images; some are wrong, or validation is easier.",
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
