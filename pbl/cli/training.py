"""`train` and `find-rate`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from pbl.cli.evaluation import show_diagnosis
from pbl.cli.options import (
    PICTURES,
    AsJson,
    Engine,
    ExperimentFile,
    NoCode,
    RunsOption,
    Settings,
    Trust,
    Workers,
    check_file,
    choose_code,
    is_spread,
    load_config,
    spread,
)
from pbl.cli.screen import format_number, print_table, print_text, quiet_tensorflow
from pbl.errors import InputError
from pbl.languages import choose_screen_language, say, say_sentence
from pbl.storage.escapes import for_shell
from pbl.storage.reading import UnreadableFile
from pbl.storage.writing import find_failure
from pbl.training.workers import is_worker


def train(
    experiment: ExperimentFile = None,
    settings: Settings = None,
    fresh: Annotated[
        bool, Option("--fresh", help="Start a new run, even if there is an unfinished run with these settings.")
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Run one batch through the whole pipeline as a check; nothing is kept.")
    ] = False,
    memorise: Annotated[
        int | None,
        Option(
            min=2,
            max=1024,
            metavar="IMAGES",
            help="Check whether the model can memorise this number of images (32). Nothing is kept.",
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        Option(
            metavar='"KEY=VALUE,VALUE ..."',
            help="One run for each combination of these settings, such as learning_rate=0.1,0.01.",
        ),
    ] = None,
    seeds: Annotated[int, Option(min=1, help="The number of runs, with consecutive seeds.")] = 1,
    learning_curve: Annotated[
        bool,
        Option(
            "--learning-curve", help="Check whether more data would help: train on 1/8, 1/4, 1/2 and all of the images."
        ),
    ] = False,
    search: Annotated[
        str | None,
        Option(
            metavar='"KEY=LOW..HIGH ..."',
            help="Search for good settings, with Optuna, such as learning_rate=log:1e-3..0.3 optimizer=sgd,adamw.",
        ),
    ] = None,
    trials: Annotated[int, Option(help="With --search: the number of trials, including those of earlier calls.")] = 30,
    minutes: Annotated[
        float | None, Option(help="With --search: no trial begins after this number of minutes.")
    ] = None,
    pruner: Annotated[
        Literal["median", "hyperband", "none"],
        Option(
            help="With --search: the rule that stops a run if it is worse than earlier runs were at the same epoch."
        ),
    ] = "median",
    workers: Workers = 1,
    engine: Engine = "processes",
    runs: RunsOption = None,
    trust: Trust = False,
    no_code: NoCode = False,
) -> int:
    """Train one run, and evaluate it on validation. The same command resumes an interrupted run."""
    choose_code([experiment], trust, no_code)
    config = load_config(experiment, settings)
    is_sweep = sweep is not None or (seeds > 1 and not learning_curve)
    if sum((is_sweep, learning_curve, search is not None, fresh, dry_run, memorise is not None)) > 1:
        raise InputError(
            "Give one of --sweep (or --seeds), --search, --learning-curve, --fresh, --dry-run and --memorise."
        )
    if search is None and (trials != 30 or minutes is not None or pruner != "median"):
        raise InputError("--trials, --minutes and --pruner are for --search.")
    if is_spread(workers, engine) and not (is_sweep or learning_curve or search is not None):
        raise InputError("--workers and --engine are for several runs: --sweep, --seeds, --search or --learning-curve.")
    if search is not None:
        return _search(config, search, trials, minutes, pruner, workers, engine, runs)
    if learning_curve:
        return _measure_learning_curve(config, seeds, workers, engine, runs)
    if is_sweep:
        return _sweep(config, sweep, seeds, workers, engine, runs)
    with quiet_tensorflow():
        from pbl.training import run as training
        from pbl.training import trials
    if memorise is not None:
        accuracy, steps, count = trials.memorise(config, memorise)
        print(say_sentence(trials.describe_memorising(config, accuracy, count, steps)))
        return 0 if accuracy >= trials.MEMORISED else 1
    if dry_run:
        run = trials.dry_run(config, runs)
        told = "The whole pipeline runs: {model} on {source}. Nothing was kept."
        print(say(told, model=run.config.model, source=run.split["source"]))
        return 0
    return _show_run(training.train(config, folder=runs, fresh=fresh))


def _sweep(config, text: str | None, seeds: int, workers: int, engine: str, folder: str | None) -> int:
    with quiet_tensorflow():
        from pbl.training import sweep
    planned = sweep.plan_sweep(config, sweep.parse_sweep(text) if text is not None else {}, seeds)
    spread(workers, engine)
    table, file = sweep.run_sweep(planned, folder)
    if is_worker():
        return _find_status(table["status"])
    status = _show_runs(table.drop(columns=["reason", "epochs", "val_log_loss", "best_epoch", "seconds"]))
    finished = [path for path, of in zip(table["run"], table["status"], strict=True) if of == "finished"]
    if status != 130 and len(finished) > 1 and config.is_classifier:
        from pbl.cli.comparison import show_comparison
        from pbl.comparison import compare, find_runs, write_results

        try:
            result = compare(find_runs(finished))
        except InputError as error:  # these settings change the images
            print(say_sentence(error))
        else:
            show_comparison(result)
            files = [file, *write_results(result, file.with_suffix(""))]
            print(say("Written: {file}", file=", ".join(map(str, files))))
            return status
    print(say("Table: {file}", file=file))
    return status


def _search(
    config, text: str, trials: int, minutes: float | None, pruner: str, workers: int, engine: str, folder: str | None
) -> int:
    with quiet_tensorflow():
        from pbl.training import study
        from pbl.training.space import parse_space
    study.check_optuna()
    space = parse_space(text, config)
    study.check_size(space, trials, minutes)
    if is_spread(workers, engine) and not is_worker():
        study.Study(config, space, folder=folder)  # a conflict with the journal is reported once, not by each worker
    spread(workers, engine)
    found = study.search(config, space, trials, minutes=minutes, pruner=pruner, folder=folder)
    if is_worker() or found.is_interrupted:
        return 130 if found.is_interrupted else 0
    return _show_search(found, space, config)


def _show_search(found, space, config) -> int:
    from pbl.cli.comparison import show_comparison
    from pbl.comparison import compare, write_results
    from pbl.storage.writing import replacing
    from pbl.training.study import describe_winner
    from pbl.training.study_figures import draw_search

    shown = found.table.drop(columns=["reason"]).astype(object).where(found.table.notna(), "")
    print_table(list(shown.columns), [tuple(map(_shorten, row)) for row in shown.itertuples(index=False)])
    told = "{trials} trials: {finished} finished, {pruned} pruned, {failed} failed."
    statuses = found.table["status"]
    counts = {name: int((statuses == name).sum()) for name in ("finished", "pruned", "failed")}
    print(say(told, trials=len(statuses), **counts))
    pictures, files = [], [found.file]
    for name, figure in draw_search(found, space, config.experiment):
        pictures.append(found.file.with_name(f"search_{name}.png"))
        with replacing(pictures[-1]) as temporary:
            figure.savefig(temporary, dpi=120)
    if not found.seeds:
        print(say("No trial has finished: allow more trials, or use another space."))
        return 1
    runs = [run for of_trial in found.seeds.values() for run in of_trial]
    if len(runs) > 1:
        try:
            result = compare(runs)
        except InputError as error:  # the task has no values for each image
            print(say_sentence(error))
        else:
            show_comparison(result)
            files += write_results(result, found.file.with_suffix(""))
    for sentence in describe_winner(found):
        print_text(say_sentence(sentence), 2, "- ")
    print(say("Written: {file}", file=", ".join(map(str, files))))
    if pictures:
        print(say("Pictures: {files}", files=", ".join(map(str, pictures))))
    return 0


def _measure_learning_curve(config, seeds: int, workers: int, engine: str, folder: str | None) -> int:
    with quiet_tensorflow():
        from pbl.training.learning_curve import measure_learning_curve
    spread(workers, engine)
    found = measure_learning_curve(config, seeds, folder)
    if is_worker():
        return _find_status(found.table["status"])
    status = _show_runs(
        found.table.filter(("arm", "share", "train_fraction", "images", "seed", "val_accuracy", "run", "status"))
    )
    print(say_sentence(found.message))
    print(say("Table: {file}", file=found.file))
    if found.picture:
        print(say("Picture: {file}", file=found.picture))
    return status


# Columns of a table of runs, in words; settings keep their names, which are typed.
COLUMNS = {"run": "run", "status": "status", "val_accuracy": "validation accuracy", "images": "images"}


def _show_runs(shown) -> int:
    """Prints some columns of a table of runs; returns the exit status that follows from their statuses."""
    shown = shown.astype(object).where(shown.notna(), "")
    status = _find_status(shown["status"])
    shown["status"] = shown["status"].map(say)
    headings = [say(COLUMNS[name]) if name in COLUMNS else name for name in shown.columns]
    print_table(headings, [tuple(map(_shorten, row)) for row in shown.itertuples(index=False)])
    return status


def _find_status(statuses) -> int:
    """The exit status that follows from the statuses of runs."""
    statuses = set(statuses)
    return 130 if "interrupted" in statuses else 1 if "failed" in statuses else 0


def _shorten(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}" if value.is_integer() else f"{value:.4f}"


def _show_run(run) -> int:
    try:
        return _describe_run(run)
    except (OSError, UnreadableFile) as error:
        if find_failure(error) is None and getattr(error, "is_damaged", True):
            raise
        # The training itself has ended: the same command would train once more.
        reason = error.reason if isinstance(error, UnreadableFile) else error.strerror
        told = "The training has ended and {run} is kept, but cannot be read now: {reason}. Show it later: python -m pbl evaluate {run}"
        print(say(told, run=for_shell(run.path), reason=reason), file=sys.stderr)
        return 0


def _describe_run(run) -> int:
    environment = run.environment
    epochs = environment["epochs"]
    if environment["status"] != "finished":
        told = "{done} of {all} epochs are done. The best model so far: python -m pbl evaluate {run}"
        if not epochs:
            told = "No epoch is done: there is nothing to evaluate yet."
        planned = run.config.epochs + run.config.fine_tune_epochs
        print(say(told, done=epochs, all=planned, run=for_shell(run.path)))
        return 130 if environment["status"] == "interrupted" else 0
    metrics = run.read_json("metrics_val.json")
    if "metrics" not in metrics:  # judged like classification
        accuracy, (low, high), images = metrics["accuracy"], metrics["accuracy_interval"], metrics["images"]
        of_accuracy = "{accuracy:.4f} (95% interval {low:.4f} to {high:.4f}, {images:,} images)"
        of_epoch = "{best} of {all} (lowest validation loss; this model is kept)"
        judged = [
            (say("validation accuracy"), say(of_accuracy, accuracy=accuracy, low=low, high=high, images=images)),
            (say("validation log loss"), say("{value:.4f} nats", value=metrics["log_loss"])),
        ]
    else:
        of_epoch = "{best} of {all} (this model is kept)"
        judged = [
            (say("validation {metric}", metric=name), format_number(value))
            for name, value in metrics["metrics"].items()
        ]
    rows = [
        *judged,
        (say("best epoch"), say(of_epoch, best=environment["best_epoch"], all=epochs)),
        (say("seconds"), say(", ").join(f"{say(name)} {value:.1f}" for name, value in environment["seconds"].items())),
        (say("model"), str(next(run.path.glob("best.keras"), run.path / "best.weights.h5"))),
        (say("figures"), str(run.path / "figures")),
        (say("at the end"), f"python -m pbl evaluate {for_shell(run.path)} --split test"),
    ]
    print_table(["", run.name], rows)
    from pbl.diagnosis.by_task import DIAGNOSES, diagnose_run

    if run.config.task not in DIAGNOSES:
        return 0
    show_diagnosis(diagnose_run(run), choose_screen_language())
    return 0


def find_rate(
    experiment: ExperimentFile = None,
    settings: Settings = None,
    lowest: Annotated[
        float | None, Option(help="First learning rate; by default 1e-4 for SGD, 1e-6 for others.")
    ] = None,
    highest: Annotated[float | None, Option(help="Last learning rate; by default 3 for SGD, 0.3 for others.")] = None,
    steps: Annotated[int, Option(min=20, help="The number of steps from the first to the last rate.")] = 120,
    output: Annotated[Path, Option(metavar="FILE.png", help="File for the picture.")] = Path("learning_rate.png"),
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
) -> int:
    """Try increasing learning rates, and suggest one."""
    choose_code([experiment], trust, no_code)
    check_file("--output", output, PICTURES)
    config = load_config(experiment, settings)
    if config.task not in ("classification", "segmentation", "detection"):  # other tasks have their own losses
        config.check_is_classifier("find-rate")
    with quiet_tensorflow():
        from pbl.models import MODELS
        from pbl.models.slips import tell_slips
        from pbl.reports.drawing import caption
        from pbl.runs import runs_folder
        from pbl.storage.writing import replacing
        from pbl.tasks import open_data
        from pbl.training import run as training
        from pbl.training import trials
        from pbl.training.figures import plot_learning_rates
    with tell_slips(runs_folder() / config.experiment, MODELS.get(config.model)):
        data = open_data(config)
        model, _ = training.build_and_compile(config, data)
        trial = trials.find_learning_rate(model, data, lowest=lowest, highest=highest, steps=steps)
    fields = {"model": config.model, "dataset": data.name, "optimizer": config.optimizer}
    title = caption("{model} on {dataset}, {optimizer}", **fields)
    with replacing(output) as temporary:
        plot_learning_rates(trial.table, trial.suggestion, title).savefig(temporary, dpi=120)
    if as_json:
        print(json.dumps({"suggestion": trial.suggestion, "remark": trial.remark, "picture": str(output)}))
    else:
        if trial.suggestion is not None:
            told = "Suggested: learning_rate={suggestion:g} (now {now:g})."
            print(say(told, suggestion=trial.suggestion, now=config.learning_rate))
        if trial.remark:
            print(say_sentence(trial.remark))
        print(say("Picture: {file}", file=output))
    return 0 if trial.suggestion is not None else 1
