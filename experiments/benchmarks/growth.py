"""What grows with the data: processor seconds and peak memory for large photographs, many small images, many classes, long trainings.

Each case is a process of its own, `--repeats` times in turn with the others of its group, with Keras beside where Keras does the
same: `image_dataset_from_directory` and one pass over it. The figures are of the whole process, its imports included: `imports` is
that share alone. Medians.

| group   | data                                                                                        |
|---------|---------------------------------------------------------------------------------------------|
| photos  | 500 JPEG files of 3000x2000, and 24 of 8000x6000 pixels, at image_size=96                   |
| small   | 1,000, 10,000 and 100,000 PNG files of 32x32 pixels in 10 classes: first and second start   |
| check   | `check` of them                                                                             |
| classes | 200 classes of 20 and 1,000 classes of 12 images: a training, its report                    |
| epochs  | 500 and 2,000 epochs of a network of one layer: seconds an epoch, bytes written             |
| runs    | `log` and `compare` of 300 runs                                                             |
| states  | VGG16 at 96 pixels, 3 epochs: a state's bytes by those of weights and optimizer, and memory |

Command:  python experiments/benchmarks/growth.py photos small ... --data DIR --repeats 5     (DIR is filled where it is empty)
          --code DIR   measures another checkout
Result:   growth.md, beside this file
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

START = """
import os, sys, resource, json, time
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
folder, *words = sys.argv[1:]
"""
LOAD = (
    START
    + """
import pbl
data = pbl.load_data(folder, **json.loads(words[0]))
for part in (data.train, data.val, data.test):
    for _ in part: pass
kept = sum(data.images(name).pixels.nbytes for name in ("train", "val", "test"))
print("kept", kept / 1e6)
"""
)
KERAS = (
    START
    + """
import keras
side = json.loads(words[0])["image_size"]
for _ in keras.utils.image_dataset_from_directory(folder, image_size=(side, side), batch_size=64): pass
"""
)
IMPORTS = START + "import pbl.data.pipeline\n"
KERAS_IMPORTS = START + "import keras\n"
CHECK = START + "from pbl.cli import main\nsys.argv = ['pbl', 'check', folder, *words]\nsys.exit(main())\n"


def make_photos(folder: Path, count: int, width: int, height: int) -> Path:
    """Photographs: shades over some hundred pixels, edges, and a sensor's noise; none like another."""
    if folder.exists():
        return folder
    random = np.random.default_rng(0)
    for number in range(count):
        file = folder / f"class{number % 5}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(random.integers(0, 256, (12, 18, 3), np.uint8)).resize((width, height), Image.BICUBIC)
        edges = Image.fromarray(random.integers(0, 256, (60, 90, 3), np.uint8)).resize((width, height), Image.NEAREST)
        tile = Image.fromarray(random.integers(0, 256, (500, 500, 3), np.uint8))
        noise = Image.new("RGB", (width, height))
        for x in range(0, width, 500):
            for y in range(0, height, 500):
                noise.paste(tile, (x, y))
        picture = Image.blend(Image.blend(picture, edges, 0.15), noise, 0.04)
        picture.save(file, quality=90)
    return folder


def make_small(folder: Path, count: int, classes: int = 10, side: int = 32) -> Path:
    """Small images of a class's own shade and noise."""
    if folder.exists():
        return folder
    random = np.random.default_rng(0)
    shades = random.integers(40, 216, (classes, 4, 4, 3))
    for number in range(count):
        label = number % classes
        file = folder / f"c{label:04d}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(shades[label], np.ones((side // 4, side // 4, 1))) + random.normal(0, 20, (side, side, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    return folder


