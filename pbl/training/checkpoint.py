"""Exact resume: a training that was cut off goes on as if it had not been.

The state of a training is more than the weights: the optimizer, the states of all random generators, what every callback
remembers, the metrics so far in the epoch, and the place in the data. Keras's `BackupAndRestore` keeps the first two and
the epoch; after it early stopping has lost its patience and `ModelCheckpoint` its best value. `ExactResume` keeps all, in
one file that is written under another name and then put in place; what only grows, as the history, stands in another one that
is appended to. The state before it is kept too, until the next is written: so there are never more than two. A state is kept
so often that it costs a twentieth of the time, and when the training pauses or ends.

What cannot be kept: the state of TensorFlow's own random operations (`tf.random.normal`); use `keras.random`. And what a
callback did outside its memory: within an epoch that is gone on with, the callbacks are called for the steps that are done
too, with the epoch's sums so far, before their states are put back; a file that one writes at every so many steps is written
anew then.
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

REST = 20  # times as long as it took to keep a state, before the next is kept: it costs a twentieth of the time at the most
FIRST_REST = 10.0  # seconds, before a state is kept for the first time, and at the least between two
LOSS_SCALE = "loss scale"
_KEYS = {"epoch", "step", "stopped", "label", "data", "variables", "callbacks", "random", "arrays"}

# May stand behind ExactResume: they change nothing that it keeps.
_HARMLESS = (keras.callbacks.History, keras.callbacks.ProgbarLogger, keras.callbacks.LambdaCallback)


class Stream(Protocol):
    """What `pbl.data.Data` has: training batches from any place on."""

    steps_per_epoch: int
    fingerprint: str

    def seek(self, epoch: int) -> None: ...

    def stream(self, start_epoch: int, start_step: int) -> Any: ...


class Paused(Exception):
    """The training was asked to pause, or its minutes are over; its state is kept.

    Attributes:
        is_asked: Whether it was asked, by `ExactResume.pause`.
    """

    def __init__(self, is_asked: bool):
        super().__init__()
        self.is_asked = is_asked


class ExactResume(keras.callbacks.Callback):
    """Keeps the state of a `fit`, and goes on with it when the same `fit` is called again, in another process too.

    ```python
    keras.utils.set_random_seed(0)
    model = ...
    model.compile(...)
    resume = pbl.ExactResume("runs/mine", data)
    model.fit(data.train, validation_data=data.val, epochs=20, callbacks=[early_stopping, resume])
    ```

    It stands last in the list, so that it keeps what the others have done. The others' states are kept as well: of a
    callback with the methods `get_state()` and `set_state(state)` what they give and take (numbers, text, arrays, and lists
    and dictionaries of these); of any other its attributes of such kinds that have changed since the training began and
    whose names do not begin with "_".

    Called again after the last epoch, `fit` does nothing but end, and says so; with more `epochs` it goes on.

    Args:
        folder: The states are kept in `checkpoint/` below it; one folder for each training.
        data: The data whose `train` is fitted. Its order then follows the epoch, and the state is kept within an epoch too.
            Without it (arrays, a pipeline of your own) the state is kept between epochs, and that an epoch's batches come
            in the same order again is up to you.
        minutes: At the latest after so many the state is kept, within an epoch too; before that at an epoch's end, where that
            costs no more than a twentieth of the time. 0: at every step.
        max_minutes: After so many minutes the state is kept and `Paused` raised.

    Attributes:
        label: A word that is kept with the state. A `fit` goes on only with a state of the same word: where several follow
            one another in one folder, give each its own.
        data: As above; may be changed between two calls of `fit`.
        is_asked: Whether `pause` was called since the last pause; before the training begins too, and between two of its parts.

    Raises:
        InputError: The states in `folder` are of another model, optimizer, data or other callbacks; another callback stands
            behind; a `CSVLogger` would begin its file anew.
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
        self._pending: dict[str, Any] | None = None  # what is still to be put back
        self._read: tuple[list[int], dict[str, Any] | None] | None = None
        self._skipping: tuple | None = None
        self._epochs_before: list[int] = []

    @property
    def newest(self) -> dict[str, Any] | None:
        """The newest state that is whole: its `epoch` and `step`, at which it goes on, both from 0, and its `label`."""
        numbers = _list_states(self.folder)
        if self._read is None or self._read[0] != numbers:
            self._read = numbers, _read_newest(self.folder)
        return self._read[1]

    def initial_epoch(self, epochs: int) -> int:
        """The epoch at which the next `fit` of so many epochs begins, from 0."""
        return _initial_epoch(self._find(), epochs)

    def _find(self) -> dict[str, Any] | None:
        state = self.newest
        return state if state is not None and state["label"] == self.label else None

    def put_back(self, model: keras.Model) -> tuple[int, int]:
        """Gives a compiled model the newest state, and returns its epoch and step."""
        state = self._find()
        if state is None:
            return 0, 0
        self.set_model(model)
        self._put_variables_back(state)
        return state["epoch"], state["step"]

    def pause(self) -> None:
        """Asks that the state be kept at the next step, and `Paused` raised."""
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
        self._pending, self._read = self._find(), None  # not held in memory while it trains
        sweep(self.folder)  # what a process that was killed was writing
        if self._pending is None:
            return
        self._check_data(self._pending)
        self._restore()
        # As keras.callbacks.BackupAndRestore does; `fit` reads it after this call.
        begin = _initial_epoch(self._pending, self.params["epochs"])
        set_initial_epoch(self.model, begin)
        if begin >= self.params["epochs"]:
            print(
                say(
                    "This training has ended: nothing is trained. To train another, give a folder other than {folder}.",
                    folder=self.folder.parent,
                )
            )
        if not self._pending["step"]:
            self._pending = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        set_initial_epoch(self.model, None)  # else it would hold for the model's next `fit` too
        self._complete_history()
        if self.is_asked:  # before the first step: what was kept before holds
            self._stop()
        if self.data is not None:
            self.data.seek(epoch)
        if self._pending is not None:
            self._skip(self._pending["step"])

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        # Not in `on_train_batch_end`: for that Keras would wait for the device at every step.
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
        # Keras's own `History`, which stands last, has begun its list of epochs anew after this callback was called.
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
                folder=self.folder, step=state["step"], n=self.model.steps_per_execution,
            )  # fmt: skip

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
        """Lets `fit` count the steps of this epoch that are done, without doing them; the others read the data from there."""
        model, data = self.model, self.data
        batches = data.stream(self._epoch, steps)
        if is_validated(model):
            model.test_on_batch(*next(iter(batches)))  # makes the metrics, whose sums so far are put back
        self._restore()
        counted = model.get_metrics_result()
        train = getattr(model.train_function, "skips_before", model.train_function)  # not one that was broken off
        rest = iter(
            model.distribute_strategy.experimental_distribute_dataset(batches.take(data.steps_per_epoch - steps))
        )
        self._skipping = (model, train)
        done, own = 0, None

        def train_function(iterator: Iterator) -> dict[str, Any]:
            nonlocal done, own
            own = own or iterator
            if iterator is not own:  # of another `fit`: this one was broken off
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
            "random state": [find_seed_state()],  # of `keras.random` without a seed of its own
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
        """Writes the state before this step; `logs`: of the epoch that has just ended."""
        begin = time.monotonic()
        self._kept_at = begin
        # Looked at and written one after another: a copy of all would take as much memory once more.
        if not all(np.isfinite(weight.numpy()).all() for weight in self.model.trainable_weights):
            return  # the last good state stays
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
            if old != last:  # so there are never more than two, and one of them is whole
                discard(self.folder / f"{old}.npz")
        with replacing(self.folder / f"{number}.npz") as temporary, zipfile.ZipFile(temporary, "w") as archive:
            _write_bytes(archive, "state", [json.dumps(state).encode()])
            # One array for all, which is written in a tenth of the time that hundreds take.
            _write_bytes(archive, "data", map(_to_bytes, arrays), sum(map(_count_bytes, state["arrays"])))
        self._last = number, self._journal.file.name
        delete_old_journals(self.folder, {of_last, self._journal.file.name})
        now = time.monotonic()
        self._next = now + min(max(REST * (now - begin), FIRST_REST), self._seconds)

    def _pack_callbacks(self, number: int, logs: dict | None, arrays: list) -> list:
        """The callbacks' states; what grew in them is in the journal then, or in a new one where something has shrunk."""
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
        if isinstance(callback, keras.callbacks.History):  # which Keras puts last: it has not seen this epoch's end
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
        ):  # a subclassed one: not built before it is called
            model(next(iter(self.data.stream(0, 0)))[0])
        optimizers = find_optimizers(model).values()
        if self.data is not None and not all(value.built or value is model.optimizer for value in optimizers):
            # Optimizers of a training step of its own are built in its first step; all that this one changes is put back.
            model.train_on_batch(*next(iter(self.data.stream(0, 0))))
        kinds = self._variables()
        if not state["step"] or len(kinds["metrics"]) < len(kept["metrics"]):
            (
                kinds.pop("metrics"),
                kept.pop("metrics"),
            )  # an epoch begins with new ones; within one `_skip` makes them before
        if LOSS_SCALE not in kept or LOSS_SCALE not in kinds:
            kinds.pop(LOSS_SCALE, None), kept.pop(LOSS_SCALE, None)  # in another precision there is none
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
                    folder=self.folder, kind=kind, theirs=len(values), ours=len(variables),
                    hint="" if variables else Sentence(" They are created when it is built: build it before `fit`."),
                )  # fmt: skip
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
                folder=self.folder, theirs=", ".join(names), ours=", ".join(type(callback).__name__ for callback in ours),
            )  # fmt: skip
        states = [_unpack(packed, arrays, state["grown"]) for _, packed in kept]
        for callback, values in zip(ours, states, strict=True):
            if hasattr(callback, "set_state"):
                callback.set_state(values)
            else:
                if isinstance(callback, keras.callbacks.History):
                    epochs = values.pop("epoch", [])
                    self._epochs_before = (
                        [] if getattr(callback, "epoch", None) else epochs
                    )  # not where they are there already
                for name, value in values.items():
                    setattr(callback, name, value)
        python, numpy = _unpack(state["random"], arrays)
        random.setstate(python)
        np.random.set_state(numpy)


