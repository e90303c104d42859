import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import pbl
from pbl.data import DATASETS, Source, decode_image, fit_image, from_arrays, hash_image, hold_out, read_image
from pbl.errors import InputError


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GRADIENT = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
COLOUR = np.stack([GRADIENT, GRADIENT[::-1], GRADIENT[:, ::-1]], axis=-1)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
HALF = np.dstack([COLOUR, np.where(np.arange(20) < 10, 0, 255) * np.ones((12, 1))]).astype(np.uint8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encode(Image.fromarray(GRADIENT), "PNG"), GRADIENT[..., None]),
        (encode(Image.fromarray(COLOUR), "PNG"), COLOUR),
        (encode(Image.fromarray(COLOUR), "BMP"), COLOUR),
        (encode(Image.fromarray(COLOUR), "TIFF"), COLOUR),
        (encode(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR),
        (encode(Image.fromarray(COLOUR), "PPM"), COLOUR),
        (b"P5 20 12 65535 " + (GRADIENT.astype(">u2") * 257).tobytes(), GRADIENT[..., None]),
        (encode(Image.fromarray(GRADIENT > 99), "PNG"), ((GRADIENT > 99) * 255)[..., None]),
        (encode(Image.fromarray(GRADIENT.astype(np.uint16) * 257), "PNG"), GRADIENT[..., None]),
        (
            encode(Image.fromarray(COLOUR).quantize(256), "PNG"),
            np.asarray(Image.fromarray(COLOUR).quantize(256).convert("RGB")),
        ),
        (encode(Image.fromarray(COLOUR), "PNG", exif=ROTATED), np.rot90(COLOUR, -1)),
        (encode(Image.fromarray(HALF), "PNG"), np.where((np.arange(20) < 10)[:, None], 255, COLOUR)),
        (encode(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), COLOUR),
        (
            encode(Image.fromarray(GRADIENT), "GIF", save_all=True, append_images=[Image.fromarray(255 - GRADIENT)]),
            None,
        ),
    ],
    ids="grey colour bmp tiff webp ppm pgm-sixteen-bit one-bit sixteen-bit palette exif transparent cmyk animated".split(),
)
def test_every_kind_of_image(content, expected):
    image = decode_image(content, "it")
    assert image.dtype == np.uint8 and image.ndim == 3
    if expected is None:  # an animation: its first frame, grey or with a palette of greys
        np.testing.assert_array_equal(image, np.broadcast_to(GRADIENT[..., None], image.shape))
    else:
        np.testing.assert_array_equal(image, expected)


def chunk(kind: bytes, body: bytes, checksum: bytes | None = None) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + (checksum or struct.pack(">I", zlib.crc32(kind + body)))


