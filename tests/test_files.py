"""Folders, archives and arrays from disk: the same data in every form, and one line for anything hostile or broken."""

import errno
import hashlib
import io
import os
import shutil
import stat
import struct
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

import pbl
from pbl.data import class_folders, npz_arrays, store, zip_archive
from pbl.data.cache import cache_folder
from pbl.data.paths import names_beside
from pbl.errors import InputError
from pbl.storage.reading import read_arrays

pytestmark = pytest.mark.slow  # little of it depends on versions


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))


def picture(number: int, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tree(*folders: str, images: int = 8) -> dict[str, bytes]:
    """File names with contents: `images` pictures in each folder."""
    return {f"{folder}/{n}.png": picture(100 * at + n) for at, folder in enumerate(folders) for n in range(images)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(file: Path, files: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file


@pytest.mark.parametrize(
    ("files", "class_names", "splits"),
    [
        (tree("cat", "dog"), ["cat", "dog"], "train"),
        (tree("10", "9", "1"), ["1", "9", "10"], "train"),
        (tree("photos/cat", "photos/dog"), ["cat", "dog"], "train"),  # a folder around it, as archives have
        (tree("train/cat", "train/dog", "val/cat", "val/dog", "test/cat"), ["cat", "dog"], "train val test"),
        (tree("training_set/training_set/cat", "training_set/training_set/dog", "test_set/test_set/dog"), ["cat", "dog"], "train test"),
        (tree("Train/a b", "Train/猫 🐈", "Validation/a b"), ["a b", "猫 🐈"], "train val"),
        (tree("cat/2024/spring", "dog"), ["cat", "dog"], "train"),  # folders inside a class
        (tree("rps/paper", "rps/rock", "rps-test-set/rps-test-set/paper", "rps-test-set/rps-test-set/rock"), ["paper", "rock"], "train test"),
        ({**tree("seg_train/seg_train/sea", "seg_train/seg_train/street", "seg_test/seg_test/sea", "seg_test/seg_test/street"), "seg_pred/seg_pred/1.txt": b"x"}, ["sea", "street"], "train test"),
        (tree("train_data/cat", "train_data/dog", "test_data/dog"), ["cat", "dog"], "train test"),
        (tree("訓練データ/犬", "訓練データ/猫", "テストデータ/犬"), ["犬", "猫"], "train test"),
        (tree("学習/犬", "学習/猫", "検証/犬", "テスト/猫"), ["犬", "猫"], "train val test"),
        (tree("x-train/cat", "x-train/dog", "x-validation/cat"), ["cat", "dog"], "train val"),
        (tree("TrainSet/cat", "TrainSet/dog", "valset/Cat ", "testimages/dog"), ["cat", "dog"], "train val test"),
        (tree("cat/train", "cat/test", "dog/train", "dog/test"), ["cat", "dog"], "train test"),
        (tree("train_station", "test_tube"), ["test_tube", "train_station"], "train"),  # classes whose names contain such words
        (tree("a", "A", "b"), ["A", "a", "b"], "train"),  # letters
        (tree("train2017/a", "train2017/b", "val2017/a"), ["a", "b"], "train val"),
        ({**tree("cat", "dog"), "__MACOSX/cat/._1.png": b"x", ".DS_Store": b"x", "cat/.hidden.png": b"x", "cat/Thumbs.db": b"x", "cat/notes.txt": b"x"}, ["cat", "dog"], "train"),
    ],
    ids="plain numbers wrapped splits kaggle japanese nested rps intel data japanese-data japanese-splits x compounds class-major words letters years hidden".split(),
)  # fmt: skip
def test_layouts(tmp_path, files, class_names, splits):
    """A folder and a zip of it are the same source: classes, names, pixels, split."""
    folder, archive = write(tmp_path / "folder", files), pack(tmp_path / "a.zip", files)
    of_folder, of_zip = class_folders(folder), zip_archive(archive)
    assert of_folder.class_names == of_zip.class_names == class_names
    present = {"train", *(split for split in ("val", "test") if getattr(of_folder, split))}
    assert present == set(splits.split())
    for split in present:
        one, other = list(getattr(of_folder, split)()), list(getattr(of_zip, split)())
        assert one == other and len(one) == len({name for _, _, name in one})
    count = sum(name.endswith(".png") and "/." not in name and "MACOSX" not in name for name in files)
    assert sum(len(getattr(of_folder, split)()) for split in present) == count
    one, other = pbl.load_data(str(folder)), pbl.load_data(archive)
    assert {**one.split, "source": ""} == {**other.split, "source": ""}
    np.testing.assert_array_equal(one.images("test").pixels, other.images("test").pixels)


def test_an_archive_is_unpacked_once_and_anew_when_it_changes(tmp_path):
    archive = pack(tmp_path / "photos.zip", tree("cat", "dog"))
    first = pbl.load_data(archive).split["hashes"]
    (unpacked,) = cache_folder().iterdir()
    before = unpacked.stat().st_mtime_ns
    assert pbl.load_data(archive).split["hashes"] == first and unpacked.stat().st_mtime_ns == before
    next((unpacked / "cat").iterdir()).unlink()  # as if a cache cleaner had removed it
    assert pbl.load_data(archive).split["hashes"] == first
    shutil.rmtree(unpacked / "dog")
    assert pbl.load_data(archive).split["hashes"] == first
    pack(archive, tree("cat", "dog", images=9))
    assert pbl.load_data(archive).split["hashes"] != first and len(list(cache_folder().iterdir())) == 2


def test_names_of_japanese_windows_and_of_macos(tmp_path):
    """cp932 without a mark, UTF-8 without a mark, and か written as two characters: the same class names."""
    for encoding, name in [("cp932", "が犬"), ("utf-8", "が犬"), ("utf-8", "か\u3099犬")]:
        archive = tmp_path / "a.zip"
        raw = name.encode(encoding)
        pack(archive, tree("x" * len(raw), "zz"))
        content = archive.read_bytes().replace(b"x" * len(raw) + b"/", raw + b"/")
        archive.write_bytes(content)
        assert zip_archive(archive).class_names == ["zz", "が犬"], encoding


def with_link(file: Path) -> Path:
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(pack(file, tree("cat", "dog")), "a") as archive:
        archive.writestr(link, "/etc/passwd")
    return file


def encrypted(file: Path) -> Path:
    content = bytearray(pack(file, tree("cat", "dog")).read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + offset] |= 1
    file.write_bytes(content)
    return file


def damaged(file: Path) -> Path:
    content = bytearray(pack(file, tree("cat", "dog"), zipfile.ZIP_STORED).read_bytes())
    content[60] ^= 255  # in the first picture, whose checksum then differs
    file.write_bytes(content)
    return file


def deflate_damaged(file: Path) -> Path:
    content = bytearray(
        pack(file, {f"{c}/{n}.bmp": bytes(range(256)) * 40 for c in ("cat", "dog") for n in range(9)}).read_bytes()
    )
    content[45:75] = bytes([255]) * 30
    file.write_bytes(content)
    return file


def bomb(file: Path, size: int, count: int) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(count):
            with archive.open(f"cat/{number}.png", "w", force_zip64=True) as stream:
                for _ in range(size // 2**24):
                    stream.write(bytes(2**24))
    return file


def truncated(file: Path) -> Path:
    content = pack(file, tree("cat", "dog")).read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return file


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file: pack(file, {"../cat/1.png": b"x"}), "leads outside the archive"),
        (lambda file: pack(file, {"cat/../../1.png": b"x"}), "leads outside the archive"),
        (lambda file: pack(file, {"/etc/1.png": b"x"}), "leads outside the archive"),
        (lambda file: pack(file, {"C:\\1.png": b"x"}), "leads outside the archive"),
        (lambda file: pack(file, {"..\\1.png": b"x"}), "leads outside the archive"),
        (with_link, "contains the link 'cat/link.png'"),
        (encrypted, "is encrypted"),
        (truncated, "is not an archive, or it is damaged"),
        (damaged, "Bad CRC-32"),
        (lambda file: pack(file, {}) and file.write_bytes(b""), "is not an archive, or it is damaged"),
        (lambda file: pack(file, {"a/photos.zip": b"x"}), "but the archive a/photos.zip: unpack it"),
        (lambda file: pack(file, {"a/notes.txt": b"x"}), "contains no image."),
        (lambda file: pack(file, tree("cat")), "contains 1 class folder (cat)"),
        (lambda file: bomb(file, 2**29 + 2**24, 1), "No image is that large"),
        (lambda file: bomb(file, 2**28, 8), "over 100 times its own size"),
        (lambda file: pack(file, {"./cat/1.png": b"x", "cat//1.png": b"y"}), "contains 'cat/1.png' twice"),
        (lambda file: pack(file, {**tree("cat", "dog"), "owl/notes.txt": b"x"}), "owl contains no image"),
        (deflate_damaged, "is not an archive, or it is damaged"),
        (lambda file: pack(file, {"cat/" + "x" * 300 + ".png": b"x", **tree("dog")}), "cannot be unpacked"),
    ],
    ids="up up-inside absolute drive backslash link encrypted truncated damaged empty nested no-image one-class huge-file bomb twice empty-class deflate long-name".split(),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hostile_and_broken_archives(tmp_path, make, said):
    """One line; nothing outside the cache, nothing half unpacked in it."""
    file = tmp_path / "a.zip"
    make(file)
    with pytest.raises(InputError) as error:
        pbl.load_data(file)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"a.zip", "cache"}
    left = list(cache_folder().glob("**/*")) if cache_folder().exists() else []
    assert not left or "class" in said or "owl" in said


def test_no_room_for_an_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda folder: os.terminal_size((0, 0)) and type("Usage", (), {"free": 10})
    )
    with pytest.raises(InputError, match=r"unpacks to 0.0 GB, and .*cache has 0.0 GB free"):
        zip_archive(pack(tmp_path / "a.zip", tree("cat", "dog")))


