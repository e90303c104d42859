"""Detection: where objects are, and how many; evaluated by average precision, and by whether the count is right.

`task=detection` with `model=center_net`, or your own model whose `predict` returns boxes. The data have boxes for each image
(`pbl.data.box_files`). Average precision uses all thresholds, but a user has one: it is chosen on validation, and evaluated on other images.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pbl.config import Config
from pbl.data import Data, Images
from pbl.errors import InputError
from pbl.evaluation.box_evidence import measure_boxes
from pbl.evaluation.box_monitor import BoxMonitor
from pbl.evaluation.detection_figures import draw_boxes, draw_detection
from pbl.evaluation.mask_evidence import name_groups
from pbl.models.prediction import predict_outputs
from pbl.runs import Run
from pbl.tasks.task import Judged, Question, Task, name_units, read_validation
from pbl.training.box_loss import CenterLoss

UNKNOWN = 0.3  # threshold if none was chosen on validation, since no box was right there; Zhou et al.'s for pictures


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model returns boxes from `predict`; returns "float32"."""
    found = predict_outputs(model, data.images("val").view[:2])
    if found.ndim != 3 or found.shape[-1] != 6:
        raise InputError(
            "task=detection: `predict` of {model} gives {found} for {n} images; it must give [{n}, boxes, 6]: left, top, right, bottom, class and "
            "score, class -1 if there is no box. Use model=center_net, or end yours with a CenterNet (pbl.models.center_net).",
            model=model.name,
            found=list(found.shape),
            n=len(data.images("val").view[:2]),
        )
    return "float32"


def compile_arguments(config: Config) -> dict[str, Any]:
    """The loss; raises InputError for settings that have no meaning for boxes."""
    if config.label_smoothing or config.loss != Config.model_fields["loss"].default:
        raise InputError("task=detection has its own loss: omit loss and label_smoothing.")
    if config.class_weight is not None:
        raise InputError(
            "task=detection: class_weight={value} weights whole images by their class, but these have boxes: omit it.",
            value=config.class_weight,
        )
    return {"loss": CenterLoss()}


def watch(data: Data, file: Path) -> keras.callbacks.Callback:
    """`BoxMonitor`, whose numbers are in the history."""
    return BoxMonitor(data)


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Evaluates boxes by average precision, and by the boxes above the threshold that was chosen on validation.

    Args:
        model: The model.
        data: The data that the images belong to.
        images: The images.
        question: What the evaluation asks.
    """
    chosen = None if question.is_validation else read_threshold(question.folder)
    measured = measure_boxes(model, data, images, question.findings, question.is_validation, question.groups, chosen)
    if measured is None:
        raise InputError("The model's outputs are not all numbers: its training diverged. Lower learning_rate.")
    numbers, judged = measured.numbers, measured.numbers["boxes"]
    shown = judged["at_threshold"]
    metrics, intervals = {name: judged[name] for name in ("map50", "map75", "map")}, {}
    if (interval := judged["map50_interval"]) is not None:
        intervals["map50"] = interval
    if shown is not None:
        metrics |= {name: shown[name] for name in ("right_count", "precision", "recall", "image_f1")}
        metrics = {("box_" + name if name in ("precision", "recall") else name): of for name, of in metrics.items()}
        intervals["right_count"] = shown["right_count_interval"]
    result = {
        "headline": "map50",
        "better": "higher",
        "metrics": metrics,
        "intervals": intervals,
        **numbers,
        "is_validation": question.is_validation,
    }
    arrays = {"boxes": measured.found, **_list_values(measured.values, images, name_groups(question.groups))}
    figures = draw_detection(
        f"{question.run}, {question.split}",
        images.view,
        images.names,
        images.boxes,
        measured.found,
        measured.matches,
        data.class_names,
        numbers["threshold"],
        question.all_figures,
    )
    return Judged(result, arrays, figures)


def _list_values(values: np.ndarray, images: Images, groups: list[str] | None) -> dict[str, np.ndarray]:
    """A value for each image, or for each group, whose mean is mAP50: `compare` reads it; nothing if there are no true boxes."""
    if not len(values):
        return {}
    names, hashes = name_units(images, groups)
    return {"names": names, "hashes": hashes, "truth": np.ones(len(values), np.int32), "values": values}


def read_threshold(folder: Path | None) -> float | None:
    """The threshold that was chosen on validation, from a run's `metrics_val.json`; None if it has none."""
    value = read_validation(folder).get("threshold")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1 else None


def find_shown(model: keras.Model, pixels: np.ndarray, run: Run) -> list[np.ndarray]:
    """Returns for each image the boxes whose score is at least the run's threshold, `float32 [k, 6]`, the highest score first."""
    threshold = read_threshold(run.path) or UNKNOWN
    found = predict_outputs(model, pixels)
    return [rows[(rows[:, 4] >= 0) & (rows[:, 5].astype(np.float64) >= threshold)] for rows in found]


def predict(model: keras.Model, pixels: np.ndarray, run: Run) -> pd.DataFrame:
    """Finds boxes.

    Returns:
        One row for each box, the highest score first: `image`, the place of its image; `class`, `score`, and `left`, `top`, `right`, `bottom` in pixels
        that the network sees. An image in which nothing is found has one row without a class.
    """
    names, rows = run.split["class_names"], []
    for number, found in enumerate(find_shown(model, pixels, run)):
        for *corners, kind, score in found.tolist():
            rows.append((number, names[int(kind)], score, *corners))
        if not len(found):
            rows.append((number, None, *[np.nan] * 5))
    return pd.DataFrame(rows, columns=["image", "class", "score", "left", "top", "right", "bottom"])


def draw_maps(model: keras.Model, pixels: np.ndarray, run: Run) -> Iterator[Figure]:
    """Draws each image with the boxes that were found."""
    for image, found in zip(pixels, find_shown(model, pixels, run), strict=True):
        yield draw_boxes(image, found, run.split["class_names"])


TASK = Task(
    check,
    compile_arguments,
    watch,
    judge,
    best=("val_map50", "max"),
    loads=lambda options: {"boxes": True},
    predict=predict,
    draw_maps=draw_maps,
    mutes=frozenset({"reference_accuracy", "small_validation"}),
)
