"""A team's submission: written from a run, and checked by the grader's own program before anybody else sees it."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pbl.errors import InputError, Sentence
from pbl.grading import judge
from pbl.grading.fixtures import COUNT
from pbl.grading.formats import BUILDER, DESCRIPTION, FIXTURES, FORMAT, KERAS, PREDICTIONS, WEIGHTS
from pbl.grading.outcomes import CAUSES, TOLERANCE, clean, say, status_of
from pbl.grading.sandbox import FULL, Limits, find_layers
from pbl.grading.server import bootstrap
from pbl.grading.workers import environment, make_folder
from pbl.runs import Run, describe_environment, load_run
from pbl.storage import replacing

if TYPE_CHECKING:
    import keras

CHECK_SECONDS = 600


class Submitted(NamedTuple):
    """What `submit` has written.

    Attributes:
        file: The file to hand in.
        status: What the instructor will see, on any machine where the submission comes out as here.
        message: The status in a sentence.
        remarks: What else is worth knowing before the deadline.
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

    It is first checked as the grader checks it, in a process of its own. What would not be graded is not written, except
    that a builder of one's own is: the instructor must list it first.

    Args:
        run: The run, or its folder. Its `experiment.py` is executed where the builder stands in it.
        team: The team's name.
        out: The `.zip` to write (a name without that ending becomes a folder); `TEAM.zip` unless given.
        as_keras: Hand in the whole model as `model.keras` rather than weights; of a model of Keras's own layers.
        predictions: A folder of hidden images without labels: hand in the classes of these images rather than a model.

    Raises:
        InputError: The run is incomplete; the grader would not grade the submission; it cannot be written.
    """
    from pbl import models
    from pbl.evaluation import run as evaluation

    run = load_run(run)
    team = clean(team, 64)
    if not team:
        raise InputError("--team needs the team's name.")
    if as_keras and predictions is not None:
        raise InputError("Give one of --keras and --predictions.")
    target = Path(out).expanduser() if out else Path(f"{_file_name(team)}.zip")
    if target.suffix.lower() not in (".zip", ""):
        raise InputError(
            "--out {out}: give a name that ends in .zip, or one without an ending for a folder.", out=target
        )
    if not target.parent.is_dir():
        raise InputError(
            "The folder {folder} does not exist. Make it first, or give another name: --out.", folder=target.parent
        )
    class_names, remarks = run.split["class_names"], []
    builder = models.MODELS.get(run.config.model)
    own_builder = None
    if builder is None or not builder.__module__.startswith("pbl.models"):
        run.execute_experiment()
        own_builder = run.path / "experiment.py"
    model = evaluation.build_model(run)
    with tempfile.TemporaryDirectory(prefix="pbl-") as temporary:
        made = Path(temporary) / ("submission" if target.suffix == "" else "submission.zip")
        if predictions is not None:
            ids, images = _read_images(Path(predictions).expanduser(), run)
            write_predictions(made, team, class_names, ids, evaluation.predict_probabilities(model, images))
            told = check_submission(made, class_names, ids=ids)
        else:
            fixtures = _make_fixtures(run, remarks)
            write_submission(
                made, team, class_names, model=model, builder=None if as_keras else run.config.model, input_shape=run.split["input_shape"],
                model_options=run.config.model_options, builder_file=None if as_keras else own_builder, fit=run.split["fit"], fixtures=fixtures,
            )  # fmt: skip
            images = fixtures[0] if fixtures else np.zeros((COUNT, *run.split["input_shape"]), np.uint8)
            told = check_submission(made, class_names, images=images, fit=run.split["fit"])
        template, fields = say(told.reason, told.fields)
        message = Sentence(template, **fields)
        if told.reason not in ("ok", "builder_unlisted"):
            raise InputError("The grader would not grade this submission ({status}), so it was not written: {message}", status=status_of(told.reason), message=message)  # fmt: skip
        cause = told.facts.get("fixtures", {}).get("cause")
        if cause:
            remarks.append(
                Sentence(
                    "skewed_preprocessing: probabilities differ by up to {difference:.2f} ({tolerance} passes). {cause}",
                    difference=told.facts["fixtures"]["difference"], tolerance=TOLERANCE, cause=Sentence(CAUSES[cause]),
                )
            )  # fmt: skip
        write_files(target, _contents(made))
    return Submitted(target, status_of(told.reason), message, remarks)


def _file_name(team: str) -> str:
    from pbl.grading.results import safe_name

    return safe_name(team)


def _read_images(folder: Path, run: Run) -> tuple[list[str], np.ndarray]:
    from pbl.data import find_image_files, fit_image, read_image

    if not folder.is_dir():
        raise InputError(
            "--predictions {folder}: give the folder of hidden images that you were handed.", folder=folder
        )
    files = find_image_files([folder])
    *size, channels = run.split["input_shape"]
    images = np.stack([fit_image(read_image(file), tuple(size), channels, run.split["fit"]) for file in files])
    return [file.stem for file in files], images


def _make_fixtures(run: Run, remarks: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Validation images, and what the run's model gave them when it was evaluated; None, with a remark, where they are not at hand."""
    from pbl.evaluation.run import open_data

    shape = run.split["input_shape"]
    config = run.config.replace(image_size=tuple(shape[:2]), channels=shape[2], augmentation={}, sample_weights=None, class_weight=None)  # fmt: skip
    try:
        saved = run.read_predictions("val")
        hashes = saved.hashes.tolist()
        images = open_data(config).images("val")
        place = {content: number for number, content in enumerate(images.hashes)}
        chosen = [
            number
            for number in np.unique(np.linspace(0, len(hashes) - 1, COUNT).astype(int))
            if hashes[number] in place
        ]
        if not chosen:
            raise InputError("its validation images are no longer the same")
        pixels = images.pixels[[place[hashes[number]] for number in chosen]]
        return pixels, saved.probabilities[chosen]
    except (OSError, KeyError, ValueError) as error:
        remarks.append(
            Sentence(
                "There are no fixtures, so the grader cannot notice other preprocessing: the run's validation images or predictions"
                " are not at hand ({error}).",
                error=error if isinstance(error, InputError) else clean(error, 200),
            )
        )
        return None


