"""The code that runs in the locked process: it opens one submission, predicts, and leaves an array and a few words behind.

It sees the submission and, from the hidden set, pixels in an order of their own without labels. Whatever it is made to say concerns
only its own submission.
"""

import contextlib
import hashlib
import json
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pbl.grading import architecture, fixtures, formats
from pbl.grading.archives import Archive
from pbl.grading.formats import ARCHIVE, BOXES, BUILDER, DESCRIPTION, FIXTURES, KERAS, PREDICTIONS, WEIGHTS, Description
from pbl.grading.jobs import NAMES, OUTPUT, PIXELS, RESULT, SCRATCH, STATUS, SUBMISSION, read_job
from pbl.grading.mask_files import read_masks
from pbl.grading.predictions import read_boxes, read_predictions, read_scores
from pbl.grading.refusals import Refusal, clean
from pbl.grading.sandbox import MEBIBYTE, Limits
from pbl.grading.weights import load_weights
from pbl.models.prediction import FILLED, predict_probabilities

# What may be handed in for each task, and the reason why anything else is refused.
TAKEN = {
    "classification": (("weights", "keras", "predictions"), "model_needed"),
    "anomaly": (("predictions",), "scores_needed"),
    "segmentation": (("masks",), "masks_needed"),
    "detection": (("boxes",), "boxes_needed"),
}
PIXEL_BYTES = 64 * MEBIBYTE  # size of the images that are predicted in one call, which needs three times this memory


def work(folder: Path) -> None:
    """Grades the submission of a job's folder as far as it can be without labels.

    `job.json` contains what `pbl.grading.orders.describe_work` returns. Leaves `output/status.json` and, if the reason is "ok",
    `output/predictions.f32`: `float32 [n, classes]`, in segmentation `uint8 [pixels]`, in detection `float64 [boxes, 7]`.
    """
    job = read_job(folder)
    facts: dict[str, Any] = {}
    try:
        result = _predict(folder, job, facts)
        if result is not None:
            (folder / OUTPUT / RESULT).write_bytes(result.tobytes())
        told = {"reason": "ok" if result is not None else "needs_pixels", "fields": {}}
    except Refusal as refusal:
        told = {"reason": refusal.reason, "fields": refusal.fields}
    except MemoryError:
        told = {"reason": "memory", "fields": {"limit": job["limits"]["memory"]}}
    (folder / OUTPUT / STATUS).write_text(json.dumps({**told, "facts": facts}), encoding="utf-8")


def _predict(folder: Path, job: dict[str, Any], facts: dict[str, Any]) -> np.ndarray | None:
    """Returns the array that `work` leaves, or None if pixels of another shape are needed, which `facts` names."""
    limits = Limits(**job["limits"])
    started = time.perf_counter()
    kind, files = open_parts(folder, job["files"], limits)
    facts["kind"] = kind
    taken, reason = TAKEN[job["task"]]
    if kind not in taken:
        raise Refusal(reason)
    content = _read(files[DESCRIPTION], DESCRIPTION, formats.JSON_LIMIT) if DESCRIPTION in files else None
    description = formats.read_description(content, kind, limits.side) if content is not None else Description()
    facts["team"] = clean(description.team, 64)
    _check_files(description, files)
    columns = _match_classes(description.class_names, job["class_names"])
    if kind == "masks":
        masks = read_masks(files[ARCHIVE], job["ids"], job["sizes"], len(columns))
        return np.argsort(columns).astype(np.uint8)[masks]
    if kind == "boxes":
        content = _read(files[BOXES], BOXES, limits.file * MEBIBYTE)
        boxes, facts["threshold"] = read_boxes(content, job["ids"], job["class_names"])
        return boxes
    if kind == "predictions":
        content = _read(files[PREDICTIONS], PREDICTIONS, limits.file * MEBIBYTE)
        if job["task"] == "anomaly":
            result, told = read_scores(content, job["ids"])
        else:
            result, told = read_predictions(content, job["ids"], job["class_names"])
        facts.update(told)
        return result

    config = None
    if kind == "keras":
        config, saved_with = _open_keras(files, folder, limits)
        facts["saved_with"] = clean(saved_with, 20)
        shape = architecture.find_input_shape(config, description.input_shape, limits)
    else:
        shape = description.input_shape
        facts["model"] = clean(description.model, 60)
    facts["shape"], facts["fit"] = list(shape), description.fit
    if job["shape"] is None or (tuple(job["shape"]), job["fit"]) != (shape, description.fit):
        return None

    num_classes = len(job["class_names"])
    if config is not None:
        model = architecture.rebuild(config, saved_with)
        facts["model"] = clean(model.name, 60)
    else:
        if BUILDER in files:
            _enter_builder(files[BUILDER], job["builders"])
        model = architecture.build_registered(description, num_classes)
    architecture.check_outputs(model, num_classes)
    facts["parameters"] = model.count_params()
    if facts["parameters"] > limits.parameters * 10**6:
        raise Refusal("many_weights", count=round(facts["parameters"] / 10**6), limit=limits.parameters)
    called = WEIGHTS if kind == "weights" else f"{WEIGHTS} in {KERAS}"
    facts["content"], facts["features"] = load_weights(model, files[WEIGHTS], called, folder / SCRATCH)
    facts["seconds_to_open"] = round(time.perf_counter() - started, 3)
    return _predict_all(model, folder, job, shape, files, columns, facts)


