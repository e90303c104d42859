"""An instructor's hidden test set, cut from any source: the public part for teams, the hidden images for judging models, and the labels, separate."""

import contextlib
import csv
import io
import os
import re
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from pbl.data import Source, decode_image, fit_image, hash_image, hold_out
from pbl.data.box_writing import write_coco
from pbl.data.boxes import Boxes, find_commonest_class
from pbl.data.catalogue import open_source
from pbl.data.doctor import Finding, Part, find_altered_copies, find_copies_across
from pbl.data.folders import IMAGE_FOLDERS
from pbl.data.mask_files import NAMES_FILE, Mask
from pbl.data.source import check_targets
from pbl.data.split import find_groups
from pbl.data.store import find_main_class
from pbl.errors import InputError, Sentence, join_sentences, name_nearest
from pbl.grading.hidden import (
    ANOMALY_CLASSES,
    BOXES,
    DESCRIPTION,
    FORMAT,
    HALVES,
    HEADLINES,
    IMAGES,
    LABELS,
    MASKS,
    hash_file,
)
from pbl.grading.packing import encode_mask
from pbl.storage.escapes import for_csv
from pbl.storage.writing import name_unfinished, replacing, sweep, timestamp, write_json

MOST_HIDDEN, MOST_PIXELS = (
    4_000,
    500_000_000,
)  # hidden images with masks or boxes, and pixels of masks: with more, no platform takes the zip
CHECKED_SIDE = 64  # images are shrunk to at most this side when copies are searched
COPIES = "copies.csv"


class _Seen(NamedTuple):
    """All images of a source, read once."""

    names: list[str]
    labels: np.ndarray
    hashes: list[str]
    shapes: np.ndarray
    small: np.ndarray
    splits: list[str]
    classes: list[frozenset[int]]  # classes in each image's mask or boxes, if the source has them
    boxes: list[np.ndarray]  # of each image, if the source has boxes


class Holdout(NamedTuple):
    """The result of `make_holdout`.

    Attributes:
        path: The folder.
        public: The folder or archive for the teams; None if all images are hidden.
        images: How many images are hidden.
        public_images: How many images are public.
        findings: Copies of hidden images among the public ones, as the data doctor reports them.
    """

    path: Path
    public: Path | None
    images: int
    public_images: int
    findings: list[Finding]


