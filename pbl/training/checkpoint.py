"""Exact resume: an interrupted training continues as if it had not been interrupted.

The state of a training is more than the weights: it includes the optimizer, the states of all random generators, what every
callback remembers, the metrics so far in the epoch, and the place in the data. Keras's `BackupAndRestore` keeps the first two and
the epoch; after it, early stopping has lost its patience and `ModelCheckpoint` its best value. `ExactResume` keeps everything, in
one file that is written under another name and then renamed. What only grows, such as the history, is in a second file that
is appended to. The previous state is kept until the next is written, so there are never more than two. States are kept
so rarely that they cost at most a twentieth of the time, and when the training pauses or ends.

Two things cannot be kept. First, the state of TensorFlow's own random operations (`tf.random.normal`); use `keras.random`. Second, what a
callback did outside its memory: if a training is resumed within an epoch, the callbacks are also called for the steps that are already
done, with the epoch's sums so far, before their states are put back. A file that a callback writes every few steps is then written
again.
"""

import json
import math
import os
import random
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn, Protocol

import keras
import numpy as np

from pbl.errors import InputError, Sentence
from pbl.languages import say
from pbl.models.calls import find_optimizers, is_validated
from pbl.models.keras_private import find_callbacks, find_seed_state, find_swap, set_initial_epoch
from pbl.storage.reading import UnreadableFile, read_array, read_array_header, read_file
from pbl.storage.writing import Growing, discard, list_folder, replacing, sweep, try_again
from pbl.training.journal import ENDING, Journal, delete_old_journals, read_journal

REST = 20  # the next state is kept after at least so many times as long as keeping one took: at most a twentieth of the time
FIRST_REST = 10.0  # seconds before a state is kept for the first time, and at least between two states
LOSS_SCALE = "loss scale"
_KEYS = {"epoch", "step", "stopped", "label", "data", "variables", "callbacks", "random", "arrays"}

# These may come after ExactResume: they change nothing that it keeps.
_HARMLESS = (keras.callbacks.History, keras.callbacks.ProgbarLogger, keras.callbacks.LambdaCallback)


class Stream(Protocol):
    """The part of `pbl.data.Data` that is needed: training batches from any place on."""

    steps_per_epoch: int
    fingerprint: str

    def seek(self, epoch: int) -> None: ...

    def stream(self, start_epoch: int, start_step: int) -> Any: ...


class Paused(Exception):
    """The training was asked to pause, or its time is over; its state is kept.

    Attributes:
        is_asked: Whether it was asked to pause, by `ExactResume.pause`.
    """

    def __init__(self, is_asked: bool):
        super().__init__()
        self.is_asked = is_asked


