"""The log of a team's runs: what each changed against the run that it came from, and what that gained on validation.

Nobody writes it: it is read from the runs' files each time. A run comes from the earlier finished run on the same training and
validation images whose settings are nearest to its own (its parent). Their difference is paired over the same validation
images and has its interval; runs on other images are never subtracted.
"""

import ast
import contextlib
import csv
import functools
import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pbl.config import Augmentation, Config
from pbl.errors import InputError
from pbl.languages import say
from pbl.runs import Run, runs_folder
from pbl.statistics import paired_interval, wilson_interval
from pbl.storage import replacing

ONE_SEED = "One seed each: says something about these two trained networks, not about the settings."
HOW_TO_READ = "Difference: accuracy minus that of the run it came from, on the same validation images, in points, with its 95% interval (Newcombe 1998, paired). An interval that contains 0 shows no difference."
HEADER = ("run", "when", "status", "model", "came from", "changed", "validation accuracy", "difference", "test used")
STATUSES = {
    "finished": "finished",
    "running": "training now",
    "cut off": "cut off",
    "paused": "paused",
    "interrupted": "interrupted",
    "failed": "failed",
    "damaged": "damaged",
}
UNSET = "unset"  # an option that was not given, and whose default is not known
LONGEST_VALUE = 40  # letters of a setting's value that are shown
LONGEST_REASON = 160

# They say which images are taken: where the images are the same, they have made no difference.
OF_THE_IMAGES = {
    "dataset", "data_dir", "split_seed", "validation_fraction", "train_fraction", "folds", "fold", "groups", "leave_out",
    "on_bad_image", "data_check", "memory_budget", "image_size", "channels", "fit",
}  # fmt: skip
OWNERS = {"model_options": "model", "optimizer_options": "optimizer", "schedule_options": "learning_rate_schedule"}
# These take one-hot labels, and with them the other `loss`, which is the same function.
NEED_ONE_HOT = {"label_smoothing", "augmentation.mixup", "augmentation.cutmix"}
CODE = "experiment.py"


class Change(NamedTuple):
    """A setting that is not that of the run that a run came from; its two values in words."""

    key: str
    old: str
    new: str


