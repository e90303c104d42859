"""Anomaly detection: a network learns to reproduce normal images; an image that it cannot reproduce is called an anomaly.

`task=anomaly task_options.normal=["8"]`: training and the choice of the best epoch use only normal images. The score of an image
is the error of its reconstruction. The threshold is chosen on normal validation images, and promises a share of false alarms. That an
anomaly cannot be reconstructed is a hope, not a law: a network that learned eights reproduces a one perfectly well. So the score
is compared with five baselines that need no network, and shown for each kind of anomaly. Models: any that return an image for an image
(`pbl.models.autoencoder`).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pbl.config import Config
from pbl.data import Data, Images
from pbl.data.doctor import measure_contamination
from pbl.data.doctor.finding import find_leak
from pbl.data.masks import find_masks
from pbl.errors import InputError, Sentence
from pbl.evaluation.anomalies import (
    BASELINES,
    COMPONENTS,
    MOST_FITTED,
    Baselines,
    Promise,
    choose_threshold,
    judge_pixels,
    map_errors,
    measure_areas,
    score_errors,
)
from pbl.evaluation.anomaly_figures import draw_anomalies, plot_codes, plot_map
from pbl.evaluation.figures import plot_gallery
from pbl.models import CARDS
from pbl.models.calls import is_overridden
from pbl.models.prediction import predict_outputs
from pbl.reports.drawing import caption
from pbl.runs import Run
from pbl.statistics import share_out_area, wilson_interval
from pbl.tasks.task import Judged, Question, Task

OPTIONS = {"normal": (), "score": "mean", "false_alarms": 0.05}
AT_ONCE = 1_000  # images whose reconstructions are in memory at the same time
MOST_TRAIN = 2_000  # training images with which the errors on validation are compared
FEWEST_OF_KIND = 5  # anomalies of one kind; with fewer, no area is reported for it


def load_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for `load_data`: which classes are normal. Raises InputError if an option has an impossible value."""
    normal = options["normal"]
    normal = [str(name) for name in (normal if isinstance(normal, (list, tuple)) else [normal])]
    if not normal:
        raise InputError(
            "task=anomaly needs the classes that are normal: task_options.normal=good, or task_options.normal=\"['3', '8']\"."
        )
    if options["score"] not in ("mean", "max_patch"):
        raise InputError("task_options.score={score}. Valid: mean, max_patch.", score=options["score"])
    share = options["false_alarms"]
    if not isinstance(share, float) or not 0 < share < 0.5:
        raise InputError(
            "task_options.false_alarms={share}: a share of the normal images above 0 and below 0.5, such as 0.05.",
            share=share,
        )
    return {"normal": normal}


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model returns an image for an image, and has a loss; returns "float32"."""
    autoencoders = [name for name, card in CARDS.items() if card.task == "anomaly"]
    pixels = data.images("val").view[:2]
    outputs = model(pixels, training=False) if is_overridden(model, "call") else None
    if tuple(getattr(outputs, "shape", ())) != pixels.shape:
        raise InputError(
            "task=anomaly: {model} gives {found} for {n} images of {shape}. It needs a network that gives an image for an image: model={names}, or "
            "your own.",
            model=model.name,
            found=Sentence("the shape {shape}", shape=tuple(outputs.shape))
            if hasattr(outputs, "shape")
            else Sentence("not a single output"),
            n=len(pixels),
            shape="x".join(map(str, pixels.shape[1:])),
            names=", ".join(autoencoders),
        )
    if not model.compiled and not any(is_overridden(model, name) for name in ("train_step", "compute_loss")):
        raise InputError(
            "task=anomaly: {model} has no loss of its own. Return a subclass of keras.Model with a compute_loss, such as"
            " pbl.models.autoencoder.Autoencoder(inputs, outputs).",
            model=model.name,
        )
    if float(keras.ops.max(outputs)) <= 1.0 and pixels.max() > 1:
        raise InputError(
            "task=anomaly: {model} gives values up to {most:.3g}; pixels are 0 to 255. End it with Rescaling(255.).",
            model=model.name,
            most=float(keras.ops.max(outputs)),
        )
    return "float32"


def compile_arguments(config: Config) -> dict[str, Any]:
    """None: the model has its own loss."""
    return {}


def watch(data: Data, file: Path) -> None:
    """Nothing: the errors of training and validation images are compared at the end, by `judge`."""


def reconstruct_images(model: keras.Model, pixels: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images, a few at a time, and the model's output for them, `float32 [at most 1000, height, width, channels]`.

    Args:
        model: The model.
        pixels: `uint8 [n, height, width, channels]`, or an object that returns such arrays for a slice.
    """
    for start in range(0, len(pixels), AT_ONCE):
        part = pixels[start : start + AT_ONCE]
        yield part, predict_outputs(model, part)