def test_a_cache_that_cannot_be_used_and_one_with_leftovers(tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.zip", tree("cat", "dog"))
    old, new = cache_folder() / ".unpacking-old", cache_folder() / ".unpacking-new"
    for leftover in (old, new):
        (leftover / "cat").mkdir(parents=True)
    os.utime(old, (0, 0))
    assert zip_archive(archive).class_names == ["cat", "dog"]
    assert not old.exists() and new.exists()  # another process may be filling it
    (tmp_path / "file").touch()
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cannot be used: Not a directory\. Name another folder"):
        zip_archive(archive)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (tree("cat"), "contains 1 class folder (cat)"),
        ({"1.png": b"x"}, "contains 1 image, such as 1.png, but no class folders"),
        ({"notes.txt": b"x"}, "contains 0 class folders"),
        (
            {**tree("images"), "labels/0.txt": b"x"},
            "contains images/ and labels/, which are not classes, but images with boxes. Train with task=detection",
        ),
        (
            tree("train/images", "train/masks"),
            "contains images/ and masks/, which are not classes, but images with masks. Train with task=segmentation",
        ),
        (tree("JPEGImages", "Annotations", "SegmentationClass"), "Train with task=segmentation"),
        (
            {**tree("images/train"), "labels/train/0.txt": b"x", "images/val/1.png": b"x", "labels/val/1.txt": b"x"},
            "Train with task=detection",
        ),
        (
            {"1.png": b"x", "1.xml": b"x"},
            "contains 1 image with boxes next to it, such as 1.xml, but no class folders. Train with task=detection",
        ),
        ({**tree("cat", "dog"), "owl/notes.txt": b"x"}, "owl contains no image"),
        ({**tree("cat", "dog"), "owl/.hidden.png": b"x"}, "owl contains no image"),
        (tree("val/cat", "val/dog"), "contains no train/"),
        (tree("train/cat", "train/dog", "owl"), "contains other folders (owl)"),
        (tree("train/cat", "train/dog", "test/owl"), "has the class(es) owl, which train does not have: cat, dog"),
        (tree("train/cat", "train/dog", "val/cat", "validation/cat"), "which is val? Keep one"),
        ({**tree("cat", "dog"), "1.png": b"x"}, "contains 1 image next to its class folders, such as 1.png"),
        (tree("café", "cafe\u0301", "dog"), "two class folders called café"),
        (tree("cat", "Cat ", "dog"), "two class folders called"),
        ({"cat.zip": b"PK", "dog.zip": b"PK"}, "contains no class folders, but cat.zip, dog.zip"),
        (tree("train_data/cat", "train_data/dog", "training/cat", "training/dog"), "which is train? Keep one"),
        ({**tree("train/cat", "train/dog"), "val/1.png": b"x"}, "val contains no image in its class folders"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, files, said):
    with pytest.raises(InputError) as error:
        pbl.load_data(write(tmp_path / "folder", files))
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("files", "check", "said"),
    [
        (tree("color/cat", "color/dog", "grey/cat", "grey/dog", images=20), "same_folders_inside", "color, grey contain the same folders (cat, dog)"),
        (tree("cat", "dog", "photos/cat", "photos/dog", images=20), "data_set_inside", "is it a copy of the data set?"),
        (tree("cat/2023", "cat/2024", "dog/2023", "dog/2024", images=20), "same_folders_inside", "(2023, 2024)"),
        ({**tree("cat", "dog", images=20), **{f"cat/{n}.bmp": picture(n) for n in range(20)}}, "masks_among_images", "Images with another file of the same name next to them: 20, such as cat/0.bmp and cat/0.png"),
        ({**tree("cat", "dog", images=20), **{f"dog/{n}_mask.png": picture(n) for n in range(20)}}, "masks_among_images", "Images with another file of the same name next to them: 20, such as dog/0.png and dog/0_mask.png"),
    ],
    ids=["kinds", "doubled", "years", "masks-by-ending", "masks-by-word"],
)  # fmt: skip
def test_layouts_that_are_asked_about(tmp_path, files, check, said):
    """Never trained without a warning: "stop", before a training."""
    folder = write(tmp_path / "folder", files)
    found = {finding.check: finding for finding in pbl.load_data(folder).check("train", "val", fast=True)}
    assert found[check].severity == "stop" and said in found[check].message
    with pytest.raises(InputError, match="data_check=report"):
        pbl.train(pbl.Config(dataset=str(folder), model="mlp", epochs=1), folder=tmp_path / "runs")