def make(maker: Callable[..., Path], *words: Any) -> Path:
    """Makes images in a process of its own: the peak of each process that is measured begins at that of this one."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(maker, *words).result()


class Measured(dict):
    """`cpu` in seconds, `peak` in MB, `wall` in seconds; and what the process printed as its last words, by their names."""


def measure(code: str, folder: Path | str, *words: str, cache: Path, at: Path) -> Measured:
    environment = {**os.environ, "PBL_CACHE": str(cache), "PYTHONPATH": str(at), "PBL_LANGUAGE": "en"}
    with tempfile.TemporaryFile("w+") as out:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), *words],
            cwd=at,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    wall = time.perf_counter() - begin
    if process.returncode not in (0, 1) or "Traceback" in said:
        print(said[-1500:], file=sys.stderr)
    measured = Measured(
        cpu=used.ru_utime + used.ru_stime, peak=used.ru_maxrss / 1000, wall=wall, status=process.returncode
    )
    for line in said.splitlines():
        name, _, value = line.partition(" ")
        if name in ("kept", "bytes", "ratio", "epoch", "states"):
            measured[name] = float(value)
    return measured


def compare(ways: dict[str, tuple], repeats: int, at: Path) -> dict[str, Measured]:
    """Measures each way so often, in turn; a way is (code, folder, words, whether the cache is emptied before)."""
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="growth-") as cache:
        for _ in range(repeats):
            for name, (code, folder, words, empties) in ways.items():
                if empties:
                    shutil.rmtree(cache, ignore_errors=True)
                found[name].append(measure(code, folder, *words, cache=Path(cache), at=at))
                print(name, json.dumps(found[name][-1]), file=sys.stderr, flush=True)
    return {
        name: Measured({key: statistics.median(one.get(key, np.nan) for one in of_way) for key in of_way[0]})
        for name, of_way in found.items()
    }


def describe(title: str, found: dict[str, Measured]) -> None:
    names = list(dict.fromkeys(key for one in found.values() for key in one if key != "status"))
    print(f"\n## {title}\n\n| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, one in found.items():
        print(f"| {name} | {' | '.join(f'{one[key]:.4g}' if key in one else '' for key in names)} |", flush=True)


def photos(data: Path, repeats: int, at: Path) -> None:
    for folder in (
        make(make_photos, data / "photos6", 500, 3000, 2000),
        make(make_photos, data / "photos48", 24, 8000, 6000),
    ):
        settings = (json.dumps({"image_size": 96, "batch_size": 64}),)
        ways = {
            "imports": (IMPORTS, folder, (), False),
            "Keras's imports": (KERAS_IMPORTS, folder, (), False),
            "Keras": (KERAS, folder, settings, False),
            "first start": (LOAD, folder, settings, True),
            "second start": (LOAD, folder, settings, False),
        }
        describe(folder.name, compare(ways, repeats, at))


def small(data: Path, repeats: int, at: Path) -> None:
    for count in (1_000, 10_000, 100_000):
        folder = make(make_small, data / f"small{count}", count)
        settings = (json.dumps({"image_size": 32, "batch_size": 256}),)
        ways = {
            "Keras": (KERAS, folder, settings, False),
            "first start": (LOAD, folder, settings, True),
            "second start": (LOAD, folder, settings, False),
        }
        describe(f"{count} images of 32x32", compare(ways, repeats, at))


def check(data: Path, repeats: int, at: Path) -> None:
    ways = {}
    for count in (1_000, 10_000, 100_000):
        folder = make(make_small, data / f"small{count}", count)
        ways[f"check {count}"] = (CHECK, folder, (), True)
    describe("check", compare(ways, repeats, at))


TRAIN = (
    START
    + """
