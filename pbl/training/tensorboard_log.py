"""`tensorboard=true`: a run's log for TensorBoard, written by Keras's own callback. `tensorboard --logdir RUN/tensorboard` shows it."""

import importlib.metadata
import importlib.util
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from pbl.errors import InputError
from pbl.languages import say
from pbl.runs import Run


def check_tensorboard() -> None:
    """Raises InputError if nothing can be logged: `tf.summary` needs the package tensorboard for writing too.

    TensorFlow 2.20 installs it, 2.21 does not.
    """
    try:
        import tensorboard.summary.v2  # noqa: F401
    except ImportError as error:
        raise InputError(
            "tensorboard=true needs the package tensorboard, but it cannot be loaded ({reason}). Run: pip install tensorboard, or omit "
            "tensorboard=true.",
            reason=error,
        ) from None


def describe_looking(folder: Path) -> str:
    """How to open a log."""
    where = shlex.quote(str(folder))
    hint = say(
        "To watch it: tensorboard --logdir {where} (in Colab: %load_ext tensorboard, then %tensorboard --logdir {where}).",
        where=where,
    )
    is_old = tuple(map(int, importlib.metadata.version("tensorboard").split(".")[:2])) < (2, 21)
    if is_old and importlib.util.find_spec("pkg_resources") is None:
        hint += say(" This tensorboard starts after: pip install 'setuptools<82'.")
    return hint


class TensorBoardLog(keras.callbacks.TensorBoard):
    """Logs what Keras and the callbacks before it log for each epoch, and the learning rate. Epochs count from 1.

    After each epoch the log is complete on the disk. If it cannot be written, as on a full disk, logging stops, and the
    training continues.

    Args:
        folder: The log's folder; `train` and `validation` are made in it.
    """

    # Nothing is logged for single steps, so no step waits for a log.
    on_train_batch_begin = keras.callbacks.Callback.on_train_batch_begin
    on_train_batch_end = keras.callbacks.Callback.on_train_batch_end
    on_test_batch_begin = keras.callbacks.Callback.on_test_batch_begin

    def __init__(self, folder: str | Path):
        super().__init__(log_dir=folder, write_graph=False)
        self._is_given_up = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._write(lambda: super(TensorBoardLog, self).on_train_begin(logs))

    def on_test_end(self, logs: dict | None = None) -> None:
        self._write(lambda: super(TensorBoardLog, self).on_test_end(logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._write(lambda: super(TensorBoardLog, self).on_epoch_end(epoch + 1, logs))
        # Otherwise it would wait for two minutes in memory, and be lost if the process is killed.
        self._write(lambda: [writer.flush() for writer in self._writers.values()])

    def on_train_end(self, logs: dict | None = None) -> None:
        self._write(lambda: super(TensorBoardLog, self).on_train_end(logs))

    def _write(self, write: Callable[[], object]) -> None:
        self._is_given_up = self._is_given_up or not _try_to_write(write)


def log_settings(run: Run) -> None:
    """Logs a run's settings as text, once."""
    folder = run.path / "tensorboard" / "run"
    if folder.exists():
        return
    text = json.dumps(run.config.model_dump(mode="json"), indent=1, ensure_ascii=False)
    code = "\n".join(f"    {line}" for line in text.splitlines())  # with this indentation Markdown shows it unchanged
    _log(folder, lambda: tf.summary.text("settings", code, step=0))


def log_figures(run: Run) -> None:
    """Logs the figures that a training has drawn."""
    epoch = run.environment["epochs"]

    def write() -> None:
        for file in sorted((run.path / "figures").glob("*.png")):
            tf.summary.image(file.stem, tf.io.decode_png(file.read_bytes(), channels=3)[None], step=epoch)

    _log(run.path / "tensorboard" / "run", write)


def _log(folder: Path, write: Callable[[], object]) -> None:
    def write_and_close() -> None:
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default():
            write()
        writer.close()

    _try_to_write(write_and_close)


def _try_to_write(write: Callable[[], object]) -> bool:
    try:
        write()
    except (tf.errors.OpError, OSError) as error:
        reason = " ".join(str(error).partition("\n")[0].split())[-200:]
        print(
            say("TensorBoard's log cannot be written, and ends here; the training continues. ({reason})", reason=reason)
        )
        return False
    return True
