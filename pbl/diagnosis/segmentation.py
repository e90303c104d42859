"""The diagnosis of a network that predicts masks, from what `pbl.tasks.segmentation.judge` measured on validation, and from the history.

As in `pbl.diagnosis.rules` the first finding is the headline, and all findings are listed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pbl.config import Config
from pbl.diagnosis.evidence import Finding, make_finding
from pbl.diagnosis.planning import (
    GROUP,
    LONGER,
    LOWER_RATE,
    Advice,
    add_augmentation,
    collect_findings,
    conclude,
    find_leak,
    read_course,
    read_gap,
    read_history,
    read_metrics,
)
from pbl.diagnosis.rules import Diagnosis, Threshold
from pbl.errors import Sentence
from pbl.runs import Run
from pbl.statistics import wilson_interval
from pbl.storage.schemas import SegmentationMetrics

BASELINE_NAMES = {
    "background": "all background",
    "mean_mask": "the mean mask",
    "brightness": "brightness and a threshold",
}
LIMITS = {
    "marked": Threshold(
        0.05, "share of the images that have a class in which anything is marked; below it, the network marks nothing"
    ),
    "fewest": Threshold(5, "images that have a class; with fewer, nothing is said about the class"),
    "gap": Threshold(0.1, "Dice on training minus validation images"),
    "gap_low": Threshold(
        0.03, "lower end of its interval; validation chose the best of many epochs, so its value is a little too good"
    ),
    "low": Threshold(0.7, "mean Dice on training images; convention; in such masks a third of the pixels is wrong"),
    "rises": Threshold(0.02, "Dice on validation at the end minus that a third of the epochs earlier"),
    "unlike": Threshold(
        0.05,
        "lower end of the share of the surer half of the training images where another place is marked (Dice below .5)",
    ),
    "agreeing": Threshold(
        0.3,
        "share of them with a Dice of .7 and more; below it, the network has learned too little to contradict a mask",
    ),
    "false_images": Threshold(0.1, "lower end of the share of images without a class in which one is marked"),
}


def _option(name: str, value: Callable[[Any], Any]) -> Callable[[Config, Mapping[str, Any]], dict[str, Any] | None]:
    def change(config: Config, options: Mapping[str, Any]) -> dict[str, Any] | None:
        now = options.get(name)
        return None if now is None else {f"model_options.{name}": value(now)}

    return change


def _take_other_loss(config: Config, options: Mapping[str, Any]) -> dict[str, Any] | None:
    is_plain = config.task_options.get("loss", "cross_entropy") == "cross_entropy"
    return {"task_options.loss": "both"} if is_plain else None


LOOK = Advice(
    "look", "Look at these masks next to their images, and at how they were matched; correct them, and train again."
)
LOSS = Advice(
    "dice_loss",
    "Use cross-entropy and Dice together: if little is marked, an all-background answer has a low cross-entropy.",
    _take_other_loss,
)
WIDER = Advice("wider", "Use a wider network.", _option("width", lambda now: 2 * now))
AUGMENT = Advice(
    "augment",
    "Rotate, flip and zoom the training images, together with their masks.",
    add_augmentation(flip=True, rotation=10, zoom=0.1),
)
DROP = Advice(
    "dropout",
    "Use dropout again.",
    lambda config, options: {"model_options.dropout": 0.5} if options.get("dropout") == 0 else None,
)
MORE = Advice("more_images", "Collect more images with masks, especially from other patients or places.")
FEWER_FALSE = Advice(
    "threshold",
    "Choose the threshold for fewer false regions: at most a tenth of the images without one.",
    lambda config, options: (
        {"task_options.false_images": 0.1} if config.task_options.get("false_images") is None else None
    ),
)
EMPTY = Advice("empty_images", "Give training more images without any object, with black masks.")
SAME_SOURCE = Advice(
    "same_source", "Find out what differs between the images of training and validation, and split again."
)
# By the name of the finding: severity, and what to try.
REMEDIES: dict[str, tuple[str, tuple[Advice, ...]]] = {
    "leak_suspected": ("stop", (GROUP,)),
    "learned_nothing": ("act", (LOSS, LONGER, LOWER_RATE)),
    "no_better_than_baseline": ("act", (LONGER, WIDER, MORE)),
    "label_noise_suspected": ("act", (LOOK,)),
    "shift_suspected": ("act", (SAME_SOURCE, AUGMENT)),
    "class_never_found": ("act", (LOSS, LONGER)),
    "overfitting": ("act", (AUGMENT, DROP, MORE)),
    "underfitting": ("act", (LONGER, WIDER, LOSS)),
    "false_regions": ("act", (FEWER_FALSE, EMPTY)),
    "healthy": ("note", ()),
}


def diagnose_masks(
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, float]] = (),
    config: Config | None = None,
    run: str = "RUN",
    options: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Diagnoses a network that predicts masks.

    Args:
        metrics: `metrics_val.json` of a run with `task=segmentation`, or what `pbl.MaskMonitor` measured.
        history: `val_dice` of each epoch; empty if it is not known.
        config: The run's settings, for the experiments; without them none are named.
        run: Its folder, for the commands.
        options: The options of its model's builder.

    Returns:
        All findings; the first is the headline.
    """
    rules = (
        find_leak,
        _find_nothing,
        _find_label_noise,
        _find_shift,
        _find_lost_classes,
        _find_overfitting,
        partial(_find_underfitting, history=history),
        _find_baseline,
        _find_false_regions,
    )
    findings = collect_findings(rules, metrics, EXPLAINED) or [_find_health(metrics)]
    return conclude(findings, REMEDIES, config, run, options)


