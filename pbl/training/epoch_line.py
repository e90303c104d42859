"""What is shown of a training in progress: one line, rewritten on a screen; about ten lines in a file."""

import shutil
import sys
import time

import keras

from pbl.languages import say
from pbl.languages.wrapping import measure

MOST_LINES = 10  # lines of a training in a file, without that of the first epoch
REWRITE_SECONDS = 0.2


class EpochLine(keras.callbacks.Callback):
    """Shows epoch, time left for the complete training, loss, accuracy on training and on validation images, and their gap.

    Accuracy and gap come from the fixed images that `OverfittingMonitor` looks at, if it comes before this callback. All
    other numbers of an epoch are in `history.csv`.

    Args:
        epochs: Epochs of the complete training, all stages together.
        is_lively: Whether somebody is watching; see `is_lively`.
    """

    remembers_nothing = True  # nothing that belongs to the training's state

    def __init__(self, epochs: int, is_lively: bool):
        super().__init__()
        self._epochs, self._is_lively = epochs, is_lively
        self._seconds: list[float] = []
        self._shown, self._width, self._is_told, self._next = "", 0, True, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch, self._started = epoch, time.perf_counter()
        self._steps = self.params.get("steps")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._is_lively and time.perf_counter() > self._next:
            step = say("step {step}/{steps}", step=batch + 1, steps=self._steps or "?")
            self._rewrite("  ".join(filter(None, (self._name_epoch(), step, self._say_left(), self._shown))))
            self._next = time.perf_counter() + REWRITE_SECONDS

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._seconds.append(time.perf_counter() - self._started)
        self._shown = "  ".join(_describe(logs or {}))
        self._is_told = False
        done = epoch + 1
        share, before = (MOST_LINES * n // self._epochs for n in (done, epoch))
        if self._is_lively:
            self._rewrite(self._join())
        elif len(self._seconds) == 1 or share > before:
            self._print()

    def close(self) -> None:
        """Ends the line, so that the next output is on its own line."""
        if not self._is_lively:
            self._print()
        elif self._width:
            print(flush=True)
            self._width = 0

    def _name_epoch(self) -> str:
        return say("Epoch {epoch}/{epochs}", epoch=self._epoch + 1, epochs=self._epochs)

    def _join(self) -> str:
        return "  ".join(filter(None, (self._name_epoch(), self._say_left(1), self._shown)))

    def _print(self) -> None:
        if not self._is_told:
            print(self._join(), flush=True)
        self._is_told = True

    def _say_left(self, done: int = 0) -> str:
        # The seconds of the first epoch include TensorFlow's compilation; they count only if there are no others.
        known = self._seconds[1:] or self._seconds
        left = self._epochs - self._epoch - done
        if not known or left <= 0:
            return ""
        elapsed = 0 if done else time.perf_counter() - self._started
        return say("{time} left", time=_as_clock(max(0.0, sum(known) / len(known) * left - elapsed)))

    def _rewrite(self, line: str) -> None:
        line = _cut(line, shutil.get_terminal_size().columns - 1)
        width = measure(line)
        print("\r" + line + " " * max(0, self._width - width), end="", flush=True)
        self._width = width


def _describe(logs: dict[str, float]) -> list[str]:
    """The numbers of an epoch, each with its name."""
    told = [say("loss {loss:.3g}", loss=logs["loss"])] if "loss" in logs else []
    if "d_loss" in logs and "g_loss" in logs:
        told.append(say("D {d_loss:.3g}, G {g_loss:.3g}", d_loss=logs["d_loss"], g_loss=logs["g_loss"]))
    if "val_kid" in logs:
        told.append(say("KID x 1000 {kid:.1f}", kid=logs["val_kid"]))
    names = [name for name in ("probe_accuracy", "accuracy") if name in logs][:1]
    told += [say("accuracy {accuracy:.1%}", accuracy=logs[name]) for name in names]
    names = [name for name in ("val_probe_accuracy", "val_accuracy") if name in logs][:1]
    told += [say("validation {accuracy:.1%}", accuracy=logs[name]) for name in names]
    if "val_eer" in logs:
        told.append(say("equal errors {eer:.1%}", eer=logs["val_eer"]))
    elif "val_probe" in logs:
        told.append(
            say("probe {probe:.1%}, nearest {nearest:.1%}", probe=logs["val_probe"], nearest=logs["val_nearest"])
        )
    if "val_map50" in logs:
        told.append(say("mAP50 {train:.3f}, validation {val:.3f}", train=logs["probe_map50"], val=logs["val_map50"]))
    if "val_dice" in logs:
        told.append(say("Dice {dice:.3f}, validation {val_dice:.3f}", dice=logs["dice"], val_dice=logs["val_dice"]))
    elif not names and "val_loss" in logs:
        told.append(say("validation loss {loss:.3g}", loss=logs["val_loss"]))
    return [*told, *([say("gap {gap:+.1f} points", gap=100 * logs["gap"])] if "gap" in logs else [])]


def _as_clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _cut(line: str, most: int) -> str:
    """Leaves out the numbers at the end for which a narrow screen has no room, so that no line is wrapped."""
    parts = line.split("  ")
    while len(parts) > 1 and measure("  ".join(parts)) > most:
        parts.pop()
    return "  ".join(parts)


def is_lively() -> bool:
    """Whether somebody is watching: a terminal, or a notebook."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules
