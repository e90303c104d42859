"""The log of a team's runs: what each changed compared with the run that it came from, and what that gained on validation.

Nobody writes it: it is read from the runs' files each time. A run comes from the earlier finished run with the same training and
validation images whose settings are nearest to its own (its parent). Their difference is paired over the same validation
images and has its interval; runs on other images are never subtracted.
"""

import contextlib
import csv
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pbl.comparison.entries import OF_IMAGES
from pbl.comparison.own_code import hash_own_code
from pbl.config import Augmentation, Config, as_word, flatten
from pbl.errors import InputError, Sentence
from pbl.languages import say, say_sentence
from pbl.languages.forms import format_share
from pbl.reports.pages import shorten
from pbl.runs import Run, runs_folder
from pbl.statistics import paired_interval, wilson_interval
from pbl.storage.escapes import for_csv
from pbl.storage.writing import is_there, list_folder, replacing

ONE_SEED = "One seed each: this shows something about these two trained networks, not about the settings."
HOW_TO_READ = "Difference: accuracy minus that of the parent run, on the same validation images, in points, with its 95% interval (Newcombe 1998, paired). An interval that contains 0 shows no difference."
HEADER = ("run", "when", "status", "model", "came from", "changed", "validation accuracy", "difference", "test used")
STATUSES = {
    "finished": "finished",
    "running": "training now",
    "cut off": "cut off",
    "paused": "paused",
    "interrupted": "interrupted",
    "pruned": "pruned",
    "failed": "failed",
    "damaged": "damaged",
}
UNSET = "unset"  # for an option that was not given and whose default is not known
LONGEST_VALUE = 40  # letters of a setting's value that are shown
LONGEST_REASON = 160

# They select the images: if the images are the same, they have made no difference.
OF_THE_IMAGES = {*OF_IMAGES, "data_dir", "data_check", "memory_budget"}
OWNERS = {
    "task_options": "task",
    "model_options": "model",
    "optimizer_options": "optimizer",
    "schedule_options": "learning_rate_schedule",
}
# These need one-hot labels, and therefore the other `loss`, which is the same function.
NEED_ONE_HOT = {"label_smoothing", "augmentation.mixup", "augmentation.cutmix"}
CODE = "experiment.py"


class Change(NamedTuple):
    """A setting that differs from that of the parent run; its two values in words."""

    key: str
    old: str
    new: str


class Gain(NamedTuple):
    """Accuracy on validation minus that of the parent run: a share, and its 95% interval."""

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
        started: When it started.
        status: One of `STATUSES`.
        reason: Why it has no result, or a remark on it, as a `Sentence`; "" if there is nothing to say.
        config: Its settings; None for a damaged run.
        settings: What decides the result: each setting and each option (`model_options.dropout`) in words.
        given: Names of the options that were given; the others are defaults.
        images: Hash of its training and validation images; "" if it is not known.
        accuracy, low, high: Accuracy on validation, a share, and Wilson's 95% interval; None if it has none.
        val_images: The number of images behind this accuracy.
        test_uses: How often its test split has been used.
        parent: The run that it came from.
        changes: What differs from the parent, except the seed.
        gain: The difference from the parent; None if there is none.
        no_gain: Why there is none, a `Sentence`.
    """

    path: Path
    started: datetime
    status: str
    reason: str = ""
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

    @property
    def name(self) -> str:
        path = self.path.absolute()
        return f"{path.parent.name}/{path.name}"

    @property
    def has_result(self) -> bool:
        return self.status == "finished" and self.accuracy is not None

    @property
    def has_other_seed(self) -> bool:
        """Whether its seed differs from its parent's."""
        return self.parent is not None and self.parent.config.seed != self.config.seed


