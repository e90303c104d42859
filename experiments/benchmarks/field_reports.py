"""Data as people have reported them in public: each layout, file and slip made small, and what `pbl` says of it.

    python experiments/benchmarks/field_reports.py > table.md

Each row names where it was reported, what is expected (class names and a count of images, or words of the one line or of a
finding), and what came. The table stands in field_reports.md.
"""

import io
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import pbl
from pbl.errors import InputError


def picture(number: int, kind: str = "PNG", mode: str = "RGB", **options) -> bytes:
    """An image file of 24x24 pixels that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def tree(*folders: str, n: int = 12, ending: str = ".png", kind: str = "PNG") -> dict[str, bytes]:
    return {
        f"{folder}/{i}{ending}": picture(1000 * at + i, kind) for at, folder in enumerate(folders) for i in range(n)
    }


def chunk(kind: bytes, body: bytes, checksum: bytes | None = None) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + (checksum or struct.pack(">I", zlib.crc32(kind + body)))


def put_in_png(extra: bytes) -> bytes:
    return picture(1)[:33] + extra + picture(1)[33:]


def put_in_jpeg(kind: bytes, body: bytes) -> bytes:
    jpeg = picture(1, "JPEG")
    return jpeg[:2] + b"\xff" + kind + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def sixteen_bits(top: int) -> bytes:
    buffer = io.BytesIO()
    grey = np.random.default_rng(3).integers(0, top, (24, 24), np.uint16)
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def float_tiff() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).random((24, 24), np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


TWO = tree("cat", "dog")
HUGE_EXIF = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x10F, 2, 0x4900_0000, 60) + bytes(4)
VISION, KERAS, PILLOW = "pytorch/vision", "keras-team/keras", "python-pillow/Pillow"

# Where it was reported; what it is; its files; what is expected: class names with the number of images, or words.
REPORTS: list[tuple[str, str, dict[str, bytes], str]] = [
    ("tensorflow/tensorflow#46595", "`.ipynb_checkpoints` beside the classes", {**TWO, ".ipynb_checkpoints/1.png": b"x"}, "cat dog: 24"),
    ("open-mmlab/mmpretrain#507", "`.ipynb_checkpoints` in a class", {**TWO, "cat/.ipynb_checkpoints/1.png": b"x"}, "cat dog: 24"),
    ("apple/turicreate#641", "`.DS_Store`, `Thumbs.db`, `__MACOSX`", {**TWO, "cat/.DS_Store": b"x", "dog/Thumbs.db": b"x", "__MACOSX/cat/._1.png": b"x"}, "cat dog: 24"),
    ("jolibrain/deepdetect#752", "`cat.0.jpg` and `dog.1.jpg` in one folder", {f"{kind}.{i}.png": picture(i) for kind in ("cat", "dog") for i in range(9)}, "contains 18 images, such as cat.0.png, but no class folders"),
    ("googlecodelabs/tensorflow-for-poets-2#98", "one class alone", tree("cat"), "contains 1 class folder (cat)"),
    ("ultralytics/ultralytics#13936", "a class that test has not; classes named by numbers", tree("train/0", "train/90", "train/180", "train/270", "test/0", "test/90", "test/270"), "0 90 180 270: 84"),
    ("ultralytics/ultralytics#13936", "an empty class folder in test", {**tree("train/a", "train/b", "test/a"), "test/b/notes.txt": b"x"}, "passed over: .txt 1"),
    ("ultralytics/ultralytics#8837", "train/ val/ test/ with the same classes", tree("train/king", "train/pawn", "val/king", "val/pawn", "test/king", "test/pawn"), "king pawn: 72"),
    ("igreat/fast-style-transfer#4", "`train2017/` and `val2017/` of images without classes", tree("train2017", "val2017"), "train2017 contains 12 images"),
    (f"{VISION}#446", "`.JPEG` in capitals", tree("cat", "dog", ending=".JPEG", kind="JPEG"), "cat dog: 24"),
    (f"{VISION}#707", "`.bmp`", tree("cat", "dog", ending=".BMP", kind="BMP"), "cat dog: 24"),
    ("open-edge-platform/anomalib#3058", "`.JPG`", tree("cat", "dog", ending=".JPG", kind="JPEG"), "cat dog: 24"),
    (f"{VISION}#2831", "a folder of notes among the classes", {**TWO, "notes/readme.txt": b"x"}, "notes contains no image"),
    ("Pillow#5631", "PNG whose colour profile has a wrong checksum", {**TWO, "cat/x.png": put_in_png(chunk(b"iCCP", b"x\0\0zz", bytes(4)))}, "cat dog: 25"),
    ("Pillow#5978", "PNG whose resolution has a wrong checksum", {**TWO, "cat/x.png": put_in_png(chunk(b"pHYs", bytes(9), bytes(4)))}, "cat dog: 25"),
    ("bit-bots/imagetagger#93", "PNG with a private chunk", {**TWO, "cat/x.png": put_in_png(chunk(b"laBl", b"\x08\x01"))}, "cat dog: 25"),
    ("Pillow#1950", "EXIF cut off", {**TWO, "cat/x.jpg": put_in_jpeg(b"\xe1", b"Exif\0\0II*\0\x08\0\0\0\x05\0")}, "cat dog: 25"),
    ("hMatoba/Piexif#55", "EXIF that claims 1.2 GB", {**TWO, "cat/x.jpg": put_in_jpeg(b"\xe1", HUGE_EXIF)}, "cat dog: 25"),
    ("hMatoba/Piexif#17", "EXIF whose thumbnail directory lies beyond its end", {**TWO, "cat/x.jpg": put_in_jpeg(b"\xe1", b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 9999))}, "cat dog: 25"),
    (f"{KERAS}#4486", "16-bit grey PNG, full range", {**TWO, "cat/x.png": sixteen_bits(65535)}, "cat dog: 25"),
    ("liu-vis/DualResidualNetworks#18", "TIFF of 32-bit floats", {**TWO, "cat/x.tif": float_tiff()}, "32 bits a pixel"),
    ("corkborg/wd14-tagger-standalone#28", "WebP called `.png`", {**TWO, "cat/x.png": picture(7, "WEBP")}, "cat dog: 25"),
    ("Microsoft's PetImages", "`666.jpg` of 0 bytes", {**TWO, "cat/666.jpg": b""}, "cat/666.jpg is empty (0 bytes)"),
    ("Microsoft's PetImages", "a JPEG cut off", {**TWO, "cat/x.jpg": picture(9, "JPEG")[:400]}, "cat/x.jpg cannot be decoded"),
    ("a download that was refused", "a web page called `.jpg`", {**TWO, "cat/x.jpg": b"<!DOCTYPE html>"}, "not an image that can be read"),
    ("a phone", "`.heic`, without pillow-heif", {**TWO, "cat/x.heic": b"\0\0\0\x24ftypheic\0\0\0\0"}, "Install pillow-heif"),
    ("wget", "`x.jpg?w=640`", {**TWO, "cat/x.jpg?w=640": picture(8, "JPEG")}, "cat dog: 25"),
    ("Twitter", "`x.jpg_large`", {**TWO, "cat/x.jpg_large": picture(8, "JPEG")}, "cat dog: 25"),
    ("GTSRB", "`.ppm` and a CSV in each class", {**tree("0", "1", ending=".ppm", kind="PPM"), "0/GT-0.csv": b"x", "1/GT-1.csv": b"x"}, "passed over: .csv 2"),
    ("LabelImg", "Pascal VOC XML beside the images", {**TWO, **{f"cat/{i}.xml": b"<a/>" for i in range(12)}}, "passed over: .xml 12"),
    ("a camera", "films and raw files among the images", {**TWO, "cat/a.mov": b"x", "dog/b.CR2": b"II*\0x"}, "passed over: .cr2 1, .mov 1"),
    ("BUSI (breast ultrasound)", "`benign (1)_mask.png`", {**TWO, **{f"cat/{i}_mask.png": picture(90 + i) for i in range(12)}}, "Is it a mask"),
    ("magnetic tiles", "`x.jpg` and `x.png` of a mask", {**TWO, **{f"cat/{i}.jpg": picture(90 + i, "JPEG") for i in range(12)}}, "Is it a mask"),
    ("rock-paper-scissors", "`rps/` and `rps-test-set/`", tree("rps/rps/paper", "rps/rps/rock", "rps-test-set/rps-test-set/paper", "rps-test-set/rps-test-set/rock"), "paper rock: 48"),
    ("Intel's scenes", "`seg_train/ seg_test/ seg_pred/`", {**tree("seg_train/seg_train/sea", "seg_train/seg_train/street", "seg_test/seg_test/sea", "seg_test/seg_test/street"), "seg_pred/seg_pred/1.png": picture(5)}, "set aside: seg_pred"),
    ("PlantVillage", "`color/ grayscale/ segmented/`", tree("color/a", "color/b", "grayscale/a", "grayscale/b", "segmented/a", "segmented/b"), "contain the same folders"),
    ("chest_xray", "the whole once more inside", tree("train/a", "train/b", "test/a", "test/b", "chest_xray/train/a", "chest_xray/train/b"), "other folders (chest_xray"),
    ("fruits-360", "`Training/ Test/` and others", tree("Training/a", "Training/b", "Test/a", "Test/b", "test-multiple_fruits", "papers"), "other folders (papers"),
    ("Kaggle", "`train/` and `test1/` without classes", tree("train/a", "train/b", "test1"), "other folders (test1"),
    ("a team's Drive", "class-major: `cat/train`, `cat/test`", tree("cat/train", "cat/test", "dog/train", "dog/test"), "cat dog: 48"),
    ("a team's Drive", "`Cat` and `cat` ", tree("Cat", "cat ", "dog"), "two class folders called"),
    ("a team's Drive", "`cat (1).zip` and `dog.zip` in a folder", {"cat (1).zip": b"PK", "dog.zip": b"PK"}, "cat (1).zip"),
    ("YOLO", "`images/` and `labels/`", {**tree("images"), "labels/1.txt": b"x"}, "Train with task=detection"),
]  # fmt: skip


def describe(load: Callable[[], "pbl.data.Data"]) -> str:
    """What is said of a data set: the error, or a finding that is more than a note on size, else its classes and images."""
    try:
        data = load()
    except InputError as error:
        return str(error)
    told = {finding.check: finding for finding in data.check("train", "val", fast=True)}
    if "passed_over" in told:
        return f"passed over: {told['passed_over'].details['listed']}"
    if "set_aside" in told:
        return f"set aside: {told['set_aside'].details['folders']}"
    for check in ("masks_among_images", "same_folders_inside", "data_set_inside"):
        if check in told:
            return f"{told[check].severity}: {told[check].message}"
    data.images("test")
    count = sum(len(data.images(split).labels) for split in ("train", "val", "test"))
    return f"{' '.join(data.class_names)}: {count}"


def main() -> int:
    print("| reported | what | as a folder | as a zip |\n|---|---|---|---|")
    wrong = 0
    for source, what, files, expected in REPORTS:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "photos"
            archive = Path(place) / "photos.zip"
            with zipfile.ZipFile(archive, "w") as packed:
                for name, content in files.items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(content)
                    packed.writestr(name, content)
            told = []
            for path in (folder, archive):
                said = describe(lambda path=path: pbl.load_data(path, image_size=24, channels=3))
                held = expected in said
                told.append(("" if held else "**not held** ") + said.replace(place, "").replace("|", "\\|")[:200])
                wrong += not held
            print(f"| {source} | {what} | {told[0]} | {'the same' if told[1] == told[0] else told[1]} |", flush=True)
    print(f"\n{2 * len(REPORTS) - wrong} of {2 * len(REPORTS)} held.", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