def _is_stateless(callback: keras.callbacks.Callback) -> bool:
    """Whether it has nothing to remember, so that a training may go on with it or without: one that says so itself, and Keras's."""
    if getattr(callback, "remembers_nothing", False):
        return True
    is_keras = isinstance(callback, (keras.callbacks.ProgbarLogger, keras.callbacks.TensorBoard))
    return is_keras and not hasattr(callback, "get_state")


def _initial_epoch(state: dict[str, Any] | None, epochs: int) -> int:
    if state is None:
        return 0
    return epochs if state["stopped"] else min(state["epoch"], epochs)


def _attributes(callback: keras.callbacks.Callback) -> dict[str, tuple | None]:
    """What a callback's own attributes hold, packed with copies of the arrays; None for what cannot be packed."""
    packed = {}
    for name, value in vars(callback).items():
        # Keras's `min_delta` changes its sign at the first epoch's end, whatever it was before.
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
    """Turns a value into what JSON holds; its arrays are appended to `arrays`, and stand there by their number.

    `add` gives what stands for what grows; without it that is packed as a whole.
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
    """What stands for a variable, which is read only when it is written."""
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
    """Writes bytes as an array of NumPy's, of a size that must be given where there are several pieces."""
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
    """The newest state that is whole, with its `arrays`; None where there is none."""
    for number in sorted(_list_states(folder), reverse=True):
        file = folder / f"{number}.npz"
        try:
            state = read_file(file, _read_state, folder.parent, math.inf)
        except UnreadableFile as error:
            if not error.is_damaged:  # an older state would train epochs a second time
                raise
            print(say("{file} is damaged and not used: {error}", file=file, error=error.reason))
            continue
        except FileNotFoundError:  # deleted meanwhile
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
    """A state as it is in its file; each array is read into its own place, so that it is in memory once."""
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
            data.read(1)  # at its end the archive looks at the checksum
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
    """The arrays that stand in `data`, `uint8 [n]`, one after another, each described by dtype and shape."""
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
