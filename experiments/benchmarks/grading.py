"""What grading costs, and whether it survives: time of forty small submissions, `kill -9` at random moments, several jobs.

Forty submissions (ten networks of four kinds, each with other weights) are graded: undisturbed; with the grader killed at
random moments and started again; with two at a time. The three `grades.csv` must be equal byte for byte. Beside it stands
what a process of its own for each submission would take.

Command:  python experiments/benchmarks/grading.py --write
Result:   grading.md, beside this file; exit status 1 where a table differed
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd

import pbl
from pbl.grading import write_submission
from pbl.grading.holdout import make_holdout
from pbl.grading.submission import check_submission
from pbl.models.prediction import predict_probabilities

MODELS = (("mlp", {"widths": [32]}), ("small_cnn", {}), ("small_cnn_functional", {}), ("resnet20", {}))


def make_class(folder: Path, public: Path, count: int) -> None:
    """Writes `count` honest submissions: each of the models, trained for an epoch, with other seeds; every fourth as .keras."""
    data = pbl.load_data(str(public))
    pixels = data.images("val").pixels[:16]
    for number in range(count):
        name, options = MODELS[number % len(MODELS)]
        keras.utils.set_random_seed(number)
        model = pbl.models.build(name, data.input_shape, data.num_classes, **options)
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(data.train, epochs=1, verbose=0)
        if number % 8 == 2:
            model.save(folder / f"team{number:02d}.keras")
            continue
        write_submission(
            folder / f"team{number:02d}.zip", f"team{number:02d}", data.class_names, model=model, builder=name, model_options=options,
            fixtures=(pixels, predict_probabilities(model, pixels)),
        )  # fmt: skip


def command(folder: Path, out: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "pbl", "grade", "submissions", "--data", "hidden", "--out", out, *words]


def run(folder: Path, out: str, *words: str, kill_after: float | None = None) -> float:
    """Starts the command; kills it with SIGKILL after so many seconds; returns the seconds that it ran."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(Path(pbl.__file__).resolve().parents[1])}
    process = subprocess.Popen(command(folder, out, *words), cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    else:
        assert process.returncode == 0, process.returncode
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=40)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument(
        "--cold", type=int, default=6, help="submissions that are also graded in a process of their own"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the result beside this file")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="grading-"))
    made = make_holdout("digits", out=folder / "hidden", seed=options.seed)
    (folder / "submissions").mkdir()
    make_class(folder / "submissions", made.public, options.submissions)

    lines = [f"Made by `grading.py --seed {options.seed}`, whose head says how: {options.submissions} submissions, {made.images} hidden images of 8x8, Keras {keras.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.", ""]  # fmt: skip
    undisturbed = run(folder, "grades")
    expected = (folder / "grades" / "grades.csv").read_bytes()
    times = pd.read_csv(folder / "grades" / "timings.csv")
    beyond = times["seconds"] - times["seconds_to_predict"]
    statuses = pd.read_csv(folder / "grades" / "grades.csv")["status"].value_counts().to_dict()

    cold = []
    images = np.zeros((made.images, 8, 8, 1), np.uint8)
    names = [str(n) for n in range(10)]
    for file in sorted((folder / "submissions").glob("*.zip"))[: options.cold]:
        started = time.perf_counter()
        left = check_submission(file, names, images=images)
        cold.append(time.perf_counter() - started - left.facts["seconds_to_predict"])

    chance = random.Random(options.seed)
    kills, starts = [], 0
    while len(kills) < options.kills:
        after = chance.uniform(0.3, 0.9) * undisturbed / 2
        seconds = run(folder, "killed", kill_after=after)
        starts += 1
        done = (folder / "killed" / "work" / "ledger.jsonl").read_text().count('"event": "end"') if (folder / "killed" / "work" / "ledger.jsonl").exists() else 0  # fmt: skip
        kills.append((round(seconds, 1), done))
        print(f"killed after {seconds:.1f} s, {done} done", flush=True)
    run(folder, "killed")
    is_equal = (folder / "killed" / "grades.csv").read_bytes() == expected
    two = run(folder, "two", "--jobs", "2")
    is_equal_two = (folder / "two" / "grades.csv").read_bytes() == expected
    again = run(folder, "grades")

    lines += [
        "| what | figure |",
        "|---|---|",
        f"| statuses | {', '.join(f'{n} {status}' for status, n in statuses.items())} |",
        f"| the whole command, one at a time | {undisturbed:.1f} s |",
        f"| the whole command, two at a time | {two:.1f} s |",
        f"| the same command again, nothing changed | {again:.1f} s |",
        f"| a submission, beyond its model's own prediction: median, largest | {beyond.median():.2f} s, {beyond.max():.2f} s |",
        f"| of that, CPU time of the whole process with prediction: median | {times['processor_seconds'].median():.2f} s |",
        f"| the same in a process of its own: median of {len(cold)} | {np.median(cold):.2f} s |",
        f"| ratio | 1 : {np.median(cold) / beyond.median():.1f} |",
        f"| killed with SIGKILL (seconds after its start, submissions done by then) | {', '.join(f'{s} s: {n}' for s, n in kills)} |",
        f"| `grades.csv` after the kills | {'the same bytes' if is_equal else 'DIFFERENT'} |",
        f"| `grades.csv` of two at a time | {'the same bytes' if is_equal_two else 'DIFFERENT'} |",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        Path(__file__).with_name("grading.md").write_text(text, encoding="utf-8")
    shutil.rmtree(folder)
    return 0 if is_equal and is_equal_two else 1


if __name__ == "__main__":
    sys.exit(main())
