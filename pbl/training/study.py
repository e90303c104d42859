"""A search for good settings: Optuna proposes trials, each is one run; the study is in a journal file next to the runs.

Several processes can share a study, and an interrupted study can be resumed. Only two files coordinate them: the journal
records which trials there are, and a run's own lock whether somebody trains it. A trial that has not ended and whose run nobody
trains is taken over by the next process that looks, from the run's last state.
"""

import contextlib
import hashlib
import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pbl.comparison.own_code import hash_own_code
from pbl.config import Config
from pbl.errors import InputError, Sentence
from pbl.languages.forms import format_share
from pbl.runs import Run, find_unfinished, runs_folder
from pbl.storage.escapes import for_shell
from pbl.storage.lock import InUse
from pbl.storage.writing import write_table
from pbl.tasks import find_task, open_data
from pbl.training.space import (
    Range,
    Space,
    apply_settings,
    count_settings,
    describe_space,
    name_same,
)
from pbl.training.sweep import POLL_SECONDS, tell_progress, train_each, train_once

try:
    import optuna
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    optuna = None

JOURNAL = "search.journal"
STUDY = "search"
BEST = 3  # settings that are trained again
SEEDS = 3  # runs of each of them, including that of its trial: fewer cannot be told apart from chance
LOCK_SECONDS = 20  # after this time the lock of a process that was killed while it proposed a trial is broken
MOST_FAILED = 3  # trials that may fail before any has a result
FEWEST_FOR_IMPORTANCE = 10  # finished trials; with fewer a forest explains noise
Pruner = Literal["median", "hyperband", "none"]


@dataclass(frozen=True)
class Trial:
    """One trial of a study.

    Attributes:
        number: From 0, in the order in which they were proposed.
        words: The value drawn for each setting, as the command line writes it.
        status: "finished", "pruned", "failed", or "running" if it has not ended.
        score: The measure of its run on validation, with the sign that makes higher better; None if it has not finished.
        loss: The log loss on validation, which decides between equal scores; None if it is not known.
        run: The folder of its run, or "".
        reason: Why it failed, or "".
        epochs: Number of validation losses that were reported.
    """

    number: int
    words: dict[str, str]
    status: str
    score: float | None = None
    loss: float | None = None
    run: str = ""
    reason: str = ""
    epochs: int = 0


@dataclass(frozen=True)
class Found:
    """The result of `search`.

    Attributes:
        trials: All trials of the study, in their order.
        best: Those whose settings were trained again, the best first.
        seeds: The runs of each of these, by the trial's number; the first is the run of the trial.
        table: One row for each trial: `trial`, the drawn values, `run`, `status`, `val_<measure>`, `val_log_loss`, `epochs`, `reason`.
        file: The file of the table.
        journal: The file of Optuna's journal.
        importance: Share of the variance of the scores that each setting explains alone (fANOVA), 0 to 1; {} if too few have finished.
        measure: What runs are judged by, such as "accuracy".
        is_interrupted: Whether Ctrl-C ended it, or a run paused: the same command resumes it.
    """

    trials: list[Trial]
    best: list[Trial]
    seeds: dict[int, list[Run]]
    table: pd.DataFrame
    file: Path
    journal: Path
    importance: dict[str, float] = field(default_factory=dict)
    measure: str = "accuracy"
    is_interrupted: bool = False