import pbl
begin = time.perf_counter()
work = time.process_time()
run = pbl.train(pbl.Config(**json.loads(words[0])), folder=words[1], fresh=True)
read = {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/self/io")}
print("bytes", read["wchar"])
print("epoch", run.environment["seconds"]["fit"] / json.loads(words[0])["epochs"])
"""
)
REPORT = START + "from pbl.cli import main\nsys.argv = ['pbl', *words]\nsys.exit(main())\n"


def classes(data: Path, repeats: int, at: Path) -> None:
    for count, each in ((200, 20), (1_000, 12)):
        folder = make(make_small, data / f"classes{count}", count * each, count)
        runs = Path(tempfile.mkdtemp(prefix="growth-runs-"))
        settings = {"dataset": str(folder), "image_size": 32, "model": "mlp", "epochs": 3, "experiment": "classes"}
        ways = {
            "train": (TRAIN, folder, (json.dumps(settings), str(runs)), False),
            "evaluate": (REPORT, folder, ("evaluate", str(runs / "classes/001")), False),
            "report": (REPORT, folder, ("report", str(runs / "classes/001")), False),
        }
        describe(f"{count} classes of {each}", compare(ways, repeats, at))
        sizes = {
            file.name: file.stat().st_size / 1e6
            for file in (runs / "classes/001").rglob("*")
            if file.suffix in (".json", ".html", ".md")
        }
        print("MB:", json.dumps({name: round(size, 2) for name, size in sorted(sizes.items())}))
        shutil.rmtree(runs)


def epochs(data: Path, repeats: int, at: Path) -> None:
    ways = {}
    runs = Path(tempfile.mkdtemp(prefix="growth-runs-"))
    for count in (500, 2_000):
        settings = {"dataset": "digits", "model": "softmax_regression", "epochs": count, "experiment": f"long{count}"}
        ways[f"{count} epochs"] = (TRAIN, "", (json.dumps(settings), str(runs)), False)
    for count in (500, 2_000):
        ways[f"report of {count}"] = (REPORT, "", ("report", str(runs / f"long{count}/001")), False)
    describe("long trainings", compare(ways, repeats, at))
    shutil.rmtree(runs)


def states(data: Path, repeats: int, at: Path) -> None:
    folder = make(make_photos, data / "photos6", 500, 3000, 2000)
    code = (
        START
        + """
import pbl, pathlib, numpy as np
from pbl.training import checkpoint
import keras
sizes, seconds = [], []
keep = checkpoint.ExactResume._keep
def keep_and_tell(self, *arguments):
    begin = time.perf_counter()
    if words[2] == "keep":
        keep(self, *arguments)
    seconds.append(time.perf_counter() - begin)
    files = list(self.folder.glob("*.npz"))
    model = self.model
    ours = sum(np.prod(v.shape) * 4 for v in [*model.variables, *model.optimizer.variables])
    if files:
        sizes.append((max(file.stat().st_size for file in files) / ours, len(files)))
checkpoint.ExactResume._keep = keep_and_tell
run = pbl.train(pbl.Config(**json.loads(words[0])), folder=words[1], fresh=True)
if sizes:
    print("ratio", max(size for size, _ in sizes))
    print("states", max(count for _, count in sizes))
print("epoch", sum(seconds) / len(seconds))
print("bytes", {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/self/io")}["wchar"])
"""
    )
    runs = Path(tempfile.mkdtemp(prefix="growth-runs-"))
    settings = {
        "dataset": str(folder), "image_size": 96, "model": "vgg16", "epochs": 3, "experiment": "vgg", "optimizer": "adam",
        "batch_size": 16, "train_fraction": 0.2,
    }  # fmt: skip
    ways = {
        f"VGG16 at 96 pixels{name}": (code, folder, (json.dumps(settings), str(runs), word), False)
        for name, word in (("", "keep"), (", without states", "pass"))
    }
    describe("states (epoch: seconds for a state)", compare(ways, repeats, at))
    shutil.rmtree(runs)


def runs(data: Path, repeats: int, at: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="growth-runs-"))
    settings = {"dataset": "digits", "model": "softmax_regression", "epochs": 2, "experiment": "many"}
    measure(TRAIN, "", json.dumps(settings), str(folder), cache=folder / "cache", at=at)
    for number in range(2, 301):
        copy = shutil.copytree(folder / "many/001", folder / f"many/{number:03d}")
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, "seed": number}))  # a run of its own
    ways = {
        f"{command} of 300 runs": (REPORT, "", (command, *words), False)
        for command, words in (
            ("log", (str(folder),)),
            ("compare", tuple(str(folder / f"many/{n:03d}") for n in range(1, 301))),
        )
    }
    describe("many runs", compare(ways, repeats, at))
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    groups = {f.__name__: f for f in (photos, small, check, classes, epochs, states, runs)}
    parser.add_argument("groups", nargs="+", choices=groups)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--code", type=Path, default=Path(__file__).resolve().parents[2])
    words = parser.parse_args()
    for name in words.groups:
        groups[name](words.data, words.repeats, words.code)


if __name__ == "__main__":
    main()