class Gain(NamedTuple):
    """Accuracy on validation minus that of the run that a run came from: a share, and its 95% interval."""

    difference: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class LoggedRun:
    """One run of the log.

    Attributes:
        path: Its folder.
        started: When it began.
        status: One of `STATUSES`.
        reason, reason_details: Why it has no result, or what is to be known of it: a sentence with `{name}` fields, and their
            values; "" where there is nothing to say.
        config: Its settings; None of a damaged run.
        settings: What decides the result, each setting and each option (`model_options.dropout`) in words.
        given: Those of the options that were given; the others are defaults.
        images: Hash of its training and validation images; "" where it is not known.
        accuracy, low, high: Accuracy on validation, a share, and Wilson's 95% interval; None where it has none.
        val_images: Of how many images that is.
        test_uses: How often its test split has been used.
        parent: The run that it came from.
        changes: What differs from that, the seed apart.
        gain: The difference to it; None where there is none.
        no_gain, no_gain_details: Why there is none: a sentence and its values.
    """

    path: Path
    started: datetime
    status: str
    reason: str = ""
    reason_details: dict[str, Any] = field(default_factory=dict)
    config: Config | None = None
    settings: dict[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    images: str = ""
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    val_images: int = 0
    test_uses: int = 0
    parent: "LoggedRun | None" = field(default=None, repr=False, compare=False)
    changes: tuple[Change, ...] = ()
    gain: Gain | None = None
    no_gain: str = ""
    no_gain_details: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        path = self.path.absolute()
        return f"{path.parent.name}/{path.name}"

    @property
    def has_result(self) -> bool:
        return self.status == "finished" and self.accuracy is not None

    @property
    def has_other_seed(self) -> bool:
        """Whether its seed is not its parent's."""
        return self.parent is not None and self.parent.config.seed != self.config.seed


def read_log(folder: str | Path | None = None) -> list[LoggedRun]:
    """Reads all runs of a folder, the oldest first.

    Args:
        folder: Where the runs are kept (the variable `PBL_RUNS`, else `runs`, unless given), or those of one experiment.

    Returns:
        One entry a run, also of those that failed, have not ended or are damaged.

    Raises:
        InputError: There is no such folder, it is a single run, or it holds no run.
    """
    folder = runs_folder(folder)
    if (folder / "config.json").is_file():
        raise InputError(
            "{folder} is one run. Give the folder of all runs: {above}.",
            folder=folder,
            above=folder.resolve().parent.parent,
        )
    if not folder.is_dir():
        raise InputError(
            "No folder {folder}. Give the folder that holds the runs, or train one first: python -m pbl train.",
            folder=folder,
        )
    files = [file for depth in ("*", "*/*") for file in folder.glob(f"{depth}/*.json")]
    paths = {file.parent for file in files if file.name in ("config.json", "environment.json")}
    if not paths:
        raise InputError("{folder} holds no runs. Train one first: python -m pbl train.", folder=folder)
    runs = sorted(map(_read_run, paths), key=lambda run: (run.started, run.name))
    return _find_gains(_find_parents(runs))


def _read_run(path: Path) -> LoggedRun:
    run, started = Run(path), _read_time(None, path)
    try:
        environment = run.environment
        started = _read_time(environment.get("started"), path)
        config, status, test_uses = run.config, environment.get("status"), run.count_test_uses()
        if status not in STATUSES:
            raise InputError("The run {run} is damaged: environment.json lacks its status.", run=path)
    except InputError as error:
        return LoggedRun(path, started, "damaged", error.template, error.fields)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        return LoggedRun(path, started, "damaged", "{reason}", {"reason": str(error)})
    if status == "running" and not _is_live(run):
        status = "cut off"
    reason, details = "", {}
    if status == "failed":
        reason = "{reason}"
        details = {"reason": str(environment.get("reason") or "").removeprefix("InputError: ")}
    elif status != "finished":
        whole = config.epochs + config.fine_tune_epochs
        reason, details = "{done} of {epochs} epochs", {"done": _count_epochs(path), "epochs": whole}
    elif environment.get("diverged"):
        reason, details = "diverged in {where}", {"where": str(environment.get("diverged_at") or "?")}
    settings, given = describe_settings(config, environment.get("builder_options"), path / CODE)
    images = environment.get("images")
    entry = LoggedRun(
        path, started, status, reason, details, config, settings, given, images if isinstance(images, str) else "",
        test_uses=test_uses,
    )  # fmt: skip
    with contextlib.suppress(InputError):
        metrics = run.read_json("metrics_val.json")
        accuracy, n = metrics.get("accuracy"), metrics.get("images")
        if isinstance(accuracy, (int, float)) and isinstance(n, int) and 0 < n < 10**9 and 0 <= accuracy <= 1:
            low, high = wilson_interval(round(accuracy * n), n)
            return replace(entry, accuracy=float(accuracy), low=low, high=high, val_images=n)
    return replace(entry, reason="metrics_val.json is missing or damaged") if status == "finished" else entry


def _read_time(text: Any, path: Path) -> datetime:
    """When a run began, as it says; else when its folder was last written to."""
    with contextlib.suppress(ValueError, TypeError, OverflowError, OSError):
        return datetime.fromisoformat(text).astimezone()
    with contextlib.suppress(OSError):  # moved away meanwhile
        return datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    return datetime.fromtimestamp(0).astimezone()


def _is_live(run: Run) -> bool:
    try:
        return run.is_live
    except OSError:  # not ours to read
        return False


def _count_epochs(path: Path) -> int:
    try:
        return max(0, (path / "history.csv").read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def _shorten(text: Any, most: int) -> str:
    """In one line, of letters that can be printed."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(text))
    text = " ".join(printable.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def describe_settings(
    config: Config, builder_options: Any = None, experiment: Path | None = None
) -> tuple[dict[str, str], frozenset[str]]:
    """Returns the settings that decide a result, in words, and which of the options were given.

    Args:
        config: The settings.
        builder_options: The options of the model's builder with its defaults, as `environment.json` keeps them.
        experiment: The run's `experiment.py`, whose own code is a setting too.
    """
    settings, given = {}, set()
    defaults = {
        "model_options": builder_options if isinstance(builder_options, dict) else {},
        "augmentation": Augmentation().model_dump(),
    }
    for name, value in config.decides().items():
        if name in ("seed", "experiment"):
            continue
        if name in OWNERS or name == "augmentation":
            given |= {f"{name}.{option}" for option in value}
            value = {**defaults.get(name, {}), **value}
            settings |= {f"{name}.{option}": _as_word(inner) for option, inner in value.items()}
        else:
            settings[name] = _as_word(",".join(value) or None if name == "callbacks" else value)
    code = _read_own_code(experiment, {config.model, config.dataset, *config.callbacks}) if experiment else ""
    if code:
        settings[CODE] = f"code {code}"
        given.add(CODE)
    return settings, frozenset(given)


def _as_word(value: Any) -> str:
    """As the command line takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_own_code(file: Path, names: set[str]) -> str:
    """A hash of the code of an experiment file that brings its own model, data or callbacks of these names; else ""."""
    try:
        code, words = _digest_code(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return code if names & words else ""


@functools.cache
def _digest_code(source: bytes) -> tuple[str, frozenset[str]]:
    """A hash of a file's code, without comments, its first text and `config = ...`; and the words in it. It is not run."""

    def is_code(node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign):
            return [getattr(target, "id", None) for target in node.targets] != ["config"]
        return not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))

    body = [node for node in ast.parse(source).body if is_code(node)]
    constants = [node.value for part in body for node in ast.walk(part) if isinstance(node, ast.Constant)]
    digest = hashlib.sha256("\n".join(map(ast.dump, body)).encode(errors="replace")).hexdigest()[:8]
    return digest, frozenset(value for value in constants if isinstance(value, str))


def _find_parents(runs: list[LoggedRun]) -> list[LoggedRun]:
    """Enters the run that each came from, and what differs."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    column = {key: number for number, key in enumerate(keys)}
    codes: dict[str, int] = {}
    words = np.array(
        [[codes.setdefault(run.settings.get(key, UNSET), len(codes)) for key in keys] for run in runs], np.int32
    ).reshape(len(runs), len(keys))
    given = np.array([[key in run.given for key in keys] for run in runs], bool).reshape(words.shape)
    of_the_images = [column[key] for key in keys if key in OF_THE_IMAGES]
    one_hot = [column[key] for key in keys if key in NEED_ONE_HOT]
    owner = {column[key]: column[OWNERS[key.partition(".")[0]]] for key in keys if key.partition(".")[0] in OWNERS}

    def compare(at: int, others: list[int]) -> np.ndarray:
        """`bool [others, keys]`: which settings are not those of run `at`."""
        differs = words[others] != words[at]
        in_any = given[others] | given[at]
        for option, owned_by in owner.items():  # the defaults of two models have nothing to do with each other
            differs[:, option] &= in_any[:, option] | ~differs[:, owned_by]
        if "loss" in column:
            differs[:, column["loss"]] &= ~differs[:, one_hot].any(axis=1)
        same = np.array([runs[other].images == runs[at].images for other in others])
        differs[np.ix_(same, of_the_images)] = False
        return differs

    def is_own_change(key: str, at: int, other: int, changed: set[str]) -> bool:
        """Not so an option, or code, that only one of the two has, where it comes with another model or the like."""
        where = column[key]
        if key == CODE:
            return bool(given[at, where] and given[other, where])
        owned_by = OWNERS.get(key.partition(".")[0])
        return owned_by not in changed or bool(given[at, where] and given[other, where])

    entries: list[LoggedRun] = []
    earlier: dict[str, list[int]] = {}  # those with a result, by images
    places: dict[Any, int] = {}  # by folder, and by the folder's last two names, as it may be called from another place
    for at, run in enumerate(runs):
        others = earlier.get(run.images, []) if run.images else []
        if run.config is not None and run.config.initial_weights:
            named = _find_named(run.config.initial_weights, places)
            others = others if named is None else [named]
        if run.config is not None and others:
            differs = compare(at, others)
            # Of several nearest ones that of the same seed, then the latest.
            has_other_seed = np.array([entries[other].config.seed != run.config.seed for other in others])
            nearest = len(others) - 1 - int((2 * differs.sum(axis=1) + has_other_seed)[::-1].argmin())
            parent, changed = entries[others[nearest]], [key for key in keys if differs[nearest, column[key]]]
            own = [key for key in changed if is_own_change(key, at, others[nearest], set(changed))]
            changes = tuple(_describe_change(key, parent, run, own) for key in own)
            run = replace(run, parent=parent, changes=changes)
        entries.append(run)
        if run.config is not None:
            places[run.path.resolve()] = places[run.path.parts[-2:]] = at
        if run.has_result and run.images:
            earlier.setdefault(run.images, []).append(at)
    return entries


def _find_named(weights: str, places: dict[Any, int]) -> int | None:
    """The place of the run whose weights another began with; `places` as in `_find_parents`."""
    path = Path(weights)
    path = path.parent if path.suffix == ".h5" else path
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a name that no folder can have
        return places.get(path.expanduser().resolve(), places.get(path.parts[-2:]))
    return None


def _describe_change(key: str, parent: LoggedRun, run: LoggedRun, changed: Sequence[str]) -> Change:
    """With the options that belong to another model, optimizer or schedule, and are no change of their own."""

    def word(of: LoggedRun) -> str:
        mine = [option for option in of.given if OWNERS.get(option.partition(".")[0]) == key and option not in changed]
        options = ", ".join(f"{option.partition('.')[2]}={of.settings[option]}" for option in sorted(mine))
        return of.settings.get(key, UNSET) + (f" ({options})" if options else "")

    return Change(key, word(parent), word(run))


class Predictions(NamedTuple):
    """Of the validation images, in the order of their contents."""

    hashes: np.ndarray
    labels: np.ndarray
    correct: np.ndarray


def read_predictions(path: Path) -> Predictions | None:
    """Reads a run's predictions of the validation images; None where they are missing or damaged."""
    try:
        with np.load(path / "predictions_val.npz", allow_pickle=False) as saved:
            labels, hashes = saved["labels"], saved["hashes"].astype("S16")  # so many letters as split.json keeps
            correct = saved["probabilities"].argmax(axis=1) == labels
            if len(labels) and labels.shape == hashes.shape == correct.shape == (len(labels),):
                order = np.lexsort((labels, hashes))
                return Predictions(hashes[order], labels[order], correct[order])
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, NotImplementedError):
        pass
    except (zlib.error, zipfile.BadZipFile):
        pass
    return None