def test_what_pillow_reads_is_read_and_the_rest_is_counted(tmp_path):
    """By the first bytes if the extension says nothing; in a zip as in a folder."""
    files = tree("cat", "dog")
    for at, (ending, kind) in enumerate([(".ppm", "PPM"), (".jpe", "JPEG"), (".jpg?w=640", "JPEG"), ("", "PNG"), (".jpg ", "JPEG"), (".jpg_large", "JPEG"), (".jp2", "JPEG2000"), (".webp", "WEBP")]):  # fmt: skip
        buffer = io.BytesIO()
        Image.open(io.BytesIO(picture(500 + at))).save(buffer, kind)
        files[f"cat/photo{at}{ending}"] = buffer.getvalue()
    count = len(files)
    files |= {
        "cat/notes.txt": b"x",
        "dog/boxes.xml": b"<a/>",
        "dog/b.xml": b"<a/>",
        "dog/new.jxl": b"\xff\x0a..",
        "dog/page": b"<html>",
    }
    folder, archive = write(tmp_path / "folder", files), pack(tmp_path / "a.zip", files)
    for source in (class_folders(folder), zip_archive(archive)):
        assert len(source.train()) == count
        (finding,) = source.findings
        assert finding.details["endings"] == {".txt": 1, ".xml": 2, ".jxl": 1, "": 1} and finding.severity == "act"
        assert "5 (.xml 2, ? 1, .jxl 1, .txt 1)" in finding.message
    one, other = (pbl.load_data(where, image_size=8, channels=3) for where in (folder, archive))
    assert one.split["hashes"] == other.split["hashes"]
    assert len(pbl.data.find_image_files([folder])) == count