def read_log(folder: str | Path | None = None) -> list[LoggedRun]:
    """Reads all runs of a folder, the oldest first.

    Args:
        folder: Where the runs are kept (by default the variable `PBL_RUNS`, otherwise `runs`), or the folder of one experiment.

    Returns:
        One entry for each run, also for those that failed, have not ended or are damaged.

    Raises:
        InputError: There is no such folder, it is a single run, or it contains no run.

    Example:
        >>> import pbl
        >>> [entry.name for entry in pbl.read_log("runs/mine")]
        ['mine/001']
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
            "There is no folder {folder}. Give the folder that contains the runs, or train one first: python -m pbl train.",
            folder=folder,
        )
    below = [path for path in list_folder(folder) if not path.name.startswith(".")]
    below += [path for above in below for path in list_folder(above)]
    paths = {path for path in below if any(is_there(path / name) for name in ("config.json", "environment.json"))}
    if not paths:
        raise InputError("{folder} contains no runs. Train one first: python -m pbl train.", folder=folder)
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
        return LoggedRun(path, started, "damaged", Sentence(error.template, **error.fields))
    if status == "running" and not _is_live(run):
        status = "cut off"
    reason = ""
    if status == "failed":
        reason = Sentence("{reason}", reason=str(environment.get("reason") or "").removeprefix("InputError: "))
    elif status != "finished":
        whole = config.epochs + config.fine_tune_epochs
        reason = Sentence("{done} of {epochs} epochs", done=_count_epochs(run), epochs=whole)
    elif environment.get("diverged"):
        reason = Sentence("diverged in {where}", where=str(environment.get("diverged_at") or "?"))
    settings, given = describe_settings(config, environment.get("builder_options"), path / CODE)
    images = environment.get("images")
    images = images if isinstance(images, str) else ""
    entry = LoggedRun(path, started, status, reason, config, settings, given, images, test_uses=test_uses)
    if known := read_accuracy(run, "val"):
        accuracy, low, high, n = known
        return replace(entry, accuracy=accuracy, low=low, high=high, val_images=n)
    if status != "finished":
        return entry
    told = Sentence("metrics_val.json is missing or damaged") if config.is_classifier else _read_score(run)
    return replace(entry, reason=told)


def _read_score(run: Run) -> str:
    """The measure by which a run of another task than classification is judged, with its value; it is not an accuracy."""
    with contextlib.suppress(InputError):
        metrics = run.read_json("metrics_val.json")
        name = metrics.get("headline")
        if name is None:
            return Sentence("task={task}", task=run.config.task)
        value = metrics["metrics"].get(name) if isinstance(metrics.get("metrics"), dict) else None
        if isinstance(name, str) and isinstance(value, (int, float)):
            return Sentence("task={task}, {metric} {value:.4g}", task=run.config.task, metric=name, value=value)
    return Sentence("metrics_val.json is missing or damaged")


def read_accuracy(run: Run, split: str) -> tuple[float, float, float, int] | None:
    """Reads a run's accuracy on a split, Wilson's 95% interval, and the number of images; None if it is not known."""
    with contextlib.suppress(InputError):
        metrics = run.read_json(f"metrics_{split}.json")
        accuracy, n = metrics.get("accuracy"), metrics.get("images")
        if isinstance(accuracy, (int, float)) and isinstance(n, int) and 0 < n < 10**9 and 0 <= accuracy <= 1:
            return float(accuracy), *wilson_interval(round(accuracy * n), n), n
    return None


def _read_time(text: Any, path: Path) -> datetime:
    """When a run started, as it says; otherwise when its folder was last written to."""
    with contextlib.suppress(ValueError, TypeError, OverflowError, OSError):
        return datetime.fromisoformat(text).astimezone()
    with contextlib.suppress(OSError):  # moved away in the meantime
        return datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    return datetime.fromtimestamp(0).astimezone()


def _is_live(run: Run) -> bool:
    try:
        return run.is_live
    except OSError:  # no permission to read it
        return False


def _count_epochs(run: Run) -> int:
    try:
        return len(run.read_table("history.csv"))
    except (FileNotFoundError, InputError):
        return 0


def _shorten(text: Any, most: int) -> str:
    """A text on one line, with printable letters only."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return shorten(" ".join(printable.split()), most)


