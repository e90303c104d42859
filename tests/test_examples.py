"""The examples in docstrings run, and give what stands there: a person copies them.

Each stands for itself: it imports what it uses. They share one folder, as a person has it after a first training: `runs/mine/001`, and
images in `photos`, `scans` (with masks) and `scenes` (with boxes).
"""

import doctest
import importlib
import inspect
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import pbl
from pbl.models import CARDS

ROOT = Path(__file__).resolve().parent.parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROOMS = (pbl, pbl.data, pbl.models, pbl.statistics, pbl.diagnosis, pbl.evaluation)
# Of a second and a half of a processor or more, most of them since the network is large.
LONG = """
alexnet vgg11 vgg13 vgg16 vgg19 vgg16_bn resnet101 resnet110 resnet152 resnet1202 se_resnet44 se_resnet56 se_resnet110 se_resnet50
senet154 vit_tiny vit_small vit_base se_resnet32 BoxMonitor MaskMonitor ContrastMonitor GanMonitor inspect_run measure_learning_curve measure_contamination
""".split()
NEED_MORE = {"demo", "search"}  # Gradio, and a run that learned by contrast: they are not run


def find_examples() -> list[doctest.DocTest]:
    """Of all files that have some, in the order of the files."""
    found = []
    finder = doctest.DocTestFinder(exclude_empty=True)
    for file in sorted((ROOT / "pbl").rglob("*.py")):
        if ">>> " in file.read_text(encoding="utf-8"):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found += [test for test in finder.find(importlib.import_module(name), name, globs={}) if test.examples]
    return found


EXAMPLES = find_examples()


def last_name(test: doctest.DocTest) -> str:
    return test.name.rpartition(".")[2]


def run_examples(tests: list[doctest.DocTest]) -> None:
    runner, told = doctest.DocTestRunner(optionflags=FLAGS), []
    for test in tests:
        test.globs = {"__name__": "__main__"}
        runner.run(test, out=told.append)
        keras.backend.clear_session(free_memory=False)
    assert not runner.summarize(verbose=False).failed, "".join(told)


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory):
    """One in which a person has trained once, and has images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.delenv("PBL_RUNS", raising=False)
        pbl.train(pbl.Config(experiment="mine", model="mlp", model_options={"widths": [32]}, epochs=3))
        shutil.copytree(
            ROOT / "experiments", "experiments", ignore=shutil.ignore_patterns("benchmarks", "gallery", "__pycache__")
        )
        digits = load_digits()
        for number, name in enumerate(("zero", "one")):
            for place, at in enumerate(np.flatnonzero(digits.target == number)[:8]):
                image = Image.fromarray((digits.images[at] * 15).astype(np.uint8)).resize((32, 32))
                files = {f"photos/{name}/{place}.png": image}
                if name == "zero":
                    bright = Image.fromarray(np.where(np.asarray(image) > 100, 255, 0).astype(np.uint8))
                    files |= {
                        f"{kind}/{place}.png": of
                        for kind, of in (("scans/images", image), ("scans/masks", bright), ("scenes/images", image))
                    }
                for file, of in files.items():
                    Path(file).parent.mkdir(parents=True, exist_ok=True)
                    of.save(file)
        Path("scenes/labels").mkdir()
        for file in Path("scenes/images").iterdir():
            Path("scenes/labels", f"{file.stem}.txt").write_text("0 0.5 0.5 0.4 0.6\n")
        Path("scenes/labels/classes.txt").write_text("zero\n")
        shutil.make_archive("photos", "zip", "photos")
        yield


SHORT: dict[str, list[doctest.DocTest]] = {}  # by room
for one in EXAMPLES:
    if last_name(one) not in LONG:
        SHORT.setdefault(".".join(one.name.split(".")[:2]), []).append(one)


@pytest.mark.slow
@pytest.mark.parametrize("room", SHORT)
def test_examples_give_what_stands_there(room, working_folder):
    run_examples(SHORT[room])


@pytest.mark.nightly
@pytest.mark.parametrize("example", [one for one in EXAMPLES if last_name(one) in LONG], ids=last_name)
def test_long_examples_give_what_stands_there(example, working_folder):
    run_examples([example])


def test_every_public_function_has_an_example():
    missing = []
    for room in ROOMS:
        names = getattr(room, "__all__", None) or [
            name
            for name, value in vars(room).items()
            if inspect.isfunction(value) and value.__module__ == room.__name__ and not name.startswith("_")
        ]
        for name in names:
            value = getattr(room, name)
            if inspect.isfunction(value) or (room is pbl and inspect.isclass(value)):
                missing += [f"{room.__name__}.{name}"] * (">>> " not in (value.__doc__ or ""))
    assert not missing
    assert set(LONG) <= {last_name(one) for one in EXAMPLES}
    skipped = {last_name(one) for one in EXAMPLES for step in one.examples if "+SKIP" in step.source}
    assert skipped == NEED_MORE


def test_builders_tell_the_weights_of_their_cards():
    """At the card's size, which the long ones among them prove by night."""
    told = {last_name(one): one.examples for one in EXAMPLES if one.name.startswith("pbl.models.")}
    for name, card in CARDS.items():
        if name == "autoencoder":  # which is trained
            continue
        built, counted = told[name][-2:]
        assert re.search(rf"models\.{name}\({re.escape(str(card.input_shape))}, {card.classes}\b", built.source)
        assert int(counted.want) == card.weights, name
