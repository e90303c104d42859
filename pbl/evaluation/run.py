"""Evaluates a trained run on its validation or test split, and uses it on new images."""

import contextlib
import copy
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from pbl import models
from pbl.config import Config
from pbl.data import Data, find_image_files, fit_image, hash_image, read_image, shorten
from pbl.data.boxes import unfit_boxes
from pbl.data.images import unfit_mask
from pbl.data.paths import looks_like_path
from pbl.diagnosis.advice import read_findings
from pbl.errors import InputError, Sentence, join_sentences
from pbl.evaluation.metrics import check_positive_class, keep_what_some_classes_tell
from pbl.evaluation.thresholds import F1, Aim
from pbl.languages import say_sentence
from pbl.models.contrastive import without_download
from pbl.models.prediction import predict_probabilities as predict_probabilities  # a public name
from pbl.models.saving import read_comment, read_seal, whole_weights
from pbl.models.slips import tell_slips
from pbl.runs import Run, load_run
from pbl.storage.reading import UnreadableFile
from pbl.storage.writing import PASSING, replacing
from pbl.tasks import Question, find_task, open_data
from pbl.training.performance import is_native, precision

# An image is in colour if the largest and the smallest of a pixel's three values differ on average by this many levels of 255: more
# than the rounding of a grey JPEG picture.
COLOURED = 8


def load_model(run: str | Path | Run, policy: str | None = None) -> keras.Model:
    """Builds a run's model from `config.json` and loads the weights of its best epoch.

    A user's own builder is found by executing the run's `experiment.py`: load only runs that you trust.

    Args:
        run: The run, or its folder.
        policy: The dtype policy in which it computes, such as "float32"; by default that of the training, if this machine has it.

    Raises:
        InputError: The folder is not a run, or its weights are missing, damaged or from another model.

    Example:
        >>> import pbl
        >>> model = pbl.load_model("runs/mine/001")
        >>> model.output_shape
        (None, 10)
    """
    run = load_run(run)
    run.execute_experiment()
    with tell_slips(run.path, models.MODELS.get(run.config.model)):
        return build_model(run, policy)


def build_model(run: Run, policy: str | None = None) -> keras.Model:
    """Does what `load_model` does, without executing the run's `experiment.py`.

    A builder's option `weights`, which names the initial weights, is set to None: the run's own weights are loaded later.

    Example:
        >>> import pbl
        >>> from pbl.evaluation import build_model
        >>> build_model(pbl.load_run("runs/mine/001")).output_shape
        (None, 10)
    """
    file = run.path / "best.weights.h5"
    if not (run.holds(file.name) or run.holds("best.keras")):
        raise InputError(
            "The run {run} contains no trained model: it ended during its first epoch. Train again: python -m pbl train.",
            run=run.path,
        )
    options = models.keep_options(run.config.model, run.config.model_options, run.environment.get("builder_options"))
    if "weights" in models.options_of(models.find_builder(run.config.model)):
        options["weights"] = None
    options = (
        without_download(options)
        if "encoder_options" in models.options_of(models.find_builder(run.config.model))
        else options
    )
    if policy is None:
        trained = run.environment.get("precision", "float32")
        policy = trained if is_native(trained) else "float32"
    with precision(policy):
        model = models.build(
            run.config.model, tuple(run.split["input_shape"]), len(run.split["class_names"]), **options
        )
    try:
        with (
            warnings.catch_warnings()
        ):  # a model that its builder compiles: its optimizer is neither restored nor needed
            warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
            with whole_weights(run.path, "best", model, run.environment.get("best_epoch")) as weights:
                model.load_weights(weights)
    except InputError:
        raise
    except (OSError, KeyError) as error:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise InputError("{file} cannot be read now: {reason}.", file=file, reason=error.strerror) from None
        raise InputError(
            "{file} is damaged: {error}. Restore it from a copy, or train again with --fresh.", file=file, error=error
        ) from None
    except ValueError as error:
        raise InputError(
            "{file} does not fit the model that the run describes ({model}, {n} classes): {error} Were config.json, split.json or the builder changed?",
            file=file,
            model=run.config.model,
            n=len(run.split["class_names"]),
            error=" ".join(str(error).split())[:300],
        ) from None
    return model


def choose_data_settings(run: Run) -> Config:
    """Returns the settings with which a run's data is opened again: with its image size, without what only training needs."""
    *size, channels = run.split["input_shape"]
    return run.config.replace(
        image_size=tuple(size), channels=channels, augmentation={}, sample_weights=None, class_weight=None
    )


