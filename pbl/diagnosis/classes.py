"""Rules about single classes: rare, absent, numbered differently, taken for another, with another share, never found."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from pbl.diagnosis.evidence import Evidence, Finding, make_finding
from pbl.statistics import newcombe_interval

FEW_PAIRS = 5  # with fewer classes a pair is judged as one of so many: p = .001


def _thin(counts: Sequence[int], share: float) -> tuple[int, int]:
    """How many out of how many, as if only independent images were counted."""
    images = max(1, round(counts[1] * share))
    return min(images, round(counts[0] * images / max(int(counts[1]), 1))), images


def find_class_imbalance(run: Evidence) -> Finding | None:
    """Rare classes that are found much less often than the common ones."""
    counts = np.array(run.signals.about["train_counts"], float)
    # A class without any image is not rare: it is absent.
    rare = np.flatnonzero((counts > 0) & (counts < run.limits["rare_class"] * counts.max()))
    is_known = np.isin(run.val.labels, np.flatnonzero(counts))
    of_rare, of_others = np.isin(run.val.labels, rare), is_known & ~np.isin(run.val.labels, rare)
    if not of_rare.any() or not of_others.any():
        return None
    correct = run.val.correct[-1]
    numbers = [int(count) for of in (of_others, of_rare) for count in (correct[of].sum(), of.sum())]
    shares = [run.independent[run.val.labels[of]].mean() for of in (of_others, of_rare)]
    low, high = newcombe_interval(*_thin(numbers[:2], shares[0]), *_thin(numbers[2:], shares[1]))
    if not run.over("rare_recall", low):
        return None
    return make_finding(
        "class_imbalance",
        "Among the validation images of rare classes, {found} of {rare} are classified correctly ({recall:.1%}), among the others {others:.1%}: "
        "between {low_points:.0f} and {high_points:.0f} points more (95% interval). Give rare classes more weight (class_weight).",
        found=numbers[2],
        rare=numbers[3],
        recall=numbers[2] / numbers[3],
        others=numbers[0] / numbers[1],
        low=low,
        high=high,
        classes=rare.tolist(),
    )


def find_absent_class(run: Evidence) -> Finding | None:
    """Classes of which validation has images and training has none."""
    train, val = run.counts
    absent = np.flatnonzero((train == 0) & (val > 0))
    images = int(val[absent].sum())
    if not len(absent):
        return None
    # With many classes, a whole class may be a smaller share of the images than that.
    is_class = images >= run.limits["order_images"] and run.over("absent_class", images * (val > 0).sum() / val.sum())
    if not (is_class or run.over("absent", images / val.sum())):
        return None
    return make_finding(
        "class_absent",
        "Validation images of a class that has no training image (class {examples}; numbered from 0): {images} of {all_images}. The network cannot "
        "know it. Split again so that each class is on both sides, or check whether both number the classes in the same way.",
        images=images,
        all_images=int(val.sum()),
        examples=_list_classes(absent),
    )


def _list_classes(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:5].tolist())) + (", ..." if len(numbers) > 5 else "")


def find_numbers_from_one(run: Evidence) -> Finding | None:
    """Class numbers that do not begin at 0: some outputs have no image."""
    counts, of_val = run.counts
    first = int(np.flatnonzero(counts)[0]) if counts.any() else 0
    if not first or of_val[:first].any() or len(counts) - first < 2:
        return None
    last = int(np.flatnonzero(counts + of_val)[-1])
    return make_finding(
        "class_absent",
        "The labels go from {first} to {last}, but classes are numbered from 0: {outputs} {outputs:output has|outputs have} no image. This does "
        "little harm; labels = labels - {first} and a last layer of {classes} outputs correct it.",
        first=first,
        last=last,
        outputs=first,
        classes=last + 1 - first,
        kind="from_one",
    )


def find_label_order(run: Evidence) -> Finding | None:
    """Classes that the network knows in training and takes for one another in validation, one to one."""
    if run.confusions is None or not run.learned:
        return None
    from scipy.optimize import linear_sum_assignment

    train, val = run.confusions
    of_train, of_val = (np.maximum(matrix.sum(axis=1), 1) for matrix in (train, val))
    number = np.arange(len(val))
    _, taken = linear_sum_assignment(
        -val
    )  # the numbering with the most correct images; no two classes get the same number
    own, share = np.diag(val) / of_val, val[number, taken] / of_val
    is_moved = (taken != number) & (val.sum(axis=1) * run.independent >= run.limits["order_images"])
    is_moved &= (share > run.limits["order_share"]) & (np.diag(train) / of_train - own > run.limits["order_share"])
    is_moved &= own[taken] < run.limits["order_share"]  # a class that is recognised cannot also be another one
    moved = np.flatnonzero(is_moved)
    if len(moved) < 2:
        return None
    # With this numbering, validation accuracy must be about that of training: else this is not the cause.
    if val[number, taken].sum() / val.sum() < run.limits["order_known"] * run.accuracy:
        return None
    images = int(val[moved].sum())
    return make_finding(
        "label_order_suspected",
        "Among {images} validation images of {classes} classes, {own:.0%} are classified correctly, and {other:.0%} are predicted as one other "
        "class, always the same one (class {one} for class {two}, numbered from 0): validation seems to number these classes differently from "
        "training. Give both the same list of class names.",
        images=images,
        classes=len(moved),
        own=float(np.diag(val)[moved].sum() / images),
        other=float(val[moved, taken[moved]].sum() / images),
        one=int(moved[0]),
        two=int(taken[moved[0]]),
    )


def find_swallowed_class(run: Evidence) -> Finding | None:
    """A class that is taken for another one; in training that other one has more of the labels than in validation, and this one fewer."""
    if run.confusions is None or not run.learned or any(of.name == "label_order_suspected" for of in run.found):
        return None
    _, val = run.confusions
    of_val = val.sum(axis=1)
    shares_of_all = run.counts / np.maximum(run.counts.sum(axis=1, keepdims=True), 1)
    off_diagonal = val * (1 - np.eye(len(val), dtype=int))
    for one in np.argsort(-off_diagonal.max(axis=1) / np.maximum(of_val, 1), kind="stable")[:10]:
        other = int(off_diagonal[one].argmax())
        if of_val[one] * run.independent[one] < run.limits["order_images"] or not of_val[other]:
            continue
        taken, back = int(val[one, other]), int(val[other, one])
        sides = _thin((taken, of_val[one]), run.independent[one]), _thin((back, of_val[other]), run.independent[other])
        low, _ = newcombe_interval(*sides[0], *sides[1])
        pair = run.counts[:, [one, other]]
        if not run.over("swallowed", low) or not pair.sum(axis=1).all():
            continue
        # A class may be rare in training for other reasons: the other class must have gained what this one lost.
        if shares_of_all[0, other] < run.limits["swallowed_more"] * shares_of_all[1, other]:
            continue
        # Among the labels of these two classes: is the share of this one lower in training than in validation?
        shares, together = pair[:, 0] / pair.sum(axis=1), pair[:, 0].sum() / pair.sum()
        error = np.sqrt(together * (1 - together) * (1 / pair.sum(axis=1)).sum())
        chance = 1 - NormalDist().cdf((shares[1] - shares[0]) / max(error, 1e-12))
        # Any two of many classes could differ by chance in how the images were drawn, and the network's mistakes follow.
        if chance * max(math.comb(len(val), 2), FEW_PAIRS) > run.limits["swallowed_chance"]:
            continue
        return make_finding(
            "label_noise_suspected",
            "Among the validation images of class {one} (numbered from 0), {taken} of {images} are predicted as class {other}; in the other "
            "direction it is {back} of {other_images}. Among the labels of these two classes, {train_share:.1%} are class {one} in training and "
            "{val_share:.1%} in validation. Training images of class {one} seem to be labelled as class {other}: look at the training images of "
            "class {other}.",
            images=int(of_val[one]),
            one=int(one),
            taken=taken,
            other=other,
            other_images=int(of_val[other]),
            back=back,
            train_share=float(shares[0]),
            val_share=float(shares[1]),
            kind="one_class",
        )
    return None


def find_other_shares(run: Evidence) -> Finding | None:
    """Classes that are more or less frequent in validation than in training, which explains a gap."""
    if run.confusions is None or not run.has_gap:
        return None
    if not run.have_other_shares:
        return None
    shares = run.counts / run.counts.sum(axis=1, keepdims=True)
    _, val = run.confusions
    seen = val.sum(axis=1) > 0
    weights = shares[0, seen] / shares[0, seen].sum()
    alike = float((np.diag(val)[seen] / val.sum(axis=1)[seen]) @ weights)
    right, n, val_right, val_n = run.signals.known
    if right / n - alike > run.limits["gap"] or alike <= val_right / val_n:
        return None
    most = int(np.abs(np.diff(shares, axis=0)[0]).argmax())
    return make_finding(
        "class_shares_differ",
        "Class {most} (numbered from 0) is {train_share:.1%} of the training images and {val_share:.1%} of the validation images. The accuracy on "
        "validation is {val_accuracy:.1%}; with the class shares of training it would be about {alike:.1%}. The accuracy on training images is "
        "{accuracy:.1%}. Split again so that each class has the same share on both sides (scikit-learn: train_test_split(images, labels, "
        "stratify=labels)), or report which shares are the true ones.",
        most=most,
        train_share=float(shares[0, most]),
        val_share=float(shares[1, most]),
        val_accuracy=val_right / val_n,
        alike=alike,
        accuracy=run.accuracy,
    )


def find_class_never_found(run: Evidence) -> Finding | None:
    """A class with enough images of which almost none are classified correctly, on either side, in a network that knows the others."""
    # A gap has other reasons; this may be a consequence of any other finding.
    is_explained = any(finding.name != "overfitting" for finding in run.found)
    if run.confusions is None or len(run.confusions[0]) < 3 or not run.learned or is_explained:
        return None
    train, val = run.confusions
    right, of = np.diag(train) + np.diag(val), train.sum(axis=1) + val.sum(axis=1)
    never = np.flatnonzero((of >= run.limits["never_images"]) & (right <= run.limits["never_recall"] * of))
    others = np.setdiff1d(np.arange(len(of)), never)
    if not len(never) or not of[others].sum():
        return None
    low, _ = newcombe_interval(
        int(right[others].sum()), int(of[others].sum()), int(right[never].sum()), int(of[never].sum())
    )
    if not run.over("never_less", low):
        return None
    return make_finding(
        "class_never_found",
        "Among the training and validation images of class {classes} (numbered from 0), {right} of {images} are classified correctly; among the "
        "other classes {others:.0%} are. This number of images can usually be learned: look at these images and labels, at class weights and at "
        "the last layer.",
        classes=_list_classes(never),
        right=int(right[never].sum()),
        images=int(of[never].sum()),
        others=float(right[others].sum() / of[others].sum()),
    )
