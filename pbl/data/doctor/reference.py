"""What simple methods reach: a network below that has a fault."""

from collections.abc import Mapping

import numpy as np

from pbl.data.doctor.classifiers import (
    NEIGHBOURS,
    describe_images,
    majority,
    neighbour_labels,
    simple_classifier,
)
from pbl.data.doctor.finding import Finding, Part, one_finding
from pbl.data.doctor.vectors import choose, one_thread
from pbl.statistics import wilson_interval

REFERENCE_CAP = 2_000


def find_reference_accuracy(splits: Mapping[str, Part], cap: int = REFERENCE_CAP, seed: int = 0) -> list[Finding]:
    """What two simple methods reach on validation, the better one of 5 nearest neighbours and a linear classifier: a "note".

    Args:
        splits: See `examine`.
        cap: Validation images that are looked at, chosen by `seed`; the neighbours are searched among all training images, the
            logistic regression on `describe_images` learns from five times as many as are looked at.
        seed: Seed of the choice.
    """
    train, val = splits["train"], splits["val"]
    if len(train.labels) < NEIGHBOURS or not len(val.labels):
        return []
    index = np.sort(choose(len(val.labels), cap, seed))
    classes = int(max(train.labels.max(), val.labels.max())) + 1
    labels = val.labels[index]
    correct = {"5 nearest neighbours": majority(neighbour_labels(val, index, train, own=False), classes) == labels}
    learned = np.sort(choose(len(train.labels), 5 * cap, seed))
    if len(set(train.labels[learned].tolist())) > 1:
        with one_thread():
            classifier = simple_classifier().fit(describe_images(train.pixels[learned]), train.labels[learned])
        correct["a linear classifier of edges and colours"] = (
            classifier.predict(describe_images(val.pixels[index])) == labels
        )
    method = max(correct, key=lambda name: correct[name].sum())
    accuracy = float(correct[method].mean())
    # Frames of one film are not independent images: the interval is that of as many images as there are groups.
    independent = len(set(val.units[index].tolist()))
    low, high = wilson_interval(round(accuracy * independent), independent)
    return one_finding(
        "reference_accuracy",
        "note",
        "The better of two simple methods, {method}, reaches {accuracy:.1%} on validation (95% interval {low:.1%} to {high:.1%}, {images} images): a network clearly below that likely has a fault, or needs more training.",
        method=method,
        accuracy=accuracy,
        low=low,
        high=high,
        images=len(index),
        independent=independent,
    )
