"""What runs say about one image, and what explains it: the answers that the page shows. Works without Gradio.

Predictions use the code of the command `predict` (`read_images`, `predict_read`), so the numbers are equal to the last bit.
"""

import io
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from pbl import models
from pbl.data import Data, read_image
from pbl.data.images import count_pixels, unfit_mask, without_warnings
from pbl.errors import InputError, Sentence, join_sentences
from pbl.evaluation.anomalies import choose_threshold
from pbl.evaluation.calibration import apply_temperature
from pbl.evaluation.contrast import scale_rows
from pbl.evaluation.detection_figures import draw_boxes
from pbl.evaluation.mask_figures import draw_classes, lay_over
from pbl.evaluation.mistakes import write_png
from pbl.evaluation.run import load_model, open_run_data, predict_read, read_images
from pbl.evaluation.samples import takes_labels
from pbl.inspection.attention import attention_maps, find_attention
from pbl.inspection.gradcam import grad_cam
from pbl.inspection.run import choose_shown
from pbl.models.prediction import predict_outputs
from pbl.models.slips import tell_slips
from pbl.runs import Run, load_run
from pbl.tasks import anomaly, contrast, detection, find_task, generation

NEIGHBOURS = 5  # neighbours that are shown
MOST_KNOWN, FEWEST_KNOWN = 2_000, 100  # training images among which they are searched
MOST_MACS = 2e11  # for the features of those: about ten seconds on two cores; a large network uses fewer images
LONGEST_SIDE = 800  # pixels of a picture that is marked; a larger one is shrunk for the page
LARGEST_SKETCH = 64  # pixels a side of the grey images for which the page has a pad
MOST_PIXELS = 60_000_000  # of an image that a page accepts; phone cameras have about 50 million
_LOCK = threading.RLock()  # several threads use a page, and Grad-CAM changes layers while it runs


class Answer(NamedTuple):
    """What a run says about one image.

    Attributes:
        file: The image.
        seen: The image as the network sees it, `uint8 [height, width, channels]`.
        table: What `predict` returns for the file; empty for a run that learned by contrast.
        notes: Why the answer is less reliable than it looks.
    """

    file: Path
    seen: np.ndarray
    table: pd.DataFrame
    notes: list[str]


class ClassProbability(NamedTuple):
    """A class, its probability after the run's temperature, and its probability from the network: both are equal if the run has no temperature."""

    name: str
    calibrated: float
    raw: float


class Picture(NamedTuple):
    """A picture of the page, a PNG file, with its caption, and whether it is a figure with text in it, which needs space."""

    png: bytes
    caption: str
    is_figure: bool = False

    @property
    def is_small(self) -> bool:
        """Whether it is so small that single pixels should be visible."""
        return int.from_bytes(self.png[16:20]) <= 128  # the width in a PNG's header


