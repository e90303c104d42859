"""One page about a run: `report.html`, which contains everything that it shows, in English or Japanese.

It shows what `train`, `evaluate` and `inspect` left in the run's folder. Only the sentences of the diagnosis are computed
again, from the run's signals. No file of the run is executed, and none is trusted: a run may come from a stranger. All text is
escaped; a file is shown only if it is a regular file inside the run and not too large for a page.
"""

import contextlib
import os
import shlex
import stat
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from pbl import __version__
from pbl.config import Config, as_word, flatten
from pbl.data.split import find_number, say_made_by
from pbl.diagnosis.by_task import diagnose_run
from pbl.diagnosis.rules import COLOURS
from pbl.errors import InputError, Sentence
from pbl.evaluation.mistakes import MOST_PAIRS, find_pairs, write_png
from pbl.languages import choose_language, say, say_finding, say_sentence, translate
from pbl.languages.forms import format_share
from pbl.languages.wrapping import is_japanese
from pbl.reports.pages import MOST_LETTERS_OF_NAME, clean, embed_png, load_template, shorten
from pbl.runs import Run, find_run, name_device
from pbl.storage.reading import UnreadableFile, read_bytes, read_json, read_table
from pbl.storage.writing import list_folder, replacing

MOST_BYTES = 16 * 2**20  # size of a file with numbers; a confusion matrix of 1,000 classes has 7 MiB
MOST_OF_SPLIT = 48 * 2**20  # the split of a million images has 24 MiB
MOST_UNPACKED = 256 * 2**20  # unpacked size of signals.npz
MOST_PICTURE = 8 * 2**20
MOST_OF_PICTURES = 32 * 2**20  # all pictures together
MOST_PICTURES = 100
MOST_PIXELS = 50_000_000  # pixels of a picture; a browser needs 4 bytes for each
MOST_OF_HALF = 540  # width in pixels of a picture whose letters can still be read, 7 points, on half of a printed page
MOST_ROWS = 200  # rows of a table
MOST_CLASSES, MOST_OF_PAIRS = 40, 20  # with more classes the tables show only this many, the most informative ones
MOST_NAMED = 100  # pairs of classes whose mistakes are named; images are kept of fewer pairs

SPLITS = ("val", "test")
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}

# The path in metrics_<split>.json, and the name that is shown.
METRICS = (
    ("accuracy", "Accuracy"),
    ("balanced_accuracy", "Balanced accuracy (mean recall of the classes)"),
    ("positive.precision", "Precision of the positive class"),
    ("positive.recall", "Recall of the positive class"),
    ("positive.f1", "F1 of the positive class"),
    ("macro.precision", "Precision, mean over classes (macro)"),
    ("macro.recall", "Recall, mean over classes (macro)"),
    ("macro.f1", "F1, mean over classes (macro)"),
    ("weighted.precision", "Precision, mean weighted by the number of images per class"),
    ("weighted.recall", "Recall, mean weighted by the number of images per class"),
    ("weighted.f1", "F1, mean weighted by the number of images per class"),
    ("micro.f1", "Precision, recall and F1 over all images (micro; the three are equal)"),
    ("top_k_accuracy", "Top-{k} accuracy"),
    ("roc_auc", "Area under the ROC curve"),
    ("average_precision", "Average precision"),
    ("log_loss", "Log loss in nats (lower is better)"),
    ("brier", "Brier score (lower is better)"),
)
# Names of the metrics of tasks other than classification; others are shown by their keys.
OF_TASKS = {
    "roc_auc": "Area under the ROC curve",
    "average_precision": "Average precision",
    "found": "Anomalies above the threshold",
    "false_alarms": "False alarms: normal images above the threshold",
    "threshold": "Threshold of the score",
    "pixel_roc_auc": "Area under the ROC curve of the pixels",
    "pro": "Mean share of each defect's region that is found (PRO)",
    "kid": "Kernel distance to real images (KID x 1000; lower is better)",
    "precision": "Share of generated images that are within the real ones (precision)",
    "recall": "Share of real images that are within the generated ones (recall)",
    "copies": "Share of generated images that are copies of training images",
    "dice": "Dice, mean over classes of the mean over images that have the class",
    "iou": "Intersection over union, the same mean",
    "pooled_dice": "Dice of all pixels together (large regions count most)",
    "pixel_accuracy": "Share of pixels that are right, including the background",
    "distance": "95% Hausdorff distance of the borders in pixels, median (lower is better)",
    "map50": "Average precision at an IoU of .5, mean over classes (mAP50)",
    "map75": "Average precision at an IoU of .75, mean over classes",
    "map": "Average precision, mean over IoUs of .5 to .95 and over classes (mAP)",
    "right_count": "Share of images in which the number of objects of each class is right",
    "box_precision": "Share of the boxes shown that are right (at an IoU of .5)",
    "box_recall": "Share of the objects that are found (at an IoU of .5)",
    "image_f1": "F1 of the boxes of an image, mean over images",
    "probe": "Accuracy of a logistic regression on the features",
    "nearest": "Accuracy of the nearest neighbour by the features",
    "few_labels": "Accuracy of a logistic regression on the features with few labels",
    "eer": "Equal error rate of pairs (lower is better)",
    "true_at_1": "Pairs of one class that are accepted when 1% of different pairs are",
    "true_at_01": "Pairs of one class that are accepted when 0.1% of different pairs are",
    "right_class": "Share of generated images that are of the class that was asked for",
}
CALIBRATION = (
    ("calibration.ece", "Expected calibration error (ECE; lower is better)"),
    ("calibration.ece_if_calibrated", "ECE that so few images show for a perfectly calibrated network"),
    ("calibration.ece_if_calibrated_high", "The same, highest in 95% of cases"),
    ("calibration.temperature", "Temperature that calibrates the network (1: none could be fitted)"),
    ("calibration.ece_after", "ECE with this temperature"),
    ("calibration.log_loss_after", "Log loss with this temperature, in nats"),
)
BY_CLASS = (
    ("precision", "Precision"),
    ("recall", "Recall"),
    ("f1", "F1"),
    ("roc_auc", "ROC AUC"),
    ("average_precision", "Average precision"),
)
# Why a number is missing, by the last word of its name.
UNDEFINED = {
    "precision": "Precision is undefined if no image was predicted as the class.",
    "recall": "Recall is undefined if the split has no image of the class.",
    "f1": "F1 is undefined if the class is neither among the labels nor among the predictions.",
    "roc_auc": "The area under the ROC curve is undefined if the split has no image of the class, or none of another class.",
    "average_precision": "Average precision is undefined if the split has no image of the class.",
}
UNDEFINED_OTHERWISE = "A number that is undefined or not finite has no value that could be shown."
NOT_THERE = "“—” marks what this evaluation did not measure; evaluate again to get it."