def with_damaged_metadata() -> dict[str, tuple[bytes, bool]]:
    """Image files whose pixels are complete; and whether they are turned by an orientation that can be read."""
    png, jpeg = (encode(Image.fromarray(COLOUR), kind) for kind in ("PNG", "JPEG"))
    tags = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + struct.pack("<HHII", 0x11A, 10, 1, 38)  # XResolution -1/0
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + struct.pack("<I", 0) + struct.pack("<ii", -1, 0)

    def segment(kind: bytes, body: bytes) -> bytes:
        return jpeg[:2] + b"\xff" + kind + struct.pack(">H", len(body) + 2) + body + jpeg[2:]

    return {
        "exif rational": (segment(b"\xe1", exif), True),
        "exif cut off": (segment(b"\xe1", b"Exif\0\0II"), False),
        "icc profile": (segment(b"\xe2", b"ICC_PROFILE\0"), False),
        "photoshop": (segment(b"\xed", b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\xff\xff"), False),
        "png exif": (png[:33] + chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03") + png[33:], False),
        "png exif in hex": (png[:33] + chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 20\nzzzz")) + png[33:], False),
        "png long comment": (png[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3_000_000)) + png[33:], False),
        "png wrong checksum": (png[:33] + chunk(b"tEXt", b"a\0b", bytes(4)) + png[33:], False),
        "png orientation beside a wrong checksum": (png[:33] + chunk(b"eXIf", exif[6:]) + chunk(b"tEXt", b"a\0b", bytes(4)) + png[33:], True),
        "png profile": (png[:33] + chunk(b"iCCP", b"x\0\0zzz") + png[33:], False),
    }  # fmt: skip


@pytest.mark.parametrize("name", with_damaged_metadata())
def test_damaged_metadata_are_no_damaged_image(name):
    content, is_turned = with_damaged_metadata()[name]
    plain = decode_image(encode(Image.fromarray(COLOUR), "PNG" if name.startswith("png") else "JPEG"), "it")
    np.testing.assert_array_equal(decode_image(content, "it"), np.rot90(plain, -1) if is_turned else plain)


def test_images_with_damaged_metadata_are_noted():
    contents = [encode(Image.fromarray(np.roll(COLOUR, n, 0)), "PNG") for n in range(40)]
    contents[3] = contents[3][:33] + chunk(b"tEXt", b"a\0b", bytes(4)) + contents[3][33:]
    data = pbl.load_data(Source(["a", "b"], lambda: ((content, n % 2, f"{n}") for n, content in enumerate(contents))))
    (finding,) = (finding for finding in data.check("train", "val", fast=True) if finding.check == "damaged_metadata")
    assert finding.severity == "note" and finding.items == ["3"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "not an image"),
        (encode(Image.fromarray(COLOUR), "JPEG")[:300], "cannot be decoded"),
        (encode(Image.fromarray(COLOUR), "PNG")[:60], "cannot be decoded"),
        (encode(Image.fromarray(COLOUR[..., 0].astype(np.int32)), "TIFF"), "32 bits a pixel"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0", "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # never passed to another program
        (encode(Image.fromarray(GRADIENT), "PPM").replace(b"20 12", b"20000 20000"), "million pixels"),
    ],
)
def test_broken_images_have_one_line_with_their_name(tmp_path, content, said):
    (tmp_path / "it.jpg").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_image(tmp_path / "it.jpg")
    assert said in str(error.value) and "it.jpg" in str(error.value) and "\n" not in str(error.value)


def test_fit_image():
    assert fit_image(COLOUR, (12, 20), 3) is COLOUR
    assert fit_image(COLOUR, (6, 6), 1).shape == (6, 6, 1)
    stripes = np.zeros((10, 30, 1), np.uint8)
    stripes[:, 10:20] = 255
    assert fit_image(stripes, (10, 10), 1, "crop").min() == 255  # the middle
    padded = fit_image(stripes, (30, 30), 3, "pad")
    assert padded.shape == (30, 30, 3) and padded[15, 15].min() == 255 and padded[2].max() == 0
    assert fit_image(stripes, (10, 10), 1, "stretch").reshape(10, 10)[0, [0, 5, 9]].tolist() == [0, 255, 0]
    # Antialiased: a fine checkerboard becomes grey, not a moiré of black and white.
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None]
    assert abs(fit_image(board, (8, 8), 1).astype(int) - 127).max() <= 3


def test_split_is_stratified_and_depends_on_content_alone():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [100, 60, 5])
    hashes = [hash_image(image) for image in random.integers(0, 256, (165, 4, 4, 1), np.uint8)]
    held = hold_out(hashes, labels, 0.3, 0, "test")
    assert np.bincount(labels[held]).tolist() == [30, 18, 2]

    order = random.permutation(165)
    again = hold_out([hashes[i] for i in order], labels[order], 0.3, 0, "test")
    np.testing.assert_array_equal(again, held[order])
    assert (hold_out(hashes, labels, 0.3, 1, "test") != held).any()
    # One image more moves at most one or two others.
    more = hold_out([*hashes, "f" * 64], np.append(labels, 0), 0.3, 0, "test")
    assert (more[:-1] != held).sum() <= 2


def test_copies_stay_on_one_side():
    random = np.random.default_rng(0)
    unique = random.integers(0, 256, (60, 4, 4), np.uint8)
    images = np.concatenate([unique, unique[:30], unique[:20]])
    labels = np.concatenate([np.arange(60) % 2, np.arange(30) % 2, (np.arange(20) + 1) % 2])  # some with another label
    data = pbl.load_data(from_arrays(images, labels))
    sides = [set(data.images(split).hashes) for split in ("train", "val", "test")]
    assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(data.split["images"].values()) == 110


