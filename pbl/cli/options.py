"""The options that several commands share, and functions that read their words."""

import operator
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from typer import Argument, Option

from pbl.cli.screen import quiet_tensorflow
from pbl.config import find_name
from pbl.errors import InputError, Sentence
from pbl.languages import say_sentence
from pbl.languages.catalogue import list_languages

RunFolder = Annotated[str, Argument(metavar="RUN", help="A run's folder, such as runs/digits_resnet20/001.")]
RunsOption = Annotated[
    str | None,
    Option("--runs", metavar="DIR", help="Folder of the runs; by default the variable PBL_RUNS, then runs/."),
]
DataDir = Annotated[str | None, Option(metavar="DIR", help="Folder of prepared TensorFlow Datasets.")]
AsJson = Annotated[bool, Option("--json", help="Print JSON, for scripts.")]
ExperimentFile = Annotated[
    str | None,
    Argument(
        metavar="EXPERIMENT.py",
        help="An experiment file, or a run's folder for the settings of that run; by default experiments/digits_resnet20.py.",
    ),
]
Settings = Annotated[
    list[str] | None,
    Argument(metavar="KEY=VALUE", help="Settings to change, such as epochs=3 model_options.dropout=0.5."),
]
Split = Literal["val", "test"]
Language = Literal[*list_languages()]
LanguageOption = Annotated[
    Language | None, Option(help="Language of the sentences; by default the variable PBL_LANGUAGE, then the locale.")
]

Trust = Annotated[
    bool, Option("--trust", help="Execute the run's experiment.py, even if it was not made on this machine.")
]
NoCode = Annotated[
    bool, Option("--no-code", help="Do not execute the run's experiment.py: its model comes with this package.")
]

Workers = Annotated[
    int,
    Option(
        metavar="N",
        help="The number of runs trained at once, as processes that share this machine's cores and GPUs; only for several runs.",
    ),
]
Engine = Annotated[
    Literal["processes", "ray"],
    Option(help="What runs the workers: processes of this machine, or tasks of Ray, on the cluster that it finds."),
]

PICTURES = (".png", ".pdf", ".svg", ".jpg")


_words: list[str] = []  # words of the command that runs now


def remember_words(words: list[str]) -> None:
    """Stores the words of the command, for its workers."""
    _words[:] = words


def is_spread(workers: int, engine: str) -> bool:
    """Whether `--workers` or `--engine` ask for more than this process alone."""
    return workers != 1 or engine != "processes"


def spread(workers: int, engine: str) -> None:
    """Runs the same command in several processes at once, and waits for them: then everything is trained, and this process reads it.

    In a worker, or with a single worker, it does nothing.

    Args:
        workers: How many processes, as given by `--workers`.
        engine: What runs them, as given by `--engine`.
    """
    from pbl.training.workers import is_worker, run_workers

    if is_worker() or not is_spread(workers, engine):
        return
    words = list(_words)
    for option in ("--workers", "--engine"):
        while option in words:
            del words[(at := words.index(option)) : at + 2]
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # this process leaves the GPUs to the workers
    if engine == "ray":
        from pbl.training.ray_engine import run_on_ray as run_workers
    run_workers(
        words, workers, lambda line: print(say_sentence(line), flush=True), lambda line: print(line, flush=True)
    )


def choose_code(runs: Iterable[str | None], trust: bool, no_code: bool) -> None:
    """Reads `--trust` and `--no-code`: whether the code of runs may be executed until the command ends.

    Raises:
        InputError: Both are given.
    """
    from pbl.runs import find_places
    from pbl.storage.trust import NO_CODE, trust_run

    if trust and no_code:
        raise InputError("Give --trust or --no-code, not both.")
    if no_code:
        os.environ[NO_CODE] = "1"  # `pbl.cli.main` removes it
    if trust:
        places = [place for run in runs if run and "=" not in run for place in find_places(run)]
        for file in (file for place in places for file in [place / "experiment.py", *place.glob("*/experiment.py")]):
            if (file.parent / "config.json").is_file():
                trust_run(file.parent)


