"""The command line: `python -m pbl COMMAND`, or `pbl COMMAND` where the package is installed.

Each command imports what it needs itself, so that `--help` answers at once.

Exit status: 0 done, 1 a failed requirement, or a fault of the data that must be mended first, 2 wrong input (one line says what), 130 stopped by Ctrl-C or SIGTERM.
"""

import codecs
import contextlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from pbl.errors import InputError, Sentence
from pbl.languages import choose_language, choose_screen_language, say, say_sentence

app = typer.Typer(
    name="pbl",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, evaluate and use image classifiers with Keras. Start with: python -m pbl train",
)

RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, such as runs/digits_resnet20/001.")]
RunsOption = Annotated[
    str | None,
    typer.Option("--runs", metavar="DIR", help="Where runs are kept; else the variable PBL_RUNS, else runs/."),
]
DataDir = Annotated[str | None, typer.Option(metavar="DIR", help="Folder of prepared TensorFlow Datasets.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


ExperimentFile = Annotated[
    str | None,
    typer.Argument(
        metavar="EXPERIMENT.py",
        help="An experiment file, or a run's folder for its very settings; experiments/digits_resnet20.py unless given.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings to change, such as epochs=3 model_options.dropout=0.5."),
]


class Split(StrEnum):
    val = "val"
    test = "test"


class Language(StrEnum):
    en = "en"
    ja = "ja"


LanguageOption = Annotated[
    Language | None, typer.Option(help="Of the sentences; else the variable PBL_LANGUAGE, else the locale.")
]


@app.command()
def train(
    experiment: ExperimentFile = None,
    settings: Settings = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew although an unfinished run of these settings is there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One batch through all of it, to see that it runs; nothing is kept.")
    ] = False,
    memorise: Annotated[
        int | None,
        typer.Option(
            min=2, max=1024, metavar="IMAGES", help="Can the model learn so many images (32) by heart? Nothing is kept."
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar='"KEY=VALUE,VALUE ..."',
            help="One run for each combination of these settings, such as learning_rate=0.1,0.01.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="So many runs, with seeds that count up.")] = 1,
    learning_curve: Annotated[
        bool,
        typer.Option("--learning-curve", help="Would more data help? Train on 1/8, 1/4, 1/2 and all of the images."),
    ] = False,
    runs: RunsOption = None,
) -> int:
    """Train one run, and evaluate it on validation. The same command goes on with a run that was cut off."""
    config = _load_config(experiment, settings)
    is_sweep = sweep is not None or (seeds > 1 and not learning_curve)
    if sum((is_sweep, learning_curve, fresh, dry_run, memorise is not None)) > 1:
        raise InputError("Give one of --sweep (or --seeds), --learning-curve, --fresh, --dry-run and --memorise.")
    if learning_curve:
        return _measure_learning_curve(config, seeds, runs)
    if is_sweep:
        return _sweep(config, sweep, seeds, runs)
    with _quiet_tensorflow():
        from pbl.training import run as training
        from pbl.training import trials
    if memorise is not None:
        accuracy, steps, count = trials.memorise(config, memorise)
        print(say_sentence(trials.describe_memorising(config, accuracy, count, steps)))
        return 0 if accuracy >= trials.MEMORISED else 1
    if dry_run:
        run = trials.dry_run(config)
        told = "All of it runs: {model} on {source}. Nothing was kept."
        print(say(told, model=run.config.model, source=run.split["source"]))
        return 0
    return _show_run(training.train(config, folder=runs, fresh=fresh))


@app.command("find-rate")
def find_rate(
    experiment: ExperimentFile = None,
    settings: Settings = None,
    lowest: Annotated[float | None, typer.Option(help="First learning rate; 1e-4 for SGD, 1e-6 for others.")] = None,
    highest: Annotated[float | None, typer.Option(help="Last learning rate; 3 for SGD, 0.3 for others.")] = None,
    steps: Annotated[int, typer.Option(min=20, help="Steps from the first to the last.")] = 120,
    output: Annotated[Path, typer.Option(metavar="FILE.png", help="Where the picture goes.")] = Path(
        "learning_rate.png"
    ),
    as_json: AsJson = False,
) -> int:
    """Try rising learning rates, and suggest one."""
    _check_file("--output", output, (".png", ".pdf", ".svg", ".jpg"))
    config = _load_config(experiment, settings)
    with _quiet_tensorflow():
        from pbl.evaluation.run import open_data
        from pbl.storage import replacing
        from pbl.training import run as training
        from pbl.training import trials
        from pbl.training.figures import plot_learning_rates
    data = open_data(config)
    model, _ = training.build_and_compile(config, data)
    trial = trials.find_learning_rate(model, data, lowest=lowest, highest=highest, steps=steps)
    title = f"{config.model} on {data.name}, {config.optimizer}"
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


@app.command()
def evaluate(
    run: RunFolder,
    split: Annotated[Split, typer.Option(help="Which split. Each use of test is recorded in the run.")] = Split.val,
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Another data set with the same classes, in place of the run's own."),
    ] = None,
    data_dir: DataDir = None,
    positive_class: Annotated[
        str | None, typer.Option(metavar="NAME", help="With two classes: whose precision, recall and F1 stand first.")
    ] = None,
    aim: Annotated[
        str,
        typer.Option(
            metavar="AIM",
            help="With two classes: what the threshold is chosen for, on validation: f1, youden, recall>=0.95, precision>=0.9, or cost=1:5 (of a false positive : a false negative).",
        ),
    ] = "f1",
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"METRIC>=NUMBER"',
            help="Exit with status 1 unless this holds, such as accuracy>=0.9 or macro.f1>0.8.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Evaluate a run's best model: metrics with confidence intervals, confusion matrix."""
    from pbl.evaluation.thresholds import parse_aim
    from pbl.runs import load_run

    requirements = [_parse_requirement(text) for text in require or []]
    chosen_for = parse_aim(aim)
    opened = load_run(run)
    if requirements:
        from pbl.evaluation.metrics import check_metric_name

        for _, name, _, _ in requirements:  # a slip must not cost a use of the test split
            check_metric_name(name, opened.split["class_names"])
    with _quiet_tensorflow():
        from pbl.evaluation import run as evaluation
    result = evaluation.evaluate(
        opened, split.value, source=data, data_dir=data_dir, positive_class=positive_class, aim=chosen_for
    )
    outcomes = [_check_requirement(result, *requirement) for requirement in requirements]
    if as_json:
        print(json.dumps({**result, "requirements": outcomes}, ensure_ascii=False, indent=1))
    else:
        _show_metrics(result)
        for outcome in outcomes:
            told = (
                "holds: {requirement} (is {value:.4f})" if outcome["holds"] else "FAILS: {requirement} (is {value:.4f})"
            )
            print(say(told, requirement=outcome["requirement"], value=outcome["value"]))
    return 0 if all(outcome["holds"] for outcome in outcomes) else 1


@app.command()
def diagnose(
    run: RunFolder,
    language: LanguageOption = None,
    as_json: AsJson = False,
) -> int:
    """Say what a run suffers from, such as overfitting, how sure that is, and what to try next."""
    from pbl.diagnosis.advice import as_json as to_json
    from pbl.diagnosis.advice import diagnose_run
    from pbl.runs import load_run

    diagnosis = diagnose_run(load_run(run))
    if as_json:
        print(json.dumps(to_json(diagnosis), ensure_ascii=False, indent=1))
    else:
        _show_diagnosis(diagnosis, choose_screen_language(language and language.value))
    return 0


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN ...", help="Runs or folders of runs; with --train experiment files and KEY=VALUE for all."
        ),
    ],
    train: Annotated[
        bool, typer.Option("--train", help="Train the experiments first, seed by seed. The same command goes on.")
    ] = False,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="With --train: each of these models, with its default options, in the experiment's place.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="With --train: runs of each, with seeds that count up.")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --train: epochs of every run.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="With --train: minutes of every run, instead.")
    ] = None,
    split: Annotated[
        Split, typer.Option(help="Which images; test is evaluated, and each use recorded, where it is not yet.")
    ] = Split.val,
    margin: Annotated[
        float, typer.Option(min=0, help="The difference that matters to you, in points of accuracy.")
    ] = 1.0,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare all with this architecture, in place of all pairs.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The validation accuracy up to which training seconds are counted."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure MACs, latency, throughput, memory and file of one run of each.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results.csv, results.md and results.png go.")] = Path(
        "comparison"
    ),
    as_json: AsJson = False,
    folder: RunsOption = None,
) -> int:
    """Compare runs, or train architectures with several seeds and compare them, saying no more than they support."""
    from pbl.comparison import run as comparison

    if not train and (epochs or minutes or models):
        raise InputError("--epochs, --minutes and --models are for --train.")
    if epochs and minutes:
        raise InputError("Give --epochs or --minutes, not both: a budget is one or the other.")
    status, failures = 0, []
    if train:
        found, failures, status = _train_for_comparison(runs, models, seeds, epochs, minutes, out, folder)
    else:
        found = comparison.find_runs(runs)
    if split == Split.test:
        _evaluate_lacking(found)
    if measure:
        _measure_one_of_each(found)
    result = comparison.compare(
        found, split.value, margin=margin, baseline=baseline, target=target, failures=failures
    )  # fmt: skip
    files = comparison.write_results(result, out)
    if as_json:
        tables = {
            name: json.loads(getattr(result, name).to_json(orient="records"))
            for name in ("runs", "architectures", "pairs", "models")
        }
        print(
            json.dumps(
                {"margin": margin, "split": split.value, "images": result.images, **tables, "notes": result.notes},
                ensure_ascii=False,
                indent=1,
            )
        )
    else:
        _show_comparison(result)
        print(say("Written: {file}", file=", ".join(map(str, files))))
    return status


