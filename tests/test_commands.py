"""Every command in our texts works: in the READMEs, the lessons, the experiments, and the output of the package."""

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer.main
from pages import ROOT, list_readmes
from PIL import Image
from sklearn.datasets import load_digits

import pbl
from pbl.cli import app, list_options
from pbl.cli.options import load_config
from pbl.cli.words import read_words
from pbl.evaluation.metrics import check_positive_class
from pbl.evaluation.run import open_data
from pbl.languages.catalogue import read_catalogue

PROGRAM = typer.main.get_command(app)
OPTIONS = list_options(PROGRAM)
# Sets that are downloaded: a folder of photographs replaces them.
DOWNLOADED = ("mnist", "cifar10", "cats_vs_dogs", "tf_flowers")


def read_notebook(file: Path) -> str:
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(file.read_text(encoding="utf-8"))["cells"])


def find_commands(text: str) -> list[str]:
    """The commands of a text: in backticks, on separate lines, or in a sentence, where punctuation ends them."""
    found = []
    for match in re.finditer(r"(`?)python -m pbl (?=[a-z])", text):
        rest = text[match.end() :]
        if match[1]:
            end = rest.index("`")
        else:
            end = re.search(r"\s*(?:\n|$|  |`|(?<!\.)[.;,)](?:\s|$)|[^\x00-\x7f])", rest).start()
        command = " ".join(rest[:end].replace("\\n", " ").split())
        found.append(re.sub(r"\s#.*|\s\.\.\.(?=\s|$)|\s\((?=\S).*", "", command))
    return found


TEXTS = {
    **{name: (ROOT / name).read_text(encoding="utf-8") for name in (*list_readmes(), ".github/CONTRIBUTING.md")},
    **{file: read_notebook(ROOT / file) for file in ("run_colab.ipynb", "notebooks/ja/run_colab.ipynb")},
    **{
        str(file.relative_to(ROOT)): read_notebook(file)
        for file in sorted((ROOT / "notebooks").rglob("*.ipynb"))
        if file.name != "run_colab.ipynb"
    },
    **{str(f.relative_to(ROOT)): f.read_text(encoding="utf-8") for f in sorted((ROOT / "experiments").glob("*.py"))},
    "sentences": "\n".join(text for (_, english), ours in read_catalogue("ja").sentences.items() for text in (english, ours)),
    "help": "\n".join(
        text or "" for one in PROGRAM.commands.values() for text in (one.help, *(vars(p).get("help") for p in one.params))
    ),
}  # fmt: skip
COMMANDS = {command: source for source, text in TEXTS.items() for command in find_commands(text)}


def test_commands_are_found():
    assert find_commands("a `python -m pbl train x.py\n  epochs=3`, b\n    python -m pbl log --out a.png # all\nc: python -m pbl x.") == [
        "train x.py epochs=3", "log --out a.png", "x",
    ]  # fmt: skip
    by_source = {source: set(find_commands(text)) for source, text in TEXTS.items()}
    for name in ("README.md", "README.ja.md"):  # of each language
        of_readmes = set().union(*(found for source, found in by_source.items() if source.endswith(name)))
        assert len(of_readmes) >= 60 and len(by_source[f"experiments/{name}"]) > 25, by_source
    assert len(by_source["sentences"]) > 15, by_source


def test_each_command_is_understood(monkeypatch):
    """Its name, options and settings exist, and so does its experiment file."""
    monkeypatch.chdir(ROOT)
    wrong = {}
    for line in COMMANDS:
        name, *words = read_words(shlex.split(line), OPTIONS)
        if name == "COMMAND" or (not words and name in PROGRAM.commands):
            continue
        try:
            words = [word.replace("{split}", "test") for word in words]
            given = PROGRAM.commands[name].make_context(name, words).params
            if name == "train" and not re.search(r"runs/|[{A-Z]", given["experiment"] or ""):
                load_config(given["experiment"], given["settings"])
        except Exception as error:
            wrong[line] = (COMMANDS[line], repr(error))
    assert not wrong