def _find_gains(runs: list[LoggedRun]) -> list[LoggedRun]:
    """Enters the difference to the run that each came from, or why there is none."""
    read = functools.lru_cache(maxsize=256)(read_predictions)
    entries = []
    for run in runs:
        gain, reason, details = _subtract(run, read)
        entries.append(replace(run, gain=gain, no_gain=reason, no_gain_details=details))
    return entries


def _subtract(run: LoggedRun, read: Any) -> tuple[Gain | None, str, dict[str, Any]]:
    parent = run.parent
    if not run.has_result:
        return None, "it has no result", {}
    if not run.images:
        return None, "its images are not known", {}
    if parent is None:
        return None, "the first result on its images and split", {}
    if parent.images != run.images:
        return None, "other images or another split than {parent}", {"parent": parent.name}
    if not parent.has_result:
        return None, "{parent} has no result", {"parent": parent.name}
    ours, theirs = read(run.path), read(parent.path)
    for of, predictions in ((run, ours), (parent, theirs)):
        if predictions is None:
            return None, "predictions_val.npz of {run} is missing or damaged", {"run": of.name}
    if not (np.array_equal(ours.hashes, theirs.hashes) and np.array_equal(ours.labels, theirs.labels)):
        return None, "{parent} was evaluated on other validation images", {"parent": parent.name}
    both, only_ours, only_theirs = (
        int(np.count_nonzero(which))
        for which in (ours.correct & theirs.correct, ours.correct & ~theirs.correct, theirs.correct & ~ours.correct)
    )
    n = len(ours.labels)
    return Gain((only_ours - only_theirs) / n, *paired_interval(both, only_ours, only_theirs, n)), "", {}