def test_a_read_that_fails_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    """A mounted Drive: the same images and split; a file that stays unreadable is reported, and never skipped."""
    folder = write(tmp_path / "folder", tree("cat", "dog", images=20))
    expected = pbl.load_data(folder).split["hashes"]
    monkeypatch.setattr("pbl.storage.writing.RETRY_SECONDS", (0, 0))
    whole, failures, fault = Path.read_bytes, {}, {}

    def read(self):
        if self.name in ("3.png", "7.png") and failures.get(self, 0) < fault["most"]:
            failures[self] = failures.get(self, 0) + 1
            raise OSError(fault["number"], os.strerror(fault["number"]))
        return whole(self)

    monkeypatch.setattr(Path, "read_bytes", read)
    for number in (errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT):
        fault |= {"number": number, "most": 2}
        failures.clear()
        assert pbl.load_data(folder, on_bad_image="skip").split["hashes"] == expected and len(failures) == 4
        fault["most"] = 10
        with pytest.raises(InputError, match=r"cannot be read: .*still mounted\?"):
            pbl.load_data(folder, on_bad_image="skip")
    fault["number"] = errno.EACCES
    failures.clear()
    with pytest.raises(InputError, match=r"4 image files of .* cannot be read: .*cat/3\.png: Permission denied"):
        pbl.load_data(folder, on_bad_image="skip")


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EACCES, r"a\.\w+: Permission denied\.$"), (errno.EIO, r"still mounted\?")]
)
def test_an_archive_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch, number, said):
    monkeypatch.setattr("pbl.storage.writing.RETRY_SECONDS", (0, 0))

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(zipfile, "ZipFile", fail)
    for name, load in (("a.zip", zip_archive), ("a.npz", npz_arrays)):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=said):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "load"), [("a.zip", zip_archive), ("a.npz", npz_arrays), ("a.npz", read_arrays)], ids=["zip", "npz", "own"]
)
def test_a_disk_that_fails_within_an_archive_is_not_damage(tmp_path, monkeypatch, name, load):
    """`zipfile` turns the disk's failure into its own error for damaged files."""
    monkeypatch.setattr("pbl.storage.writing.RETRY_SECONDS", (0, 0))
    shutil.make_archive(tmp_path / "a", "zip", write(tmp_path / "folder", tree("cat", "dog")))
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 4, 4), np.uint8), y_train=np.arange(2))
    find, failing = zipfile._EndRecData, []

    def fail(stream):
        if failing:
            raise OSError(errno.EIO, failing.pop())
        return find(stream)

    monkeypatch.setattr(zipfile, "_EndRecData", fail)
    failing += ["Input/output error"] * 2
    assert load(tmp_path / name) and not failing
    failing += ["Input/output error"] * 9
    with pytest.raises(InputError, match=r"cannot be read.*: Input/output error") as error:
        load(tmp_path / name)
    assert "damaged" not in str(error.value)


