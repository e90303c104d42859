"""A training's hold on its run: lock, status, seconds, the state it resumes from, and the check that the data are the same."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pbl import models
from pbl.config import Config
from pbl.data import Data
from pbl.diagnosis.rules import find_changed_limits
from pbl.errors import InputError, Sentence, join_sentences
from pbl.languages import say
from pbl.models import slips
from pbl.runs import Run, describe_environment, find_unfinished, name_device, remove_run, reserve_run
from pbl.storage.lock import InUse
from pbl.storage.writing import discard, timestamp
from pbl.training.build import builder_options
from pbl.training.checkpoint import ExactResume

IN_FIT = "monitor (in fit)"


@contextlib.contextmanager
def open_session(
    config: Config, folder: str | Path | None = None, fresh: bool = False, again: bool = True
) -> Iterator["Session"]:
    """Yields the session of a training: of the unfinished run with these settings, else of a new one; it is locked at once.

    If nothing is trained, since the data or the settings do not fit, the folder of a new run is removed again.

    Args:
        config: The settings.
        folder: Where runs are kept.
        fresh: Whether an unfinished run is ignored.
        again: Whether settings with a finished run are trained once more.

    Raises:
        InUse: Another process trains in the run, or has just ended it.
    """
    found = None if fresh else find_unfinished(config, folder)
    run = found or reserve_run(config, folder, fresh, again)
    with run.lock():
        if found is not None and run.is_finished and run.is_tidy:  # it ended after it was found, before it was locked
            raise InUse("{run} was trained by another process meanwhile: its result is taken.", run=run.path)
        if found is not None:
            recorded = run.environment.get("builder_options")
            options = models.keep_options(config.model, config.model_options, recorded)
            config = config.replace(model_options=options)
        session = Session(config, run)
        try:
            yield session
        except BaseException:
            if found is None and session.resume is None:
                remove_run(run)
            raise


class Session:
    """One process's part of a training.

    Attributes:
        run: The run.
        config: The settings; for a resumed run, with the options of its builder as they were when it began.
        resume: Keeps the training's state in the run, and puts it back; None before `begin`.
        status: The status that the run will have: "finished", "paused", "interrupted" or "pruned".
    """

    def __init__(self, config: Config, run: Run):
        self.run, self.status = run, "finished"
        self.resume: ExactResume | None = None
        self.config = config
        self._seconds: dict[str, float] = {}
        self._lap_began = time.perf_counter()

    def lap(self, name: str) -> None:
        """Counts the seconds since the last lap, or the beginning, under a name."""
        now = time.perf_counter()
        self._seconds[name] = now - self._lap_began
        self._lap_began = now

    def check_same_data(self, data: Data) -> None:
        """Raises InputError if the data are no longer those that the run began with."""
        run = self.run
        if not run.holds("split.json"):
            return
        if run.environment.get("data") not in (None, data.fingerprint) and run.has_same_images(data.split):
            raise InputError(
                "{run} cannot be resumed: the order, labels or weights of the training images of '{source}' have changed since it began (were "
                "files renamed or moved to another class?). Restore them, or start a new run: add --fresh.",
                run=run.path,
                source=data.name,
            )
        for split in ("train", "val"):
            ours, theirs = set(data.split["hashes"][split]), set(run.split["hashes"][split])
            if ours != theirs or data.class_names != run.split["class_names"]:
                raise InputError(
                    "{run} cannot be resumed: {gone} of the {split} images of '{source}' are gone and {new} are new since it began, or classes "
                    "were renamed. Restore the data, or start a new run: add --fresh.",
                    run=run.path,
                    source=data.name,
                    split=split,
                    gone=len(theirs - ours),
                    new=len(ours - theirs),
                )

    @contextlib.contextmanager
    def begin(
        self, model: keras.Model, policy: str, data: Data, findings: dict[str, Any], trial_images: int | None = None
    ) -> Iterator[Run]:
        """Writes into the run's folder what is trained, and at the end how it ended.

        Args:
            model: The compiled model.
            policy: The dtype policy that it was built with.
            data: The data.
            findings: What was found in the data, in the form of `data_check.json`.
            trial_images: How many images a trial uses; None: all.
        """
        run, config = self.run, self.config
        discard(run.path / slips.FILE)  # from an earlier attempt
        if not run.holds("split.json"):
            run.write_json("split.json", data.split)
        run.write_json("data_check.json", findings)
        self.resume = ExactResume(run.path, data, minutes=config.checkpoint_minutes, max_minutes=config.max_minutes)
        devices = [f"{device.device_type}: {_name_device(device)}" for device in tf.config.list_physical_devices()]
        self._note_resume(devices)
        weights, images = models.count_trainable_weights(model), data.split["images"]
        names = data.class_names[config.task == "segmentation" :]  # the background is no class of theirs
        run.update_environment(
            status="running",
            devices=devices,
            data=data.fingerprint,
            images=data.images_hash,
            builder_options=builder_options(config),
            trainable_weights=weights,
            precision=policy,
            jit_compile=bool(model.jit_compile),
            steps_per_execution=model.steps_per_execution,
            replicas=model.distribute_strategy.num_replicas_in_sync,
            limits=find_changed_limits(config.file),
            **({} if trial_images is None else {"trial_images": trial_images}),
        )
        told = (
            "{run}: {model} ({weights:,} trainable weights) on {data}, {n} {n:class|classes} ({classes}), {train:,} training and {val:,}"
            " validation images, in {precision} on {device}"
        )
        print(
            say(
                told,
                run=run.path,
                model=config.model,
                weights=weights,
                data=data.name,
                n=len(names),
                classes=", ".join(names[:5]) + (", ..." if len(names) > 5 else ""),
                train=images["train"],
                val=images["val"],
                precision=policy,
                device=name_device(devices[-1]),
            )
        )
        try:
            yield run
        except BaseException as error:
            self._fail(error)
            raise
        self._end()

    def count_measuring(self, seconds: float) -> None:
        """Records how long the callback that measures the training took."""
        self._seconds[IN_FIT] = seconds

    def _note_resume(self, devices: list[str]) -> None:
        """Writes into `environment.json` that a run is resumed, and prints a note if that is on another machine."""
        state, run = self.resume.newest, self.run
        if state is None:
            return
        epoch, step = state["epoch"], state["step"]
        before, now = run.environment, describe_environment()
        entry = {
            "time": timestamp(),
            "epoch": epoch + 1,
            "step": step,
            "versions": now["versions"],
            "machine": now["machine"],
        }
        run.update_environment(resumed=[*before.get("resumed", []), {**entry, "devices": devices}])
        if step:
            print(say("{run} resumes at epoch {epoch}, step {step}.", run=run.path, epoch=epoch + 1, step=step + 1))
        else:
            print(say("{run} resumes at epoch {epoch}.", run=run.path, epoch=epoch + 1))
        versions, machine = before.get("versions") or {}, before.get("machine") or {}
        pairs = [
            (f"{package} {versions.get(package)}", version)
            for package, version in now["versions"].items()
            if package in ("tensorflow", "keras", "numpy") and versions.get(package) != version
        ]
        pairs += [
            (old, new)
            for old, new in (
                (", ".join(before.get("devices", [])), ", ".join(devices)),
                (machine.get("processor", "?"), now["machine"]["processor"]),
            )
            if old != new
        ]
        if pairs:
            changed = [Sentence("{before}, now {now}", before=old, now=new) for old, new in pairs]
            told = "It began on another system ({changed}): the result will differ a little from the result of one machine alone."
            print(say(told, changed=join_sentences(changed, "; ")))

    def _fail(self, error: BaseException) -> None:
        if self.run.is_lock_lost:
            return
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with contextlib.suppress(InputError):  # if the disk is full, the first error is enough
            self.run.update_environment(status=status, reason=f"{type(error).__name__}: {error}")

    def _end(self) -> None:
        run = self.run
        environment = run.environment
        earlier = environment.get("seconds", {})
        laps = sorted(self._seconds.items(), key=lambda lap: lap[0] == IN_FIT)  # last, since it is a part of fit
        seconds = {name: round(earlier.get(name, 0) + value, 2) for name, value in laps}
        if "resumed" in environment and run.holds("history.csv"):  # a process that was killed wrote no seconds
            seconds["fit"] = round(sum(float(row["seconds"]) for row in run.read_table("history.csv", "seconds")), 2)
        run.update_environment(status=self.status, seconds=seconds)
        if self.status == "pruned":
            told = "Pruned after epoch {epoch}: other trials were better at that point. train with these settings resumes {run}."
            print(say(told, epoch=environment["epochs"], run=run.path))
        elif self.status != "finished":
            ended = Sentence("Paused") if self.status == "paused" else Sentence("Interrupted")
            print(say("{ended}. The same command resumes {run}.", ended=ended, run=run.path))
        elif not environment["diverged"]:
            discard(run.path / "checkpoint")  # a finished run is never resumed


def _name_device(device: Any) -> str:
    details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
    return details.get("device_name", device.name)
