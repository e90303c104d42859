"""`compare`."""

import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from pbl.cli.options import (
    AsJson,
    Engine,
    NoCode,
    RunsOption,
    Split,
    Trust,
    Workers,
    choose_code,
    is_spread,
    load_config,
    spread,
)
from pbl.cli.screen import print_json, print_table, print_text, quiet_tensorflow
from pbl.errors import InputError, Sentence
from pbl.languages import say, say_sentence
from pbl.storage.escapes import for_screen
from pbl.training.workers import is_worker

MOST_ROWS = 20  # rows of a comparison's table on the screen


def compare(
    runs: Annotated[
        list[str],
        Argument(
            metavar="RUN ...",
            help="Runs or folders of runs; with --train, experiment files and KEY=VALUE for all of them.",
        ),
    ],
    train: Annotated[
        bool,
        Option("--train", help="Train the experiments first, seed by seed. The same command resumes the training."),
    ] = False,
    models: Annotated[
        str | None,
        Option(
            metavar="NAME,NAME",
            help="With --train: each of these models, with its default options, instead of the model in the experiment.",
        ),
    ] = None,
    seeds: Annotated[int, Option(min=1, help="With --train: the number of runs of each, with consecutive seeds.")] = 5,
    folds: Annotated[
        int | None,
        Option(
            min=2,
            help="With --train: the number of folds of a cross-validation, for few images. Each image is judged once, and each seed gives one run per fold.",
        ),
    ] = None,
    epochs: Annotated[int | None, Option(min=1, help="With --train: the number of epochs of every run.")] = None,
    minutes: Annotated[
        float | None, Option(min=0.01, help="With --train: the number of minutes of every run, instead of epochs.")
    ] = None,
    workers: Workers = 1,
    engine: Engine = "processes",
    split: Annotated[
        Split,
        Option(help="Which images; runs that are not yet evaluated on test are evaluated, and each use is recorded."),
    ] = "val",
    margin: Annotated[
        float, Option(min=0, help="The smallest difference that matters to you, in points of accuracy.")
    ] = 1.0,
    baseline: Annotated[
        str | None, Option(metavar="NAME", help="Compare every architecture with this one, instead of all pairs.")
    ] = None,
    target: Annotated[
        float | None,
        Option(
            min=0, max=1, help="The target validation accuracy: the training seconds until it is reached are counted."
        ),
    ] = None,
    measure: Annotated[
        bool,
        Option(
            "--measure", help="Measure MACs, latency, throughput, memory and file size of one run of each architecture."
        ),
    ] = False,
    out: Annotated[
        Path, Option(metavar="DIR", help="Folder for results.csv, results.md, results.json and results.png.")
    ] = Path("comparison"),
    trust: Trust = False,
    no_code: NoCode = False,
    as_json: AsJson = False,
    folder: RunsOption = None,
) -> int:
    """Compare runs, or train architectures with several seeds and compare them. Only claims that the runs support are made."""
    choose_code(runs, trust, no_code)
    from pbl import comparison

    if not train and (epochs or minutes or models or folds or is_spread(workers, engine)):
        raise InputError("--epochs, --minutes, --models, --folds, --workers and --engine are for --train.")
    if folds and split == "test":
        raise InputError("The folds of a cross-validation are compared on validation: omit --split test.")
    if epochs and minutes:
        raise InputError("Give --epochs or --minutes, not both: a budget is one or the other.")
    if train:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():  # a script reads the result alone
            found, failures, status = _train_each(runs, models, seeds, folds, epochs, minutes, workers, engine, folder)
        if is_worker():
            return status
    else:
        found, failures, status = comparison.find_runs(runs), [], 0
    if split == "test":
        _evaluate_lacking(found)
    if measure:
        _measure_one_of_each(found)
    result = comparison.compare(found, split, margin=margin, baseline=baseline, target=target, failures=failures)
    files = comparison.write_results(result, out)
    if as_json:
        names = ("runs", "architectures", "pairs", "models")
        tables = {name: json.loads(getattr(result, name).to_json(orient="records")) for name in names}
        told = {"margin": margin, "split": split, "images": result.images, "measure": result.measure}
        print_json({**told, **tables, "notes": result.notes})
    else:
        show_comparison(result)
        print(say("Written: {file}", file=", ".join(map(str, files))))
    return status


