"""Rules about the images and labels: copies in validation, other or blank images, scales, wrong labels."""

import numpy as np

from pbl.diagnosis.evidence import Evidence, Finding, make_finding
from pbl.statistics import newcombe_interval

OTHER_SCALE = 20.0  # times; pixels to 1 on one side, to 255 on the other


def differ_in_scale(train: tuple[float, float] | list[float], val: tuple[float, float] | list[float]) -> bool:
    """Whether the pixels of one side are many times those of the other; given the smallest and the largest of each."""
    sizes = sorted(max(abs(low), abs(high)) for low, high in (train, val))
    return sizes[1] > OTHER_SCALE * sizes[0]


def find_other_scale(run: Evidence) -> Finding | None:
    """Pixels of validation images that are many times those of training images, or the other way round."""
    train, val = run.inputs.get("train"), run.inputs.get("val")
    if train is None or val is None or min(max(train), max(val)) <= 0 or not differ_in_scale(train, val):
        return None
    return make_finding(
        "shift_suspected",
        "Pixels of training images go up to {train_largest:g}, those of validation images up to {val_largest:g}: only one of the two seems to be "
        "scaled. Leave both as they are in the files, and scale them in the model: keras.layers.Rescaling(1 / 255) as its first layer.",
        train_largest=max(train),
        val_largest=max(val),
        kind="scale",
    )


def find_other_arrays(run: Evidence) -> Finding | None:
    """The monitor's validation images are not those of `fit`, judged by what Keras measured on the latter."""
    logged = run.signals.epochs[-1].get("val_accuracy", np.nan)
    if not run.inputs.get("counts_images") or not len(run.val.labels) or not np.isfinite(logged):
        return None
    if not np.isfinite(run.val.loss[-1]).all():  # the network gives no probabilities any more: nothing is right
        return None
    measured, n = float(run.val.correct[-1].mean()), len(run.val.labels)
    error = np.sqrt(max(logged * (1 - logged), 0.01) / n)
    if not (
        run.over("other_arrays", abs(logged - measured)) and run.over("other_arrays_z", abs(logged - measured) / error)
    ):
        return None
    return make_finding(
        "other_arrays",
        "Keras measured a validation accuracy of {logged:.1%}, and OverfittingMonitor {measured:.1%} on the {images} validation images that it was "
        "given: the two have different images, labels or pixels. Nothing else can be diagnosed. Give OverfittingMonitor the same arrays as "
        "model.fit.",
        logged=logged,
        measured=measured,
        images=n,
    )


def find_scaled_twice(run: Evidence) -> Finding | None:
    """Pixels to 1 that the model divides by 255 again, or that were already divided twice."""
    bounds, scale = run.inputs.get("train", [0.0]), run.inputs.get("scale", 1.0)
    largest = max(bounds)
    if 0 < largest <= run.limits["divided_twice"] and min(bounds) >= 0 and not run.inputs.get("normalises", True):
        return make_finding(
            "scaled_twice",
            "Pixels of training images only go up to {largest:.2g}, as if they were divided by 255 twice. Divide them once.",
            largest=largest,
            kind="before",
        )
    is_once = not 0 < scale <= 0.02 or run.inputs.get("normalises", True)
    if is_once or not 0 < largest <= 2:
        return None
    return make_finding(
        "scaled_twice",
        "Pixels go up to {largest:g}, and the model divides them by {divisor:g} again: then black and white differ by {reached:.4f} at most. Give "
        "it pixels up to 255, or remove its layer Rescaling.",
        largest=largest,
        divisor=float(f"{1 / scale:.4g}"),
        reached=(largest - min(bounds)) * scale,
    )


def share_of_ones(pixels: np.ndarray) -> float:
    """The share of ones, if all pixels are 0 or 1 and nothing between; otherwise 1.0."""
    ones = pixels == 1
    return float(ones.mean()) if pixels.size and (ones | (pixels == 0)).all() else 1.0


