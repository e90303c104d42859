"""What OverfittingMonitor costs: epochs with it and without it in turn, and the seconds within it, on a CPU.

- an MLP (widths 512 and 512) on 60,000 images of MNIST's shape, ResNet-20 on 50,000 of CIFAR-10's, random pixels, 5,000 of
  them validation, and ResNet-20 on 2,300, 700 of them validation; batches of 128
- an epoch with it: on_epoch_end as in most epochs, without a look into the network; what a look adds is told apart, and so is
  the first one, in which TensorFlow traces the functions
- `--live EPOCHS`: ResNet-20 on digits, epochs with a notebook's curves redrawn in place and epochs with its line alone, in turn
- `--two-epochs`: whole trainings of two epochs of a case, with it and without it in turn, the model built anew each time
- `--memory MODEL:SIDE:BATCH`: the peak of two steps of a training in a process of its own, with it and without it

Command:  python experiments/benchmarks/monitor.py [--rounds 5] [--two-epochs] [--live EPOCHS] [--memory MODEL:SIDE:BATCH] [--only CASE]
Result:   monitor.md, beside this file; processor's seconds
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pbl
from pbl.data import from_arrays
from pbl.diagnosis.monitor import OverfittingMonitor
from pbl.storage.writing import replacing
from pbl.training.build import build_and_compile
from pbl.training.performance import fused_operations

# Network, shape, images, and how many of them are validation.
CASES = {
    "mlp": ("mlp", (28, 28, 1), 60_000, 5_000),
    "resnet20": ("resnet20", (32, 32, 3), 50_000, 5_000),
    "resnet20, few images": ("resnet20", (32, 32, 3), 2_300, 700),
}


def load(case: str) -> Any:
    _, shape, count, of_val = CASES[case]
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape), np.uint8)
    labels = np.arange(count) % 10
    source = from_arrays(images, labels, [str(number) for number in range(10)], test=(images[:100], labels[:100]))
    return pbl.load_data(lambda: source, batch_size=128, validation_fraction=of_val / count)


def measure_two_epochs(case: str, rounds: int) -> None:
    """Processor's seconds of whole trainings of two epochs."""
    name, data = CASES[case][0], load(case)
    options = {"widths": [512, 512]} if name == "mlp" else {}
    times: dict[bool, list[float]] = {True: [], False: []}
    for round_number in range(rounds + 1):
        for is_watched in (False, True):
            keras.backend.clear_session()
            model, _ = build_and_compile(pbl.Config(model=name, model_options=options, batch_size=128), data)
            callbacks = [OverfittingMonitor(data, live=False)] if is_watched else []
            start = time.process_time()
            with fused_operations(model):
                model.fit(
                    data.train, validation_data=data.val, epochs=2, shuffle=False, verbose=0, callbacks=callbacks,
                )  # fmt: skip
            if round_number:  # the first warms up
                times[is_watched].append(time.process_time() - start)
                print("with" if is_watched else "without", f"{times[is_watched][-1]:.1f}", flush=True)
    without, watched = (statistics.median(times[kind]) for kind in (False, True))
    print(f"{case}, two epochs: {without:.1f} without, {watched:.1f} with it: {watched / without - 1:.1%} more")


def measure_live(epochs: int) -> None:
    """Seconds of epochs of ResNet-20 on digits, as a notebook has them: with its curves redrawn in place, and with the line alone, in turn."""
    from unittest.mock import patch

    from pbl.diagnosis import live

    class Handle:
        def update(self, shown: Any) -> None:
            pass

    data = pbl.load_data("digits", batch_size=64)
    model, _ = build_and_compile(pbl.Config(model="resnet20", batch_size=64), data)
    times: dict[bool, list[float]] = {True: [], False: []}
    may_draw, drawn = live.LiveCurves._may_draw, []

    class InTurns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            if epoch > 1:
                times[epoch % 2 == 0].append(time.perf_counter() - self.start)

    def may(curves: live.LiveCurves) -> bool:
        is_drawn = len(curves_of[0].signals.epochs) % 2 == 1 and may_draw(curves)
        drawn.append(is_drawn)
        return is_drawn

    with (
        patch.object(live, "is_watched", lambda: True), patch("pbl.diagnosis.monitor.is_watched", lambda: True),
        patch.object(live.LiveCurves, "_may_draw", may), patch("IPython.display.display", lambda *_, **__: Handle()),
        fused_operations(model),
    ):  # fmt: skip
        curves_of = [OverfittingMonitor(data)]
        model.fit(
            data.train, validation_data=data.val, epochs=epochs, shuffle=False, verbose=0,
            callbacks=[curves_of[0], InTurns()],
        )  # fmt: skip
    line, curves = (statistics.median(times[kind]) for kind in (False, True))
    total = sum(sum(of) for of in times.values())
    print(
        f"an epoch with the line alone {line:.3f} s, with the curves {curves:.3f} s (medians of {len(times[True])} each)"
    )
    print(
        f"{sum(drawn)} pictures in {total:.0f} s; drawing took {curves_of[0]._live._spent:.2f} s: {curves_of[0]._live._spent / total:.2%}"
    )


