"""How a submission is written: a zip, or a folder, with a model's weights or predictions and with `submission.json`."""

import contextlib
import csv
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pbl.errors import InputError
from pbl.grading.box_rows import MOST_OF_IMAGE
from pbl.grading.formats import (
    BOXES,
    BUILDER,
    DESCRIPTION,
    FIXTURES,
    FORMAT,
    KERAS,
    MOST_FIXTURES,
    PREDICTIONS,
    ROLES,
    WEIGHTS,
)
from pbl.grading.predictions import SCORES_HEADER
from pbl.runs import describe_environment
from pbl.storage.writing import check_room, name_unfinished, replacing, sweep, temporary_folder

if TYPE_CHECKING:
    import keras


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
        model: The model: it takes raw pixels 0 to 255 and returns probabilities.
        builder: Name of the registered builder that made the model; its weights are handed in. Without it the model itself is
            handed in as `model.keras`, which must consist of Keras's own layers.
        model_options: The options that the builder was given.
        builder_file: A Python file that registers the builder, if `pbl` does not have it. The instructor must list it.
        input_shape: (height, width, channels) of the images that it takes; needed for a subclassed model, which does not give it.
        fit: How images are brought to the model's shape: "crop", "pad" or "stretch".
        fixtures: Images `uint8 [n, height, width, channels]` and the probabilities `float32 [n, classes]` that the model
            computed for them when it was trained; with these the grader notices different preprocessing. At most 16 are kept.

    Returns:
        The file or folder.

    Raises:
        InputError: It cannot be written.
    """
    shape = [int(side) for side in (input_shape or model.input_shape[1:])]
    contents: dict[str, bytes] = {}
    with temporary_folder() as folder:
        check_room(folder.parent, size_of(model))
        name = WEIGHTS if builder else KERAS
        saved = Path(folder) / name
        with _without_optimizer(model):
            model.save_weights(saved) if builder else model.save(saved)
        contents[name] = saved.read_bytes()
    if fixtures is not None:
        stream = io.BytesIO()
        np.savez_compressed(
            stream, images=fixtures[0][:MOST_FIXTURES], probabilities=fixtures[1][:MOST_FIXTURES].astype(np.float32)
        )
        contents[FIXTURES] = stream.getvalue()
    if builder_file is not None:
        contents[BUILDER] = Path(builder_file).read_bytes()
    told = {"kind": "weights" if builder else "keras", "input_shape": shape, "fit": fit}
    if builder:
        told |= {"model": builder, "model_options": model_options or {}}
    return _describe_and_write(Path(file), team, class_names, contents, told)


@contextlib.contextmanager
def _without_optimizer(model: "keras.Model") -> Iterator[None]:
    """Removes a compiled model's optimizer for a while: it is twice as large as the weights, and with it VGG is larger than the limit of a file."""
    optimizer = getattr(model, "optimizer", None)  # a model that was never compiled has none
    if optimizer is None:
        yield
        return
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer


def size_of(model: "keras.Model") -> int:
    """Bytes that a model needs on the disk, with a margin."""
    return 1_000_000 + 5 * model.count_params()


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