def score_images(model: keras.Model, pixels: Any, scores: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns the scores of each image, `float32 [n]`, by their names: "mean", "max_patch"; other arguments as for `reconstruct_images`."""
    scores = list(dict.fromkeys(scores))
    parts = [
        [score_errors(map_errors(part, back, score), score) for score in scores]
        for part, back in reconstruct_images(model, pixels)
    ]
    return {score: np.concatenate(column) for score, column in zip(scores, zip(*parts, strict=True), strict=True)}


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Evaluates scores by areas with intervals, compared with baselines, and the threshold by the promise made on validation.

    Args:
        model: A model that returns an image for an image.
        data: The data that the images belong to; the baselines use its normal training images.
        images: The images.
        question: What the evaluation asks; `options` are those of the task.
    """
    score, normal = question.options["score"], np.isin(images.labels, data.normal)
    by_score = score_images(model, images.view, (score, "mean"))
    scores = by_score[score]
    if not np.isfinite(scores).all():
        raise InputError("The model's outputs are not all numbers: its training diverged. Lower learning_rate.")
    promise = None
    if question.is_validation:
        promise = choose_threshold(scores[normal], question.options["false_alarms"])
    elif question.validation is not None:
        before, is_normal = question.validation
        promise = choose_threshold(before[is_normal], question.options["false_alarms"])
    code = next((layer for layer in model.layers if layer.name == "code"), None)
    components = COMPONENTS if code is None else int(np.prod(code.output.shape[1:]))
    train = data.images("train")
    baselines = Baselines(data.sample("train", MOST_FITTED).pixels, components)
    by_baseline = _score_in_parts(baselines, images.view)
    metrics = _measure(scores, normal, promise, question, data.class_names, images.labels, by_baseline)
    metrics["reconstruction"] = _describe_reconstruction(
        model, data, images, by_score, normal, by_baseline["mean_image"], score
    )
    metrics["leak"] = find_leak(question.findings)
    # The verdict uses only that of validation.
    metrics["contamination"] = _find_contamination(data, images, normal) if question.is_validation else None
    masks = find_masks(data, images, ~normal)
    if masks is not None:
        at, exact = masks
        chosen = np.concatenate([np.flatnonzero(normal)[:MOST_TRAIN], at])
        parts = reconstruct_images(model, images.pixels[chosen])
        errors = np.concatenate([map_errors(part, back, score) for part, back in parts])
        exact = np.concatenate([np.zeros((len(chosen) - len(at), *exact.shape[1:]), bool), exact])
        metrics["metrics"] |= judge_pixels(errors, exact)
        metrics["masks"] = len(at)
    arrays = {"labels": images.labels, "scores": scores, "is_normal": normal}
    if metrics["headline"] == "roc_auc":
        arrays |= {"truth": ~normal, "values": share_out_area(~normal, scores)}
    arrays |= {f"score_{name}": by_baseline[name].astype(np.float32) for name in BASELINES}
    metrics["train_images"] = len(train.labels)
    threshold = None if promise is None else promise.threshold
    figures = draw_anomalies(
        question.run,
        question.split,
        metrics,
        images,
        scores,
        normal,
        by_baseline,
        threshold,
        lambda chosen: predict_outputs(model, images.pixels[chosen]),
        score,
        question.all_figures,
    )
    if metrics["contamination"]:
        figures = chain(figures, _draw_suspects(question.run, data, metrics["contamination"]))
    return Judged(metrics, arrays, figures)


def _score_in_parts(baselines: Baselines, pixels: Any) -> dict[str, np.ndarray]:
    parts = [baselines.score(pixels[at : at + AT_ONCE]) for at in range(0, len(pixels), AT_ONCE)]
    return {name: np.concatenate([part[name] for part in parts]) for name in BASELINES}


def _measure(
    scores: np.ndarray,
    normal: np.ndarray,
    promise: Promise | None,
    question: Question,
    class_names: list[str],
    labels: np.ndarray,
    by_baseline: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Areas, the promise, kinds of anomalies and baselines, ready for JSON."""
    units = None
    if question.groups is not None:  # an image in no group is a group of its own
        units = [word or f"\0{at}" for at, word in enumerate(question.groups)]
    values: dict[str, float | None] = {"roc_auc": None, "average_precision": None, "found": None, "false_alarms": None}
    result: dict[str, Any] = {
        "images": len(scores), "normal_images": int(normal.sum()), "headline": "roc_auc", "better": "higher",
        "score": question.options["score"], "metrics": values, "intervals": {}, "kinds": [], "baselines": [],
        "difference": None, "promise": None, "is_validation": question.is_validation,
    }  # fmt: skip
    alarm = None
    if promise is not None:
        result["promise"] = {**promise._asdict(), "threshold": _finite(promise.threshold)}
        values["threshold"] = _finite(promise.threshold)
        alarm = scores > promise.threshold
        for name, of in (("false_alarms", normal), ("found", ~normal)):
            if of.any():
                values[name] = float(alarm[of].mean())
                result["intervals"][name] = list(wilson_interval(int(alarm[of].sum()), int(of.sum())))
        if normal.any() and not question.is_validation:
            low, high = promise.predict_found(int(normal.sum()))
            is_kept = low - 1e-9 <= values["false_alarms"] <= high + 1e-9
            result["promise"] |= {"expected_low": low, "expected_high": high, "is_kept": bool(is_kept)}
    if normal.all() or not normal.any():
        result["headline"] = "false_alarms" if normal.all() else "found"
        result["better"] = "lower" if normal.all() else "higher"
        return result
    names = ["model", *BASELINES]
    areas = measure_areas(~normal, [scores, *(by_baseline[name] for name in BASELINES)], units)
    for area, name in enumerate(("roc_auc", "average_precision")):
        value, *ends = areas.interval(0, area)
        values[name] = value
        if None not in ends:
            result["intervals"][name] = ends
    result["groups"] = None if units is None else len(set(units))
    result["baselines"] = [
        {"name": name, **dict(zip(("roc_auc", "low", "high"), areas.interval(number), strict=True))}
        for number, name in enumerate(BASELINES, 1)
    ]
    best = max(range(1, len(names)), key=lambda number: areas.values[number, 0])
    value, low, high = areas.difference(0, best)
    result["difference"] = {"baseline": names[best], "value": value, "low": low, "high": high}
    for label in np.unique(labels[~normal]):
        of = labels == label
        kind: dict[str, Any] = {"name": class_names[label], "images": int(of.sum()), "roc_auc": None}
        if alarm is not None:
            kind["found"] = float(alarm[of].mean())
        if of.sum() >= FEWEST_OF_KIND:
            both = of | normal
            within = None if units is None else [units[at] for at in np.flatnonzero(both)]
            one = measure_areas(of[both], [scores[both]], within).interval(0)
            kind |= dict(zip(("roc_auc", "low", "high"), one, strict=True))
        result["kinds"].append(kind)
    return result


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _describe_reconstruction(
    model: keras.Model,
    data: Data,
    images: Images,
    by_score: Mapping[str, np.ndarray],
    normal: np.ndarray,
    of_mean_image: np.ndarray,
    score: str,
) -> dict[str, Any]:
    """How well images are reproduced: training and other normal images, anomalies, and what the mean image would reach.

    `kept` is the share of an image's squared distance to the mean training image that the reconstruction explains, on average.
    `contrast` is the mean standard deviation of an image's pixels, 0 to 1, by kind; `follows_contrast` is its rank correlation with the
    scores of normal images, -1 to 1.
    """
    from scipy.stats import mannwhitneyu, spearmanr

    sample = data.sample("train", MOST_TRAIN)
    train = score_images(model, sample.view, [score])[score]
    scores, errors = by_score[score], by_score["mean"]
    contrast = _measure_contrast(images.view)
    result: dict[str, Any] = {"train": float(train.mean()), "train_images": len(train)}
    for name, of in (("normal", normal), ("anomalies", ~normal)):
        if of.any():
            result[name] = float(scores[of].mean())
            result[f"kept_{name}"] = float(1 - errors[of].sum() / max(of_mean_image[of].sum(), 1e-12))
    if normal.sum() > 2 and len(train) > 2:
        result["p_above_train"] = float(mannwhitneyu(scores[normal], train, alternative="greater").pvalue)
        if np.ptp(contrast[normal]) > 0 and np.ptp(scores[normal]) > 0:
            result["follows_contrast"] = float(spearmanr(scores[normal], contrast[normal]).statistic)
        result["contrast_normal"] = float(contrast[normal].mean())
    result["contrast"] = {
        data.class_names[label]: float(contrast[images.labels == label].mean())
        for label in np.unique(images.labels[~normal])
    }
    order = np.argsort(-train, kind="stable")[:10]
    result["worst_of_train"] = [{"name": sample.names[at], "score": float(train[at])} for at in order]
    return result


def _measure_contrast(pixels: Any) -> np.ndarray:
    parts = [pixels[at : at + AT_ONCE] for at in range(0, len(pixels), AT_ONCE)]
    return np.concatenate([part.reshape(len(part), -1).std(axis=1, dtype=np.float64) / 255 for part in parts])


def _find_contamination(data: Data, images: Images, normal: np.ndarray) -> dict[str, Any] | None:
    """Whether there are anomalies among the normal training images, estimated from known ones; None if no estimate is possible."""
    if normal.all() or not normal.any():
        return None
    train, known = (data.part(of) for of in (data.images("train"), images.take(~normal)))
    found = measure_contamination(train, known)
    return None if found is None else found._asdict()


def _draw_suspects(run: str, data: Data, contamination: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    train = data.images("train")
    place = {name: at for at, name in enumerate(train.names)}
    names = contamination["names"]
    title = caption("{run}, training: called normal, but most like known anomalies", run=run)
    yield "suspects", plot_gallery(train.view[[place[name] for name in names]], names, title)


def predict(model: keras.Model, pixels: np.ndarray, run: Run) -> pd.DataFrame:
    """Scores images of unknown kind.

    Returns:
        `score`; `above`: the share of the run's normal validation images whose score is lower, 0 to 1; `alarm`: whether it is above
        the threshold.

    Raises:
        InputError: The run's validation scores are missing.
    """
    options = {**OPTIONS, **run.config.task_options}
    before, is_normal = run.read_scores("val")
    known = np.sort(before[is_normal])
    promise = choose_threshold(known, options["false_alarms"])
    scores = score_images(model, pixels, [options["score"]])[options["score"]]
    above = np.searchsorted(known, scores) / len(known)
    return pd.DataFrame({"score": scores, "above": above, "alarm": scores > promise.threshold})


def draw_maps(model: keras.Model, pixels: np.ndarray, run: Run) -> Iterator[Figure]:
    """Draws each image, its reconstruction, and where the error is; all maps on one scale."""
    score = {**OPTIONS, **run.config.task_options}["score"]
    most = max(
        float(np.quantile(map_errors(part, back, score), 0.999)) for part, back in reconstruct_images(model, pixels)
    )
    for part, back in reconstruct_images(model, pixels):
        for image, given, errors in zip(part, back, map_errors(part, back, score), strict=True):
            yield plot_map(image, given, errors, most)


def draw_codes(run: Run, model: keras.Model, data: Data) -> tuple[Figure, pd.DataFrame]:
    """Draws validation images at their places in the code: its two numbers, or if it has more, the two directions with most variance.

    Returns:
        The figure, and one row for each image: name, class, whether it is normal, and its place.

    Raises:
        InputError: The model has no layer called "code", or its code has only one number.
    """
    from sklearn.decomposition import PCA

    code = next((layer for layer in model.layers if layer.name == "code"), None)
    if code is None or np.prod(code.output.shape[1:]) < 2:
        raise InputError("{model} has no layer called 'code' with two numbers or more.", model=model.name)
    images = data.sample("val", MOST_TRAIN)
    encoder = keras.Model(model.inputs, code.output)
    codes = predict_outputs(encoder, images.pixels).reshape(len(images.labels), -1)
    names = [caption("number {at} of the code", at=at) for at in (1, 2)]
    if codes.shape[1] > 2:
        analysis = PCA(2, random_state=0).fit(codes)
        codes, shares = analysis.transform(codes), analysis.explained_variance_ratio_
        told = "principal component {at} of the code ({share:.0%})"
        names = [caption(told, at=at, share=share) for at, share in enumerate(shares, 1)]
    normal = np.isin(images.labels, data.normal)
    kinds = [data.class_names[label] for label in images.labels]
    table = pd.DataFrame(
        {"image": images.names, "class": kinds, "is_normal": normal, "x": codes[:, 0], "y": codes[:, 1]}
    )
    title = caption("{run}: the code of validation images", run=run.name)
    return plot_codes(images.pixels, codes, kinds, normal, names, title), table


TASK = Task(
    check,
    compile_arguments,
    watch,
    judge,
    options=OPTIONS,
    loads=load_arguments,
    predict=predict,
    draw_maps=draw_maps,
    inspect={"codes": draw_codes},
    has_classes=False,
    mutes=frozenset({"small_validation", "reference_accuracy"}),
)
