import json
from pathlib import Path

import pytest

from pbl.config import DEFAULT_EXPERIMENT, Config, apply_overrides, load_experiment, parse_overrides
from pbl.errors import InputError


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["epochs=3", "learning_rate=1e-2"], {"epochs": 3, "learning_rate": 0.01}),
        (
            ["model_options.dropout=0.5", "model_options.widths=[64, 32]"],
            {"model_options": {"dropout": 0.5, "widths": [64, 32]}},
        ),
        (["image_size=32", "channels=none"], {"image_size": 32, "channels": None}),
        (["optimizer_options.nesterov=true"], {"optimizer_options": {"nesterov": True}}),
        (["experiment=007", "data_dir=None"], {"experiment": "007", "data_dir": None}),
        (["callbacks=a, b", "dataset=x=y"], {"callbacks": "a, b", "dataset": "x=y"}),
    ],
)
def test_overrides(words, values):
    assert parse_overrides(words) == values
    Config(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 3}, "no setting 'epoch'. Did you mean 'epochs'?"),
        ({"epochs": -1}, "epochs=-1: input should be greater than or equal to 1"),
        ({"learning_rate": "fast"}, "learning_rate='fast'"),
        ({"learning_rate": True}, "learning_rate='true': input should be a valid number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"fit": "zoom"}, "'crop', 'pad' or 'stretch'"),
        ({"model_options": {"f": len}}, "so that config.json can store them"),
        ({"experiment": "../x"}, "experiment='../x'"),
        ({"experiment": "-x"}, "experiment='-x'"),
        ({"experiment": "実" * 61}, "at most 60 characters"),
        ({"image_size": 100_000}, "less than or equal to 4096"),
    ],
)
def test_wrong_values(values, said):
    with pytest.raises(InputError) as error:
        Config(**values)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_assignment_is_checked():
    config = Config()
    with pytest.raises(InputError, match="epochs=-1"):
        config.epochs = -1
    config.epochs = 3
    assert config.epochs == 3


def test_config_survives_json():
    config = Config(
        image_size=32, model="mlp", model_options={"widths": (64, 32)}, callbacks=["early_stopping"], seed=0
    )
    assert Config(**json.loads(config.model_dump_json())) == config
    assert config.model_options == {"widths": [64, 32]} and config.image_size == (32, 32)


def test_options_are_merged(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from pbl import Config\nconfig = Config(model='mlp', model_options={'widths': [8], 'dropout': 0.1})\n"
    )
    other = load_experiment(file, ["model=resnet20"])  # with its own options
    assert other.model_options == {}
    assert load_experiment(file, ["model=mlp"]).model_options == {"widths": [8], "dropout": 0.1}
    config = load_experiment(file, ["model_options.dropout=0.5"])
    assert load_experiment(file, "model_options.dropout=0.5") == config  # one change, without the brackets
    assert (
        config.model_options == {"widths": [8], "dropout": 0.5} and config.experiment == "mine" and config.file == file
    )


def test_augmentation_is_merged(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from pbl import Config\nconfig = Config(augmentation={'flip': True, 'crop': 4})\n")
    assert load_experiment(file, ["augmentation.crop=2"]).augmentation == {"flip": True, "crop": 2}
    assert load_experiment(file, ["augmentation={}"]).augmentation == {}  # given as a whole, it is used unchanged
    with pytest.raises(InputError, match=r"there is no 'rotate'\. Did you mean 'rotation'"):
        load_experiment(file, ["augmentation.rotate=3"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", "line 1"),
        ("import nothing_like_this\n", "line 1: ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("\n\nx = 1 / 0\n", "line 3: ZeroDivisionError"),
        ("from pbl import Config\n\nconfig = Config(epoch=3)\n", "line 3: There is no setting 'epoch'"),
        ("x = 1\n", "does not set `config`"),
        ("raise SystemExit\n", "line 1: SystemExit"),
        ("\0", "mine.py"),
    ],
)
def test_broken_experiment_files(tmp_path, text, said):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        load_experiment(file)
    assert said in str(error.value) and str(file) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    "file",
    sorted(
        file for file in Path(DEFAULT_EXPERIMENT).parent.glob("*.py") if "Config(" in file.read_text(encoding="utf-8")
    ),
    ids=lambda file: file.stem,
)
def test_every_experiment_loads(file):
    config = load_experiment(file)
    assert config.experiment == file.stem
    assert "Command:" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "words", "left"),
    [
        ({"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}}, ["optimizer=SGD"], {"optimizer_options": {"momentum": 0.9}}),
        ({"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}}, ["optimizer=adam"], {"optimizer_options": {}}),
        ({"model": "small_cnn", "model_options": {"dropout": 0.3}}, ["model=Small-CNN"], {"model_options": {"dropout": 0.3}}),
        (
            {"task": "segmentation", "task_options": {"loss": "both"}}, ["task_options.false_images=0.1"],
            {"task_options": {"loss": "both", "false_images": 0.1}},
        ),
        ({"task": "segmentation", "task_options": {"loss": "both"}}, ["task=anomaly"], {"task_options": {}}),
    ],
)  # fmt: skip
def test_options_are_kept_where_their_owner_is_the_same(given, words, left):
    changed = apply_overrides(Config(**given), words)
    assert {name: getattr(changed, name) for name in left} == left


def test_a_file_that_ends_in_replace_is_named_after_the_file(tmp_path):
    for name, text in (
        ("ours", "Config().replace(epochs=3)"),
        ("theirs", "Config(experiment='named').replace(epochs=3)"),
    ):
        (tmp_path / f"{name}.py").write_text(f"from pbl import Config\nconfig = {text}\n")
    assert [load_experiment(tmp_path / f"{name}.py").experiment for name in ("ours", "theirs")] == ["ours", "named"]
