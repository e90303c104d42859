"""What a notebook shows during a training: one line that changes, and the curves below it."""

import base64
import io
import os
import sys
import time
from html import escape
from typing import Any

import numpy as np

from pbl.diagnosis.signals import Signals
from pbl.languages import say

SHARE = 0.01  # the part of the training's time so far that drawing may take
REST_SECONDS = 3.0  # the least time between two pictures
FIRST_SECONDS = 0.7  # assumed cost of the first picture: .66 on two cores, with the fonts that matplotlib then reads


class LiveCurves:
    """One line in a notebook that changes with each epoch, and below it loss, accuracy and gap, redrawn in place.

    The picture is redrawn every few seconds at most, and only while all drawing together takes less than 1% of the training's time, not counting the last picture: so
    a training of less than a minute shows the line alone. If a training was interrupted and resumed, it shows all epochs from the first one.
    """

    def __init__(self) -> None:
        self._shown: Any = None
        self._picture, self._spent, self._cost = "", 0.0, FIRST_SECONDS
        self._began = self._drawn = time.perf_counter()

    def begin(self) -> None:
        """Starts to count the time of the training."""
        self._began = self._drawn = time.perf_counter()
        self._spent = 0.0

    def show(self, signals: Signals, has_ended: bool = False) -> None:
        """Shows the last epoch.

        Args:
            signals: What was measured.
            has_ended: Whether this is the last call: then a picture that exists is brought up to date.
        """
        from IPython.display import HTML, display

        if self._may_draw() or (has_ended and self._picture):
            begin = time.perf_counter()
            self._picture = _draw(signals)
            self._drawn = time.perf_counter()
            self._cost = self._drawn - begin
            self._spent += self._cost
        shown = HTML(f"<b>{escape(describe_epoch(signals))}</b>{self._picture}")
        if self._shown is None:
            self._shown = display(shown, display_id=True)
        else:
            self._shown.update(shown)

    def _may_draw(self) -> bool:
        now = time.perf_counter()
        is_rested = now - self._drawn >= REST_SECONDS
        return is_rested and self._spent + self._cost <= SHARE * (now - self._began)


def is_watched() -> bool:
    """Whether this is a notebook that somebody looks at, not one that a test of a repository runs."""
    return "ipykernel" in sys.modules and not os.environ.get("CI")


def _draw(signals: Signals) -> str:
    from pbl.diagnosis.curves import plot_progress

    stream = io.BytesIO()
    plot_progress(signals).savefig(stream, format="png")
    said = escape(describe_epoch(signals), quote=True)
    return f'<br><img alt="{said}" src="data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}">'


def describe_epoch(signals: Signals) -> str:
    """The last epoch in one line: accuracy on the probe and on validation, and the gap with its 95% interval."""
    right, n, val_right, val_n = signals.known
    epoch, accuracy = signals.epochs[-1]["epoch"], right / n
    if not val_n:
        return say("Epoch {epoch}: accuracy {accuracy:.1%} on training images", epoch=epoch, accuracy=accuracy)
    gap, low, high = (100 * number for number in signals.gap)
    best = min(signals.epochs[1:], key=lambda row: float(np.nan_to_num(row["val_probe_loss"], nan=np.inf)))["epoch"]
    return say(
        "Epoch {epoch}: accuracy {accuracy:.1%} on training images, {val_accuracy:.1%} on validation images; gap {gap:z.1f} points"
        " (95% interval {low:z.1f} to {high:z.1f}); validation loss lowest after epoch {best}",
        epoch=epoch,
        accuracy=accuracy,
        val_accuracy=val_right / val_n,
        gap=gap,
        low=low,
        high=high,
        best=best,
    )