def test_arrays_that_the_memory_does_not_hold_are_not_called_damaged(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 4, 4), np.uint8), y_train=np.arange(2))

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(InputError, match=r"There is not enough memory for .*a\.npz"):
        npz_arrays(tmp_path / "a.npz")


def test_a_path_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my photos", tree("cat", "dog"))
    assert pbl.load_data("my photos").class_names == ["cat", "dog"]  # a bare word that no data set has
    (tmp_path / "photos.tar.gz").touch()
    for name, said in [
        ("./photos.tar.gz", "is a file of another kind"),
        ("~nobody_of_this_name/x", "no such user"),
        ("日 本", "No data set or folder"),
    ]:
        with pytest.raises(InputError, match=said):
            pbl.load_data(name)
    write(tmp_path / "photos", tree("cat", "dog"))
    with pytest.raises(InputError, match="Did you mean 'photos'"):
        pbl.load_data(tmp_path / "fotos")
    with pytest.raises(InputError, match=r"No file .*a\.npz.*Valid: my photos, photos"):
        pbl.load_data(tmp_path / "a.npz")
    for name, near in (("zebra.gz", None), ("photo.zip", "photos"), ("photos.tar", "photos")):
        assert names_beside(tmp_path / name).fields["nearest"] == near  # a common ending makes no name near


def test_links_that_lead_in_circles_are_listed_once(tmp_path):
    folder = write(tmp_path / "folder", tree("cat", "dog"))
    (folder / "cat" / "again").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "cat" / "pipe.png")  # opened, it would wait for ever
    (folder / "owl").symlink_to(folder / "dog", target_is_directory=True)  # a class elsewhere is a class
    source = class_folders(folder)
    assert source.class_names == ["cat", "dog", "owl"] and len(source.train()) == 8 * 3 + 8 * 2


BROKEN = {
    "cat/empty.jpg": b"",
    "cat/page.png": b"<html>not found</html>",
    "dog/half.png": picture(7)[:90],
    "dog/photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0",
}