class ExactResume(keras.callbacks.Callback):
    """Keeps the state of a `fit`, and resumes it when the same `fit` is called again, also in another process.

    It must be the last in the list, so that it keeps the results of the other callbacks. Their states are kept as well. For a
    callback with the methods `get_state()` and `set_state(state)` it is what these return and take (numbers, text, arrays, and
    lists and dictionaries of these). For any other callback it is its attributes of these kinds that have changed since the
    training began and whose names do not begin with "_".

    If `fit` is called again after the last epoch, it ends at once and reports that; with more `epochs` it continues.

    Args:
        folder: The states are kept in `checkpoint/` below it; one folder for each training.
        data: The data whose `train` is fitted. Its order then follows the epoch, and the state is kept within an epoch too.
            Without it (arrays, or your own pipeline) the state is kept only between epochs, and you must make sure that the batches of an
            epoch come in the same order again.
        minutes: The state is kept at the latest after so many minutes, within an epoch too; before that at the end of an epoch if it
            costs no more than a twentieth of the time. 0: at every step.
        max_minutes: After so many minutes the state is kept and `Paused` is raised.

    Attributes:
        label: A word that is kept with the state. A `fit` resumes only a state with the same word: if several follow
            one another in one folder, give each its own label.
        data: As above; may be changed between two calls of `fit`.
        is_asked: Whether `pause` was called since the last pause; also before the training begins, and between two of its parts.

    Raises:
        InputError: The states in `folder` are of another model, other data or other callbacks, or of another optimizer; another
            callback comes after this one; a `CSVLogger` would start its file again.

    Example:
        >>> import keras
        >>> import pbl
        >>> data = pbl.load_data("digits")
        >>> keras.utils.set_random_seed(0)
        >>> model = pbl.models.mlp(data.input_shape, data.num_classes, widths=[32])
        >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> resume = pbl.ExactResume("runs/by_hand", data)
        >>> history = model.fit(data.train, validation_data=data.val, epochs=2, verbose=0, callbacks=[resume])
        >>> len(history.history["loss"])
        2
    """

    def __init__(
        self,
        folder: str | Path,
        data: Stream | None = None,
        *,
        minutes: float = 5.0,
        max_minutes: float | None = None,
    ):
        super().__init__()
        self.folder, self.data, self.label = Path(folder) / "checkpoint", data, ""
        self._seconds, self.is_asked = 60 * minutes, False
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._pending: dict[str, Any] | None = None  # the state that must still be put back
        self._read: tuple[list[int], dict[str, Any] | None] | None = None
        self._skipping: tuple | None = None
        self._epochs_before: list[int] = []

    @property
    def newest(self) -> dict[str, Any] | None:
        """The newest complete state: its `epoch` and `step`, at which it resumes, both from 0, and its `label`."""
        numbers = _list_states(self.folder)
        if self._read is None or self._read[0] != numbers:
            self._read = numbers, _read_newest(self.folder)
        return self._read[1]

    def initial_epoch(self, epochs: int) -> int:
        """The epoch at which the next `fit` with so many epochs begins, from 0."""
        return _initial_epoch(self._find(), epochs)

    def _find(self) -> dict[str, Any] | None:
        state = self.newest
        return state if state is not None and state["label"] == self.label else None

    def put_back(self, model: keras.Model) -> tuple[int, int]:
        """Puts the newest state into a compiled model, and returns its epoch and step."""
        state = self._find()
        if state is None:
            return 0, 0
        self.set_model(model)
        self._put_variables_back(state)
        return state["epoch"], state["step"]

    def pause(self) -> None:
        """Asks to keep the state at the next step, and then to raise `Paused`."""
        self.is_asked = True

    def _stop(self) -> NoReturn:
        stop = Paused(self.is_asked)
        self.is_asked = False
        raise stop

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._callbacks = self._find_callbacks()
        self._fresh = [_attributes(callback) for callback in self._callbacks]
        self._told: set[str] = set()
        self._kept_at, self._epochs_before = time.monotonic(), []
        self._next = self._kept_at + min(FIRST_REST, self._seconds)
        self._journal: Journal | None = None
        self._has_shrunk = False
        newest = self.newest
        self._last = (0, "") if newest is None else (newest["number"], newest["journal"][0])
        self._pending, self._read = self._find(), None  # so that it is not in memory during training
        sweep(self.folder)  # removes what a killed process left unfinished
        if self._pending is None:
            return
        self._check_data(self._pending)
        self._restore()
        # As in keras.callbacks.BackupAndRestore; `fit` reads it after this call.
        begin = _initial_epoch(self._pending, self.params["epochs"])
        set_initial_epoch(self.model, begin)
        if begin >= self.params["epochs"]:
            told = "All epochs of {folder} are trained already: no more are trained. To train another model with ExactResume, give it another folder."
            print(say(told, folder=self.folder.parent))
        if not self._pending["step"]:
            self._pending = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        set_initial_epoch(self.model, None)  # otherwise it would apply to the model's next `fit` too
        self._complete_history()
        if self.is_asked:  # before the first step: the state that was kept before is still valid
            self._stop()
        if self.data is not None:
            self.data.seek(epoch)
        if self._pending is not None:
            self._skip(self._pending["step"])

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        # Not in `on_train_batch_end`: then Keras would wait for the device at every step.
        if self._pending is not None:
            if batch == self._pending["step"]:
                self._restore()
                self._pending = None
        elif batch and self.data is not None:
            now = time.monotonic()
            pauses = self.is_asked or (self._deadline is not None and now > self._deadline)
            if pauses or now - self._kept_at > self._seconds:
                self._keep(self._epoch, batch)
            if pauses:
                self._stop()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._stop_skipping()
        is_last = self.model.stop_training or epoch + 1 >= self.params["epochs"]
        now = time.monotonic()
        pauses = self.is_asked or (self._deadline is not None and now > self._deadline)
        if is_last or pauses or now >= self._next:
            self._keep(epoch + 1, 0, logs)
        if pauses and not is_last:
            self._stop()

    def on_train_end(self, logs: dict | None = None) -> None:
        set_initial_epoch(self.model, None)
        self._complete_history()

    def _complete_history(self) -> None:
        # Keras's own `History`, which is the last, has started its list of epochs again after this callback was called.
        if self._epochs_before:
            self.model.history.epoch[:0] = self._epochs_before
            self._epochs_before = []

    def _check_data(self, state: dict[str, Any]) -> None:
        if self.data is not None and state["data"] not in (None, self.data.fingerprint):
            raise InputError(
                "{folder} contains the state of a training on other data: the images, their order, labels or weights, batch_size, seed or "
                "augmentation differ. Give the same, or another folder.",
                folder=self.folder,
            )
        if state["step"] and self.data is None:
            raise InputError(
                "{folder} contains a state within an epoch, which can be resumed only with data: ExactResume(folder, data).",
                folder=self.folder,
            )
        if state["step"] % self.model.steps_per_execution:
            raise InputError(
                "{folder} contains the state of step {step}, which steps_per_execution={n} does not reach. Give 1, or the old value.",
                folder=self.folder,
                step=state["step"],
                n=self.model.steps_per_execution,
            )

    def _find_callbacks(self) -> list[keras.callbacks.Callback]:
        """The callbacks of this `fit`, without this one."""
        callbacks = find_callbacks("ExactResume")
        behind = callbacks[callbacks.index(self) + 1 :]
        late = [type(callback).__name__ for callback in behind if not isinstance(callback, _HARMLESS)]
        if late:
            raise InputError(
                "The callback {late} is after ExactResume, which would not see what it does. Put ExactResume last.",
                late=late[0],
            )
        if any(isinstance(callback, keras.callbacks.CSVLogger) and not callback.append for callback in callbacks):
            raise InputError(
                "CSVLogger starts its file again each time that a training is resumed. Give it append=True."
            )
        return [callback for callback in callbacks if callback is not self and not _is_stateless(callback)]

    def _skip(self, steps: int) -> None:
        """Lets `fit` count the steps of this epoch that are done, without repeating them; the remaining steps read the data from there."""
        model, data = self.model, self.data
        batches = data.stream(self._epoch, steps)
        if is_validated(model):
            # Creates the metrics, so that their sums so far can be put back. Not `test_on_batch`, which gives a step three values.
            model.evaluate(batches.take(model.steps_per_execution), verbose=0)
        self._restore()
        counted = model.get_metrics_result()
        train = getattr(model.train_function, "skips_before", model.train_function)  # not that of an interrupted `fit`
        rest = iter(
            model.distribute_strategy.experimental_distribute_dataset(batches.take(data.steps_per_epoch - steps))
        )
        self._skipping = (model, train)
        done, own = 0, None

        def train_function(iterator: Iterator) -> dict[str, Any]:
            nonlocal done, own
            own = own or iterator
            if iterator is not own:  # from another `fit`: this one was interrupted
                self._stop_skipping()
                return train(iterator)
            if done < steps:
                done += model.steps_per_execution
                return counted
            return train(rest)

        train_function.skips_before = train
        model.train_function = train_function

    def _stop_skipping(self) -> None:
        if self._skipping is not None:
            model, train = self._skipping
            model.train_function, self._skipping = train, None

    def _variables(self) -> dict[str, list]:
        model = self.model
        kinds = {
            "model": model.variables,  # with the random states of its layers
            "metrics": model.metrics_variables,
            "random state": [find_seed_state()],  # of `keras.random` if no seed is given
        }
        for name, value in sorted(find_optimizers(model).items()):
            if not value.built and value is model.optimizer:
                value.build(model.trainable_variables)
            inner = getattr(value, "inner_optimizer", value)
            kinds[f"{name} {type(inner).__name__}"] = inner.variables
            if inner is not value:
                scale = {id(variable) for variable in inner.variables}
                of_scale = [variable for variable in value.variables if id(variable) not in scale]
                kinds[LOSS_SCALE] = [*kinds.get(LOSS_SCALE, []), *of_scale]
        return kinds

    def _keep(self, epoch: int, step: int, logs: dict | None = None) -> None:
        """Writes the state before this step; `logs`: those of the epoch that has just ended."""
        begin = time.monotonic()
        self._kept_at = begin
        # Checked and written one after another: a copy of all would need the same memory again.
        if not all(np.isfinite(weight.numpy()).all() for weight in self.model.trainable_weights):
            return  # the last good state is kept
        states = sorted(_list_states(self.folder))
        number = max(states, default=0) + 1
        _make_folder(self.folder)
        arrays: list[np.ndarray | keras.Variable] = []
        variables = {kind: [_refer(v, arrays) for v in of_kind] for kind, of_kind in self._variables().items()}
        callbacks = self._pack_callbacks(number, logs, arrays)
        self._journal.write()
        state = {
            "epoch": epoch,
            "step": step,
            "stopped": bool(self.model.stop_training),
            "label": self.label,
            "data": None if self.data is None else self.data.fingerprint,
            "variables": variables,
            "callbacks": callbacks,
            "random": _pack([random.getstate(), np.random.get_state()], arrays),
            "arrays": [_describe(array) for array in arrays],
            "journal": [self._journal.file.name, self._journal.size],
        }
        last, of_last = self._last
        for old in states:
            if old != last:  # so there are never more than two, and one of them is complete
                discard(self.folder / f"{old}.npz")
        with replacing(self.folder / f"{number}.npz") as temporary, zipfile.ZipFile(temporary, "w") as archive:
            _write_bytes(archive, "state", [json.dumps(state).encode()])
            # One array for all: it is written in a tenth of the time that hundreds of arrays take.
            _write_bytes(archive, "data", map(_to_bytes, arrays), sum(map(_count_bytes, state["arrays"])))
        self._last = number, self._journal.file.name
        delete_old_journals(self.folder, {of_last, self._journal.file.name})
        now = time.monotonic()
        self._next = now + min(max(REST * (now - begin), FIRST_REST), self._seconds)

    def _pack_callbacks(self, number: int, logs: dict | None, arrays: list) -> list:
        """The callbacks' states. What grew in them goes to the journal, or to a new one if something has shrunk."""
        for _ in range(2):
            if self._journal is None:
                self._journal = Journal(self.folder / f"{number}{ENDING}")
            before = len(arrays)
            packed = [
                [type(callback).__name__, self._pack_state(callback, place, fresh, logs, arrays)]
                for place, (callback, fresh) in enumerate(zip(self._callbacks, self._fresh, strict=True))
            ]
            if not self._has_shrunk:
                break
            self._journal, self._has_shrunk = None, False
            del arrays[before:]
        return packed

    def _pack_state(
        self, callback: keras.callbacks.Callback, place: int, fresh: dict, logs: dict | None, arrays: list
    ) -> Any:
        def add(growing: Growing) -> Any:
            packed = self._journal.add(f"{place} {growing.name}", growing, _pack)
            self._has_shrunk |= packed is None
            return packed

        try:
            return _pack(self._state_of(callback, fresh, logs), arrays, add)
        except TypeError as error:
            raise InputError(
                "get_state() of the callback {name} gives {what}. It may give numbers, text, arrays, and lists and dictionaries"
                " of these.",
                name=type(callback).__name__,
                what=error,
            ) from None

    def _state_of(self, callback: keras.callbacks.Callback, fresh: dict[str, tuple], logs: dict | None) -> Any:
        if hasattr(callback, "get_state"):
            return callback.get_state()
        if isinstance(callback, keras.callbacks.History):  # Keras puts it last: it has not seen the end of this epoch
            names = dict.fromkeys([*callback.history, *(logs or {})])
            seen = {
                name: [*callback.history.get(name, []), *([logs[name]] if logs and name in logs else [])]
                for name in names
            }
            return {
                "history": {name: Growing(name, values) for name, values in seen.items()},
                "epoch": Growing(" epochs", [*callback.epoch, *([self._epoch] if logs else [])]),
            }
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            return find_swap(callback)
        packed = _attributes(callback)
        changed = [name for name, value in packed.items() if name not in fresh or not _same(value, fresh[name])]
        lost = [name for name in changed if packed[name] is None]
        if lost and type(callback).__name__ not in self._told and not type(callback).__module__.startswith("keras."):
            self._told.add(type(callback).__name__)
            print(
                say(
                    "The callback {name} forgets '{lost}' if the training is interrupted: it is not a number, text or array. Add get_state() and "
                    "set_state(state).",
                    name=type(callback).__name__,
                    lost=lost[0],
                )
            )
        return {name: vars(callback)[name] for name in changed if packed[name] is not None}

    def _put_variables_back(self, state: dict[str, Any]) -> None:
        arrays, kept = state["arrays"], dict(state["variables"])
        model = self.model
        if (
            len(model.variables) < len(kept["model"]) and self.data is not None
        ):  # a subclassed model: not built before it is called
            model(next(iter(self.data.stream(0, 0)))[0])
        optimizers = find_optimizers(model).values()
        if self.data is not None and not all(value.built or value is model.optimizer for value in optimizers):
            # The optimizers of a model's own training step are built in its first step; everything that this step changes is put back.
            # Not by `train_on_batch`, which gives a step three values, where `fit` gives it what the data give.
            model.make_train_function()
            model.train_function(
                iter(model.distribute_strategy.experimental_distribute_dataset(self.data.stream(0, 0)))
            )
        kinds = self._variables()
        if not state["step"] or len(kinds["metrics"]) < len(kept["metrics"]):
            (
                kinds.pop("metrics"),
                kept.pop("metrics"),
            )  # an epoch begins with new metrics; within an epoch `_skip` has made them before
        if LOSS_SCALE not in kept or LOSS_SCALE not in kinds:
            kinds.pop(LOSS_SCALE, None), kept.pop(LOSS_SCALE, None)  # another precision has no loss scale
        if set(kinds) != set(kept):
            raise InputError(
                "{folder} contains the state of a training with {theirs}; this one has {ours}. Give another folder, or the same optimizer.",
                folder=self.folder,
                theirs=", ".join(sorted(set(kept) - set(kinds))) or Sentence("fewer optimizers"),
                ours=", ".join(sorted(set(kinds) - set(kept))) or Sentence("fewer"),
            )
        for kind, variables in kinds.items():
            values = [_unpack(value, arrays) for value in kept[kind]]
            if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
                raise InputError(
                    "{folder} contains the state of another training: for '{kind}' it has {theirs} variables, this one {ours}, or they differ in "
                    "shape.{hint} To train this one, give another folder.",
                    folder=self.folder,
                    kind=kind,
                    theirs=len(values),
                    ours=len(variables),
                    hint="" if variables else Sentence(" They are created when it is built: build it before `fit`."),
                )
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def _restore(self) -> None:
        """Puts the pending state back."""
        state, arrays = self._pending, self._pending["arrays"]
        self._put_variables_back(state)
        kept = [(name, packed) for name, packed in state["callbacks"] if name not in ("ProgbarLogger", "TensorBoard")]
        names, ours = [name for name, _ in kept], self._callbacks
        if names != [type(callback).__name__ for callback in ours]:
            raise InputError(
                "{folder} contains the state of a training with the callbacks {theirs}; these are {ours}. Give the same, or another folder.",
                folder=self.folder,
                theirs=", ".join(names),
                ours=", ".join(type(callback).__name__ for callback in ours),
            )
        states = [_unpack(packed, arrays, state["grown"]) for _, packed in kept]
        for callback, values in zip(ours, states, strict=True):
            if hasattr(callback, "set_state"):
                callback.set_state(values)
            else:
                if isinstance(callback, keras.callbacks.History):
                    epochs = values.pop("epoch", [])
                    self._epochs_before = (
                        [] if getattr(callback, "epoch", None) else epochs
                    )  # not if they are there already
                for name, value in values.items():
                    setattr(callback, name, value)
        python, numpy = _unpack(state["random"], arrays)
        random.setstate(python)
        np.random.set_state(numpy)