def _train_for_comparison(
    words: list[str],
    models: str | None,
    seeds: int,
    epochs: int | None,
    minutes: float | None,
    out: Path,
    folder: str | None,
):
    from pbl.comparison.run import Failure

    files = [word for word in words if "=" not in word or word.endswith(".py")]
    settings = [word for word in words if word not in files]
    if not files:
        raise InputError(
            "--train needs experiment files, such as experiments/mnist_mlp.py experiments/digits_resnet20.py."
        )
    configs = [_load_config(file, settings) for file in files]
    if models is not None:
        names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
        configs = [
            config.replace(model=name, model_options={}, experiment=f"{config.experiment}_{name}")
            for config in configs
            for name in names
        ]
    with _quiet_tensorflow():
        from pbl.models import find_builder
        from pbl.training import sweep
    for config in configs:
        find_builder(config.model)  # a slip is told before anything is trained
    planned = sweep.plan_comparison(configs, seeds, epochs, minutes, out / "budget.json")
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
    lacking = [
        run
        for run in runs
        if run.environment.get("status") == "finished" and not (run.path / "predictions_test.npz").exists()
    ]
    if lacking:
        with _quiet_tensorflow():
            from pbl.evaluation import run as evaluation
        for run in lacking:
            evaluation.evaluate(run, "test")


def _measure_one_of_each(runs) -> None:
    from pbl.evaluation.measurement import measure_cost

    measured = set()
    for run in sorted(runs, key=lambda run: not (run.path / "cost.json").exists()):
        if run.environment.get("status") != "finished":
            continue
        key = (run.config.model, json.dumps(run.config.model_options, sort_keys=True))
        if key not in measured and not (run.path / "cost.json").exists():
            print(say("Measuring {run}", run=run.path), file=sys.stderr, flush=True)
            measure_cost(run)
        measured.add(key)


MOST_ROWS = 20  # of a table of a comparison on the screen


