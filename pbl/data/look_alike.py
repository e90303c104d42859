"""Groups of images that do not come from their names: look-alikes, and a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pbl.data.doctor.alignment import find_alike
from pbl.data.doctor.vectors import shrink
from pbl.data.paths import expand
from pbl.errors import InputError

LOOK_ALIKE = "look_alike"
# A distance of `pbl.data.doctor.alignment.find_alike`: 0 equal, 1 as far apart as two images of the set on average. The largest at
# which the data doctor takes two images for copies.
BOUND = 0.2
CHAINED = 0.5  # share of all images in one group; above it they are not look-alikes but images that differ little
MOST = 20_000  # images; each is compared with all others


def group_look_alikes(images: np.ndarray, names: Sequence[str]) -> list[str]:
    """Puts images that look alike into one group: the connected components of pairs within `BOUND` of each other.

    Examples are frames of one film, exposures of one part, a photograph and its edited copy. The word of a group is the name of its
    first image. Images that only a person recognises as related, such as two photographs of one patient, are not found.

    Args:
        images: `uint8 [n, height, width, channels]`, at least 3 pixels a side.
        names: n names.

    Raises:
        InputError: There are too many images, or more than half of them are tied into one group.
    """
    n = len(names)
    if n > MOST:
        raise InputError(
            "groups=look_alike compares each image with all others: {n:,} images are too many, the limit is {most:,}. Give a pattern of the names, "
            "or a CSV file with the columns name and group.",
            n=n,
            most=MOST,
        )
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    alike = find_alike(shrink(np.asarray(images[:])), np.arange(n))
    near = alike.distance <= BOUND
    graph = coo_matrix((np.ones(near.sum()), (alike.one[near], alike.other[near])), (n, n))
    count, group = connected_components(graph, directed=False)
    largest = np.bincount(group).max()
    if largest > CHAINED * n and largest > 2:
        raise InputError(
            "groups=look_alike puts {largest} of {n} images into one group: they differ too little to be separated in this way. Give a pattern of "
            "the names, or a CSV file with the columns name and group.",
            largest=int(largest),
            n=n,
        )
    first = np.full(count, n)
    np.minimum.at(first, group, np.arange(n))
    return [names[first[number]] for number in group]


def read_groups(file: str, names: Sequence[str]) -> list[str]:
    """Reads the group of each image from a CSV file with the columns `name` and `group`.

    Raises:
        InputError: The file cannot be read, lacks a column, or does not name each image once.
    """
    try:
        table = pd.read_csv(expand(Path(file)), index_col=False, encoding="utf-8-sig", dtype=str, keep_default_na=False)
        known = dict(zip(table["name"], table["group"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "groups={file} cannot be read: {error}. Give a CSV file with the columns name and group.",
            file=file,
            error=error,
        ) from None
    if twice := sorted(table["name"][table["name"].duplicated()]):
        raise InputError(
            "groups={file} names the image {name} more than once. Give each image one row, with its name and its group.",
            file=file,
            name=twice[0],
        )
    if absent := [name for name in names if name not in known]:
        raise InputError(
            "groups={file} does not contain the image {name}; {absent} of {images} images are missing. Give each image one row, with its name and "
            "its group.",
            file=file,
            name=absent[0],
            images=len(names),
            absent=len(absent),
        )
    if without := [name for name in names if not known[name]]:
        raise InputError(
            "groups={file} gives no group for the image {name}. Give each image one row, with its name and its group.",
            file=file,
            name=without[0],
        )
    return [known[name] for name in names]