def write_submission(
    file: str | Path,
    team: str,
    class_names: Sequence[str],
    *,
    model: "keras.Model",
    builder: str | None = None,
    model_options: dict[str, Any] | None = None,
    builder_file: str | Path | None = None,
    input_shape: Sequence[int] | None = None,
    fit: str = "crop",
    fixtures: tuple[np.ndarray, np.ndarray] | None = None,
) -> Path:
    """Writes a submission, without checking it.

    Args:
        file: The `.zip` to write; a name without that ending becomes a folder.
        team: The team's name.
        class_names: The classes in the order of the model's outputs.
        model: Raw pixels 0 to 255 in, probabilities out.
        builder: Name of the registered builder that made the model; its weights are handed in. Without it the model itself is
            handed in as `model.keras`, which must be of Keras's own layers.
        model_options: What the builder was given.
        builder_file: A Python file that registers the builder, where `pbl` does not have it. The instructor must list it.
        input_shape: (height, width, channels) of the images that it takes; needed of a subclassed model, which does not tell.
        fit: How images are brought to the model's shape: "crop", "pad" or "stretch".
        fixtures: Images `uint8 [n, height, width, channels]` and the probabilities `float32 [n, classes]` that the model
            gave them when it was trained, by which the grader notices other preprocessing. At most 16 are kept.

    Returns:
        The file or folder.

    Raises:
        InputError: It cannot be written.
    """
    shape = [int(side) for side in (input_shape or model.input_shape[1:])]
    contents: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="pbl-") as folder:
        name = WEIGHTS if builder else KERAS
        saved = Path(folder) / name
        model.save_weights(saved) if builder else model.save(saved)
        contents[name] = saved.read_bytes()
    if fixtures is not None:
        stream = io.BytesIO()
        np.savez_compressed(stream, images=fixtures[0][:COUNT], probabilities=fixtures[1][:COUNT].astype(np.float32))
        contents[FIXTURES] = stream.getvalue()
    if builder_file is not None:
        contents[BUILDER] = Path(builder_file).read_bytes()
    told = {"kind": "weights" if builder else "keras", "input_shape": shape, "fit": fit}
    if builder:
        told |= {"model": builder, "model_options": model_options or {}}
    return _describe_and_write(Path(file), team, class_names, contents, told)