def describe_settings(
    config: Config, builder_options: Any = None, experiment: Path | None = None
) -> tuple[dict[str, str], frozenset[str]]:
    """Returns the settings that decide a result, in words, and which of the options were given.

    Args:
        config: The settings.
        builder_options: The options of the model's builder with its defaults, as `environment.json` keeps them.
        experiment: The run's `experiment.py`, whose own code is a setting too.
    """
    # positive_class changes no network and no accuracy, and follows from the data set.
    aside = ("seed", "experiment", "positive_class")
    decided = {name: value for name, value in config.decides().items() if name not in aside}
    given = {name for name in flatten(decided) if "." in name}
    defaults = {
        "model_options": builder_options if isinstance(builder_options, dict) else {},
        "augmentation": Augmentation().model_dump(),
    }
    decided |= {name: {**values, **decided[name]} for name, values in defaults.items()}
    decided["callbacks"] = ",".join(config.callbacks) or None
    settings = {name: as_word(value) for name, value in flatten(decided).items()}
    if experiment and (code := hash_own_code(experiment, config)):
        settings[CODE] = f"code {code}"
        given.add(CODE)
    return settings, frozenset(given)


def _find_parents(runs: list[LoggedRun]) -> list[LoggedRun]:
    """Enters the run that each came from, and what differs from it."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    column = {key: number for number, key in enumerate(keys)}
    codes: dict[str, int] = {}
    words = np.array(
        [[codes.setdefault(run.settings.get(key, UNSET), len(codes)) for key in keys] for run in runs], np.int32
    ).reshape(len(runs), len(keys))
    unset = codes.get(UNSET, -1)
    given = np.array([[key in run.given for key in keys] for run in runs], bool).reshape(words.shape)
    of_the_images = [column[key] for key in keys if key in OF_THE_IMAGES]
    one_hot = [column[key] for key in keys if key in NEED_ONE_HOT]
    owner = {column[key]: column[OWNERS[key.partition(".")[0]]] for key in keys if key.partition(".")[0] in OWNERS}

    def compare(at: int, others: list[int]) -> np.ndarray:
        """`bool [others, keys]`: which settings differ from those of run `at`."""
        differs = words[others] != words[at]
        in_any = given[others] | given[at]
        for option, owned_by in owner.items():  # the defaults of two models are not related
            # Nor is it a change if a builder has an option now that it did not have then.
            in_both = (words[others, option] != unset) & (words[at, option] != unset)
            differs[:, option] &= in_any[:, option] | (in_both & ~differs[:, owned_by])
        if "loss" in column:
            differs[:, column["loss"]] &= ~differs[:, one_hot].any(axis=1)
        same = np.array([runs[other].images == runs[at].images for other in others])
        differs[np.ix_(same, of_the_images)] = False
        return differs

    def is_own_change(key: str, at: int, other: int, changed: set[str]) -> bool:
        """False for an option, or code, that differs only because it belongs to another model or the like."""
        where = column[key]
        if key == CODE:
            if not (given[at, where] and given[other, where]):
                return False
            # Other settings use other code of the same file.
            return runs[at].settings[CODE] != f"code {hash_own_code(runs[other].path / CODE, runs[at].config)}"
        owned_by = OWNERS.get(key.partition(".")[0])
        return owned_by not in changed or bool(given[at, where] and given[other, where])

    entries: list[LoggedRun] = []
    earlier: dict[str, list[int]] = {}  # earlier runs with a result, by images
    places: dict[
        Any, int
    ] = {}  # by folder, and by the folder's last two names, since it may be named from another place
    for at, run in enumerate(runs):
        others = earlier.get(run.images, []) if run.images else []
        if run.config is not None and run.config.initial_weights:
            named = _find_named(run.config.initial_weights, places)
            others = others if named is None else [named]
        if run.config is not None and others:
            differs = compare(at, others)
            # Among several nearest ones, the one with the same seed, then the latest.
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
    """The index of the run whose weights another run started with; `places` as in `_find_parents`."""
    path = Path(weights)
    path = path.parent if path.suffix == ".h5" else path
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no folder can have such a name
        return places.get(path.expanduser().resolve(), places.get(path.parts[-2:]))
    return None


def _describe_change(key: str, parent: LoggedRun, run: LoggedRun, changed: Sequence[str]) -> Change:
    """A change, with the options that belong to the other model, optimizer or schedule and are not changes of their own."""

    def word(of: LoggedRun) -> str:
        mine = [option for option in of.given if OWNERS.get(option.partition(".")[0]) == key and option not in changed]
        options = ", ".join(f"{option.partition('.')[2]}={of.settings[option]}" for option in sorted(mine))
        return of.settings.get(key, UNSET) + (f" ({options})" if options else "")

    return Change(key, word(parent), word(run))


class Judged(NamedTuple):
    """The validation images, in the order of their contents: the first letters of the hash, the label, whether it was found."""

    hashes: np.ndarray
    labels: np.ndarray
    correct: np.ndarray


def read_judged(path: Path) -> Judged | None:
    """Reads which validation images a run got right; None if its predictions are missing or damaged."""
    try:
        hashes, labels, correct = Run(path).read_predictions("val").by_content()
    except InputError:
        return None
    return Judged(hashes.astype("S16"), labels, correct)  # as many letters as split.json keeps


def _find_gains(runs: list[LoggedRun]) -> list[LoggedRun]:
    """Enters the difference from the run that each came from, or why there is none."""
    read = functools.lru_cache(maxsize=256)(read_judged)
    found = [_subtract(run, read) for run in runs]
    return [replace(run, gain=gain, no_gain=reason) for run, (gain, reason) in zip(runs, found, strict=True)]


def _subtract(run: LoggedRun, read: Callable[[Path], Judged | None]) -> tuple[Gain | None, str]:
    """The difference from the run that it came from, or why there is none."""
    parent = run.parent
    if not run.has_result:
        return None, Sentence("it has no result")
    if not run.images:
        return None, Sentence("its images are not known")
    if parent is None:
        return None, Sentence("the first result on its images and split")
    if parent.images != run.images:
        return None, Sentence("other images or another split than {parent}", parent=parent.name)
    if not parent.has_result:
        return None, Sentence("{parent} has no result", parent=parent.name)
    ours, theirs = read(run.path), read(parent.path)
    for of, judged in ((run, ours), (parent, theirs)):
        if judged is None:
            return None, Sentence("predictions_val.npz of {run} is missing or damaged", run=of.name)
    if not (np.array_equal(ours.hashes, theirs.hashes) and np.array_equal(ours.labels, theirs.labels)):
        return None, Sentence("{parent} was evaluated on other validation images", parent=parent.name)
    both, only_ours, only_theirs = (
        int(np.count_nonzero(which))
        for which in (ours.correct & theirs.correct, ours.correct & ~theirs.correct, theirs.correct & ~ours.correct)
    )
    n = len(ours.labels)
    return Gain((only_ours - only_theirs) / n, *paired_interval(both, only_ours, only_theirs, n)), ""


def describe_changes(run: LoggedRun, language: str = "en") -> str:
    """Says what a run changed compared with the one that it came from; "" if that is not known."""
    if len(run.changes) < 2:
        return list_changes(run, language)
    note = say(
        "({count} changes at once: it is not known which of them had the effect)", language, count=len(run.changes)
    )
    return f"{list_changes(run, language)} {note}"


def list_changes(run: LoggedRun, language: str = "en") -> str:
    """What a run changed, without a remark on how many changes came at once."""
    if run.parent is None:
        return ""
    words = [
        say("own code in experiment.py", language)
        if key == CODE
        else f"{key}: {_shorten(old, LONGEST_VALUE)} -> {_shorten(new, LONGEST_VALUE)}"
        for key, old, new in run.changes
    ]
    if run.has_other_seed:
        words.append(say("another seed", language))
    return "; ".join(words) or say("nothing: the same settings and seed", language)


def describe_accuracy(run: LoggedRun, language: str = "en") -> str:
    """Accuracy on validation with its interval, in percent; a dash if there is none."""
    if run.accuracy is None:
        return "–"
    accuracy, low, high = (format_share(share).removesuffix("%") for share in (run.accuracy, run.low, run.high))
    return say("{accuracy}% ({low} to {high})", language, accuracy=accuracy, low=low, high=high)


def describe_gain(run: LoggedRun, language: str = "en") -> str:
    """The difference with its interval, in points; a dash and the reason if there is none."""
    if run.gain is None:
        return "– " + say_sentence(run.no_gain, language) if run.has_result else "–"
    difference, low, high = (100 * value for value in run.gain)
    return say("{difference:+.1f} ({low:+.1f} to {high:+.1f})", language, difference=difference, low=low, high=high)


def describe_status(run: LoggedRun, language: str = "en") -> str:
    """The status, and why a run has no result."""
    status = say(STATUSES[run.status], language)
    reason = _shorten(say_sentence(run.reason, language), LONGEST_REASON)
    return f"{status}: {reason}" if run.reason else status


def make_table(runs: Sequence[LoggedRun], language: str = "en") -> tuple[list[str], list[tuple[str, ...]]]:
    """Returns the log's header and rows, one row for each run, for people to read.

    Args:
        runs: As `read_log` returns them.
        language: Such as "en" or "ja".
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
            say("{uses} {uses:time|times}", language, uses=run.test_uses) if run.test_uses else "",
        )
        for run in runs
    ]
    return [say(word, language) for word in HEADER], rows