def make_holdout(
    source: str,
    *,
    fraction: float = 0.2,
    out: str | Path | None = None,
    hide_test: bool = False,
    groups: str | None = None,
    as_zip: bool = False,
    seed: int | None = None,
    data_dir: str | None = None,
    normal: Sequence[str] = (),
    false_alarms: float | None = None,
    task: str = "classification",
) -> Holdout:
    """Cuts a hidden set from a source: what `python -m pbl holdout` does, without the reference submissions.

    The images are chosen class by class and by content, as a split is; equal images are on one side. Hidden images are
    written again as PNG, under random names in a random order and with one date, so that nothing except their pixels shows
    their class.

    Args:
        source: As for `pbl.data.load_data`: a name, a folder of class folders, a `.zip` of one, an `.npz`.
        fraction: Share of the training images of each class that is hidden; 1 hides all images of all splits.
        out: The folder to make; by default `holdout/NAME`.
        hide_test: Hide the source's own test split instead of a fraction.
        groups: A pattern that finds a word in an image's name: images with the same word are on one side.
        as_zip: The public part as one `.zip` rather than a folder.
        seed: Seed of the choice and the names; by default random, and stored next to the labels.
        data_dir: Folder of prepared TensorFlow Datasets.
        normal: The classes that are normal, for anomaly detection: hidden images are then normal or an anomaly, and teams hand in
            scores of them. The public part keeps its classes, the anomalies among them for teams to judge themselves by.
        false_alarms: For anomaly detection: the share of normal images that may have an alarm, which teams promise; by default .05.
        task: "segmentation" if the source has a mask for each image: the public part then contains both, with which
            `task=segmentation` trains, and teams hand in masks of the hidden images; "detection" in the same way if it has boxes.
            "anomaly" is used with `normal`.

    Raises:
        InputError: The source or a setting is wrong; `out` exists; an image or mask cannot be decoded; normal images or anomalies
            alone would be hidden; a class would be in no hidden mask.
    """
    if task not in HEADLINES or ((task == "anomaly") != bool(normal) and task != "classification"):
        raise InputError(
            "task={task}: valid are classification, segmentation, detection, and anomaly with --normal CLASS.",
            task=task,
        )
    has_masks, has_boxes = task == "segmentation", task == "detection"
    is_marked = has_masks or has_boxes
    if not 0 < fraction <= 1:
        raise InputError("--fraction {fraction}: give a share above 0 and up to 1, such as 0.2.", fraction=fraction)
    if false_alarms is not None and not normal:
        raise InputError("--false-alarms is for anomaly detection: name the normal classes too, --normal CLASS.")
    false_alarms = 0.05 if false_alarms is None else false_alarms
    if not 0 < false_alarms < 0.5:
        raise InputError(
            "--false-alarms {share}: give a share above 0 and below 0.5, such as 0.05.", share=false_alarms
        )
    opened = open_source(source, data_dir, has_anomalies=bool(normal), has_masks=has_masks, has_boxes=has_boxes)
    check_targets(opened, source, has_masks, has_boxes)
    for name in normal:
        if name not in opened.class_names:
            nearest = name_nearest(name, opened.class_names)
            raise InputError("--normal {name}: the data have no such class. {nearest}", name=name, nearest=nearest)
    if hide_test and opened.test is None:
        raise InputError(
            "'{source}' has no test split of its own to hide. Hide a share instead: --fraction 0.2.", source=source
        )
    name = PurePosixPath(source.replace("\\", "/")).name.split(".")[0] or "data"
    path = Path(out).expanduser() if out else Path("holdout") / name
    if path.exists():
        raise InputError("{path} already exists. Give another folder: --out.", path=path)
    seed = secrets.randbits(63) if seed is None else seed
    seen = _go_through(opened, source)
    is_hidden = _choose(seen, fraction, hide_test, groups, seed)
    known = [*opened.class_names, ""]  # an image may have no box
    words = [known[label] for label in seen.labels[is_hidden]]  # the label of each in labels.csv
    if normal:
        words = [ANOMALY_CLASSES[word not in normal] for word in words]
        if len(set(words)) < 2:
            raise InputError(
                "All hidden images would be of one kind: {kind}. Other images of '{source}' must be hidden too: --hide-test hides those of its "
                "test split, --fraction hides a share of its training images.",
                kind=words[0],
                source=source,
            )
    if is_marked:
        _check_marked(seen, is_hidden, opened.class_names, has_masks)
    findings = _find_copies(seen, is_hidden)
    with _making(path) as making:
        random = np.random.default_rng([seed, 1])
        ids = _draw_ids(random, int(is_hidden.sum()))
        public = _write_images(opened, seen, is_hidden, ids, making, as_zip)
        is_private = _choose_private(seen, is_hidden, groups, seed)
        of_group = find_groups([seen.names[at] for at in np.flatnonzero(is_hidden)], groups) if is_marked else None
        _write_labels(ids, words, making, is_private, of_group)
        shapes = {tuple(shape) for shape in seen.shapes[is_hidden].tolist()}
        told = {
            "format": FORMAT,
            "name": name,
            "class_names": ANOMALY_CLASSES if normal else opened.class_names,
            "images": len(ids),
            "ids": sorted(ids),
            "hashes": [hash_file(making / IMAGES / f"{name}.png") for name in sorted(ids)],
        }
        if normal:
            told |= {"task": "anomaly", "normal": list(normal), "false_alarms": false_alarms}
        if is_marked:
            sizes = dict(zip(ids, seen.shapes[is_hidden][:, :2].tolist(), strict=True))
            told |= {"task": task, "sizes": [sizes[name] for name in sorted(ids)]}
        write_json(making / DESCRIPTION, {**told, "shape": list(shapes.pop()) if len(shapes) == 1 else None})
        settings = {"source": source, "fraction": fraction, "hide_test": hide_test, "groups": groups, "seed": seed}
        settings |= {"normal": list(normal), "false_alarms": false_alarms} if normal else {}
        settings |= {"task": task} if is_marked else {}
        write_json(making / "labels" / "holdout.json", {**settings, "made": timestamp()})
        _write_copies(findings, making)
    return Holdout(path, path / public if public else None, int(is_hidden.sum()), int((~is_hidden).sum()), findings)


