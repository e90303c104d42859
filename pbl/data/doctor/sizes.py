"""Sizes and modes of the images, as they are in the files; and images of one colour."""

from collections.abc import Mapping

import numpy as np

from pbl.data.doctor.counts import FEWEST_IN_CLASS
from pbl.data.doctor.finding import Finding, Part, one_finding
from pbl.data.doctor.vectors import is_constant

# Conventions, not measured.
ENLARGED = 0.5  # side in the file divided by side of the model's input: below it an image is enlarged more than twice
SMALLER_THAN_REST = 0.25  # shorter side divided by the median of all shorter sides
KEPT_BY_CROP = 0.4  # share of the picture; a 16:9 photograph cut to a square keeps 56%, one of 5:2 keeps 40%
DARK = 64  # of 255
GREY_DIFFERS = 0.5  # share of grey images in one class minus that in another


def _all_shapes(splits: Mapping[str, Part]) -> tuple[np.ndarray, list[str]]:
    shapes = np.concatenate([np.asarray(part.shapes).reshape(-1, 3) for part in splits.values()])
    return shapes, [name for part in splits.values() for name in part.names]


def find_small_images(splits: Mapping[str, Part]) -> list[Finding]:
    """Images much smaller than the model's input or than the rest.

    "act" if a minority is enlarged more than twice, since such images are blurred and the others are not; "note" if
    the whole data set is, and if images are less than a quarter of the usual size, such as thumbnails.
    """
    shapes, names = _all_shapes(splits)
    if not names:
        return []
    height, width = splits["train"].pixels.shape[1:3]
    scale = np.minimum(shapes[:, 0] / height, shapes[:, 1] / width)
    enlarged = scale < ENLARGED
    findings = []
    if enlarged.any():
        order = [int(i) for i in np.argsort(scale, kind="stable") if enlarged[i]]
        few = enlarged.mean() <= 0.5
        findings += one_finding(
            "small_image",
            "act" if few else "note",
            "Images enlarged more than twice to the model's {height}x{width} pixels: {images} of {all_images}, such as {examples}; "
            + (
                "replace them by larger ones, leave them out, or use a smaller image_size."
                if few
                else "a smaller image_size trains faster, and these images lose nothing."
            ),
            [names[i] for i in order],
            images=len(order),
            all_images=len(names),
            height=height,
            width=width,
            smallest=shapes[order[0]].tolist(),
        )
    side = shapes[:, :2].min(axis=1)
    small = (side < SMALLER_THAN_REST * np.median(side)) & ~enlarged
    if small.any():
        order = [int(i) for i in np.argsort(side, kind="stable") if small[i]]
        findings += one_finding(
            "smaller_than_rest",
            "note",
            "Images with less than a quarter of the usual {median} pixels a side: {images}, such as {examples}; check whether they are thumbnails.",
            [names[i] for i in order],
            images=len(order),
            median=int(np.median(side)),
            smallest=shapes[order[0]].tolist(),
        )
    return findings


def find_long_images(splits: Mapping[str, Part], fit: str = "crop") -> list[Finding]:
    """Images so long or so wide that the crop to the model's shape keeps less than 40% of them: "act".

    Args:
        splits: See `examine`.
        fit: "pad" and "stretch" keep the whole picture, so nothing is found.
    """
    if fit != "crop":
        return []
    shapes, names = _all_shapes(splits)
    height, width = splits["train"].pixels.shape[1:3]
    relative = shapes[:, 1] / shapes[:, 0] * height / width
    kept = np.minimum(relative, 1 / relative)
    order = [int(i) for i in np.argsort(kept, kind="stable") if kept[i] < KEPT_BY_CROP]
    if not order:
        return []
    return one_finding(
        "long_image",
        "act",
        "Images of which the crop to {height}x{width} pixels keeps less than {limit:.0%}: {images}, such as {examples}; use fit=pad, or crop them to what matters.",
        [names[i] for i in order],
        images=len(order),
        height=height,
        width=width,
        limit=KEPT_BY_CROP,
        kept=float(kept[order[0]]),
    )


def find_mixed_modes(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Some images grey, some in colour: a "note", and "act" if it differs by class, so that it reveals the class."""
    shapes, names = _all_shapes(splits)
    grey = shapes[:, 2] == 1
    if grey.all() or not grey.any():
        return []
    labels = np.concatenate([part.labels for part in splits.values()])
    shares = {
        class_names[c]: float(grey[labels == c].mean())
        for c in range(len(class_names))
        if (labels == c).sum() >= FEWEST_IN_CLASS
    }
    tells = len(shares) > 1 and max(shares.values()) - min(shares.values()) >= GREY_DIFFERS
    rarer = grey if grey.mean() <= 0.5 else ~grey
    items = [names[i] for i in np.flatnonzero(rarer)]
    details = {"grey": int(grey.sum()), "all_images": len(grey), "grey_share_by_class": shares}
    if not tells:
        return one_finding(
            "mixed_modes",
            "note",
            "Grey images among others in colour: {grey} of {all_images} (the rarer kind: {examples}); channels=1 makes them equal.",
            items,
            **details,
        )
    return one_finding(
        "mixed_modes",
        "act",
        "Grey images among others in colour: {grey} of {all_images}, {greyest_share:.0%} of '{greyest}' but {least_share:.0%} of '{least}'. A network can distinguish many of them by colour alone: use channels=1.",
        items,
        greyest=max(shares, key=shares.get),
        greyest_share=max(shares.values()),
        least=min(shares, key=shares.get),
        least_share=min(shares.values()),
        **details,
    )


def find_dark_images(splits: Mapping[str, Part]) -> list[Finding]:
    """Half of the images or more use no more than a quarter of the range, 64 of 255: "act".

    X-rays of 12 bits in files of 16 look like this: their values reach 4095 of 65535.
    """
    blocks = [part.pixels[at : at + 1024] for part in splits.values() for at in range(0, len(part.names), 1024)]
    largest = np.concatenate([np.zeros(0), *(block.max(axis=(1, 2, 3)) for block in blocks)])
    dark = largest <= DARK
    if not largest.any() or dark.mean() < 0.5:
        return []
    names = [name for part in splits.values() for name in part.names]
    brightest = int(largest[dark].max())
    return one_finding(
        "dark_images",
        "act",
        "The brightest pixel of {images} of {all_images} images, such as {examples}, is at most {largest} of 255 (in files of 16 bits: about {of_16_bits:,} of 65,535): nearly black. Images of 10 to 14 bits in files of 16 bits, such as x-rays, must be multiplied before they are saved, for example those of 12 bits by 16.",
        [names[i] for i in np.argsort(largest, kind="stable") if dark[i]],
        images=int(dark.sum()),
        all_images=len(dark),
        largest=brightest,
        of_16_bits=257 * brightest,
    )


def find_constant_images(splits: Mapping[str, Part]) -> list[Finding]:
    """Images with one colour everywhere: "act", since they teach nothing."""
    items, counts = [], {}
    for split, part in splits.items():
        constant = is_constant(part.pixels)
        counts[f"of_{split}"] = int(constant.sum())
        items += [part.names[i] for i in np.flatnonzero(constant)]
    if not items:
        return []
    return one_finding(
        "constant_image",
        "act",
        "Images of a single colour: {images}, such as {examples}; leave them out, or check what went wrong when they were made.",
        items,
        images=len(items),
        **counts,
    )
