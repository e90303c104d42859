"""A team's submission: written from a run, and checked by the grader's own program before anybody else sees it."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pbl.errors import InputError, Sentence
from pbl.grading import judge
from pbl.grading.formats import MOST_FIXTURES
from pbl.grading.hidden import ANOMALY_CLASSES
from pbl.grading.jobs import OUTPUT, PIXELS, SCRATCH, SUBMISSION, command
from pbl.grading.orders import describe_work, environment, make_folder
from pbl.grading.outcomes import CAUSES, explain, status_of
from pbl.grading.packing import (
    size_of,
    write_boxes,
    write_files,
    write_masks,
    write_predictions,
    write_scores,
    write_submission,
)
from pbl.grading.refusals import TOLERANCE, clean
from pbl.grading.roster import name_team, safe_name
from pbl.grading.sandbox import FULL, Limits, find_layers
from pbl.runs import Run, load_run
from pbl.storage.writing import check_room, replacing, telling_full_disks, temporary_folder

CHECK_SECONDS = 600
NO_ROOM = "{folder} has too little space for the check of the submission: {reason}. Free some space, or name another folder in the variable TMPDIR."


CAN_BE_GRADED = Sentence(
    "It can be graded. Nothing has been sent or scored yet: upload the file where your instructor collects submissions."
)


class Submitted(NamedTuple):
    """The result of `submit`.

    Attributes:
        file: The file to hand in.
        status: What the instructor will see, on any machine with the same result as here.
        message: The status in a sentence.
        remarks: Other remarks that matter before the deadline.
    """

    file: Path
    status: str
    message: str
    remarks: list[str]


def submit(
    run: str | Path | Run,
    team: str,
    *,
    out: str | Path | None = None,
    as_keras: bool = False,
    predictions: str | Path | None = None,
) -> Submitted:
    """Writes a run's submission: what `python -m pbl submit` does.

    It is first checked as the grader does it, in a separate process. A submission that would not be graded is not written, except
    that one with the team's own builder is: the instructor must list the builder first.

    Args:
        run: The run, or its folder. Its `experiment.py` is executed if the builder is in it.
        team: The team's name.
        out: The `.zip` to write (a name without that ending becomes a folder); by default `TEAM.zip`.
        as_keras: Hand in the whole model as `model.keras` rather than weights; only for a model of Keras's own layers.
        predictions: A folder of hidden images without labels: hand in the classes of these images rather than a model. For anomaly
            detection their scores and alarms are handed in, for segmentation their masks, for detection their boxes, and nothing else is possible.

    Raises:
        InputError: The run is incomplete; the grader would not grade the submission; it cannot be written.
    """
    run = load_run(run)
    task = run.config.task
    if task not in ("anomaly", "segmentation", "detection"):
        run.check_is_classifier("submit")
    elif predictions is None:
        what = {"anomaly": Sentence("scores"), "segmentation": Sentence("masks"), "detection": Sentence("boxes")}[task]
        raise InputError(
            "The run {run} has task={task}: hand in {what} for the hidden images that your instructor gives out, not the model: --predictions "
            "IMAGES.",
            run=run.path,
            task=task,
            what=what,
        )
    if not clean(team):
        raise InputError("--team needs the team's name.")
    team = name_team(team)  # the same name as on the roster, even if it is long
    if as_keras and predictions is not None:
        raise InputError("Give one of --keras and --predictions.")
    target = Path(out).expanduser() if out else Path(f"{safe_name(team)}.zip")
    if target.suffix.lower() not in (".zip", ""):
        raise InputError(
            "--out {out}: give a name that ends in .zip, or one without an ending for a folder.", out=target
        )
    if task == "segmentation" and target.suffix.lower() != ".zip":
        raise InputError("--out {out}: masks are handed in as one zip. Give a name that ends in .zip.", out=target)
    if not target.parent.is_dir():
        raise InputError(
            "The folder {folder} does not exist. Make it first, or give another name: --out.", folder=target.parent
        )
    with telling_full_disks(folder := tempfile.gettempdir(), NO_ROOM, folder=folder), temporary_folder() as temporary:
        made = Path(temporary) / f"submission{target.suffix}"
        remarks: list[str] = []
        if task == "anomaly":
            told = _write_and_check_scores(made, run, team, predictions, remarks)
        elif task == "segmentation":
            told = _write_and_check_masks(made, run, team, predictions, remarks)
        elif task == "detection":
            told = _write_and_check_boxes(made, run, team, predictions, remarks)
        else:
            told = _write_and_check(made, run, team, as_keras, predictions, remarks)
        message = CAN_BE_GRADED if told.reason == "ok" else explain(told.reason, told.fields)
        if told.reason not in ("ok", "builder_unlisted"):
            raise InputError(
                "The grader would not grade this submission ({status}), so it was not written: {message}",
                status=status_of(told.reason),
                message=message,
            )
        if made.is_dir():
            write_files(target, {file.name: file.read_bytes() for file in made.iterdir()})
        else:
            with replacing(target) as copy:
                shutil.copyfile(made, copy)
    if told.reason == "builder_unlisted":
        remarks.append(
            Sentence(
                "A model made only of Keras's own layers needs no permission: hand it in with --keras (in Python: as_keras=True)."
            )
        )
    remarks += _tell_speed(told, run)
    fixtures = told.facts.get("fixtures", {})
    if fixtures.get("cause"):
        remarks.append(
            Sentence(
                "skewed_preprocessing: probabilities differ by up to {difference:.2f} (at most {tolerance} is accepted). {cause}",
                difference=fixtures["difference"],
                tolerance=TOLERANCE,
                cause=Sentence(CAUSES[fixtures["cause"]]),
            )
        )
    return Submitted(target, status_of(told.reason), message, remarks)


def _tell_speed(told: judge.Outcome, run: Run) -> list[str]:
    """What the grader's time limit means for a model: nothing if it is far from the limit."""
    from pbl.models.prediction import FILLED

    seconds, images = told.facts.get("seconds_to_predict"), len(told.result) if told.result is not None else 0
    if not seconds or not images:
        return []
    each = seconds / (-(-images // FILLED) * FILLED)  # the few that were tried cost as much as a full batch
    enough = int((Limits().seconds - told.facts.get("seconds_to_open", 0.0)) / each)
    expected = run.split.get("images", {}).get("test") or 10_000
    if enough > 4 * expected:
        return []
    return [
        Sentence(
            "The model needs {seconds:.2g} s per image here, and the grader stops a submission after {limit:.0f} s: enough for about {images:,} "
            "hidden images on a machine like this. Ask the instructor how many there are.",
            seconds=each,
            limit=Limits().seconds,
            images=enough,
        )
    ]


def _write_and_check(
    made: Path, run: Run, team: str, as_keras: bool, predictions: str | Path | None, remarks: list[str]
) -> judge.Outcome:
    from pbl import models
    from pbl.evaluation.run import build_model
    from pbl.models.prediction import predict_probabilities

    config, class_names, shape, fit = run.config, run.split["class_names"], run.split["input_shape"], run.split["fit"]
    builder, own_builder = models.MODELS.get(config.model), None
    if builder is None or not builder.__module__.startswith("pbl.models"):
        run.execute_experiment()
        own_builder = run.path / "experiment.py"
    model = build_model(run)
    if predictions is not None:
        ids, images, _ = _read_images(Path(predictions).expanduser(), run)
        write_predictions(made, team, class_names, ids, predict_probabilities(model, images))
        return check_submission(made, class_names, ids=ids)
    # The submission, its copy in the check, the file extracted from that, and the new weights next to it.
    check_room(made.parent.parent, 4 * size_of(model))
    fixtures = _make_fixtures(run, remarks)
    write_submission(
        made,
        team,
        class_names,
        model=model,
        builder=None if as_keras else config.model,
        model_options=config.model_options,
        builder_file=None if as_keras else own_builder,
        input_shape=shape,
        fit=fit,
        fixtures=fixtures,
    )
    images = fixtures[0] if fixtures else np.zeros((MOST_FIXTURES, *shape), np.uint8)
    return check_submission(made, class_names, images=images, fit=fit)


def _write_and_check_scores(
    made: Path, run: Run, team: str, predictions: str | Path, remarks: list[str]
) -> judge.Outcome:
    from pbl.evaluation.run import load_model
    from pbl.tasks.anomaly import predict

    ids, images, _ = _read_images(Path(predictions).expanduser(), run)
    table = predict(load_model(run), images, run)
    write_scores(made, team, ANOMALY_CLASSES, ids, table["score"], table["alarm"])
    if not table["alarm"].any():
        remarks.append(
            Sentence(
                "No image has an alarm: all of them score below the threshold, or the run has too few normal validation images to"
                " choose one. See: python -m pbl evaluate {run}.",
                run=run.path,
            )
        )
    return check_submission(made, ANOMALY_CLASSES, ids=ids, task="anomaly")


def _write_and_check_masks(
    made: Path, run: Run, team: str, predictions: str | Path, remarks: list[str]
) -> judge.Outcome:
    from pbl.data.images import unfit_mask
    from pbl.evaluation.run import load_model
    from pbl.tasks.segmentation import mask

    class_names, fit = run.split["class_names"], run.split["fit"]
    ids, images, sizes = _read_images(Path(predictions).expanduser(), run)
    fitted = mask(load_model(run), images, run)
    masks = [unfit_mask(of, size, fit) for of, size in zip(fitted, sizes, strict=True)]
    write_masks(made, team, class_names, ids, masks)
    if not any(of.any() for of in masks):
        remarks.append(
            Sentence(
                "Nothing is marked in any image: all is background. See: python -m pbl evaluate {run}.", run=run.path
            )
        )
    remarks += _tell_crop(fit, sizes, images.shape[1:3])
    return check_submission(made, class_names, ids=ids, task="segmentation", sizes=sizes)


def _write_and_check_boxes(
    made: Path, run: Run, team: str, predictions: str | Path, remarks: list[str]
) -> judge.Outcome:
    from pbl.data.boxes import measure_areas, unfit_boxes
    from pbl.evaluation.run import load_model
    from pbl.models.prediction import predict_outputs
    from pbl.tasks.detection import UNKNOWN, read_threshold

    class_names, fit = run.split["class_names"], run.split["fit"]
    ids, images, sizes = _read_images(Path(predictions).expanduser(), run)
    threshold, boxes = read_threshold(run.path), []
    for rows, size in zip(predict_outputs(load_model(run), images), sizes, strict=True):
        own = unfit_boxes(rows[np.argsort(-rows[:, 5], kind="stable")], size, fit, images.shape[1:3])
        boxes.append(own[measure_areas(own) > 0])  # some are entirely in the borders of `pad`
    if threshold is None:
        threshold = UNKNOWN
        told = "Validation chose no threshold, because no box was right there: {threshold} is handed in. See: python -m pbl evaluate {run}."
        remarks.append(Sentence(told, threshold=threshold, run=run.path))
    write_boxes(made, team, class_names, ids, boxes, threshold)
    if not any((rows[:, 5] >= threshold).any() for rows in boxes):
        remarks.append(
            Sentence(
                "No box reaches the threshold in any image: nothing is found. See: python -m pbl evaluate {run}.",
                run=run.path,
            )
        )
    remarks += _tell_crop(fit, sizes, images.shape[1:3])
    return check_submission(made, class_names, ids=ids, task="detection", sizes=sizes)


def _tell_crop(fit: str, sizes: Sequence[tuple[int, int]], shape: tuple[int, int]) -> list[str]:
    """What a network loses if it sees only the middle of some images."""
    if fit != "crop" or not any(_is_cut_off(size, shape) for size in sizes):
        return []
    return [
        Sentence(
            "The network never sees what fit=crop cuts off at the borders of an image, so it finds nothing there. Train with fit=pad to include the borders."
        )
    ]


def _is_cut_off(size: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Whether an image of that size loses more than a pixel at a border if it is cropped to that shape."""
    (height, width), (own_height, own_width) = size, shape
    scale = max(own_height / height, own_width / width)
    return height * scale > own_height + 2 or width * scale > own_width + 2


def _read_images(folder: Path, run: Run) -> tuple[list[str], np.ndarray, list[tuple[int, int]]]:
    """The ids of the hidden images, their pixels in the form that the run's model takes, and height and width of each."""
    from pbl.data import find_image_files, fit_image, read_image

    if not folder.is_dir():
        raise InputError("--predictions {folder}: give the folder of hidden images that you were given.", folder=folder)
    *size, channels = run.split["input_shape"]
    files, images, sizes = find_image_files([folder]), [], []
    for file in files:
        image = read_image(file)
        images.append(fit_image(image, tuple(size), channels, run.split["fit"]))
        sizes.append(image.shape[:2])
    return [file.stem for file in files], np.stack(images), sizes


def _make_fixtures(run: Run, remarks: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Validation images, and the probabilities of the run's model when it was evaluated; None, with a remark, if they are not available."""
    from pbl.evaluation.run import choose_data_settings
    from pbl.tasks import open_data

    try:
        saved = run.read_predictions("val")
        hashes = saved.hashes.tolist()
        images = open_data(choose_data_settings(run)).images("val")
        place = {content: number for number, content in enumerate(images.hashes)}
        chosen = [
            number
            for number in np.unique(np.linspace(0, len(hashes) - 1, MOST_FIXTURES).astype(int))
            if hashes[number] in place
        ]
        if not chosen:
            raise InputError("its validation images are no longer the same")
        pixels = images.pixels[[place[hashes[number]] for number in chosen]]
        return pixels, saved.probabilities[chosen]
    except (OSError, KeyError, ValueError) as error:
        remarks.append(
            Sentence(
                "There are no fixtures, so the grader cannot notice different preprocessing: the run's validation images or predictions are not "
                "available ({error}).",
                error=error if isinstance(error, InputError) else clean(error, 200),
            )
        )
        return None


def check_submission(
    submission: Path,
    class_names: Sequence[str],
    *,
    images: np.ndarray | None = None,
    fit: str = "crop",
    ids: Sequence[str] | None = None,
    limits: Limits | None = None,
    task: str = "classification",
    sizes: Sequence[tuple[int, int]] | None = None,
) -> judge.Outcome:
    """Does with the user's own submission what the grader's worker and judge do, in a new process.

    It is locked down as far as this machine can; if it cannot (macOS, Windows), not at all: the file is the user's own.

    Args:
        submission: A file or folder.
        class_names: The classes of the task.
        images: `uint8 [n, height, width, channels]` instead of the hidden ones.
        fit: How they were brought to that shape.
        ids: For predictions, the ids of the hidden images.
        limits: What it may use.
        task: "classification", "anomaly", "segmentation" or "detection".
        sizes: In segmentation and detection, height and width of each image.

    Returns:
        What the grader would conclude, as `pbl.grading.judge.read_left` returns it.
    """
    limits = limits or Limits()
    files = sorted(submission.iterdir()) if submission.is_dir() else [submission]
    missing = find_layers()
    layers = [layer for layer, why in missing.items() if not why and layer != "other_user"]
    layers = layers if set(FULL) <= set(layers) else []
    ids = list(ids) if ids is not None else [str(number) for number in range(len(images))]
    with temporary_folder() as temporary:
        work = describe_work(
            [file.name for file in files],
            ids,
            class_names,
            limits,
            None if images is None else images.shape[1:],
            fit,
            task=task,
            sizes=sizes,
        )
        folder = make_folder(Path(temporary) / "job", work)
        for number, file in enumerate(files):
            (folder / SUBMISSION / str(number)).write_bytes(file.read_bytes())
        if images is not None:
            (folder / PIXELS).write_bytes(np.ascontiguousarray(images).tobytes())
        job = {"function": "work", "folder": str(folder), "layers": layers, "limits": limits.as_json()}
        try:
            done = subprocess.run(
                command("run_once", json.dumps(job), "-1"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=Path(os.sep).resolve(),
                env=environment(folder / SCRATCH),
                timeout=CHECK_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return judge.Outcome("slow", {"limit": CHECK_SECONDS})
        if done.returncode != 0:
            words = done.stdout.decode("utf-8", "replace").strip().splitlines()
            raise InputError(
                "The check of the submission ended with status {status}: {words}.",
                status=done.returncode,
                words=clean(" ".join(words[-2:]), 400),
            )
        of_boxes = ids if task == "detection" else None
        left = judge.read_left(folder / OUTPUT, len(ids), len(class_names), sizes, of_boxes)
        return left if left.reason != "needs_pixels" else judge.Outcome("no_result", facts=left.facts)