def describe_changes(run: LoggedRun, language: str = "en") -> str:
    """Says what a run changed against the one that it came from; "" where that is not known."""
    if len(run.changes) < 2:
        return list_changes(run, language)
    note = say("({count} changes at once: which of them did it cannot be told)", language, count=len(run.changes))
    return f"{list_changes(run, language)} {note}"


def list_changes(run: LoggedRun, language: str = "en") -> str:
    """What a run changed, without a word on how many changes came at once."""
    if run.parent is None:
        return ""
    words = [
        f"{key}: {_shorten(old, LONGEST_VALUE)} -> {_shorten(new, LONGEST_VALUE)}" for key, old, new in run.changes
    ]
    if run.has_other_seed:
        words.append(say("another seed", language))
    return "; ".join(words) or say("nothing: the same settings and seed", language)


def describe_accuracy(run: LoggedRun, language: str = "en") -> str:
    """Accuracy on validation with its interval, in percent; a dash where there is none."""
    if run.accuracy is None:
        return "–"
    accuracy, low, high = 100 * run.accuracy, 100 * run.low, 100 * run.high
    return say("{accuracy:.1f}% ({low:.1f} to {high:.1f})", language, accuracy=accuracy, low=low, high=high)


def describe_gain(run: LoggedRun, language: str = "en") -> str:
    """The difference with its interval, in points; a dash and the reason where there is none."""
    if run.gain is None:
        return "– " + say(run.no_gain, language, **run.no_gain_details) if run.has_result else "–"
    difference, low, high = (100 * value for value in run.gain)
    return say("{difference:+.1f} ({low:+.1f} to {high:+.1f})", language, difference=difference, low=low, high=high)