def search(
    config: Config,
    space: Space,
    trials: int,
    *,
    minutes: float | None = None,
    pruner: Pruner = "median",
    folder: str | Path | None = None,
    tell: Callable[[str], None] = tell_progress,
) -> Found:
    """Trains trials that Optuna's TPE sampler proposes, and then the best settings with more seeds. The test split is never used.

    A trial is an ordinary run of the experiment, with the experiment's seed. After each epoch the pruner compares its
    validation loss with those of the other trials up to that epoch. The score that the sampler learns from is the run's measure on
    validation.

    Args:
        config: The settings.
        space: What is drawn, as `pbl.training.space.parse_space` returns it.
        trials: Number of trials at the end, including those of earlier calls and of other processes.
        minutes: No trial begins after so many minutes.
        pruner: "median": a run ends if its lowest loss is above the median of the others' at that epoch; "hyperband": by rungs
            of epochs, a third of each continues; "none".
        folder: Where runs are kept, as for `train`.
        tell: Called with each line of progress.

    Raises:
        InputError: Optuna is missing; there is nothing to search; the journal has a study of another space or other
            settings, or is damaged; the first trials all failed.
    """
    check_optuna()
    check_size(space, trials, minutes)
    find_task(config)
    open_data(config)  # faults of the data are reported before there is a study
    study = Study(config, space, pruner, folder)
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    is_interrupted = not study.work(trials, lambda: time.monotonic() < end, tell)
    done = study.read_trials()
    best = [] if is_interrupted else _choose_best(done)
    seeds: dict[int, list[Run]] = {}
    if best:
        tell(
            Sentence(
                "The best {n} settings are trained with {seeds} seeds each. Then the best one is chosen.",
                n=len(best),
                seeds=SEEDS,
            )
        )
        planned = [
            (
                {"trial": trial.number + 1, "seed": config.seed + more},
                study.settle(trial).replace(seed=config.seed + more),
            )
            for more in range(SEEDS)
            for trial in best
        ]
        by_settings = {str(of.decides()): told["trial"] - 1 for told, of in planned}
        for of, run, reason in train_each(planned, folder, tell):
            if run is not None and not reason:
                seeds.setdefault(by_settings[str(of.decides())], []).append(run)
                is_interrupted |= not run.is_finished
    for runs in seeds.values():
        runs.sort(key=lambda run: run.config.seed)
    table = study.tabulate(done)
    file = study.journal.with_name("search.csv")
    write_table(file, table)
    return Found(done, best, seeds, table, file, study.journal, study.importance(), study.measure, is_interrupted)


def check_optuna() -> None:
    """Raises InputError, with what to install, if Optuna is missing."""
    if optuna is None:
        raise InputError('--search needs the package optuna, which is not installed: pip install "optuna>=4.3"')


def check_size(space: Space, trials: int, minutes: float | None = None) -> None:
    """Raises InputError if the number of trials or minutes is too small, or if the space has no more settings than trials."""
    if trials < 1:
        raise InputError("--trials {trials}: give the number of trials, 1 or more.", trials=trials)
    if minutes is not None and not (minutes > 0 and math.isfinite(minutes)):
        raise InputError("--minutes {minutes:g}: give minutes above 0.", minutes=minutes)
    if (settings := count_settings(space)) <= trials:
        told = "The space has {settings} settings, and {trials} trials are enough for all of them. Train each once: --sweep, with the values instead of ranges."
        raise InputError(told, settings=int(settings), trials=trials)