def _show_comparison(result) -> None:
    from pbl.comparison import run as comparison

    told = "A difference of less than {margin:g} points is taken not to matter. {images:,} {split} images."
    split = Sentence("test") if result.split == "test" else Sentence("validation")
    print(say(told, margin=result.margin, images=result.images, split=split))

    def show(title: str, table) -> None:
        if not len(table):
            return
        print(title)
        header = [say(column) for column in table.columns]
        rows = table.head(MOST_ROWS).itertuples(index=False)
        _print_table(header, [tuple(map(say_sentence, row)) for row in rows])
        if len(table) > MOST_ROWS:
            print(say("and {n} more rows in results.md", n=len(table) - MOST_ROWS))

    # What fits on a screen of 80 letters; results.md has all columns.
    architectures = comparison.show_architectures(result.architectures)
    kept = ("architecture", "seeds", "accuracy %", "95% interval", "ties", "best with probability", "pre-trained")
    show(say("Architectures"), architectures.filter(kept))
    cost = (
        "architecture",
        "parameters",
        "MACs",
        "training s",
        "s to target",
        "latency of 1 image ms",
        "images/s at 256",
    )
    show(say("Cost"), architectures.filter(cost))
    pairs = comparison.show_pairs(result.pairs)
    needed = pairs.pop("would separate them")
    show(say("This architecture against that one (over seeds and images)"), pairs)
    of_need: dict[str, list[str]] = {}
    for first, second, need in zip(pairs["first"], pairs["second"], needed, strict=True):
        if need:
            of_need.setdefault(need, []).append(f"{first} − {second}")
    if of_need:
        print(say("What would separate them, four times in five, were the difference the one seen:"))
    for need, names in of_need.items():
        more = [f"... ({len(names)})"] if len(names) > MOST_ROWS else []
        print(f"- {say_sentence(need)}: {', '.join(names[:MOST_ROWS] + more)}")
    models = comparison.show_models(result.models)
    title = say("This trained model against that one (over the images alone)")
    if models["first"].nunique() == 1 < len(models):
        title += f": {models.pop('first').iloc[0]} − ..."
    show(title, models)
    for note in result.notes:
        print(f"- {say_sentence(note)}")


@app.command()
def log(
    folder: Annotated[
        str | None,
        typer.Argument(metavar="FOLDER", help="Where the runs are kept; else the variable PBL_RUNS, else runs/."),
    ] = None,
    language: LanguageOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw what each run gained, with its interval.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table to this file.")] = None,
    as_json: AsJson = False,
) -> int:
    """List all runs: what each changed against the run it came from, and what that gained."""
    if out is not None:
        _check_file("--out", out, (".png", ".pdf", ".svg", ".jpg"))
    if csv is not None:
        _check_file("--csv", csv, (".csv",))
    from pbl.reports import team_log
    from pbl.storage import replacing

    words = choose_screen_language(language and language.value)
    runs = team_log.read_log(folder)
    if out is not None:
        figure = team_log.plot_log(runs, words)
        with replacing(out) as temporary:
            figure.savefig(temporary, dpi=120)
    if csv is not None:
        team_log.write_csv(runs, csv)
    if as_json:
        records = team_log.make_records(runs)
        print(json.dumps({"runs": records, "remark": team_log.ONE_SEED}, ensure_ascii=False, indent=1))
    else:
        _print_table(*team_log.make_table(runs, words))
        print(say(team_log.HOW_TO_READ, words))
        print(say(team_log.ONE_SEED, words))
        for file in (out, csv):
            if file is not None:
                print(say("Written: {file}", words, file=file))
    return 0


@app.command()
def report(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's folder; with --team the folder of all runs, runs/ unless given."),
    ] = None,
    team: Annotated[
        bool,
        typer.Option(
            "--team", help="A draft of the team's report, of all runs, with boxes for what only you can write."
        ),
    ] = False,
    language: LanguageOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Where the page goes; report.html in the run, team_report.html in the folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Put all that a run holds on one page: scores, diagnosis, pictures, data, settings, cost, environment."""
    if team:
        from pbl.reports.team_report import write_team_report

        file = write_team_report(run, language and language.value, out)
        print(json.dumps({"file": str(file)}, ensure_ascii=False) if as_json else say("Written: {file}", file=file))
        return 0
    if run is None:
        raise InputError(
            "Which run? Give its folder, such as runs/digits_resnet20/001; or --team for a report of all runs."
        )
    from pbl.reports.run_report import write_report

    written = write_report(run, out, language and language.value)
    if as_json:
        print(json.dumps({**written._asdict(), "file": str(written.file)}, ensure_ascii=False, indent=1))
    else:
        told = "{file}: {size:,.0f} kB, {pictures} picture(s) in it"
        print(say(told, file=written.file, size=written.bytes / 1000, pictures=len(written.pictures)))
        for name, reason in list(written.left_out.items())[:20]:
            print(say("Not shown: {name}, since {reason}.", name=name, reason=Sentence(reason)))
    return 0


@app.command()
def predict(
    run: RunFolder,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE_OR_FOLDER", help="Image files, or folders of them.")],
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table, with every class's probability, to this file.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Predict the class of image files."""
    from pbl.runs import load_run
    from pbl.storage import replacing

    opened = load_run(run)
    if csv is not None and not csv.name:
        raise InputError("--csv needs the name of a file.")
    if csv is not None and not csv.parent.is_dir():
        raise InputError(
            "The folder {folder} does not exist. Make it first, or give another file after --csv.", folder=csv.parent
        )
    with _quiet_tensorflow():
        from pbl.evaluation import run as evaluation
    table = evaluation.predict(opened, images)
    if csv is not None:
        with replacing(csv) as temporary:
            table.to_csv(
                temporary, index=False, encoding="utf-8-sig", lineterminator="\n"
            )  # the mark tells Excel that it is UTF-8
    if as_json:
        print(table.to_json(orient="records", force_ascii=False, indent=1, double_precision=10))
    else:
        rows = [
            (file, name, f"{probability:.4f}")
            for file, name, probability in table.iloc[:, :3].itertuples(index=False, name=None)
        ]
        _print_table([say("image"), say("class"), say("probability")], rows)
    return 0