# Consequences of an earlier finding, which are not listed as further findings.
EXPLAINED = {
    "learned_nothing": (
        "label_noise_suspected",
        "no_better_than_baseline",
        "class_never_found",
        "underfitting",
        "overfitting",
    ),
    "label_noise_suspected": ("underfitting", "overfitting"),
    "no_better_than_baseline": ("class_never_found",),
    "shift_suspected": ("overfitting",),
}


def diagnose_run(run: Run, has_ended: bool | None = None) -> Diagnosis:
    """Diagnoses a run of `task=segmentation`, from its `metrics_val.json` and `history.csv`.

    Raises:
        InputError: A file is missing or damaged.
    """
    metrics, history = read_metrics(run, SegmentationMetrics), read_history(run)
    return diagnose_masks(metrics, history, run.config, str(run.path), run.environment.get("builder_options"))


def _find_nothing(metrics: Mapping[str, Any]) -> Finding | None:
    marked, difference = metrics["marked"], metrics["difference"]
    if (
        marked["marked_images"] <= LIMITS["marked"].value * marked["images"]
        and marked["images"] >= LIMITS["fewest"].value
    ):
        return make_finding(
            "learned_nothing",
            "The network marks nothing, or almost nothing: among {images} images with an object, it marks anything in {found}. That {right:.1%} of "
            "the pixels are right means nothing: an all-background answer has {background:.1%}.",
            images=marked["images"],
            found=marked["marked_images"],
            right=metrics["masks"]["pixel_accuracy"],
            background=metrics["masks"]["all_background"],
        )
    if difference is not None and difference["high"] is not None and difference["high"] < 0:
        return make_finding(
            "learned_nothing",
            "The network is worse than {baseline}, which needs no network: its Dice is {dice:.3f}, a difference of {value:+z.3f} (95% interval "
            "{low:+z.3f} to {high:+z.3f}, on the same images).",
            **_tell_baseline(metrics),
        )
    return None


def _tell_baseline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    difference = metrics["difference"]
    details = {name: difference[name] for name in ("value", "low", "high")}
    baseline = Sentence(BASELINE_NAMES[difference["baseline"]])
    return details | {"baseline": baseline, "dice": metrics["masks"]["dice"] or 0.0}


def _find_baseline(metrics: Mapping[str, Any]) -> Finding | None:
    difference = metrics["difference"]
    if difference is not None and difference["low"] is None and difference["value"] <= 0:
        details = _tell_baseline(metrics)
        return make_finding(
            "no_better_than_baseline",
            "The network is not better than {baseline}, which needs no network: its Dice is {dice:.3f}, a difference of {value:+z.3f} on the same"
            " images. There is no interval, since the difference is the same for all of them, or there is only one.",
            **{name: details[name] for name in ("baseline", "dice", "value")},
        )
    if difference is None or difference["low"] is None or difference["low"] > 0 or difference["high"] < 0:
        return None
    return make_finding(
        "no_better_than_baseline",
        "The network is not clearly better than {baseline}, which needs no network: its Dice is {dice:.3f}, a difference of"
        " {value:+z.3f} (95% interval {low:+z.3f} to {high:+z.3f}, on the same images).",
        **_tell_baseline(metrics),
    )


def _find_label_noise(metrics: Mapping[str, Any]) -> Finding | None:
    """Wrong masks occur on both sides. Training images are checked: a network that had learned their masks would agree with them."""
    of = None if metrics["training"] is None else metrics["training"]["doubtful"]
    if of is None or of["low"] < LIMITS["unlike"].value or of["agreeing"] < LIMITS["agreeing"].value:
        return None
    return make_finding(
        "label_noise_suspected",
        "Among the {images} training images on which the network is most confident, it marks another place than the mask in {found} ({share:.0%}; "
        "95% interval {low_share:.0%} to {high_share:.0%}), and the same place in {agreeing:.0%}. When a network itself is wrong, it is less "
        "confident there. Are these masks shifted, or do they belong to other images? Look first at: {examples}.",
        images=of["images"],
        found=of["found"],
        share=of["share"],
        low_share=of["low"],
        high_share=of["high"],
        agreeing=of["agreeing"],
        examples=", ".join(of["names"][:10]),
    )