class Study:
    """Optuna's study of an experiment's settings, in `search.journal` next to its runs.

    Args:
        config, space, pruner, folder: As for `search`.

    Raises:
        InputError: The journal has a study of another space or other settings, or is damaged.
    """

    def __init__(self, config: Config, space: Space, pruner: Pruner = "median", folder: str | Path | None = None):
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        self.config, self.space, self.folder = config, space, folder
        self.journal = runs_folder(folder) / config.experiment / JOURNAL
        self.measure = "accuracy" if config.is_classifier else "score"
        # Its warnings concern its own lock, which others hold for a moment.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        # Made with O_EXCL: a mounted Drive does not support symbolic links.
        lock = JournalFileOpenLock(str(self.journal), grace_period=LOCK_SECONDS)
        with self._alone():
            _mend(self.journal, lock)
            try:
                self._storage = JournalStorage(JournalFileBackend(str(self.journal), lock_obj=lock))
                stored = {"storage": self._storage, "study_name": STUDY, "pruner": _build_pruner(pruner, config)}
                if any(known.study_name == STUDY for known in self._storage.get_all_studies()):
                    self._study = optuna.load_study(**stored)
                else:
                    self._study = optuna.create_study(**stored, direction="maximize")
            except (ValueError, KeyError, TypeError) as error:
                told = "{file} is damaged ({reason}). Restore it from a copy, or move it away: then the search begins again, and no run is lost."
                raise InputError(told, file=self.journal, reason=f"{type(error).__name__}: {error}") from error
            self._check_same()

    def _check_same(self) -> None:
        """Records what the study is about; raises InputError if it is about something else."""
        settings = name_same(self.config, self.space)
        if self.config.file is not None and self.config.file.is_file():
            settings["own code"] = hash_own_code(self.config.file, self.config)
        ours = {"space": describe_space(self.space), "settings": settings}
        kept = self._study.user_attrs
        for name, value in ours.items():
            if name not in kept:
                self._study.set_user_attr(name, value)
        if kept.get("space", ours["space"]) != ours["space"]:
            told = '{file} contains a study of another space: "{space}". Use that space, or another name for the new one: experiment=NAME'
            raise InputError(told, file=self.journal, space=kept["space"])
        before, now = kept.get("settings", ours["settings"]), ours["settings"]
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                told = "{file} contains a study with {key}={before}, but now it is {now}. Use that value, or another name for the new study: experiment=NAME"
                raise InputError(told, file=self.journal, key=key, before=before.get(key), now=now.get(key))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside it, no other process proposes a trial; so every process knows all trials, and there are never too many."""
        from optuna.storages.journal import JournalFileOpenLock

        lock = JournalFileOpenLock(str(self.journal) + ".proposing", grace_period=LOCK_SECONDS)
        lock.acquire()
        try:
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # broken by another process, since this one was suspended
                lock.release()

    def work(self, trials: int, may_begin: Callable[[], bool], tell: Callable[[str], None] = tell_progress) -> bool:
        """Trains trials until there are enough and all have ended, here or in another process.

        Args:
            trials: Number of trials that there should be.
            may_begin: Returns whether another may begin now.
            tell: Called with each line of progress.

        Returns:
            Whether all have ended; False if Ctrl-C ended it, or a run paused.
        """
        has_told = False
        while True:
            trial = self._take_up() or (self._propose(trials) if may_begin() else None)
            if trial is None:
                if not any(trial.status == "running" for trial in self.read_trials()):
                    return True
                if not has_told:
                    tell(Sentence("Other processes are training the last trials: waiting for them."))
                    has_told = True
                time.sleep(POLL_SECONDS)
                continue
            settings = ", ".join(f"{key}={word}" for key, word in trial.words.items())
            tell(
                Sentence("Trial {number} of {all}: {settings}", number=trial.number + 1, all=trials, settings=settings)
            )
            if not self._train(trial, tell):
                return False

    def _take_up(self) -> Trial | None:
        """A trial that has not ended, and whose run nobody trains now."""
        for trial in self.read_trials():
            if trial.status == "running":
                run = find_unfinished(self.settle(trial), self.folder)
                if run is None or not run.is_live:
                    return trial
        return None

    def _propose(self, trials: int) -> Trial | None:
        """Enters a new trial into the journal, complete: if the process is killed before, there is no trial; after it, there is one that can be trained."""
        with self._alone():
            known = self._study.get_trials(deepcopy=False)
            number = len(known)
            if number >= trials:
                return None
            # The draw depends on the seed, the trial and those before it, not on the process.
            seed = int(hashlib.sha256(f"{self.config.seed} {number}".encode()).hexdigest()[:8], 16)
            with warnings.catch_warnings():  # in earlier versions `constant_liar` is experimental
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            distributions = {key: _as_distribution(values) for key, values in self.space.items()}
            drawn = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
            drawn.number = number
            parameters = {
                key: sampler.sample_independent(self._study, drawn, key, of) for key, of in distributions.items()
            }
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.RUNNING, params=parameters, distributions=distributions
                )
            )
            return self._describe(self._study.get_trials(deepcopy=False)[number])

    def _train(self, trial: Trial, tell: Callable[[str], None]) -> bool:
        """Trains a trial and records how it ended; returns False if it was stopped and is to be resumed later."""
        from optuna.exceptions import UpdateFinishedTrialError

        config, states = self.settle(trial), optuna.trial.TrialState
        watched, better = find_task(config).best
        study = self._storage.get_study_id_from_name(STUDY)
        identity = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)

        def prune(epoch: int, logs: dict[str, float]) -> bool:
            # The monitor's loss is measured on the same images each time, without penalties and whatever the loss function is.
            name, sign = ("val_probe_loss", -1) if "val_probe_loss" in logs else (watched, -1 if better == "min" else 1)
            if name not in logs:
                return False
            try:
                self._storage.set_trial_intermediate_value(identity, epoch, sign * float(logs[name]))
            except UpdateFinishedTrialError:  # another process has trained it to its end in the meantime
                return True
            return self._study.pruner.prune(self._study, self._storage.get_trial(identity))

        def end(state: Any, score: float | None = None, **facts: Any) -> None:
            with contextlib.suppress(UpdateFinishedTrialError):
                for name, value in facts.items():
                    self._storage.set_trial_user_attr(identity, name, value)
                self._study.tell(trial.number, score, state, skip_if_finished=True)

        try:
            run = find_unfinished(config, self.folder)
            if run is None or run.environment.get("status") != "pruned":  # pruned: its process was killed after that
                run = train_once(config, self.folder, prune)
        except InUse:
            return True
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if not isinstance(error, InputError):
                traceback.print_exc()
            tell(Sentence("It failed. {reason}", reason=error if isinstance(error, InputError) else reason))
            # For the sampler it counts as pruned without a loss, the worst result there is: it searches elsewhere.
            end(states.PRUNED, failed=True, reason=str(error) if isinstance(error, InputError) else reason)
            ended = [other.status for other in self.read_trials() if other.status != "running"]
            if len(ended) >= MOST_FAILED and set(ended) == {"failed"}:
                told = "The first {n} trials all failed; the last one failed as follows: {reason} Correct this, and move {file} away."
                raise InputError(told, n=len(ended), reason=error, file=self.journal) from error
            return True
        status = run.environment["status"]
        if status == "finished":
            score, loss = read_score(run)
            if score is None:
                end(
                    states.PRUNED,
                    failed=True,
                    reason=str(Sentence("metrics_val.json contains no score")),
                    run=run.path.name,
                )
            else:
                end(states.COMPLETE, score, run=run.path.name, **({} if loss is None else {"loss": loss}))
            return True
        if status == "pruned":
            end(states.PRUNED, run=run.path.name)
            return True
        return False

    def settle(self, trial: Trial) -> Config:
        """Returns the settings of a trial."""
        return apply_settings(self.config, trial.words)

    def read_trials(self) -> list[Trial]:
        """Returns all trials of the study as they are now, also those of other processes."""
        return [self._describe(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _describe(self, trial: Any) -> Trial:
        states, facts = optuna.trial.TrialState, trial.user_attrs
        status = {states.COMPLETE: "finished", states.PRUNED: "pruned", states.FAIL: "failed"}.get(
            trial.state, "running"
        )
        words = {
            key: values.as_word(trial.params[key]) if isinstance(values, Range) else trial.params[key]
            for key, values in self.space.items()
        }
        run = str(self.journal.parent / facts["run"]) if "run" in facts else ""
        return Trial(
            trial.number,
            words,
            "failed" if facts.get("failed") else status,
            trial.value if status == "finished" else None,
            facts.get("loss"),
            run,
            facts.get("reason", ""),
            len(trial.intermediate_values),
        )

    def tabulate(self, trials: list[Trial]) -> pd.DataFrame:
        """Returns trials as a table, one row for each."""
        return pd.DataFrame(
            [
                {
                    "trial": trial.number + 1,
                    **trial.words,
                    "run": trial.run,
                    "status": trial.status,
                    f"val_{self.measure}": trial.score,
                    "val_log_loss": trial.loss,
                    "epochs": trial.epochs,
                    "reason": trial.reason,
                }
                for trial in trials
            ]
        )

    def importance(self) -> dict[str, float]:
        """Returns the share of the scores' variance that each setting explains alone, the largest first; {} if that cannot be measured."""
        finished = [trial.score for trial in self.read_trials() if trial.status == "finished"]
        if len(finished) < FEWEST_FOR_IMPORTANCE or len(set(finished)) < 2 or len(self.space) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.config.seed)
        try:
            return optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        except (ValueError, RuntimeError):  # for example if a setting had only one value
            return {}