# The pictures in the order in which they are shown; for {split}, validation comes before test.
CAPTIONS = {
    "learning_curves": "Learning curves: loss and accuracy after each epoch, on training and on validation images.",
    "confusion_matrix_{split}": "Confusion matrix of the {split} split: rows are true classes, columns predicted ones.",
    "reliability_{split}": "Reliability on the {split} split: how often the network is right, by its confidence.",
    "precision_recall_{split}": "Precision by recall on the {split} split, over all decision thresholds.",
    "roc_{split}": "ROC curve on the {split} split: true positives by false positives, over all decision thresholds.",
    "threshold_{split}": "Precision, recall and F1 on the {split} split, by decision threshold.",
    "mistakes_{split}": "Images of the {split} split that are classified wrongly.",
    "least_sure_{split}": "Images of the {split} split with the least confident predictions.",
    "scores_{split}": "Scores on the {split} split: the errors of normal images and of anomalies, and the threshold.",
    "reconstructions_{split}": "The most and the least anomalous images of the {split} split, their reconstructions, and the squared error.",
    "kinds_{split}": "Area under the ROC curve by kind of anomaly on the {split} split, and of methods without a network.",
    "suspects_{split}": "Training images that are called normal but look most like the known anomalies, to a simple model.",
    "masks_{split}": "Masks of the {split} split: the worst, median and best images, and those in which something is found that is not there.",
    "sizes_{split}": "Dice of each image of the {split} split by how much of it is marked.",
    "thresholds_{split}": "What each threshold of the probability would do on the {split} split.",
    "boxes_{split}": "Boxes of the {split} split: found, missed and false, of the worst, median and best images.",
    "samples_{split}": "Generated images, the first of a seed: none was selected.",
    "course_{split}": "What the same noise gives after each epoch.",
    "nearest_{split}": "Generated images and their nearest training images; the number is the distance in grey levels, and small shifts are ignored.",
    "classes_{split}": "Share of each class among generated and real images of the {split} split, as seen by the judge.",
    "probes_{split}": "Accuracy on the {split} split by the number of labels: the encoder's features, pixels, and the same untrained network.",
    "pairs_{split}": "How similar pairs of one class and of two are on the {split} split, and the threshold of the equal error rate.",
    "neighbours_{split}": "Images of the {split} split and the training images that are nearest to them by the features.",
    "embeddings_{split}": "A map of the features on the {split} split, coloured by class.",
    "embeddings": "A map of the features, by principal components and by t-SNE, coloured by class.",
    "filters": "Filters of the first convolution, as they were learned.",
    "feature_maps": "Feature maps: what the layers make of an image.",
    "grad_cam": "Grad-CAM: which parts of an image are evidence for a class; next to it, for comparison, the same network untrained.",
    "attention": "Attention: which parts of an image the network looks at.",
    "codes": "The place of validation images in the code: normal images, and each kind of anomaly.",
    "walk": "From one noise to another: images should change gradually, not in jumps.",
    "nearest_images": "Images and the training images that are nearest to them by the features.",
    "neighbours": "Generated images and their nearest training images.",
    "loss_line": "Loss and accuracy on the straight line from the initial weights to the trained ones.",
}
OTHER_CURVES = "Learning curves: what was logged after each epoch, on training and on validation images."
# By task, how the intervals of its metrics are computed.
INTERVALS = {
    "classification": "The interval of the accuracy is Wilson's.",
    "anomaly": "The interval of the area under the ROC curve is Newcombe's; with groups it comes from leaving these out in turn (jackknife). That of the average precision comes from leaving out images, or groups, in turn. Those of the anomalies above the threshold and of the false alarms are Wilson's.",
    "contrast": "The intervals of a regression and of the nearest neighbour by the features are Wilson's, over the images; that with few labels is over the draws of the labels and the images together, crossed. Those of pairs come from samples of the classes, or identities, with replacement (bootstrap).",
    "segmentation": "The interval is Student's, over images, or over groups if there are any.",
    "detection": "The interval of mAP50 comes from leaving out images, or groups, in turn (jackknife), and from samples of them; the interval of the count is Wilson's.",
    "generation": "The interval is 1.96 standard errors each way.",
}
OF_EVALUATION = ("reliability_{split}", "mistakes_{split}", "least_sure_{split}")
OF_INSPECTION = (
    "filters",
    "feature_maps",
    "grad_cam",
    "attention",
    "codes",
    "walk",
    "neighbours",
    "embeddings",
    "nearest_images",
    "loss_line",
)

SECONDS = {
    "data": "load and split the data",
    "check": "check the data",
    "build": "build the model",
    "fit": "train the model",
    "figures": "draw the learning curves",
    "evaluate": "evaluate on validation",
    "diagnosis": "diagnose",
    "monitor (in fit)": "in the training: measure fixed images after each epoch",
}
SEVERITIES = {"stop": "Must be corrected", "act": "Look at it", "note": "Note"}


class Report(NamedTuple):
    """The result of `write_report`.

    Attributes:
        file: The page.
        bytes: Its size.
        language: Such as "en" or "ja".
        pictures: Names of the pictures in it, in order.
        left_out: The name of each file of the run that could not be shown, and why.
    """

    file: Path
    bytes: int
    language: str
    pictures: list[str]
    left_out: dict[str, str]


