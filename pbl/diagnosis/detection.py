"""The diagnosis of a network that finds boxes, from what `pbl.tasks.detection.judge` measured on validation, and from the history.

As in `pbl.diagnosis.rules` the first finding is the headline, and all findings are listed.
"""

from collections.abc import Mapping, Sequence
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
from pbl.storage.schemas import DetectionMetrics

BASELINE_NAMES = {
    "nothing": "nothing found",
    "mean_box": "the mean box of each class at its most common place",
    "mean_boxes": "the mean boxes of the most common places",
}
LIMITS = {
    "nothing": Threshold(0.05, "mAP50; below it, almost nothing is found"),
    "fewest": Threshold(5, "images that have a class, or have no object; with fewer, nothing is said about the class"),
    "lost": Threshold(0.01, "average precision of a class at an IoU of .5; below it, the class is not found"),
    "gap": Threshold(0.1, "mAP50 on training minus validation images"),
    "gap_low": Threshold(
        0.03, "lower end of its interval; validation chose the best of many epochs, so its value is a little too good"
    ),
    "low": Threshold(0.7, "mAP50 on training images; convention"),
    "rises": Threshold(0.02, "mAP50 on validation at the end minus that a third of the epochs earlier"),
    "false_images": Threshold(0.1, "lower end of the share of images without an object in which one is shown"),
    "counted": Threshold(0.75, "upper end of the share of images whose count is right; convention"),
}


def _widen(config: Config, options: Mapping[str, Any]) -> dict[str, Any] | None:
    now = options.get("width")
    return None if now is None or options.get("encoder") else {"model_options.width": 2 * now}


WIDER = Advice("wider", "Use a wider network.", _widen)
AUGMENT = Advice(
    "augment",
    "Move, zoom and brighten the training images, together with their boxes.",
    add_augmentation(crop=4, zoom=0.2, brightness=0.2),
)
MORE = Advice("more_images", "Collect more images with boxes, especially from other places.")
OF_CLASS = Advice("more_of_class", "Collect more images of these classes, or merge them with others.")
LARGER = Advice(
    "larger_images",
    "Give the network larger images (image_size): objects of a few pixels are lost at a quarter of the size.",
)
EMPTY = Advice("empty_images", "Give training more images without any object.")
LOOK = Advice(
    "look", "Look at the pictures of missed and false boxes: are objects close together, small, or not annotated?"
)
# By the name of the finding: severity, and what to try.
REMEDIES: dict[str, tuple[str, tuple[Advice, ...]]] = {
    "leak_suspected": ("stop", (GROUP,)),
    "learned_nothing": ("act", (LONGER, LOWER_RATE, LARGER)),
    "no_better_than_baseline": ("act", (LONGER, WIDER, MORE)),
    "class_never_found": ("act", (OF_CLASS, LONGER, LARGER)),
    "overfitting": ("act", (AUGMENT, MORE)),
    "underfitting": ("act", (LONGER, WIDER, LARGER)),
    "false_boxes": ("act", (EMPTY, LONGER)),
    "wrong_count": ("act", (LOOK, LONGER, WIDER)),
    "healthy": ("note", ()),
}


