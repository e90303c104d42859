"""Whether a training that is killed goes on exactly: `kill -9` at random moments, then compared with one that was not.

Each case is trained once without a break, then with kills (a random step, a random moment in a validation, or one while
the state is being saved; a run is killed some five times before it ends), until there were `--moments` of them. Equal
means, bit for bit: the weights of the best and of the last model, the history but for its seconds, every probability of
the validation images, the metrics; of a GAN also both networks, the distances by image and the grids of each epoch; of contrastive learning what the probes gave.

Command:  python experiments/benchmarks/resume.py --moments 20 --write
          python experiments/benchmarks/resume.py --moments 10 --only GAN
          python experiments/benchmarks/resume.py --moments 5 --only U-Net        (or --only CenterNet, --only contrast)
Result:   resume.md, beside this file; exit status 1 where something differed
"""

import argparse
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

SHAPES = Path(__file__).resolve().parent.parent / "shapes_unet.py"
AUGMENTATION = {"flip": True, "crop": 1, "rotation": 10, "cutout": 2}
RESNET = {
    "model": "resnet20", "model_options": {"stochastic_depth": 0.3}, "augmentation": AUGMENTATION, "epochs": 6,
    "optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "learning_rate": 0.05, "learning_rate_schedule": "cosine",
}  # fmt: skip
MLP = {
    "model": "mlp", "model_options": {"widths": [64, 32], "dropout": 0.3, "batch_norm": True}, "epochs": 40, "steps_per_execution": 8,
    "callbacks": ["early_stopping", "reduce_on_plateau"],
}  # fmt: skip
GAN = {
    "task": "generation", "model": "dcgan", "validation_fraction": 0.4, "epochs": 6, "batch_size": 32, "optimizer": "adam",
    "learning_rate": 0.001, "optimizer_options": {"beta_1": 0.5},
    "model_options": {"noise_size": 16, "width": 16, "kernel_size": 3, "conditional": True},
}  # fmt: skip
CONTRAST = {
    "task": "contrast", "model": "simclr", "validation_fraction": 0.4, "epochs": 8, "batch_size": 32, "optimizer": "adam",
    "augmentation": {"crop": 1, "rotation": 20, "zoom": 0.2, "contrast": 0.3},
    "model_options": {"encoder": "resnet20", "encoder_options": {"stochastic_depth": 0.2}, "hidden": 32, "projection": 16},
}  # fmt: skip
CASES = {
    "MLP, dropout, early stopping, plateau": {**MLP, "precision": "float32"},
    "ResNet-20, augmentation, dropped branches": {**RESNET, "precision": "float32"},
    "ResNet-20, the same, mixed bfloat16": {**RESNET, "precision": "mixed_bfloat16"},
    "MLP, mixed float16 (loss scale)": {**MLP, "epochs": 12, "precision": "mixed_float16"},
    "GAN by classes, mixed float16 (two loss scales)": {**GAN, "precision": "mixed_float16"},
    "GAN, Wasserstein with gradient penalty": {
        **GAN, "model_options": {**GAN["model_options"], "conditional": False, "loss": "wgan_gp"}, "precision": "float32",
    },
    "SimCLR, ResNet-20 with dropped branches, mixed float16": {**CONTRAST, "precision": "mixed_float16"},
    "Supervised contrast, small network": {
        **CONTRAST, "model": "supcon", "model_options": {"encoder": "small_cnn", "hidden": 32}, "precision": "float32",
    },
}  # fmt: skip
UNET = {
    "task": "segmentation", "dataset": "shapes", "model": "unet", "model_options": {"width": 4, "depth": 2, "dropout": 0.3},
    "augmentation": {"flip": True, "crop": 2, "rotation": 10, "zoom": 0.1}, "task_options": {"loss": "both"}, "epochs": 6, "batch_size": 16,
    "learning_rate": 0.01,
}  # fmt: skip
CASES |= {
    f"U-Net, images and masks augmented, {precision}": {**UNET, "precision": precision}
    for precision in ("float32", "mixed_bfloat16")
}
CENTER_NET = {
    "task": "detection", "dataset": "canvases", "model": "center_net", "model_options": {"width": 4, "depth": 3, "head": 8},
    "augmentation": {"flip": True, "crop": 4, "rotation": 10, "zoom": 0.1, "cutout": 4}, "epochs": 6, "batch_size": 16, "learning_rate": 0.01,
}  # fmt: skip
ENCODER = {"encoder": "resnet20", "encoder_options": {"stochastic_depth": 0.2}, "head": 8}
CASES |= {
    "CenterNet, images and boxes augmented": {**CENTER_NET, "precision": "float32"},
    "CenterNet on ResNet-20, mixed bfloat16": {**CENTER_NET, "model_options": ENCODER, "precision": "mixed_bfloat16"},
}
PLACES = ("step", "validation", "save")


