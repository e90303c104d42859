"""Submissions that show the scale of grades before a threshold is published: the results of guessing, lookup, memorising and
learning on the hidden images."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np

from pbl import models
from pbl.data import Data, fit_image, load_data, read_image
from pbl.data.boxes import unfit_boxes
from pbl.data.images import unfit_mask
from pbl.data.store import DifferentSizes
from pbl.errors import InputError, Sentence
from pbl.evaluation import detection
from pbl.evaluation.anomalies import MOST_FITTED, Baselines, choose_threshold
from pbl.evaluation.segmentation import Baseline, make_baselines
from pbl.grading.grader import grade
from pbl.grading.hidden import REFERENCES, Hidden, open_hidden
from pbl.grading.packing import write_boxes, write_masks, write_predictions, write_scores, write_submission
from pbl.grading.sandbox import FULL, find_layers
from pbl.models.prediction import predict_probabilities
from pbl.storage.writing import is_full, temporary_folder, write_json

MOST_MASKS = 500  # public masks from which the baselines are made
SIDE = 64  # pixels to which photographs of different sizes are brought
NEIGHBOUR_SIDE, MOST_NEIGHBOURS = 32, 20_000
BY_HEART = 10  # images of each class that the memoriser learns
# Small networks; the one with the best validation loss is the tuned one.
TUNED = (({"filters": 32}, 1e-3), ({"filters": 64}, 1e-3), ({"filters": 64}, 3e-3))
IMAGES_SEEN = 300_000  # images that each of them sees in training, all epochs together


def make_references(path: Path, public: Path, tell: Callable[[str], None] = print) -> dict[str, float]:
    """Makes and grades the reference submissions of a hidden set.

    | majority          | the commonest class of the public images for every image                            |
    | nearest_neighbour | the class of the most similar public image (1-NN on pixels, at most 32 a side)       |
    | memoriser         | a multilayer perceptron that memorises ten public images of each class               |
    | tuned             | the best of three small convolutional networks on a validation split of the public images |

    For anomaly detection two that need no network; their thresholds are chosen on normal validation images of the public part:

    | mean_image        | the distance to the mean of the normal public images                                 |
    | nearest_neighbours | the mean distance to the five nearest of them                                       |

    For segmentation, also without a network (`pbl.evaluation.segmentation.make_baselines`), made with images of one size:

    | background        | nothing is marked                                                                    |
    | mean_mask         | where each class is most frequent in the public masks, for every image               |
    | brightness        | with two classes: what is brighter, or darker, than a threshold                      |

    For detection too (`pbl.evaluation.detection.make_baselines`); the threshold of each is chosen on validation images:

    | nothing           | no box                                                                               |
    | mean_box          | for each class the mean public box at its commonest place, for every image           |
    | mean_boxes        | the 100 commonest ones                                                               |

    Args:
        path: The hidden set; they are written into its `references`.
        public: Its public part.
        tell: Called with a line for each.

    Returns:
        The accuracy of each, or its area under the ROC curve, its mean Dice, its mAP50; empty if this machine cannot lock down a process, and so grades nothing.

    Raises:
        InputError: The public part cannot be read, or the grader does not work here.
    """
    try:
        return _make_references(path, public, tell)
    except (OSError, InputError) as error:
        reason = error if isinstance(error, OSError) else error.__cause__
        if not is_full(reason):
            raise
        shutil.rmtree(path / REFERENCES, ignore_errors=True)
        raise InputError(
            "The reference submissions could not be written: {reason}. The hidden set {path} is complete without them.",
            reason=reason.strerror,
            path=path,
        ) from error


def _make_references(path: Path, public: Path, tell: Callable[[str], None]) -> dict[str, float]:
    hidden = open_hidden(path)
    settings = {"batch_size": 64, "normal": hidden.normal or None}
    if hidden.task == "segmentation":  # uses complete images, whatever their shape
        settings |= {"masks": True, "fit": "stretch"}
    if hidden.task == "detection":
        settings |= {"boxes": True, "fit": "stretch"}
    try:
        data = load_data(str(public), **settings)
    except DifferentSizes:
        data = load_data(str(public), image_size=SIDE, channels=3, **settings)
    folder = path / REFERENCES
    pixels = _hidden_pixels(hidden, data)
    makers = {"majority": _majority, "nearest_neighbour": _nearest_neighbour, "memoriser": _memoriser, "tuned": _tuned}
    if hidden.task == "anomaly":
        makers = {name: partial(_distance, name) for name in ("mean_image", "nearest_neighbours")}
    if hidden.task == "segmentation":
        train = data.sample("train", MOST_MASKS)
        baselines = make_baselines(train.pixels, train.masks, pixels, data.num_classes)
        makers = {baseline.name: partial(_write_baseline, baseline) for baseline in baselines}
    if hidden.task == "detection":
        makers = {name: partial(_write_boxes, name) for name in ("nothing", "mean_box", "mean_boxes")}
    for name, make in makers.items():
        tell(Sentence("Reference submission: {name}", name=name))
        make(folder / name, hidden, data, pixels)
    missing = find_layers()
    if any(missing[layer] for layer in FULL):
        tell(Sentence("The reference submissions are not graded here: this machine cannot isolate a process."))
        return {}
    with temporary_folder() as out:
        rows = grade(folder, path, out=out)
    scores = {row["team"]: row[hidden.headline] for row in rows if row[hidden.headline] is not None}
    write_json(folder / "scores.json", scores)
    return scores


def _hidden_pixels(hidden: Hidden, data: Data) -> np.ndarray:
    height, width, channels = data.input_shape
    fit = data.split["fit"]
    return np.stack([fit_image(read_image(file), (height, width), channels, fit) for file in hidden.files])


def _public(data: Data) -> tuple[np.ndarray, np.ndarray]:
    parts = [data.images(split) for split in ("train", "val", "test")]
    return np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts])


def _majority(folder: Path, hidden: Hidden, data: Data, pixels: np.ndarray) -> None:
    shares = np.bincount(_public(data)[1], minlength=data.num_classes).astype(np.float32)
    probabilities = np.tile(shares / shares.sum(), (len(pixels), 1))
    write_predictions(folder, "majority", data.class_names, hidden.ids, probabilities)


def _nearest_neighbour(folder: Path, hidden: Hidden, data: Data, pixels: np.ndarray) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    images, labels = _public(data)
    chosen = np.random.default_rng(0).permutation(len(images))[:MOST_NEIGHBOURS]
    height, width, channels = data.input_shape
    size = (min(height, NEIGHBOUR_SIDE), min(width, NEIGHBOUR_SIDE))

    def vectors(some: np.ndarray) -> np.ndarray:
        return np.stack([fit_image(image, size, channels, "stretch").reshape(-1) for image in some]).astype(np.float32)

    nearest = KNeighborsClassifier(1).fit(vectors(images[chosen]), labels[chosen]).predict(vectors(pixels))
    probabilities = np.eye(data.num_classes, dtype=np.float32)[nearest]
    write_predictions(folder, "nearest_neighbour", data.class_names, hidden.ids, probabilities)


def _distance(name: str, folder: Path, hidden: Hidden, data: Data, pixels: np.ndarray) -> None:
    baselines = Baselines(data.sample("train", MOST_FITTED).pixels)
    known = data.images("val").pixels[data.is_normal("val")]
    threshold = choose_threshold(baselines.score(known)[name], hidden.false_alarms).threshold
    scores = baselines.score(pixels)[name]
    write_scores(folder, name, hidden.class_names, hidden.ids, scores, scores > threshold)


def _write_baseline(baseline: Baseline, folder: Path, hidden: Hidden, data: Data, pixels: np.ndarray) -> None:
    masks = [unfit_mask(mask, size, "stretch") for mask, size in zip(baseline.masks, hidden.sizes, strict=True)]
    folder.mkdir(parents=True)
    write_masks(folder / "masks.zip", baseline.name, hidden.class_names, hidden.ids, masks)


def _write_boxes(name: str, folder: Path, hidden: Hidden, data: Data, pixels: np.ndarray) -> None:
    train, val = data.images("train").boxes, data.images("val").boxes
    shape, classes = data.input_shape[:2], data.num_classes
    (rows,) = detection.make_baselines(train, shape, 1, classes)[name]
    matches = detection.match(val, np.broadcast_to(rows, (len(val), *rows.shape)), classes)
    boxes = [unfit_boxes(rows, size, "stretch", shape) for size in hidden.sizes]
    threshold = detection.choose_threshold(matches) or 0.5
    write_boxes(folder, name, hidden.class_names, hidden.ids, boxes, threshold)


def _memoriser(folder: Path, hidden: Hidden, data: Data, pixels: np.ndarray) -> None:
    keras.utils.set_random_seed(0)
    train = data.images("train")
    chosen = np.concatenate([np.flatnonzero(train.labels == number)[:BY_HEART] for number in range(data.num_classes)])
    images, labels = train.pixels[chosen], train.labels[chosen]
    model = models.build("mlp", data.input_shape, data.num_classes)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=32, epochs=100, verbose=0, callbacks=[_StopWhenKnown()])
    _write(folder, "memoriser", data, model, "mlp", {})


class _StopWhenKnown(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = logs["accuracy"] == 1 and logs["loss"] < 0.01


def _tuned(folder: Path, hidden: Hidden, data: Data, pixels: np.ndarray) -> None:
    count = len(data.images("train").labels)
    epochs = int(np.clip(IMAGES_SEEN // count, 3, 60))
    best = None
    for options, learning_rate in TUNED:
        keras.utils.set_random_seed(0)
        model = models.build("small_cnn", data.input_shape, data.num_classes, **options)
        model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy")
        stop = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
        history = model.fit(data.train, validation_data=data.val, epochs=epochs, verbose=0, callbacks=[stop])
        loss = min(history.history["val_loss"])
        if best is None or loss < best[0]:
            best = loss, model, options
    _, model, options = best
    _write(folder, "tuned", data, model, "small_cnn", options)


def _write(folder: Path, name: str, data: Data, model: keras.Model, builder: str, options: dict) -> None:
    images = data.images("val").pixels[:16]
    fixtures = (images, predict_probabilities(model, images))
    write_submission(
        folder, name, data.class_names, model=model, builder=builder, model_options=options, fixtures=fixtures
    )