def diagnose_boxes(
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, float]] = (),
    config: Config | None = None,
    run: str = "RUN",
    options: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Diagnoses a network that finds boxes.

    Args:
        metrics: `metrics_val.json` of a run with `task=detection`, or what `pbl.BoxMonitor` measured.
        history: `val_map50` of each epoch; empty if it is not known.
        config: The run's settings, for the experiments; without them none are named.
        run: Its folder, for the commands.
        options: The options of its model's builder.

    Returns:
        All findings; the first is the headline.
    """
    rules = (
        find_leak,
        _find_nothing,
        _find_baseline,
        partial(_find_underfitting, history=history),
        _find_lost_classes,
        _find_overfitting,
        _find_false_boxes,
        _find_wrong_count,
    )
    findings = collect_findings(rules, metrics, EXPLAINED) or [_find_health(metrics)]
    return conclude(findings, REMEDIES, config, run, options)


# Consequences of an earlier finding, which are not listed as further findings.
EXPLAINED = {
    "learned_nothing": ("no_better_than_baseline", "class_never_found", "underfitting", "overfitting", "wrong_count"),
    "no_better_than_baseline": ("class_never_found", "wrong_count"),
    "underfitting": ("wrong_count",),
    "overfitting": ("wrong_count",),
    "class_never_found": ("wrong_count",),
}


def diagnose_run(run: Run, has_ended: bool | None = None) -> Diagnosis:
    """Diagnoses a run of `task=detection`, from its `metrics_val.json` and `history.csv`.

    Raises:
        InputError: A file is missing or damaged.
    """
    metrics, history = read_metrics(run, DetectionMetrics), read_history(run)
    return diagnose_boxes(metrics, history, run.config, str(run.path), run.environment.get("builder_options"))


def _find_nothing(metrics: Mapping[str, Any]) -> Finding | None:
    found, difference = metrics["boxes"]["map50"], metrics["difference"]
    if found is None:
        return None
    if found < LIMITS["nothing"].value:
        return make_finding(
            "learned_nothing",
            "The network finds almost nothing: its average precision at an IoU of .5 (mAP50) is {found:.3f} on validation images.",
            found=found,
        )
    if difference is not None and difference["high"] is not None and difference["high"] < 0:
        return make_finding(
            "learned_nothing",
            "The network is worse than {baseline}, which needs no network: its mAP50 is {found:.3f}, a difference of {value:+z.3f} (95% interval "
            "{low:+z.3f} to {high:+z.3f}, on the same images).",
            **_tell_baseline(metrics),
        )
    return None


def _tell_baseline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    difference = metrics["difference"]
    details = {name: difference[name] for name in ("value", "low", "high")}
    return details | {"baseline": Sentence(BASELINE_NAMES[difference["baseline"]]), "found": metrics["boxes"]["map50"]}


def _find_baseline(metrics: Mapping[str, Any]) -> Finding | None:
    difference = metrics["difference"]
    if difference is not None and difference["low"] is None and difference["value"] <= 0:
        details = _tell_baseline(metrics)
        return make_finding(
            "no_better_than_baseline",
            "The network is not better than {baseline}, which needs no network: its mAP50 is {found:.3f}, a difference of {value:+z.3f} on the same"
            " images. There is no interval, since the difference is the same for all of them, or there is only one.",
            **{name: details[name] for name in ("baseline", "found", "value")},
        )
    if difference is None or difference["low"] is None or difference["low"] > 0 or difference["high"] < 0:
        return None
    return make_finding(
        "no_better_than_baseline",
        "The network is not clearly better than {baseline}, which needs no network: its mAP50 is {found:.3f}, a difference of {value:+z.3f}"
        " (95% interval {low:+z.3f} to {high:+z.3f}, on the same images).",
        **_tell_baseline(metrics),
    )


def _find_lost_classes(metrics: Mapping[str, Any]) -> Finding | None:
    classes = metrics["boxes"]["classes"]
    lost = [
        of
        for of in classes
        if of["images"] >= LIMITS["fewest"].value and of["ap50"] is not None and of["ap50"] < LIMITS["lost"].value
    ]
    if not lost or len(classes) < 2:
        return None
    return make_finding(
        "class_never_found",
        "Never found, or almost never: {classes} (in brackets the validation images that have it).",
        classes=", ".join(f"{of['name']} ({of['images']})" for of in lost[:10]),
    )


def _find_overfitting(metrics: Mapping[str, Any]) -> Finding | None:
    training = metrics["training"]
    gap = read_gap(training, LIMITS)
    if gap is None:
        return None
    return make_finding(
        "overfitting",
        "On training images, not augmented, mAP50 is {train:.3f}, on validation images {val:.3f}: a difference of {value:+z.3f} (95%"
        " interval {low:+z.3f} to {high:+z.3f}).",
        train=training["map50"],
        val=metrics["boxes"]["map50"],
        **gap,
    )


def _find_underfitting(metrics: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    training = metrics["training"]
    if training is None or training["map50"] is None or training["map50"] >= LIMITS["low"].value:
        return None
    if (course := read_course(history, "val_map50", fewest=3)) is not None:
        before, last = course
        if last["val_map50"] > before["val_map50"] + LIMITS["rises"].value:
            return make_finding(
                "underfitting",
                "Even on training images mAP50 is only {train:.3f}. It was still rising: on validation {before:.3f} after epoch {then:.0f}, "
                "{now:.3f} after epoch {epoch:.0f}.",
                cause="train_longer",
                train=training["map50"],
                before=before["val_map50"],
                then=before["epoch"],
                now=last["val_map50"],
                epoch=last["epoch"],
            )
    return make_finding(
        "underfitting",
        "Even on training images mAP50 is only {train:.3f}: the network has not learned their boxes.",
        train=training["map50"],
    )


def _find_false_boxes(metrics: Mapping[str, Any]) -> Finding | None:
    shown = metrics["boxes"]["at_threshold"]
    if shown is None or shown["empty"] < LIMITS["fewest"].value:
        return None
    low, high = wilson_interval(shown["empty_with_boxes"], shown["empty"])
    if low < LIMITS["false_images"].value:
        return None
    return make_finding(
        "false_boxes",
        "An object is shown in {false} of {empty} images without an object ({share:.0%}; 95% interval {low:.0%} to {high:.0%}), at the threshold "
        "of {threshold:.2f} that validation chose. Average precision hardly shows this.",
        false=shown["empty_with_boxes"],
        empty=shown["empty"],
        share=shown["empty_with_boxes"] / shown["empty"],
        low=low,
        high=high,
        threshold=shown["threshold"],
    )


def _find_wrong_count(metrics: Mapping[str, Any]) -> Finding | None:
    shown = metrics["boxes"]["at_threshold"]
    if shown is None or metrics["images"] < LIMITS["fewest"].value:
        return None
    low, high = shown["right_count_interval"]
    if high > LIMITS["counted"].value:
        return None
    return make_finding(
        "wrong_count",
        "mAP50 is {found:.3f}, but the number of objects is right in only {right:.0%} of the images (95% interval {low:.0%} to {high:.0%}), at the "
        "threshold of {threshold:.2f} that validation chose: average precision ranks boxes, and does not count them. {recall:.0%} of the objects "
        "are found, and {precision:.0%} of the shown boxes are right.",
        found=metrics["boxes"]["map50"] or 0.0,
        right=shown["right_count"],
        low=low,
        high=high,
        threshold=shown["threshold"],
        recall=shown["recall"] or 0.0,
        precision=shown["precision"] or 0.0,
    )


def _find_health(metrics: Mapping[str, Any]) -> Finding:
    training, shown, difference = metrics["training"] or {}, metrics["boxes"]["at_threshold"], metrics["difference"]
    if shown is None or difference is None or training.get("map50") is None:
        return make_finding("healthy", "No fault was found, but validation has too few boxes for more conclusions.")
    details = _tell_baseline(metrics)
    return make_finding(
        "healthy",
        "No fault was found: mAP50 is {found:.3f} on validation images and {train:.3f} on training images; {baseline} has {of_baseline:.3f}"
        " without a network. The number of objects is right in {right:.0%} of the images.",
        **{
            **details,
            "of_baseline": details["found"] - details["value"],
            "train": training["map50"],
            "right": shown["right_count"],
        },
    )
