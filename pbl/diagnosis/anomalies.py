"""What an anomaly detector suffers from, told from what `pbl.tasks.anomaly.judge` measured on validation. Nothing else is read.

As in `pbl.diagnosis.rules` the first finding is the headline, and all that hold are listed.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from pbl.config import Config, as_word
from pbl.diagnosis.advice import Experiment
from pbl.diagnosis.evidence import Finding, make_finding
from pbl.diagnosis.rules import Diagnosis, Threshold
from pbl.errors import InputError, Sentence
from pbl.runs import Run
from pbl.storage.schemas import AnomalyMetrics

BASELINE_NAMES = {
    "pca": "PCA",
    "nearest_neighbours": "nearest neighbours",
    "nearest_evened": "nearest image, brightness evened out",
    "mean_image": "distance to the mean image",
    "brightness": "mean brightness",
}
LIMITS = {
    "kept_nothing": Threshold(0.15, "share of the distance to the mean image that is explained; a code of one number explains .2"),
    "kept_everything": Threshold(0.95, "the same, of anomalies: what gives everything back tells nothing apart"),
    "overfits": Threshold(1.5, "mean error of normal validation images by that of training images"),
    "overfits_p": Threshold(1e-3, "chance of it, one-sided (Mann and Whitney)"),
    "blind": Threshold(0.6, "AUROC of a kind; .5 is chance"),
    "follows": Threshold(0.3, "rank correlation of a normal image's error with its contrast; convention"),
    "contaminated": Threshold(0.005, "lower end of the share of anomalies among the normal training images"),
    "suspects": Threshold(5, "of them; clean digits have had 4"),
    "uncertain": Threshold(3.0, "upper end of the false alarms' interval by the share that was asked for"),
}  # fmt: skip


class Advice(NamedTuple):
    """What to try next: a sentence, and settings of `train` where it is a matter of settings."""

    name: str
    template: str
    change: Callable[[Config], dict[str, Any]] = lambda config: {}


GROUP = Advice(
    "groups",
    "Keep what belongs together on one side of the split, by groups= or groups=look_alike, and train anew.",
    lambda config: {"groups": "look_alike"},
)
SMALLER = Advice(
    "smaller_code",
    "Make the code smaller: what it cannot hold shows as an error.",
    lambda config: {"model_options.code_size": max(1, _code(config) // 4)},
)
LARGER = Advice(
    "larger_code",
    "Make the code larger, so that normal images can be given back.",
    lambda config: {"model_options.code_size": _code(config) * 4},
)
LONGER = Advice("longer", "Train longer.", lambda config: {"epochs": 3 * config.epochs})
MORE_NORMAL = Advice(
    "more_normal",
    "Collect more normal images; until then stop earlier, or make the code smaller.",
    lambda config: (
        {"callbacks": [*config.callbacks, "early_stopping"]} if "early_stopping" not in config.callbacks else {}
    ),
)
MORE_VALIDATION = Advice(
    "more_validation",
    "Give validation a larger share, so that more normal images choose the threshold.",
    lambda config: {"validation_fraction": 0.4},
)
PATCH = Advice(
    "patch",
    "Look for small defects: the largest patch of the error in place of its mean.",
    lambda config: {"task_options.score": "max_patch"} if config.task_options.get("score", "mean") == "mean" else {},
)
SIMPLE = Advice(
    "simple",
    "Take the simpler method, or say in the report that it does as well; a pre-trained network's features may do better.",
)
NOISE = Advice(
    "denoise",
    "Train with noise on the input, so that the network learns what normal images look like.",
    lambda config: {"model_options.noise": 0.2} if config.model != "vae" else {},
)
SORT_OUT = Advice(
    "sort_out",
    "Look at these images, write the names of the anomalies into a file, leave them out of the training, and train anew.",
    lambda config: {"leave_out": "leave_out.txt"},
)
# By the name of what is found: severity, and what to try.
REMEDIES: dict[str, tuple[str, tuple[Advice, ...]]] = {
    "leak_suspected": ("stop", (GROUP,)),
    "contaminated_training": ("act", (SORT_OUT,)),
    "no_threshold": ("stop", (MORE_VALIDATION,)),
    "reconstructs_nothing": ("act", (LONGER, LARGER)),
    "reconstructs_everything": ("act", (SMALLER, NOISE)),
    "overfits_normal_images": ("act", (MORE_NORMAL, SMALLER)),
    "no_better_than_baseline": ("act", (SIMPLE, PATCH)),
    "blind_to_kinds": ("act", (PATCH, NOISE)),
    "threshold_uncertain": ("act", (MORE_VALIDATION,)),
    "no_anomalies": ("note", ()),
    "healthy": ("note", ()),
}  # fmt: skip


def _code(config: Config) -> int:
    return int(config.model_options.get("code_size", 32))


def diagnose_anomalies(metrics: Mapping[str, Any], config: Config, run: str = "RUN") -> Diagnosis:
    """Says what an anomaly detector suffers from.

    Args:
        metrics: `metrics_val.json` of a run with `task=anomaly`.
        config: Its settings.
        run: Its folder, for the commands.

    Returns:
        All that holds; the first is the headline.
    """
    rules = (
        _find_leak,
        _find_contamination,
        _find_no_threshold,
        _find_nothing_kept,
        _find_everything_kept,
        _find_overfitting,
        _find_baseline,
        _find_blindness,
        _find_uncertain_threshold,
        _find_no_anomalies,
    )
    findings = [finding for rule in rules if (finding := rule(metrics)) is not None]
    if not findings:
        findings = [_find_health(metrics)]
    findings = [replace(finding, severity=REMEDIES[finding.name][0]) for finding in findings]
    name = findings[0].name
    experiments = []
    for advice in REMEDIES[name][1]:
        settings = advice.change(config)
        words = [f"{key}={as_word(value)}" for key, value in settings.items()]
        command = shlex.join(["python", "-m", "pbl", "train", run, *words]) if words else ""
        epochs = settings.get("epochs", config.epochs) if settings else 0
        experiments.append(
            Experiment(
                name=advice.name,
                message=advice.template,
                settings=settings,
                epochs=epochs,
                gain=None,
                lowest=None,
                highest=None,
                helped=0,
                tried=0,
                sources=(),
                pairs=0,
                command=command,
                details={},
                template=advice.template,
            )
        )
    return Diagnosis(tuple(findings), tuple(experiments))


def diagnose_run(run: Run, has_ended: bool | None = None) -> Diagnosis:
    """Says what a run of `task=anomaly` suffers from, by its `metrics_val.json`.

    Raises:
        InputError: The file is missing or damaged.
    """
    metrics = run.read_json("metrics_val.json")
    try:
        AnomalyMetrics.model_validate(metrics)
    except ValidationError:
        raise InputError(
            "The run {run} is damaged: metrics_val.json. Write it anew: python -m pbl evaluate {run}.", run=run.path
        ) from None
    return diagnose_anomalies(metrics, run.config, str(run.path))


def _find_leak(metrics: Mapping[str, Any]) -> Finding | None:
    if not metrics["leak"]:
        return None
    return make_finding(
        "leak_suspected",
        "The data doctor found {items} altered copies across the split: every number here is of images that were trained on, nearly, and too good to be true.",
        items=metrics["leak"]["items"],
    )


def _find_contamination(metrics: Mapping[str, Any]) -> Finding | None:
    of = metrics.get("contamination")
    if of is None or of["low"] < LIMITS["contaminated"].value or of["suspects"] < LIMITS["suspects"].value:
        return None
    return make_finding(
        "contaminated_training",
        "Anomalies seem to lie among the normal training images: {share:.1%} of them look like the known anomalies (95% interval {low:.1%} to {high:.1%}), to the eyes of a simple model. An anomaly that was trained on is given back, and goes unseen. Look at these first: {examples}.",
        share=of["share"],
        low=of["low"],
        high=of["high"],
        examples=", ".join(of["names"][:10]),
    )


def _find_no_threshold(metrics: Mapping[str, Any]) -> Finding | None:
    promise = metrics["promise"]
    if promise is None or promise["threshold"] is not None:
        return None
    return make_finding(
        "no_threshold",
        "{images} normal validation images are too few to promise {asked:.1%} false alarms: that takes {needed}. Nothing is called an anomaly.",
        images=promise["images"],
        asked=promise["asked"],
        needed=int(-(-1 // promise["asked"])) - 1,
    )


def _find_nothing_kept(metrics: Mapping[str, Any]) -> Finding | None:
    kept = metrics["reconstruction"].get("kept_normal")
    if kept is None or kept >= LIMITS["kept_nothing"].value:
        return None
    return make_finding(
        "reconstructs_nothing",
        "Normal images are given back little better than their mean: {kept:.0%} of what they differ by is explained.",
        kept=max(kept, 0.0),
    )


def _find_everything_kept(metrics: Mapping[str, Any]) -> Finding | None:
    of = metrics["reconstruction"]
    normal, others = of.get("kept_normal"), of.get("kept_anomalies")
    limit = LIMITS["kept_everything"].value
    if normal is None or others is None or min(normal, others) < limit:
        return None
    return make_finding(
        "reconstructs_everything",
        "Anomalies are given back as well as normal images: {others:.1%} of what they differ from the mean image by is explained, {normal:.1%} of normal ones.",
        normal=normal,
        others=others,
    )


def _find_overfitting(metrics: Mapping[str, Any]) -> Finding | None:
    of = metrics["reconstruction"]
    if "p_above_train" not in of or of["p_above_train"] > LIMITS["overfits_p"].value:
        return None
    ratio = of["normal"] / max(of["train"], 1e-12)
    if ratio < LIMITS["overfits"].value:
        return None
    return make_finding(
        "overfits_normal_images",
        "Normal images that were not trained on have {ratio:.1f} times the error of those that were ({val:.2g} and {train:.2g}): they look like anomalies, and the threshold lies high.",
        ratio=ratio,
        val=of["normal"],
        train=of["train"],
    )


def _find_baseline(metrics: Mapping[str, Any]) -> Finding | None:
    difference = metrics["difference"]
    if difference is None or difference["low"] is None or difference["low"] > 0:
        return None
    details = {name: difference[name] for name in ("value", "low", "high")}
    details |= {"baseline": Sentence(BASELINE_NAMES[difference["baseline"]]), "auroc": metrics["metrics"]["roc_auc"]}
    if difference["high"] < 0:
        return make_finding(
            "no_better_than_baseline",
            "The network does worse than {baseline}, the best of five baselines: its AUROC of {auroc:.3f} minus theirs is {value:+.3f} (95% interval {low:+.3f} to {high:+.3f}, on the same images).",
            **details,
        )
    return make_finding(
        "no_better_than_baseline",
        "The network does no better than {baseline}, the best of five baselines: its AUROC of {auroc:.3f} minus theirs is {value:+.3f} (95% interval {low:+.3f} to {high:+.3f}, on the same images).",
        **details,
    )


def _find_blindness(metrics: Mapping[str, Any]) -> Finding | None:
    known = [kind for kind in metrics["kinds"] if kind["roc_auc"] is not None]
    blind = sorted(
        (kind for kind in known if kind["roc_auc"] < LIMITS["blind"].value), key=lambda kind: kind["roc_auc"]
    )
    if not blind:
        return None
    kinds = ", ".join(f"{kind['name']} (AUROC {kind['roc_auc']:.2f})" for kind in blind[:6])
    of = metrics["reconstruction"]
    contrast, follows = of.get("contrast_normal"), of.get("follows_contrast", 0.0)
    theirs = sum(of["contrast"][kind["name"]] for kind in blind) / len(blind)
    if contrast is not None and follows > LIMITS["follows"].value and theirs < contrast:
        return make_finding(
            "blind_to_kinds",
            "Blind to {kinds}: they are given back as well as normal images. What is plain is easy to give back: the pixels of these kinds vary by {theirs:.2f}, those of normal images by {contrast:.2f}, and the less a normal image varies the smaller is its error (rank correlation {follows:.2f}).",
            kinds=kinds,
            theirs=theirs,
            contrast=contrast,
            follows=follows,
        )
    return make_finding(
        "blind_to_kinds", "Blind to {kinds}: they are given back as well as normal images; 0.5 is chance.", kinds=kinds
    )


def _find_uncertain_threshold(metrics: Mapping[str, Any]) -> Finding | None:
    promise = metrics["promise"]
    if promise is None or promise["threshold"] is None:
        return None
    if promise["high"] <= LIMITS["uncertain"].value * promise["asked"]:
        return None
    return make_finding(
        "threshold_uncertain",
        "The threshold was chosen by {images} normal images: the false alarms that it gives may be anything from {low:.1%} to {high:.1%}, where {asked:.1%} were asked for.",
        images=promise["images"],
        asked=promise["asked"],
        low=promise["low"],
        high=promise["high"],
    )


def _find_no_anomalies(metrics: Mapping[str, Any]) -> Finding | None:
    if metrics["metrics"]["roc_auc"] is not None:
        return None
    return make_finding(
        "no_anomalies",
        "Validation has no anomalies ({images} images, {normal} of them normal): only false alarms can be judged.",
        images=metrics["images"],
        normal=metrics["normal_images"],
    )


def _find_health(metrics: Mapping[str, Any]) -> Finding:
    value = metrics["metrics"]["roc_auc"]
    low, high = metrics["intervals"].get("roc_auc", (value, value))
    difference = metrics["difference"]
    return make_finding(
        "healthy",
        "Anomalies are told from normal images: AUROC {auroc:.3f} (95% interval {low:.3f} to {high:.3f}), {value:+.3f} beside {baseline}, the best of five baselines.",
        auroc=value,
        low=low,
        high=high,
        value=difference["value"],
        baseline=Sentence(BASELINE_NAMES[difference["baseline"]]),
    )