def test_a_large_group_of_copies_does_not_upset_the_shares():
    hashes = ["copy"] * 50 + [f"{number:02d}" for number in range(50)]
    for seed in range(6):
        assert hold_out(hashes, np.zeros(100, int), 0.3, seed, "test").sum() == 30
    assert hold_out(["a"] * 3 + ["b"] * 3, np.zeros(6, int), 0.3, 0, "test").sum() == 3  # only copies


def test_digits():
    data = pbl.load_data("digits", batch_size=100)
    assert data.input_shape == (8, 8, 1) and data.num_classes == 10 and data.class_names[7] == "7"
    assert data.split["images"] == {"train": 1069, "val": 189, "test": 539}  # 30% and 15% of the rest, by class
    images, labels = next(iter(data.train))
    assert images.dtype == tf.uint8 and images.shape == (100, 8, 8, 1) and labels.dtype == tf.int32
    pixels = data.images("train").pixels
    assert pixels.min() == 0 and pixels.max() == 255 and len(np.unique(pixels)) == 17
    assert len(data.train) == 11


def test_train_is_shuffled_anew_by_its_seed_and_val_is_not():
    def orders(seed: int) -> list[list[int]]:
        data = pbl.load_data("digits", seed=seed)
        return [[*np.concatenate([y for _, y in data.train])] for _ in range(2)] + [
            [*np.concatenate([y for _, y in data.val])]
        ]

    first = orders(0)
    tf.random.set_seed(7)  # the order comes from the data: TensorFlow's global seed has no effect on it
    again, other = orders(0), orders(1)
    assert first == again
    assert first[0] != first[1] and sorted(first[0]) == sorted(first[1])
    assert first[0] != other[0] and first[2] == other[2]


def test_one_hot_labels():
    data = pbl.load_data("digits", labels="one_hot")
    _, labels = next(iter(data.val))
    assert labels.dtype == tf.float32 and labels.shape[1] == 10
    np.testing.assert_array_equal(np.argmax(labels, axis=1), data.images("val").labels[:64])


def test_an_official_test_split_is_kept_and_read_only_when_asked_for():
    images = np.random.default_rng(0).integers(0, 256, (100, 6, 5, 3), np.uint8)
    source = from_arrays(images[:80], np.arange(80) % 2, ["cat", "dog"], test=(images[80:], np.arange(20) % 2))
    reads = []
    watched = pbl.data.Source(source.class_names, source.train, lambda: (reads.append(1), source.test())[1])
    data = pbl.load_data(watched, image_size=8, channels=1)
    assert data.split["images"] == {"train": 72, "val": 8} and not reads  # validation is 10% of train
    assert data.images("test").pixels.shape == (20, 8, 8, 1) and reads == [1]