def _predict_all(model, folder, job, shape, files, columns, facts) -> np.ndarray:
    num_classes = len(job["class_names"])

    def predict(pixels: np.ndarray) -> np.ndarray:
        try:
            return predict_probabilities(model, pixels)
        except MemoryError:
            raise
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            if "ResourceExhausted" in type(error).__name__:
                raise MemoryError from None
            raise Refusal("cannot_predict", shape=clean(shape)) from None

    # The fixtures come first: their result is useful even if the rest takes too long.
    if FIXTURES in files:
        pixels, expected = fixtures.read_fixtures(files[FIXTURES], shape, num_classes)
        facts["fixtures"] = fixtures.compare(
            predict, pixels, expected, _check_result(predict(pixels), len(pixels), num_classes)
        )
    started = time.perf_counter()
    parts = [
        _check_result(predict(pixels), len(pixels), num_classes)
        for pixels in _read_pixels(folder / PIXELS, len(job["ids"]), shape)
    ]
    result = np.concatenate(parts)
    facts["seconds_to_predict"] = round(time.perf_counter() - started, 3)
    facts["has_probabilities"] = True
    return result[:, columns]


def _read_pixels(file: Path, count: int, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """The images, some at a time: the number of hidden images must not decide whether memory is enough for a model."""
    image = int(np.prod(shape))
    step = max(1, PIXEL_BYTES // (image * FILLED)) * FILLED
    with file.open("rb") as stream:
        for start in range(0, count, step):
            n = min(step, count - start)
            yield np.fromfile(stream, np.uint8, n * image).reshape(n, *shape)


def _check_result(result: np.ndarray, count: int, num_classes: int) -> np.ndarray:
    if result.ndim != 2 or len(result) != count:
        raise Refusal("output_shape", found=clean(result.shape), expected=num_classes)
    if result.shape[1] != num_classes:
        raise Refusal("class_count", found=result.shape[1], expected=num_classes)
    return result


def open_parts(folder: Path, names: list[str], limits: Limits, only: str | None = None) -> tuple[str, dict[str, Path]]:
    """Gives a submission's files the grader's names; an archive is first unpacked.

    Args:
        folder: The job's folder.
        names: The team's names of the files.
        limits: The limits, for sizes.
        only: The single role that is wanted from an archive; by default all.

    Returns:
        The kind, and the path of each role (see `pbl.grading.formats`).

    Raises:
        Refusal: There is no submission, or several at once, or it is damaged or breaks a rule.
    """
    contents = {name: folder / SUBMISSION / str(number) for number, name in enumerate(names)}
    parts = formats.choose_parts(names)
    if parts.kind != "archive":
        return parts.kind, _under_own_names(parts.roles, contents, folder)
    with Archive(contents[parts.roles[ARCHIVE]], "the zip file", limits.file) as archive:
        inner = formats.choose_parts(archive.members, in_archive=True)
        if inner.kind == "archive":
            raise Refusal("zip_in_zip", file="the zip file", name=clean(inner.roles[ARCHIVE]))
        # A model of built-in layers may be in a zip inside a zip: a .keras file is itself a zip. Masks stay in theirs.
        found = {ARCHIVE: contents[parts.roles[ARCHIVE]]} if inner.kind == "masks" else {}
        for role, name in inner.roles.items():
            if only not in (None, role):
                continue
            found[role] = folder / SCRATCH / role
            archive.extract(name, found[role])
    return inner.kind, found


def _under_own_names(roles: dict[str, str], contents: dict[str, Path], folder: Path) -> dict[str, Path]:
    found = {}
    for role, name in roles.items():
        source = contents[name]
        if not source.stat().st_size:
            raise Refusal("empty_file", file=role)
        if role == WEIGHTS:  # Keras chooses its parser by the file name
            target = folder / SCRATCH / role
            with source.open("rb") as stream, target.open("xb") as copy:
                while piece := stream.read(MEBIBYTE):
                    copy.write(piece)
            source = target
        found[role] = source
    return found


def _open_keras(files: dict[str, Path], folder: Path, limits: Limits) -> tuple[dict[str, Any], str]:
    members = {"config.json", "metadata.json", WEIGHTS}
    with Archive(files[KERAS], KERAS, limits.file, most=16) as archive:
        strange = sorted(archive.members.keys() - members)
        if strange:
            raise Refusal("member_kind", file=KERAS, name=clean(strange[0]))
        if members - archive.members.keys():
            raise Refusal("damaged", file=KERAS)
        limit = architecture.CONFIG_LIMIT
        config = formats.parse_json(archive.read("config.json", limit), "config.json", limit)
        metadata = formats.parse_json(archive.read("metadata.json", formats.JSON_LIMIT), "metadata.json")
        files[WEIGHTS] = folder / SCRATCH / WEIGHTS
        archive.extract(WEIGHTS, files[WEIGHTS])
    return architecture.check_config(config), str(metadata.get("keras_version", "?"))


def _read(path: Path, name: str, limit: int) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise Refusal("too_large", file=name, size=-(-path.stat().st_size // MEBIBYTE), limit=max(1, limit // MEBIBYTE))
    return content


def _check_files(description: Description, files: dict[str, Path]) -> None:
    """Raises Refusal if a file is not the one for which `submission.json` was written."""
    for name, expected in description.files.items():
        if name in files and name != DESCRIPTION:
            with files[name].open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != expected:
                raise Refusal("changed_file", file=clean(name))


def _match_classes(names: tuple[str, ...] | None, expected: list[str]) -> list[int]:
    """Which output of the model is the task's first, second, ... class; raises Refusal if the classes differ."""
    if names is None:
        return list(range(len(expected)))
    place = {unicodedata.normalize("NFC", name): number for number, name in enumerate(names)}
    missing, unknown = [name for name in expected if name not in place], sorted(place.keys() - set(expected))
    if missing or unknown:
        called = clean(", ".join(unknown[:3]) or f"{len(names)} classes")
        raise Refusal("class_names", missing=len(missing), unknown=len(unknown), names=called)
    return [place[name] for name in expected]


def _enter_builder(file: Path, allowed: list[str]) -> None:
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    if sha not in allowed:
        raise Refusal("builder_unlisted", sha=sha)
    architecture.enter_builder(file)


def name_team(folder: Path) -> None:
    """Writes the team's name in a submission's `submission.json` to `names.json`; "" if it has none."""
    job, team = read_job(folder), ""
    with contextlib.suppress(Refusal):
        if formats.role_of(job["files"][0]) == DESCRIPTION:
            path = folder / SUBMISSION / "0"
        else:
            path = open_parts(folder, job["files"], Limits(**job["limits"]), DESCRIPTION)[1].get(DESCRIPTION)
        if path is not None:
            content = _read(path, DESCRIPTION, formats.JSON_LIMIT)
            team = clean(formats.parse_json(content, DESCRIPTION).get("team", ""), 1000)
    (folder / OUTPUT / NAMES).write_text(json.dumps({"team": team}), encoding="utf-8")


def unpack(folder: Path) -> None:
    """Unpacks a platform's archive of a whole class: the files go to `output/0`, `output/1`, ..., their names to `names.json`.

    Files that cannot be extracted are listed too (as null in `places`): only their own team is affected.
    """
    job = read_job(folder)
    limits = Limits(**job["limits"])
    told: dict[str, Any] = {"reason": "ok", "fields": {}, "names": [], "places": []}
    try:
        with Archive(folder / SUBMISSION / "0", "the archive", limits.file, job["most"], is_class=True) as archive:
            for number, name in enumerate([*archive.members, *archive.strange]):
                place = None
                if name in archive.members:
                    with contextlib.suppress(Refusal):
                        archive.extract(name, folder / OUTPUT / str(number))
                        place = number
                told["names"].append(name)
                told["places"].append(place)
    except Refusal as refusal:
        told |= {"reason": refusal.reason, "fields": refusal.fields}
    (folder / OUTPUT / NAMES).write_text(json.dumps(told), encoding="utf-8")


# Functions that the server may run in a locked process.
LOCKED = {"work": work, "name_team": name_team, "unpack": unpack}
