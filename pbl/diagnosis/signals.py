"""What was measured in a training, epoch by epoch: `pbl.diagnosis.monitor` writes it and `pbl.diagnosis` reads it. Needs NumPy alone."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from pbl.errors import InputError
from pbl.statistics import newcombe_interval
from pbl.storage.reading import UnreadableFile, read_arrays
from pbl.storage.schemas import SignalsText
from pbl.storage.writing import Growing, replacing

MOST_UNPACKED = 2**30  # bytes of signals.npz; a file may come from a stranger
MOST_COUNTED = 10**6  # images; a file may come from a stranger, and counting 10**15 would never end
_SIDES = ("probe", "val")
_COUNTS = tuple(f"{side}_{count}" for side in _SIDES for count in ("correct", "images"))


@dataclass
class Side:
    """Images that are looked at after each epoch in inference mode, never augmented: from train (the probe) or from validation.

    Attributes:
        labels: `int32 [n]`, their classes.
        loss: `float16 [epochs + 1, n]`, the negative log-likelihood of the true class in nats; row 0 before training.
        predicted: `uint16 [epochs + 1, n]`, the class with the highest probability; no class if that is not a number.
        confidence: `float16 [epochs + 1, n]`, that probability.
    """

    labels: np.ndarray
    loss: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray) -> "Side":
        """A side with these labels, of which nothing has been measured yet."""
        loss, predicted, confidence = (
            np.empty((0, len(labels)), dtype) for dtype in (np.float16, np.uint16, np.float16)
        )
        return cls(np.asarray(labels, np.int32), loss, predicted, confidence)

    def __post_init__(self) -> None:
        self._rooms: dict[str, np.ndarray] = {}  # buffers in which the arrays grow

    @property
    def correct(self) -> np.ndarray:
        """`bool [epochs + 1, n]`: which images are classified correctly."""
        return self.predicted == self.labels

    @property
    def correct_now(self) -> np.ndarray:
        """`bool [n]`: the same for the last epoch."""
        return self.predicted[-1] == self.labels

    def append(self, rows: np.ndarray) -> None:
        """Appends an epoch: `float32 [n, 3]` of loss, predicted class and confidence."""
        loss = np.clip(rows[:, 0], None, np.finfo(np.float16).max)  # NaN stays
        for name, column in (("loss", loss), ("predicted", rows[:, 1]), ("confidence", rows[:, 2])):
            before, room = getattr(self, name), self._rooms.get(name)
            if (
                room is None or before.base is not room or len(room) == len(before)
            ):  # doubles the buffer, so that an epoch costs the same on average
                room = np.empty((max(16, 2 * len(before)), *before.shape[1:]), before.dtype)
                room[: len(before)] = before
                self._rooms[name] = room
            room[len(before)] = column.astype(before.dtype)
            setattr(self, name, room[: len(before) + 1])

    def until(self, rows: int) -> "Side":
        """The first `rows` rows of it."""
        return Side(self.labels, self.loss[:rows], self.predicted[:rows], self.confidence[:rows])

    def cut(self, rows: int) -> None:
        """Keeps the first `rows` rows."""
        self.loss, self.predicted, self.confidence = (
            array[:rows] for array in (self.loss, self.predicted, self.confidence)
        )


@dataclass
class Signals:
    """The signals of one training.

    Attributes:
        about: What does not change: `num_classes`, `train_counts` and `val_counts` (images of each class in the complete splits),
            `steps_per_epoch` and `model`; `val_items`, the names of the images of `val`, in their order, and, where groups are
            set, `val_groups`, the name of each one's group, "" if it is in none; `kept_epoch`, whose weights early
            stopping restored, if it did; and `inputs`: smallest and largest pixel of `train` and `val`, and of the model its
            `width` (outputs), `scale` (the factor by which its first layer multiplies pixels), whether it `normalises` them, and `squashes`,
            how many softmaxes or sigmoids follow one another at its end; `ones`, the share of ones if all training pixels are 0 or 1; `counts_images`: whether Keras's accuracy counts images.
        probe, val: What was measured on fixed images of train and of validation; `val` has none where there is no validation.
        epochs: One dictionary for each epoch, the first for before training: what Keras logged, `penalty` (what the model adds to
            the loss), `learning_rate`, `images_per_second` and more; for epoch 0 only what can be known.
        network: One dictionary for each look into the network: `epoch`, the names of trainable `kernels` and of `rectified`
            layers, `gradient_norms` and `weight_norms` (of each kernel, the
            first of the network first), `update_ratios` (norm of the epoch's change divided by norm of the kernel), `dead` (for each
            rectified layer the share of units that are 0 for all images), `loss_in_training` (loss of the probe in training mode),
            and `loss_stored` and `loss_anew`: loss of the probe in inference mode, with batch normalisation's stored statistics, and
            with statistics computed anew from these images.
        end: Measured on more images, after the last epoch of a training that ended: `epoch`, `probe_images`, `probe_correct`,
            `val_images`, `val_correct`; `probe_confusion` and `val_confusion`, as `confusion` returns them.

    Example:
        >>> from pbl.diagnosis import Signals
        >>> signals = Signals.load("runs/mine/001/signals.npz")
        >>> len(signals.epochs), signals.probe.loss.shape
        (4, (4, 503))
    """

    about: dict[str, Any]
    probe: Side
    val: Side
    epochs: list[dict[str, float]] = field(default_factory=list)
    network: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> "Signals":
        """The signals up to the epoch whose weights were restored when the training had ended; itself if those of the last were kept."""
        epoch = self.about.get("kept_epoch")
        rows = sum(epoch is None or row["epoch"] <= epoch for row in self.epochs)
        if rows < 2 or rows == len(self.epochs):  # a file may come from a stranger
            return self
        sides = {name: side.until(rows) for name, side in self._sides()}
        looks = sorted((look for look in self.network if look["epoch"] <= epoch), key=lambda look: look["epoch"])
        end = {**self.end, "epoch": epoch} if self.has_end else {}
        return Signals(self.about, **sides, epochs=self.epochs[:rows], network=looks, end=end)

    def confusion(self, name: str) -> np.ndarray:
        """`int [n, 3]`: true class, predicted class, and number of images, for the "probe" or "val", on the images that `known` counts."""
        if self.has_end and f"{name}_confusion" in self.end:
            return np.array(self.end[f"{name}_confusion"], int).reshape(-1, 3)
        side = getattr(self, name)
        return count_pairs(side.labels, side.predicted[-1]) if len(side.loss) else np.empty((0, 3), int)

    @property
    def has_end(self) -> bool:
        """Whether `end` belongs to the last epoch."""
        return bool(self.end) and self.end["epoch"] == self.epochs[-1]["epoch"]

    @property
    def known(self) -> tuple[int, int, int, int]:
        """After the last epoch: how many images of train are right, out of how many, and the same for validation."""
        if self.has_end:
            right, n, val_right, val_n = (self.end[name] for name in _COUNTS)
            return right, n, val_right, val_n
        right, val_right = (int(side.correct_now.sum()) if len(side.loss) else 0 for side in (self.probe, self.val))
        return right, len(self.probe.labels), val_right, len(self.val.labels)

    @property
    def gap(self) -> tuple[float, float, float]:
        """Accuracy on training images minus that on validation after the last epoch, with Newcombe's 95% interval."""
        right, n, val_right, val_n = self.known
        if not (n and val_n and len(self.probe.loss)):
            return np.nan, np.nan, np.nan
        return right / n - val_right / val_n, *newcombe_interval(right, n, val_right, val_n)

    def cut(self, epoch: int) -> None:
        """Forgets what came after an epoch, from which the training resumes."""
        self.epochs = [row for row in self.epochs if row["epoch"] <= epoch]
        self.network = [look for look in self.network if look["epoch"] <= epoch]
        self.end = {}
        self.about.pop("kept_epoch", None)
        for _, side in self._sides():
            side.cut(len(self.epochs))

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as numbers, text, arrays, lists and dictionaries."""
        sides = {name: {part.name: getattr(side, part.name) for part in fields(Side)} for name, side in self._sides()}
        return {"about": self.about, "epochs": self.epochs, "network": self.network, "end": self.end, **sides}

    def to_state(self) -> dict[str, Any]:
        """Returns the same, with what grows each epoch as `Growing`: for a callback's `get_state`."""
        state = self.to_dict()
        for name in _SIDES:
            state[name] |= {
                part: Growing(f"{name} {part}", state[name][part]) for part in ("loss", "predicted", "confidence")
            }
        return state | {name: Growing(name, state[name]) for name in ("epochs", "network")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Signals":
        """Makes signals from what `to_dict` returned, as it is read back."""
        probe, val = (Side(**values[name]) for name in _SIDES)
        epochs, network = (list(values[name]) for name in ("epochs", "network"))
        if not isinstance(values["about"], dict):
            raise ValueError("about is no dictionary")
        for words in ("val_items", "val_groups"):
            names = values["about"].get(words, [])  # earlier versions stored none
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"{words} are no names")
        if not isinstance(values["about"].get("kept_epoch", 0), int) or not _are_inputs(
            values["about"].get("inputs", {})
        ):
            raise ValueError("kept_epoch is no number, or inputs are none")
        end = _check_end(values.get("end", {}), values["about"], val)
        return cls(values["about"], probe, val, epochs, network, end)

    def check(self) -> None:
        """Raises ValueError if the arrays do not fit these epochs, images and classes: a file may come from a stranger."""
        classes, rows = self.about["num_classes"], len(self.epochs)
        for name, side in self._sides():
            n = len(side.labels)
            kinds = [array.dtype.kind for array in (side.labels, side.loss, side.predicted, side.confidence)]
            shapes = {array.shape for array in (side.loss, side.predicted, side.confidence)}
            if side.labels.ndim != 1 or kinds != ["i", "f", "u", "f"] or shapes != {(rows, n)}:
                raise ValueError(f"{name} is not of {rows} epochs and {n} images")
            if n and not 0 <= side.labels.min() <= side.labels.max() < classes:
                raise ValueError(f"{name} has labels of classes that there are not")
        if rows and not len(self.probe.labels):
            raise ValueError("no images")

    def _sides(self) -> list[tuple[str, Side]]:
        return [(name, getattr(self, name)) for name in _SIDES]

    def save(self, file: str | Path) -> None:
        """Writes them to an `.npz` file, completely or not at all."""
        text = {"about": self.about, "epochs": self.epochs, "network": self.network, "end": self.end}
        arrays: dict[str, Any] = {"text": np.frombuffer(json.dumps(text).encode(), np.uint8)}
        for name, side in self._sides():
            arrays |= {f"{name}_{part.name}": getattr(side, part.name) for part in fields(Side)}
        with replacing(Path(file)) as temporary, temporary.open("wb") as opened:
            np.savez_compressed(opened, **arrays)

    @classmethod
    def load(cls, file: str | Path) -> "Signals":
        """Reads what `save` wrote.

        Raises:
            InputError: The file is missing or damaged.
        """
        try:
            saved = read_arrays(Path(file), Path(file).parent, most=MOST_UNPACKED)
            text = json.loads(saved["text"].tobytes())
            SignalsText.model_validate(text)
            for name in _SIDES:
                text[name] = {part.name: saved[f"{name}_{part.name}"] for part in fields(Side)}
            signals = cls.from_dict(text)
            signals.check()
            return signals
        except FileNotFoundError:
            raise InputError(
                "{file} is missing: the run ended during its first epoch, or was trained without OverfittingMonitor.",
                file=file,
            ) from None
        except UnreadableFile as error:
            if not error.is_damaged:
                raise
            raise InputError("{file} is damaged. Train again, or restore it from a copy.", file=file) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError("{file} is damaged. Train again, or restore it from a copy.", file=file) from None