def test_broken_images_are_all_named_or_left_out_and_counted(tmp_path):
    folder = write(tmp_path / "folder", {**tree("cat", "dog", images=20), **BROKEN})
    with pytest.raises(InputError) as error:
        pbl.load_data(folder)
    said = str(error.value)
    assert said.startswith("4 images of") and all(name in said for name in BROKEN) and "\n" not in said
    assert "HEIC" in said and "on_bad_image=skip" in said
    data = pbl.load_data(folder, on_bad_image="skip")
    assert set(data.broken) == set(data.split["broken"]) == set(BROKEN) and sum(data.split["images"].values()) == 40

    config = pbl.Config(dataset=str(folder), model="mlp", epochs=1, on_bad_image="skip")
    run = pbl.train(config, folder=tmp_path / "runs")
    assert set(run.split["broken"]) == set(BROKEN)
    (tmp_path / "leave_out.txt").write_text("\n".join(BROKEN), encoding="utf-8")
    again = pbl.load_data(folder, leave_out=str(tmp_path / "leave_out.txt"))
    (tmp_path / "other.txt").write_text("cat/nothing.png", encoding="utf-8")
    with pytest.raises(
        InputError,
        match=r"names 1 image that .* does not have, such as cat/nothing\.png; its images are called cat/0\.png",
    ):
        pbl.load_data(folder, leave_out=str(tmp_path / "other.txt"), on_bad_image="skip")
    assert again.split["left_out"] == 4 and not again.broken and again.split["hashes"] == data.split["hashes"]


def test_an_image_of_ten_thousand_pixels_a_side(tmp_path):
    files = tree("cat", "dog")
    buffer = io.BytesIO()
    Image.new("L", (10_000, 10_000), 200).save(buffer, "PNG")
    folder = write(tmp_path / "folder", {**files, "cat/large.png": buffer.getvalue()})
    data = pbl.load_data(folder, image_size=8, channels=1)
    largest = np.concatenate([data.images(split).shapes for split in ("train", "val", "test")]).max(axis=0)
    assert largest.tolist() == [10_000, 10_000, 3]


X, Y = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8), (np.arange(40) % 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x_train": X}, "lacks y_train: it contains x_train"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "lacks y_test"),
        ({"images": X, "y_train": Y}, "lacks x_train"),
        ({"x_train": np.array([X[0], X[1][:4]], dtype=object), "y_train": Y}, "contains Python objects"),
        ({"x_train": np.where(X > 250, np.nan, X / 255), "y_train": Y}, "contains NaN or infinity"),
        ({"x_train": X / 255, "y_train": Y}, "save (255 * images).round()"),
        ({"x_train": X.astype(int) - 9, "y_train": Y}, "is int64 from -9"),
        ({"x_train": np.stack([X] * 3, axis=1), "y_train": Y}, "channels first"),
        ({"x_train": X, "y_train": Y[:3]}, "40 images but 3 labels"),
        ({"x_train": X, "y_train": np.arange(40) % 3 - 1}, "has the label -1, outside"),
        (
            {"x_train": X, "y_train": Y + 5, "class_names": np.array(["a", "b"])},
            "has the label 5, outside the 2 classes",
        ),
        ({"x_train": X, "y_train": Y / 2}, "Labels are float64"),
        ({"x_train": X, "y_train": np.eye(2, dtype=int)[Y]}, "of shape (40, 2)"),
        ({"x_train": X.astype("U"), "y_train": Y}, "is <U"),
        ({"x_train": np.array(3), "y_train": Y}, "has the shape ()"),
        ({"x_train": X, "y_train": Y, "class_names": np.array("ab")}, "class_names is <U2 of shape ()"),
    ],
)
def test_arrays_that_are_no_data_set(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError) as error:
        pbl.load_data(tmp_path / "a.npz")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_arrays_in_the_layout_of_keras(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        x_train=X,
        y_train=Y[:, None],
        x_test=X[:6],
        y_test=Y[:6],
        class_names=np.array(["犬".encode(), "猫".encode()]),
    )
    data = pbl.load_data(tmp_path / "a.npz")
    assert data.class_names == ["犬", "猫"] and data.split["images"] == {"train": 36, "val": 4}
    np.testing.assert_array_equal(data.images("test").pixels[..., 0], X[:6])


