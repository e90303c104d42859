"""What people type, and what the commands then take."""

import importlib
import shlex
import shutil
from pathlib import Path

import pytest
import typer.main

import pbl
from pbl.cli import app, list_options
from pbl.cli.options import load_config, parse_requirements
from pbl.cli.words import read_words
from pbl.comparison import find_runs
from pbl.errors import InputError, name_nearest
from pbl.runs import find_places, load_run, start_run
from pbl.storage.writing import expand_pattern

OPTIONS = list_options(typer.main.get_command(app))


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("train epochs=3", "train epochs=3"),
        ("train epochs = 3 seed =1 batch_size= 8", "train epochs=3 seed=1 batch_size=8"),
        ("train epochs 3 model mlp", "train epochs=3 model=mlp"),
        ("train --epochs 3 --fresh --model=mlp", "train epochs=3 --fresh model=mlp"),
        ("train --batch-size 8 -epochs 2", "train batch_size=8 epochs=2"),
        ("train --tensorboard --runs x", "train tensorboard=true --runs x"),
        ("train model_options.dropout 0.5", "train model_options.dropout=0.5"),
        ("train ｅｐｏｃｈｓ＝３", "train epochs=3"),
        ("ｔｒａｉｎ　epochs＝３　model=mlp", "train epochs=3 model=mlp"),
        ("train learning_rate=1e−3 —fresh", "train learning_rate=1e-3 --fresh"),
        ("train positive_class=Ａ", "train positive_class=Ａ"),  # a class may have this name
        ("check digits image_size 8 --fast", "check digits image_size=8 --fast"),
        ("evaluate runs/x/001 −−split test", "evaluate runs/x/001 --split test"),
        ("train epochs:3 Batch-Size==8 learning-rate=0.1,", "train epochs=3 batch_size=8 learning_rate=0.1"),
        ("train epochs：3 model=“mlp” –-dry-run", "train epochs=3 model=mlp --dry-run"),
        (
            "train --lr 0.1 --epoch 3 lr 0.1",
            "train lr=0.1 epoch=3 lr=0.1",
        ),  # not settings: their errors name the settings
        ("train --dryrun --memorize 8 --dry_run", "train --dry-run --memorise 8 --dry-run"),
        ("train seeds=2 fresh=true dry_run=no epochs=2", "train --seeds 2 --fresh epochs=2"),
        ("train --sweep “a=1,2 b=3” --seeds=2", "train --sweep a=1,2 b=3 --seeds 2"),
        ("train --seeds 3 epochs=1 -m x", "train --seeds 3 epochs=1 -m x"),
        ("evaluate x split=val data_dir=y", "evaluate x --split val --data-dir y"),
        ("evaluate x --split validation --require accuracy≥0.1", "evaluate x --split val --require accuracy>=0.1"),
        ("evaluate x --split=Test", "evaluate x --split test"),
        ("compare --train x epochs=5", "compare --train x epochs=5"),
        ("diagnose x --lang ja", "diagnose x --language ja"),
        ("Find_Rate model=mlp", "find-rate model=mlp"),
        ("pbl train -h", "train --help"),
        ("train help", "train --help"),
        ("help train", "train --help"),
        ("help", "--help"),
    ],
)
def test_words_as_they_are_typed(typed, taken):
    assert " ".join(read_words(typed.split(" "), OPTIONS)) == taken


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("test runs/x/001", "Did you mean 'evaluate'"),
        ("epochs=1 model=mlp", "python -m pbl train epochs=1 model=mlp"),
        ("experiments/my_team.py", "python -m pbl train experiments/my_team.py"),
        ("evaluate runs/x/001 test", "Write: python -m pbl evaluate ... --split test"),
        ("evaluate runs/x/001 --test", "Write: python -m pbl evaluate ... --split test"),
        ("report ja", "--language ja"),
    ],
)
def test_what_may_mean_another_thing_is_told(typed, said):
    with pytest.raises(InputError) as told:
        read_words(typed.split(" "), OPTIONS)
    assert said in str(told.value)