@contextlib.contextmanager
def _making(path: Path) -> Iterator[Path]:
    """Gives an empty folder next to `path`, which takes its place when everything is written; on failure nothing is left."""
    making = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)  # also removes hidden labels that a killed process left
        making = Path(tempfile.mkdtemp(dir=path.parent, prefix=name_unfinished()))
        (making / ".gitignore").write_text(
            "*\n", encoding="utf-8"
        )  # until it has its final name: it contains the hidden labels
        yield making
        making.chmod(0o755)
        (making / ".gitignore").unlink()
        making.replace(path)
    except BaseException as error:
        if making is not None:
            shutil.rmtree(making, ignore_errors=True)
        reason = error.__cause__ if isinstance(error, InputError) else error
        if isinstance(reason, OSError):
            raise InputError(
                "{folder} could not be written: {reason}. Free some space, or give another folder: --out.",
                folder=path,
                reason=reason.strerror or reason,
            ) from error
        raise


def _parts(source: Source) -> Iterator[tuple[str, Callable]]:
    for split in ("train", "val", "test"):
        give = getattr(source, split)
        if give is not None:
            yield split, give


def _pixels(image: np.ndarray | bytes, name: str) -> np.ndarray:
    return decode_image(image, name) if isinstance(image, bytes) else np.asarray(image, np.uint8)


def _go_through(source: Source, called: str) -> _Seen:
    names, labels, hashes, shapes, small, splits, classes, boxes, problems = [], [], [], [], [], [], [], [], []
    for split, give in _parts(source):
        for image, label, name in give():
            try:
                pixels = _pixels(image, name)
                marked = label.read(name, pixels.shape[:2]) if isinstance(label, Mask | Boxes) else None
            except InputError as error:
                problems.append(error)
                continue
            side = min(CHECKED_SIDE, *(shapes[0][:2] if shapes else pixels.shape[:2]))
            small.append(fit_image(pixels, (side, side), 3, "stretch"))
            names.append(name)
            if isinstance(label, Mask):
                labels.append(find_main_class(marked))
                classes.append(frozenset(np.unique(marked).tolist()))
            elif isinstance(label, Boxes):
                labels.append(find_commonest_class(marked.rows, len(source.class_names)))
                classes.append(frozenset(marked.rows[:, 4].astype(int).tolist()))
                boxes.append(marked.rows)
            else:
                labels.append(int(label))
                classes.append(frozenset())
            hashes.append(hash_image(pixels))
            shapes.append(pixels.shape)
            splits.append(split)
    if problems:
        more = Sentence(" And {n} more.", n=len(problems) - 5) if len(problems) > 5 else ""
        raise InputError(
            "{n} {n:image|images} of '{source}' cannot be decoded: {problems}{more} Repair {n:it|them}, or remove {n:it|them} first.",
            n=len(problems),
            source=called,
            problems=join_sentences(problems[:5]),
            more=more,
        )
    if not names:
        raise InputError("Data set '{source}' contains no image.", source=called)
    sides = {image.shape for image in small}
    if len(sides) > 1:  # a first image smaller than the checked side
        side = min(shape[0] for shape in sides)
        small = [fit_image(image, (side, side), 3, "stretch") for image in small]
    return _Seen(names, np.array(labels), hashes, np.array(shapes), np.stack(small), splits, classes, boxes)


def _choose(seen: _Seen, fraction: float, hide_test: bool, groups: str | None, seed: int) -> np.ndarray:
    splits = np.array(seen.splits)
    if hide_test:
        return splits == "test"
    if fraction == 1:
        return np.ones(len(splits), bool)
    of_train = np.flatnonzero(splits == "train")
    all_words = find_groups(seen.names, groups)
    words = None if all_words is None else [all_words[place] for place in of_train]
    chosen = hold_out(
        [seen.hashes[place] for place in of_train], seen.labels[of_train], fraction, seed, "hidden", words
    )
    is_hidden = np.zeros(len(splits), bool)
    is_hidden[of_train[chosen]] = True
    # Images that are also in another official split, or in a group there, would be published with it.
    for signs in filter(None, (seen.hashes, all_words)):
        given = {sign for sign, split in zip(signs, seen.splits, strict=True) if split != "train"}
        is_hidden &= ~np.array([sign in given for sign in signs])
    if not is_hidden.any() or is_hidden[of_train].all():
        raise InputError(
            "With --fraction {fraction} one side is empty. Give more images or another share.",
            fraction=fraction,
        )
    return is_hidden