def write_report(run: str | Path | Run, file: str | Path | None = None, language: str | None = None) -> Report:
    """Writes a run's page.

    Args:
        run: The run, or its folder. It may be unfinished; what is missing is named, with the command that creates it.
        file: The page, a name that ends in .html; by default `report.html` in the run's folder.
        language: Such as "en" or "ja"; by default as `pbl.languages.choose_language` returns.

    Raises:
        InputError: The folder is not a run, its `config.json` or `environment.json` is damaged, or the page cannot be written.
    """
    language = choose_language(language)
    folder = _Folder(run.path if isinstance(run, Run) else Path(run).expanduser())
    for name in ("config.json", "environment.json"):  # before anything else opens them
        if folder.read_json(name) is None and name in folder.left_out:
            raise InputError(
                "The run {run} is damaged: {name} is left out, because {reason}. Restore the run from a copy, or train again.",
                run=folder.path,
                name=name,
                reason=folder.left_out[name],
            )
    run = run if isinstance(run, Run) else find_run(run)
    _ = run.config
    if not run.holds("environment.json"):
        _ = run.environment  # raises InputError if damaged
    if file is None:
        file = run.path / "report.html"
        if file.is_symlink():
            raise InputError(
                "{file} is a link: nothing is written to its target. Delete it, or give --out FILE.html.", file=file
            )
    file = Path(file).expanduser()
    if file.suffix.lower() not in (".html", ".htm") or not file.parent.is_dir():
        raise InputError(
            "--out {file}: give a file in a folder that exists, whose name ends in .html. For a PDF print that page in a browser.",
            file=file,
        )
    page = _collect(run, folder, language)
    content = load_template("run_report.html").render(page).encode()
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    pictures = [clean(picture.name, MOST_LETTERS_OF_NAME) for picture in page["pictures"]]
    left_out = {clean(name, MOST_LETTERS_OF_NAME): reason for name, reason in folder.left_out.items()}
    return Report(file, len(content), language, pictures, left_out)


class _Voice:
    """Writes the page's sentences in its language."""

    def __init__(self, language: str):
        self.language = language

    def __call__(self, template: str, /, **fields: Any) -> str:
        """Fills in a sentence of ours, never one that comes from a run."""
        return say(template, self.language, **fields)

    def word(self, text: str) -> str:
        """A word that a run may contain; if it is not known, it is returned unchanged."""
        return translate(text, self.language, "report")


# The files of a run