@app.command()
def inspect(
    run: RunFolder,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE_OR_FOLDER",
            help="Image files, or folders of them; the worst mistakes of validation and some right ones unless given.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Draw what a run's network looks at: filters, feature maps, Grad-CAM or attention, and its loss on the way."""
    from pbl.runs import load_run

    opened = load_run(run)
    with _quiet_tensorflow():
        from pbl.inspection import run as inspection
    left_out: list[str] = []
    options = {"tell": left_out.append} if as_json else {}
    files = inspection.inspect_run(opened, images, **options)
    if as_json:
        found = {"run": opened.name, "files": [str(file) for file in files], "left_out": left_out}
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        for file in files:
            print(file)
    return 0 if files else 1


@app.command()
def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A data set: a name, a folder, a .zip or an .npz; or a run, for its data and settings.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Settings of the data, such as image_size=96 groups='(patient[0-9]+)'."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where data_check.json and the pictures go; data_check/NAME unless given."),
    ] = None,
    leave_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the names of images to leave out, for leave_out=FILE. Nothing is deleted."
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only what takes seconds, as before every training.")] = False,
    as_json: AsJson = False,
) -> int:
    """Look for faults in a data set: broken, copied, leaking, unbalanced, shifted or mislabelled images."""
    from pbl.config import Config, load_experiment, parse_overrides

    values = parse_overrides(settings or [])
    if (Path(source) / "config.json").is_file():
        with _quiet_tensorflow():
            config = load_experiment(source, [*(settings or []), "on_bad_image=skip"])
        source = config.dataset
    else:
        config = Config(**{"dataset": source, "on_bad_image": "skip", **values})
    with _quiet_tensorflow():
        from pbl import data
        from pbl.data import doctor
        from pbl.data.sources import DifferentSizes
    for name in values:
        if name not in data.DATA_SETTINGS:
            raise InputError(
                "{name} is no setting of the data. Valid: {valid}.",
                name=name,
                valid=", ".join(sorted(data.DATA_SETTINGS)),
            )
    if out and Path(out).exists() and not Path(out).is_dir():
        raise InputError("--out {out} is a file. Give a folder.", out=out)
    options = {name: getattr(config, name) for name in data.DATA_SETTINGS}
    try:
        loaded = data.load_data(source, **options)
    except DifferentSizes:
        print(
            say(
                "The images differ in size; they are looked at in image_size=64. Give the size that you will train with."
            ),
            file=sys.stderr,
        )
        loaded = data.load_data(source, **{**options, "image_size": 64, "channels": options["channels"] or 3})
    splits = ("train", "val", "test")
    loaded.images("test")  # decoded now, so that its broken images are known
    findings = loaded.check(*splits, fast=fast)
    folder = Path(out) if out else Path("data_check") / (Path(source).resolve().stem or "data")
    parts = loaded.parts(*splits)
    files = doctor.write_report(findings, parts, folder)
    left_out = doctor.write_leave_out(findings, leave_out) if leave_out else []
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in doctor.SEVERITIES}
    if as_json:
        print((folder / "data_check.json").read_text(encoding="utf-8"))
    else:
        rows = [(f.severity, say(f.check.replace("_", " ")), say_sentence(f.message)) for f in findings]
        _print_table(["", say("check"), say("finding")], rows)
        images = ", ".join(
            say("{n:,} {split}", n=len(part.labels), split=Sentence(split)) for split, part in parts.items()
        )
        print(
            say(
                "{source}: {images} images; {counts}. {files} file(s) in {folder}",
                source=source, images=images, counts=", ".join(f"{n} {severity}" for severity, n in counts.items()),
                files=len(files), folder=folder,
            )
        )  # fmt: skip
        if leave_out:
            told = "{n} image(s) to leave out are named in {file}: python -m pbl train ... leave_out={file}"
            print(say(told, n=len(left_out), file=leave_out))
    return 1 if counts["stop"] else 0


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show what this model's options mean.")] = None,
) -> int:
    """List the models, or describe one."""
    with _quiet_tensorflow():
        from pbl.models import CARDS, find_builder

    if name is None:
        rows = [
            (
                model,
                card.style,
                str(card.year),
                f"{card.weights:,}",
                f"{card.macs:,}",
                "x".join(map(str, card.input_shape)),
                str(card.classes),
                str(card.smallest),
                card.paper,
            )
            for model, card in CARDS.items()
        ]
        header = ("model", "style", "year", "trainable weights", "MACs", "at", "classes", "smallest side", "paper")
        _print_table([say(title) for title in header], rows)
        print(say("Describe one: python -m pbl models resnet20"))
        return 0
    import inspect

    builder = find_builder(name)
    print(
        f"{name}{inspect.signature(builder)}\n\n{inspect.getdoc(builder)}\n\n{inspect.getdoc(inspect.getmodule(builder))}"
    )
    return 0


@app.command()
def datasets(data_dir: DataDir = None) -> int:
    """List the data sets."""
    with _quiet_tensorflow():
        from pbl.data.sources import DATASETS, prepared_datasets
    rows = [
        (name, say(_first_line(function)) if function.__module__.startswith("pbl.") else _first_line(function))
        for name, function in DATASETS.items()
    ]
    folder, prepared = prepared_datasets(data_dir)
    rows += [(name, say("TensorFlow Datasets, prepared in {folder}", folder=folder)) for name in prepared]
    path = "a folder of class folders (with or without train/ val/ test/), a .zip of one, or an .npz of x_train, y_train, ..."
    rows.append((say("a path"), say(path)))
    other = "TensorFlow Datasets name: mnist, fashion_mnist, cifar10, cats_vs_dogs, ... (downloaded once): tensorflow.org/datasets/catalog"
    rows.append((say("any other"), say(other)))
    _print_table([say("dataset"), say("what")], rows)
    return 0


