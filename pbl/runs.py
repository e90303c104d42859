"""A run: one folder `runs/<experiment>/<number>/` with fixed file names and files that can be trusted.

| file                                           | written by      | what                                                       |
|------------------------------------------------|-----------------|------------------------------------------------------------|
| config.json, experiment.py                     | train           | the settings, exactly; the experiment file as it was       |
| environment.json                               | train           | status, versions, device, git commit, command, seconds     |
| split.json                                     | train           | classes, counts and content hashes of the split            |
| data_check.json                                | train           | what the data doctor found                                 |
| history.csv                                    | train           | one row an epoch                                           |
| signals.npz, diagnosis.json                    | train           | what the monitor measured, and what it means               |
| samples.npz                                    | train           | of generation: some images after each epoch                |
| best.keras, best.weights.h5                    | train           | the best model; of a classifier by the validation loss     |
| checkpoint/                                    | train           | the last states of a training that has not ended           |
| final.keras                                    | train           | the model after the last epoch                             |
| metrics_val.json, predictions_val.npz          | train, evaluate | metrics; labels, probabilities, names and hashes by image, |
|                                                |                 | of a classifier also small images of mistakes              |
| metrics_test.json, predictions_test.npz        | evaluate        | the same of the test split                                 |
| traceback.txt                                  | several         | of an error in one's own code, which was told in one line  |
| test_uses.csv                                  | evaluate        | one row for each time that the test split was used         |
| figures/*.png                                  | train, evaluate | learning curves, confusion matrices                        |
| figures/*.png, *.csv                           | inspect         | what the network looks at, and the numbers in the pictures |
| tensorboard/                                   | train           | with tensorboard=true: the log that TensorBoard shows      |
| cost.json                                      | compare         | with --measure: what the model costs to use                |
| export/                                        | export          | the model for other runtimes, and its card                 |
| report.html                                    | report          | all of it on one page                                      |
| lock.json                                      | train           | there while a process trains here                          |

Every file is written under another name and then put in place, so none is ever half-written.
"""

import contextlib
import csv
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from pbl import __version__
from pbl.config import Config, run_experiment_file
from pbl.errors import InputError, Sentence
from pbl.evaluation.mistakes import LONGEST_SIDE, MOST_KEPT
from pbl.languages import say
from pbl.storage.escapes import for_shell
from pbl.storage.lock import FolderLock, InUse
from pbl.storage.reading import UnreadableFile, read_arrays, read_bytes, read_json, read_table
from pbl.storage.schemas import Cost, Environment, Metrics, Split
from pbl.storage.trust import check_trusted, is_code_left_out, make_marks
from pbl.storage.writing import (
    WRITING,
    discard,
    expand_pattern,
    find_failure,
    is_there,
    list_folder,
    replacing,
    sweep,
    timestamp,
    try_again,
    write_json,
)

UNBORN_SECONDS = 60  # a folder still without settings then is a left-over: they are written within a moment
SCHEMAS: dict[str, type[BaseModel]] = {
    "environment.json": Environment,
    "split.json": Split,
    "metrics_val.json": Metrics,
    "metrics_test.json": Metrics,
    "cost.json": Cost,
}


class Predictions(NamedTuple):
    """The predictions of a run's best model for the images of a split.

    Attributes:
        labels: `int [n]`, the class of each image.
        probabilities: `float [n, classes]`; not all finite if the training diverged.
        hashes: `str [n]`, hashes of the images' content.
        names: `str [n]`, names of the images' files; None in runs of the first versions.
        class_names: `str [classes]`; None likewise.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    hashes: np.ndarray
    names: np.ndarray | None
    class_names: np.ndarray | None

    def by_content(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns hashes, labels and `bool [n]`, whether the label was predicted, in an order that all runs share."""
        # Copies of an image with other labels are in the same order in all runs too.
        order = np.lexsort((self.labels, self.hashes))
        correct = self.probabilities.argmax(axis=1) == self.labels
        return self.hashes[order], self.labels[order], correct[order]