def open_run_data(run: Run, data_dir: str | None = None) -> Data:
    """Loads the data of a run; raises InputError unless it is the data that it was trained on.

    Args:
        run: The run.
        data_dir: Folder of prepared TensorFlow Datasets, if it is not that of the training.
    """
    config = choose_data_settings(run)
    data = open_data(config.replace(data_dir=data_dir) if data_dir else config)
    if data.class_names != run.split["class_names"] or not run.has_same_images(data.split):
        raise InputError(
            "The images of '{source}' are not those of the run {run}. Restore the data that it was trained with.",
            source=data.name,
            run=run.path,
        )
    return data


def evaluate(
    run: str | Path | Run,
    split: Literal["val", "test"] = "val",
    *,
    source: str | None = None,
    data_dir: str | None = None,
    positive_class: str | None = None,
    aim: Aim = F1,
) -> dict[str, Any]:
    """Evaluates the best model of a run.

    Writes `metrics_<split>.json`, `predictions_<split>.npz` and the figures into the run; for another source
    it writes nothing. Each use of a test split is recorded in the run's `test_uses.csv` before anything is computed.

    Args:
        run: The run, or its folder. Its `experiment.py` is executed.
        split: "val" or "test".
        source: Another data set with the same classes or some of them, instead of the run's own: all its images, if it
            has no official split of this name. Or the run's own data in another place, under the same name.
        data_dir: Folder of prepared TensorFlow Datasets, if it is not that of the training.
        positive_class: With two classes, the one whose precision, recall and F1 are reported.
        aim: With two classes, what the decision threshold is chosen for; `pbl.evaluation.thresholds.parse_aim` makes one of words
            such as "recall>=0.95". Threshold and temperature are chosen on the run's
            validation images, whatever is evaluated.

    Returns:
        What `pbl.evaluation.metrics.compute_metrics` and `add_what_validation_chose` compute, and `run`, `source`, `split`, `best_epoch`, `status`, `test_uses`,
        `copies_in_train` (images whose exact pixels were trained on). For data with only some of the classes
        `missing_classes` names the others, and what needs images of all classes is None.

    Raises:
        InputError: The run is incomplete; its data is not that of the training; the classes differ.

    Example:
        >>> import pbl
        >>> metrics = pbl.evaluate("runs/mine/001")
        >>> metrics["images"], metrics["split"]
        (189, 'val')
        >>> low, high = metrics["accuracy_interval"]
        >>> low < metrics["accuracy"] < high
        True
    """
    if split not in ("val", "test"):
        raise InputError("split='{split}'. Valid: val, test.", split=split)
    run = load_run(run)
    model = load_model(run)
    with tell_slips(run.path, models.MODELS.get(run.config.model)):
        return _evaluate(run, model, split, source, data_dir, positive_class, aim)


def _evaluate(
    run: Run,
    model: keras.Model,
    split: Literal["val", "test"],
    source: str | None,
    data_dir: str | None,
    positive_class: str | None,
    aim: Aim,
) -> dict[str, Any]:
    config = choose_data_settings(run)
    if data_dir:
        config = config.replace(data_dir=data_dir)
    is_own = source in (None, run.config.dataset)
    if not is_own and Path(source).name == Path(run.config.dataset).name:  # perhaps its own data in another place
        data = None
        with contextlib.suppress(InputError):  # then it is judged as other data, or reported below
            data = open_data(config, source)
        if data and run.has_same_images(data.split):
            return evaluate_on(run, model, data, split, positive_class=positive_class, aim=aim)
    if not is_own:  # how the run's own data was split says nothing about other data
        config = config.replace(groups=None, folds=None, fold=0, leave_out=None, validation_fraction=None)
    try:
        data = open_data(config, source)
    except InputError as error:
        if is_own and looks_like_path(run.config.dataset) and not Path(run.config.dataset).expanduser().is_absolute():
            raise InputError(
                "{error} The run stores the path of its data relative to the folder in which it was trained: go there, or give --data.",
                error=error,
            ) from None
        raise
    return evaluate_on(run, model, data, split, positive_class=positive_class, is_own=is_own, aim=aim)