def train(case: str, folder: str, place: str, count: int, delay: float) -> None:
    """Trains a case, in this process; which is killed `delay` seconds after it comes to `place` for the `count`-th time."""
    import keras

    import pbl
    from pbl.training.callbacks import CALLBACKS
    from pbl.training.checkpoint import ExactResume

    left = count

    def come_to(here: str) -> None:
        nonlocal left
        if here == place:
            left -= 1
            if left == 0:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    class Killer(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            come_to("step")

        def on_test_begin(self, logs=None):
            come_to("validation")

    keep = ExactResume._keep

    def keep_and_tell(self, *arguments) -> None:
        come_to("save")
        keep(self, *arguments)

    ExactResume._keep = keep_and_tell
    CALLBACKS["killer"] = Killer
    settings = CASES[case]
    callbacks = [*settings.get("callbacks", []), "killer"]
    config = pbl.Config(
        **{"dataset": "digits", **settings, "callbacks": callbacks}, experiment="killed", checkpoint_minutes=0.005
    )
    pbl.DATASETS["shapes"] = partial(runpy.run_path(str(SHAPES))["shapes"], 240)
    pbl.DATASETS["canvases"] = partial(pbl.data.digit_canvases, 240, 32)
    pbl.train(config, folder=folder)


def start(case: str, folder: Path, place: str = "", count: int = 0, delay: float = 0.0) -> int:
    """Trains a case in a process of its own; returns its exit status, which is negative where it was killed."""
    words = [sys.executable, __file__, "--child", case, str(folder), place, str(count), str(delay)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{case}: the training failed.\n{done.stdout}\n{done.stderr}")
    return done.returncode


def read(folder: Path) -> dict[str, list[np.ndarray]]:
    """What must be equal."""
    import keras

    import pbl

    run = pbl.load_run(folder / "killed" / "001")
    history = pd.read_csv(run.path / "history.csv").drop(
        columns=["seconds", "images_per_second", "data_share"], errors="ignore"
    )
    metrics = json.loads((run.path / "metrics_val.json").read_text())
    metrics = {name: value for name, value in metrics.items() if name != "run"}
    files = {}
    for name in ("predictions_val.npz", "signals.npz", "samples.npz"):
        if (run.path / name).exists():
            with np.load(run.path / name) as saved:
                files[name] = [saved[key] for key in saved.files if key != "text"]
    return {
        "best weights": pbl.load_model(run).get_weights(),
        "last weights": keras.models.load_model(run.path / "final.keras").get_weights(),
        "history": [history.to_numpy()],
        **files,
        "metrics": [np.array(json.dumps(metrics, sort_keys=True))],
        "best epoch": [np.array(run.environment["best_epoch"])],
    }


def compare(case: str, moments: int, random_moments: random.Random) -> dict[str, object]:
    """Kills a case at so many moments, and says what differed from the run without a break."""
    with tempfile.TemporaryDirectory() as work:
        whole = Path(work) / "whole"
        began = time.perf_counter()
        start(case, whole)
        seconds = time.perf_counter() - began
        expected = read(whole)
        kills = dict.fromkeys(PLACES, 0)
        runs, different = 0, []
        while sum(kills.values()) < moments:
            runs += 1
            folder = Path(work) / str(runs)
            while True:
                place = random_moments.choice(PLACES) if sum(kills.values()) < moments else ""
                count = random_moments.randint(1, 3 if place == "validation" else 20)
                if start(case, folder, place, count, random_moments.uniform(0, 0.05)) == 0:
                    break
                kills[place] += 1
            for name, values in read(folder).items():
                same = len(values) == len(expected[name]) and all(map(np.array_equal, values, expected[name]))
                if not same:
                    different.append(name)
    print(f"{case}: {kills}, {runs} runs, different: {different or 'nothing'}", flush=True)
    return {"case": case, **kills, "runs": runs, "different": ", ".join(different) or "nothing", "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="kills of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only the cases whose name has this")
    parser.add_argument("--write", action="store_true", help="write resume.md")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        case, folder, place, count, delay = arguments.child
        train(case, folder, place, int(count), float(delay))
        return
    random_moments = random.Random(arguments.seed)
    rows = [compare(case, arguments.moments, random_moments) for case in CASES if arguments.only in case]
    if arguments.write:
        import keras
        import tensorflow as tf

        lines = [
            f"Made by `resume.py --moments {arguments.moments} --seed {arguments.seed}`, whose head says how: Keras {keras.__version__}, TensorFlow {tf.__version__}, CPU.\n",
            "| case | killed in a step | in a validation | while saving | runs | different |",
            "|---|---|---|---|---|---|",
            *(
                f"| {row['case']} | {row['step']} | {row['validation']} | {row['save']} | {row['runs']} | {row['different']} |"
                for row in rows
            ),
        ]
        Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(any(row["different"] != "nothing" for row in rows))


if __name__ == "__main__":
    main()
