"""Whether the data doctor finds faults that are planted in real data, one at a time, and leaves clean data alone.

Command:  python experiments/benchmarks/planted_faults.py --data DIR
          DIR holds mnist.npz (Keras's layout), cifar10.zip (cifar10/train/<class>/*.jpg, cifar10/test/<class>/*.jpg), and
          ants_bees.zip, breast_ultrasound.zip, magnetic_tiles.zip (class folders); without --data only scikit-learn's digits
          are used. --section NAME measures and rewrites one section of the result.
Result:   planted_faults.md beside this file, and ../gallery/cifar10_test_copies.png, in which all 20 pairs show one scene
"""

import argparse
import io
import os
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from made_pictures import ALTERATIONS, MAKERS, STRANGERS, make_pictures
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_digits

from pbl.data import decode_image, fit_image, hash_image
from pbl.data.doctor import (
    Finding,
    Part,
    examine,
    find_altered_copies,
    find_copies_across,
    find_labels_harder_than_validation,
    find_labels_unlike_neighbours,
    find_labels_unlike_predictions,
    find_shift,
    find_strangers,
)
from pbl.data.split import hold_out
from pbl.errors import InputError
from pbl.evaluation.figures import plot_gallery
from pbl.storage.writing import replacing

HERE = Path(__file__).parent
DOSE = 0.1  # share of the images of a split that a fault changes, unless it says otherwise
JUDGED = 5000  # the first of the seeds of draws without a fault
SUBSET = 4000  # images of MNIST and CIFAR-10 in which faults are planted


class Case(NamedTuple):
    """A data set with a fault in it."""

    splits: dict[str, Part]
    planted: set[str]  # names of the images concerned, empty where the fault is not one of single images
    broken: dict[str, str] | None = None  # name and reason


# Parts


def make_part(pixels: np.ndarray, labels: np.ndarray, names: list[str]) -> Part:
    shapes = np.tile(pixels.shape[1:], (len(pixels), 1))
    return Part(pixels, labels.astype(np.int32), names, [hash_image(image) for image in pixels], shapes)


def take(part: Part, index: np.ndarray) -> Part:
    index = np.flatnonzero(index) if np.asarray(index).dtype == bool else index
    return Part(
        part.pixels[index], part.labels[index], [part.names[i] for i in index], [part.hashes[i] for i in index], part.shapes[index]
    )  # fmt: skip


def join(one: Part, other: Part) -> Part:
    return Part(
        np.concatenate([one.pixels, other.pixels]),
        np.concatenate([one.labels, other.labels]),
        one.names + other.names,
        one.hashes + other.hashes,
        np.concatenate([one.shapes, other.shapes]),
    )


def replace(part: Part, index: np.ndarray, pixels: np.ndarray, labels: np.ndarray | None = None) -> Part:
    """The part with other pixels, and labels, for the images `index`."""
    pixels_, labels_, hashes = part.pixels.copy(), part.labels.copy(), list(part.hashes)
    pixels_[index] = pixels
    if labels is not None:
        labels_[index] = labels
    for i in index:
        hashes[i] = hash_image(pixels_[i])
    return Part(pixels_, labels_, part.names, hashes, part.shapes)


def split(part: Part, with_test: bool = True) -> dict[str, Part]:
    """Splits as `pbl.data` does: 30% test, and 15% of the rest validation; or 10% validation alone."""
    splits = {}
    if with_test:
        is_test = hold_out(part.hashes, part.labels, 0.3, 0, "test")
        splits["test"], part = take(part, is_test), take(part, ~is_test)
    is_val = hold_out(part.hashes, part.labels, 0.15 if with_test else 0.1, 0, "val")
    return {"train": take(part, ~is_val), "val": take(part, is_val), **splits}


# Ways to alter an image: uint8 [n, h, w, c] to the same


def noise(pixels, random):
    return (pixels + random.normal(0, 10, pixels.shape)).clip(0, 255).astype(np.uint8)


def move(pixels, random):
    return np.pad(pixels, ((0, 0), (0, 0), (1, 0), (0, 0)), mode="edge")[:, :, :-1]


def mirror(pixels, random):
    return np.ascontiguousarray(pixels[:, :, ::-1])