def _is_stateless(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has nothing to remember, so that a training may resume with it or without: one that says so, and two of Keras's."""
    if getattr(callback, "remembers_nothing", False):
        return True
    is_keras = isinstance(callback, (keras.callbacks.ProgbarLogger, keras.callbacks.TensorBoard))
    return is_keras and not hasattr(callback, "get_state")


def _initial_epoch(state: dict[str, Any] | None, epochs: int) -> int:
    if state is None:
        return 0
    return epochs if state["stopped"] else min(state["epoch"], epochs)


def _attributes(callback: keras.callbacks.Callback) -> dict[str, tuple | None]:
    """A callback's own attributes, packed with copies of the arrays; None for those that cannot be packed."""
    packed = {}
    for name, value in vars(callback).items():
        # Keras's `min_delta` changes its sign at the end of the first epoch.
        if name.startswith("_") or name in ("params", "min_delta", "monitor_op"):
            continue
        arrays: list[np.ndarray] = []
        try:
            packed[name] = _pack(value, arrays), [array.copy() for array in arrays]
        except TypeError:
            packed[name] = None
    return packed


def _same(one: tuple | None, other: tuple | None) -> bool:
    if one is None or other is None:
        return one is other
    same = json.dumps(one[0]) == json.dumps(other[0]) and len(one[1]) == len(other[1])
    return same and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(one[1], other[1], strict=True)
    )