class OpenedRun:
    """A run that a page uses: its model is built once, and its data is read once.

    Args:
        run: The run, whose `experiment.py` is executed.

    Raises:
        InputError: The run has nothing to show for an image; it is incomplete; or it learned by contrast and its data is missing.

    Attributes:
        temperature: The temperature that calibrates its probabilities; None if its validation left none.
        data: Its data, or None; `no_data` says why there is none.
    """

    def __init__(self, run: str | Path | Run):
        self.run = load_run(run)
        self.task = find_task(self.run.config)
        self.generates = self.run.config.task == "generation"
        if not self.generates and self.run.config.task != "contrast" and self.task.predict is None:
            raise InputError(
                "demo: the run {run} has task={task}, which gives no result for a single image, so there is nothing to show. For such a run: "
                "evaluate, report, log.",
                run=self.run.path,
                task=self.run.config.task,
            )
        self.model = load_model(self.run)
        self.class_names: list[str] = self.run.split["class_names"]
        self.size: tuple[int, int] = tuple(self.run.split["input_shape"][:2])
        self.data: Data | None = None
        self.no_data: InputError | None = None
        try:
            self.data = open_run_data(self.run)
        except InputError as error:
            if self.run.config.task == "contrast":  # contrast has nothing else to show
                raise
            self.no_data = error
        self.temperature = _read_temperature(self.run) if self.run.config.is_classifier else None

    @property
    def has_pad(self) -> bool:
        """Whether its images are small and grey, so that an image may be drawn."""
        channels = self.run.split["input_shape"][2]
        return not self.generates and channels == 1 and max(self.size) <= LARGEST_SKETCH

    @cached_property
    def is_light(self) -> bool:
        """Whether its images are light on dark, judged by the borders of training images; true for MNIST, and if nothing is known."""
        if self.data is None:
            return True
        pixels = self.data.sample("train", 500).pixels
        border = np.concatenate([pixels[:, [0, -1]].ravel(), pixels[:, :, [0, -1]].ravel()])
        return bool(np.median(border) < 128)

    def prepare(self) -> None:
        """Does the slow work before the first question: the first prediction, and the features of training images."""
        with _LOCK:
            if self.generates:
                self.generate(1, 0, None)
                return
            predict_outputs(self.model, np.zeros((1, *self.run.split["input_shape"]), np.uint8))
            if self.data is not None and self._features is not None:
                _ = self._known_rows

    def ask(self, file: str | Path) -> Answer:
        """Answers for an image file with what `predict` does.

        Raises:
            InputError: The file is not an image, damaged or too large.
        """
        file, notes = Path(file), []
        with _LOCK:
            _check_size(file)
            _, pixels = read_images(self.run, [file], {file}, notes.append, notes.append)
            is_contrast = self.run.config.task == "contrast"  # its predict compares several images
            table = pd.DataFrame() if is_contrast else predict_read(self.run, self.model, [file], pixels)
        return Answer(file, pixels[0], table, notes)

    def list_classes(self, answer: Answer) -> list[ClassProbability]:
        """Returns the classes of a classifier's answer, the most probable first; [] for another task."""
        columns = [f"p({name})" for name in self.class_names]
        if not self.run.config.is_classifier or not set(columns) <= set(answer.table):
            return []
        raw = answer.table[columns].to_numpy()
        calibrated = raw if self.temperature is None else apply_temperature(raw, self.temperature)
        order = np.argsort(-raw[0], kind="stable")
        return [ClassProbability(self.class_names[at], float(calibrated[0, at]), float(raw[0, at])) for at in order]

    def tell(self, answer: Answer) -> list[str]:
        """Returns the text of an answer that has no classes, one line each."""
        table = answer.table
        if "alarm" in table:
            options = {**anomaly.OPTIONS, **self.run.config.task_options}
            scores, is_normal = self.run.read_scores("val")
            threshold = choose_threshold(scores[is_normal], options["false_alarms"]).threshold
            row = table.iloc[0]
            verdict = Sentence("ALARM") if row["alarm"] else Sentence("no alarm")
            told = "{verdict}: score {score:.4g}, threshold {threshold:.4g}. {above:.1%} of the normal validation images have a lower score."
            return [Sentence(told, verdict=verdict, score=row["score"], threshold=threshold, above=row["above"])]
        if "left" in table:
            found = table[table["class"].notna()]
            threshold = detection.read_threshold(self.run.path) or detection.UNKNOWN
            told = "{n} found, with a score of {threshold:.3f} or more."
            return [Sentence(told, n=len(found), threshold=threshold)]
        if self.task.mask is not None:
            lines = []
            for name in self.class_names[1:]:
                share, regions = table[f"{name}: share"].iloc[0], table[f"{name}: regions"].iloc[0]
                told = "{name}: {share:.1%} of the image that the network sees, in {regions} {regions:region|regions}."
                lines.append(Sentence(told, name=name, share=float(share), regions=int(regions)))
            return lines
        if self.run.config.is_classifier or not len(table):
            return []
        return [f"{name}: {value}" for name, value in table.iloc[0].items() if name != "file"]

    def explain(self, answer: Answer) -> tuple[list[Picture], list[str]]:
        """Draws what explains an answer: where a classifier looks, a mask, boxes, an anomaly's map. Also returns what cannot be drawn, and why."""
        draw = self._draw_heat if self.run.config.is_classifier else self._draw_marks
        try:
            with _LOCK, tell_slips(self.run.path, models.MODELS.get(self.run.config.model)):
                return draw(answer), []
        except InputError as error:
            return [], [error]

    def _draw_heat(self, answer: Answer) -> list[Picture]:
        pixels = answer.seen[None]
        if find_attention(self.model):
            heat, told = (
                attention_maps(self.model, pixels)[0],
                Sentence("attention: the patches that the answer comes from"),
            )
        else:
            best = self.class_names.index(answer.table["class"].iloc[0])
            heat = grad_cam(self.model, pixels, best)[0]
            told = Sentence("Grad-CAM: evidence for '{name}'", name=self.class_names[best])
        if not heat.any():
            told = join_sentences([told, Sentence("(nothing found: all 0)")])
        grey = answer.seen.mean(axis=-1, keepdims=True)  # grey, so that all colour comes from the map
        shown = 0.4 * grey + 0.6 * 255 * colormaps["viridis"](heat)[..., :3]
        return [Picture(write_png(shown.round().astype(np.uint8)), told)]

    def _draw_marks(self, answer: Answer) -> list[Picture]:
        table = answer.table
        if "left" in table:
            own = read_image(answer.file)
            shown = _shrink(own)
            found = table[table["class"].notna()]
            corners = found[["left", "top", "right", "bottom"]].to_numpy(float) * (shown.shape[1] / own.shape[1])
            numbers = [self.class_names.index(name) for name in found["class"]]
            boxes = np.column_stack([corners.reshape(-1, 4), numbers, found["score"]]).astype(np.float32)
            return [Picture(_write_figure(draw_boxes(shown, boxes, self.class_names)), Sentence("what is found"), True)]
        if self.task.mask is not None:
            (mask,) = self.task.mask(self.model, answer.seen[None], self.run)
            shown = _shrink(read_image(answer.file))
            marked = unfit_mask(mask, shown.shape[:2], self.run.split["fit"])
            if len(self.class_names) == 2:
                return [Picture(write_png(lay_over(shown, marked, marked)), Sentence("what is marked"))]
            return [
                Picture(_write_figure(draw_classes(shown, marked, self.class_names)), Sentence("what is marked"), True)
            ]
        if self.task.draw_maps is not None:
            figures = self.task.draw_maps(self.model, answer.seen[None], self.run)
            return [Picture(_write_figure(figure), Sentence("the map that the task draws"), True) for figure in figures]
        return []

    @cached_property
    def _features(self) -> keras.Model | None:
        """The model whose outputs are the features for similarity: for a classifier the input of its last layer; None for other tasks."""
        if self.run.config.task == "contrast":
            return self.model
        if not self.run.config.is_classifier:
            return None
        try:
            last = next(layer for layer in reversed(self.model.layers) if layer.weights)
            return keras.Model(self.model.inputs, last.input)
        except (AttributeError, ValueError, StopIteration):  # a user's own model that is not a graph of layers
            return None

    @cached_property
    def _known(self) -> Any:
        """Training images among which the nearest are searched."""
        macs = max(1, models.count_macs(self.model, tuple(self.run.split["input_shape"]))) if self._features else 1
        return self.data.sample("train", int(np.clip(MOST_MACS / macs, FEWEST_KNOWN, MOST_KNOWN)))

    @cached_property
    def _known_rows(self) -> np.ndarray:
        return scale_rows(predict_outputs(self._features, self._known.pixels))

    def find_neighbours(self, answer: Answer) -> tuple[str | None, list[Picture]]:
        """Finds the training images that are most similar to an image, by the network's features.

        Returns:
            How they were found, or why there are none, or None if the task has none; and the images, the nearest first.
        """
        if self.data is None:
            is_asked = self.run.config.is_classifier
            return (Sentence("No training images are shown: {error}", error=self.no_data) if is_asked else None), []
        if self._features is None:
            is_asked = self.run.config.is_classifier
            told = "No nearest training images: the model is not a graph of layers whose last one could be removed."
            return (Sentence(told) if is_asked else None), []
        with _LOCK:
            row = scale_rows(predict_outputs(self._features, answer.seen[None]))
            found = contrast.find_alike(row, self._known_rows, self.run, NEIGHBOURS)
        known, pictures = self._known, []
        for place, cosine in zip(found["found"], found["cosine"], strict=True):
            told = "{name}, {cosine:.3f}"
            caption = Sentence(told, name=self.data.class_names[known.labels[place]], cosine=cosine)
            pictures.append(Picture(write_png(known.pixels[place]), caption))
        told = "Nearest of {images:,} training images, by the cosine of the features before the last layer."
        if self.run.config.task == "contrast":
            told = "Nearest of {images:,} training images, by the cosine of the encoder's features."
        return Sentence(told, images=len(known.labels)), pictures

    def generate(self, count: int, seed: int, label: str | None) -> list[Picture]:
        """Makes images from noise, as the command `generate` does."""
        with _LOCK:
            images = generation.generate(self.run, self.model, count, seed, label)
        return [Picture(write_png(image), "") for image in images]

    @property
    def takes_labels(self) -> bool:
        """Whether its generator can make images of a given class."""
        return self.generates and takes_labels(self.model)

    def list_examples(self) -> tuple[list[tuple[np.ndarray, str]], InputError | None]:
        """Returns validation images, for a classifier mistakes and right ones, each with its text; and why there are none."""
        if self.generates or self.data is None:
            return [], self.no_data
        try:
            shown = choose_shown(self.run, self.data)
        except InputError as error:
            return [], error
        if shown.labels is None:
            return [(image, name) for image, name in zip(shown.pixels, shown.names, strict=True)], None
        with _LOCK:
            predicted = predict_outputs(self.model, shown.pixels).argmax(axis=1)
        examples = []
        for image, label, other in zip(shown.pixels, shown.labels, predicted, strict=True):
            # Below a small image there is no space for words.
            mark = (
                f"✓ {self.class_names[label]}"
                if label == other
                else f"✗ {self.class_names[label]} → {self.class_names[other]}"
            )
            examples.append((image, mark))
        return examples, None


