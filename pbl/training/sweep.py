"""Several runs of one experiment: every combination of some settings, each with several seeds."""

import contextlib
import hashlib
import itertools
import json
import re
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from pbl.config import Config, apply_overrides, parse_overrides, run_experiment_file
from pbl.errors import InputError, Sentence
from pbl.languages import say_sentence
from pbl.runs import Run, find_finished, find_unfinished, runs_folder
from pbl.storage.lock import FolderLock, InUse
from pbl.storage.trust import is_code_left_out
from pbl.storage.writing import replacing, temporary_folder, write_table
from pbl.training.run import train

POLL_SECONDS = 5  # seconds between two checks of runs that other processes train


def parse_sweep(text: str) -> dict[str, list[str]]:
    """Turns `"learning_rate=0.1,0.01 model_options.widths=[64],[64,32]"` into the values of each setting, as words.

    Raises:
        InputError: It does not have that form, or names a setting or a value twice.
    """
    values: dict[str, list[str]] = {}
    for word in text.split():
        key, equals, listed = word.partition("=")
        found = re.split(r",(?![^\[(]*[\])])", listed)  # not at commas inside brackets
        if not (key and equals and all(found)):
            raise InputError("'{word}' is not of the form key=value,value, such as learning_rate=0.1,0.01.", word=word)
        if key in values or len({str(parse_overrides([f"{key}={value}"])) for value in found}) < len(found):
            raise InputError("'{word}': {key} or one of its values is given twice.", word=word, key=key)
        values[key] = found
    if not values:
        raise InputError('The sweep names no setting. Give one, for example: --sweep "learning_rate=0.1,0.01".')
    return values


def plan_sweep(config: Config, values: dict[str, list[str]], seeds: int) -> list[tuple[dict[str, Any], Config]]:
    """Returns, for every run, the values that are swept and the settings; seeds count up from that of `config`.

    Raises:
        InputError: A setting is unknown or a value out of range.
    """
    if "seed" in values and seeds > 1:
        raise InputError("The seeds are given twice: by the sweep and by --seeds.")
    runs = []
    for combination in itertools.product(*values.values()):
        swept = dict(zip(values, combination, strict=True))
        changed = apply_overrides(config, [f"{key}={value}" for key, value in swept.items()])
        for seed in range(changed.seed, changed.seed + seeds):
            one = changed.replace(seed=seed)
            runs.append(({**swept, "seed": seed}, one))
    return runs


def tell_progress(line: str) -> None:
    """Prints a line of progress, in the reader's language."""
    print(f"\n{say_sentence(line)}", flush=True)


def run_sweep(
    runs: Iterable[tuple[dict[str, Any], Config]],
    folder: str | Path | None = None,
    tell: Callable[[str], None] = tell_progress,
) -> tuple[pd.DataFrame, Path]:
    """Trains the runs one after another. Finished runs are not trained again; interrupted runs are resumed; failed ones are recorded.

    Args:
        runs: As `plan_sweep` returns them.
        folder: Where runs are kept, as for `train`.
        tell: Called with each line of progress.

    Returns:
        One row for each run, in the order of the plan, and the file `sweep_<settings>_<plan>.csv` with these rows: the swept settings, `run`, `status`,
        `val_accuracy`, `val_log_loss`, `best_epoch`, `epochs`, `seconds` of `fit`, `reason` of a failure. If Ctrl-C
        ended it, a row has a run that is "interrupted".
    """
    runs = list(runs)
    # Named by the swept settings, and by all settings except the seed: so another sweep does not replace it, and more seeds extend it.
    plan = sorted({str({**config.decides(), "seed": 0}) for _, config in runs})
    swept = [key.rpartition(".")[2] for key in runs[0][0] if key != "seed"]
    name = "_".join(["sweep", *swept, hashlib.sha256("\n".join(plan).encode()).hexdigest()[:6]])
    file = runs_folder(folder) / runs[0][1].experiment / f"{name}.csv"
    place = {id(config): number for number, (_, config) in enumerate(runs)}
    rows: dict[int, dict[str, Any]] = {}
    table = pd.DataFrame()
    for config, run, reason in train_each(runs, folder, tell):
        number = place[id(config)]
        rows[number] = {**runs[number][0], **_describe(run), "reason": reason}
        if reason:
            rows[number]["status"] = "failed"
        table = pd.DataFrame([rows[number] for number in sorted(rows)])
        file.parent.mkdir(parents=True, exist_ok=True)
        write_table(file, table)
    return table, file