def _pack(value: Any, arrays: list[np.ndarray], add: Callable[[Growing], Any] | None = None) -> Any:
    """Turns a value into something that JSON can store; its arrays are appended to `arrays`, and replaced by their number.

    `add` returns the replacement for a growing value; without it the complete value is packed.
    """
    if isinstance(value, Growing):
        return _pack(value.items, arrays) if add is None or not len(value.items) else add(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        if value.dtype.hasobject:
            raise TypeError("an array of objects")
        arrays.append(value.view(np.uint16) if value.dtype.name == "bfloat16" else value)
        return {"array": len(arrays) - 1, "dtype": value.dtype.name}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_pack(item, arrays, add) for item in value]}
    if type(value) is dict:
        return {"dict": [[_pack(key, arrays), _pack(item, arrays, add)] for key, item in value.items()]}
    raise TypeError(f"a {type(value).__name__}")


def _refer(variable: keras.Variable, arrays: list) -> dict[str, Any]:
    """The replacement for a variable; the variable itself is read only when it is written."""
    arrays.append(variable)
    return {"array": len(arrays) - 1, "dtype": keras.backend.standardize_dtype(variable.dtype)}


def _describe(array: np.ndarray | keras.Variable) -> tuple[str, tuple[int, ...]]:
    name = keras.backend.standardize_dtype(array.dtype) if not isinstance(array, np.ndarray) else array.dtype.str
    return np.dtype("uint16" if name == "bfloat16" else name).str, tuple(array.shape)