def evaluate_on(
    run: Run,
    model: keras.Model,
    data: Data,
    split: Literal["val", "test"],
    *,
    positive_class: str | None = None,
    is_own: bool = True,
    aim: Aim = F1,
    all_figures: bool = True,
) -> dict[str, Any]:
    """Does what `evaluate` does, with a model and data that are already loaded; draws only the confusion matrix
    unless `all_figures`.

    Example:
        >>> import pbl
        >>> from pbl.evaluation import evaluate_on
        >>> from pbl.tasks import open_data
        >>> run = pbl.load_run("runs/mine/001")
        >>> metrics = evaluate_on(run, pbl.load_model(run), open_data(run.config), "val", all_figures=False)
        >>> metrics["images"]
        189
    """
    task = find_task(run.config)
    trained_on, found = run.split["class_names"], data.class_names
    # Other data may hold some of the classes, or have them in another order.
    is_part = not is_own and run.config.is_classifier and set(found) <= set(trained_on)
    if found != trained_on and not is_part and (is_own or task.has_classes):
        raise InputError(
            "The run {run} was trained on the classes {trained}, but '{name}' has {found}.",
            run=run.path,
            trained=", ".join(trained_on),
            name=data.name,
            found=", ".join(found),
        )
    positive_class = positive_class or run.config.positive_class
    check_positive_class(positive_class, trained_on)
    # Other data without such a split of its own: all images are judged.
    is_whole = not is_own and data.split["made_by"][split]["kind"] != "official"
    images = data.everything if is_whole else data.images(split)
    if found != trained_on and is_part:
        numbers = np.array([trained_on.index(name) for name in found], images.labels.dtype)
        images, data = replace(images, labels=numbers[images.labels]), copy.copy(data)
        data.class_names, data.num_classes = trained_on, len(trained_on)
    if is_own and split in run.split["hashes"]:
        _check_images(run, data.name, split, images.hashes, images.names)
    if split == "test":
        run.record_test_use()
        if (
            is_own and "test" not in run.split["hashes"]
        ):  # official, so never read until now: from here on its images are known
            run.split["hashes"]["test"] = shorten(images.hashes)
            run.write_json("split.json", run.split)
    trained = set(run.split["hashes"]["train"])
    is_validation = is_own and split == "val"
    question = Question(
        run=run.name,
        split="all" if is_whole else split,
        positive_class=positive_class,
        aim=aim,
        is_validation=is_validation,
        validation=None if is_validation else _read_validation(run),
        all_figures=all_figures,
        best=task.best,
        options=task.options,
        # A classifier is judged without them, so that a damaged data_check.json does not prevent it.
        findings=() if run.config.is_classifier else read_findings(run),
        groups=data.groups_of(images.names),
        folder=run.path if is_own else None,
    )
    judged = task.judge(model, data, images, question)
    if is_part and set(found) != set(trained_on):
        keep_what_some_classes_tell(judged.metrics)
    environment = run.environment
    result = {
        "run": run.name,
        "source": data.name,
        "split": question.split,
        "best_epoch": environment.get("best_epoch") or _best_epoch_so_far(run),
        "test_uses": run.count_test_uses(),
        "copies_in_train": sum(content[:16] in trained for content in images.hashes),
        **judged.metrics,
    }
    if is_own:
        run.write_json(f"metrics_{split}.json", result)
        with replacing(run.path / f"predictions_{split}.npz") as temporary:
            of_all = {"names": np.array(images.names), "hashes": np.array(images.hashes)}
            np.savez_compressed(temporary, **{**of_all, **judged.arrays}, class_names=np.array(data.class_names))
        for name, figure in judged.figures:
            with replacing(run.path / "figures" / f"{name}_{split}.png") as temporary:
                figure.savefig(temporary, dpi=120)
    return {
        **result,
        "status": environment.get("status", "unknown"),
    }  # not stored: it belongs to the run and may change