def brighten(pixels, random):
    return (pixels * 0.7 + 60).clip(0, 255).astype(np.uint8)


def by_pillow(way: Callable[[Image.Image], Image.Image]):
    def alter(pixels, random):
        images = [way(Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)) for image in pixels]
        return np.stack([np.asarray(image) for image in images]).reshape(pixels.shape)

    return alter


def save_again(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


def resize(image):
    smaller = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BILINEAR)
    return smaller.resize(image.size, Image.Resampling.BILINEAR)


def blur(image):
    return image.filter(ImageFilter.GaussianBlur(1))


# Faults


def pick(part: Part, random, share: float = DOSE) -> np.ndarray:
    return random.permutation(len(part.labels))[: max(3, round(share * len(part.labels)))]


def names_of(part: Part, index) -> set[str]:
    return {part.names[i] for i in index}


def copies(target: str, alter=None, share: float = DOSE):
    """Images of `target` replaced by (altered) training images."""

    def plant(splits, random):
        index = pick(splits[target], random, share)
        source = random.permutation(len(splits["train"].labels))[: len(index)]
        pixels = splits["train"].pixels[source]
        pixels = alter(pixels, random) if alter else pixels
        part = replace(splits[target], index, pixels, splits["train"].labels[source])
        return Case({**splits, target: part}, names_of(part, index))

    return plant


def whole_split(alter, target: str = "val"):
    def plant(splits, random):
        part = splits[target]
        return Case({**splits, target: replace(part, np.arange(len(part.labels)), alter(part.pixels, random))}, set())

    return plant


def damage(shorten: Callable[[bytes], bytes]):
    """Training images whose files are cut; they are decoded as any file is."""

    def plant(splits, random):
        train = splits["train"]
        index, broken = pick(train, random, 0.01), {}
        for i in index:
            file = io.BytesIO()
            Image.fromarray(train.pixels[i].squeeze(-1) if train.pixels.shape[-1] == 1 else train.pixels[i]).save(
                file, "PNG"
            )
            try:
                decode_image(shorten(file.getvalue()), train.names[i])
            except InputError as error:
                broken[train.names[i]] = str(error)
        return Case(
            {**splits, "train": take(train, np.setdiff1d(np.arange(len(train.labels)), index))},
            names_of(train, index),
            broken,
        )

    return plant


def other_shapes(change: Callable[[np.ndarray], np.ndarray]):
    """Training images that come from files of another shape."""

    def plant(splits, random):
        train = splits["train"]
        index = pick(train, random, 0.02)
        originals = [change(train.pixels[i]) for i in index]
        part = replace(
            train,
            index,
            np.stack(
                [
                    fit_image(o, o_shape, train.pixels.shape[3])
                    for o in originals
                    for o_shape in [train.pixels.shape[1:3]]
                ]
            ),
        )
        shapes = part.shapes.copy()
        shapes[index] = [original.shape for original in originals]
        return Case({**splits, "train": part._replace(shapes=shapes)}, names_of(train, index))

    return plant


def thumbnail(image):
    return image[::3, ::3]


def panorama(image):
    return np.concatenate([image] * 4, axis=1)


def one_class_in_another_mode(splits, random):
    """Where images are grey, one class is in colour; where they are in colour, it is grey."""
    changed, planted = {}, set()
    for name, part in splits.items():
        index = np.flatnonzero(part.labels == 0)
        shapes = part.shapes.copy()
        shapes[index, 2] = 4 - shapes[index, 2]
        if part.pixels.shape[-1] == 3:
            grey = part.pixels[index].mean(axis=-1, keepdims=True).astype(np.uint8)
            part = replace(part, index, np.repeat(grey, 3, axis=-1))
        changed[name] = part._replace(shapes=shapes)
        planted |= names_of(part, index)
    return Case(changed, planted)


def class_left(count: int):
    def plant(splits, random):
        train = splits["train"]
        drop = np.flatnonzero(train.labels == 0)[count:]
        return Case({**splits, "train": take(train, np.setdiff1d(np.arange(len(train.labels)), drop))}, set())

    return plant