def zeros(n: int, *shape: int) -> np.ndarray:
    return np.zeros((n, *(shape or (8, 8))), np.uint8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: from_arrays(np.zeros((4, 8, 8)), [0, 1, 0, 1]), "Image train/0 of 'source' is float64 from 0 to 0"),
        (lambda: from_arrays(zeros(4), [0, 1, 0]), "4 images but 3 labels"),
        (lambda: from_arrays(zeros(4, 8, 8, 2), [0, 1, 0, 1]), "has the shape (8, 8, 2)"),
        (lambda: from_arrays(zeros(4, 0, 8), [0, 1, 0, 1]), "has the shape (0, 8, 1)"),
        (lambda: from_arrays(zeros(2), [0, 5], ["a", "b"]), "the label 5, outside the 2 classes, 0 to 1"),
        (lambda: from_arrays(zeros(2), [0.5, 1.0], ["a", "b"]), "Labels are float64"),
        (lambda: from_arrays(zeros(2), ["a", "b"], ["a", "b"]), "Labels are <U1"),
        (lambda: from_arrays(zeros(2), [0, 0]), "has 1 class(es)"),
        (lambda: from_arrays(zeros(0), []), "has 0 class(es)"),
        (lambda: from_arrays(zeros(2), [0, 1], ["a", "a"]), "two classes have the same name: a"),
        (lambda: from_arrays(zeros(2), [0, 1], [0, 1]), "class names are words"),
        (lambda: from_arrays(zeros(2), [0, 1], "ab"), "class_names is one word"),
        (lambda: from_arrays([GRADIENT, GRADIENT[:5]], [0, 1]), "Give image_size"),
        (lambda: from_arrays([GRADIENT, COLOUR], [0, 1]), "contains both grey and colour"),
        (lambda: from_arrays(zeros(2), [0, 1]), "too small"),
        (
            lambda: pbl.data.Source(["a", "b"], lambda: [(GRADIENT[..., None], 0)]),
            "gives 2 values. An example is a tuple",
        ),
        (lambda: 3, "is a int. Give a name, a path, or what pbl.data.from_arrays"),
    ],
)
def test_wrong_arrays(make, said):
    with pytest.raises(InputError) as error:
        source = make()
        pbl.load_data(source)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"validation_fraction": 2}, "validation_fraction=2"),
        ({"validation_fraction": 0}, "validation_fraction=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"image_size": (8, 8, 1)}, "image_size=(8, 8, 1)"),
        ({"image_size": 0}, "image_size=0"),
        ({"channels": 2}, "channels=2"),
        ({"fit": "zoom"}, "fit='zoom'"),
        ({"labels": "onehot"}, "Valid: int, one_hot"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(InputError) as error:
        pbl.load_data("digits", **options)
    assert said in str(error.value)


def test_a_function_that_returns_no_source(monkeypatch):
    monkeypatch.setitem(DATASETS, "mine", lambda: (1, 2))
    with pytest.raises(InputError, match=r"returned a tuple. Return pbl.data.from_arrays"):
        pbl.load_data("mine")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("photos.zip", "No file photos.zip"),
        ("../photos", "No folder ../photos"),
        ("mnistt", "Did you mean 'mnist'?"),
        ("name", "called 'name'. Valid: digits"),
        ("mnist:9.9.9", "only: 3.0.1"),
        ("imdb_reviews", "not for image classification"),
        ("fashion_mnist", "there is no network"),
    ],
)
def test_tensorflow_datasets_that_cannot_be_had(name, said, tmp_path, monkeypatch):
    monkeypatch.setattr("pbl.data.catalogue._has_network", lambda: False)
    with pytest.raises(InputError) as error:
        pbl.load_data(name, data_dir=str(tmp_path))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_folder_of_the_same_name_hides_no_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    monkeypatch.setattr("pbl.data.catalogue._has_network", lambda: False)
    with pytest.raises(InputError, match="there is no network"):
        pbl.load_data("mnist", data_dir=str(tmp_path / "empty"))


@pytest.mark.slow
def test_mnist(shared_data, monkeypatch, tmp_path):
    monkeypatch.setenv("PBL_CACHE", str(tmp_path))
    monkeypatch.setattr("pbl.data.store.KEPT_FROM", -1)  # a fast machine decodes the test set in less than a second
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_data / "tfds"))  # after tensorflow_datasets may have been imported
    data = pbl.load_data("mnist")
    # 10% of each class, rounded by class
    assert data.split["images"] == {"train": 54_001, "val": 5_999} and data.input_shape == (28, 28, 1)
    with np.load(shared_data / "mnist.npz") as arrays:
        official = {hash_image(image[..., None]) for image in arrays["x_train"]}
        np.testing.assert_array_equal(data.images("test").pixels[..., 0], arrays["x_test"])
        np.testing.assert_array_equal(data.images("test").labels, arrays["y_test"])
    assert official == {*data.images("train").hashes, *data.images("val").hashes}

    def decode_again(self):
        raise AssertionError(f"{self.place} is decoded again")

    # The images were decoded into the cache, from where the next start takes them.
    monkeypatch.setattr("pbl.data.catalogue._Prepared.__iter__", decode_again)
    again = pbl.load_data("mnist")
    for split in ("train", "val", "test"):
        assert (
            again.images(split).hashes == data.images(split).hashes
            and again.images(split).names == data.images(split).names
        )
        np.testing.assert_array_equal(again.images(split).pixels[:9], data.images(split).pixels[:9])