def find_lost_greys(run: Evidence) -> Finding | None:
    """Integer division has made all pixels black except the whitest: almost no ones, and nothing between 0 and 1."""
    ones = run.inputs.get("ones", 1.0)
    if run.over("ones", ones):
        return None
    return make_finding(
        "greys_lost",
        "All pixels of training images are 0 or 1, and only {ones:.1%} are 1, as after x // 255, or after x / 255 was converted to whole numbers: "
        "all greys have become black. Write x / 255.0, which keeps them.",
        ones=ones,
    )


def find_fewer_greys(run: Evidence) -> Finding | None:
    """The same, with so few ones that the images may also be drawings in black and white."""
    ones = run.inputs.get("ones", 1.0)
    if run.over("more_ones", ones):
        return None
    return make_finding(
        "greys_lost",
        "All pixels of training images are 0 or 1, and {ones:.1%} are 1. This is right for drawings in black and white. If the files have greys, x "
        "// 255, or x / 255 converted to whole numbers, has made them black: x / 255.0 keeps them.",
        ones=ones,
    )


def find_blank_images(run: Evidence) -> Finding | None:
    """Images of a single colour, on either side, which show nothing."""
    for finding in run.data.get("constant_image", []):
        for split, counts in (("val", "val_counts"), ("train", "train_counts")):
            images, of = finding["details"].get(f"of_{split}", 0), sum(run.signals.about[counts])
            if not of or not run.over("blank", images / of):
                continue
            if split == "val":
                return make_finding(
                    "blank_images",
                    "Validation images of a single colour: {images} of {all_images}. Nobody can recognise their class: check what went wrong when "
                    "they were made, or leave them out.",
                    images=images,
                    all_images=of,
                )
            return make_finding(
                "blank_images",
                "Training images of a single colour: {images} of {all_images}. Nothing can be learned from them: check what went wrong when they "
                "were made, or leave them out.",
                images=images,
                all_images=of,
            )
    return None


def find_leak(run: Evidence) -> Finding | None:
    """Copies of training images in validation, found by the data doctor."""
    if not run.leaks:
        return None
    leak = max(run.leaks, key=lambda leak: leak["details"].get("images", len(leak["items"])))
    details = {
        "images": leak["details"].get("images", len(leak["items"])),
        "examples": leak["details"].get("examples", ""),
    }
    if run.copies_in_train:
        return make_finding(
            "leak_suspected",
            "Validation images that look like copies of training images: {images}, such as {examples}; training images also look like copies of "
            "one another, like the frames of a film. The validation accuracy is likely too high. Keep on one side of the split what belongs "
            "together: groups=look_alike, or a part of the names as in groups='(.+)_'.",
            kind="belong_together",
            **details,
        )
    if leak["check"] == "copies_across":
        return make_finding(
            "leak_suspected",
            "Validation images that are copies of training images: {images}, such as {examples}: the validation accuracy is likely too"
            " high. Leave the copies out of training, and train again.",
            **details,
        )
    return make_finding(
        "leak_suspected",
        "Validation images that look like altered copies of training images: {images}, such as {examples}: the validation accuracy is"
        " likely too high. Look at the pairs, leave the copies out of training, and train again.",
        **details,
    )


def find_shift(run: Evidence) -> Finding | None:
    """Validation images that a simple classifier can tell from training images, and on which the network does worse; or on which
    the network alone does no better than guessing, although another method learned them from the same training images."""
    shifts = [finding["details"] for finding in run.data.get("shift", []) if finding["details"]["split"] == "val"]
    if run.is_augmented_offline:  # the classifier sees the augmentation
        shifts = []
    gap, low, _ = run.signals.gap
    if shifts and run.over("shift_gap", low):
        return make_finding(
            "shift_suspected",
            "A simple classifier distinguishes validation images from training images (area under the ROC curve {auc:.2f}; 0.50 if they were "
            "alike); they differ most in {statistic}. The accuracy on them is {gap_points:.1f} points lower. Check whether both were made and read "
            "in the same way: 0 to 255, colour order, size.",
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
            "The network classifies {accuracy:.1%} of its training images correctly, but validation images not clearly better than guessing: "
            "{right} of {images}. A simple method reaches {reference:.1%} there. Perhaps the network gets validation images in another form than "
            "training images: check the range of the pixels, the colour order and the size.",
            accuracy=run.accuracy,
            right=right,
            images=images,
            reference=reference,
        )
    return None