def train_each(
    runs: Iterable[tuple[dict[str, Any], Config]],
    folder: str | Path | None = None,
    tell: Callable[[str], None] = tell_progress,
) -> Iterator[tuple[Config, Run | None, str]]:
    """Trains several runs one after another; each failure is reported and the next run begins. Ends if Ctrl-C ended a run.

    Several processes may do so in one folder, each in its own Colab: a run that another process trains is skipped, looked at again
    at the end, and its result is read.

    Args:
        runs: The swept values, for the line of progress, and the settings.
        folder, tell: As for `run_sweep`.

    Yields:
        The settings; the run, or None if none was made; and why it failed, or "". In the order of `runs`, except that runs
        that other processes trained come last.
    """
    planned = list(runs)
    waiting, passed_over, in_vain = deque(enumerate(planned, 1)), set(), 0
    while waiting:
        if in_vain > len(waiting):  # all remaining runs are being trained elsewhere
            time.sleep(POLL_SECONDS)
            in_vain = 1
        number, (swept, config) = waiting.popleft()
        settings = ", ".join(f"{key}={value}" for key, value in swept.items())
        if number not in passed_over:
            tell(Sentence("Run {number} of {all}: {settings}", number=number, all=len(planned), settings=settings))
        reason = ""
        try:
            run = train_once(config, folder)
        except InUse as error:
            if number not in passed_over:
                tell(Sentence("Skipped for now. {reason}", reason=error))
                in_vain = 0
            passed_over.add(number)
            waiting.append((number, (swept, config)))
            in_vain += 1
            continue
        except Exception as error:  # one failed run must not end a sweep of a complete night
            run, reason = find_unfinished(config, folder), f"{type(error).__name__}: {error}"
            if not isinstance(error, InputError):
                traceback.print_exc()
            told = error if isinstance(error, InputError) else reason
            tell(Sentence("It failed. {reason}", reason=told))
        in_vain = 0
        yield config, run, reason
        if run is not None and not reason and run.environment["status"] == "interrupted":
            return


def train_once(
    config: Config, folder: str | Path | None = None, prune: Callable[[int, dict[str, float]], bool] | None = None
) -> Run:
    """Returns the finished run with exactly these settings, or trains one as `train` does, with the experiment's own code.

    Args:
        config, folder, prune: As for `train`.

    Raises:
        InUse: Another process trains it now.
        InputError: As `train`.
    """
    keras.backend.clear_session()
    if (
        config.file and not is_code_left_out()
    ):  # again: another experiment may have entered other code under the same name
        run_experiment_file(config.file)
    return find_finished(config, folder) or train(config, folder=folder, prune=prune, again=False)