def _find_shift(metrics: Mapping[str, Any]) -> Finding | None:
    shift, gap = metrics["shift"], _read_gap(metrics)
    if shift is None or gap is None:
        return None
    return make_finding(
        "shift_suspected",
        "Validation images look different from training images ({statistic} alone distinguishes them: AUROC {auc:.2f}), and their masks are "
        "predicted worse: Dice {val:.3f} compared with {train:.3f}, a difference of {value:+z.3f} (95% interval {low:+z.3f} to {high:+z.3f}).",
        auc=shift["auc"],
        statistic=Sentence(shift["statistic"]),
        **gap,
    )


def _read_gap(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gap between training and validation images if it is large and significant, and the Dice of both; otherwise None."""
    training = metrics["training"]
    gap = read_gap(training, LIMITS)
    return None if gap is None else {"train": training["dice"], "val": training["dice"] - gap["value"], **gap}


def _find_lost_classes(metrics: Mapping[str, Any]) -> Finding | None:
    classes = metrics["masks"]["classes"]
    lost = [
        of
        for of in classes
        if of["images"] >= LIMITS["fewest"].value and of["found_regions"] == 0 and of["missed_images"] == of["images"]
    ]
    if not lost or len(classes) < 2:
        return None
    return make_finding(
        "class_never_found",
        "Never found: {classes} (in brackets the validation images that have it).",
        classes=", ".join(f"{of['name']} ({of['images']})" for of in lost[:10]),
    )


def _find_overfitting(metrics: Mapping[str, Any]) -> Finding | None:
    gap = _read_gap(metrics)
    if gap is None:
        return None
    return make_finding(
        "overfitting",
        "On training images, not augmented, the Dice is {train:.3f}, on validation images {val:.3f}: a difference of {value:+z.3f} (95%"
        " interval {low:+z.3f} to {high:+z.3f}).",
        **gap,
    )


def _find_underfitting(metrics: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    training = metrics["training"]
    if training is None or training["dice"] is None or training["dice"] >= LIMITS["low"].value:
        return None
    if (course := read_course(history, "val_dice", fewest=3)) is not None:
        before, last = course
        if last["val_dice"] > before["val_dice"] + LIMITS["rises"].value:
            return make_finding(
                "underfitting",
                "Even on training images the Dice is only {train:.3f}. It was still rising: on validation {before:.3f} after epoch {then:.0f}, "
                "{now:.3f} after epoch {epoch:.0f}.",
                cause="train_longer",
                train=training["dice"],
                before=before["val_dice"],
                then=before["epoch"],
                now=last["val_dice"],
                epoch=last["epoch"],
            )
    return make_finding(
        "underfitting",
        "Even on training images the Dice is only {train:.3f}: the network has not learned their masks.",
        train=training["dice"],
    )


def _find_false_regions(metrics: Mapping[str, Any]) -> Finding | None:
    worst = None
    for of in metrics["masks"]["classes"]:
        if not of["empty_images"]:
            continue
        low, high = wilson_interval(of["false_images"], of["empty_images"])
        if low >= LIMITS["false_images"].value and (worst is None or low > worst[1]):
            worst = of, low, high
    if worst is None:
        return None
    of, low, high = worst
    return make_finding(
        "false_regions",
        "{kind} is found in {false} of {empty} images without it ({share:.0%}; 95% interval {low_share:.0%} to {high_share:.0%}). The mean Dice "
        "does not show this: it covers only images that have it.",
        kind=of["name"],
        false=of["false_images"],
        empty=of["empty_images"],
        share=of["false_images"] / of["empty_images"],
        low_share=low,
        high_share=high,
    )


def _find_health(metrics: Mapping[str, Any]) -> Finding:
    training, difference = metrics["training"] or {}, metrics["difference"]
    if difference is None or metrics["masks"]["dice"] is None:
        return make_finding(
            "healthy", "No fault was found, but validation has too few images with a class for more conclusions."
        )
    details = _tell_baseline(metrics)
    details["of_baseline"] = details["dice"] - details["value"]
    details["train"] = training.get("dice") or 0.0
    return make_finding(
        "healthy",
        "No fault was found: the Dice is {dice:.3f} on validation images and {train:.3f} on training images; {baseline} has"
        " {of_baseline:.3f} without a network.",
        **details,
    )
