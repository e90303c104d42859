"""Boxes: classes without an object, or with few; images without boxes; boxes outside, without area, doubled, lost, tiny, or of the whole image;
boxes that a network of centres cannot tell apart; one image with two sets of boxes.

Harmless faults were repaired when the boxes were read (`pbl.data.boxes`), and are reported here.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from pbl.data.boxes import CUT, DOUBLED, FLAT, LOST, OUTSIDE, count_boxes, fit_boxes, measure_areas
from pbl.data.doctor.copies import find_differing
from pbl.data.doctor.counts import FEWEST_IN_CLASS, find_few, list_absent
from pbl.data.doctor.finding import Finding, Part, list_names, one_finding

# Conventions, not measured.
NEARLY_ALL = 0.95  # share of the images that have no box
DOMINANT = 0.9  # share of the training boxes that belong to one class
MANY_OUTSIDE = 0.05  # share of the boxes that reach over the border
TINY = 4  # pixels of the network's input, for the shorter side of a box: one cell of maps of stride 4, as in CenterNet (Zhou et al. 2019)
MANY_TINY = 0.1  # share of the boxes
WHOLE = 0.95  # share of the image that a box covers
STRIDE = 4  # pixels: the stride of the maps of a network of centres
MANY_SHARED = 0.01  # share of the boxes
SAME = 1.0  # pixels by which two boxes of an image may differ and still count as the same
LARGEST_SIZE = 4  # times the present image size: the largest that is suggested
# Checks whose pictures show the boxes over the images.
DRAWN = frozenset(
    {
        "seldom_objects",
        "boxes_outside",
        "double_boxes",
        "flat_boxes",
        "lost_boxes",
        "tiny_boxes",
        "whole_image_boxes",
        "shared_centres",
        "copies_with_other_boxes",
        "empty_images",
        "boxes_left_out",
        "images_without_annotation",
    }
)
# Colours of classes, which people who confuse red and green can tell apart too (Okabe and Ito 2008).
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))


def count_objects(splits: Mapping[str, Part], classes: int) -> dict[str, np.ndarray]:
    """Counts the boxes of each class in each image, by split: `int64 [n, classes]`."""
    return {
        split: np.stack([(part.boxes[..., 4] == number).sum(axis=1) for number in range(classes)], axis=1)
        for split, part in splits.items()
    }


def find_absent_objects(objects: Mapping[str, np.ndarray], class_names: list[str]) -> list[Finding]:
    """Classes without a box in a split: "stop" in train if another split has them, and in val if it has no box at all; else "act".

    A class that no split has is reported once.

    Args:
        objects: From `count_objects`.
        class_names: Name of class 0, 1, ...
    """
    has = {split: counts.any(axis=0) for split, counts in objects.items()}
    nowhere, absent = list_absent(has, class_names)
    findings = []
    if nowhere:
        findings += one_finding(
            "absent_objects",
            "act",
            "No image has a box of {listed} ({classes} of {all_classes} classes): a network cannot learn it. Give images of it, or remove it from the list of classes.",
            listed=list_names(nowhere),
            classes=len(nowhere),
            all_classes=len(class_names),
            absent=nowhere,
        )
    for split, other, classes, is_blind in absent:
        findings += one_finding(
            "absent_objects",
            "stop" if is_blind else "act",
            "No {split} image has a box of {listed} ({classes} of {all_classes} classes), but {earlier} images do: "
            + (
                "it is evaluated but cannot be learned. Give more images of it, or use another split (split_seed)."
                if split == "train"
                else "it cannot be evaluated there. Give more images of it, or use another split (split_seed)."
            ),
            split=split,
            earlier=other,
            listed=list_names(classes),
            classes=len(classes),
            all_classes=len(class_names),
            absent=classes,
        )
    return findings


def find_seldom_objects(
    splits: Mapping[str, Part], objects: Mapping[str, np.ndarray], class_names: list[str]
) -> list[Finding]:
    """Classes that occur in fewer than 5 training images: "act"."""
    has = objects["train"] > 0
    images = has.sum(axis=0)
    few = find_few(images, class_names, FEWEST_IN_CLASS)
    if not few:
        return []
    rarest = min(few, key=few.get)
    shown = has[:, [class_names.index(name) for name in few]].any(axis=1)
    return one_finding(
        "seldom_objects",
        "act",
        "Classes that fewer than {limit} training images show: {classes}, the rarest '{rarest}' in {fewest}; collect more images of them, or merge classes.",
        [splits["train"].names[at] for at in np.flatnonzero(shown)],
        classes=len(few),
        limit=FEWEST_IN_CLASS,
        rarest=rarest,
        fewest=few[rarest],
        images_by_class=few,
    )


def find_class_shares(objects: Mapping[str, np.ndarray], class_names: list[str]) -> list[Finding]:
    """How many boxes each class has, a "note"; and one class that has over nine tenths of them, another "note"."""
    counts = {split: of.sum(axis=0) for split, of in objects.items()}
    train = counts["train"]
    order = np.argsort(-train, kind="stable")
    findings = one_finding(
        "class_boxes",
        "note",
        "Boxes of the training images: {boxes:,}, {mean:.1f} an image, at most {most} ({listed}).",
        boxes=int(train.sum()),
        mean=float(objects["train"].sum(axis=1).mean()),
        most=int(objects["train"].sum(axis=1).max()),
        listed=list_names([f"{class_names[at]} {train[at]:,}" for at in order], 6),
        by_split={split: dict(zip(class_names, of.tolist(), strict=True)) for split, of in counts.items()},
    )
    if (train > 0).sum() > 1 and train.max() > DOMINANT * train.sum():
        findings += one_finding(
            "dominant_class",
            "note",
            "'{common}' has {share:.0%} of the training boxes: look at the average precision of each class, not at a mean over boxes, and collect more of the others.",
            share=float(train.max() / train.sum()),
            common=class_names[order[0]],
        )
    return findings


def find_empty_images(splits: Mapping[str, Part]) -> list[Finding]:
    """Images that were given without boxes: a "note"; "act" if they are nearly all."""
    empty = {
        split: np.flatnonzero(
            (count_boxes(part.boxes) == 0) & (part.box_faults[:, [OUTSIDE, FLAT, LOST]].sum(axis=1) == 0)
        )
        for split, part in splits.items()
    }
    names = [splits[split].names[at] for split, places in empty.items() for at in places]
    if not names:
        return []
    everything = sum(len(part.names) for part in splits.values())
    is_nearly_all = len(names) >= NEARLY_ALL * everything
    return one_finding(
        "empty_images",
        "act" if is_nearly_all else "note",
        "Images without boxes: {images} of {all_images} ({share:.1%}), such as {examples}; "
        + (
            "this is nearly all images: a network that finds nothing is hardly ever wrong. Are boxes missing? If not, leave most of these images out."
            if is_nearly_all
            else "they show whether the network finds something that is not there. If they show an object, its box is missing."
        ),
        names,
        images=len(names),
        all_images=everything,
        share=len(names) / everything,
        **{f"of_{split}": len(places) for split, places in empty.items()},
    )


def _count_faults(splits: Mapping[str, Part], fault: int) -> tuple[int, list[str]]:
    """How many boxes have a fault, and the names of their images, those with the most first."""
    found = [
        (int(count), part.names[at])
        for part in splits.values()
        for at, count in enumerate(part.box_faults[:, fault])
        if count
    ]
    return sum(count for count, _ in found), [name for _, name in sorted(found, key=lambda pair: -pair[0])]


def find_faulty_boxes(splits: Mapping[str, Part]) -> list[Finding]:
    """Boxes outside their images: "act" if some are completely outside, or many in part, else a "note"; without area, and doubled: a "note"."""
    findings = []
    kept = sum(int(count_boxes(part.boxes).sum()) for part in splits.values())
    (cut, of_cut), (outside, of_outside) = (_count_faults(splits, fault) for fault in (CUT, OUTSIDE))
    if cut or outside:
        is_serious = outside > 0 or cut > MANY_OUTSIDE * (kept + outside)
        findings += one_finding(
            "boxes_outside",
            "act" if is_serious else "note",
            "Boxes that extend beyond the border of their image: {cut}, clipped there; boxes entirely outside their image: {outside}, left out; such as in {examples}. Do they belong to these images? Are left, top, right, bottom confused with left, top, width, height?"
            if is_serious
            else "Boxes that extend beyond the border of their image: {cut}, such as in {examples}; they are clipped there.",
            list(dict.fromkeys(of_outside + of_cut)),
            cut=cut,
            outside=outside,
        )
    flat, of_flat = _count_faults(splits, FLAT)
    if flat:
        findings += one_finding(
            "flat_boxes",
            "note",
            "Boxes without area, with width or height 0: {boxes}, such as in {examples}; they are left out. Draw the boxes of these objects again.",
            of_flat,
            boxes=flat,
        )
    doubled, of_doubled = _count_faults(splits, DOUBLED)
    if doubled:
        findings += one_finding(
            "double_boxes",
            "note",
            "Boxes that occur twice, with the same place and class: {boxes}, such as in {examples}; each counts once.",
            of_doubled,
            boxes=doubled,
        )
    lost, of_lost = _count_faults(splits, LOST)
    if lost:
        height, width = splits["train"].pixels.shape[1:3]
        findings += one_finding(
            "lost_boxes",
            "act",
            "Boxes of which less than a third is left when their image is cropped to {height}x{width} pixels: {boxes}, in {images} {images:image|images}, such as {examples}; they are left out, although a part of the object may still be visible. Use fit=pad.",
            of_lost,
            boxes=lost,
            images=len(of_lost),
            height=height,
            width=width,
        )
    return findings


def find_tiny_boxes(splits: Mapping[str, Part]) -> list[Finding]:
    """Boxes whose shorter side is under 4 pixels of the network's input: "act" if they are a tenth or more, else a "note"."""
    sides, names = [], []
    for part in splits.values():
        is_box = part.boxes[..., 4] >= 0
        shorter = np.minimum(part.boxes[..., 2] - part.boxes[..., 0], part.boxes[..., 3] - part.boxes[..., 1])
        sides.append(shorter[is_box])
        names += [part.names[at] for at in np.nonzero(is_box)[0]]
    side = np.concatenate(sides)
    tiny = np.flatnonzero(side < TINY)
    if not len(tiny):
        return []
    height, width = splits["train"].pixels.shape[1:3]
    needed = max(height, width) * TINY / max(np.quantile(side, MANY_TINY), TINY / LARGEST_SIZE)
    is_many = len(tiny) >= MANY_TINY * len(side)
    return one_finding(
        "tiny_boxes",
        "act" if is_many else "note",
        "Boxes with a side of less than {limit} pixels at {height}x{width}: {boxes} of {all_boxes} ({share:.0%}), such as in {examples}; a network hardly sees such objects. Use image_size={larger}, or cut the images into pieces."
        if is_many
        else "Boxes with a side of less than {limit} pixels at {height}x{width}: {boxes} of {all_boxes} ({share:.1%}), such as in {examples}; a network hardly sees such objects; a larger image_size helps.",
        list(dict.fromkeys(names[at] for at in tiny[np.argsort(side[tiny], kind="stable")])),
        limit=TINY,
        height=height,
        width=width,
        boxes=len(tiny),
        all_boxes=len(side),
        share=len(tiny) / len(side),
        larger=int(-(-needed // 32) * 32),
    )


def find_whole_image_boxes(splits: Mapping[str, Part], fit: str) -> list[Finding]:
    """Boxes that cover the whole image in most training images that have any: "act".

    Args:
        splits: See `examine`.
        fit: How images were brought to the model's shape: with `pad` the bars are not part of an image.
    """
    train = splits["train"]
    size = train.pixels.shape[1:3]
    of_shape = {
        (height, width): measure_areas(
            fit_boxes(np.array([[0.0, 0, width, height, 0]]), (height, width), fit, size)
        ).max(initial=0)
        for height, width in {tuple(shape[:2]) for shape in train.shapes.tolist()}
    }
    areas = np.array(
        [min(of_shape[tuple(shape[:2])] or np.prod(size), np.prod(size)) for shape in train.shapes.tolist()]
    )
    has = count_boxes(train.boxes) > 0
    covers = (measure_areas(train.boxes) >= WHOLE * areas[:, None]).any(axis=1)
    if not has.any() or covers.sum() <= has.sum() / 2:
        return []
    return one_finding(
        "whole_image_boxes",
        "act",
        "A box covers at least {limit:.0%} of the image in {images} of {all_images} training images that have boxes, such as {examples}: the network does not need to find where the object is. Is it a task of classes (task=classification), or are boxes missing?",
        [train.names[at] for at in np.flatnonzero(covers)],
        limit=WHOLE,
        images=int(covers.sum()),
        all_images=int(has.sum()),
    )


def find_shared_centres(splits: Mapping[str, Part]) -> list[Finding]:
    """Boxes whose centre is in the same 4x4 pixels as another's of the image: a network of centres finds one of them. "act" above 1%, else a "note"."""
    shared, everything, names = 0, 0, []
    width = splits["train"].pixels.shape[2]
    for part in splits.values():
        is_box = part.boxes[..., 4] >= 0
        centre = (part.boxes[..., [0, 1]] + part.boxes[..., [2, 3]]) / 2 // STRIDE
        cell = np.where(is_box, centre[..., 1] * (width + 1) + centre[..., 0], -1)
        cell = np.sort(cell, axis=1)
        lost = ((cell[:, 1:] == cell[:, :-1]) & (cell[:, 1:] >= 0)).sum(axis=1)
        shared, everything = shared + int(lost.sum()), everything + int(is_box.sum())
        names += [part.names[at] for at in np.flatnonzero(lost)]
    if not shared:
        return []
    is_many = shared > MANY_SHARED * everything
    return one_finding(
        "shared_centres",
        "act" if is_many else "note",
        "Boxes whose centre shares a cell of {stride}x{stride} pixels with the centre of another box of the image: {boxes} of {all_boxes} ({share:.2%}), such as in {examples}; a network that predicts centres finds one of them. A larger image_size separates more of them.",
        names,
        stride=STRIDE,
        boxes=shared,
        all_boxes=everything,
        share=shared / everything,
    )


def find_copies_with_other_boxes(splits: Mapping[str, Part]) -> list[Finding]:
    """Images of equal pixels, in any splits, whose boxes differ by more than a pixel: "act", one set of boxes is wrong."""
    groups = find_differing(splits, lambda part, at, other, place: _differ(part.boxes[at], other.boxes[place]))
    if not groups:
        return []
    return one_finding(
        "copies_with_other_boxes",
        "act",
        "Images that occur more than once, with different boxes: {contents}, such as {examples}; look at them and keep the right boxes.",
        [name for group in groups for name in group],
        contents=len(groups),
        groups=groups,
    )


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the boxes of two images, `[most, 5]`, differ, whatever their order."""
    one, other = (rows[rows[:, 4] >= 0] for rows in (one, other))
    if len(one) != len(other):
        return True
    left = list(other)
    for row in one:
        alike = [at for at, of in enumerate(left) if of[4] == row[4] and np.abs(of - row).max() <= SAME]
        if not alike:
            return True
        left.pop(alike[0])
    return False


def outline(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Draws boxes on an image, `uint8 [height, width, 3]`, one colour for each class; a small image is enlarged, so that lines are thin.

    Args:
        image: `uint8 [height, width, 1 or 3]`.
        boxes: `float32 [most, 5]`.
    """
    times = max(1, 192 // max(image.shape[:2]))
    shown = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    picture = Image.fromarray(shown.repeat(times, axis=0).repeat(times, axis=1))
    pen = ImageDraw.Draw(picture)
    for left, top, right, bottom, label in boxes[boxes[:, 4] >= 0]:
        corners = [
            times * left,
            times * top,
            max(times * right - 1, times * left),
            max(times * bottom - 1, times * top),
        ]
        pen.rectangle(corners, outline=COLOURS[int(label) % len(COLOURS)])
    return np.asarray(picture)