def describe_status(run: LoggedRun, language: str = "en") -> str:
    """The status, and why a run has no result."""
    status = say(STATUSES[run.status], language)
    reason = say(run.reason, language, **run.reason_details) if run.reason else ""
    return f"{status}: {_shorten(reason, LONGEST_REASON)}" if reason else status


def make_table(runs: Sequence[LoggedRun], language: str = "en") -> tuple[list[str], list[tuple[str, ...]]]:
    """Returns the log's header and rows, a row a run, for people to read.

    Args:
        runs: As `read_log` gives them.
        language: "en" or "ja".
    """
    rows = [
        (
            _shorten(run.name, LONGEST_REASON),
            f"{run.started:%m-%d %H:%M}",
            describe_status(run, language),
            _shorten(run.config.model, LONGEST_VALUE) if run.config else "",
            _shorten(run.parent.name, LONGEST_REASON) if run.parent else "",
            describe_changes(run, language),
            describe_accuracy(run, language),
            describe_gain(run, language),
            say("{uses} time(s)", language, uses=run.test_uses) if run.test_uses else "",
        )
        for run in runs
    ]
    return [say(word, language) for word in HEADER], rows


def make_records(runs: Sequence[LoggedRun]) -> list[dict[str, Any]]:
    """Returns the log for scripts: one dictionary a run; shares, not percent; what is not known is None."""
    records = []
    for run in runs:
        difference, low, high = run.gain or (None, None, None)
        records.append(
            {
                "run": run.name,
                "started": run.started.isoformat(timespec="seconds"),
                "status": run.status,
                "reason": say(run.reason, **run.reason_details),
                "model": run.config.model if run.config else None,
                "seed": run.config.seed if run.config else None,
                "images": run.images or None,
                "val_images": run.val_images or None,
                "val_accuracy": run.accuracy,
                "val_accuracy_low": run.low,
                "val_accuracy_high": run.high,
                "came_from": run.parent.name if run.parent else None,
                "changes": {change.key: [change.old, change.new] for change in run.changes},
                "other_seed": run.has_other_seed,
                "difference": difference,
                "difference_low": low,
                "difference_high": high,
                "no_difference": say(run.no_gain, **run.no_gain_details),
                "test_uses": run.test_uses,
            }
        )
    return records


def write_csv(runs: Sequence[LoggedRun], file: str | Path) -> None:
    """Writes the records to a CSV file that Excel reads, the changes as words; whole or not at all."""
    rows = [{**record, "changes": describe_changes(run)} for record, run in zip(make_records(runs), runs, strict=True)]
    with replacing(Path(file)) as temporary, temporary.open("w", newline="", encoding="utf-8-sig") as table:
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def plot_log(runs: Sequence[LoggedRun], language: str = "en", most: int = 40) -> Any:
    """Draws what each run gained or lost against the run that it came from, as a matplotlib `Figure`.

    Args:
        runs: As `read_log` gives them.
        language: "en" or "ja".
        most: So many runs are drawn, the last that can be compared.

    Raises:
        InputError: No run can be compared with another one.
    """
    from pbl.reports.figures import plot_gains

    compared = [run for run in runs if run.gain is not None]
    if not compared:
        raise InputError("No run can be compared with an earlier one yet: there is no picture to draw.")
    return plot_gains(
        [f"{run.name}: {list_changes(run, language)}" for run in compared],
        [run.gain for run in compared],
        say("What each change gained or lost on validation", language),
        say(
            "accuracy minus that of the run it came from [points], 95% interval; open circles: more than one change at once",
            language,
        ),
        [len(run.changes) > 1 for run in compared],
        say(ONE_SEED, language),
        most,
    )