@pytest.fixture
def photographs(tmp_path, monkeypatch) -> Path:
    """A working folder like a team's: the experiments, and digits as colour photographs of two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PBL_RUNS", raising=False)
    shutil.copytree(ROOT / "experiments", "experiments", ignore=shutil.ignore_patterns("benchmarks", "gallery"))
    digits = load_digits()
    chosen = [np.flatnonzero(digits.target == of)[:80] for of in (0, 1)]
    for name, numbers in zip(("cat", "dog"), chosen, strict=True):
        Path("animals", name).mkdir(parents=True)
        for number in numbers:
            image = Image.fromarray((digits.images[number] * 15).astype(np.uint8)).resize((40, 40)).convert("RGB")
            image.save(f"animals/{name}/{number}.png")
    shutil.make_archive("photos", "zip", "animals")
    for name in ("cats_dogs.zip", "cifar10.zip"):
        shutil.copy("photos.zip", name)
    for name, kind in (("cat", "good"), ("dog", "crack")):
        shutil.copytree(f"animals/{name}", f"tiles/{kind}")
    shutil.make_archive("tiles", "zip", "tiles")
    shutil.rmtree("tiles")
    for name in ("cat", "dog"):  # bright pixels are marked, and are in a box
        for kind in ("scans/images", "scans/masks", "scenes/images", "scenes/labels"):
            Path(kind, name).mkdir(parents=True)
        for number, file in enumerate(sorted(Path("animals", name).iterdir())):
            mask = np.asarray(Image.open(file).convert("L")) > 100
            rows, columns = (np.flatnonzero(mask.any(axis=of)) for of in (1, 0))
            (top, left), (bottom, right) = (rows[0], columns[0]), (rows[-1] + 1, columns[-1] + 1)
            of_patient, of_scene = f"patient{number // 4}_{file.stem}", f"scene{number // 4}_{file.stem}"
            shutil.copy(file, f"scans/images/{name}/{of_patient}.png")
            Image.fromarray((mask * 255).astype(np.uint8)).save(f"scans/masks/{name}/{of_patient}.png")
            shutil.copy(file, f"scenes/images/{name}/{of_scene}.png")
            box = ((left + right) / 80, (top + bottom) / 80, (right - left) / 40, (bottom - top) / 40)
            line = " ".join(map(str, (("cat", "dog").index(name), *box)))
            Path(f"scenes/labels/{name}/{of_scene}.txt").write_text(line + "\n")
    Path("scenes/classes.txt").write_text("cat\ndog\n")
    shutil.make_archive("ultrasound", "zip", "scans")
    shutil.make_archive("scenes", "zip", "scenes")
    Path("photos_with_faults").symlink_to("animals")
    Path("photos").mkdir()
    for number in chosen[0][:3]:
        shutil.copy(f"animals/cat/{number}.png", "photos")
    shutil.copy(f"animals/dog/{chosen[1][0]}.png", "my_photo.jpg")
    return tmp_path


def bring_home(words: list[str]) -> list[str]:
    """The words of a command with photographs instead of a set, or of weights, that would be downloaded."""
    config = load_config(*split_experiment(words))
    words = [word for word in words if not word.startswith("dataset=") or word.split("=")[1] not in DOWNLOADED]
    if config.dataset in DOWNLOADED:
        words += ["dataset=photos.zip", *([] if config.image_size else ["image_size=32"])]
    if config.model_options.get("weights") != "imagenet":
        return words
    return [
        *words,
        "model_options.weights=none",
        "fine_tune_epochs=0",
    ]  # random weights are trained from the first epoch on


def split_experiment(words: list[str]) -> tuple[str | None, list[str]]:
    given = PROGRAM.commands["train"].make_context("train", list(words)).params
    return given["experiment"], given["settings"]


OF_TRAINING = [
    command for command in COMMANDS
    if command.startswith("train ") and not re.search(r"runs/|[{A-Z]{2}|leave_out|\{(setting|words|path)\}", command)
]  # fmt: skip


@pytest.mark.slow
def test_data_of_each_training_fit_its_settings(photographs):
    """Even if the classes have other names than the experiment's own; what another command makes does not exist yet."""
    assert len(OF_TRAINING) > 15
    opened = set()
    for command in OF_TRAINING:
        _, *words = read_words(shlex.split(command), OPTIONS)
        config = load_config(*split_experiment(bring_home(words)))
        if config.dataset.startswith("holdout/"):
            continue
        if (key := (config.dataset, config.image_size, config.positive_class)) not in opened:
            opened.add(key)
            check_positive_class(config.positive_class, open_data(config).class_names)