def read_score(run: Run) -> tuple[float | None, float | None]:
    """Returns a finished run's measure on validation, with its sign reversed if lower is better, and its log loss; None if there is none."""
    metrics = run.read_json("metrics_val.json")
    if run.config.is_classifier:
        return metrics.get("accuracy"), metrics.get("log_loss")
    value = (metrics.get("metrics") or {}).get(metrics.get("headline"))
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None, None
    return (-value if metrics.get("better") == "lower" else value), None


def describe_winner(found: Found) -> list[Sentence]:
    """Describes the settings that are called the best, the score of their trial, and how far that can be trusted.

    Args:
        found: The result of `search`; some of its best trials have been trained with more seeds.
    """
    scores = {number: [read_score(run)[0] for run in runs] for number, runs in found.seeds.items()}
    winner = max(found.best, key=lambda trial: sum(scores[trial.number]) / len(scores[trial.number]))
    own, runs = scores[winner.number], found.seeds[winner.number]
    new = own[1:]

    def tell(value: float) -> str:
        return format_share(value) if found.measure == "accuracy" else f"{abs(value):.4g}"

    best = Sentence(
        "The best by the mean over {n} seeds is trial {trial}: {settings}. Its score: {claimed} in the trial, {mean} as the mean over seeds, {new} "
        "with only the new seeds.",
        n=len(own),
        trial=winner.number + 1,
        claimed=tell(winner.score),
        mean=tell(sum(own) / len(own)),
        new=tell(sum(new) / len(new)) if new else "-",
        settings=" ".join(f"{key}={word}" for key, word in winner.words.items()),
    )
    told = (
        "The score of a trial, {claimed}, is probably too high: it is the luckiest of {finished} finished trials, chosen on the same {images:,} "
        "validation images. New seeds remove the luck of the training, but not the luck of the images. Only the test split gives an honest score, "
        "used once at the end: python -m pbl evaluate {run} --split test"
    )
    finished = sum(trial.status == "finished" for trial in found.trials)
    images = runs[0].split["images"]["val"]
    return [
        best,
        Sentence(told, claimed=tell(winner.score), finished=finished, images=images, run=for_shell(runs[0].path)),
    ]