def load_config(experiment: str | None, settings: list[str] | None):
    """Returns the `Config` of an experiment file and settings; the first word may be a setting too."""
    from pbl.config import DEFAULT_EXPERIMENT, Config, load_experiment

    words = [*([experiment] if experiment else []), *(settings or [])]
    is_setting = {word: word.partition(".")[0] in Config.model_fields and not word.endswith(".py") for word in words}
    files = [w for w in words if Path(w).exists() or ("=" not in w and not is_setting[w]) or w.endswith(".py")]
    for word in files:
        _check_experiment(word)
    if len(files) > 1:
        raise InputError(
            "{words}: give one experiment file (or run), and settings of the form key=value, such as epochs=3.",
            words=" ".join(files),
        )
    words = [word for word in words if word not in files]
    experiment = find_experiment(files[0]) if files else str(DEFAULT_EXPERIMENT)
    # Plain settings are checked before TensorFlow is loaded; the file loads it only if it has its own model or data.
    with quiet_tensorflow():
        return load_experiment(experiment, words)


def _check_experiment(word: str) -> None:
    """Raises InputError if the word in the place of an experiment file is something else and not a setting."""
    told = "'{word}' is not an experiment file, but {what}. Write: {setting}={word}"
    if re.fullmatch(r"[-+]?[0-9.,]+(e[-+]?[0-9]+)?", word):
        wrong = (
            "'{word}' is a value without a setting. Several values of one setting: --sweep \"learning_rate=0.1,0.01\"."
        )
        raise InputError(wrong, word=word)
    path = Path(find_experiment(word))
    if path.suffix.lower() in (".zip", ".npz") or (path.is_dir() and not any(path.glob("**/config.json"))):
        if not any(path.glob("*.py")):
            raise InputError(told, word=word, what=Sentence("a set of images"), setting="dataset")
    elif not path.exists() and not word.endswith(".py"):
        with quiet_tensorflow():
            from pbl.data import DATASETS
            from pbl.models import MODELS
        for table, what, setting in ((DATASETS, "a data set", "dataset"), (MODELS, "a model", "model")):
            if find_name(word, table):
                raise InputError(told, word=word, what=Sentence(what), setting=setting)


def find_experiment(word: str) -> str:
    """Returns the path of an experiment file or run: `my_team` means experiments/my_team.py if it is not a path itself."""
    from pbl.config import DEFAULT_EXPERIMENT
    from pbl.runs import find_places

    if Path(word).exists():
        return word
    name = word.removesuffix(".py")
    folder = DEFAULT_EXPERIMENT.parent
    places = [Path(f"{name}.py"), folder / f"{name}.py", folder / word, folder.parent / word, *find_places(word)]
    return next((str(place) for place in places if place.exists()), word)


def check_file(option: str, file: Path | None, formats: tuple[str, ...]) -> None:
    """Raises InputError if a file that is to be written is in no existing folder, or does not have one of these endings."""
    if file is not None and (file.suffix.lower() not in formats or not file.parent.is_dir()):
        raise InputError(
            "{option} {file}: give a file in a folder that exists, whose name ends in one of {formats}.",
            option=option,
            file=file,
            formats=", ".join(formats),
        )


_SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_REQUIREMENT = re.compile(rf"\s*([^<>=]+?)\s*({'|'.join(_SIGNS)})\s*([0-9.eE+-]+)\s*%?\s*")


# Metrics that are a share, by the last part of their names.
_SHARES = {"accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "ece"}


class Requirement(NamedTuple):
    """What `--require` asks for, such as "accuracy>=0.9"."""

    text: str
    name: str
    sign: str
    number: float

    def judge(self, value: float | None) -> dict[str, Any]:
        """Reports whether a value reaches it; None does not."""
        holds = value is not None and _SIGNS[self.sign](value, self.number)
        return {"requirement": self.text, "value": value, "holds": holds}


def parse_requirements(texts: list[str] | None) -> list[Requirement]:
    """Reads the words after `--require`.

    Raises:
        InputError: One of them does not have the form "accuracy>=0.9".
    """
    requirements = []
    for text in texts or []:
        try:
            name, sign, number = _REQUIREMENT.fullmatch(text).groups()
            requirements.append(Requirement(text, name, sign, float(number)))
        except (AttributeError, ValueError):
            wrong = '--require "{text}" is not of the form "accuracy>=0.9" (>=, >, <= or <).'
            raise InputError(wrong, text=text) from None
        if float(number) > 1 and name.rpartition(".")[2] in _SHARES:
            told = '--require "{text}": {name} is a share, from 0 to 1. Write "{name}{sign}{share:g}".'
            raise InputError(told, text=text, name=name, sign=sign, share=float(number) / 100)
    return requirements