def write_scores(
    file: str | Path,
    team: str,
    class_names: Sequence[str],
    ids: Sequence[str],
    scores: Sequence[float],
    alarms: Sequence[bool],
) -> Path:
    """Writes a submission of anomaly detection, without checking it.

    Args:
        file: See `write_submission`.
        team: The team's name.
        class_names: `pbl.grading.hidden.ANOMALY_CLASSES`.
        ids: Names of the hidden images, without their ending.
        scores: The score of each image; high if it is like an anomaly.
        alarms: Whether each image is called an anomaly.

    Raises:
        InputError: It cannot be written.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(SCORES_HEADER)
    for name, score, alarm in zip(ids, scores, alarms, strict=True):
        writer.writerow(
            [name, repr(float(score)), "yes" if alarm else "no"]
        )  # all digits: no two scores may become equal
    contents = {PREDICTIONS: stream.getvalue().encode()}
    return _describe_and_write(Path(file), team, class_names, contents, {"kind": "predictions"})


def write_masks(
    file: str | Path, team: str, class_names: Sequence[str], ids: Sequence[str], masks: Iterable[np.ndarray]
) -> Path:
    """Writes a submission of segmentation, without checking it: `masks/ID.png` for each image.

    Args:
        file: The `.zip` to write.
        team: The team's name.
        class_names: The background's name first.
        ids: Names of the hidden images, without their ending.
        masks: For each image `uint8 [height, width]`, the class of each pixel, in the image's own size.

    Raises:
        InputError: It cannot be written.
    """
    contents = {f"masks/{name}.png": encode_mask(mask) for name, mask in zip(ids, masks, strict=True)}
    description = _describe(team, class_names, {"kind": "masks"})
    return write_files(Path(file), {**contents, DESCRIPTION: description})


def write_boxes(
    file: str | Path,
    team: str,
    class_names: Sequence[str],
    ids: Sequence[str],
    boxes: Iterable[np.ndarray],
    threshold: float,
) -> Path:
    """Writes a submission of detection, without checking it: `boxes.json`.

    Args:
        file: See `write_submission`.
        team: The team's name.
        class_names: The classes.
        ids: Names of the hidden images, without their ending.
        boxes: For each image `float [k, 6]`: left, top, right, bottom in its own pixels, class, and score from 0 to 1, by decreasing score; class -1
            if there is no box. At most 1,000 of an image are written.
        threshold: The lowest score at which a box is shown.

    Raises:
        InputError: It cannot be written.
    """
    lines = []
    for name, rows in zip(ids, boxes, strict=True):
        # All digits of 32 bits, so that no score moves across the threshold.
        found = [
            [*(float(str(number)) for number in row[:4]), class_names[int(row[4])], float(row[5])]
            for row in rows.astype(np.float32)[rows[:, 4] >= 0][:MOST_OF_IMAGE]
        ]
        lines.append(f"  {json.dumps(name)}: {json.dumps(found, ensure_ascii=False)}")
    text = f'{{"threshold": {float(threshold)!r}, "images": {{\n' + ",\n".join(lines) + "\n}}\n"
    return _describe_and_write(Path(file), team, class_names, {BOXES: text.encode()}, {"kind": "boxes"})


def encode_mask(mask: np.ndarray) -> bytes:
    """Returns a PNG file of a mask, `uint8 [height, width]`."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def _describe_and_write(
    file: Path, team: str, class_names: Sequence[str], contents: dict[str, bytes], told: dict[str, Any]
) -> Path:
    told["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return write_files(file, {**contents, DESCRIPTION: _describe(team, class_names, told)})


def _describe(team: str, class_names: Sequence[str], told: dict[str, Any]) -> bytes:
    """The content of `submission.json`."""
    common = {"format": FORMAT, "team": team, "class_names": list(class_names)}
    description = {**common, **told, "versions": describe_environment()["versions"]}
    return json.dumps(description, indent=1, ensure_ascii=False).encode()


def write_files(target: Path, contents: dict[str, bytes]) -> Path:
    """Writes files into a `.zip`, or into a folder if the name has another ending.

    Raises:
        InputError: They cannot be written, or would be next to files of another submission.
    """
    if target.suffix.lower() != ".zip":
        if left := [name for name in ROLES if name not in contents and (target / name).exists()]:
            raise InputError(
                "The folder {folder} contains {names} of another submission, so neither could be graded. Give another: --out.",
                folder=target,
                names=", ".join(left),
            )
        is_new = not target.exists()
        try:
            target.mkdir(parents=True, exist_ok=True)
            # All are written before the first is moved to its place.
            sweep(target)
            with tempfile.TemporaryDirectory(prefix=name_unfinished(), dir=target) as making:
                for name, content in contents.items():
                    with replacing(Path(making) / name) as temporary:
                        temporary.write_bytes(content)
                for name in contents:
                    (Path(making) / name).replace(target / name)
        except (OSError, InputError) as error:
            if is_new:
                shutil.rmtree(target, ignore_errors=True)
            reason = error.__cause__ or error
            raise InputError(
                "The folder {folder} cannot be made: {reason}.",
                folder=target,
                reason=getattr(reason, "strerror", None) or reason,
            ) from reason
        return target
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            # One date, so that equal contents are equal archives.
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), contents[name])
    return target