@pytest.mark.slow
def test_damaged_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:1000])
    with pytest.raises(InputError, match=r"is not an \.npz file, or it is damaged"):
        npz_arrays(tmp_path / "a.npz")
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x_train.npy", "w", force_zip64=True) as stream,
    ):
        for _ in range(300):
            stream.write(bytes(2**24))
    with pytest.raises(InputError, match="over 100 times its own size"):
        npz_arrays(tmp_path / "bomb.npz")


@pytest.mark.parametrize("memory_budget", [4.0, 1e-6])
def test_decoded_images_are_kept_and_read_again_only_where_they_are_the_same(
    tmp_path, monkeypatch, capsys, memory_budget
):
    """In memory or on the disk: the same batches; never those of files that have changed, or of a damaged cache."""
    monkeypatch.setattr(store, "KEPT_FROM", -1)
    folder = write(tmp_path / "folder", tree("cat", "dog", images=30))
    settings = {"image_size": 8, "channels": 3, "memory_budget": memory_budget}
    first = pbl.load_data(folder, **settings)
    assert isinstance(first.images("train").store, np.memmap) == (memory_budget < 1)
    (cached,) = cache_folder().glob("*.pixels")
    before = cached.stat().st_mtime_ns

    with monkeypatch.context() as blind:
        blind.setattr(store, "open_picture", lambda *_: pytest.fail("decoded again"))
        again = pbl.load_data(folder, **settings)
    assert cached.stat().st_mtime_ns == before and again.split == first.split
    assert again.fingerprint == first.fingerprint
    for one, other in zip(again.batches("train"), first.batches("train"), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    expected = first.images("test").pixels
    for damage in (  # half of it zeros; one bit; cut off
        lambda content: content[: len(content) // 2].ljust(len(content), b"\0"),
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:100],
    ):
        for file in (cached, cached.with_suffix(".npz")):
            whole = file.read_bytes()
            file.write_bytes(damage(whole))
            mended = pbl.load_data(folder, **settings)
            assert mended.fingerprint == first.fingerprint and file.stat().st_size == len(whole)
            np.testing.assert_array_equal(mended.images("test").pixels, expected)
    write(folder, {"cat/0.png": picture(999)})  # another picture of the same size
    changed = pbl.load_data(folder, **settings)
    assert changed.split["hashes"] != first.split["hashes"]
    assert list(cache_folder().glob("*.pixels")) == [cached] and not list(cache_folder().glob(".writing*"))

    class Full:
        free = 0

    shutil.rmtree(cache_folder())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Full)
    if memory_budget > 1:
        assert pbl.load_data(folder, **settings).split == changed.split
        assert "not kept in the cache" in capsys.readouterr().out