class _Folder:
    """The files of a run, read with care; `left_out` says which are not shown, and why."""

    def __init__(self, path: Path):
        self.path, self.root = path, path.resolve()
        self.left_out: dict[str, str] = {}

    def find(self, name: str, most: int = MOST_BYTES) -> Path | None:
        """The file of this name, or None if there is none that can be shown."""
        file = self.path / name
        if not os.path.lexists(file):
            return None
        reason = None
        try:
            about = file.stat()
            if not file.resolve().is_relative_to(self.root):
                reason = Sentence("it is a link that leads outside the run")
            elif not stat.S_ISREG(about.st_mode):
                reason = Sentence("it is not a regular file")
            elif about.st_size > most:
                reason = Sentence("it is too large")
        except (OSError, RuntimeError):  # such as a link to itself, or a forbidden folder
            reason = Sentence("it cannot be read")
        if reason:
            self.left_out[name] = reason
        return None if reason else file

    def read(self, name: str, most: int = MOST_BYTES) -> bytes | None:
        """The content of a file, at most `most` bytes."""
        return self._take(name, lambda: read_bytes(self.path / name, self.path, most))

    def _take(self, name: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except FileNotFoundError:
            return None
        except UnreadableFile as error:
            self.left_out[name] = error.reason if error.is_damaged else Sentence("it cannot be read")
            return None

    def read_json(self, name: str, most: int = MOST_BYTES) -> dict[str, Any] | None:
        """The content of a JSON file: a dictionary."""
        return self._take(name, lambda: read_json(self.path / name, self.path, most=most))

    def read_csv(self, name: str) -> list[dict[str, str]] | None:
        """The rows of a table."""
        return self._take(name, lambda: read_table(self.path / name, self.path, most=MOST_BYTES))

    def names_of_pictures(self) -> list[str]:
        """The names of everything called figures/*.png."""
        folder = self.path / "figures"
        try:
            if folder.resolve().is_relative_to(self.root) and folder.is_dir():
                files = list_folder(folder)
                return [
                    f"figures/{file.name}" for file in files if file.suffix == ".png" and not file.name.startswith(".")
                ]
            if os.path.lexists(folder):
                self.left_out["figures"] = Sentence("it is a link that leads outside the run")
        except (OSError, RuntimeError):
            self.left_out["figures"] = Sentence("it cannot be read")
        return []


@dataclass(frozen=True)
class _Picture:
    name: str  # the file's name without .png
    caption: str
    width: int  # pixels
    height: int
    source: Markup = field(repr=False)  # a data URI

    @property
    def is_of_test(self) -> bool:
        return self.name.endswith("_test")

    @property
    def is_wide(self) -> bool:
        """Whether half a page would be too narrow for it."""
        return self.width > MOST_OF_HALF


def _read_pictures(folder: _Folder, say: _Voice, is_classifier: bool) -> list[_Picture]:
    order: dict[str, tuple[str, str]] = {}
    captions = CAPTIONS if is_classifier else {**CAPTIONS, "learning_curves": OTHER_CURVES}
    for kind, caption in captions.items():
        for split in SPLITS if "{split}" in kind else ("",):
            order[kind.format(split=split)] = caption, split
    names = {Path(name).stem: name for name in folder.names_of_pictures()}
    known = [stem for stem in order if stem in names]
    pictures, total = [], 0
    for stem in [*known, *(stem for stem in names if stem not in order)]:
        if len(pictures) == MOST_PICTURES or total > MOST_OF_PICTURES:
            folder.left_out[names[stem]] = Sentence("the page contains as many pictures as it can")
            continue
        content = folder.read(names[stem], MOST_PICTURE)
        if content is None:
            continue
        size = _size_of_png(content)
        if size is None or not 0 < size[0] * size[1] <= MOST_PIXELS:
            folder.left_out[names[stem]] = (
                Sentence("it is not a complete PNG picture") if size is None else Sentence("it is too large")
            )
            continue
        total += len(content)
        caption, split = order.get(stem, (None, ""))
        words = say(caption, split=say.word(SPLIT_NAMES.get(split, ""))) if caption else f"{stem}.png"
        uri = embed_png(content)
        pictures.append(_Picture(stem, words, *size, uri))
    return pictures


def _size_of_png(content: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None for a file that is not a PNG or was cut off."""
    begins = content.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    if not (begins and content.endswith(b"\x00\x00\x00\x00IEND\xaeB`\x82")):
        return None
    return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


# Numbers and words


def _number(value: Any) -> float | int | None:
    """A finite number of a plausible size, or None."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < 1e300:  # NaN is not below it
        return None
    return value if abs(value) < 1e15 else float(value)


def _decimal(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def _share(value: Any) -> float | None:
    value = _number(value)
    return value if value is not None and 0 <= value <= 1 else None


def _of_table(text: Any) -> float | None:
    try:
        return _number(float(text))
    except (TypeError, ValueError):
        return None


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _interval(value: Any) -> tuple[float, float] | None:
    if not (isinstance(value, list) and len(value) == 2):
        return None
    low, high = map(_number, value)
    return None if low is None or high is None else (low, high)


def _duration(seconds: float, say: _Voice) -> str:
    if seconds < 120:
        return say("{seconds:.2f} s", seconds=seconds)
    if seconds < 7200:
        return say("{minutes:.1f} min", minutes=seconds / 60)
    return say("{hours:.1f} h", hours=seconds / 3600)


# The parts of the page


def _list_exported(folder: _Folder) -> list[str]:
    """The model card that `export` left, and the models next to it."""
    place = folder.path / "export"
    if folder.find("export/model_card.md") is None:
        return []
    names = [file.name for file in list_folder(place) if file.suffix == ".json"]
    return [f"export/{name}" for name in ("model_card.md", *(name.removesuffix(".json") for name in names[:MOST_ROWS]))]


def _collect(run: Run, folder: _Folder, language: str) -> dict[str, Any]:
    """Everything that the template shows."""
    say = _Voice(language)
    environment, config = folder.read_json("environment.json") or {}, run.config
    split = folder.read_json("split.json", MOST_OF_SPLIT) or {}
    results = {name: folder.read_json(f"metrics_{name}.json") for name in SPLITS}
    results = {name: result for name, result in results.items() if result is not None}
    history = folder.read_csv("history.csv")
    uses = folder.read_csv("test_uses.csv")
    if not uses and ("test" in results or "test_uses.csv" in folder.left_out):
        test_uses = say(
            "The number of times that this run used the test split is not known: test_uses.csv is missing or damaged."
        )
    else:
        test_uses = _say_uses(len(uses or []), say)
    mistakes = {
        name: _describe_mistakes(run, folder, name, result, say)
        for name, result in results.items()
        if "metrics" not in result  # a classifier
    }
    pictures = _read_pictures(folder, say, config.is_classifier)
    by_name = {picture.name: picture for picture in pictures}
    in_place = {"learning_curves", *(f"confusion_matrix_{name}" for name in results)}
    has_model = folder.find("best.weights.h5", most=2**63) is not None
    status = _describe_status(run, environment, history, say)
    return {
        "say": say,
        "language": language,
        "version": __version__,
        "name": f"{folder.root.parent.name}/{folder.root.name}",
        "config": config,
        "command": lambda word, *words: shlex.join(["python", "-m", "pbl", word, str(run.path), *words]),
        "has_model": has_model,
        "exported": _list_exported(folder),
        "can_be_tested": has_model and not (status and status["goes_on"]),
        "status": status,
        "scores": [
            _describe_score(name, result, say)
            for name, result in results.items()
            if result.get("headline", "") is not None
        ],
        "test_uses": test_uses,
        "environment": environment,
        "weights": _number(environment.get("trainable_weights")),
        "epochs": _say_epochs(config, environment, history, say),
        "images": _say_images(split, config.task == "segmentation", say),
        "diagnosis": _diagnose(run, folder, language, say),
        "history": _choose_epochs(history, environment),
        "metrics": _compare([*METRICS, *_own_metrics(results)], results, say),
        "calibration": _compare(CALIBRATION, results, say),
        "thresholds": [found for name, result in results.items() if (found := _thresholds(name, result, say))],
        "by_class": {
            name: _by_class(result, mistakes[name]["links"], say)
            for name, result in results.items()
            if "metrics" not in result
        },
        "mistakes": mistakes,
        "is_classifier": config.is_classifier,
        "results": results,
        "interval": INTERVALS.get(config.task),
        "has_resampled": config.is_classifier
        and any(_dictionary(result.get("intervals")) for result in results.values()),
        "split_names": SPLIT_NAMES,
        "positive": {
            name: result["positive"]["class"]
            for name, result in results.items()
            if "class" in _dictionary(result.get("positive"))
        },
        "pictures": pictures,
        "picture": by_name,
        "gallery": [picture for picture in pictures if picture.name not in in_place],
        "has_of_evaluation": any(kind.format(split="val") in by_name for kind in OF_EVALUATION),
        "has_of_inspection": any(kind in by_name for kind in OF_INSPECTION),
        "data": _describe_data(split, config.task == "segmentation", say) if split else None,
        "severities": SEVERITIES,
        "findings": _describe_findings(folder.read_json("data_check.json"), say),
        **_describe_settings(config),
        "experiment": _read_experiment(folder),
        "cost": _describe_cost(environment, folder.read_json("cost.json"), say),
        "machine": _describe_environment(environment, say),
        "typed": environment["command"] if isinstance(environment.get("command"), str) else "",
        "left_out": {name: say_sentence(reason, language) for name, reason in folder.left_out.items()},
    }


def _own_metrics(results: dict[str, dict]) -> list[tuple[str, str]]:
    """The paths of the metrics of tasks other than classification, and the names that are shown."""
    names = dict.fromkeys(name for result in results.values() for name in _dictionary(result.get("metrics")))
    return [
        (f"metrics.{name}", OF_TASKS.get(name) or shorten(name, 80).replace("{", "{{").replace("}", "}}"))
        for name in names
        if isinstance(name, str) and "." not in name
    ]


def _say_uses(count: int, say: _Voice) -> str:
    if count == 0:
        return say("This run has not used the test split.")
    if count == 1:
        return say("This run has used the test split once.")
    return say(
        "This run has used the test split {count} times: the best of several results is too good to be true.",
        count=count,
    )


def _epochs_done(environment: dict, history: list[dict] | None) -> int:
    done = _number(environment.get("epochs"))
    if done is None and history:
        done = _of_table(history[-1].get("epoch"))
    return int(done or 0)


def _describe_status(run: Run, environment: dict, history: list[dict] | None, say: _Voice) -> dict[str, Any] | None:
    """Says in plain words what is wrong with a run; None for a training that ended well."""
    status, config = environment.get("status"), run.config
    counts = {"done": _epochs_done(environment, history), "all": config.epochs + config.fine_tune_epochs}
    if environment.get("diverged") is True and status == "finished":
        text = say(
            "The training diverged ({where}) and was stopped; the page shows the best model before that, of epoch {best}.",
            where=environment.get("diverged_at", "?"),
            best=environment.get("best_epoch", "?"),
        )
        return {"text": text, "goes_on": False}
    if status == "finished":
        return None
    if status == "failed":
        reason = str(environment.get("reason", "?")).removeprefix("InputError: ")
        text = say("The training failed after {done} of {all} epochs. {reason}", reason=reason, **counts)
        return {"text": text, "goes_on": False}
    is_live = False
    with contextlib.suppress(OSError, OverflowError):  # a stranger may have written lock.json
        is_live = run.is_live
    if is_live:
        text = say("The training is running: {done} of {all} epochs are done, and nothing here is final.", **counts)
    elif status == "paused":
        text = say("The training is paused: {done} of {all} epochs are done, and nothing here is final.", **counts)
    elif status == "interrupted":
        text = say("The training was stopped: {done} of {all} epochs are done, and nothing here is final.", **counts)
    elif status == "pruned":
        text = say(
            "A search pruned the training after {done} of {all} epochs: others were better at that point, and nothing here is final.",
            **counts,
        )
    elif status == "running":
        text = say("The training was cut off: {done} of {all} epochs are done, and nothing here is final.", **counts)
    else:
        text = say(
            "The training has not ended: its status is “{status}”, and {done} of {all} epochs are done.",
            status=status,
            **counts,
        )
    return {"text": text, "goes_on": not is_live}


def _describe_score(split: str, result: dict, say: _Voice) -> dict[str, Any]:
    """The accuracy on a split, or another measure of the task, for the headline."""
    accuracy, interval = _share(result.get("accuracy")), _interval(result.get("accuracy_interval"))
    images, copies = _number(result.get("images")), _number(result.get("copies_in_train"))
    title, shown, ends = say("Accuracy on the {split} split", split=say.word(SPLIT_NAMES[split])), None, None
    if "metrics" in result:  # a task other than classification
        headline = result.get("headline") if isinstance(result.get("headline"), str) else ""
        value = _number(_dictionary(result["metrics"]).get(headline))
        ends = _interval(_dictionary(result.get("intervals")).get(headline))
        name = say(OF_TASKS[headline]) if headline in OF_TASKS else clean(headline or "–", MOST_LETTERS_OF_NAME)
        title = say("{metric} on the {split} split", metric=name, split=say.word(SPLIT_NAMES[split]))
        shown = "–" if value is None else _decimal(value)
    warning = say(
        "{copies:,} of these images are in the training images too: the result is likely better than on new images.",
        copies=copies or 0,
    )
    details = []
    if interval:
        details.append(say("95% interval {low:.1%} to {high:.1%}", low=interval[0], high=interval[1]))
    elif ends:
        low, high = map(_decimal, ends)
        details.append(say("95% interval {interval}", interval=say("{low} to {high}", low=low, high=high)))
    if images is not None:
        details.append(say("{images:,} images", images=images))
    return {
        "split": split,
        "title": title,
        "accuracy": shown or (say("undefined") if accuracy is None else format_share(accuracy)),
        "reason": say(UNDEFINED_OTHERWISE) if accuracy is None and shown is None else "",
        "share": accuracy,
        "interval": interval and [min(max(bound, 0), 1) for bound in interval],
        "details": say(", ").join(details),
        "copies": warning if copies else "",
    }


def _say_epochs(config: Config, environment: dict, history: list[dict] | None, say: _Voice) -> str:
    counts = {"done": _epochs_done(environment, history), "all": config.epochs + config.fine_tune_epochs}
    best = _number(environment.get("best_epoch"))
    if best is None:
        return say("{done} of {all}", **counts)
    if not config.is_classifier:
        return say("{done} of {all}; the model of epoch {best} is kept", best=best, **counts)
    return say(
        "{done} of {all}; the model of epoch {best} is kept, with the lowest validation loss", best=best, **counts
    )


def _say_images(split: dict, has_background: bool, say: _Voice) -> str:
    counts = {name: _number(_dictionary(split.get("images")).get(name)) for name in SPLIT_NAMES}
    names = split.get("class_names")
    parts = (
        [say("{classes} {classes:class|classes}", classes=max(0, len(names) - has_background))]
        if isinstance(names, list)
        else []
    )
    parts += [
        say("{images:,} {split} images", images=images, split=say.word(SPLIT_NAMES[name]))
        for name, images in counts.items()
        if images is not None
    ]
    return say(", ").join(parts)


def _diagnose(run: Run, folder: _Folder, language: str, say: _Voice) -> dict[str, Any]:
    """The sentences of the diagnosis, or why there are none."""
    for name in ("signals.npz", "split.json", "metrics_val.json", "data_check.json"):
        if folder.find(name, MOST_OF_SPLIT) is None and name in folder.left_out:
            return {"reason": say("{name} is left out: {reason}.", name=name, reason=say(folder.left_out[name]))}
    try:
        _check_unpacked(folder)
        diagnosis = diagnose_run(run)
        paragraphs = diagnosis.paragraphs(language)
    except InputError as error:
        if isinstance(error, UnreadableFile) and not error.is_damaged:
            # The disk fails: another training would not help.
            reason = folder.left_out[error.file.name] = Sentence("it cannot be read")
            told = say("{name} is left out: {reason}.", name=error.file.name, reason=say(reason))
            return {"reason": told, "is_there": True}
        return {"reason": " ".join(say(error.template, **error.fields).split())}
    except Exception as error:
        # Signals that somebody has changed may raise any error: the rest of the page is still worth showing.
        what = f"{type(error).__name__}: {error}"
        return {"reason": say("The run's files do not match ({error}).", error=what)}
    return {"colour": COLOURS[diagnosis.severity], "severity": diagnosis.severity, "paragraphs": paragraphs}


def _check_unpacked(folder: _Folder) -> None:
    """Raises InputError if the signals would fill the memory."""
    file = folder.find("signals.npz")
    if file is not None:
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(file) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > MOST_UNPACKED:
                raise InputError(
                    "{name} is left out: {reason}.", name="signals.npz", reason=Sentence("it is too large")
                )


def _choose_epochs(history: list[dict] | None, environment: dict) -> dict[str, Any] | None:
    """The first, the best and the last epoch."""
    if not history:
        return None
    best = _number(environment.get("best_epoch"))
    marks = {0: ["first"]}
    for number, row in enumerate(history):
        if best is not None and _of_table(row.get("epoch")) == best:
            marks.setdefault(number, []).append("best")
            break
    marks.setdefault(len(history) - 1, []).append("last")
    # Loss and accuracy on training images after the epoch, if they were measured.
    is_measured = "probe_loss" in history[0]
    columns = ("probe_loss", "probe_accuracy") if is_measured else ("loss", "accuracy")
    rows = []
    for number in sorted(marks):
        row = history[number]
        values = [_of_table(row.get(name)) for name in (*columns, "val_loss", "val_accuracy", "learning_rate")]
        shown = ["—" if value is None else _decimal(value) for value in values[:4]]
        shown.append("—" if values[4] is None else f"{values[4]:.3g}")
        rows.append({"epoch": row.get("epoch") or "—", "marks": marks[number], "values": shown})
    is_whole = all("—" not in row["values"] for row in rows)
    return {"rows": rows, "is_measured": is_measured, "is_whole": is_whole}


def _find(result: dict, path: str) -> Any:
    """A number by its dotted name; KeyError if the file has no such name."""
    for word in path.split("."):
        if not isinstance(result, dict):
            raise KeyError(path)
        result = result[word]
    return result


def _compare(names: Iterable[tuple[str, str]], results: dict[str, dict], say: _Voice) -> dict[str, Any]:
    """A table of numbers, one row each, with the value in every split."""
    rows, notes = [], []  # a row: the name, and for each split the number and its interval
    for path, label in names:
        paths = {path: say(label)} if "{k}" not in label else {}
        if "{k}" in label:
            ks = {k for result in results.values() for k in _dictionary(result.get(path)) if k.isdecimal()}
            paths = {f"{path}.{k}": say(label, k=k) for k in sorted(ks, key=lambda k: (len(k), k))[:5]}
        for name, words in paths.items():
            cells = []
            for result in results.values():
                try:
                    value = _number(_find(result, name))
                except KeyError:
                    cells.append(("—", ""))
                    continue
                known = result.get("accuracy_interval") if name == "accuracy" else None
                interval = _interval(known or _dictionary(result.get("intervals")).get(name.removeprefix("metrics.")))
                if value is None:
                    cells.append((say("undefined"), ""))
                    notes.append(say(UNDEFINED.get(name.rpartition(".")[2], UNDEFINED_OTHERWISE)))
                elif interval is None:
                    cells.append((_decimal(value), ""))
                else:
                    low, high = map(_decimal, interval)
                    cells.append((_decimal(value), say("{low} to {high}", low=low, high=high)))
            if any(cell != ("—", "") for cell in cells):
                notes += [say(NOT_THERE)] if ("—", "") in cells else []
                rows.append((words, cells))
    has_intervals = any(interval for _, cells in rows for _, interval in cells)
    columns = [
        [say.word(SPLIT_NAMES[name]).capitalize(), *([say("95% interval")] if has_intervals else [])]
        for name in results
    ]
    return {
        "head": [say("Metric"), *(title for column in columns for title in column)],
        "rows": [(words, [text for cell in cells for text in cell[: 1 + has_intervals]]) for words, cells in rows],
        "notes": list(dict.fromkeys(notes)),
        "has_intervals": has_intervals,
    }


def _thresholds(split: str, result: dict, say: _Voice) -> dict[str, Any] | None:
    """The results of a decision threshold other than one half, with two classes."""
    found = _dictionary(result.get("threshold"))
    value = _number(found.get("value"))
    sides = [_dictionary(found.get(name)) for name in ("at_half", "at_threshold")]
    both = {name: [_number(side.get(name)) for side in sides] for name in (*sides[0], *sides[1])}
    both = {name: values for name, values in both.items() if values != [None, None]}
    if value is None or not both:
        return None
    rows = []
    for name, values in list(both.items())[:MOST_ROWS]:
        shown = ["—" if v is None else f"{v:,}" if isinstance(v, int) else _decimal(v) for v in values]
        label = say.word(name.replace("_", " "))
        rows.append((label[:1].upper() + label[1:], shown))
    aim = found.get("aim")
    is_named = isinstance(aim, str)
    if is_named:
        aim = say("F1") if aim == "f1" else say.word(aim)
    return {
        "title": say("Decision threshold, on the {split} split", split=say.word(SPLIT_NAMES[split])),
        "caption": say("Chosen for: {aim}", aim=aim) if is_named else say("Another threshold than one half"),
        "head": [say("Metric"), say("at 0.5"), say("at {value}", value=f"{value:.4g}")],
        "rows": rows,
    }


def _by_class(result: dict, links: dict[tuple[str, str], str], say: _Voice) -> dict[str, Any]:
    """A table with one row for each class."""
    classes = _dictionary(result.get("by_class"))
    known = result.get("class_names")
    names = [name for name in known if isinstance(name, str) and name in classes] if isinstance(known, list) else []
    names = list(dict.fromkeys([*names, *classes]))
    rows = {name: _dictionary(classes[name]) for name in names[:MOST_CLASSES]}
    is_worst = len(names) > MOST_CLASSES
    if is_worst:
        rows = {name: _dictionary(classes[name]) for name in _rank_worst(classes, names)}
    columns = [(key, label) for key, label in BY_CLASS if any(key in row for row in rows.values())]
    notes, shown = [], []
    # The numbers that the pictures show instead of names if they were drawn without a Japanese font.
    numbers = {name: f"{number} " for number, name in enumerate(names, 1)} if any(map(is_japanese, names)) else {}
    for name, row in rows.items():
        values = [(key, _number(row.get(key))) for key, _ in columns]
        notes += [say(UNDEFINED.get(key, UNDEFINED_OTHERWISE)) for key, value in values if value is None]
        images = _number(row.get("images"))
        cells = [say("undefined") if value is None else _decimal(value) for _, value in values]
        shown.append((numbers.get(name, "") + name, [*cells, "—" if images is None else f"{images:,}"]))
    return {
        "head": [say("Class"), *(say(label) for _, label in columns), say("Images")],
        "rows": shown,
        "notes": list(dict.fromkeys(notes)),
        "caption": say("The {n} of {all:,} classes with the lowest F1", n=len(rows), all=len(names))
        if is_worst
        else say("Class by class"),
        "pairs": _list_pairs(result, links, say) if len(names) > MOST_OF_PAIRS else [],
    }


def _describe_mistakes(run: Run, folder: _Folder, split: str, result: dict, say: _Voice) -> dict[str, Any]:
    """The confusion matrix if there are not too many classes, and the pairs that are confused, each with the images that show it.

    Images and names come from the predictions; if these do not fit, there is only the matrix.
    """
    known = result.get("class_names")
    names = known if isinstance(known, list) and all(isinstance(name, str) for name in known) else []
    pairs, shown, images = [], {}, {}
    if folder.find(f"predictions_{split}.npz", MOST_OF_SPLIT) is not None:
        with contextlib.suppress(InputError, UnreadableFile):
            saved = run.read_predictions(split)
            fits = saved.probabilities.shape[1] == len(set(names)) == len(names)
            # Earlier versions stored no names: then there is nothing to link to.
            if fits and saved.names is not None and np.isfinite(saved.probabilities).all():
                most = MOST_NAMED if len(names) <= MOST_OF_PAIRS else MOST_OF_PAIRS
                pairs = find_pairs(saved.labels, saved.probabilities, most)
                confidence = saved.probabilities.max(axis=1)
                shown = {place: (saved.names[place], confidence[place]) for pair in pairs for place in pair.places}
                images = run.read_small_images(split)
    links = {
        (names[pair.true], names[pair.predicted]): f"mistakes-{split}-{pair.true}-{pair.predicted}" for pair in pairs
    }
    listed = []
    for number, pair in enumerate(pairs):
        entries = []
        for place in pair.places:
            name, sure = shown[place]
            small = images.get(place) if number < MOST_PAIRS else None
            picture = None if small is None else {"source": embed_png(write_png(small)), "size": small.shape[1::-1]}
            entries.append({"name": _shorten_name(str(name), say), "confidence": f"{sure:.2f}", "picture": picture})
        classes = {"true": names[pair.true], "predicted": names[pair.predicted]}
        about = {"id": links[names[pair.true], names[pair.predicted]], "count": pair.count, "images": entries}
        listed.append({**classes, **about, "more": pair.count - len(entries)})
    return {
        "matrix": _show_matrix(result, names, links, say) if 1 < len(names) <= MOST_OF_PAIRS else None,
        "is_upright": len(names) > 5 and max(map(len, names)) > 3,
        "with_images": [entry for entry in listed if any(one["picture"] for one in entry["images"])],
        "with_names": [entry for entry in listed if not any(one["picture"] for one in entry["images"])],
        "links": links,
        "is_without_images": bool(pairs) and not images,
    }


def _show_matrix(
    result: dict, names: list[str], links: dict[tuple[str, str], str], say: _Voice
) -> list[tuple[str, list[dict[str, Any]]]] | None:
    """The confusion matrix, one row for each class; a cell that leads to images has a `link` and a sentence that says so."""
    matrix = result.get("confusion_matrix")
    if not isinstance(matrix, list) or len(matrix) != len(names):
        return None
    rows = []
    for true, counts in enumerate(matrix):
        if not isinstance(counts, list) or len(counts) != len(names):
            return None
        cells = []
        for other, value in enumerate(counts):
            count = _number(value)
            text = "—" if count is None else f"{count:,}"
            cells.append(
                {"text": text, "is_right": true == other, **_lead(links, names[true], names[other], count, say)}
            )
        rows.append((names[true], cells))
    return rows


def _lead(
    links: dict[tuple[str, str], str], true: str, predicted: str, count: float | None, say: _Voice
) -> dict[str, str]:
    """The link from a number of mistakes, and a sentence that says so; empty if there is nothing to show."""
    link = links.get((true, predicted)) if count else None
    if link is None:
        return {"link": "", "told": ""}
    told = say(
        "{count:,} {count:image|images} of {true}, predicted as {predicted}: show them",
        count=count,
        true=shorten(true, MOST_LETTERS_OF_NAME),
        predicted=shorten(predicted, MOST_LETTERS_OF_NAME),
    )
    return {"link": link, "told": told}


def _shorten_name(name: str, say: _Voice, most: int = 28) -> str:
    """An image's number if it has one, otherwise the end of its name: a path ends with the file's name."""
    number = find_number(name)
    if number is not None:
        return say("image {number}", number=number)
    return name if len(name) <= most else "…" + name[1 - most :]


def _rank_worst(classes: dict, names: list[str]) -> list[str]:
    """The classes with the lowest F1."""
    known = [(_number(_dictionary(classes[name]).get("f1")), name) for name in names]
    return [name for f1, name in sorted(pair for pair in known if pair[0] is not None)[:MOST_OF_PAIRS]]


def _list_pairs(result: dict, links: dict[tuple[str, str], str], say: _Voice) -> list[dict[str, Any]]:
    """The classes that are confused most often, one row for each pair."""
    pairs, rows = result.get("most_confused"), []
    for pair in map(_dictionary, pairs[:MOST_OF_PAIRS] if isinstance(pairs, list) else []):
        true, predicted = pair.get("true"), pair.get("predicted")
        images, share = _number(pair.get("images")), _number(pair.get("share"))
        if isinstance(true, str) and isinstance(predicted, str) and images is not None and share is not None:
            row = {"true": true, "predicted": predicted, "images": f"{images:,}", "share": format_share(share, ".0%")}
            rows.append(row | _lead(links, true, predicted, images, say))
    return rows


def _describe_data(split: dict, has_background: bool, say: _Voice) -> dict[str, Any]:
    """Describes the data of training and evaluation; of masks the first class is the background, which an image has if nothing else is marked."""
    counts, by_class = _dictionary(split.get("images")), _dictionary(split.get("images_by_class"))
    splits = [name for name in SPLIT_NAMES if name in counts or name in by_class]
    known = split.get("class_names")
    names = [name for name in known if isinstance(name, str)] if isinstance(known, list) else []

    def count(value: Any) -> str:
        value = _number(value)
        return "—" if value is None else f"{value:,}"

    shown = names
    if len(names) > MOST_CLASSES:  # the largest and the smallest say more than the first ones
        trained = _dictionary(by_class.get("train"))
        sizes = sorted(names, key=lambda name: -(_number(trained.get(name)) or 0))
        shown = [*sizes[: MOST_OF_PAIRS // 2], *sizes[-(MOST_OF_PAIRS // 2) :]]
    rows = [(name, [count(_dictionary(by_class.get(part)).get(name)) for part in splits]) for name in shown]
    if has_background and rows and rows[0][0] == names[0]:
        rows[0] = say("nothing marked"), rows[0][1]
    shape, made_by = split.get("input_shape"), _dictionary(split.get("made_by"))
    facts = [(say("Source"), split["source"])] if isinstance(split.get("source"), str) else []
    if isinstance(shape, list) and len(shape) == 3:
        sides = dict(zip(("height", "width", "channels"), shape, strict=True))
        facts.append(
            (say("Image size"), say("{height} x {width} pixels, {channels} {channels:channel|channels}", **sides))
        )
    labels = {"val": say("Validation split"), "test": say("Test split")}
    for part in SPLITS:
        how = say_made_by(made_by.get(part), say.language)
        if how or isinstance(made_by.get(part), str):
            facts.append((labels[part], how or made_by[part]))
    left_out, broken = _number(split.get("left_out")), len(_dictionary(split.get("broken")))
    if left_out:
        facts.append((say("Images left out as requested"), f"{left_out:,}"))
    if broken:
        facts.append((say("Images that could not be decoded, and were skipped"), f"{broken:,}"))
    return {
        "facts": facts,
        "splits": [say.word(SPLIT_NAMES[part]).capitalize() for part in splits],
        "totals": [count(counts.get(part)) for part in splits],
        "rows": rows,
        "caption": say("Images of each class and split")
        if len(shown) == len(names)
        else say("Images of the largest and of the smallest of {n:,} classes", n=len(names)),
        "has_unknown": any("—" in cells for _, cells in rows),
    }


def _describe_findings(check: dict | None, say: _Voice) -> dict[str, Any] | None:
    """What the data doctor found, in its own sentences."""
    if check is None or not isinstance(check.get("findings"), list):
        return None
    found = [finding for finding in check["findings"] if isinstance(finding, dict)]
    rows = []
    for finding in found[:MOST_ROWS]:
        severity = finding.get("severity") if finding.get("severity") in list(SEVERITIES) else "note"
        message = say_finding(finding, say.language)
        check_name = say.word(str(finding.get("check", "")).replace("_", " "))
        rows.append({"severity": severity, "check": check_name, "message": message})
    return {"rows": rows, "more": len(found) - len(rows)}


def _describe_settings(config: Config) -> dict[str, Any]:
    """The settings: those that differ from the defaults, and all."""
    defaults, settings = (
        {name: as_word(value) for name, value in flatten(one.model_dump(mode="json")).items()}
        for one in (Config(), config)
    )
    changed = [
        (name, [value, defaults.get(name, "—")]) for name, value in settings.items() if value != defaults.get(name)
    ]
    return {
        "changed": changed[:MOST_ROWS],
        "settings": [(name, [value]) for name, value in settings.items()][:MOST_ROWS],
        "more_settings": max(0, len(settings) - MOST_ROWS),
    }


def _read_experiment(folder: _Folder) -> str | None:
    """The experiment file, as text."""
    content = folder.read("experiment.py", most=2**20)
    return None if content is None else content.decode("utf-8-sig", errors="replace")


def _describe_cost(environment: dict, cost: dict | None, say: _Voice) -> dict[str, Any]:
    """What the training cost."""
    facts = []
    for label, name in ((say("Trainable weights"), "trainable_weights"), (say("Devices that were used"), "replicas")):
        if (count := _number(environment.get(name))) is not None:
            facts.append((label, f"{count:,}"))
    if isinstance(environment.get("precision"), str):
        facts.append((say("Number format of the computation"), environment["precision"]))
    if isinstance(environment.get("devices"), list):
        facts.append((say("Devices of the machine"), say(", ").join(map(name_device, environment["devices"][:16]))))
    seconds = [
        (say(SECONDS[part]) if part in SECONDS else part, [_duration(value, say)])
        for part, text in list(_dictionary(environment.get("seconds")).items())[:MOST_ROWS]
        if (value := _number(text)) is not None
    ]
    rows = []
    for name, value in list((cost or {}).items())[:MOST_ROWS]:
        if isinstance(value, str):
            rows.append((say.word(name.replace("_", " ")), [value]))
        elif (number := _number(value)) is not None:
            shown = f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"
            rows.append((say.word(name.replace("_", " ")), [shown]))
    return {"facts": facts, "seconds": seconds, "rows": rows}


def _describe_environment(environment: dict, say: _Voice) -> dict[str, Any]:
    """The machine and the software of the training."""
    machine, git = _dictionary(environment.get("machine")), _dictionary(environment.get("git"))
    facts = []
    for label, value in (
        (say("Started"), environment.get("started")),
        (say("System"), machine.get("system")),
        (say("Processor"), machine.get("processor")),
        (say("Cores"), machine.get("cores")),
    ):
        if isinstance(value, (str, int)) and value:
            facts.append((label, str(value)))
    resumed = environment.get("resumed")
    if isinstance(resumed, list) and resumed:
        epochs = [str(entry.get("epoch", "?")) for entry in resumed[:MOST_ROWS] if isinstance(entry, dict)]
        times = say("{count} {count:time|times}, in epoch {epochs}", count=len(resumed), epochs=say(", ").join(epochs))
        facts.append((say("Interrupted and resumed"), times))
    commit = git.get("commit")
    if isinstance(commit, str):
        facts.append((say("Git commit of pbl"), commit))
        changes = git.get("uncommitted_changes")
        if isinstance(changes, bool):
            is_other = say("yes: the code that ran was not exactly that of the commit")
            is_same = say("none: the commit is the code that ran")
            facts.append((say("Uncommitted changes"), is_other if changes else is_same))
    else:
        facts.append((say("Git commit of pbl"), say("not known: the code was not a git checkout")))
    versions = {"Python": environment.get("python"), **_dictionary(environment.get("versions"))}
    shown = [(name, [version]) for name, version in versions.items() if isinstance(version, str)]
    return {"facts": facts, "versions": shown[:MOST_ROWS]}
