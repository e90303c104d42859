"""Masks: classes that are not marked, or hardly; empty and inverted masks; masks that equal their images; one image with two masks.

A mask has a class for each pixel, 0 for the background. A pixel is "marked" if it has another class.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from pbl.data.doctor.copies import find_differing
from pbl.data.doctor.counts import FEWEST_IN_CLASS, find_few, list_absent
from pbl.data.doctor.finding import Finding, Part, list_names, one_finding
from pbl.data.doctor.vectors import choose

# Conventions, not measured.
RARE = 0.005  # share of the training pixels
NEARLY_ALL = 0.95  # share of the images in which nothing is marked
INVERTED, INVERTED_EDGE = 0.5, 0.9  # share of marked pixels, and of marked pixels at the edges of the images
HEAVY = 10  # the weight that is suggested for a rare class
# `find_masks_like_images`: two limits for an image (0 to 1), and the share of the images that must exceed one. In 645 ultrasound images
# with lesions and 153 magnetic tiles with defects, at 64 pixels, no mask explains .95 of the brightness, and a limit of brightness gives
# 1% and 8% of the masks. Masks that were made from 774 images by a limit, and made smaller: 99%; masks in the place of images: 91%.
EXPLAINED, SEPARATED, MOST_IMAGES = 0.95, 0.95, 0.5
LOOKED_AT = 500  # training images in which something is marked
BLOCK = 2**24  # pixels that are looked at together
# Checks whose pictures show the masks over the images.
DRAWN = frozenset({"inverted_masks", "masks_are_images", "masks_by_brightness", "copies_with_other_masks"})


def count_marked(splits: Mapping[str, Part], classes: int) -> dict[str, np.ndarray]:
    """Counts the pixels of each class in each mask, by split: `int64 [n, classes]`."""
    counted = {}
    for split, part in splits.items():
        counts = np.zeros((len(part.names), classes), np.int64)
        for place, block in _blocks(part):
            for number in range(1, classes):
                counts[place, number] = (block == number).sum(axis=(1, 2), dtype=np.int32)
        counts[:, 0] = np.prod(part.pixels.shape[1:3]) - counts.sum(axis=1)
        counted[split] = counts
    return counted


def _blocks(part: Part) -> Iterator[tuple[slice, np.ndarray]]:
    """Masks a few at a time, each time with their places; masks may be on the disk."""
    at_once = max(1, BLOCK // int(np.prod(part.pixels.shape[1:3])))
    for begin in range(0, len(part.names), at_once):
        place = slice(begin, begin + at_once)
        yield place, part.masks[place]


def find_absent_marks(marked: Mapping[str, np.ndarray], class_names: list[str]) -> list[Finding]:
    """Classes, other than the background, that no mask of a split has: "stop" in train if another split has them.

    Likewise "stop" in val if it has no marked pixel at all: nothing can be judged there. Else "act". A class that no split has is
    reported once.

    Args:
        marked: From `count_marked`.
        class_names: Name of each class, the background's first.
    """
    has = {split: (counts[:, 1:] > 0).any(axis=0) for split, counts in marked.items()}
    nowhere, absent = list_absent(has, class_names[1:])
    findings = []
    if nowhere:
        findings += one_finding(
            "absent_marks",
            "act",
            "No mask marks {listed} ({classes} of {all_classes} classes): a network cannot learn it. Give images of it, or remove it from the list of classes.",
            listed=list_names(nowhere),
            classes=len(nowhere),
            all_classes=len(class_names) - 1,
            absent=nowhere,
        )
    for split, other, classes, is_blind in absent:
        findings += one_finding(
            "absent_marks",
            "stop" if is_blind else "act",
            "No {split} mask marks {listed} ({classes} of {all_classes} classes), but {earlier} masks do: "
            + (
                "it is evaluated but cannot be learned. Give more images of it, or use another split (split_seed)."
                if split == "train"
                else "it cannot be evaluated there. Give more images of it, or use another split (split_seed)."
            ),
            split=split,
            earlier=other,
            listed=list_names(classes),
            classes=len(classes),
            all_classes=len(class_names) - 1,
            absent=classes,
        )
    return findings


def find_seldom_marks(marked: Mapping[str, np.ndarray], class_names: list[str]) -> list[Finding]:
    """Classes that fewer than 5 training masks have: "act"."""
    images = (marked["train"][:, 1:] > 0).sum(axis=0)
    few = find_few(images, class_names[1:], FEWEST_IN_CLASS)
    if not few:
        return []
    rarest = min(few, key=few.get)
    return one_finding(
        "seldom_marks",
        "act",
        "Classes that fewer than {limit} training masks mark: {classes}, the rarest '{rarest}' in {fewest}; collect more images of them, or merge classes.",
        classes=len(few),
        limit=FEWEST_IN_CLASS,
        rarest=rarest,
        fewest=few[rarest],
        images_by_class=few,
    )


def find_class_shares(marked: Mapping[str, np.ndarray], class_names: list[str]) -> list[Finding]:
    """What share of the pixels each class has, a "note"; and classes that have less than .5% of the training pixels, a "note"."""
    shares = {split: counts.sum(axis=0) / max(counts.sum(), 1) for split, counts in marked.items()}
    of_train = shares["train"]
    by_split = {
        split: {name: float(share) for name, share in zip(class_names, of_split, strict=True)}
        for split, of_split in shares.items()
    }
    findings = one_finding(
        "class_shares",
        "note",
        "Pixels of the training masks: {listed}. A network that marks nothing has {background:.1%} of the pixels right: look at Dice, not at the share of right pixels.",
        listed=list_names([f"{class_names[at]} {of_train[at]:.1%}" for at in np.argsort(-of_train, kind="stable")], 6),
        background=float(of_train[0]),
        shares=by_split,
    )
    rare = [int(at) for at in np.argsort(of_train, kind="stable") if at and 0 < of_train[at] < RARE]
    if rare:
        findings += one_finding(
            "rare_class",
            "note",
            "Classes that have less than {limit:.1%} of the training pixels: {classes} ({listed}); a network may ignore them: try task_options.loss=dice, or task_options.class_weights={weights}.",
            limit=RARE,
            classes=len(rare),
            listed=list_names([f"{class_names[at]} {of_train[at]:.2%}" for at in rare]),
            weights="[" + ",".join(str(HEAVY if at in rare else 1) for at in range(len(class_names))) + "]",
        )
    return findings


def find_empty_masks(splits: Mapping[str, Part], marked: Mapping[str, np.ndarray]) -> list[Finding]:
    """Images in which nothing is marked: a "note"; "act" if they are nearly all."""
    empty = {
        split: np.flatnonzero(~counts[:, 1:].any(axis=1) & (splits[split].labels == 0))
        for split, counts in marked.items()
    }
    names = [splits[split].names[at] for split, places in empty.items() for at in places]
    if not names:
        return []
    everything = sum(map(len, marked.values()))
    is_nearly_all = len(names) >= NEARLY_ALL * everything
    return one_finding(
        "empty_masks",
        "act" if is_nearly_all else "note",
        "Images in which nothing is marked: {images} of {all_images} ({share:.1%}), such as {examples}; "
        + (
            "this is nearly all images: a network that marks nothing is hardly ever wrong. Leave most of them out, or crop the images to the marked parts."
            if is_nearly_all
            else "they show whether the network finds something that is not there, and count separately from Dice."
        ),
        names,
        images=len(names),
        all_images=everything,
        share=len(names) / everything,
        **{f"of_{split}": len(places) for split, places in empty.items()},
    )


def find_lost_marks(splits: Mapping[str, Part], marked: Mapping[str, np.ndarray]) -> list[Finding]:
    """Images whose mask loses everything it marks once it is brought to the model's shape: "act".

    Args:
        splits: See `examine`. A label is the class that was marked most before, the background if nothing was marked.
        marked: From `count_marked`, after the masks were brought to the model's shape.
    """
    names = [
        splits[split].names[at]
        for split, counts in marked.items()
        for at in np.flatnonzero(~counts[:, 1:].any(axis=1) & (splits[split].labels > 0))
    ]
    if not names:
        return []
    height, width = splits["train"].pixels.shape[1:3]
    return one_finding(
        "lost_marks",
        "act",
        "Images in which the whole mask is lost at {height}x{width} pixels: {images}, such as {examples}: it is cut off, or smaller than a pixel. Use fit=pad, or a larger image_size.",
        names,
        images=len(names),
        height=height,
        width=width,
    )


def find_inverted_masks(splits: Mapping[str, Part], marked: Mapping[str, np.ndarray]) -> list[Finding]:
    """Masks with two classes that mark most of the images, and nearly all of their edges: "act", black and white may be swapped."""
    train, counts = splits["train"], marked["train"]
    if counts.shape[1] != 2 or not len(counts):
        return []
    share = counts[:, 1].sum() / counts.sum()
    if share <= INVERTED:
        return []
    edge = np.concatenate(
        [
            np.concatenate(
                [block[:, [0, -1]].reshape(len(block), -1), block[:, :, [0, -1]].reshape(len(block), -1)], axis=1
            ).mean(axis=1)
            for _, block in _blocks(train)
        ]
    )
    if edge.mean() <= INVERTED_EDGE:
        return []
    return one_finding(
        "inverted_masks",
        "act",
        "The masks mark {share:.0%} of the training pixels, and {edge:.0%} of those at the edges of the images, such as {examples}: are they inverted? The background is black (0), the object is not.",
        [train.names[at] for at in np.argsort(-edge, kind="stable")],
        share=float(share),
        edge=float(edge.mean()),
    )


def find_masks_like_images(
    splits: Mapping[str, Part], marked: Mapping[str, np.ndarray], cap: int = LOOKED_AT, seed: int = 0
) -> list[Finding]:
    """Masks that equal their images, "act", or that a limit of brightness gives, "note", in more than half of the images.

    The check looks at training images in which something is marked. Pixels next to another class are left out: they are blurred if an
    image was made smaller. "masks_are_images": the classes explain more than 95% of the variance of the brightness (the correlation
    ratio; with two classes the squared correlation). "masks_by_brightness": with a separate limit for each image, above or below, Dice
    is over .95, both for what is marked and for what is not.

    Args:
        splits: See `examine`.
        marked: From `count_marked`.
        cap: Images that are looked at, chosen by `seed`.
        seed: Seed of the choice.
    """
    train = splits["train"]
    candidates = np.flatnonzero((marked["train"] > 0).sum(axis=1) > 1)
    measured = {
        int(at): _compare(train.pixels[at], train.masks[at])
        for at in candidates[np.sort(choose(len(candidates), cap, seed))]
    }
    known = {at: of for at, of in measured.items() if of is not None}
    equal = sorted((at for at, (explained, _) in known.items() if explained > EXPLAINED), key=lambda at: -known[at][0])
    separated = sorted((at for at, (_, dice) in known.items() if dice > SEPARATED), key=lambda at: -known[at][1])
    if known and len(equal) > MOST_IMAGES * len(known):
        return one_finding(
            "masks_are_images",
            "act",
            "The masks equal their images in {images} of {looked_at} training images in which something is marked, such as {examples}: are there masks in the place of the images?",
            [train.names[at] for at in equal],
            images=len(equal),
            looked_at=len(known),
        )
    if known and len(separated) > MOST_IMAGES * len(known):
        return one_finding(
            "masks_by_brightness",
            "note",
            "In {images} of {looked_at} training images in which something is marked, such as {examples}, a brightness threshold alone gives the mask: if the masks were made this way, a network learns that threshold and nothing else.",
            [train.names[at] for at in separated],
            images=len(separated),
            looked_at=len(known),
        )
    return []


def _compare(image: np.ndarray, mask: np.ndarray) -> tuple[float, float] | None:
    """The share of the brightness's variance that the classes explain, and the Dice of the best limit of brightness: the smaller of the Dice of
    what is marked and of what is not; None if neither can be measured.

    Args:
        image: `uint8 [height, width, 1 or 3]`.
        mask: `uint8 [height, width]`.
    """
    beside = np.zeros(mask.shape, bool)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    beside[1:] |= down
    beside[:-1] |= down
    beside[:, 1:] |= right
    beside[:, :-1] |= right
    grey = image[~beside].mean(axis=-1).round().astype(np.int64)
    classes = mask[~beside]
    if not len(classes) or classes.min() == classes.max() or grey.min() == grey.max():
        return None
    within = sum((classes == number).mean() * grey[classes == number].var() for number in np.unique(classes))
    is_marked = classes > 0
    inside, outside = (np.bincount(grey[of], minlength=256) for of in (is_marked, ~is_marked))
    dice = 0.0
    for one, other in ((inside, outside), (inside[::-1], outside[::-1])):  # marked where dark, marked where bright
        right, wrong = one.cumsum(), other.cumsum()
        of_marked = 2 * right / (right + wrong + one.sum())
        left = other.sum() - wrong
        of_rest = 2 * left / np.maximum(left + one.sum() - right + other.sum(), 1)
        dice = max(dice, float(np.minimum(of_marked, of_rest).max()))
    return 1 - within / grey.var(), dice


def find_copies_with_other_masks(splits: Mapping[str, Part]) -> list[Finding]:
    """Images of equal pixels, in any splits, whose masks differ: "act", one of the masks is wrong."""
    groups = find_differing(splits, lambda part, at, other, place: (part.masks[at] != other.masks[place]).any())
    if not groups:
        return []
    return one_finding(
        "copies_with_other_masks",
        "act",
        "Images that occur more than once, with different masks: {contents}, such as {examples}; look at them and keep the right mask.",
        [name for group in groups for name in group],
        contents=len(groups),
        groups=groups,
    )