def find_label_noise(run: Evidence) -> Finding | None:
    """Labels that have nothing to do with the images, or that are harder to predict than those of validation images, for simple models
    that did not see them or for the network that learned from them.

    How many labels the data doctor's classifier contradicts is not a sign: with clean photographs of four classes it is 25%.
    """
    is_shifted = any(finding.name == "shift_suspected" for finding in run.found)  # then the shift explains it
    if run.is_lost_unseen and not is_shifted and run.surest_above_guessing(run.references) is None:
        right, images = run.unseen_right
        return make_finding(
            "label_noise_suspected",
            "The network classifies {accuracy:.1%} of its training images correctly, but validation images not clearly better than guessing: "
            "{right} of {images}. It seems that the labels do not belong to the images, in training or in validation. Look at some images with "
            "their labels.",
            accuracy=run.accuracy,
            right=right,
            images=images,
            kind="random",
        )
    if run.is_augmented_offline:  # altered copies are harder than validation images even with correct labels
        return None
    harder = [finding["details"] for finding in run.data.get("labels_harder_than_validation", [])]
    if harder:
        return make_finding(
            "label_noise_suspected",
            "Simple models have a loss of {loss:.2f} on {images} training images that they were not trained on and of {val_loss:.2f} on "
            "{val_images} validation images: this difference is too large for chance. Probably some labels of training images are wrong, or "
            "validation is easier. Look at the labels of training images.",
            **{name: harder[0][name] for name in ("loss", "images", "val_loss", "val_images")},
            kind="harder_for_simple_models",
        )
    # If the shares of classes differ, so does the difficulty.
    for_network = None if is_shifted or run.have_other_shares else _find_harder(run)
    if for_network is not None:
        return for_network
    told = [finding["details"] for finding in run.data.get("labels_unlike_predictions", [])]
    if told and run.over("wrong_labels", float(told[0].get("low", 0))):
        return make_finding(
            "label_noise_suspected",
            "Simple models estimate that at least {low:.0%} of the labels of the {looked_at} examined training images are wrong. If validation was "
            "labelled in the same way, it has the same share: then the accuracy on correct labels is different.",
            low=float(told[0]["low"]),
            looked_at=int(told[0].get("looked_at", 0)),
            kind="both_sides",
        )
    # With few classes, all five neighbours may be of one other class by chance.
    has_many = (run.counts[0] > 0).sum() >= run.limits["neighbour_classes"]
    alike = [finding["details"] for finding in run.data.get("labels_unlike_neighbours", []) if has_many]
    # Of classes that merely look alike the same pairs return. Earlier versions did not measure that.
    is_random = alike and not run.over("repeated", float(alike[0].get("repeated", 0)))
    if is_random and run.over("unlike_neighbours", float(alike[0].get("share", 0))):
        return make_finding(
            "label_noise_suspected",
            "Among {looked_at} training images, {share:.1%} have five nearest images that all belong to one other class; for handwritten digits "
            "with correct labels it is less than 1%. Some labels seem to be wrong; if validation was labelled in the same way, some are wrong "
            "there too.",
            looked_at=int(alike[0].get("looked_at", 0)),
            share=float(alike[0]["share"]),
            kind="both_sides",
        )
    return None


def _find_harder(run: Evidence) -> Finding | None:
    """Training images that were harder than validation images for the network that learned from them."""
    epoch, z = run.harder
    if not run.over("harder_z", z):
        return None
    sides = run.probe.loss[epoch], run.val.loss[epoch, run.unseen]
    loss, val_loss = (float(np.mean(side, dtype=np.float64)) for side in sides)
    if round(loss, 2) <= round(val_loss, 2):  # as printed: with losses near 0 no difference would be visible
        return None
    return make_finding(
        "label_noise_suspected",
        "After epoch {epoch} the loss was {loss:.2f} on the training images that the network learned from and {val_loss:.2f} on unseen validation "
        "images: the opposite is usual, and the difference is too large for chance. Probably some labels of training images are wrong, or "
        "validation is easier. Look at the labels of training images.",
        epoch=run.epoch(epoch),
        loss=loss,
        kind="harder",
        val_loss=val_loss,
    )
