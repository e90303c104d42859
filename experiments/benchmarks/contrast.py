"""What the verdict on a contrastive encoder is worth: trainings that go well, and trainings with a planted collapse.

    python experiments/benchmarks/contrast.py planted digits --runs 10
    python experiments/benchmarks/contrast.py planted mnist --data /work/shared/data --runs 10
    python experiments/benchmarks/contrast.py pairs --data /work/shared/data --runs 3

`planted`: SimCLR as it is; without negatives; with a temperature of 50 and of 10. The thresholds were set on digits; MNIST was judged once.
`pairs`: verification of digits as identities, five of which are trained on. Results: `contrast.md`.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np

import pbl
from pbl.data import from_arrays

HERE = Path(__file__).parents[1]
RECIPES = {
    "healthy": {},
    "no_negatives": {"model_options.negatives": False},
    "temperature_50": {"model_options.temperature": 50},
    "temperature_10": {"model_options.temperature": 10},
}
NAMED = {
    "healthy": {"healthy", "too_noisy_to_say", "no_gain"},
    **{recipe: {"representation_collapse"} for recipe in list(RECIPES)[1:]},
}
# Of MNIST a small part and a narrow encoder, so that forty trainings take no day.
SMALL = {
    "train_fraction": 0.035, "validation_fraction": 0.0167, "epochs": 4, "batch_size": 128, "learning_rate": 0.001,
    "model_options.encoder_options": '{"filters":16}',
}  # fmt: skip


def judge_planted(name: str, data: Path | None, runs: int, out: Path, only: list[str]) -> None:
    """Trains and prints the verdicts."""
    print(
        f"## {name}\n\n| recipe | seed | verdict | spread | loss by ln(2B - 1) | probe, few labels | all | processor s |"
    )
    print("|" + "---|" * 8)
    right = Counter()
    for recipe in only or RECIPES:
        for seed in range(runs):
            settings = {**RECIPES[recipe], "seed": seed, "experiment": f"{name}_{recipe}"}
            if name == "mnist":
                settings |= {**SMALL, "data_dir": data / "tfds"}
            words = [f"{key}={value}" for key, value in settings.items()]
            start = time.process_time()
            run = pbl.train(pbl.load_experiment(HERE / f"{name}_simclr.py", words), folder=out)
            seconds = time.process_time() - start
            found, verdict = run.read_json("metrics_val.json"), pbl.diagnose_run(run)
            last = run.read_table("history.csv", "val_loss", "val_guessing")[-1]
            names = ", ".join(finding.name for finding in verdict.findings)
            right[recipe] += verdict.headline.name in NAMED[recipe]
            ratio, metrics = float(last["val_loss"]) / float(last["val_guessing"]), found["metrics"]
            print(
                f"| {recipe} | {seed} | {names} | {found['contrast']['spread']:.3f} | {ratio:.3f} | {metrics['few_labels']:.3f} | {metrics['probe']:.3f} | {seconds:.0f} |",
                flush=True,
            )
    print("\n" + ", ".join(f"{recipe}: {count} of {runs} as wanted" for recipe, count in right.items()), flush=True)


def judge_pairs(data: Path, runs: int, out: Path) -> None:
    """Trains encoders on some of MNIST's digits, and tells pairs of others apart."""
    with np.load(data / "mnist.npz") as saved:
        pixels, labels = saved["x_train"][:12_000, ..., None], saved["y_train"][:12_000]
    pbl.DATASETS["mnist_identities"] = lambda: from_arrays(pixels, labels.astype(int), list("0123456789"))
    print("| model | seed | verdict | EER | untrained | pixels | at 1% | processor s |\n|" + "---|" * 8)
    for model in ("simclr", "supcon"):
        for seed in range(runs):
            words = [
                f"model={model}", f"seed={seed}", f"split_seed={seed}", "dataset=mnist_identities", "task_options.identities=true",
                "train_fraction=1", "validation_fraction=0.3", "epochs=5", "batch_size=128", f"experiment=pairs_{model}",
            ]  # fmt: skip
            start = time.process_time()
            run = pbl.train(pbl.load_experiment(HERE / "mnist_simclr.py", words), folder=out)
            found = pbl.evaluate(run, "test")["contrast"]
            seconds = time.process_time() - start
            of = {control["name"]: control["eer"] for control in found["pair_controls"]}
            eer, (low, high) = found["pairs"]["metrics"]["eer"], found["pairs"]["intervals"]["eer"]
            told = found["pairs"]["metrics"]["true_at_1"]
            print(
                f"| {model} | {seed} | {pbl.diagnose_run(run).headline.name} | {eer:.3f} ({low:.3f} to {high:.3f}) | {of['untrained']:.3f} | {of['pixels']:.3f} | {told:.3f} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["planted", "pairs"])
    parser.add_argument("names", nargs="*", help="digits or mnist, then recipes")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=int, default=5, help="seeds of each")
    parser.add_argument("--out", type=Path, default=Path("runs/contrast"))
    given = parser.parse_intermixed_args()
    if given.what == "planted":
        judge_planted(given.names[0], given.data, given.runs, given.out, given.names[1:])
    else:
        judge_pairs(given.data, given.runs, given.out)