def test_a_path_that_exists_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("写真　１", "epochs"):
        Path(name).mkdir()
    assert read_words(["check", "写真　１"], OPTIONS) == ["check", "写真　１"]
    assert read_words(["train", "dataset=写真　１"], OPTIONS) == ["train", "dataset=写真　１"]
    assert read_words(["check", "epochs", "seed=1"], OPTIONS) == ["check", "epochs", "seed=1"]


def test_the_experiment_stands_anywhere_and_by_its_name(tmp_path, monkeypatch):
    file = str(Path(pbl.__file__).parent.parent / "experiments" / "mnist_mlp.py")
    for experiment, settings in ((file, ["epochs=2"]), ("epochs=2", [file]), ("mnist_mlp", ["epochs=2"]), ("epochs=2", ["mnist_mlp.py"])):  # fmt: skip
        config = load_config(experiment, settings)
        assert (config.experiment, config.epochs) == ("mnist_mlp", 2)
    with pytest.raises(InputError, match="give one experiment file"):
        load_config(file, ["mnist_mlp"])
    with pytest.raises(InputError, match=r"No experiment file my_tam\. Did you mean 'my_team'"):
        load_config("my_tam", [])


def test_names_in_any_case_and_by_their_beginning():
    assert pbl.models.find_builder("ResNet20") is pbl.MODELS["resnet20"]
    with pytest.raises(InputError, match="Did you mean 'resnet20'"):
        pbl.models.find_builder("resnet")
    assert pbl.data.catalogue.open_source("Digits").class_names == list("0123456789")
    assert "Did you mean 'b2'" in name_nearest("b", ["a", "b2", "b1"])


@pytest.mark.parametrize(("text", "said"), [("accuracy > 90", 'Write "accuracy>0.9"'), ("macro.f1>=85%", 'Write "macro.f1>=0.85"'), ("accuracy is 1", "is not of the form")])  # fmt: skip
def test_requirements(text, said):
    with pytest.raises(InputError, match=said):
        parse_requirements([text])
    assert parse_requirements(["log_loss<2"])[0].number == 2


def test_runs_by_patterns_and_below_the_folder_of_runs(tmp_path, monkeypatch):
    """`runs/*/*` matches tables and pictures too; with PBL_RUNS the paths in the README are found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBL_RUNS", str(tmp_path / "drive"))
    runs = [start_run(pbl.Config(experiment=name), tmp_path / "drive") for name in ("a", "a", "b")]
    for name in ("a/sweep.csv", "a/learning_curve.png"):
        (tmp_path / "drive" / name).touch()
    (tmp_path / "drive" / "b" / "empty").mkdir()
    paths = {run.path for run in runs}
    for words in (["drive/*/*"], ["runs/*/*"], ["drive/a/001", "drive/a/sweep.csv", "drive/*/00[2-9]", "runs/b"]):
        assert {run.path.resolve() for run in find_runs(words)} == paths
    assert load_run("runs/b/001").path == load_run("b/001").path == load_run("b/*").path == tmp_path / "drive/b/001"
    assert find_places("nothing") == [Path("nothing")]
    for words in (["drive/a/sweep.csv"], ["drive/b/empty"], ["nowhere"]):
        with pytest.raises(InputError, match="Give folders of runs"):
            find_runs(words)
    assert [file.name for file in expand_pattern(tmp_path / "drive" / "a" / "*.csv")] == ["sweep.csv"]


def test_slips_of_the_table_are_told(command, trained_run, tmp_path, monkeypatch):
    """The slips in experiments/benchmarks/typed_slips.py that end before anything is loaded: one line, which names what was meant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(pbl.__file__).parent.parent / "experiments" / "benchmarks")
    table = importlib.import_module("typed_slips")
    table.fill(tmp_path, table.ROOT)
    for number in ("001", "002"):
        shutil.copytree(trained_run.path, tmp_path / "runs" / "mine" / number)
    kinds = ("a setting's form", "options", "experiment files and what is given in their place", "commands", "runs")
    tried, wrong = 0, {}
    for typed, status, words in (
        row for kind in kinds for row in table.SLIPS[kind] if row[1] == 2 and "*/*" not in row[0]
    ):
        done, said, errors = command(*shlex.split(typed))
        answer = table.Answer(done, 0, said, errors)
        tried += 1
        if not answer.judge(status, words):
            wrong[typed] = answer
    assert tried > 40 and not wrong