def measure(case: str, rounds: int) -> dict[str, float]:
    name, data = CASES[case][0], load(case)
    options = {"widths": [512, 512]} if name == "mlp" else {}
    model, _ = build_and_compile(pbl.Config(model=name, model_options=options, batch_size=128), data)
    times: dict[str, list[float]] = {kind: [] for kind in ("without", "with", "light", "look", "end")}

    class InTurns(OverfittingMonitor):
        """Measures after every second epoch."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch % 2:
                super().on_epoch_end(epoch, logs)

        def _is_looked_at(self, epoch):
            return False

        def _run(self, looks, batches=None):
            start = time.process_time()
            try:
                return super()._run(looks, batches)
            finally:
                if batches is None:
                    times["look" if looks else "light"].append(time.process_time() - start)

        def _look_at_more(self):
            start = time.process_time()
            super()._look_at_more()
            times["end"].append(time.process_time() - start)

    class Clock(keras.callbacks.Callback):
        """Stands last: what the others do after an epoch is counted."""

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.process_time()

        def on_epoch_end(self, epoch, logs=None):
            if epoch > 1:  # in the first two everything is traced
                times["with" if epoch % 2 else "without"].append(time.process_time() - self.start)

    monitor = InTurns(data, live=False)
    with fused_operations(model):
        model.fit(
            data.train, validation_data=data.val, epochs=2 + 2 * rounds, shuffle=False, verbose=0, callbacks=[monitor, Clock()],
        )  # fmt: skip
    first = times["look"][0] + times["light"][0]
    sides = [len(side.labels) for side in (monitor.signals.probe, monitor.signals.val)]
    later = {
        kind: statistics.median(values[1:] if kind in ("light", "look") else values) for kind, values in times.items()
    }
    return {**later, "first": first, "images": sum(sides)}


def measure_memory(case: str, is_watched: bool) -> None:
    """Prints the peak memory of this process after two steps of a training on 300 random images."""
    name, side, batch = case.split(":")
    images = np.random.default_rng(0).integers(0, 256, (300, int(side), int(side), 3), np.uint8)
    labels = np.arange(300) % 3
    model = pbl.models.MODELS[name](images.shape[1:], 3)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    val = images[:60], labels[:60]
    callbacks = [OverfittingMonitor((images, labels), val, live=False)] if is_watched else []
    model.fit(
        images, labels, batch_size=int(batch), validation_data=val, steps_per_epoch=2, verbose=0, callbacks=callbacks
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{case} {'with' if is_watched else 'without'} it: {peak:.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(CASES), help="nothing is written")
    parser.add_argument("--live", type=int, metavar="EPOCHS", help="what a notebook's curves cost; nothing is written")
    parser.add_argument("--two-epochs", action="store_true", help="whole trainings; nothing is written")
    parser.add_argument("--memory", metavar="MODEL:SIDE:BATCH", help="the peak of a training; nothing is written")
    arguments = parser.parse_args()
    if arguments.memory:
        for is_watched in (False, True):
            process = multiprocessing.get_context("spawn").Process(
                target=measure_memory, args=(arguments.memory, is_watched)
            )
            process.start()
            process.join()
        return
    if arguments.live:
        measure_live(arguments.live)
        return
    if arguments.two_epochs:
        measure_two_epochs(arguments.only or "resnet20, few images", arguments.rounds)
        return
    lines = [
        "# What OverfittingMonitor costs", "",
        f"Processor's seconds, medians of {arguments.rounds} epochs with it and {arguments.rounds} without, in turn; `monitor.py` tells more.", "",
        "| network | images looked at | an epoch without | with | within it | share | a look adds | the first time | in the end |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in [arguments.only] if arguments.only else CASES:
        keras.backend.clear_session()
        found = measure(name, arguments.rounds)
        share = found["light"] / found["without"]
        lines.append(
            f"| {name} | {found['images']:,} | {found['without']:.2f} | {found['with']:.2f} | {found['light']:.3f} | {share:.1%} |"
            f" {found['look'] - found['light']:.3f} | {found['first']:.2f} | {found['end']:.2f} |"
        )
        print(lines[-1], flush=True)
    if arguments.only:
        return
    lines += [
        "",
        "A look into the network is taken before training, after each fifth epoch and after the last; in the end",
        "up to 5,000 images of each side are looked at, once.",
    ]
    with replacing(Path(__file__).with_suffix(".md")) as temporary:
        temporary.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
