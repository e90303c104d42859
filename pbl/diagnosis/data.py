"""Rules about the images and labels: rare classes, copies in validation, other images in validation, wrong labels."""

import numpy as np

from pbl.diagnosis.evidence import Evidence, Finding, make_finding
from pbl.statistics import newcombe_interval


def find_class_imbalance(run: Evidence) -> Finding | None:
    """Rare classes that are found much less often than the common ones."""
    counts = np.array(run.signals.about["train_counts"], float)
    rare = np.flatnonzero(counts < run.limits["rare_class"] * counts.max())
    of_rare = np.isin(run.val.labels, rare)
    if not of_rare.any() or of_rare.all():
        return None
    correct = run.val.correct[-1]
    numbers = int(correct[~of_rare].sum()), int((~of_rare).sum()), int(correct[of_rare].sum()), int(of_rare.sum())
    low, high = newcombe_interval(*numbers)
    if not run.over("rare_recall", low):
        return None
    return make_finding(
        "class_imbalance",
        "Of the rare classes {found} of {rare} validation images were found ({recall:.0%}), of the others {others:.0%}: between"
        " {low_points:.0f} and {high_points:.0f} points more.",
        found=numbers[2],
        rare=numbers[3],
        recall=numbers[2] / numbers[3],
        others=numbers[0] / numbers[1],
        low=low,
        high=high,
        classes=rare.tolist(),
    )


def find_leak(run: Evidence) -> Finding | None:
    """Copies of training images in validation, found by the data doctor."""
    if not run.leaks:
        return None
    leak = run.leaks[0]
    return make_finding(
        "leak_suspected",
        "{images} validation images are copies of training images, such as {examples}: the validation accuracy is too high.",
        images=leak["details"].get("images", len(leak["items"])),
        examples=leak["details"].get("examples", ""),
    )


def find_shift(run: Evidence) -> Finding | None:
    """Validation images that a simple classifier tells from training images, and on which the network does worse; or on which
    the network alone knows nothing, which have been learned from the same training images otherwise."""
    shifts = [finding["details"] for finding in run.data.get("shift", []) if finding["details"]["split"] == "val"]
    gap, low, _ = run.signals.gap
    if shifts and run.over("shift_gap", low):
        return make_finding(
            "shift_suspected",
            "A simple classifier tells validation images from training images (area under the ROC curve {auc:.2f}, equal ones .50),"
            " most plainly by {statistic}, and the network is {gap_points:.1f} points worse on them.",
            auc=shifts[0]["auc"],
            statistic=shifts[0]["statistic"],
            gap=gap,
        )
    reference = run.surest_above_guessing(run.simple_references) if run.is_lost_unseen else None
    if reference is None:
        return None
    right, images = run.unseen_right
    found, independent = run.independent_right
    expected = round(reference * independent)
    if run.over("reference", newcombe_interval(expected, independent, found, independent)[0]):
        return make_finding(
            "shift_suspected",
            "The network knows {accuracy:.0%} of its training images and hardly more of the validation images than guessing:"
            " {right} of {images}, where {reference:.0%} were reached otherwise. Validation images may reach it in another form.",
            accuracy=run.accuracy,
            right=right,
            images=images,
            reference=reference,
        )
    return None


def find_label_noise(run: Evidence) -> Finding | None:
    """Labels that have nothing to do with the images, or are harder to tell than those of validation images, for simple models
    that did not see them or for the network that learned from them.

    How many labels the data doctor's classifier contradicts is no sign: 25% of clean photographs of four classes.
    """
    is_shifted = any(finding.name == "shift_suspected" for finding in run.found)  # which explains it
    if run.is_lost_unseen and not is_shifted and run.surest_above_guessing(run.references) is None:
        right, images = run.unseen_right
        return make_finding(
            "label_noise_suspected",
            "The network knows {accuracy:.0%} of its training images and hardly more of the validation images than guessing:"
            " {right} of {images}. It seems that the labels do not belong to the images.",
            accuracy=run.accuracy,
            right=right,
            images=images,
            kind="random",
        )
    harder = [finding["details"] for finding in run.data.get("labels_harder_than_validation", [])]
    if harder:
        return make_finding(
            "label_noise_suspected",
            "Simple models have a loss of {loss:.2f} on {images} training images that they did not learn from and of {val_loss:.2f}"
            " on {val_images} validation images, more than by chance: labels of training images are wrong, or validation is easier.",
            **{name: harder[0][name] for name in ("loss", "images", "val_loss", "val_images")},
            kind="harder_for_simple_models",
        )
    epoch, z = run.harder
    if run.over("harder_z", z):
        return make_finding(
            "label_noise_suspected",
            "After epoch {epoch} the loss was {loss:.2f} on the training images that the network learned from and {val_loss:.2f} on"
            " validation images that it had not seen: the wrong way round, by more than chance. Labels of training images are"
            " wrong, or validation is easier.",
            epoch=run.epoch(epoch),
            loss=float(run.loss[epoch]),
            kind="harder",
            val_loss=float(run.val.loss[epoch, run.unseen].astype(np.float64).mean()),
        )
    return None
