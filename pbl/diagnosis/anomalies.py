"""The diagnosis of an anomaly detector, from what `pbl.tasks.anomaly.judge` measured on validation. Nothing else is read.

As in `pbl.diagnosis.rules` the first finding is the headline, and all findings are listed.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from pbl.config import Config
from pbl.diagnosis.evidence import Finding, make_finding
from pbl.diagnosis.planning import GROUP, LONGER, Advice, conclude, find_leak, read_metrics
from pbl.diagnosis.rules import Diagnosis, Threshold
from pbl.errors import Sentence
from pbl.runs import Run
from pbl.storage.schemas import AnomalyMetrics

BASELINE_NAMES = {
    "pca": "PCA",
    "nearest_neighbours": "nearest neighbours",
    "nearest_evened": "nearest image, brightness equalised",
    "mean_image": "distance to the mean image",
    "brightness": "mean brightness",
}
CHANCE = 0.5  # AUROC
LIMITS = {
    "kept_nothing": Threshold(
        0.15, "share of the distance to the mean image that is explained; a code of one number explains .2"
    ),
    "kept_everything": Threshold(
        0.95, "the same, for anomalies; a network that gives back everything does not tell them apart"
    ),
    "overfits": Threshold(1.5, "mean error of normal validation images divided by that of training images"),
    "overfits_p": Threshold(1e-3, "probability of it by chance, one-sided (Mann and Whitney)"),
    "blind": Threshold(0.6, "AUROC of one kind of anomaly; .5 is chance"),
    "follows": Threshold(0.3, "rank correlation of a normal image's error with its contrast; convention"),
    "contaminated": Threshold(0.005, "lower end of the share of anomalies among the normal training images"),
    "suspects": Threshold(5, "number of suspects; clean digits had 4"),
    "uncertain": Threshold(3.0, "upper end of the false alarms' interval divided by the share that was asked for"),
}


def _code_times(factor: float) -> Callable[[Config, Mapping[str, Any]], dict[str, Any] | None]:
    def change(config: Config, options: Mapping[str, Any]) -> dict[str, Any] | None:
        now = options.get("code_size")
        size = None if now is None else max(1, int(now * factor))
        return None if size == now else {"model_options.code_size": size}

    return change


SMALLER = Advice(
    "smaller_code",
    "Make the code smaller: what it cannot represent shows as an error.",
    _code_times(1 / 4),
)
LARGER = Advice(
    "larger_code",
    "Make the code larger, so that normal images can be reconstructed.",
    _code_times(4),
)
MORE_NORMAL = Advice(
    "more_normal",
    "Collect more normal images; until then stop earlier, or make the code smaller.",
    lambda config, options: (
        {"callbacks": [*config.callbacks, "early_stopping"]} if "early_stopping" not in config.callbacks else {}
    ),
)
MORE_VALIDATION = Advice(
    "more_validation",
    "Give validation a larger share, so that the threshold is chosen on more normal images.",
    lambda config, options: {"validation_fraction": 0.4} if (config.validation_fraction or 0) < 0.4 else {},
)
PATCH = Advice(
    "patch",
    "Search for small defects: use the largest patch of the error instead of its mean.",
    lambda config, options: (
        {"task_options.score": "max_patch"} if config.task_options.get("score", "mean") == "mean" else None
    ),
)
SIMPLE = Advice(
    "simple",
    "Use the simpler method, or write in the report that it is as good; the features of a pre-trained network may be better.",
)
NOISE = Advice(
    "denoise",
    "Train with noise on the input, so that the network learns what normal images look like.",
    lambda config, options: {"model_options.noise": 0.2} if options.get("noise", 1.0) < 0.2 else None,
)
SORT_OUT = Advice(
    "sort_out",
    "Look at these images, write the names of the anomalies into a file, leave them out of the training, and train again.",
    lambda config, options: {"leave_out": "leave_out.txt"},
)
# By the name of the finding: severity, and what to try.
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
}


def diagnose_anomalies(
    metrics: Mapping[str, Any], config: Config, run: str = "RUN", options: Mapping[str, Any] | None = None
) -> Diagnosis:
    """Diagnoses an anomaly detector.

    Args:
        metrics: `metrics_val.json` of a run with `task=anomaly`.
        config: Its settings.
        run: Its folder, for the commands.
        options: The options of its model's builder; by default those of the settings.

    Returns:
        All findings; the first is the headline.
    """
    rules = (
        find_leak,
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
    return conclude(findings, REMEDIES, config, run, options)


def diagnose_run(run: Run, has_ended: bool | None = None) -> Diagnosis:
    """Diagnoses a run of `task=anomaly`, from its `metrics_val.json`.

    Raises:
        InputError: The file is missing or damaged.
    """
    metrics = read_metrics(run, AnomalyMetrics)
    return diagnose_anomalies(metrics, run.config, str(run.path), run.environment.get("builder_options"))


def _find_contamination(metrics: Mapping[str, Any]) -> Finding | None:
    of = metrics.get("contamination")
    if of is None or of["low"] < LIMITS["contaminated"].value or of["suspects"] < LIMITS["suspects"].value:
        return None
    return make_finding(
        "contaminated_training",
        "The normal training images seem to contain anomalies: {share:.1%} of them look like the known anomalies to a simple model (95% interval {low:.1%} to {high:.1%}). An anomaly that was trained on is reconstructed, so it is not found. Look at these first: {examples}.",
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
        "Normal validation images: {images}. To promise {asked_percent:g}% false alarms, at least {needed} are needed; until then nothing is called an anomaly.",
        images=promise["images"],
        asked_percent=100 * promise["asked"],
        needed=math.ceil(1 / promise["asked"] - 1e-6) - 1,
    )


def _find_nothing_kept(metrics: Mapping[str, Any]) -> Finding | None:
    kept = metrics["reconstruction"].get("kept_normal")
    if kept is None or kept >= LIMITS["kept_nothing"].value:
        return None
    if kept <= 0:
        return make_finding(
            "reconstructs_nothing",
            "Normal images are reconstructed no better than by their mean image alone, which needs no network.",
            kept=kept,
        )
    return make_finding(
        "reconstructs_nothing",
        "Normal images are reconstructed little better than by their mean image alone: {kept:.1%} of their difference from it is explained.",
        kept=kept,
    )


def _find_everything_kept(metrics: Mapping[str, Any]) -> Finding | None:
    of = metrics["reconstruction"]
    normal, others = of.get("kept_normal"), of.get("kept_anomalies")
    limit = LIMITS["kept_everything"].value
    if normal is None or others is None or min(normal, others) < limit:
        return None
    return make_finding(
        "reconstructs_everything",
        "Anomalies are reconstructed nearly as completely as normal images: {others:.1%} of their difference from the mean image is explained, and {normal:.1%} for normal images.",
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
        "Normal images that were not trained on have a mean score of {val:.2g}, those that were trained on {train:.2g}: new normal images look more like anomalies, and the threshold is higher.",
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
            "The network is worse than {baseline}, the best of five baselines: its AUROC is {auroc:.3f}, a difference of {value:+z.3f} (95% interval {low:+z.3f} to {high:+z.3f}, on the same images).",
            **details,
        )
    return make_finding(
        "no_better_than_baseline",
        "The network is not clearly better than {baseline}, the best of five baselines: its AUROC is {auroc:.3f}, a difference of {value:+z.3f} (95% interval {low:+z.3f} to {high:+z.3f}, on the same images).",
        **details,
    )


def _find_blindness(metrics: Mapping[str, Any]) -> Finding | None:
    known = [kind for kind in metrics["kinds"] if kind["roc_auc"] is not None]
    blind = sorted(
        (kind for kind in known if kind["roc_auc"] < LIMITS["blind"].value), key=lambda kind: kind["roc_auc"]
    )
    if not blind:
        return None
    kinds = ", ".join(map(_tell_kind, blind[:6])) + (", ..." if len(blind) > 6 else "")
    of = metrics["reconstruction"]
    contrast, follows = of.get("contrast_normal"), of.get("follows_contrast", 0.0)
    theirs = sum(of["contrast"][kind["name"]] for kind in blind) / len(blind)
    if contrast is not None and follows > LIMITS["follows"].value and theirs < contrast:
        return make_finding(
            "blind_to_kinds",
            "Hardly distinguished from normal images: {kinds}; in brackets the AUROC with its 95% interval. 0.5 is chance; below 0.5 the errors are smaller than those of normal images. A possible reason is that plain images are easy to reconstruct: the pixels of these kinds vary by {theirs:.3f}, those of normal images by {contrast:.3f}, and the less a normal image varies, the smaller is its error (rank correlation {follows:.2f}).",
            kinds=kinds,
            theirs=theirs,
            contrast=contrast,
            follows=follows,
        )
    return make_finding(
        "blind_to_kinds",
        "Hardly distinguished from normal images: {kinds}; in brackets the AUROC with its 95% interval. 0.5 is chance; below 0.5 the errors are smaller than those of normal images.",
        kinds=kinds,
    )


def _tell_kind(kind: Mapping[str, Any]) -> str:
    low, high = kind.get("low"), kind.get("high")
    interval = "" if low is None or high is None else f", {low:.2f}-{high:.2f}"
    return f"{kind['name']} ({kind['roc_auc']:.2f}{interval})"


def _find_uncertain_threshold(metrics: Mapping[str, Any]) -> Finding | None:
    promise = metrics["promise"]
    if promise is None or promise["threshold"] is None:
        return None
    if promise["high"] <= LIMITS["uncertain"].value * promise["asked"]:
        return None
    return make_finding(
        "threshold_uncertain",
        "The threshold was chosen on {images} normal images: its share of false alarms may be anything from {low:.1%} to {high:.1%} (95% interval), although {asked_percent:g}% was requested.",
        images=promise["images"],
        asked_percent=100 * promise["asked"],
        low=promise["low"],
        high=promise["high"],
    )


def _find_no_anomalies(metrics: Mapping[str, Any]) -> Finding | None:
    if metrics["metrics"]["roc_auc"] is not None:
        return None
    return make_finding(
        "no_anomalies",
        "Validation has no anomalies ({images} images, {normal} of them normal): only false alarms can be evaluated. To see what is found, add some anomalies, each kind in a folder of its own next to the normal images.",
        images=metrics["images"],
        normal=metrics["normal_images"],
    )


def _find_health(metrics: Mapping[str, Any]) -> Finding:
    difference = metrics["difference"]
    numbers = {"auroc": metrics["metrics"]["roc_auc"], "value": difference["value"]}
    numbers["baseline"] = Sentence(BASELINE_NAMES[difference["baseline"]])
    if "roc_auc" not in metrics["intervals"]:
        return make_finding(
            "healthy",
            "No fault was found: AUROC {auroc:.3f}, {value:+z.3f} compared with {baseline}, the best of five baselines. These images are too few, or too similar, for an interval.",
            **numbers,
        )
    low, high = metrics["intervals"]["roc_auc"]
    if low <= CHANCE:
        return make_finding(
            "healthy",
            "No fault was found, but it is not certain that anomalies are distinguished from normal images: AUROC {auroc:.3f} (95% interval {low:.3f} to {high:.3f}; 0.5 is chance), {value:+z.3f} compared with {baseline}, the best of five baselines.",
            low=low,
            high=high,
            **numbers,
        )
    return make_finding(
        "healthy",
        "Anomalies are distinguished from normal images: AUROC {auroc:.3f} (95% interval {low:.3f} to {high:.3f}), {value:+z.3f} compared with {baseline}, the best of five baselines.",
        low=low,
        high=high,
        **numbers,
    )