def _are_inputs(inputs: Any) -> bool:
    numbers = [inputs.get(name, 0) for name in ("width", "scale", "squashes", "ones")] + [
        bound for name in ("train", "val") for bound in inputs.get(name, [0, 0])
    ]
    return all(isinstance(number, (int, float)) for number in numbers) and len(numbers) == 8


def count_pairs(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """`int [n, 3]`: each pair of a true and a predicted class that occurs, and how often."""
    pairs, counts = np.unique(np.stack([labels, predicted], axis=1).astype(int), axis=0, return_counts=True)
    return np.column_stack([pairs, counts])


def _check_end(end: dict[str, Any], about: dict[str, Any], val: Side) -> dict[str, Any]:
    """The counts, if they are possible: a file may come from a stranger."""
    if not end:
        return {}
    counts = {name: int(end[name]) for name in ("epoch", *_COUNTS)}
    pairs = {
        name: end[name] for name in (f"{side}_confusion" for side in _SIDES) if name in end
    }  # earlier versions stored none
    for name, of_side in pairs.items():
        rows = np.array(of_side, int).reshape(-1, 3)
        images = counts[name.replace("confusion", "images")]
        if (rows < 0).any() or (rows > MOST_COUNTED).any() or rows[:, 2].sum() != images:
            raise ValueError(f"{name} is of other images")
    can_be = all(
        0 <= counts[f"{side}_correct"] <= counts[f"{side}_images"] <= min(sum(about[split]), MOST_COUNTED)
        for side, split in zip(_SIDES, ("train_counts", "val_counts"), strict=True)
    )
    if not can_be or (counts["val_images"] > 0) != (len(val.labels) > 0) or not counts["probe_images"]:
        raise ValueError(f"{counts} are no counts of these images")
    return {**counts, **pairs}