class Run:
    """The folder of one run; opened by `load_run`, made by `start_run`.

    Args:
        path: The folder.
        made_around: Parent folders that were made for it.
    """

    def __init__(self, path: Path, made_around: Sequence[Path] = ()):
        self.path, self.made_around = Path(path), made_around
        self._lock = FolderLock(self.path)

    def __repr__(self) -> str:
        return f"Run('{self.path}')"

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @cached_property
    def config(self) -> Config:
        """The settings, from `config.json`."""
        try:
            return Config(**self.read_json("config.json"))
        except InputError as error:
            raise InputError("{file}: {error}", file=self.path / "config.json", error=error) from None

    @property
    def environment(self) -> dict[str, Any]:
        """The content of `environment.json` at this moment."""
        return self.read_json("environment.json")

    @cached_property
    def split(self) -> dict[str, Any]:
        """The content of `split.json`."""
        return self.read_json("split.json")

    def read_json(self, name: str) -> dict[str, Any]:
        """Reads a JSON file of the run, and checks its content (`pbl.storage.schemas`).

        Raises:
            InputError: It is missing or damaged, or the disk cannot read it now.
        """
        try:
            return read_json(self.path / name, self.path, SCHEMAS.get(name))
        except FileNotFoundError:
            raise InputError(
                "The run {run} is incomplete: {name} is missing. Restore it from a copy, or train again with --fresh.",
                run=self.path,
                name=name,
            ) from None
        except UnreadableFile as error:
            if not error.is_damaged:
                raise
            raise InputError(
                "The run {run} is damaged: {name} is not used, because {reason}. Restore it from a copy, or train again with --fresh.",
                run=self.path,
                name=name,
                reason=error.reason,
            ) from error

    def read_table(self, name: str, *columns: str) -> list[dict[str, str]]:
        """Reads a CSV file of the run that must have these columns.

        Raises:
            FileNotFoundError, UnreadableFile: There is no such file; it cannot be used.
        """
        return read_table(self.path / name, self.path, columns)

    def read_bytes(self, name: str) -> bytes:
        """Reads a file of the run.

        Raises:
            FileNotFoundError, UnreadableFile: There is no such file; it cannot be used.
        """
        return read_bytes(self.path / name, self.path)

    def holds(self, name: str) -> bool:
        """Whether the run has a file or folder of this name."""
        return is_there(self.path / name)

    def read_predictions(self, split: str) -> Predictions:
        """Reads `predictions_<split>.npz`.

        Args:
            split: "val" or "test".

        Raises:
            InputError: It is missing (its `__cause__` is then a `FileNotFoundError`) or damaged.
        """
        with self._reading_predictions(split) as file:
            saved = read_arrays(file, self.path, ("labels", "probabilities", "hashes", "names", "class_names"))
            labels, probabilities, hashes = (saved[name] for name in ("labels", "probabilities", "hashes"))
            names, class_names = saved.get("names"), saved.get("class_names")
            if [array.ndim for array in (labels, probabilities, hashes)] != [1, 2, 1]:
                raise ValueError("not a number for each class")
            for texts in (names, class_names):
                if texts is not None and not (texts.dtype.kind == "U" and texts.ndim == 1):
                    raise ValueError("no names")
            if not 0 < len(hashes) == len(labels) == len(probabilities) == len(hashes if names is None else names):
                raise ValueError("not of as many images")
            if not (labels.dtype.kind in "iu" and probabilities.dtype.kind == "f" and hashes.dtype.kind == "U"):
                raise ValueError("not of these types")
            classes = probabilities.shape[1]
            if not 0 <= labels.min() <= labels.max() < classes:
                raise ValueError("labels of classes that there are not")
            if class_names is not None and len(class_names) != classes:
                raise ValueError("not a name for each class")
            hashes.astype("S")  # raises an error if they are not ASCII
            return Predictions(labels, probabilities, hashes, names, class_names)

    def read_small_images(self, split: str) -> dict[int, np.ndarray]:
        """Reads small images of mistakes from `predictions_<split>.npz`, `uint8 [height, width, 1 or 3]`, by their place among the images.

        Earlier versions kept no such images.

        Args:
            split: "val" or "test".

        Raises:
            InputError: As `read_predictions`.
        """
        with self._reading_predictions(split) as file:
            saved = read_arrays(file, self.path, ("mistakes", "small_images"))
            if len(saved) < 2:
                return {}
            places, pixels = saved["mistakes"], saved["small_images"]
            if places.ndim != 1 or places.dtype.kind not in "iu" or pixels.dtype != np.uint8 or pixels.ndim != 4:
                raise ValueError("no images")
            if not len(places) == len(pixels) <= MOST_KEPT or not max(pixels.shape[1:3]) <= LONGEST_SIDE:
                raise ValueError("too many images, or too large ones")
            if 0 in pixels.shape[1:3] or pixels.shape[3] not in (1, 3):
                raise ValueError("no images")
            return dict(zip(places.tolist(), pixels, strict=True))

    @contextlib.contextmanager
    def _reading_predictions(self, split: str) -> Iterator[Path]:
        """Yields the file of a split's predictions; if it is missing or damaged, the error names the command that writes it."""
        file = self.path / f"predictions_{split}.npz"
        try:
            yield file
        except (FileNotFoundError, KeyError, ValueError, UnreadableFile) as error:
            if isinstance(error, UnreadableFile) and not error.is_damaged:
                raise
            which = for_shell(self.path) + ("" if split == "val" else f" --split {split}")
            raise InputError(
                "{file} is missing or damaged. Write it again: python -m pbl evaluate {run}.", file=file, run=which
            ) from error

    def read_scores(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Reads the scores of anomaly detection from `predictions_<split>.npz`, `float [n]`, and whether each image is normal, `bool [n]`.

        Raises:
            InputError: As `read_predictions`.
        """
        with self._reading_predictions(split) as file:
            saved = read_arrays(file, self.path, ("scores", "is_normal"))
            scores, is_normal = saved["scores"], saved["is_normal"]
            if not (
                scores.ndim == 1
                and scores.shape == is_normal.shape
                and scores.dtype.kind == "f"
                and is_normal.dtype.kind == "b"
            ):
                raise ValueError("not a score for each image")
            if not np.isfinite(scores).all():
                raise ValueError("scores that are no numbers")
            return scores, is_normal

    def read_values(self, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reads what each image adds to the headline from `predictions_<split>.npz`, for a task other than classification.

        Returns:
            Hashes, `str [n]`; the truth of each image, `int [n]`; and values, `float [n]`, whose mean is the headline: in an order
            that all runs share.

        Raises:
            InputError: As `read_predictions`; also if the task gives no value for each image.
        """
        with self._reading_predictions(split) as file:
            saved = read_arrays(file, self.path, ("hashes", "truth", "values"))
            hashes, truth, values = (saved[name] for name in ("hashes", "truth", "values"))
            kinds = (hashes.dtype.kind, truth.dtype.kind, values.dtype.kind)
            if kinds not in (("U", "i", "f"), ("U", "b", "f")) or not hashes.shape == truth.shape == values.shape:
                raise ValueError("not a value for each image")
            if hashes.ndim != 1 or not len(hashes) or not np.isfinite(values).all():
                raise ValueError("values that are no numbers")
            order = np.lexsort((values, truth, hashes))
            return hashes[order], truth[order].astype(int), values[order]

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Writes a JSON file of the run."""
        write_json(self.path / name, value)

    def update_environment(self, **values: Any) -> None:
        """Adds to or changes `environment.json`."""
        self.write_json("environment.json", {**self.environment, **values})

    def execute_experiment(self) -> None:
        """Runs the run's `experiment.py`, so that the builders, data sets and callbacks that it registers are available.

        Raises:
            InputError: It is not known whose code that is, and nobody has allowed to execute it (`pbl.storage.trust`).
        """
        self.check_code()
        if not is_code_left_out():
            run_experiment_file(self.path / "experiment.py")

    def check_code(self) -> None:
        """Raises InputError if `experiment.py` may not be executed, and is not left out."""
        if not is_code_left_out():
            check_trusted(self.path)

    def has_same_images(self, split: dict[str, Any]) -> bool:
        """Whether the training and validation images of a split (`Data.split`) are those of this run."""
        return all(split["hashes"][part] == self.split["hashes"][part] for part in ("train", "val"))

    def check_is_classifier(self, command: str) -> None:
        """Raises InputError if the run learns a task other than classification, which a command cannot evaluate."""
        if not self.config.is_classifier:
            raise InputError(
                "{command} needs a classifier; the run {run} has task={task}. For such a run: evaluate, report, log.",
                command=command,
                run=self.path,
                task=self.config.task,
            )

    @property
    def is_finished(self) -> bool:
        return self.environment.get("status") == "finished"

    @property
    def is_tidy(self) -> bool:
        """Whether a finished run has no state of its training left; a run that diverged keeps it."""
        return bool(self.environment.get("diverged")) or not _list_states(self.path)

    @property
    def is_live(self) -> bool:
        """Whether a process, here or on another machine that shares the folder, is training in it."""
        return self._lock.is_held

    @property
    def is_lock_lost(self) -> bool:
        """Whether another process took over the run while this one trained in it."""
        return self._lock.is_lost

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Marks the run as live, with a heartbeat, until the block ends.

        Raises:
            InputError: Another process trains in the run.
        """
        return self._lock.hold()

    def record_test_use(self) -> int:
        """Appends a row to `test_uses.csv`, and returns how often the test split has been used, including this time."""
        file = self.path / "test_uses.csv"
        # Opening a pipe would block, and a link would be written through.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)

        def append() -> None:
            with open(os.open(file, flags, 0o666), "a", newline="", encoding="utf-8") as table:  # noqa: PTH123
                writer = csv.writer(table, lineterminator="\n")
                if os.fstat(table.fileno()).st_size == 0:
                    writer.writerow(["time", "host", "command"])
                writer.writerow([timestamp(), socket.gethostname(), _command()])

        try:
            try_again(append, file)
        except OSError as error:
            raise InputError(
                "{file} could not be written: {reason}. The test split is read only if its use is recorded.",
                file=file,
                reason=error.strerror,
            ) from None
        return self.count_test_uses()

    def count_test_uses(self) -> int:
        """Returns how often the test split has been used; raises InputError if the file cannot be read."""
        try:
            return len(self.read_table("test_uses.csv"))
        except FileNotFoundError:
            return 0


def runs_folder(folder: str | Path | None = None) -> Path:
    """Returns `folder`, else the variable `PBL_RUNS`, else `runs` below the current folder."""
    folder = Path(folder or os.environ.get("PBL_RUNS") or "runs")
    try:
        str(folder).encode()
        return folder.expanduser()
    except (UnicodeEncodeError, RuntimeError):
        raise InputError(
            "The folder of runs cannot have the name {folder}: a byte of it is not UTF-8, or there is no such user. Give another with --runs DIR "
            "or PBL_RUNS.",
            folder=folder,
        ) from None


def find_unfinished(config: Config, folder: str | Path | None = None) -> Run | None:
    """Returns the newest run with exactly these settings that has not ended; `Run.lock` shows whether a process trains in it now.

    A run that was killed while it ended, before its last state was removed, has not ended.

    Settings that do not change the result, such as `max_minutes`, may differ.
    """
    return next((run for run in _find_same(config, folder) if not (run.is_finished and run.is_tidy)), None)


def find_finished(config: Config, folder: str | Path | None = None) -> Run | None:
    """Returns the newest run with exactly these settings that has ended."""
    return next((run for run in _find_same(config, folder) if run.is_finished), None)


def _find_same(config: Config, folder: str | Path | None) -> Iterator[Run]:
    for path in reversed(list_folder(runs_folder(folder) / config.experiment)):
        if not is_there(path / "config.json"):
            continue
        run = Run(path)
        try:
            same = run.config.decides() == config.decides()
            source = _experiment_source(config if config.file else run.config)
            is_trial = run.environment.get("trial_images") is not None  # on a part of the images
            if same and run.read_bytes("experiment.py") == source and run.environment and not is_trial:
                yield run
        except (InputError, FileNotFoundError) as error:  # a damaged run must not block others
            if isinstance(error, UnreadableFile) and isinstance(error.__cause__, OSError):
                if find_failure(error):  # it may be the run that should be resumed
                    raise
            elif _list_states(path):
                told = "{run} contains the state of a training, but it is not used: {reason}"
                print(say(told, run=path, reason=error), file=sys.stderr, flush=True)


def _list_states(path: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [file for file in list_folder(path / "checkpoint") if file.suffix == ".npz"]
    return []


def reserve_run(config: Config, folder: str | Path | None = None, fresh: bool = False, again: bool = True) -> Run:
    """Makes the folder of a new run, as `start_run`; if several processes do so at once, only one gets it.

    Args:
        config, folder: As for `start_run`.
        fresh: Whether other unfinished runs with the same settings are ignored.
        again: Whether finished ones are ignored; otherwise the settings of a run that ended a moment ago are not trained once more.

    Raises:
        InUse: Another process was faster: its run has the lower number.
    """
    run = start_run(config, folder)
    if fresh:
        return run
    for path in list_folder(run.path.parent):
        if path.name.isdecimal() and path < run.path:
            _wait_until_made(path)
    before = [other for other in _find_same(config, folder) if other.path.name.isdecimal() and other.path < run.path]
    earlier = next((other for other in before if not other.is_finished), None)
    ended = None if again else next((other for other in before if other.is_finished), None)
    if ended is not None:
        remove_run(run)
        raise InUse("{run} was trained by another process meanwhile: its result is taken.", run=ended.path)
    if earlier is not None:
        remove_run(run)
        with earlier.lock():  # its error names who holds the run
            pass
        raise InUse("Another process began {run} at the same moment. Give the same command again.", run=earlier.path)
    return run


def _wait_until_made(path: Path, seconds: float = 10) -> None:
    """Waits for the `config.json` of a run's folder that another process is making; on a mounted Drive that takes long."""
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):  # the other process may remove the folder
        while not (path / "config.json").exists() and time.time() - path.stat().st_mtime < 60:
            if time.monotonic() > end:
                return
            time.sleep(0.1)


def remove_run(run: Run) -> None:
    """Removes the folder of a run in which nothing was trained, and the parent folders that were made for it if they are empty."""
    discard(run.path)
    with contextlib.suppress(OSError):
        for path in run.made_around:
            path.rmdir()


def runs_on(images: str, folder: str | Path | None = None) -> Iterator[Run]:
    """Yields all runs of all experiments on the same training and validation images (`environment["images"]`)."""
    for path in (path for above in list_folder(runs_folder(folder)) for path in list_folder(above)):
        run = Run(path)
        with contextlib.suppress(InputError, OSError):  # a damaged run must not block others
            if run.environment.get("images") == images:
                yield run


def start_run(config: Config, folder: str | Path | None = None) -> Run:
    """Makes the folder of a new run, with the next free number; two runs that start at once get two numbers.

    Args:
        config: The settings.
        folder: Where runs are kept; see `runs_folder`.

    Raises:
        InputError: The folder cannot be written.
    """
    parent = runs_folder(folder) / config.experiment
    source, environment = _experiment_source(config), describe_environment()
    try:
        new = [path for path in (parent, parent.parent) if not is_there(path)]
        try_again(lambda: parent.mkdir(parents=True, exist_ok=True), parent)
        _sweep_unborn(parent)
        taken = [int(path.name) for path in list_folder(parent) if path.name.isdecimal()]
        number = max(taken, default=0) + 1
        while True:
            run = Run(parent / f"{number:03d}", new)
            try:
                try_again(run.path.mkdir, run.path)
                break
            except FileExistsError:  # another process was faster
                number += 1
        try_again(lambda: (run.path / "figures").mkdir(exist_ok=True), run.path)
    except OSError as error:
        raise InputError(
            "The folder {parent} cannot be written: {reason}. Give another with --runs DIR or PBL_RUNS.",
            parent=parent,
            reason=error.strerror,
        ) from None
    try:
        with replacing(run.path / "experiment.py") as temporary:
            temporary.write_bytes(source)
        begun = {"status": "running", "started": timestamp(), "marks": make_marks(source)}
        run.write_json("environment.json", {**begun, **environment})
        run.write_json("config.json", config.model_dump(mode="json"))  # last: from now on it is a run
    except BaseException:
        discard(run.path)
        raise
    return run


def _sweep_unborn(parent: Path) -> None:
    """Removes folders whose process was killed before they became runs: they have no `config.json`, nor a state."""
    with contextlib.suppress(OSError, InputError):
        for path in list_folder(parent):
            names = {file.name for file in list_folder(path)} if path.name.isdecimal() else {""}
            first = {"figures", "experiment.py", "environment.json", "lock.json"}
            if all(name in first or name.startswith(WRITING) for name in names):
                is_empty = not list_folder(path / "figures")
                is_old = time.time() - path.stat().st_mtime > UNBORN_SECONDS
                if is_empty and is_old and not Run(path).is_live:
                    discard(path)


def _experiment_source(config: Config) -> bytes:
    if config.file:
        return config.file.read_bytes()
    values = config.model_dump(mode="json", exclude_defaults=True)
    lines = "".join(f"    {name}={value!r},\n" for name, value in values.items())
    title = '"""Written by pbl: the settings of a run that was started without an experiment file."""'
    return f"{title}\n\nfrom pbl import Config\n\nconfig = Config(\n{lines})\n".encode()


def find_places(word: str | Path) -> list[Path]:
    """Returns the places that a path of runs means: itself, the same below the folder of runs, or what matches its `*` and `?`.

    A shell expands such characters itself, but not inside quotes, and not on Windows. A path that matches nothing is returned.
    """
    path = Path(word).expanduser()
    if path.exists() or path.is_absolute() or ".." in path.parts:
        below = [path]
    else:  # as the README writes it, or below PBL_RUNS
        below = [path, runs_folder() / path, runs_folder().joinpath(*path.parts[path.parts[:1] == ("runs",) :])]
    found = [place for pattern in below for place in expand_pattern(pattern)]
    existing = list(dict.fromkeys(place for place in found if place.exists()))
    return existing or [path]


def load_run(path: str | Path | Run) -> Run:
    """Opens the folder of a run; a `Run` is returned unchanged.

    Raises:
        InputError: It does not exist, is not a run, or is a folder of runs (which are named).

    Example:
        >>> import pbl
        >>> run = pbl.load_run("runs/mine/001")
        >>> run.environment["status"], run.config.model
        ('finished', 'mlp')
    """
    if isinstance(path, Run):
        return path
    run = find_run(path)
    for place in ("", "figures", "checkpoint"):  # what killed processes left unfinished
        sweep(run.path / place)
    _ = run.config, run.environment
    return run


def find_run(path: str | Path) -> Run:
    """Does what `load_run` does, without looking into the run's files."""
    places = find_places(path)
    inside = [place.parent for place in places if place.is_file() and is_there(place.parent / "config.json")]
    padded = find_places(Path(path).with_name(Path(path).name.zfill(3))) if Path(path).name.isdecimal() else []
    found = [place for place in dict.fromkeys((*places, *inside, *padded)) if is_there(place / "config.json")] or places
    if len(found) > 1:
        raise InputError(
            "{path} contains {n} runs. Name one: {inside}.",
            path=path,
            n=len(found),
            inside=", ".join(map(str, found[-8:])),
        )
    path = found[0]
    if not is_there(path):
        known = sorted(file.parent for file in runs_folder().glob("*/*/config.json"))
        known = [run for run in known if run.name == path.name] or known  # 001 is the number of a run
        hint = Sentence("Train one first: python -m pbl train.")
        if known:
            listed = [str(run) for run in known[-8:]]
            hint = Sentence("Runs here: {runs}.", runs=", ".join(["...", *listed] if len(known) > 8 else listed))
        raise InputError("No run {path}. {hint}", path=path, hint=hint)
    if is_there(path / "config.json"):
        return Run(path)
    below = sorted(str(file.parent) for file in path.glob("**/config.json")) if path.is_dir() else []
    if below:
        raise InputError("{path} is a folder of runs. Name one: {inside}.", path=path, inside=", ".join(below[-8:]))
    if path.suffix == ".py":
        told = "{path} is an experiment file, not a run. Its runs are in {folder}; train one first: python -m pbl train {path}"
        raise InputError(told, path=path, folder=runs_folder() / path.stem)
    raise InputError(
        "{path} is not a run: it has no config.json. Give a folder such as runs/digits_resnet20/001.", path=path
    )


def describe_environment() -> dict[str, Any]:
    """Returns versions, machine, git commit and command, in the form of `environment.json`."""
    packages = ("tensorflow", "keras", "numpy", "pandas", "scikit-learn", "pillow", "tensorflow-datasets")
    versions = {"pbl": __version__}  # also of a checkout that is not installed
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "command": _command(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        "git": _git_commit(),
    }


def name_device(device: Any) -> str:
    """What a person reads of one of `devices` in `environment.json`: "CPU" for "CPU: /physical_device:CPU:0"."""
    return str(device).partition(": /physical_device")[0]


def _command() -> str:
    program, *words = sys.argv
    return shlex.join([*(["python", "-m", "pbl"] if program.endswith("__main__.py") else [program]), *words])


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git_commit(folder: Path = Path(__file__).parent) -> dict[str, Any] | None:
    """The commit of the running code, if it is a git checkout."""

    def git(*words: str) -> str:
        words = ("git", "-C", str(folder), *words)
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