def test_the_experiment_to_copy_says_nothing_of_itself(photographs, command):
    """It ends as its own comment says that a model must, and accepts a team's photographs."""
    status, said, errors = command(
        "train", "--dry-run", "experiments/my_team.py", "dataset=photos.zip", "image_size=32"
    )
    assert status == 0 and not errors and "float32" not in said.replace("in float32 on CPU", ""), said + errors


def make_short(words: list[str]) -> list[str]:
    """The same command with one epoch and few seeds."""
    name, *words = words
    words = [re.sub(r"^epochs=\d+", "epochs=1", word) for word in words]
    for option, value in (("--seeds", "2"), ("--epochs", "1"), ("--trials", "2")):
        if option in words:
            words[words.index(option) + 1] = value
    if name not in ("train", "find-rate"):
        return [name, *words]
    words = [word for word in words if not word.startswith("max_minutes")]
    if name == "train" and not any(word.startswith(("runs/", "--memorise")) for word in words):
        words = bring_home(words)
    short = [] if any(word.startswith("epochs=") for word in words) else ["epochs=1"]
    return [name, *words, *short, *(["fine_tune_epochs=1"] if any("flowers" in word for word in words) else [])]


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package.lower().replace("-", "_")) is not None


@pytest.mark.nightly
@pytest.mark.parametrize("source", [s for s in TEXTS if s not in ("sentences", "help") and find_commands(TEXTS[s])])
def test_the_commands_of_a_text_run_one_after_another(source, photographs, command, trained_run):
    """Each for real, with one epoch: what one writes the next ones read. Status 1 is valid too: a requirement is not met."""
    for name in ("digits_resnet20", "mine", "mnist_mlp"):
        shutil.copytree(trained_run.path, f"runs/{name}/001")
    if "runs/photos_vgg/001" in TEXTS[source] or "runs/my_team/001" in TEXTS[source]:
        of_two = ("model=mlp", "dataset=photos.zip", "image_size=16", "epochs=1")
        names = ("my_team", "photos_vgg") if source.endswith(".md") or source.startswith("experiments") else ()
        assert all(command("train", *of_two, f"experiment={name}")[0] == 0 for name in names)
    Path("teams.csv").write_text("team\nTeam 7\n")
    Path("rubric.py").write_text("from pbl.grading import Rubric\n\nrubric = Rubric()\n")
    failed = {}
    for line in dict.fromkeys(find_commands(TEXTS[source])):
        words = shlex.split(line)
        if (
            words[0].isupper()
            or any(re.fullmatch("RUN|SOURCE|SUBMISSIONS|HIDDEN|NAME", word) for word in words)
            or (len(words) == 1 and words[0] in ("evaluate", "inspect", "check", "diagnose"))
        ):
            continue  # a template, not a command
        if words[0] == "demo" and is_installed("gradio"):
            continue  # it serves its page until it is stopped: `test_demonstration.py` has it
        if words[0] == "grade" and not Path("submissions").exists():
            Path("submissions").mkdir()
            for file in Path().glob("Team*.zip"):
                shutil.copy(file, "submissions")
        words = [
            word
            for pattern in words
            for word in (sorted(map(str, Path().glob(pattern))) if "*" in pattern else [pattern])
        ]
        status, said, errors = command(*make_short(words))
        needed = re.search(r"needs (?:the package )?([\w-]+)[^.]* which is not installed", errors)
        if status == 2 and needed and not is_installed(needed[1]):
            continue  # an extra
        if line.startswith("compare runs/*/*") and "were trained on different" in errors:
            continue  # it names runs on these photographs too, which are refused, as its README says
        if status not in (0, 1) or (status == 1 and not said):
            failed[line] = (status, said[-500:], errors)
    assert not failed
    assert pbl.load_run("runs/mine/001").config.model == "mlp"