def _check_marked(seen: _Seen, is_hidden: np.ndarray, class_names: Sequence[str], has_masks: bool) -> None:
    """Raises InputError if hidden masks or boxes would lack a class, or are too many to be handed in."""
    hidden = frozenset().union(*(seen.classes[at] for at in np.flatnonzero(is_hidden)))
    known = frozenset().union(*seen.classes)
    if lacking := sorted(known - hidden - ({0} if has_masks else set())):
        raise InputError(
            "No hidden image would have the class {name}, so it would not be evaluated. Hide other or more images: another --seed, a larger "
            "--fraction.",
            name=class_names[lacking[0]],
        )
    images, pixels = int(is_hidden.sum()), int(seen.shapes[is_hidden][:, :2].prod(axis=1).sum())
    if images > MOST_HIDDEN and not has_masks:
        raise InputError(
            "{images:,} images would be hidden; the limit with boxes is {most:,}. Hide fewer: a smaller --fraction.",
            images=images,
            most=MOST_HIDDEN,
        )
    if has_masks and (images > MOST_HIDDEN or pixels > MOST_PIXELS):
        raise InputError(
            "{images:,} images with {pixels:.0f} million pixels in total would be hidden; the limits are {most:,} images and {limit:.0f} million "
            "pixels. Hide fewer: a smaller --fraction, or make the images smaller.",
            images=images,
            pixels=pixels / 1e6,
            most=MOST_HIDDEN,
            limit=MOST_PIXELS / 1e6,
        )


def _find_copies(seen: _Seen, is_hidden: np.ndarray) -> list[Finding]:
    if is_hidden.all():
        return []
    splits = {}
    for split, chosen in (("train", ~is_hidden), ("test", is_hidden)):
        places = np.flatnonzero(chosen)
        names, hashes = ([words[place] for place in places] for words in (seen.names, seen.hashes))
        splits[split] = Part(seen.small[places], seen.labels[places], names, hashes, seen.shapes[places])
    found = [*find_copies_across(splits), *find_altered_copies(splits)]
    return [
        finding for finding in found if finding.check in ("copies_across", "altered_copies")
    ]  # hidden compared with public


def _draw_ids(random: np.random.Generator, count: int) -> list[str]:
    """Ids of twelve characters 0 to 9 and a to f that no spreadsheet reads as a number or a date: they begin with a letter, but not as a month
    does, and contain a letter other than the e of `12e34`."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        name = random.bytes(6).hex()
        if re.fullmatch(r"(?!feb|dec)[a-f].*[abcdf].*", name):
            ids[name] = None
    return list(ids)


def _write_images(
    source: Source, seen: _Seen, is_hidden: np.ndarray, ids: list[str], folder: Path, as_zip: bool
) -> str | None:
    """Writes both parts, in a second pass through the source; returns the public one's name."""
    (folder / IMAGES).mkdir()
    if source.has_masks or source.has_boxes:
        (folder / LABELS).parent.mkdir(mode=0o700)
    if source.has_masks:
        (folder / LABELS).with_name(MASKS).mkdir()
    waiting = iter(ids)
    has_public = not is_hidden.all()
    several = len({seen.splits[place] for place in np.flatnonzero(~is_hidden)}) > 1
    archive = zipfile.ZipFile(folder / "public.zip", "w", zipfile.ZIP_STORED) if has_public and as_zip else None

    def publish(target: str, content: bytes) -> None:
        if archive is not None:
            archive.writestr(zipfile.ZipInfo(target, (2020, 1, 1, 0, 0, 0)), content)
            return
        file = folder / "public" / target
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    listed: dict[
        str, dict[str, int]
    ] = {}  # for each split's public images, and as "" for the hidden ones: paths by names
    place = 0
    with archive or contextlib.nullcontext():
        for split, give in _parts(source):
            for image, label, name in give():
                mask = None
                if source.has_masks:
                    mask = encode_mask(label.read(name, tuple(seen.shapes[place][:2])))
                if is_hidden[place]:
                    called = f"{next(waiting)}.png"
                    file = folder / IMAGES / called
                    file.write_bytes(_as_png(_pixels(image, name)))
                    os.utime(file, (1_577_836_800,) * 2)  # all files get one date
                    listed.setdefault("", {})[called] = place
                    if mask is not None:
                        (folder / LABELS).with_name(MASKS).joinpath(called).write_bytes(mask)
                else:
                    content = image if isinstance(image, bytes) else _as_png(image)
                    below = split if several else ""
                    if source.has_boxes:
                        target = _name_below_images(name, place, content)
                        if below and not target.startswith(f"{below}/"):
                            target = f"{below}/{target}"
                        if target in listed.setdefault(split, {}):  # from two folders of images
                            target = f"{split}/{_number_file(place, content)}"
                        listed[split][target] = place
                        publish(f"{IMAGES}/{target}", content)
                    elif mask is None:
                        publish(_public_name(below, source.class_names[label], name, place, content), content)
                    else:
                        target = _name_below_images(name, place, content)
                        publish("/".join(filter(None, (below, IMAGES, target))), content)
                        stem = str(PurePosixPath(target).with_suffix(".png"))
                        publish("/".join(filter(None, (below, MASKS, stem))), mask)
                place += 1
        if source.has_masks and has_public:
            lines = [f"{number} {name}\n" for number, name in enumerate(source.class_names)]
            publish(NAMES_FILE, "".join(lines).encode())
        for split in (
            sorted(listed, reverse=True) if source.has_boxes else ()
        ):  # the file of the hidden ones is the last, and is kept
            names, places = list(listed[split]), list(listed[split].values())
            boxes = [seen.boxes[at] for at in places]
            file = write_coco((folder / LABELS).with_name(BOXES), names, seen.shapes[places], boxes, source.class_names)
            if split:
                publish(f"annotations/instances_{split}.json", file.read_bytes())
    return None if not has_public else "public.zip" if as_zip else "public"


