"""One training over several machines, by Keras's distribution on the JAX backend: each machine has a part of every batch.

It is a script of its own, not a run of `pbl train`: under TensorFlow neither `MultiWorkerMirroredStrategy` nor Ray Train works with
Keras 3's `fit` (keras issues 20585 and 20329, ray issue 47464, open in 2026). Many *runs* on many machines need none of this: see
README.md in this folder.

Works:    data by `tf.data`, of which Keras gives each process its part; `fit`, `evaluate`; weights that are equal on all
          processes; models that are saved and loaded again
Does not: NumPy arrays in `fit`; `model.save` by one process alone, which waits for the others for ever: all save, each to its own file;
          resuming after a kill, the diagnosis, and all else that `pbl train` has
Needs:    pip install jax
Command:  python experiments/several_machines.py --local 2                        two processes on this machine, to try it
          python experiments/several_machines.py --address HOST:5000 --number 0 --of 2      on the first machine, HOST
          python experiments/several_machines.py --address HOST:5000 --number 1 --of 2      on the second
"""

import argparse
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def train(address: str, number: int, of: int, epochs: int, out: Path) -> None:
    """Trains the part of one process; all processes end with the same weights.

    Args:
        address: Host and port of process 0, where the others find it.
        number: Number of this process, from 0.
        of: Number of processes.
        epochs: Number of epochs.
        out: A folder; this process saves `model_<number>.keras` there.
    """
    os.environ |= {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    import keras

    keras.distribution.initialize(address, of, number)  # before anything is computed
    import numpy as np
    import tensorflow as tf

    import pbl

    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    keras.utils.set_random_seed(0)  # all processes begin with the same weights
    data = pbl.load_data("digits", batch_size=64)
    model = pbl.models.build("small_cnn", data.input_shape, data.num_classes)
    model.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy", metrics=["accuracy"])
    # For a data set that Keras has divided, it warns after each epoch that the input ran out: every batch was seen.
    warnings.filterwarnings("ignore", "Your input ran out of data")
    steps = {split: len(data.images(split).labels) // 64 for split in ("train", "val")}

    def whole_batches(split: str) -> tf.data.Dataset:
        """The same batches on each process, in the same order; the last one is left out, since its images could not be divided equally."""
        batches = data.batches(split).unbatch().batch(64, drop_remainder=True)
        return batches.apply(tf.data.experimental.assert_cardinality(steps[split]))

    history = model.fit(whole_batches("train"), epochs=epochs, verbose=0).history["loss"]
    _, accuracy = model.evaluate(whole_batches("val"), verbose=0)
    model.save(out / f"model_{number}.keras")
    loaded = keras.saving.load_model(out / f"model_{number}.keras")
    same = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True))
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()[:12]
    print(
        f"process {number} of {of}: {len(devices)} devices, loss {history[0]:.3f} to {history[-1]:.3f} in {len(history)} epochs, validation accuracy {accuracy:.4f}, weights {digest}, loaded again equal: {same}"
    )


def start_local(count: int, epochs: int, out: Path) -> int:
    """Starts several processes on this machine, and returns 0 if all ended well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        sys.executable,
        __file__,
        "--address",
        address,
        "--of",
        str(count),
        "--epochs",
        str(epochs),
        "--out",
        str(out),
    ]
    running = [subprocess.Popen([*command, "--number", str(number)]) for number in range(count)]
    return max(process.wait() for process in running)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local", type=int, metavar="N", help="start N processes on this machine")
    parser.add_argument("--address", help="host and port of process 0, such as 10.0.0.1:5000")
    parser.add_argument("--number", type=int, help="of this process, from 0")
    parser.add_argument("--of", type=int, default=2, help="how many processes")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for the models; a temporary one unless given")
    given = parser.parse_args()
    if not given.local and (given.address is None or given.number is None):
        parser.error("give --local N, or --address, --number and --of")
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        if given.local:
            return start_local(given.local, given.epochs, out)
        train(given.address, given.number, given.of, given.epochs, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