def unbalanced(splits, random):
    train = splits["train"]
    own = np.flatnonzero(train.labels == 0)
    drop = own[len(own) // 12 :]
    return Case({**splits, "train": take(train, np.setdiff1d(np.arange(len(train.labels)), drop))}, set())


def absent_from_val(splits, random):
    return Case({**splits, "val": take(splits["val"], splits["val"].labels != 0)}, set())


def small_validation(splits, random):
    val = splits["val"]
    return Case({**splits, "val": take(val, np.sort(np.unique(val.labels, return_index=True)[1]))}, set())


def copies_within(splits, random):
    train = splits["train"]
    index = pick(train, random)
    again = take(train, index)._replace(names=[f"{train.names[i]} again" for i in index])
    return Case({**splits, "train": join(train, again)}, names_of(train, index) | set(again.names))


def copies_with_other_labels(splits, random):
    train, classes = splits["train"], splits["train"].labels.max() + 1
    index = pick(train, random, 0.01)
    again = take(train, index)
    again = again._replace(names=[f"{name} again" for name in again.names], labels=(again.labels + 1) % classes)
    return Case({**splits, "train": join(train, again)}, names_of(train, index) | set(again.names))


def enlarged_before_the_split(times: int):
    """The data set enlarged by noisy copies, then split by chance."""

    def plant(splits, random):
        everything = join(join(splits["train"], splits["val"]), splits["test"])
        whole = everything
        for time_ in range(times):
            altered = noise(everything.pixels, random)
            copy = make_part(altered, everything.labels, [f"{name} copy {time_ + 1}" for name in everything.names])
            whole = join(whole, copy)
        return Case(split(whole), set())

    return plant


def wrong_labels(share: float):
    def plant(splits, random):
        train, classes = splits["train"], splits["train"].labels.max() + 1
        index = pick(train, random, share)
        labels = train.labels.copy()
        labels[index] = (labels[index] + random.integers(1, classes, len(index))) % classes
        return Case({**splits, "train": train._replace(labels=labels)}, names_of(train, index))

    return plant


def mistaken_class(splits, random):
    """A fifth of one class carries the next one's label."""
    train = splits["train"]
    index = np.flatnonzero(train.labels == 3)
    index = index[: len(index) // 5]
    labels = train.labels.copy()
    labels[index] = 8
    return Case({**splits, "train": train._replace(labels=labels)}, names_of(train, index))


def constant(splits, random):
    index = pick(splits["train"], random, 0.01)
    shape = (len(index), *splits["train"].pixels.shape[1:])
    values = random.integers(0, 256, (len(index), 1, 1, 1))
    part = replace(splits["train"], index, np.broadcast_to(values, shape).astype(np.uint8))
    return Case({**splits, "train": part}, names_of(part, index))


LABELS = ("labels_unlike_neighbours", "labels_unlike_predictions", "labels_harder_than_validation")
FAULTS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "files cut in half": (damage(lambda content: content[: len(content) // 2]), ("broken",)),
    "files of 0 bytes": (damage(lambda content: b""), ("broken",)),
    "files that hold a web page": (damage(lambda content: b"<html>not found</html>"), ("broken",)),
    "2% thumbnails of a third of the side": (other_shapes(thumbnail), ("small_image",)),
    "2% panoramas, 4 to 1": (other_shapes(panorama), ("long_image",)),
    "one class in another mode (grey, colour)": (one_class_in_another_mode, ("mixed_modes",)),
    "class with 12 training images": (class_left(12), ("small_class",)),
    "class with 3 training images": (class_left(3), ("small_class",)),
    "class absent from train": (class_left(0), ("absent_class",)),
    "class absent from val": (absent_from_val, ("absent_class",)),
    "one class with a twelfth of the images": (unbalanced, ("imbalance",)),
    "one validation image a class": (small_validation, ("small_validation",)),
    "1% constant images": (constant, ("constant_image",)),
    "10% of train twice": (copies_within, ("copies_within",)),
    "1% of train again, with another label": (copies_with_other_labels, ("copies_with_other_labels",)),
    "10% of val copied from train": (copies("val"), ("copies_across",)),
    "10% of test copied from train": (copies("test"), ("copies_across",)),
    "2% of val copied, with noise": (copies("val", noise, 0.02), ("altered_copies",)),
    "10% of val copied, with noise": (copies("val", noise), ("altered_copies",)),
    "10% of val copied, moved by 1 pixel": (copies("val", move), ("altered_copies",)),
    "10% of val copied, mirrored": (copies("val", mirror), ("altered_copies",)),
    "10% of val copied, saved again as JPEG": (copies("val", by_pillow(save_again)), ("altered_copies",)),
    "10% of val copied, resized to 3/4 and back": (copies("val", by_pillow(resize)), ("altered_copies",)),
    "10% of val copied, blurred by 1 pixel": (copies("val", by_pillow(blur)), ("altered_copies",)),
    "10% of val copied, brighter": (copies("val", brighten), ("altered_copies",)),
    "10% of test copied, with noise": (copies("test", noise), ("altered_copies",)),
    "each image twice, with noise, before the split": (enlarged_before_the_split(1), ("altered_copies_in_train",)),
    "each image 4 times, with noise, before the split": (enlarged_before_the_split(3), ("altered_copies_in_train",)),
    "val inverted": (whole_split(lambda pixels, random: 255 - pixels), ("shift",)),
    "val brighter": (whole_split(brighten), ("shift",)),
    "val with noise": (whole_split(noise), ("shift",)),
    "val divided by 255 twice": (whole_split(lambda pixels, random: pixels // 255), ("shift",)),
    "val resized to 3/4 and back": (whole_split(by_pillow(resize)), ("shift",)),
    "val with red and blue exchanged": (whole_split(lambda pixels, random: pixels[..., ::-1]), ("shift",)),
    "10% wrong labels": (wrong_labels(0.1), LABELS),
    "30% wrong labels": (wrong_labels(0.3), LABELS),
    "a fifth of one class labelled as another": (mistaken_class, LABELS),
}  # fmt: skip
GREY_MEANS_NOTHING = {"val with red and blue exchanged"}


def tell(case: Case, findings: list[Finding], checks: tuple[str, ...], clean: list[Finding]) -> str:
    """What the expected checks found: severity, and how many of the images named were planted."""
    before = {(finding.check, finding.severity): len(finding.items) for finding in clean}
    lines = []
    for finding in findings:
        if finding.check not in checks:
            continue
        named = set(finding.items)
        words = f"{finding.severity} {finding.check}"
        if case.planted and named:
            words += f": {len(named & case.planted)} of {len(case.planted)}"
            words += f", and {len(named - case.planted)} others" if named - case.planted else ""
        if (finding.check, finding.severity) in before:
            words += f" (clean: {before[finding.check, finding.severity]})"
        lines.append(words)
    return "; ".join(lines) or "**not found**"


def look(
    splits: dict[str, Part], class_names: list[str], broken: dict[str, str], checks: tuple[str, ...]
) -> list[Finding]:
    """What `examine` finds, but of its slow checks only those asked for."""
    findings = examine(splits, class_names, broken, fast=True)
    if {"altered_copies", "altered_copies_in_train"} & set(checks):
        findings += find_altered_copies(splits)
    if "shift" in checks:
        findings += find_shift(splits)
    if set(LABELS) & set(checks):
        findings += find_labels_unlike_neighbours(splits, class_names)
        findings += find_labels_unlike_predictions(splits, class_names)
        findings += find_labels_harder_than_validation(splits)
    return findings


def count(findings: list[Finding]) -> str:
    return ", ".join(
        f"{severity}: " + (", ".join(f"{f.check}{f' ({len(f.items)})' if f.items else ''}" for f in findings if f.severity == severity) or "none")
        for severity in ("stop", "act", "note")
    )  # fmt: skip


# Data sets


def digits() -> tuple[Part, list[str]]:
    bunch = load_digits()
    pixels = (bunch.images * (255 / 16)).round().astype(np.uint8)[..., None]
    return make_part(pixels, bunch.target, [f"train/{i}" for i in range(len(pixels))]), [str(d) for d in range(10)]


def mnist(folder: Path, split_name: str) -> tuple[Part, list[str]]:
    with np.load(folder / "mnist.npz") as arrays:
        pixels, labels = arrays[f"x_{split_name}"][..., None], arrays[f"y_{split_name}"]
    return make_part(pixels, labels, [f"mnist/{split_name}/{i}" for i in range(len(pixels))]), [
        str(d) for d in range(10)
    ]


def cifar10(folder: Path, split_name: str) -> tuple[Part, list[str]]:
    with zipfile.ZipFile(folder / "cifar10.zip") as archive:
        names = sorted(
            name for name in archive.namelist() if name.startswith(f"cifar10/{split_name}/") and name.endswith(".jpg")
        )
        pixels = np.stack([decode_image(archive.read(name), name) for name in names])
    class_names = sorted({name.split("/")[2] for name in names})
    labels = np.array([class_names.index(name.split("/")[2]) for name in names])
    return make_part(pixels, labels, [name.removeprefix("cifar10/") for name in names]), class_names


def subset(part: Part, size: int, seed: int = 0) -> Part:
    return take(part, np.sort(np.random.default_rng(seed).permutation(len(part.labels))[:size]))


def timed(splits, class_names, official=False) -> tuple[list[Finding], str]:
    start = time.perf_counter()
    examine(splits, class_names, {}, official, fast=True)
    fast = time.perf_counter() - start
    start, processor = time.perf_counter(), time.process_time()
    findings = examine(splits, class_names, {}, official)
    full, processor = time.perf_counter() - start, time.process_time() - processor
    return findings, f"{fast:.1f} | {full:.0f} | {processor:.0f}"


def photographs(folder: Path, name: str) -> tuple[list[Image.Image], np.ndarray]:
    """The images of a zip of class folders, as they are, and their labels."""
    images, classes = [], []
    with zipfile.ZipFile(folder / f"{name}.zip") as archive:
        for entry in sorted(archive.namelist()):
            if entry.endswith((".jpg", ".png")) and "masks/" not in entry:
                image = Image.open(io.BytesIO(archive.read(entry))).convert("RGB")
                image.thumbnail((600, 600))
                images.append(image)
                classes.append(entry.split("/")[-2])
    return images, np.unique(classes, return_inverse=True)[1]


def as_pixels(images: list[Image.Image], side: int) -> np.ndarray:
    return np.stack([np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BOX)) for image in images])


def real_sets(folder: Path) -> dict[str, tuple[list[Image.Image], np.ndarray, int]]:
    """Images, labels and side of the real data sets that copies and strangers are planted in."""
    part, _ = cifar10(folder, "train")
    some = subset(part, 2000)
    sets = {"CIFAR-10": ([Image.fromarray(image) for image in some.pixels], some.labels, 32)}
    return sets | {
        name: (*photographs(folder, name), 64) for name in ("ants_bees", "breast_ultrasound", "magnetic_tiles")
    }


# Sections of the result


def tell_faults(folder: Path | None, only: str | None = None) -> str:
    wholes = whole_sets(folder)
    planted_in = {
        name: (subset(part, SUBSET) if len(part.labels) > SUBSET else part, names)
        for name, (part, names) in wholes.items()
    }
    table = [["planted fault", *planted_in], ["---"] * (len(planted_in) + 1)]
    clean = {name: examine(split(part), names, {}) for name, (part, names) in planted_in.items()}
    table.append(["none", *(count(findings) for findings in clean.values())])
    for fault, (plant, checks) in FAULTS.items():
        if only and only not in fault:
            continue
        row = [fault]
        for name, (part, class_names) in planted_in.items():
            if fault in GREY_MEANS_NOTHING and part.pixels.shape[-1] == 1:
                row.append("grey images")
                continue
            case = plant(split(part), np.random.default_rng(1))
            findings = look(case.splits, class_names, case.broken or {}, checks)
            row.append(tell(case, findings, checks, clean[name]))
        table.append(row)
        print(" | ".join(row), flush=True)
    return """Each fault alone, in digits (1,797 images) and in 4,000 images of MNIST and of CIFAR-10 (JPEG copies), split as `pbl.data`
does. "28 of 30, and 1 other": of 30 planted images 28 are named, and 1 that was not planted. "(clean: 6)": the same check names 6
images in the data without a fault.

""" + "\n".join("| " + " | ".join(row) + " |" for row in table)


def tell_whole_sets(folder: Path | None) -> str:
    wholes = whole_sets(folder)
    clean_rows = []
    for name, (part, class_names) in wholes.items():
        splits = split(part, with_test=name == "digits")
        findings, seconds = timed(splits, class_names)
        sizes = " / ".join(f"{len(part.labels):,}" for part in splits.values())
        clean_rows.append(f"| {name} | {sizes} | {count(findings)} | {seconds} |")
        print(clean_rows[-1], flush=True)
        for finding in findings:
            print("   ", finding.severity, finding.check, finding.message)

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"""| data | images of train / val / test | findings (images named) | seconds, fast | seconds, full | of processor time |
|---|---|---|---|---|---|
{chr(10).join(clean_rows)}

On {os.cpu_count()} CPU cores, shared with other work; the process, with all data sets in memory, took up to {memory:.1f} GiB."""


def tell_alarms(folder: Path | None) -> str:
    """20 draws of each set and size, by seeds that no constant was chosen on; every check."""
    sets = {"digits": (digits()[0], (300, 1000, 1500))}
    if folder:
        sets |= {"MNIST": (mnist(folder, "train")[0], (300, 1000, 3000))}
        sets |= {"CIFAR-10": (cifar10(folder, "train")[0], (300, 1000, 3000))}
        images, labels = photographs(folder, "ants_bees")
        sets |= {"ants_bees": (make_part(as_pixels(images, 64), labels, [str(i) for i in range(len(labels))]), (300,))}
    lines = []
    for name, (part, sizes) in sets.items():
        class_names = [str(c) for c in range(part.labels.max() + 1)]
        for size in sizes:
            found = [
                finding
                for seed in range(JUDGED, JUDGED + 20)
                for finding in examine(split(subset(part, size, seed)), class_names, {})
            ]
            serious = [f"{f.severity} {f.check}" for f in found if f.severity != "note"]
            told = ", ".join(f"{word} in {serious.count(word)}" for word in sorted(set(serious))) or "none"
            named = [
                f"{sum(len(f.items) for f in found if f.check == check) / 20 / size:.2%}"
                for check in ("stranger", "faint_image", "blurred_image")
            ]
            surely = sum(f.check == "labels_unlike_predictions" and f.details["low"] >= 0.01 for f in found)
            lines.append(f"| {name} | {size:,} | {told} | {' | '.join(named)} | {surely} |")
            print(lines[-1], flush=True)
    return (
        "20 random draws without a fault of each set and size, every check, by seeds that no constant was chosen on. `small_class` and\n"
        "`small_validation` are true of 300 images.\n\n"
        "| data | images | stop or act, in draws | named as strangers | as faint | as blurred | draws whose labels are said to be wrong |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(lines)
    )


def tell_makers(folder: Path | None) -> str:
    """20 draws of 100 pictures of each maker; only copies, shift and strangers are looked for."""
    lines, size = [], 100
    for maker in MAKERS:
        found, named = [], 0
        for seed in range(JUDGED, JUDGED + 20):
            pixels = make_pictures(maker, size, seed)
            splits = split(make_part(pixels, np.arange(size) % 2, [f"{i % 2}/{i}.png" for i in range(size)]))
            found += [f for f in find_altered_copies(splits) + find_shift(splits) if f.severity != "note"]
            named += sum(len(f.items) for f in find_strangers(splits))
        words = [f"{f.severity} {f.check}" for f in found]
        told = ", ".join(f"{word} in {words.count(word)}" for word in sorted(set(words))) or "none"
        lines.append(f"| {maker} | {told} | {named / 20 / size:.2%} |")
        print(lines[-1], flush=True)
    return (
        "20 draws of 100 pictures of each maker (made_pictures.py), two classes, all drawn apart, by seeds that no constant was chosen on;\n"
        "the last two makers were written after the constants.\n\n"
        "| maker | stop or act, of copies and shift | images named as strange, faint or blurred |\n|---|---|---|\n"
        + "\n".join(lines)
    )


def tell_alterations(folder: Path | None) -> str:
    """49 training images once more in validation, altered at their own size, under their own or another label."""
    lines = []
    for name, (images, labels, side) in (real_sets(folder) if folder else {}).items():
        if name in ("breast_ultrasound", "magnetic_tiles"):  # they hold copies of their own
            continue
        pixels = as_pixels(images, side)
        splits = split(make_part(pixels, labels, [str(i) for i in range(len(pixels))]))
        train, val = splits["train"], splits["val"]
        source = np.random.default_rng(0).permutation(len(train.labels))[:49]
        for way, alter in ALTERATIONS.items():
            copied = as_pixels([alter(images[int(train.names[i])]) for i in source], side)
            copies = [f"copy {i}" for i in range(49)]
            counts = []
            for step, check in ((0, "altered_copies"), (1, "altered_copies_with_other_labels")):
                again = make_part(copied, (train.labels[source] + step) % (labels.max() + 1), copies)
                found = [f for f in find_altered_copies({**splits, "val": join(val, again)}) if f.check == check]
                named = {
                    item for f in found if f.severity != "note" for item in f.items if f.details.get("split") != "test"
                }
                counts += [len(named & set(copies)), len(named - set(copies))]
            lines.append(f"| {name} | {way} | {counts[0]} | {counts[1]} | {counts[2]} |")
            print(lines[-1], flush=True)
    return (
        "49 training images once more in validation, altered at their own size. Named as copies (stop), others that are named, and of\n"
        "the same images under another label, named as such (act).\n\n"
        "| data | alteration | of 49 | others | of 49, other label |\n|---|---|---|---|---|\n" + "\n".join(lines)
    )


def tell_strangers(folder: Path | None) -> str:
    """Three strangers of a kind, 10 nearly white or black images, 40 strongly blurred ones, each alone."""
    lines = []
    for name, (images, labels, side) in (real_sets(folder) if folder else {}).items():
        pixels = as_pixels(images, side)
        random = np.random.default_rng(0)

        def look_at(planted: np.ndarray, check: str, pixels=pixels) -> str:
            names = [str(i) for i in range(len(pixels))] + [f"planted {i}" for i in range(len(planted))]
            part = make_part(np.concatenate([pixels, planted]), np.zeros(len(names)), names)
            named = [item for f in find_strangers({"train": part}) if f.check == check for item in f.items]
            own = sum(item.startswith("planted") for item in named)
            return f"{own} of {len(planted)}" + (f", and {len(named) - own} others" if len(named) > own else "")

        clean = find_strangers({"train": make_part(pixels, labels, [str(i) for i in range(len(pixels))])})
        counts = {f.check: len(f.items) for f in clean}
        lines.append(f"| {name} ({len(pixels):,}) | clean | " + ", ".join(f"{c} {n}" for c, n in counts.items()) + " |")
        for kind, draw in STRANGERS.items():
            planted = as_pixels([draw(np.random.default_rng(seed)) for seed in range(3)], side)
            lines.append(f"| {name} | {kind} | {look_at(planted, 'stranger')} |")
        ends = np.repeat([0, 250], 5)[:, None, None, None] + random.integers(0, 6, (10, side, side, 3))
        lines.append(f"| {name} | nearly black, nearly white | {look_at(ends.astype(np.uint8), 'faint_image')} |")
        some = random.permutation(len(images))[:40]
        blurred = [images[i].filter(ImageFilter.GaussianBlur(0.05 * max(images[i].size))) for i in some]
        lines.append(f"| {name} | blurred by 5% of the side | {look_at(as_pixels(blurred, side), 'blurred_image')} |")
        print("\n".join(lines[-9:]), flush=True)
    return "Each kind alone among all images of the set.\n\n| data | planted | named |\n|---|---|---|\n" + "\n".join(
        lines
    )


def tell_labels(folder: Path | None) -> str:
    """Labels changed at random; the first 30, and the bounds of the share."""
    sets = {"digits": digits()}
    if folder:
        sets |= {"MNIST": mnist(folder, "train"), "CIFAR-10": cifar10(folder, "train")}
        for name in ("ants_bees", "breast_ultrasound", "magnetic_tiles"):
            images, labels = photographs(folder, name)
            names = [str(i) for i in range(len(labels))]
            sets[name] = make_part(as_pixels(images, 64), labels, names), [str(c) for c in range(labels.max() + 1)]
    lines = []
    for name, (part, class_names) in sets.items():
        part = subset(part, 3000)
        for share in (0, 0.05, 0.1, 0.3):
            case = (
                wrong_labels(share)({"train": part}, np.random.default_rng(2))
                if share
                else Case({"train": part}, set())
            )
            found = {f.check: f for f in find_labels_unlike_predictions(case.splits, class_names)}
            told = found.get("labels_unlike_predictions")
            row = (
                [
                    f"{len(set(told.items[:30]) & case.planted)} of 30",
                    f"{told.details['low']:.1%} to {told.details['high']:.0%}",
                ]
                if told
                else ["none named", ""]
            )
            mixed = found["mixed_classes"].details["classes"] if "mixed_classes" in found else ""
            lines.append(f"| {name} ({len(part.labels):,}) | {share:.0%} | {row[0]} | {row[1]} | {mixed} |")
            print(lines[-1], flush=True)
    return (
        "Labels of the training images changed at random.\n\n| data | wrong | wrong among the first 30 | told | mixed classes |\n"
        "|---|---|---|---|---|\n" + "\n".join(lines)
    )


def tell_official(folder: Path | None) -> str:
    if folder is None:
        return ""
    wholes = whole_sets(folder)
    if folder:
        test, _ = cifar10(folder, "test")
        splits = {**split(wholes["CIFAR-10"][0], with_test=False), "test": test}
        exact = find_copies_across(splits, {"test"})
        start = time.perf_counter()
        altered = [f for f in find_altered_copies(splits, {"test"}) if f.details.get("split") == "test"]
        seconds = time.perf_counter() - start
        official = (
            f"CIFAR-10's official test split, as JPEG copies, against 45,000 training images ({seconds:.0f} s): "
            + " ".join(f"{f.severity} {f.check}: {f.message}" for f in exact + altered)
        )
        print(official)
        pixels_of = {
            name: image for part in splits.values() for name, image in zip(part.names, part.pixels, strict=True)
        }
        pairs = list(zip(altered[0].details["pairs"], altered[0].details["distances"], strict=True))
        # Of all ratios, not only the smallest.
        pairs = pairs[:: max(1, len(pairs) // 20)][:20]
        figure = plot_gallery(
            [pixels_of[name] for pair, _ in pairs for name in pair],
            [f"distance {ratio:.2f}\n{name}" for pair, ratio in pairs for name in pair],
            f"CIFAR-10: {len(altered[0].items)} test images look like copies of training images; 20 of them, each after its training image",
        )
        gallery = HERE.parent / "gallery"
        gallery.mkdir(exist_ok=True)
        with replacing(gallery / "cifar10_test_copies.png") as temporary:
            figure.savefig(temporary, dpi=100)

    return official + "\n\nTwenty of the pairs, evenly spaced by their distance: ../gallery/cifar10_test_copies.png"


def whole_sets(folder: Path | None) -> dict[str, tuple[Part, list[str]]]:
    wholes = {"digits": digits()}
    return wholes | ({"MNIST": mnist(folder, "train"), "CIFAR-10": cifar10(folder, "train")} if folder else {})


SECTIONS = {
    "Planted faults": tell_faults,
    "Altered copies": tell_alterations,
    "Wrong labels": tell_labels,
    "Strangers, faint and blurred images": tell_strangers,
    "False alarms on made pictures": tell_makers,
    "False alarms on real data": tell_alarms,
    "Whole data sets without a fault": tell_whole_sets,
    "An official test split with copies": tell_official,
}
TITLE = """# Faults planted in real data, and what the data doctor says of them

Written by `python experiments/benchmarks/planted_faults.py --data DIR`, section by section.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of mnist.npz, cifar10.zip and the other archives")
    parser.add_argument("--only", help="faults whose name holds this; nothing is written")
    parser.add_argument("--section", choices=list(SECTIONS), help="only this section is measured and rewritten")
    options = parser.parse_args()
    if options.only:
        print(tell_faults(options.data, options.only))
        return
    for heading in [options.section] if options.section else SECTIONS:
        write_section(heading, SECTIONS[heading](options.data))


def write_section(heading: str, text: str) -> None:
    """Puts a section into the result, in the order of `SECTIONS`; the others stay as they are."""
    file = HERE / "planted_faults.md"
    _, *parts = file.read_text(encoding="utf-8").split("\n## ") if file.exists() else [""]
    old = {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in parts}
    new = {**old, heading: text.strip()}
    sections = [f"## {name}\n\n{new[name]}\n" for name in SECTIONS if name in new]
    with replacing(file) as temporary:
        temporary.write_text(TITLE + "\n" + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