def make_records(runs: Sequence[LoggedRun]) -> list[dict[str, Any]]:
    """Returns the log for scripts: one dictionary for each run; shares, not percent; None for what is not known."""
    records = []
    for run in runs:
        difference, low, high = run.gain or (None, None, None)
        records.append(
            {
                "run": run.name,
                "started": run.started.isoformat(timespec="seconds"),
                "status": run.status,
                "reason": say_sentence(run.reason),
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
                "no_difference": say_sentence(run.no_gain),
                "test_uses": run.test_uses,
            }
        )
    return records


def write_csv(runs: Sequence[LoggedRun], file: str | Path) -> None:
    """Writes the records to a CSV file that Excel reads, with the changes as words; completely or not at all."""
    rows = [{**record, "changes": describe_changes(run)} for record, run in zip(make_records(runs), runs, strict=True)]
    with replacing(Path(file)) as temporary, temporary.open("w", newline="", encoding="utf-8-sig") as table:
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: for_csv(value) for name, value in row.items()} for row in rows)


def plot_log(runs: Sequence[LoggedRun], language: str = "en", most: int = 40) -> Any:
    """Draws what each run gained or lost compared with the run that it came from, as a matplotlib `Figure`.

    Args:
        runs: As `read_log` returns them.
        language: Such as "en" or "ja"; English if no font has Japanese letters.
        most: How many runs are drawn at most: the last ones that can be compared.

    Raises:
        InputError: No run can be compared with another one.
    """
    from pbl.reports.drawing import choose_caption_language
    from pbl.reports.figures import plot_gains

    language = choose_caption_language(language)
    compared = [run for run in runs if run.gain is not None]
    count, compared = len(compared), compared[-most:]
    if not compared:
        raise InputError("No run can be compared with an earlier one yet: there is no picture to draw.")
    title = say("What each change gained or lost on validation", language)
    if count > most:
        title += say(" (the last {most} of {n})", language, most=most, n=count)
    return plot_gains(
        [f"{run.name}: {list_changes(run, language)}" for run in compared],
        [run.gain for run in compared],
        title,
        say(
            "accuracy minus that of the parent run [points], 95% interval; open circles: more than one change at once",
            language,
        ),
        [len(run.changes) > 1 for run in compared],
        say(ONE_SEED, language),
    )