def open_run(run: str | Path | Run, tell: Callable[[str], object] = lambda line: None) -> OpenedRun:
    """Opens a run for a page, and does the slow work.

    Args:
        run: The run, or its folder.
        tell: Called with a line before the work starts.

    Raises:
        InputError: See `OpenedRun`.
    """
    run = load_run(run)
    tell(Sentence("Preparing {run}: its model and its data.", run=run.name))
    opened = OpenedRun(run)
    opened.prepare()
    return opened


def _read_temperature(run: Run) -> float | None:
    """The temperature chosen on validation, from `metrics_val.json`; None if it has none."""
    try:
        value = run.read_json("metrics_val.json")["calibration"]["temperature"]
    except (InputError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _check_size(file: Path) -> None:
    """Raises InputError if an image has more pixels than a page accepts, before they are decoded."""
    try:
        content = file.read_bytes()
    except OSError:
        return  # reported when the file is read
    with without_warnings():
        pixels = count_pixels(content)
    if pixels > MOST_PIXELS:
        raise InputError(
            "{name} has {pixels:.0f} million pixels, and this page accepts {limit:.0f} million at most. Make it smaller: a network uses a few "
            "hundred pixels a side.",
            name=file.name,
            pixels=pixels / 1e6,
            limit=MOST_PIXELS / 1e6,
        )


def _shrink(image: np.ndarray) -> np.ndarray:
    """An image, shrunk to the size at which a page shows it."""
    share = LONGEST_SIDE / max(image.shape[:2])
    if share >= 1:
        return image
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).resize(size, Image.Resampling.BOX)
    return np.asarray(picture).reshape(size[1], size[0], image.shape[-1])


def _write_figure(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()
