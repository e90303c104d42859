"""What a trained model costs to use: multiply-accumulates, latency, throughput, memory, file size."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pbl.errors import InputError
from pbl.languages import say_sentence
from pbl.runs import Run, load_run

WARM_UP, CALLS = 10, 50
MOST_IMAGES = 256  # in a batch of the throughput
MOST_BYTES = (
    2**28
)  # of the largest output that a layer gives for such a batch: 64 images of 224x224 pixels for ResNet-50, 16 for VGG16


def measure_cost(run: str | Path | Run) -> dict[str, Any]:
    """Measures a run's best model in a separate process, and writes `cost.json` into the run.

    The process is separate because the reported memory is the most that a process has ever held.

    Args:
        run: The run, or its folder. Its `experiment.py` is executed.

    Returns:
        `macs` (of convolutions and dense layers, for one image; `pbl.models.cost.count_macs`), `latency_ms` of one image with
        its quartiles `latency_low_ms` and `latency_high_ms`, `images_per_second` in batches of `throughput_batch` images (256, or
        half as often as the memory of a Colab session requires; both by the compiled
        model, after calls to warm up; medians of 50 and of 10 calls), `peak_memory_mib` (on a GPU the most that
        TensorFlow has held there; otherwise the most that the whole process has held, Python and TensorFlow included), `file_mib` of `best.keras`, and the
        `cost_conditions`: device, threads, precision, versions.

    Raises:
        InputError: The run has no model.
    """
    run = load_run(run)
    run.check_code()  # the process below cannot ask the user
    done = start_process("pbl.evaluation.measurement", str(run.path))
    if done.returncode == 2:
        raise InputError("{message}", message=done.stderr.strip().splitlines()[-1].removeprefix("pbl: "))
    if done.returncode:
        raise RuntimeError(f"{' '.join(done.args)} failed:\n{done.stderr}")
    cost = json.loads(done.stdout.splitlines()[-1])
    run.write_json("cost.json", cost)
    return cost


def start_process(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this package with some command line words in a separate process, and waits for its end."""
    holds_pbl = str(Path(__file__).resolve().parents[2])
    known = os.pathsep.join([holds_pbl, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": known, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def time_calls(call: Callable[[], Any], warm_up: int = WARM_UP, calls: int = CALLS) -> list[float]:
    """Returns the seconds of each of `calls` calls, after some calls to warm up that are not counted.

    Args:
        call: The function that is timed; it returns when all its work is done.
        warm_up, calls: How many.
    """
    seconds = []
    for number in range(warm_up + calls):
        started = time.perf_counter()
        call()
        if number >= warm_up:
            seconds.append(time.perf_counter() - started)
    return seconds


def count_cores() -> int | None:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _measure(run: Run) -> dict[str, Any]:
    import keras
    import numpy as np
    import tensorflow as tf

    from pbl.evaluation.run import load_model
    from pbl.models.cost import count_macs

    model = load_model(run)
    shape = tuple(run.split["input_shape"])
    at_once = find_throughput_batch(model, shape)
    images = np.random.default_rng(0).integers(0, 256, (at_once, *shape)).astype(np.uint8)
    predict = tf.function(lambda batch: model(batch, training=False), jit_compile=False)
    gpus = tf.config.list_physical_devices("GPU")
    first, batch = tf.constant(images[:1]), tf.constant(images)
    one = time_calls(lambda: predict(first).numpy(), WARM_UP, CALLS)
    many = time_calls(lambda: predict(batch).numpy(), 2, 10)
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20 if gpus else _peak_mib()
    low, median, high = statistics.quantiles(one, n=4)
    details = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    precision = run.environment.get("precision", "float32")
    return {
        "macs": count_macs(model, shape),
        "latency_ms": 1000 * median,
        "latency_low_ms": 1000 * low,
        "latency_high_ms": 1000 * high,
        "images_per_second": at_once / statistics.median(many),
        "throughput_batch": at_once,
        "peak_memory_mib": peak,
        "file_mib": (run.path / "best.keras").stat().st_size / 2**20,
        "cost_conditions": f"{details}, {count_cores()} cores, {precision}, TensorFlow {tf.__version__}, Keras {keras.__version__}",
    }


def find_throughput_batch(model: Any, shape: tuple[int, int, int]) -> int:
    """Returns how many images are predicted together where the throughput is measured: 256, halved until each layer's output is small enough.

    Args:
        model: A Keras model; it is called once, on a black image.
        shape: (height, width, channels) of an image.
    """
    import numpy as np

    from pbl.models.cost import counted_outputs

    with counted_outputs(model) as counts:
        model(np.zeros((1, *shape), np.uint8), training=False)
    at_once = MOST_IMAGES
    while at_once > 1 and 4 * max(counts, default=0) * at_once > MOST_BYTES:
        at_once //= 2
    return at_once


def _peak_mib() -> float:
    """The most memory that this process has held."""
    # Linux's ru_maxrss begins with the memory of the process that started this one, so the process's own peak is read if there is one.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 2**10
    import resource  # not available on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    try:
        print(json.dumps(_measure(load_run(parser.parse_args().run))))
    except InputError as error:
        print(f"pbl: {say_sentence(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