def _to_bytes(array: np.ndarray | keras.Variable) -> memoryview | bytes:
    values = array if isinstance(array, np.ndarray) else array.numpy()
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data if values.size else b""


def _count_bytes(described: tuple[str, tuple[int, ...]]) -> int:
    return np.dtype(described[0]).itemsize * math.prod(described[1])


def _write_bytes(archive: zipfile.ZipFile, name: str, pieces: Iterable, size: int | None = None) -> None:
    """Writes bytes as a NumPy array; its size must be given if there are several pieces."""
    size = len(pieces[0]) if size is None else size
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
        for piece in pieces:
            stream.write(piece)


def _unpack(packed: Any, arrays: list[np.ndarray], grown: dict[str, Any] | None = None) -> Any:
    if not isinstance(packed, dict):
        return packed
    if "grown" in packed:
        return grown[packed["grown"]][: packed["count"]]
    if "array" in packed:
        array = arrays[packed["array"]]
        return (
            array.view(keras.ops.convert_to_numpy(keras.ops.zeros((), "bfloat16")).dtype)
            if packed["dtype"] == "bfloat16"
            else array
        )
    if "dict" in packed:
        return {_unpack(key, arrays, grown): _unpack(item, arrays, grown) for key, item in packed["dict"]}
    items = [_unpack(item, arrays, grown) for item in packed.get("list", packed.get("tuple"))]
    return tuple(items) if "tuple" in packed else items