def plan_comparison(
    configs: Sequence[Config],
    seeds: int,
    epochs: int | None = None,
    minutes: float | None = None,
    budget_file: Path | None = None,
    tell: Callable[[str], None] = tell_progress,
    folds: int | None = None,
) -> list[tuple[dict[str, Any], Config]]:
    """Returns the runs of a comparison under an equal budget: seed by seed, so that an interrupted one has equally many runs of each.

    Args:
        configs: The experiments.
        seeds: Number of seeds for each, counted up from its own.
        epochs: The budget of each run in epochs.
        minutes: Or in minutes of training: two epochs of each are timed first, so that its learning-rate schedule ends in time.
        budget_file: Where the epochs found for `minutes` are kept, so that the same command, and other processes, continue with the
            same runs. It is next to the runs, since all who share these share it. Its folder is theirs alone.
        tell: Called with each line of progress.
        folds: For a cross-validation: each seed is trained so many times, each time with another one of so many folds as validation.

    Raises:
        InputError: The experiments' epochs differ and no budget was given; two experiments are the same.
    """
    total = {config.epochs + config.fine_tune_epochs for config in configs}
    if epochs is None and minutes is None and len(total) > 1:
        told = ", ".join(f"{config.experiment} {config.epochs + config.fine_tune_epochs}" for config in configs)
        raise InputError(
            "The experiments have different numbers of epochs ({told}): that would compare budgets. Give --epochs or --minutes for all.",
            told=told,
        )
    if epochs is not None:
        for config in configs:
            if config.fine_tune_epochs >= epochs:
                raise InputError(
                    "--epochs {epochs}: {experiment} has {tuned} epochs of fine-tuning already. Give more.",
                    epochs=epochs,
                    experiment=config.experiment,
                    tuned=config.fine_tune_epochs,
                )
        configs = [config.replace(epochs=epochs - config.fine_tune_epochs) for config in configs]
    if minutes is not None:
        with _timing(budget_file):
            configs = [_fit_to_minutes(config, minutes, budget_file, tell) for config in configs]
    settings = [str({**config.decides(), "experiment": ""}) for config in configs]
    if len(set(settings)) < len(settings):
        raise InputError(
            "Two of the experiments have exactly the same settings. Give each once; --seeds gives the number of seeds."
        )
    if folds is not None:
        configs = [config.replace(folds=folds, fold=fold) for config in configs for fold in range(folds)]
    planned = [config.replace(seed=config.seed + number) for number in range(seeds) for config in configs]
    named = ("experiment", "model", "seed", *(["fold"] if folds else []))
    return [({name: getattr(config, name) for name in named}, config) for config in planned]


def budget_file(folder: str | Path | None = None) -> Path:
    """Returns the file in which `plan_comparison` keeps the epochs that fit into minutes, in the folder of runs."""
    return runs_folder(folder) / ".budgets" / "budget.json"


def _fit_to_minutes(config: Config, minutes: float, file: Path | None, tell: Callable[[str], None]) -> Config:
    """The settings with as many epochs as fit into the time on this machine; without fine-tuning epochs."""
    key = hashlib.sha256(str((config.decides(), minutes)).encode()).hexdigest()[:16]
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.exists() else {}
    except ValueError:
        raise InputError(
            "{file} is damaged: it contained the number of epochs that fit into the minutes. Delete it, and the number is measured again.",
            file=file,
        ) from None
    if key not in known:
        with temporary_folder() as folder:
            trial = train(config.replace(epochs=2, fine_tune_epochs=0, warmup_epochs=0), folder=folder)
            seconds = float(trial.read_table("history.csv", "seconds")[-1]["seconds"])
        known[key] = min(max(1, int(60 * minutes / max(seconds, 1e-3))), 1_000_000)
        tell(
            Sentence(
                "{experiment}: {seconds:.1f} s per epoch, so {epochs} epochs in {minutes:g} minutes",
                experiment=config.experiment,
                seconds=seconds,
                epochs=known[key],
                minutes=minutes,
            )
        )
        if file is not None:
            with replacing(file) as temporary:
                temporary.write_text(json.dumps(known), encoding="utf-8")
    return config.replace(epochs=known[key], fine_tune_epochs=0)


@contextlib.contextmanager
def _timing(file: Path | None) -> Iterator[None]:
    """Inside it, no other process of the same folder times an epoch: the next one reads the result of this one."""
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(FolderLock(file.parent).hold())
                break
            except InUse:
                time.sleep(1)
        yield


def _describe(run: Run | None) -> dict[str, Any]:
    row = dict.fromkeys(("run", "status", "val_accuracy", "val_log_loss", "best_epoch", "epochs", "seconds"))
    if run is None:
        return row
    environment = run.environment
    row.update(
        run=str(run.path),
        status=environment["status"],
        best_epoch=environment.get("best_epoch"),
        epochs=environment.get("epochs"),
        seconds=environment.get("seconds", {}).get("fit"),
    )
    if environment["status"] == "finished":
        metrics = run.read_json("metrics_val.json")
        row.update(val_accuracy=metrics.get("accuracy"), val_log_loss=metrics.get("log_loss"))
    return row