@app.command()
def holdout(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A data set: a name, a folder, a .zip or an .npz.")],
    fraction: Annotated[
        float, typer.Option(help="Share of each class that is hidden; 1 hides all, and nothing is public.")
    ] = 0.2,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="The folder to make; holdout/NAME unless given.")
    ] = None,
    hide_test: Annotated[
        bool, typer.Option("--hide-test", help="Hide the source's own test split in place of a share.")
    ] = False,
    groups: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Images whose names share this word stay on one side, as in training."),
    ] = None,
    as_zip: Annotated[bool, typer.Option("--zip", help="The public part as one .zip.")] = False,
    references: Annotated[
        bool, typer.Option(help="Make and grade submissions that show the scale of grades; takes minutes.")
    ] = True,
    seed: Annotated[int | None, typer.Option(min=0, help="Of choice and names; random unless given.")] = None,
    data_dir: DataDir = None,
) -> int:
    """Make an instructor's hidden test set: a public part, hidden images, and their labels apart."""
    with _quiet_tensorflow():
        from pbl.grading.holdout import make_holdout
    made = make_holdout(
        source, fraction=fraction, out=out, hide_test=hide_test, groups=groups, as_zip=as_zip, seed=seed, data_dir=data_dir
    )  # fmt: skip
    rows = [("images, hidden.json", say("{n:,} hidden images under opaque names, without labels", n=made.images))]
    yours = say("yours alone: labels.csv, how the set was made")
    rows.append(("labels", yours + (", copies.csv" if made.findings else "")))
    if made.public is not None:
        rows.insert(0, (made.public.name, say("{n:,} images for the teams", n=made.public_images)))
    _print_table([str(made.path), ""], rows)
    for finding in made.findings:
        told = (
            "{severity}: {check}: {n} hidden image(s) have one among the public images ({examples}, ...). The pairs: {file}."
            " --groups PATTERN keeps such together."
        )
        print(
            say(
                told, severity=finding.severity, check=say(finding.check.replace("_", " ")), n=len(finding.items),
                examples=", ".join(finding.items[:3]), file=made.path / "labels" / "copies.csv",
            )
        )  # fmt: skip
    if references and made.public is not None:
        with _quiet_tensorflow():
            from pbl.grading.references import make_references
        scores = make_references(made.path, made.public)
        if scores:
            order = sorted(scores.items(), key=lambda item: item[1])
            header = [say("reference submission"), say("accuracy")]
            _print_table(header, [(name, f"{value:.4f}") for name, value in order])
    print(say("Grade with it: python -m pbl grade SUBMISSIONS --data {path}", path=made.path))
    return 0


