"""Images that are most similar to others, by the features that a run of task=contrast has learned."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pbl.data import find_image_files
from pbl.errors import InputError
from pbl.evaluation.contrast_figures import SHOWN, plot_found
from pbl.evaluation.run import load_model, read_images
from pbl.languages import say_sentence
from pbl.reports.drawing import caption, cut, literal
from pbl.runs import Run, load_run
from pbl.storage.writing import replacing
from pbl.tasks import contrast


def search(
    run: str | Path | Run,
    paths: str | Path | Sequence[str | Path],
    among: str | Path | Sequence[str | Path],
    most: int = 5,
    *,
    picture: str | Path | None = None,
    tell: Callable[[str], None] = lambda line: print(say_sentence(line)),
    note: Callable[[str], None] = lambda line: print(say_sentence(line)),
) -> pd.DataFrame:
    """Finds the image files that are most similar to some others, by the features that a run of task=contrast has learned.

    Args:
        run: The run, or its folder. Its `experiment.py` is executed.
        paths: What is sought: one or more image files, and folders that are searched for images.
        among: What is searched, in the same form. A file that is sought is not found for itself.
        most: How many are found for each image.
        picture: Where a picture is written, with a row for each of the first 8 images; by default none.
        tell, note: As for `predict`.

    Returns:
        A row for each that was found: `file`, `rank` from 1, `found`, `cosine`; and, if validation had pairs of different classes,
        `above`, the share of them that are less similar, and `same` (`pbl.tasks.contrast.predict`).

    Raises:
        InputError: The run has another task; there is no image; see `predict`.

    Example:
        >>> import pbl
        >>> found = pbl.search("runs/mnist_simclr/001", "mine.png", "photos", most=3)  # doctest: +SKIP
    """
    run = load_run(run)
    if run.config.task != "contrast":
        raise InputError(
            "search needs a run of task=contrast, whose features show what is alike; the run {run} has task={task}. Train one: python -m pbl train "
            "experiments/digits_simclr.py",
            run=run.path,
            task=run.config.task,
        )
    if most < 1:
        raise InputError("--most {most}: give the number of images to find for each image, 1 or more.", most=most)
    listed = []
    for given in (paths, among):
        given = [given] if isinstance(given, (str, Path)) else list(given)
        files = find_image_files(given)
        if not files:
            raise InputError("No image was named. Give image files or folders of them.")
        listed.append(read_images(run, files, {Path(path) for path in given}, tell, note))
    (sought, pixels), (searched, others) = listed
    if len(searched) < 2 and [file.resolve() for file in searched] == [file.resolve() for file in sought]:
        raise InputError("There is nothing to find: only {file} is searched. Give a folder of images.", file=sought[0])
    table = contrast.search(load_model(run), pixels, others, run, most + 1)
    names, places = [file.resolve() for file in sought], [file.resolve() for file in searched]
    itself = [names[image] == places[found] for image, found in zip(table["image"], table["found"], strict=True)]
    table = table[~np.array(itself, bool)].groupby("image").head(most).reset_index(drop=True)
    table["rank"] = table.groupby("image").cumcount() + 1
    if picture is not None:
        _draw_found(table, pixels, others, [file.stem for file in sought], run, Path(picture))
    table.insert(0, "file", [str(sought[image]) for image in table["image"]])
    table["found"] = [str(searched[found]) for found in table["found"]]
    return table.drop(columns="image")


def _draw_found(
    table: pd.DataFrame, pixels: np.ndarray, others: np.ndarray, names: Sequence[str], run: Run, file: Path
) -> None:
    rows = [of for _, of in table[table["image"] < SHOWN].groupby("image")]
    columns = min(map(len, rows))  # a file that is itself sought leaves one place empty
    figure = plot_found(
        pixels[[of["image"].iloc[0] for of in rows]],
        np.stack([others[of["found"][:columns]] for of in rows]),
        [literal(cut(names[of["image"].iloc[0]], 10)) for of in rows],
        [[f"{cosine:.2f}" for cosine in of["cosine"][:columns]] for of in rows],
        caption("{run}: the most similar images, and the cosine of their features", run=run.name),
    )
    try:
        with replacing(file) as temporary:
            figure.savefig(temporary, dpi=150, format="png")
    except OSError as error:
        raise InputError("{file}: {reason}. Give another file.", file=file, reason=error.strerror) from None
