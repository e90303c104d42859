"""The grader's work with the hidden images and with its own known-good submission; trusted, without labels.

The server imports this file in the child that does such work, never in a child that opens a stranger's file.
"""

from pathlib import Path

import numpy as np

from pbl import models
from pbl.data.images import fit_image, read_image
from pbl.grading.jobs import OUTPUT, PIXELS, read_job
from pbl.grading.packing import write_boxes, write_masks, write_submission
from pbl.grading.walls import try_walls
from pbl.models.prediction import predict_probabilities

CANARY_IMAGES = 32


def prepare(folder: Path) -> None:
    """Decodes the hidden images into raw pixels with one shape.

    `job.json` contains `files` (paths of the images, in order), `shape` and `fit`. Leaves `output/pixels.u8`: `uint8 [n, *shape]`.
    """
    job = read_job(folder)
    height, width, channels = job["shape"]
    with (folder / OUTPUT / PIXELS).open("wb") as target:
        for file in job["files"]:
            target.write(fit_image(read_image(file), (height, width), channels, job["fit"]).tobytes())


def make_canary(folder: Path) -> None:
    """Makes a known-good submission, and its predictions for the first images, so that the grader can be tested.

    `job.json` contains `shape`, `class_names`, `pixels` (a file that `prepare` wrote) and `count`, the number of its images. Leaves
    `output/canary.zip` and `output/expected.f32`.
    """
    job = read_job(folder)
    shape, count = tuple(job["shape"]), min(job["count"], CANARY_IMAGES)
    pixels = np.fromfile(job["pixels"], np.uint8, count * int(np.prod(shape))).reshape(count, *shape)
    options = {"widths": [16]}
    model = models.build("mlp", shape, len(job["class_names"]), **options)
    probabilities = predict_probabilities(model, pixels)
    (folder / OUTPUT / "expected.f32").write_bytes(probabilities.tobytes())
    write_submission(
        folder / OUTPUT / "canary.zip",
        "canary",
        job["class_names"],
        model=model,
        builder="mlp",
        model_options=options,
        fixtures=(pixels, probabilities),
    )


def make_masks(folder: Path) -> None:
    """Makes known-good masks, so that the grader can be tested if masks are handed in.

    `job.json` contains `ids`, `sizes` and `class_names`. Leaves `output/canary.zip` and `output/expected.u8`.
    """
    job = read_job(folder)
    random = np.random.default_rng(0)
    masks = [random.integers(0, len(job["class_names"]), size, np.uint8) for size in job["sizes"]]
    (folder / OUTPUT / "expected.u8").write_bytes(b"".join(mask.tobytes() for mask in masks))
    write_masks(folder / OUTPUT / "canary.zip", "canary", job["class_names"], job["ids"], masks)


def make_boxes(folder: Path) -> None:
    """Makes known-good boxes, as `make_masks` makes masks; `output/expected.f64` contains rows of `pbl.grading.box_rows`."""
    job, rows = read_job(folder), []
    random = np.random.default_rng(0)
    for image, (height, width) in enumerate(job["sizes"]):
        share = random.uniform(0, 0.4, 5)
        corners = [share[0] * width, share[1] * height, (1 - share[2]) * width, (1 - share[3]) * height]
        rows.append([image, *corners, random.integers(len(job["class_names"])), share[4]])
    rows = np.array(rows).astype(np.float32).astype(np.float64)
    (folder / OUTPUT / "expected.f64").write_bytes(rows.tobytes())
    write_boxes(folder / OUTPUT / "canary.zip", "canary", job["class_names"], job["ids"], rows[:, None, 1:], 0.5)


# Functions that the server may run and that open no stranger's file.
TRUSTED = {
    "prepare": prepare,
    "make_canary": make_canary,
    "make_masks": make_masks,
    "make_boxes": make_boxes,
    "try_walls": try_walls,
}