@app.command()
def submit(
    run: RunFolder,
    team: Annotated[str, typer.Option(metavar="NAME", help="Your team's name.")],
    out: Annotated[
        str | None, typer.Option(metavar="FILE.zip", help="The file to hand in; TEAM.zip unless given.")
    ] = None,
    keras: Annotated[
        bool, typer.Option("--keras", help="Hand in model.keras, of Keras's own layers, rather than weights.")
    ] = False,
    predictions: Annotated[
        str | None,
        typer.Option(metavar="IMAGES", help="Hand in the classes of these hidden images rather than a model."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Write what a team hands in, checked here as the grader checks it."""
    with _quiet_tensorflow():
        from pbl.evaluation import run as evaluation  # noqa: F401  loads TensorFlow while its log is kept from the screen
        from pbl.grading.submission import submit as write
    submitted = write(run, team, out=out, as_keras=keras, predictions=predictions)
    if as_json:
        print(json.dumps({**submitted._asdict(), "file": str(submitted.file)}, ensure_ascii=False))
        return 0
    told = "{file}: the instructor will see '{status}'. {message}"
    print(say(told, file=submitted.file, status=submitted.status, message=submitted.message))
    for remark in submitted.remarks:
        print(say_sentence(remark))
    return 0


class Isolation(StrEnum):
    full = "full"
    limits = "limits"


class Half(StrEnum):
    all = "all"
    public = "public"
    private = "private"


@app.command()
def grade(
    submissions: Annotated[
        str,
        typer.Argument(
            metavar="SUBMISSIONS",
            help="A folder with one folder or file for each team, a download of Moodle or Google Classroom, or one submission.",
        ),
    ],
    data: Annotated[str, typer.Option(metavar="HIDDEN", help="The hidden set: a folder that `holdout` made.")],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Where the tables go. The same command again goes on there.")
    ] = "grades",
    roster: Annotated[
        str | None, typer.Option(metavar="FILE.csv", help="The expected teams; each gets a row, whatever it sent.")
    ] = None,
    rubric: Annotated[
        str | None, typer.Option(metavar="FILE.py", help="Points, deadline, allowed builders: rubric = Rubric(...).")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE.csv", help="The labels, where they are not in HIDDEN.")
    ] = None,
    predict_only: Annotated[
        bool, typer.Option("--predict-only", help="Run the models; no labels are needed on this machine.")
    ] = False,
    score_only: Annotated[
        bool, typer.Option("--score-only", help="Score what --predict-only left; no model is run on this machine.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Submissions at the same time.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, help="Time limit of each submission.")] = 120,
    memory: Annotated[int, typer.Option(min=64, help="Memory limit of each, in MB, beyond TensorFlow's own.")] = 2048,
    require_isolation: Annotated[
        Isolation,
        typer.Option(help="full: refuse where this machine cannot lock submissions up; limits: go on without."),
    ] = Isolation.full,
    half: Annotated[
        Half, typer.Option(help="Score one half of the hidden images; public: a leaderboard of coarse scores.")
    ] = Half.all,
    tries: Annotated[int | None, typer.Option(min=1, help="Of a leaderboard: scores that a team is told.")] = None,
    again: Annotated[
        list[str] | None, typer.Option(metavar="TEAM", help="Grade this team again though nothing changed.")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"METRIC>=NUMBER"', help="Exit with status 1 unless every team reaches it, such as accuracy>=0.9."
        ),
    ] = None,
    language: Annotated[
        Language | None, typer.Option(help="Of the teams' feedback; else the variable PBL_LANGUAGE, else the locale.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Grade a class on hidden images: one row for every team, none trusted, nothing lost."""
    if predict_only and score_only:
        raise InputError("Give one of --predict-only and --score-only.")
    requirements = [_parse_requirement(text) for text in require or []]
    for text, name, _, _ in requirements:
        if name not in ("accuracy", "macro_f1", "log_loss", "points"):
            raise InputError('--require "{text}": valid are accuracy, macro_f1, log_loss and points.', text=text)
    from pbl.grading.grader import grade as grade_class
    from pbl.grading.sandbox import Limits

    with _progress(not as_json) as tell:
        rows = grade_class(
            submissions, data, out=out, roster=roster, rubric=rubric, labels=labels,
            phase="predict" if predict_only else "score" if score_only else "both",
            limits=Limits(seconds=seconds, memory=memory), jobs=jobs, require_isolation=require_isolation.value,
            half=half.value, tries=tries, again=again or [], language=choose_language(language and language.value), tell=tell,
        )  # fmt: skip
    failed = [row for row in rows if row["status"] == "grader_error"]
    short = [row["team"] for row in rows if not all(_holds(row, *requirement) for requirement in requirements)]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        _show_grades(rows, Path(out), predict_only)
        if requirements:
            told = "{reached} of {all} team(s) reach {requirements}."
            wanted = ", ".join(text for text, *_ in requirements)
            print(say(told, reached=len(rows) - len(short), all=len(rows), requirements=wanted))
    return 1 if failed or short else 0


def _holds(row: dict[str, Any], text: str, name: str, sign: str, number: float) -> bool:
    value = row.get(name)
    return value is not None and {">=": value >= number, ">": value > number, "<=": value <= number, "<": value < number}[sign]  # fmt: skip


@contextlib.contextmanager
def _progress(shown: bool) -> Iterator[Any]:
    """A function that shows what is going on: a bar on a screen, a line for each submission elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield (lambda line: print(say_sentence(line), file=sys.stderr, flush=True)) if shown else (lambda line: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)

        def tell(line: str) -> None:
            place, _, words = line.partition(" ")
            if "/" in place and place.replace("/", "").isdecimal():
                done, total = map(int, place.split("/"))
                progress.update(task, completed=done, total=total, description=words)
            else:
                progress.update(task, description=say_sentence(line))

        yield tell


def _show_grades(rows: list[dict[str, Any]], out: Path, predict_only: bool) -> None:
    if predict_only:
        shown = [(row["team"], row["status"], "" if row["status"] == "ok" else _say_outcome(row)) for row in rows]
        _print_table([say("team"), say("status"), ""], shown)
        told = "{file}. Score on the machine with the labels: python -m pbl grade {out} --score-only --data HIDDEN"
        print(say(told, file=out / "predicted.csv", out=out))
        return
    shown = []
    for row in rows:
        score = (
            ""
            if row["accuracy"] is None
            else say(
                "{accuracy:.4f} ({low:.4f} to {high:.4f})",
                accuracy=row["accuracy"], low=row["accuracy_interval"][0], high=row["accuracy_interval"][1],
            )
        )  # fmt: skip
        points = "" if row["final_points"] is None else f"{row['final_points']:g}"
        remark = (
            ", ".join(flag.replace(":", " ") for flag in row["flags"]) if row["status"] == "ok" else _say_outcome(row)
        )
        shown.append((row["team"], row["status"], score, points, str(row["tie_group"] or ""), remark))
    header = ("team", "status", "accuracy (95% interval)", "points", "tie group")
    _print_table([*(say(title) for title in header), ""], shown)
    told = "{table}, {page}, feedback for each team in {folder}"
    print(say(told, table=out / "grades.csv", page=out / "summary.html", folder=out / "teams"))


def _say_outcome(row: dict[str, Any]) -> str:
    return say(row["template"], **row["fields"])


def _check_file(option: str, file: Path, formats: tuple[str, ...]) -> None:
    """Raises InputError where a file that is to be written has no folder, or not one of these endings."""
    if file.suffix.lower() not in formats or not file.parent.is_dir():
        raise InputError(
            "{option} {file}: give a file in a folder that exists, whose name ends in one of {formats}.",
            option=option, file=file, formats=", ".join(formats),
        )  # fmt: skip


def _load_config(experiment: str | None, settings: list[str] | None):
    from pbl.config import DEFAULT_EXPERIMENT, load_experiment

    words = list(settings or [])
    if experiment is None or ("=" in experiment and not experiment.endswith(".py") and not Path(experiment).exists()):
        words = [experiment, *words] if experiment else words
        experiment = str(DEFAULT_EXPERIMENT)
    # Plain settings are checked before TensorFlow is loaded; the file loads it only where it brings its own model or data.
    with _quiet_tensorflow():
        return load_experiment(experiment, words)


def _sweep(config, text: str | None, seeds: int, folder: str | None) -> int:
    with _quiet_tensorflow():
        from pbl.training import sweep
    planned = sweep.plan_sweep(config, sweep.parse_sweep(text) if text is not None else {}, seeds)
    table, file = sweep.run_sweep(planned, folder)
    status = _show_runs(table.drop(columns=["reason", "epochs"]))
    print(say("Table: {file}", file=file))
    return status


def _measure_learning_curve(config, seeds: int, folder: str | None) -> int:
    with _quiet_tensorflow():
        from pbl.training.learning_curve import measure_learning_curve
    found = measure_learning_curve(config, seeds, folder)
    columns = ("train_fraction", "images", "seed", "val_accuracy", "run", "status")
    status = _show_runs(found.table[[name for name in columns if name in found.table]])
    print(say_sentence(found.message))
    print(say("Table: {file}", file=found.file))
    if found.picture:
        print(say("Picture: {file}", file=found.picture))
    return status


def _show_runs(shown) -> int:
    """Prints some columns of a table of runs; returns the exit status that their statuses ask for."""
    shown = shown.astype(object).where(shown.notna(), "")
    _print_table(list(shown.columns), [tuple(map(_shorten, row)) for row in shown.itertuples(index=False)])
    statuses = set(shown["status"])
    return 130 if "interrupted" in statuses else 1 if "failed" in statuses else 0


def _shorten(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}" if value.is_integer() else f"{value:.4f}"


def _first_line(function: Any) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _show_run(run) -> int:
    environment = run.environment
    if environment["status"] != "finished":
        told = "{done} of {all} epochs are done. The best model so far: python -m pbl evaluate {run}"
        planned = run.config.epochs + run.config.fine_tune_epochs
        print(say(told, done=environment["epochs"], all=planned, run=run.path))
        return 130 if environment["status"] == "interrupted" else 0
    metrics = run.read_json("metrics_val.json")
    low, high = metrics["accuracy_interval"]
    seconds = environment["seconds"]
    _print_table(
        ["", run.name],
        [
            (
                say("validation accuracy"),
                say(
                    "{accuracy:.4f} (95% interval {low:.4f} to {high:.4f}, {images:,} images)",
                    accuracy=metrics["accuracy"], low=low, high=high, images=metrics["images"],
                ),
            ),
            (say("validation log loss"), say("{value:.4f} nats", value=metrics["log_loss"])),
            (
                say("best epoch"),
                say(
                    "{best} of {all} (lowest validation loss; this model was kept)",
                    best=environment["best_epoch"], all=environment["epochs"],
                ),
            ),
            (say("seconds"), ", ".join(f"{say(name)} {value:.1f}" for name, value in seconds.items())),
            (say("model"), str(run.path / "best.keras")),
            (say("figures"), str(run.path / "figures")),
            (say("at the end"), f"python -m pbl evaluate {run.path} --split test"),
        ],
    )  # fmt: skip
    from pbl.diagnosis.advice import diagnose_run

    _show_diagnosis(diagnose_run(run), choose_screen_language())
    return 0


def _show_diagnosis(diagnosis, language: str) -> None:
    """In colours on a terminal; a line each into a file."""
    from rich.console import Console
    from rich.padding import Padding

    colours = {"stop": "bold red", "act": "bold yellow", "note": "bold green"}
    styles = {"headline": colours[diagnosis.severity], "command": "cyan"}
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    for kind, text in diagnosis.paragraphs(language):
        left = {"headline": 0, "command": 4}.get(kind, 2)
        if kind == "command" or not sys.stdout.isatty():  # to be copied: never folded
            console.print(" " * left + text, style=styles.get(kind), soft_wrap=True)
        else:
            console.print(Padding(text, (0, 0, 0, left)), style=styles.get(kind))


def _show_metrics(result: dict[str, Any]) -> None:
    low, high = result["accuracy_interval"]
    of_accuracy = "95% interval {low:.4f} to {high:.4f} (Wilson), {images:,} images"
    rows = [
        (
            say("accuracy"),
            f"{result['accuracy']:.4f}",
            say(of_accuracy, low=low, high=high, images=result["images"]),
        )
    ]
    if "positive" in result:
        positive = result["positive"]
        of_class = say("of '{name}', the positive class", name=positive["class"])
        rows = [(say(key), _number(positive[key]), of_class) for key in ("precision", "recall", "f1")] + rows
    intervals = result["intervals"]

    def row(title: str, name: str, value: float | None, what: str) -> tuple[str, str, str]:
        if name in intervals:
            low, high = intervals[name]
            what += say(", 95% interval {low:.4f} to {high:.4f} (bootstrap)", low=low, high=high)
        return title, _number(value), what

    balanced = result["balanced_accuracy"]
    rows.append(row(say("balanced accuracy"), "balanced_accuracy", balanced, say("mean recall of classes")))
    rows += [
        row(say("macro {metric}", metric=Sentence(key)), f"macro.{key}", value, say("mean over classes"))
        for key, value in result["macro"].items()
    ]
    rows += [(say("top-{k} accuracy", k=k), f"{value:.4f}", "") for k, value in result["top_k_accuracy"].items()]
    rows.append(row("ROC AUC", "roc_auc", result["roc_auc"], say("one class against the rest, mean")))
    rows.append(row("PR AUC", "average_precision", result["average_precision"], say("average precision, likewise")))
    rows.append(row(say("log loss"), "log_loss", result["log_loss"], say("nats")))
    rows.append(row(say("Brier score"), "brier", result["brier"], say("0 to 2")))
    calibration = result["calibration"]
    rows.append(
        (
            "ECE",
            f"{calibration['ece']:.4f}",
            say(
                "calibration error; of a calibrated model {mean:.4f}, to {high:.4f}",
                mean=calibration["ece_if_calibrated"], high=calibration["ece_if_calibrated_high"],
            ),
        )
    )  # fmt: skip
    which = {"all": Sentence("all images"), "val": Sentence("validation split"), "test": Sentence("test split")}
    print(
        say(
            "{run} on {source}, {which}, model of epoch {epoch}",
            run=result["run"], source=result["source"], which=which[result["split"]], epoch=result["best_epoch"] or "?",
        )
    )  # fmt: skip
    if result["status"] != "finished":
        print(say("The run is not finished: its status is '{status}'.", status=result["status"]))
    if result["split"] == "test" and result["test_uses"] == 1:
        print(say("This run has used the test split once."))
    elif result["split"] == "test":
        told = "This run has used the test split {count} times: the best of several looks is too good to be true."
        print(say(told, count=result["test_uses"]))
    if result["copies_in_train"]:
        told = "{copies:,} of these images stand in the training images too: the score is too good."
        print(say(told, copies=result["copies_in_train"]))
    _print_table([say("metric"), say("value"), ""], rows)
    _show_what_validation_chose(result)
    by_class = [
        (name, *(_number(row[key]) for key in ("precision", "recall", "f1")), f"{row['images']:,}")
        for name, row in result["by_class"].items()
    ]
    _print_table([say(title) for title in ("class", "precision", "recall", "F1", "images")], by_class)
    names = result["class_names"]
    if len(names) <= 20:
        print(say("Confusion matrix: rows are true classes, columns predicted ones."))
        _print_table(
            [say("true \\ predicted"), *names],
            [(name, *map(str, row)) for name, row in zip(names, result["confusion_matrix"], strict=True)],
        )


def _show_what_validation_chose(result: dict[str, Any]) -> None:
    calibration, threshold = result["calibration"], result.get("threshold")
    itself = Sentence("on these very images") if result["split"] == "val" else Sentence("on validation")
    if "temperature" in calibration:
        is_off = calibration["ece"] > calibration["ece_if_calibrated_high"]
        verdict = Sentence("not calibrated") if is_off else Sentence("as calibrated as these images can tell")
        told = "Confidence: {verdict}. With the temperature {temperature:.2f}, fitted {itself}: ECE {ece:.4f}, log loss {loss:.4f}."
        print(
            say(
                told, verdict=verdict, temperature=calibration["temperature"], itself=itself, ece=calibration["ece_after"],
                loss=calibration["log_loss_after"],
            )
        )  # fmt: skip
    if threshold is None:
        return
    if threshold["value"] is None:
        print(say("Threshold: none reaches {aim} on validation.", aim=threshold["aim"]))
        return
    low, high = threshold["interval"]
    half = Sentence("0.5 may be as good") if low <= 0.5 <= high else Sentence("0.5 is not it")
    told = "Threshold: for {aim} {value:.2f} was chosen {itself} (95% interval {low:.2f} to {high:.2f}: {half})."
    print(say(told, aim=threshold["aim"], value=threshold["value"], itself=itself, low=low, high=high, half=half))
    shown = ("precision", "recall", "f1", "accuracy", "cost")
    rows = [
        (say("threshold {value:.2f}", value=value), *(_number(threshold[key][name]) for name in shown))
        for value, key in ((0.5, "at_half"), (threshold["value"], "at_threshold"))
    ]
    _print_table(["", *(say(name) for name in shown)], rows)


def _number(value: float | None) -> str:
    return say("undefined") if value is None else f"{value:.4f}"


def _print_table(header: list[str], rows: list[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(header):
        # Nothing is cut with "...": what does not fit is folded; into a file goes the whole line.
        table.add_column(
            _escape(title), overflow="fold", justify="right" if number and _is_number(rows, number) else "left"
        )
    for row in rows:
        table.add_row(*map(_escape, row))
    Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=True).print(table)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _is_number(rows: list[tuple[str, ...]], column: int) -> bool:
    return all(re.fullmatch(r"<?[\d.,]+", row[column]) or row[column] == say("undefined") for row in rows)


_REQUIREMENT = re.compile(r"\s*([^<>=]+?)\s*(>=|<=|>|<)\s*([0-9.eE+-]+)\s*")


def _parse_requirement(text: str) -> tuple[str, str, str, float]:
    match = _REQUIREMENT.fullmatch(text)
    try:
        name, sign, number = match.groups()
        return text, name, sign, float(number)
    except (AttributeError, ValueError):
        raise InputError('--require "{text}" is not of the form "accuracy>=0.9" (>=, >, <= or <).', text=text) from None


def _check_requirement(result: dict[str, Any], text: str, name: str, sign: str, number: float) -> dict[str, Any]:
    from pbl.evaluation.metrics import find_metric

    value = find_metric(result, name)
    holds = {">=": value >= number, ">": value > number, "<=": value <= number, "<": value < number}[sign]
    return {"requirement": text, "value": value, "holds": holds}


# What TensorFlow's C++ library logs, before and after its logging is set up; errors on a machine without a GPU included.
_TENSORFLOW_LOG = re.compile(
    rb"WARNING: All log messages before absl|[IWE]\d{4} \d\d|\d{4}-\d\d-\d\d [\d:.]+: [IWE] |To enable the following instr"
)


@contextlib.contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's log from the screen while it is imported; anything else said meanwhile is shown afterwards."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        screen = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            said.seek(0)
            for line in said:
                if not _TENSORFLOW_LOG.match(line):
                    os.write(2, line)


_ALIKE = str.maketrans({"〜": "~", "–": "-", "—": "-", "−": "-", "…": "...", "“": '"', "”": '"', "’": "'"})


def _write_alike(error: UnicodeError) -> tuple[str, int]:
    letters = error.object[error.start : error.end].translate(_ALIKE)
    return letters.encode("ascii", "replace").decode(), error.end


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    command = typer.main.get_command(app)
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    codecs.register_error("alike", _write_alike)
    for stream in (sys.stdout, sys.stderr):  # a letter that the screen does not have must not end a training
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="alike")
    is_japanese = choose_screen_language() == "ja"
    if is_japanese and "--help" in arguments:
        from pbl.languages.commands import translate_help

        translate_help(command)
    try:
        status = command.main(arguments, prog_name="python -m pbl", standalone_mode=False) or 0
        if status == 130:  # typer's answer to Ctrl-C
            print(say("pbl: stopped"), file=sys.stderr)
        return status
    except InputError as error:
        message = " ".join(say_sentence(error).split())
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer says of wrong words has it; else it is a bug of ours
            raise
        message = error.format_message()
        if is_japanese:
            from pbl.languages.commands import say_wrong_words

            message = say_wrong_words(message)
        context = getattr(error, "ctx", None)
        message = say(
            "{what} See: {command} --help", what=message, command=context.command_path if context else "python -m pbl"
        )
    print(f"pbl: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
