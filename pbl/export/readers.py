"""The runtimes of phones and web pages, each in a separate process: if one crashes, the notebook must not crash with it.

One does crash: ai-edge-litert 2.3.0 frees memory twice when it runs the int8 file of se_resnet20 that TensorFlow 2.20 wrote
(experiments/benchmarks/export.md). Nothing here loads TensorFlow.

`python -m pbl.export.readers FORMAT FILE FOLDER` reads FOLDER/inputs.npz, an array by the name of each input, and writes
FOLDER/outputs.npz: the output, and with `--time` the seconds of single calls.
"""

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pbl.errors import InputError
from pbl.evaluation.measurement import start_process, time_calls
from pbl.storage.writing import temporary_folder

# Computes a batch: takes an array for each input, in their order, and returns the output.
Call = Callable[..., np.ndarray]
AT_ONCE = 32  # images in a batch of ONNX Runtime


class Reading(NamedTuple):
    """An exported file, opened.

    Attributes:
        call: Computes a batch.
        time: Called with arrays: returns the seconds of many calls with them.
    """

    call: Call
    time: Callable[[Sequence[np.ndarray]], list[float]]


def read_here(call: Call) -> Reading:
    """Returns a reading that computes in this process."""
    return Reading(call, lambda arrays: time_calls(lambda: call(*arrays)))


def read_elsewhere(kind: str, file: Path, names: tuple[str, ...]) -> Reading:
    """Returns a reading that computes in a separate process.

    Args:
        kind: "litert" or "onnx".
        file: The exported file.
        names: Names of its inputs.
    """

    def compute(arrays: Sequence[np.ndarray], *words: str) -> dict[str, np.ndarray]:
        with temporary_folder() as folder:
            np.savez(folder / "inputs.npz", **dict(zip(names, arrays, strict=True)))
            done = start_process("pbl.export.readers", kind, str(file), str(folder), *words)
            if done.returncode < 0:
                raise InputError(
                    "The runtime of {name} crashes when it runs this file ({signal}), so the file is not kept. Try another --format, or another "
                    "--quantise.",
                    name=kind,
                    signal=signal.Signals(-done.returncode).name,
                )
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason")
            with np.load(folder / "outputs.npz") as saved:
                return dict(saved)

    return Reading(
        lambda *arrays: compute(arrays)["output"], lambda arrays: compute(arrays, "--time")["seconds"].tolist()
    )


def _open_litert(file: Path, names: Sequence[str]) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    run = interpreter.get_signature_runner()

    def call(*arrays: np.ndarray) -> np.ndarray:
        # One image at a time, as on a phone: for a batch some operations would need new memory.
        rows = []
        for number in range(len(arrays[0])):
            row = {name: array[number : number + 1] for name, array in zip(names, arrays, strict=True)}
            (output,) = run(**row).values()
            rows.append(np.array(output))
        return np.concatenate(rows)

    return call


def _open_onnx(file: Path, names: Sequence[str]) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def call(*arrays: np.ndarray) -> np.ndarray:
        parts = [[array[at : at + AT_ONCE] for array in arrays] for at in range(0, len(arrays[0]), AT_ONCE)]
        return np.concatenate([session.run(None, dict(zip(names, part, strict=True)))[0] for part in parts])

    return call


def main() -> None:
    kind, file, folder, *words = sys.argv[1:]
    with np.load(Path(folder) / "inputs.npz") as saved:
        names, arrays = saved.files, [saved[name] for name in saved.files]
    call = {"litert": _open_litert, "onnx": _open_onnx}[kind](Path(file), names)
    found = {"seconds": np.array(time_calls(lambda: call(*arrays)))} if words else {"output": call(*arrays)}
    np.savez(Path(folder) / "outputs.npz", **found)


if __name__ == "__main__":
    main()