def _name_below_images(name: str, place: int, content: bytes) -> str:
    """A file's path among public images with masks or boxes: its own name below the folder of images, if it has one."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..")]
    above = [at for at, part in enumerate(parts) if part.casefold() in IMAGE_FOLDERS]
    below = parts[above[-1] + 1 :] if above else parts
    return "/".join(below) if below and "." in below[-1] else _number_file(place, content)


def _number_file(place: int, content: bytes) -> str:
    kind = ".jpg" if content.startswith(b"\xff\xd8") else ".png"
    return f"{place:06d}{kind}"


def _public_name(split: str, class_name: str, name: str, place: int, content: bytes) -> str:
    """A file's path in the public part: its own name below its class's folder, if it has one."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    below = parts[parts.index(class_name) + 1 :] if class_name in parts else ()
    file = "_".join(below) if below and "." in below[-1] else _number_file(place, content)
    return "/".join(part for part in (split, class_name.replace("/", "_"), file) if part)


def _as_png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "PNG")
    return stream.getvalue()


def _choose_private(seen: _Seen, is_hidden: np.ndarray, groups: str | None, seed: int) -> np.ndarray:
    """Half of the hidden images of each class, in their order; equal images and those of one group are in the same half, so that a
    leaderboard on one half says nothing about the other."""
    places = np.flatnonzero(is_hidden)
    words = find_groups([seen.names[place] for place in places], groups)
    return hold_out([seen.hashes[place] for place in places], seen.labels[places], 0.5, seed, "private half", words)


def _write_labels(
    ids: list[str], labels: list[str], folder: Path, is_private: np.ndarray, groups: list[str] | None
) -> None:
    file = folder / LABELS
    file.parent.mkdir(mode=0o700, exist_ok=True)
    half = is_private.astype(int)
    rows = [[ids[n], labels[n], HALVES[half[n]], *([for_csv(groups[n])] if groups else [])] for n in range(len(ids))]
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        temporary.chmod(0o600)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "label", "half", *(["group"] if groups else [])])
        writer.writerows(sorted(rows))


def _write_copies(findings: list[Finding], folder: Path) -> None:
    """Writes the copies by name, for the instructor, next to the labels."""
    rows = [(finding.check, *pair) for finding in findings for pair in finding.details.get("pairs", [])]
    if rows:
        with (folder / "labels" / COPIES).open("w", newline="", encoding="utf-8-sig") as stream:
            writer = csv.writer(stream)
            writer.writerow(["check", "public image", "hidden image"])
            writer.writerows(map(for_csv, row) for row in rows)