def test_what_the_hash_is_of(tmp_path):
    """Of the complete image, upright, before it is resized: the reference is computed by NumPy and Pillow, each image at once."""
    exif = Image.Exif()
    exif[0x0112] = 6
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8))
    folder = tmp_path / "folder"
    for name, picture_, options in (
        ("cat/turned.jpg", large, {"exif": exif}),
        ("cat/grey.png", large.convert("L"), {}),
        ("cat/palette.gif", large.convert("P"), {}),
        ("dog/small.png", large.resize((64, 48)), {}),
        ("dog/large.png", large, {}),
        ("dog/other.jpg", large.transpose(Image.Transpose.ROTATE_90), {}),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture_.save(folder / name, **options)
    images = pbl.load_data(folder, image_size=(48, 64), channels=3).everything
    for at, name in enumerate(images.names):
        with Image.open(folder / name) as opened:
            upright = ImageOps.exif_transpose(opened)
            pixels = np.asarray(upright.convert("L" if upright.mode == "L" else "RGB"))
            fitted = ImageOps.fit(Image.fromarray(pixels).convert("RGB"), (64, 48), Image.Resampling.BILINEAR)
        shape = (*pixels.shape[:2], 1 if pixels.ndim == 2 else 3)
        assert images.hashes[at] == hashlib.sha256(str(shape).encode() + pixels.tobytes()).hexdigest(), name
        np.testing.assert_array_equal(images.pixels[at], np.asarray(fitted), err_msg=name)
        assert tuple(images.shapes[at]) == shape


def test_memory_that_does_not_do_is_no_fault_of_an_image(tmp_path, monkeypatch):
    """However Pillow reports it, and even if broken images are skipped: no image is left out for it."""
    folder = write(tmp_path / "folder", tree("cat", "dog", images=5))
    for error in (MemoryError(), OSError("out of memory error when reading image file")):
        with monkeypatch.context() as failing:
            failing.setattr(ImageFile.ImageFile, "load", lambda self, error=error: (_ for _ in ()).throw(error))
            with pytest.raises(InputError, match=r"not enough memory to decode cat/0.png. Close"):
                pbl.load_data(folder, image_size=8, on_bad_image="skip")
            with pytest.raises(MemoryError):
                pbl.data.decode_image((folder / "cat/0.png").read_bytes(), "0.png")


def test_an_image_of_absurd_size_costs_nothing(tmp_path):
    """An image of 169 million pixels in half a megabyte is refused by its header; within the limit all images are read."""
    folder = write(tmp_path / "folder", tree("cat", "dog", images=3))
    head = struct.pack(">2I5B", 13_000, 13_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (folder / "cat/huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT\x35\xaf\x06\x1e")
    with pytest.raises(
        InputError, match=r"huge.png has 169 million pixels, and at most 100 million are read. Make it smaller"
    ):
        pbl.load_data(folder, image_size=8)


def test_what_is_in_work_is_bounded():
    """Threads together never take more memory than the limit; a thread that wants more than all runs alone."""
    room, taken, most = store._Room(100), [0], [0]

    def work(wanted):
        with room.taken(wanted):
            taken[0] += min(wanted, 100)
            most[0] = max(most[0], taken[0])
            time.sleep(0.002)
            taken[0] -= min(wanted, 100)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, [30, 60, 500, 20, 20, 20, 100, 50] * 5))
    assert 0 < most[0] <= 100 and room._free == 100


@pytest.mark.nightly
def test_mnist_in_four_forms(shared_data, tmp_path):
    """TensorFlow Datasets, npz, a folder of PNG files and a zip of it: identical pixels, hashes and split."""
    with np.load(shared_data / "mnist.npz") as arrays:
        for split in ("train", "test"):
            for digit in range(10):
                (tmp_path / "mnist" / split / str(digit)).mkdir(parents=True)
            for number, (image, label) in enumerate(zip(arrays[f"x_{split}"], arrays[f"y_{split}"], strict=True)):
                Image.fromarray(image).save(
                    tmp_path / "mnist" / split / str(label) / f"{number:05}.png", compress_level=1
                )
    with zipfile.ZipFile(tmp_path / "mnist.zip", "w") as archive:
        for file in (tmp_path / "mnist").rglob("*.png"):
            archive.write(file, file.relative_to(tmp_path))
    forms = [
        pbl.load_data("mnist", data_dir=str(shared_data / "tfds")),
        *(pbl.load_data(path) for path in (shared_data / "mnist.npz", tmp_path / "mnist", tmp_path / "mnist.zip")),
    ]
    first = forms[0]
    assert first.split["images"] == {"train": 54_001, "val": 5_999}
    for split in ("train", "val", "test"):
        of_hash = dict(zip(first.images(split).hashes, first.images(split).pixels, strict=True))
        for other in forms[1:]:
            images = other.images(split)
            assert sorted(images.hashes) == sorted(first.images(split).hashes)
            assert all(
                np.array_equal(of_hash[content], pixels)
                for content, pixels in zip(images.hashes, images.pixels, strict=True)
            )
    assert len({str(form.split["hashes"]) for form in forms}) == 1


@pytest.mark.nightly
def test_cifar10_from_the_zip_and_unpacked(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data / "cifar10.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    zipped, unpacked = pbl.load_data(shared_data / "cifar10.zip"), pbl.load_data(tmp_path / "unpacked")
    assert {**zipped.split, "source": ""} == {**unpacked.split, "source": ""}
    assert zipped.split["images"] == {"train": 45_000, "val": 5_000} and zipped.class_names[0] == "airplane"
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(zipped.images(split).pixels, unpacked.images(split).pixels)
    assert zipped.images("test").hashes == unpacked.images("test").hashes and len(zipped.images("test").names) == 10_000