def write_predictions(
    file: str | Path, team: str, class_names: Sequence[str], ids: Sequence[str], probabilities: np.ndarray
) -> Path:
    """Writes a submission of predictions, without checking it.

    Args:
        file: See `write_submission`.
        team: The team's name.
        class_names: The classes in the order of the columns.
        ids: Names of the hidden images, without their ending.
        probabilities: `float32 [n, classes]`.

    Raises:
        InputError: It cannot be written.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", "label", *(f"p({name})" for name in class_names)])
    for name, row in zip(ids, probabilities, strict=True):
        writer.writerow([name, class_names[int(row.argmax())], *(f"{value:.9g}" for value in row)])
    return _describe_and_write(
        Path(file), team, class_names, {PREDICTIONS: stream.getvalue().encode()}, {"kind": "predictions"}
    )


def _describe_and_write(
    file: Path, team: str, class_names: Sequence[str], contents: dict[str, bytes], told: dict[str, Any]
) -> Path:
    description = {
        "format": FORMAT,
        "team": team,
        **told,
        "class_names": list(class_names),
        "versions": describe_environment()["versions"],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    return write_files(file, {**contents, DESCRIPTION: json.dumps(description, indent=1, ensure_ascii=False).encode()})


def write_files(target: Path, contents: dict[str, bytes]) -> Path:
    """Writes files into a `.zip`, or into a folder where the name has another ending."""
    if target.suffix.lower() != ".zip":
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                "The folder {folder} cannot be made: {reason}.", folder=target, reason=error.strerror
            ) from None
        for name, content in contents.items():
            with replacing(target / name) as temporary:
                temporary.write_bytes(content)
        return target
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            # One date, so that equal contents are equal archives.
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), contents[name])
    return target


def _contents(made: Path) -> dict[str, bytes]:
    """The files of a submission that was just written here."""
    if made.is_dir():
        return {file.name: file.read_bytes() for file in made.iterdir()}
    with zipfile.ZipFile(made) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_submission(
    submission: Path,
    class_names: Sequence[str],
    *,
    images: np.ndarray | None = None,
    fit: str = "crop",
    ids: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> judge.Left:
    """Does to a submission of one's own what the grader's worker and judge do, in a new process.

    Locked up as far as this machine can; where it cannot (macOS, Windows), not at all: the file is one's own.

    Args:
        submission: A file or folder.
        class_names: The classes of the task.
        images: `uint8 [n, height, width, channels]` in place of the hidden ones.
        fit: How they were brought to that shape.
        ids: Of predictions: the ids of the hidden images.
        limits: What it may use.

    Returns:
        What the grader would conclude, as `pbl.grading.judge.read_left` does.
    """
    limits = limits or Limits()
    files = sorted(submission.iterdir()) if submission.is_dir() else [submission]
    missing = find_layers()
    layers = [layer for layer, why in missing.items() if not why and layer != "other_user"]
    layers = layers if set(FULL) <= set(layers) else []
    ids = list(ids) if ids is not None else [str(number) for number in range(len(images))]
    with tempfile.TemporaryDirectory(prefix="pbl-", ignore_cleanup_errors=True) as temporary:
        folder = make_folder(
            Path(temporary) / "job",
            {
                "files": [file.name for file in files], "ids": ids, "class_names": list(class_names), "limits": limits.as_json(),
                "shape": list(images.shape[1:]) if images is not None else None, "fit": fit, "builders": [],
            },
        )  # fmt: skip
        for number, file in enumerate(files):
            (folder / "submission" / str(number)).write_bytes(file.read_bytes())
        if images is not None:
            (folder / "pixels.u8").write_bytes(np.ascontiguousarray(images).tobytes())
        job = {"function": "work", "folder": str(folder), "layers": layers, "limits": limits.as_json(), "readable": []}
        program = bootstrap(Path(__file__).resolve().parents[2], "run_once")
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-B", "-c", program, json.dumps(job), "-1"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=Path(os.sep).resolve(),
                env=environment(folder / "scratch"), timeout=CHECK_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return judge.Left("slow", {"limit": CHECK_SECONDS}, {})
        if done.returncode != 0:
            words = done.stdout.decode("utf-8", "replace").strip().splitlines()
            raise InputError(
                "The check of the submission ended with status {status}: {words}.", status=done.returncode, words=clean(" ".join(words[-2:]), 400)
            )  # fmt: skip
        left = judge.read_left(folder / "output", len(ids), len(class_names))
        return left if left.reason != "needs_pixels" else judge.Left("no_result", {}, left.facts)