def _train_each(
    words: list[str],
    models: str | None,
    seeds: int,
    folds: int | None,
    epochs: int | None,
    minutes: float | None,
    workers: int,
    engine: str,
    folder: str | None,
):
    """Returns the runs, those that failed, and the resulting exit status."""
    from pbl.comparison import Failure

    files = [word for word in words if "=" not in word or word.endswith(".py")]
    settings = [word for word in words if word not in files]
    if not files:
        raise InputError(
            "--train needs experiment files, such as experiments/mnist_mlp.py experiments/digits_resnet20.py."
        )
    configs = [load_config(file, settings) for file in files]
    if models is not None:
        names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
        configs = [
            config.replace(model=name, model_options={}, experiment=f"{config.experiment}_{name}")
            for config in configs
            for name in names
        ]
    with quiet_tensorflow():
        from pbl.models import find_builder
        from pbl.training import sweep
    for config in configs:
        find_builder(config.model)  # a slip is reported before anything is trained
    budget = sweep.budget_file(folder)
    planned = sweep.plan_comparison(configs, seeds, epochs, minutes, budget, folds=folds)
    spread(workers, engine)
    runs, failures, status = [], [], 0
    for config, run, reason in sweep.train_each(planned, folder):
        if run is None:
            failures.append(Failure(config.model, config.seed, reason))
        else:
            runs.append(run)
            if run.environment["status"] == "interrupted":
                status = 130
        status = status or (1 if reason else 0)
    return runs, failures, status


def _evaluate_lacking(runs) -> None:
    finished = [run for run in runs if run.environment.get("status") == "finished"]
    lacking = [run for run in finished if not (run.path / "predictions_test.npz").exists()]
    if lacking:
        with quiet_tensorflow():
            from pbl.evaluation import run as evaluation
        for run in lacking:
            evaluation.evaluate(run, "test")


def _measure_one_of_each(runs) -> None:
    from pbl.evaluation.measurement import measure_cost

    measured = set()
    finished = [run for run in runs if run.environment.get("status") == "finished"]
    for run in sorted(finished, key=lambda run: not (run.path / "cost.json").exists()):
        key = (run.config.model, json.dumps(run.config.model_options, sort_keys=True))
        if key not in measured and not (run.path / "cost.json").exists():
            print(say("Measuring {run}", run=run.path), file=sys.stderr, flush=True)
            measure_cost(run)
        measured.add(key)


def show_comparison(result) -> None:
    """Prints what fits on a screen with 80 columns; results.md has everything."""
    from pbl import comparison

    told = "A difference of less than {margin:g} points is treated as unimportant. {images:,} {split} images."
    if result.scale != 100:
        told = "A difference of less than {margin:g} in {measure} is treated as unimportant. {images:,} {split} images."
    split = Sentence("test") if result.split == "test" else Sentence("validation")
    print(say(told, margin=result.margin, measure=result.measure_name, images=result.images, split=split))
    architectures = comparison.show_architectures(result.architectures, result.measure)
    kept = (
        "architecture",
        "seeds",
        result.shown_name,
        "95% interval",
        "ties",
        "best with probability",
        "pre-trained",
    )
    _show_table(say("Architectures"), architectures.filter(kept))
    cost = (
        "trainable weights",
        "MACs",
        "training s",
        "s to target",
        "latency of 1 image ms",
        "images/s",
        "in batches of",
    )
    _show_table(say("Cost"), architectures.filter(("architecture", *cost)))
    pairs = comparison.show_pairs(result.pairs, result.measure)
    needed = pairs.pop("would separate them")
    _show_table(say("This architecture compared with that one (over seeds and images)"), pairs)
    of_need: dict[str, list[str]] = {}
    for first, second, need in zip(pairs["first"], pairs["second"], needed, strict=True):
        if need:
            of_need.setdefault(need, []).append(f"{first} − {second}")
    if of_need:
        print(say("What would separate them in four of five cases, if the true difference were the observed one:"))
    for need, names in of_need.items():
        more = [f"... ({len(names)})"] if len(names) > MOST_ROWS else []
        print_text(f"{say_sentence(need)}: {', '.join(names[:MOST_ROWS] + more)}", 2, "- ")
    models = comparison.show_models(result.models, result.measure)
    title = say("This trained model compared with that one (over the images only)")
    if models["first"].nunique() == 1 < len(models):
        title += f": {models.pop('first').iloc[0]} − ..."
    _show_table(title, models)
    for note in result.notes:
        print_text(say_sentence(note), 2, "- ")


def _show_table(title: str, table) -> None:
    if not len(table):
        return
    print(for_screen(title))
    from pbl.comparison import translate

    shown = translate(table.head(MOST_ROWS))
    print_table(list(shown.columns), list(shown.itertuples(index=False, name=None)))
    if len(table) > MOST_ROWS:
        print(say("and {n} more rows in results.md", n=len(table) - MOST_ROWS))