def _list_states(folder: Path) -> list[int]:
    return [int(file.stem) for file in list_folder(folder) if file.suffix == ".npz" and file.stem.isdecimal()]


def _read_newest(folder: Path) -> dict[str, Any] | None:
    """The newest complete state, with its `arrays`; None if there is none."""
    for number in sorted(_list_states(folder), reverse=True):
        file = folder / f"{number}.npz"
        try:
            state = read_file(file, _read_state, folder.parent, math.inf)
        except UnreadableFile as error:
            if not error.is_damaged:  # with an older state, epochs would be trained a second time
                raise
            print(say("{file} is damaged and not used: {error}", file=file, error=error.reason))
            continue
        except FileNotFoundError:  # deleted in the meantime
            continue
        try:
            journal, size = state["journal"]
            state["grown"] = read_journal(folder / journal, size, _cut, _unpack) if journal else {}
            state["number"] = number
            return state
        except UnreadableFile as error:
            if not error.is_damaged:
                raise
            print(say("{file} is damaged and not used: {error}", file=file, error=error))
        except FileNotFoundError:
            reason = Sentence("{name} is missing", name=journal)
            print(say("{file} is damaged and not used: {error}", file=file, error=reason))
    return None


def _read_state(stream: BinaryIO) -> dict[str, Any]:
    """Reads a state from its file; each array is read into its own place, so that it is in memory only once."""
    with zipfile.ZipFile(stream) as archive:
        state_entry, data_entry = archive.getinfo("state.npy"), archive.getinfo("data.npy")
        if max(state_entry.file_size, data_entry.file_size) > stream.seek(0, os.SEEK_END):  # they are not compressed
            raise ValueError("more than the file holds")
        state = json.loads(read_array(archive, state_entry).tobytes())
        journal, size = state.setdefault("journal", ["", 0])  # an earlier version had none
        if not set(state) >= _KEYS or Path(journal).name != journal or type(size) is not int:
            raise ValueError("no such state")
        with archive.open(data_entry) as data:
            (size,), _ = read_array_header(data, data_entry)
            if size != sum(map(_count_bytes, state["arrays"])):
                raise ValueError("its arrays are not of the size that it says")
            state["arrays"] = [_read_into(np.empty(shape, dtype), data) for dtype, shape in state["arrays"]]
            data.read(1)  # at the end of the data the archive compares the checksum
    return state


def _read_into(array: np.ndarray, stream: IO[bytes]) -> np.ndarray:
    into, at = array.reshape(-1).view(np.uint8).data if array.size else b"", 0
    while at < len(into):
        count = stream.readinto(into[at:])
        if not count:
            raise EOFError("it is cut off")
        at += count
    return array


def _cut(data: np.ndarray, described: list) -> Iterator[np.ndarray]:
    """The arrays in `data`, `uint8 [n]`, one after another, each described by dtype and shape."""
    at = 0
    for dtype, shape in described:
        size = _count_bytes((dtype, shape))
        yield data[at : at + size].view(dtype).reshape(shape)
        at += size


def _make_folder(folder: Path) -> None:
    try:
        try_again(lambda: folder.mkdir(parents=True, exist_ok=True), folder)
    except OSError as error:
        raise InputError("{folder} cannot be made: {reason}.", folder=folder, reason=error.strerror) from None