def _choose_best(trials: list[Trial]) -> list[Trial]:
    """The finished trials with the highest scores; among equal scores those with the lower loss; of the same settings the first trial."""
    finished = {str(trial.words): trial for trial in reversed(trials) if trial.status == "finished"}.values()
    order = sorted(finished, key=lambda one: (-one.score, math.inf if one.loss is None else one.loss, one.number))
    return order[:BEST]


def _build_pruner(name: str, config: Config) -> Any:
    epochs = config.epochs + config.fine_tune_epochs
    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
    # Every run may use a fifth of its epochs: the first epochs tell a warm-up from a good start no better than chance.
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 5)


def _as_distribution(values: Any) -> Any:
    if not isinstance(values, Range):
        return optuna.distributions.CategoricalDistribution(values.words)
    if values.is_whole:
        return optuna.distributions.IntDistribution(int(values.low), int(values.high), log=values.is_log)
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.is_log)


def _mend(journal: Path, lock: Any) -> None:
    """Cuts off the incomplete line that a machine left when it crashed: Optuna would read nothing after it."""
    lock.acquire()
    try:
        if journal.exists():
            with journal.open("rb+") as file:
                held = file.read()
                if held and not held.endswith(b"\n"):
                    file.truncate(held.rfind(b"\n") + 1)
    finally:
        with contextlib.suppress(RuntimeError):  # broken by another process, since this one was suspended
            lock.release()
