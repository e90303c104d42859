"""What people type, each line given to the command line in a folder as a team has one, and what was answered.

    python experiments/benchmarks/typed_slips.py [--before CHECKOUT]

writes typed_slips.md beside this file: what was typed, the exit status, the seconds and the answer of this tree, whether that is
right by the expectation that stands in `SLIPS`, and the status and whether it was right in another checkout (with its own
experiments), which another process imports. A training ends where its model has been compiled. The seconds are those within a process that has TensorFlow loaded. Right is: the status is the expected one, the answer holds the expected words, there is no traceback, and wrong input
(status 2) gets one line.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]

RUNS = "(?i)reaches the training with model=mlp"
ONE_EPOCH = "(?i)reaches the training with model=mlp epochs=1 "
MLP = "model=mlp --dry-run"

# Kind of slip: what was typed after `python -m pbl` (NAME=VALUE before it: variables), exit status, words of the answer (a pattern).
SLIPS: dict[str, list[tuple[str, int, str]]] = {
    "full-width letters, signs, blanks and dashes": [
        ("train ｅｐｏｃｈｓ＝１ model=mlp", 0, ONE_EPOCH),
        ("train epochs＝１ model=mlp", 0, ONE_EPOCH),
        ("train　epochs=1　model=mlp", 0, ONE_EPOCH),
        ("train epochs：1 model=mlp", 0, ONE_EPOCH),
        (f"train learning_rate=1e−3 {MLP}", 0, RUNS),
        ("train —dry-run model=mlp", 0, RUNS),
        ("train –-dry-run model=mlp", 0, RUNS),
        ("train model=ｍｌｐ --dry-run", 0, RUNS),
        ("train model=“mlp” --dry-run", 0, RUNS),
        ("train model=mlp epochs=1 --sweep “learning_rate=0.01 seed=0,1”", 0, RUNS),
        ("train model=mlp epochs=1 --sweep ”learning_rate=0.01 seed=0,1” --runs other", 0, RUNS),
        (f"train model_options.dropout=０．５ {MLP}", 0, RUNS),
        (f"train optimizer＝ａｄａｍ {MLP}", 0, RUNS),
        ("evaluate runs／mine／001", 0, "accuracy"),
        ("evaluate ｒｕｎｓ/mine/００１ −−split val", 0, "accuracy"),
        ("evaluate runs/mine/001 --require accuracy＞＝0.1", 0, "holds"),
        ("evaluate runs/mine/001 --require accuracy≥0.1", 0, "holds"),
    ],
    "a setting's form": [
        ("train epochs = 1 model = mlp", 0, ONE_EPOCH),
        ("train epochs 1 model mlp", 0, ONE_EPOCH),
        ("train --epochs 1 --model mlp", 0, ONE_EPOCH),
        ("train --epochs=1 --model=mlp", 0, ONE_EPOCH),
        ("train -epochs 1 -model mlp", 0, ONE_EPOCH),
        ("train epochs =1 model= mlp", 0, ONE_EPOCH),
        ("train epochs==1 model==mlp", 0, ONE_EPOCH),
        ("train epochs:1 model:mlp", 0, ONE_EPOCH),
        ("train Epochs=1 MODEL=mlp", 0, ONE_EPOCH),
        ("train epochs=1, model=mlp", 0, ONE_EPOCH),
        ("train epochs=1,model=mlp", 2, "epochs='1,model=mlp': .*valid integer"),
        (f"train learning-rate=0.01 {MLP}", 0, RUNS),
        (f"train --learning-rate 0.01 --batch-size 8 {MLP}", 0, RUNS),
        (f"train learning_rate=0,01 {MLP}", 2, "learning_rate='0,01': .*0\\.01"),
        (f"train epochs=1,000 {MLP}", 2, "epochs='1,000'"),
        (f"train learning_rate=1e-3f {MLP}", 2, "learning_rate='1e-3f'.*valid number"),
        (f"train epochs=3回 {MLP}", 2, "epochs='3回'.*valid integer"),
        (f"train epochs= {MLP}", 2, "epochs=.*valid integer"),
        (f"train epochs {MLP}", 2, "epochs"),
        (f"train epoch=3 {MLP}", 2, "Did you mean 'epochs'"),
        (f"train epoch 3 {MLP}", 2, "Did you mean 'epochs'"),
        (f"train --epoch 3 {MLP}", 2, "Did you mean 'epochs'|epochs=3"),
        (f"train lr=0.01 {MLP}", 2, "learning_rate"),
        (f"train lr 0.01 {MLP}", 2, "learning_rate"),
        (f"train --lr 0.01 {MLP}", 2, "learning_rate"),
        (f"train batchsize=8 {MLP}", 0, RUNS),
        (f"train batch=8 {MLP}", 2, "Did you mean 'batch_size'"),
        (f"train dropout=0.5 {MLP}", 2, r"model_options\.dropout=0\.5"),
        (f"train flip=true {MLP}", 2, r"augmentation\.flip=true"),
        (f"train augmentation=true {MLP}", 2, r"augmentation\.flip=true"),
        (f"train augmentation.flip {MLP}", 2, r"augmentation\.flip"),
        (f"train momentum=0.9 optimizer=sgd {MLP}", 2, r"optimizer_options\.momentum=0\.9"),
        (f"train seed=1,2,3 {MLP}", 2, "seed='1,2,3'"),
        (f"train early_stopping=true {MLP}", 2, "callbacks=early_stopping"),
        (f"train epochs=0 {MLP}", 2, "greater than or equal to 1"),
        (f"train validation_fraction=15 {MLP}", 2, "less than 1"),
        (f"train image_size=32x32 channels=3 {MLP}", 0, RUNS),
        (f"train image_size=(32,32) {MLP}", 0, RUNS),
    ],
    "options": [
        ("train --dryrun model=mlp", 0, RUNS),
        ("train --dry_run model=mlp", 0, RUNS),
        ("train dry_run=true model=mlp", 0, RUNS),
        ("train seeds=2 epochs=1 model=mlp", 0, RUNS),
        ("train --memorize 8 model=mlp", 0, "8"),
        ("train --memorise", 2, "--memorise"),
        ("train --seeds 0", 2, "--seeds"),
        ("train --sweep learning_rate=0.1 0.01 model=mlp", 2, "learning_rate=0.1,0.01"),
        ("train --sweep learnng_rate=0.1,0.01 model=mlp", 2, "Did you mean 'learning_rate'"),
        ("evaluate runs/mine/001 split=val", 0, "accuracy"),
        ("evaluate runs/mine/001 val", 2, "--split val"),
        ("evaluate runs/mine/001 --test", 2, "--split test"),
        ("evaluate runs/mine/001 --split validation", 0, "accuracy"),
        ("evaluate --split val runs/mine/001", 0, "accuracy"),
        ('evaluate runs/mine/001 --require "accuracy > 90"', 2, r'Write "accuracy>0\.9"'),
        ('evaluate runs/mine/001 --require "accuracy >= 10%"', 2, r'Write "accuracy>=0\.1"'),
        ("evaluate runs/mine/001 --require accuracy", 2, "accuracy>=0.9"),
        ("evaluate runs/mine/001 --require acuracy>=0.1", 2, "Did you mean 'accuracy'"),
        ("diagnose runs/mine/001 --language jp", 2, "'ja'"),
        ("diagnose runs/mine/001 --lang ja", 0, "[ぁ-ん]"),
        ("report runs/mine/001 --out page.pdf", 2, "print"),
        ("log --out gains", 2, r"\.png"),
    ],
    "experiment files and what is given in their place": [
        ("train epochs=1 experiments/my_team.py --dry-run", 0, "reaches the training with model=my_cnn"),
        ("train my_team --dry-run", 0, "reaches the training with model=my_cnn"),
        ("train my_team.py --dry-run", 0, "reaches the training with model=my_cnn"),
        (r"train 'experiments\my_team.py' --dry-run", 0, "reaches the training with model=my_cnn"),
        ("train experiments/my_taem.py", 2, "Did you mean 'my_team'"),
        ("train experiments/my_team.py experiments/mnist_mlp.py", 2, "one experiment file"),
        ("train experiments", 2, "experiment file"),
        ("train lesson.ipynb", 2, "notebook"),
        ("train photos.zip", 2, r"dataset=photos\.zip"),
        ("train photos", 2, "dataset=photos"),
        ("train digits", 2, "dataset=digits"),
        ("train resnet20", 2, "model=resnet20"),
        ("train runs/mine", 2, "runs/mine/001"),
        ("train runs/mine/001 epochs=2 --dry-run", 0, RUNS),
        ("compare --train mnist_mlp dataset=digits --models mlp,smal_cnn --seeds 1 --epochs 1", 2, "Did you mean 'small_cnn'"),
    ],
    "names": [
        ("train model=resnet", 2, "Did you mean 'resnet20'"),
        ("train model=ResNet20 epochs=1 --dry-run", 0, "(?i)reaches the training with model=resnet-?20"),
        ("train model=ResNet-20 epochs=1 --dry-run", 0, "(?i)reaches the training with model=resnet-?20"),
        ("train model=VGG16", 2, "image_size=32"),
        (f"train dataset=Digits {MLP}", 0, RUNS),
        (f"train dataset=MNIST data_dir=TFDS {MLP}", 0, RUNS),
        (f"train dataset=photo.zip {MLP}", 2, r"photos\.zip"),
        (f"train optimizer=Adam {MLP}", 0, RUNS),
        (f"train optimizer=SGD {MLP}", 0, RUNS),
        (f"train optimizer=momentum {MLP}", 2, "Valid"),
        (f"train loss=mse {MLP}", 2, "sparse_categorical_crossentropy"),
        (f"train learning_rate_schedule=Cosine {MLP}", 0, RUNS),
        (f"train precision=float16 {MLP}", 2, "mixed_float16"),
        (f"train callbacks=EarlyStopping {MLP}", 0, RUNS),
        (f"train callbacks=early-stopping {MLP}", 0, RUNS),
        ("models ResNet20", 0, "resnet20"),
        ("settings epoch", 2, "Did you mean 'epochs'"),
        ("settings model_options.dropout", 0, "keyword arguments of the builder"),
        ("settings learning-rate", 0, "learning rate of the optimizer"),
        ("datasets digits", 2, "unexpected extra argument"),
    ],
    "commands": [
        ("Train --dry-run model=mlp", 0, RUNS),
        ("pbl train --dry-run model=mlp", 0, RUNS),
        ("trian", 2, "Did you mean 'train'"),
        ("test runs/mine/001", 2, "evaluate"),
        ("help train", 0, "Usage: python -m pbl train"),
        ("train help", 0, "Usage: python -m pbl train"),
        ("-h", 0, "Usage"),
        ("train -h", 0, "Usage: python -m pbl train"),
        ("--version", 0, "pbl"),
        ("version", 0, "pbl"),
        ("find_rate model=mlp --steps 20", 0, RUNS),
        ("epochs=1 model=mlp", 2, "train epochs=1 model=mlp"),
        ("experiments/my_team.py epochs=1", 2, "train experiments/my_team.py epochs=1"),
        ("PBL_LANGUAGE=jp diagnose runs/mine/001", 0, "[ぁ-ん]"),
        ("PBL_LANGUAGE=Japanese diagnose runs/mine/001", 0, "[ぁ-ん]"),
    ],
    "runs": [
        ("evaluate", 2, "RUN"),
        ("evaluate mine/001", 0, "accuracy"),
        ("evaluate runs/mine/1", 0, "accuracy"),
        (r"evaluate 'runs\mine\001'", 0, "accuracy"),
        ("evaluate runs/mine/001/", 0, "accuracy"),
        ("evaluate runs/mine/001/config.json", 0, "accuracy"),
        ("evaluate runs/mine", 2, r"runs/mine/001"),
        ("evaluate runs/gone/001", 2, "Runs here: .*runs/mine/001"),
        ("evaluate experiments/my_team.py", 2, "experiment file"),
        ("evaluate 'runs/mine/*'", 2, "runs/mine/001"),
        ("PBL_RUNS=drive evaluate runs/moved/001", 0, "accuracy"),
        ("compare 'runs/*/*'", 2, "runs/mine/001 and runs/photos/001 were trained on different images"),
        ("compare 'runs/mine/*'", 0, "Written"),
        ("compare runs/mine/001", 0, "No claim about architectures"),
        ("compare runs/mine/001 runs/mine/001", 0, "No claim about architectures"),
        ("compare runs/mine", 0, "Written"),
        ("report", 2, "Which run"),
        ("diagnose", 2, "RUN"),
        ("log runs/mine", 0, "mine/001"),
    ],
    "images": [
        ("predict runs/mine/001", 2, "IMAGE"),
        ("predict one.png runs/mine/001", 2, "predict runs/mine/001 one.png|not a run"),
        ("predict runs/mine/001 nothing.png", 2, "No file or folder nothing.png"),
        ("predict runs/mine/001 'photos/cat/*.png'", 0, "probability"),
        ("predict runs/mine/001 https://example.org/cat.jpg", 2, "[Dd]ownload"),
        ("predict runs/mine/001 heic/1.heic", 2, "pillow-heif|JPEG"),
        ("predict runs/mine/001 colour.png", 0, "grey"),
        ("predict runs/photos/001 photos/cat/1.png", 0, "train the run"),
        ("predict runs/mine/001 one.png --csv out", 0, "probability"),
        ("inspect runs/mine/001 nothing.png", 2, "nothing.png"),
    ],
    "data": [
        ("check nothing.zip", 2, "No file nothing.zip"),
        ("check photos image_size 16", 0, "images"),
        ("check photos --image-size 16 --fast", 0, "images"),
        ("check photos/cat", 2, "class folders"),
        ("check one.png", 2, "folder"),
        ("check heic", 2, "[Hh][Ee][Ii][Cc]"),
        ("USER=nobody check photos --out locked/report", 2, "locked.*Permission denied|cannot be written"),
        ("check runs/mine/001 --fast", 0, "images"),
    ],
    "handing in and grading": [
        ("submit runs/mine/001", 2, "--team"),
        ("submit runs/mine/001 --team ''", 2, "--team|team"),
        ("submit --team 七組 runs/mine/001", 0, "checked|zip"),
        ("submit runs/mine --team Seven", 2, "runs/mine/001"),
        ("holdout photos --fraction 20", 2, r"--fraction|0\.2"),
        ("USER=nobody holdout photos --out locked/hidden --no-references", 2, "locked.*Permission denied|cannot be written"),
        ("grade submissions", 2, "--data"),
        ("grade submissions --data photos", 2, "holdout"),
        ("grade nothing --data hidden", 2, "nothing"),
    ],
}  # fmt: skip
COUNT = sum(map(len, SLIPS.values()))
NOBODY = 65534
# Runs that the lines name, and a hidden test set.
MADE_BEFORE = (
    "train model=mlp epochs=1 experiment=mine",
    "train model=mlp epochs=1 experiment=mine seed=1",
    "train model=mlp epochs=1 experiment=photos dataset=photos image_size=16",
    "train model=mlp epochs=1 experiment=moved --runs drive",
    "holdout photos --out hidden --no-references",
)
SHORT = re.compile(r"\x1b\[[0-9;]*m")


class Reached(BaseException):
    """A model was built and compiled for its training: all that was typed has been taken."""


class Answer(NamedTuple):
    status: int
    seconds: float
    said: str
    errors: str

    def judge(self, status: int, words: str) -> bool:
        """Whether it is what was expected."""
        text = f"{self.said}\n{self.errors}"
        one_line = self.status != 2 or len(self.errors.strip().splitlines()) == 1
        return self.status == status and one_line and "Traceback" not in text and bool(re.search(words, text))

    def tell(self) -> str:
        """Its line of wrong input, else the last line that says something."""
        lines = [line for line in f"{self.said}\n{self.errors}".splitlines() if re.search(r"\w", line)]
        text = SHORT.sub("", lines[-1] if lines else "").replace(str(ROOT), "").strip()
        return (text if len(text) < 170 else f"{text[:165]} ...").replace("|", "\\|").replace("`", "'")


def fill(folder: Path, code: Path) -> None:
    """Makes a working folder: experiments, photographs of two classes, and what is commonly given by mistake."""
    shutil.copytree(
        code / "experiments", folder / "experiments", ignore=shutil.ignore_patterns("benchmarks", "gallery")
    )
    digits = load_digits()
    for name, of in (("cat", 0), ("dog", 1)):
        (folder / "photos" / name).mkdir(parents=True)
        for number, pixels in enumerate(digits.images[digits.target == of][:60]):
            image = Image.fromarray((pixels * 15).astype(np.uint8)).resize((24, 24)).convert("RGB")
            image.save(folder / "photos" / name / f"{number}.png")
    shutil.make_archive(str(folder / "photos"), "zip", folder / "photos")
    Image.fromarray((digits.images[0] * 15).astype(np.uint8)).save(folder / "one.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(folder / "colour.png")
    for name in ("heic/a", "heic/b", "submissions"):
        (folder / name).mkdir(parents=True)
    for file in ("heic/a/1.heic", "heic/b/2.HEIC", "heic/1.heic"):
        (folder / file).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    (folder / "lesson.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    (folder / "locked").mkdir(mode=0o555)


def give(typed: str, main: Callable[[list[str]], int]) -> Answer:
    """Gives one line to the command line, in this process and folder; of `USER=nobody` without the rights of root."""
    words, variables = shlex.split(typed), {}
    while re.match(r"[A-Z]+(_[A-Z]+)?=", words[0]):
        name, _, variables[name] = words.pop(0).partition("=")
    words = [word.replace("data_dir=TFDS", f"data_dir={ROOT.parent / 'shared' / 'data' / 'tfds'}") for word in words]
    is_nobody = variables.get("USER") == "nobody" and os.getuid() == 0
    said, errors, before, start = io.StringIO(), io.StringIO(), dict(os.environ), time.perf_counter()
    os.environ |= variables
    if is_nobody:
        os.seteuid(NOBODY)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            status = main(words)
    except SystemExit as end:
        status = end.code
    except Reached as reached:
        status = 0
        print(reached, file=said)
    except BaseException:
        status = 1
        errors.write(traceback.format_exc())
    finally:
        if is_nobody:
            os.seteuid(0)
        os.environ.clear()
        os.environ.update(before)
    return Answer(status, time.perf_counter() - start, said.getvalue(), errors.getvalue())


def stop_before_training() -> None:
    """From here on a training ends where its model is compiled, with the settings that it would have been trained by."""
    from pbl.training import run as training

    build = training.build_and_compile

    def stop(config: Any, *arguments: Any) -> None:
        build(config, *arguments)
        shown = (
            "model",
            "epochs",
            "seed",
            "dataset",
            "optimizer",
            "learning_rate",
            "batch_size",
            "model_options",
            "callbacks",
        )
        settings = " ".join(f"{name}={getattr(config, name)}" for name in shown)
        raise Reached(f"reaches the training with {settings}")

    training.build_and_compile = stop


def answer_all(code: Path, only: str) -> dict[str, Answer]:
    """Gives every line to the package in a checkout, which must be the one that this process imports."""
    from pbl.cli import main

    with tempfile.TemporaryDirectory(prefix="typed_slips_") as made:
        folder = Path(made)
        folder.chmod(0o755)
        os.chdir(folder)
        os.environ |= {"PBL_CACHE": f"{folder}/cache", "HOME": made, "XDG_CONFIG_HOME": f"{folder}/.config"}
        fill(folder, code)
        for words in MADE_BEFORE:
            if (done := give(words, main)).status:
                raise SystemExit(f"{words}: {done.errors}")
        stop_before_training()
        answers = {}
        for typed, status, words in (row for rows in SLIPS.values() for row in rows if only in row[0]):
            answers[typed] = answer = give(typed, main)
            if not answer.judge(status, words):
                print(
                    f"WRONG ({answer.status}, {answer.seconds:.1f} s): {typed}\n    {answer.tell()}",
                    file=sys.stderr,
                    flush=True,
                )
        os.chdir(ROOT)
    return answers


def try_all(code: Path, only: str = "") -> dict[str, Answer]:
    """Does the same in a process that imports that checkout."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(code),
        "PBL_LANGUAGE": "en",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "COLUMNS": "160",
    }
    done = subprocess.run(
        [sys.executable, HERE, "--answer", code, "--only", only],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {typed: Answer(*answer) for typed, answer in json.loads(done.stdout.splitlines()[-1]).items()}


def write_table(now: dict[str, Answer], before: dict[str, Answer]) -> str:
    """Returns the table in Markdown."""
    lines = []
    for kind, rows in SLIPS.items():
        lines += [
            f"\n## {kind[0].upper()}{kind[1:]}\n", "| typed after `python -m pbl` | status | s | answer | right | before |",
            "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for typed, status, words in rows:
            answer, old = now[typed], before.get(typed)
            earlier = f"{old.status}, {'right' if old.judge(status, words) else 'wrong'}" if old else ""
            right = "yes" if answer.judge(status, words) else "NO"
            shown = typed.replace("|", "\\|")
            lines.append(
                f"| `{shown}` | {answer.status} | {answer.seconds:.1f} | {answer.tell()} | {right} | {earlier} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, to be compared with")
    parser.add_argument("--only", default="", help="lines that hold this; nothing is written")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer:
        print(json.dumps(answer_all(given.answer, given.only)))
        sys.exit()
    now = try_all(ROOT, given.only)
    if not given.only:
        before = try_all(given.before.resolve()) if given.before else {}
        expected = {typed: (status, words) for rows in SLIPS.values() for typed, status, words in rows}
        right, old = (
            sum(answer.judge(*expected[typed]) for typed, answer in answers.items()) for answers in (now, before)
        )
        told = f", before {old} of {len(before)}" if before else ""
        page = HERE.with_suffix(".md")
        head = page.read_text(encoding="utf-8").partition("\n## ")[0] if page.exists() else "# Typed slips\n"
        head = re.sub(r"\*\*\d+ of .*?\*\*", f"**{right} of {len(now)} right{told}**", head)
        page.write_text(f"{head.rstrip()}\n{write_table(now, before)}\n", encoding="utf-8")
        print(f"{right} of {len(now)} right{told}")