def _read_validation(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """What `train` stored about the run's validation images: labels and probabilities, or scores and which are normal; None if damaged."""
    with contextlib.suppress(InputError):
        if run.config.is_classifier:
            saved = run.read_predictions("val")
            return saved.labels, saved.probabilities
        return run.read_scores("val") if run.config.task == "anomaly" else None
    return None


def _best_epoch_so_far(run: Run) -> int | None:
    """For a run that was killed: the epoch of the saved model, otherwise that of the lowest validation loss."""
    kept = None
    with contextlib.suppress(FileNotFoundError, UnreadableFile):
        kept = read_seal(run.path / "best.weights.h5", run.path) or read_comment(run.path / "best.keras")
    if kept is not None:
        return kept["epoch"]
    try:
        rows = [row for row in run.read_table("history.csv", "epoch", "val_loss") if row["val_loss"]]
        return int(min(rows, key=lambda row: float(row["val_loss"]))["epoch"])
    except (FileNotFoundError, ValueError):
        return None


def _check_images(run: Run, source: str, split: str, hashes: list[str], names: list[str]) -> None:
    trained, found = run.split["hashes"][split], shorten(hashes)
    if trained == found:
        return
    known = set(trained)
    new = [name for name, content in zip(names, hashes, strict=True) if content[:16] not in known]
    gone = len(known - set(found))
    raise InputError(
        "The {split} images of '{source}' are not those of the run {run}: {new} are new{first}, {gone} are gone. Give the data"
        " that it was trained with (--data-dir), or name another source with --data.",
        split=split,
        source=source,
        run=run.path,
        new=len(new),
        gone=gone,
        first=Sentence(" (first: {name})", name=new[0]) if new else "",
    )


def predict(
    run: str | Path | Run,
    paths: str | Path | Sequence[str | Path],
    *,
    tell: Callable[[str], None] = lambda line: print(say_sentence(line)),
    note: Callable[[str], None] = lambda line: print(say_sentence(line)),
    maps: str | Path | None = None,
) -> pd.DataFrame:
    """Predicts image files: the class of each; for another task what its `predict` returns, such as a score.

    The images go through the same decoding and resizing as in training, so that a test image that was saved to a file
    gets exactly the probabilities that `evaluate` computed for it.

    Args:
        run: The run, or its folder. Its `experiment.py` is executed.
        paths: One or more image files, and folders that are searched for images.
        tell: Called with a line if files in a folder are not images: they are left out.
        note: Called with a line if the answers are less reliable than they look: for images that the run was trained on, and for images in
            colour if it was trained on grey ones only.
        maps: For a task that draws maps (anomaly detection: where the error is; segmentation: what is marked): a folder for a picture of
            each image; made if absent. For segmentation also each mask, a PNG of the image's own size with one grey value for each class, and
            `classes.txt`.

    Returns:
        One row for each image: `file`, `class`, `probability`, and one column of probabilities for each class; for anomaly detection
        `file`, `score`, `above` and `alarm` (`pbl.tasks.anomaly.predict`); for contrastive learning `file`, `other`, `cosine`, `above` and
        `same` (`pbl.tasks.contrast.predict`). For detection one row for each box: `file`, `class`, `score`, and `left`, `top`, `right`, `bottom` in
        pixels of the image file (`pbl.tasks.detection.predict`).

    Raises:
        InputError: A path does not exist, a folder has no image, a file that was named is not an image (the message names all
            such files).

    Example:
        >>> import pbl
        >>> table = pbl.predict("runs/mine/001", "photos/zero")
        >>> len(table), list(table.columns[:3])
        (8, ['file', 'class', 'probability'])
    """
    run = load_run(run)
    task = find_task(run.config)
    if run.config.task == "generation":
        raise InputError(
            "The run {run} generates images; it cannot predict yours: python -m pbl generate {run}.", run=run.path
        )
    if task.predict is None:
        run.check_is_classifier("predict")
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files = find_image_files(paths)
    if not files:
        raise InputError("No image was named. Give image files or folders of them.")
    if maps is not None and task.draw_maps is None:
        raise InputError("--maps: task={task} draws no maps.", task=run.config.task)
    files, pixels = read_images(run, files, {Path(path) for path in paths}, tell, note)
    model = load_model(run)
    table = predict_read(run, model, files, pixels)
    with tell_slips(run.path, models.MODELS.get(run.config.model)):
        if maps is not None:
            _write_maps(task.draw_maps(model, pixels, run), files, Path(maps))
        if maps is not None and task.mask is not None:
            _write_masks(task.mask(model, pixels, run), files, Path(maps), run)
    return table


def predict_read(run: Run, model: keras.Model, files: Sequence[Path], pixels: np.ndarray) -> pd.DataFrame:
    """Does what `predict` does, with a model that is loaded and images that have been read (`read_images`)."""
    with tell_slips(run.path, models.MODELS.get(run.config.model)):
        table = find_task(run.config).predict(model, pixels, run)
    if "left" in table:  # coordinates in the network's input
        table = _unfit_places(table, files, run)
    places = table.pop("image") if "image" in table else range(len(files))  # the image of each box, or each image once
    table.insert(0, "file", [str(files[place]) for place in places])
    if "other" in table:  # images are compared with each other: which one
        table["other"] = [str(files[number]) for number in table["other"]]
    return table


def _write_maps(figures: Iterable[Figure], files: Sequence[Path], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "--maps {folder}: {reason}. Give another folder.", folder=folder, reason=error.strerror
        ) from None
    for figure, name in zip(figures, _name_pictures(files), strict=True):
        with replacing(folder / f"{name}_map.png") as temporary:
            figure.savefig(temporary, dpi=120)


def _write_masks(masks: Iterable[np.ndarray], files: Sequence[Path], folder: Path, run: Run) -> None:
    """Writes each mask in the size of its own image, with one grey value for each class, and what the values mean."""
    for mask, file, name in zip(masks, files, _name_pictures(files), strict=True):
        own = unfit_mask(mask, read_image(file).shape[:2], run.split["fit"])
        with replacing(folder / f"{name}_mask.png") as temporary:
            Image.fromarray(own).save(temporary, format="PNG")
    with replacing(folder / "classes.txt") as temporary:
        named = (f"{number} {name}\n" for number, name in enumerate(run.split["class_names"]))
        temporary.write_text("".join(named), encoding="utf-8")


def _unfit_places(table: pd.DataFrame, files: Sequence[Path], run: Run) -> pd.DataFrame:
    """Converts boxes to the pixels of their own images."""
    corners, fit, seen = ["left", "top", "right", "bottom"], run.split["fit"], tuple(run.split["input_shape"][:2])
    for image, rows in table.groupby("image"):
        size = read_image(files[image]).shape[:2]
        table.loc[rows.index, corners] = unfit_boxes(rows[corners].to_numpy(), size, fit, seen)
    return table


def _name_pictures(files: Sequence[Path]) -> list[str]:
    stems = Counter(file.stem for file in files)
    taken, names = set(stems), []
    for number, file in enumerate(files):
        name = file.stem
        while stems[file.stem] > 1 and name in taken:  # a.jpg and b/a.jpg, while there may be an a_1.jpg too
            name, number = f"{file.stem}_{number}", number + 1
        taken.add(name)
        names.append(name)
    return names


def read_images(
    run: Run,
    files: Sequence[Path],
    named: Collection[Path],
    tell: Callable[[str], None],
    note: Callable[[str], None] = lambda line: None,
) -> tuple[list[Path], np.ndarray]:
    """Reads image files in the form that a run's model takes.

    Args:
        run: The run.
        files: The files.
        named: Those that a person named one by one: each must be an image. Files found in a folder need not be.
        tell: Called with a line that says which files are left out, if there are any.
        note: As for `predict`.

    Returns:
        The files that were read, and their pixels, `uint8 [n, height, width, channels]`.

    Raises:
        InputError: A file of `named`, or every file, is not an image; the message names all such files.

    Example:
        >>> from pathlib import Path
        >>> import pbl
        >>> from pbl.evaluation import read_images
        >>> file = Path("photos/zero/0.png")
        >>> files, pixels = read_images(pbl.load_run("runs/mine/001"), [file], {file}, print)
        >>> pixels.shape
        (1, 8, 8, 1)
    """
    *size, channels = run.split["input_shape"]
    read, pixels, unread = [], [], {}
    trained, known, coloured = set(run.split["hashes"].get("train", ())), 0, 0
    for file in files:
        try:
            image = read_image(file)
            pixels.append(fit_image(image, tuple(size), channels, run.split["fit"]))
            read.append(file)
            known += hash_image(image)[:16] in trained
            coloured += channels == 1 < image.shape[-1] and bool(np.ptp(image, axis=-1).mean() > COLOURED)
        except InputError as error:
            unread[file] = error
    problems = join_sentences(list(unread.values())[:5])
    if len(unread) > 5:
        problems = join_sentences([problems, Sentence(" And {n} more.", n=len(unread) - 5)], "")
    if not read or any(file in named for file in unread):
        raise InputError("{problems}", problems=problems)
    if unread:
        told = "{n} of {all} files could not be read and are left out: {problems}"
        tell(Sentence(told, n=len(unread), all=len(files), problems=problems))
    if known:
        told = "{n} of {all} images were used to train the run: its answers for them show nothing about new images."
        note(Sentence(told, n=known, all=len(read)))
    if coloured:
        told = "{n} of {all} images are in colour, but the run was trained on grey ones: its answers for them may mean nothing."
        note(Sentence(told, n=coloured, all=len(read)))
    return read, np.stack(pixels)
