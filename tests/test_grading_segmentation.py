"""Hidden sets, submissions and the grading of a class in segmentation: masks in a zip, from honest and hostile teams, and their Dice."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import pbl
from pbl.errors import InputError
from pbl.evaluation.segmentation import average_classes
from pbl.grading import Rubric, grade
from pbl.grading.hidden import open_hidden, open_labels
from pbl.grading.holdout import make_holdout
from pbl.grading.mask_files import read_masks
from pbl.grading.outcomes import explain
from pbl.grading.packing import encode_mask, write_masks, write_predictions
from pbl.grading.references import make_references
from pbl.grading.refusals import Refusal
from pbl.grading.sandbox import FULL, find_layers
from pbl.grading.segmentation import are_dice_tied, find_mask_flags, score_masks, split_masks
from pbl.grading.submission import check_submission, submit

needs_isolation = pytest.mark.skipif(
    any(find_layers()[layer] for layer in FULL), reason="this machine's kernel has no Landlock or no seccomp filters"
)

# --- The score


def draw(seed: int, classes: int, images: int = 9) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """True and predicted masks, of several sizes, empty ones among them."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        shape = tuple(random.integers(4, 12, 2))
        true = np.where(random.random(shape) < random.choice([0, 0.3, 0.7]), random.integers(0, classes, shape), 0)
        wrong = random.random(shape) < random.choice([0, 0.2, 0.6])
        truth.append(true.astype(np.uint8))
        found.append(np.where(wrong, random.integers(0, classes, shape), true).astype(np.uint8))
    return truth, found


def judge_by_hand(truth, found, classes: int, groups) -> tuple[dict[int, list[float]], float | None]:
    """For each existing class, the Dice of the images, or groups, that have it; and the share of images that are falsely marked."""
    values, lacking, false = {}, 0, 0
    for number in range(1, classes):
        by_unit: dict[object, list[float]] = {}
        for at, (true, mask) in enumerate(zip(truth, found, strict=True)):
            a, b = {tuple(place) for place in np.argwhere(true == number)}, {tuple(place) for place in np.argwhere(mask == number)}  # fmt: skip
            if a:
                by_unit.setdefault(at if groups is None else groups[at], []).append(2 * len(a & b) / (len(a) + len(b)))
        if by_unit:
            values[number] = [sum(of) / len(of) for of in by_unit.values()]
    for true, mask in zip(truth, found, strict=True):
        absent = set(range(1, classes)) - set(true.ravel().tolist())
        lacking += bool(absent)
        false += bool(absent & set(mask.ravel().tolist()))
    return values, false / lacking if lacking else None


@pytest.mark.parametrize("seed", range(40))
def test_masks_are_scored_as_a_reference_scores_them(seed):
    classes = 2 + seed % 4
    truth, found = draw(seed, classes)
    groups = None if seed % 3 else [f"p{at // 2}" for at in range(len(truth))]
    names = [f"c{number}" for number in range(classes)]
    values, false = judge_by_hand(truth, found, classes, groups)
    metrics = score_masks(found, truth, names, groups).metrics
    assert metrics["dice"] == pytest.approx(np.mean([np.mean(of) for of in values.values()]))
    assert metrics["false_images"] == (None if false is None else pytest.approx(false))
    for number, of in enumerate(metrics["classes"], 1):
        assert of["dice"] == (pytest.approx(np.mean(values[number])) if number in values else None)
        assert of["images"] == sum(bool((true == number).any()) for true in truth) == len(truth) - of["empty_images"]
    if (
        len(values) == 1 and len(one := next(iter(values.values()))) > 1 and np.std(one)
    ):  # with one class the textbook's interval
        low, high = stats.t.interval(0.95, len(one) - 1, np.mean(one), stats.sem(one))
        assert metrics["dice_interval"] == pytest.approx([max(0, low), min(1, high)])


@pytest.mark.parametrize(("classes", "share"), [(1, 1.0), (2, 0.5), (4, 0.3)])
def test_intervals_hold_the_truth_as_often_as_they_say(classes, share):
    """500 samples of 60 images from a known population, not all of which have each class; and they are as wide as a bootstrap's."""
    random = np.random.default_rng(classes)
    centres = np.linspace(0.4, 0.8, classes)

    def sample(images: int) -> np.ndarray:
        table = (centres + random.normal(0, 0.1, (images, 1)) + random.normal(0, 0.1, (images, classes))).clip(0, 1)
        return np.where(random.random(table.shape) < share, table, np.nan)

    true = np.nanmean(sample(400_000), axis=0).mean()
    means = [average_classes(sample(60)) for _ in range(500)]
    assert 0.925 < np.mean([mean.low <= true <= mean.high for mean in means]) < 0.975
    one = sample(60)
    drawn = [np.nanmean(one[random.integers(0, 60, 60)], axis=0).mean() for _ in range(2000)]
    mean = average_classes(one)
    assert mean.value == pytest.approx(np.nanmean(one, axis=0).mean())
    assert mean.high - mean.low == pytest.approx(np.subtract(*np.percentile(drawn, [97.5, 2.5])), rel=0.15)


def test_one_image_says_nothing_of_others():
    mean = average_classes(np.array([[0.8, np.nan], [np.nan, np.nan]]))
    assert (mean.value, mean.low, mean.high) == (0.8, -1, 1)


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.03, 0.05, 0.1])
def test_teams_are_tied_as_a_paired_test_ties_them(shift):
    """With one class: Student's test of the pairs. The same images are hard for both teams, so unpaired intervals would tie all of them."""
    random = np.random.default_rng(3)
    hard = random.normal(0.7, 0.1, 40)
    scored = [
        pbl.grading.judge.Scored({}, np.zeros(0), (hard + random.normal(add, 0.03, 40)).clip(0, 1)[:, None])
        for add in (shift, 0)
    ]
    p = stats.ttest_rel(scored[0].scores, scored[1].scores).pvalue[0]
    assert are_dice_tied(*scored, np.zeros(0)) == (p > 0.05) == (shift < 0.03)
    assert are_dice_tied(scored[0], scored[0], np.zeros(0))


def test_flags_of_masks():
    truth, found = draw(1, 3, 30)
    names = ["background", "a", "b"]
    size = [np.zeros((8, 9), np.uint8) for _ in range(4)]
    mark = size[0].copy()
    mark[2:5, 3:7] = 1
    expected = {
        "all_background": ([mark] * 4, size),
        "constant_predictions": ([mark.T.copy(), size[0], mark, 2 * mark], [mark.T.copy(), mark, mark, mark]),
        "above_ceiling": ([mark, size[0], 2 * mark], [mark, size[0], 2 * mark]),
        "": (truth, found),
    }
    for flag, (true, masks) in expected.items():
        assert find_mask_flags(score_masks(masks, true, names), masks, 0.999) == ([flag] if flag else []), flag


# --- The submission

IDS, SIZES = ["a1c", "b2c", "c3c"], [(6, 8), (5, 5), (40, 70)]
NAMES = ["background", "disc", "square"]


def make_masks(classes: int = 3, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, classes, size, np.uint8) for size in SIZES]


def save(mask: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def by_hand(width: int, height: int, pixels: bytes, depth: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """A PNG written by hand, whose header may claim more than its pixels contain."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")  # fmt: skip


def put(file: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file


def in_bits(mask: np.ndarray, bits: int) -> bytes:
    """A grey PNG with `bits` bits for each pixel, written by hand."""
    rows = [np.array([[value >> at & 1 for at in range(bits - 1, -1, -1)] for value in row]).ravel() for row in mask]
    return by_hand(mask.shape[1], mask.shape[0], b"".join(b"\0" + np.packbits(row).tobytes() for row in rows), bits)


FORMS: list[tuple[str, int, Callable[[np.ndarray], bytes], str]] = [
    ("grey", 3, encode_mask, "masks/{}.png"),
    ("in no folder, in capitals", 3, encode_mask, "{}.PNG"),
    ("as predict calls them", 3, encode_mask, "out/{}_mask.png"),
    ("0 and 255", 2, lambda mask: save(mask * 255), "{}.png"),
    ("one bit", 2, lambda mask: save(Image.fromarray(mask * 255).convert("1")), "{}.png"),
    ("one bit by hand", 2, lambda mask: in_bits(mask, 1), "{}.png"),
    ("two bits", 3, lambda mask: in_bits(mask, 2), "{}.png"),
    ("four bits", 3, lambda mask: in_bits(mask, 4), "{}.png"),
    ("with a comment", 3, lambda mask: save(mask, dpi=(72, 72), exif=Image.Exif().tobytes()), "{}.png"),
]


@pytest.mark.parametrize(("classes", "make", "name"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_masks_with_one_reading_are_read(tmp_path, classes, make, name):
    masks = make_masks(classes)
    contents = {name.format(key): make(mask) for key, mask in reversed(list(zip(IDS, masks, strict=True)))}
    noise = {"README.txt": b"hello", "__MACOSX/._a1c.png": b"x", ".DS_Store": b"x"}
    if "_mask" in name:
        noise["out/a1c.png"] = save(np.zeros((300, 300, 3), np.uint8))  # the picture next to it
    result = read_masks(put(tmp_path / "a.zip", contents | noise), IDS, SIZES, classes)
    assert result.dtype == np.uint8
    for found, mask in zip(split_masks(result, SIZES), masks, strict=True):
        assert (found == mask).all()


@pytest.mark.nightly
def test_class_names_in_another_order_are_put_in_order(tmp_path):
    """A run whose classes have other numbers says so in `submission.json`."""
    masks = make_masks()
    told = ["square", "background", "disc"]  # 0, 1, 2 of the team
    of_team = [np.choose(mask, [1, 2, 0]).astype(np.uint8) for mask in masks]
    file = write_masks(tmp_path / "a.zip", "team", told, IDS, of_team)
    left = check_submission(file, NAMES, ids=IDS, task="segmentation", sizes=SIZES)
    assert left.reason == "ok" and (left.result == np.concatenate([mask.ravel() for mask in masks])).all()
    write_masks(file, "team", ["background", "disc", "triangle"], IDS, masks)
    assert check_submission(file, NAMES, ids=IDS, task="segmentation", sizes=SIZES).reason == "class_names"


Contents = dict[str, bytes]
Case = tuple[Callable[[Contents], Contents], str, dict[str, object]]


def make_hostile(key: str, size: tuple[int, int]) -> dict[str, Case]:
    """Possible faults of the mask of one image with three classes: the changed content of the zip, the reason of the refusal ("":
    it is not refused), and values of the sentence."""
    name, (height, width) = f"masks/{key}.png", size
    mask = np.random.default_rng(1).integers(0, 3, size, np.uint8)
    whole, row, own, jpeg = encode_mask(mask), bytes(1 + width), f"{width} x {height}", f"masks/{key}.jpg"
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50 * 10**6)))
    moved = save(Image.fromarray(mask), save_all=True, append_images=[Image.fromarray(mask * 0)])

    def put_in(content: bytes | None, called: str = name) -> Callable[[Contents], Contents]:
        """Puts other bytes there, or uses another name; None leaves it out."""
        return lambda of: (
            {at: kept for at, kept in of.items() if at != name} | ({called: content} if content is not None else {})
        )

    def layers(count: int) -> bytes:
        return save(np.stack([mask] * count, axis=-1))

    return {
        "a bomb": (put_in(by_hand(60_000, 60_000, bytes(10**6))), "mask_size", {"found": "60000 x 60000", "expected": own}),
        "a bomb of the right size": (put_in(by_hand(width, height, bytes(20 * 10**6))), "", {}),
        "a comment that is a bomb": (put_in(by_hand(width, height, row * height, extra=bomb)), "damaged", {"file": name}),
        "16 bits": (put_in(save(mask.astype(np.uint16))), "mask_form", {"name": name, "found": "I;16B"}),
        "a palette": (put_in(save(Image.fromarray(mask).convert("P"))), "mask_form", {"name": name, "found": "P"}),
        "colours": (put_in(layers(3)), "mask_form", {"name": name, "found": "RGB"}),
        "transparent": (put_in(layers(2)), "mask_form", {"name": name, "found": "LA"}),
        "colours and transparent": (put_in(layers(4)), "mask_form", {"name": name, "found": "RGBA"}),
        "animated": (put_in(moved), "mask_form", {"name": name, "found": "animated"}),
        "cut off": (put_in(whole[: len(whole) // 2]), "damaged", {"file": name}),
        "no head": (put_in(whole[:8]), "damaged", {"file": name}),
        "nothing": (put_in(b""), "mask_form", {"name": name, "found": "no PNG"}),
        "a changed byte": (put_in(whole[:18] + b"\1" + whole[19:]), "damaged", {"file": name}),
        "no pixels": (put_in(by_hand(0, 0, b"")), "damaged", {"file": name}),
        "JPEG": (put_in(save(mask, "JPEG"), jpeg), "mask_form", {"name": jpeg, "found": "no PNG"}),
        "JPEG called PNG": (put_in(save(mask, "JPEG")), "mask_form", {"name": name, "found": "no PNG"}),
        "another size": (put_in(save(mask[1:])), "mask_size", {"name": name, "found": f"{width} x {height - 1}", "expected": own}),
        "no class": (put_in(save(mask * 0 + 3)), "mask_value", {"name": name, "value": 3, "pixels": mask.size, "last": 2}),
        "0 and 255 of three classes": (put_in(save(mask // 2 * 255)), "mask_value", {"name": name, "value": 255}),
        "missing": (put_in(None), "mask_ids", {"missing": 1, "unknown": 0, "twice": 0, "first": f"{key}.png"}),
        "unknown": (put_in(whole, "masks/zzz.png"), "mask_ids", {"missing": 1, "unknown": 1, "first": "masks/zzz.png"}),
        "twice": (lambda of: of | {f"more/{key}.png": whole}, "mask_ids", {"missing": 0, "unknown": 0, "twice": 1}),
        "a name that draws": (put_in(whole, "masks/\u202ex\n\x1b[31m.png"), "mask_ids", {"missing": 1, "unknown": 1}),
        "a path that leads out": (put_in(whole, f"../{name}"), "member_path", {}),
        "an absolute path": (put_in(whole, f"/{name}"), "member_path", {}),
        "a huge file": (put_in(whole + bytes(30 * 10**6)), "mask_large", {"name": name}),
        "many files": (lambda of: of | {f"x/{n}.png": b"" for n in range(4_300)}, "too_many_files", {}),
        "a zip in a zip": (lambda of: {"masks.zip": b"PK"}, "zip_in_zip", {}),
        "no picture": (lambda of: {"README.txt": b"hello"}, "no_submission", {}),
        "a table": (lambda of: {"predictions.csv": b"id,label"}, "masks_needed", {}),
    }  # fmt: skip


HOSTILE = make_hostile(IDS[2], SIZES[2])
OF_MASKS = [
    name for name in HOSTILE if name not in ("a zip in a zip", "no picture", "a table")
]  # other faults are noticed earlier


@pytest.mark.parametrize("name", OF_MASKS)
def test_what_is_hostile_is_refused_by_name(tmp_path, name):
    spoil, reason, fields = HOSTILE[name]
    whole = {f"masks/{key}.png": encode_mask(mask) for key, mask in zip(IDS, make_masks(), strict=True)}
    file = put(tmp_path / "a.zip", spoil(whole))
    if not reason:  # nothing is decoded beyond the pixels that its header declares
        assert (split_masks(read_masks(file, IDS, SIZES, 3), SIZES)[2] == 0).all()
        return
    with pytest.raises(Refusal) as told:
        read_masks(file, IDS, SIZES, 3)
    assert told.value.reason == reason and fields.items() <= told.value.fields.items(), told.value
    assert "?" not in explain(reason, told.value.fields) and explain(reason, told.value.fields).isprintable()


# --- A class


def shapes(count: int = 220, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs and dark squares in noise, on a fifth of the images none."""
    draw = np.random.default_rng(0)
    images, masks = draw.normal(110, 10, (count, side, side)), np.zeros((count, side, side), np.uint8)
    y, x = np.mgrid[:side, :side]
    for at in range(count):
        radius, kind = draw.integers(3, 5), at % 5
        top, left = draw.integers(radius, side - radius, 2)
        inside = (y - top) ** 2 + (x - left) ** 2 <= radius**2
        if kind > 2:
            inside = (abs(y - top) <= radius) & (abs(x - left) <= radius)
        if kind:
            masks[at][inside] = 1 + (kind > 2)
            images[at][inside] += 60 if kind < 3 else -60
    return images.clip(0, 255).astype(np.uint8), masks


@pytest.fixture(scope="module")
def hidden(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("holdout")
    images, masks = shapes()
    np.savez(place / "shapes.npz", x_train=images, m_train=masks, class_names=np.array(NAMES))
    return make_holdout(str(place / "shapes.npz"), out=place / "hidden", fraction=0.3, seed=2, task="segmentation").path


@pytest.fixture(scope="module")
def run(hidden, tmp_path_factory) -> pbl.runs.Run:
    config = pbl.Config(
        task="segmentation", dataset=str(hidden / "public"), model="unet", model_options={"width": 8, "depth": 2},
        epochs=12, learning_rate=0.01, optimizer="adam", batch_size=16, precision="float32",
    )  # fmt: skip
    return pbl.train(config, folder=tmp_path_factory.mktemp("runs"))


def test_a_hidden_set_keeps_its_masks_to_itself(hidden):
    told = open_hidden(hidden)
    images, masks = shapes()
    known = {image.tobytes(): mask for image, mask in zip(images, masks, strict=True)}
    labels = open_labels(told)
    assert (told.task, told.headline, told.class_names, set(told.sizes)) == ("segmentation", "dice", NAMES, {(16, 16)})
    for file, mask in zip(told.files, labels.masks, strict=True):
        assert (mask == known[pbl.data.read_image(file).tobytes()]).all()
    assert not {"masks", "labels", "group"} & set(json.loads((hidden / "hidden.json").read_text()))
    assert not list((hidden / "images").rglob("*mask*")) and oct((hidden / "labels").stat().st_mode)[-3:] == "700"
    for half in (labels.is_public, ~labels.is_public):
        assert set(labels.classes[half].tolist()) == {0, 1, 2}
    public = pbl.load_data(str(hidden / "public"), masks=True)
    assert public.class_names == NAMES and len(told.ids) + sum(public.split["images"].values()) == len(images)
    for part in map(public.images, ("train", "val", "test")):
        assert all((mask == known[image.tobytes()]).all() for image, mask in zip(part.pixels, part.masks, strict=True))


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_folder_of_photographs_with_colours_and_patients(tmp_path, as_zip):
    """JPEG of several sizes, masks of colours, three images for each patient, an official split for validation."""
    random, colours = np.random.default_rng(0), np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    truth = {}
    for number in range(36):
        split, name = "val" if number % 9 == 8 else "train", f"p{number // 3:02d}/{number}"
        size = (20 + number % 2, 24)
        mask = random.integers(0, 3, size).astype(np.uint8) * (number % 4 > 0)
        for kind, content in (("images", save(random.integers(0, 255, (*size, 3), np.uint8), "JPEG")), ("masks", save(colours[mask]))):  # fmt: skip
            file = tmp_path / "photos" / split / kind / f"{name}.{'jpg' if kind == 'images' else 'png'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        truth[pbl.data.read_image(tmp_path / "photos" / split / "images" / f"{name}.jpg").tobytes()] = number // 3, mask
    settings = {"groups": r"p\d+", "fraction": 0.4, "seed": 1, "as_zip": as_zip, "task": "segmentation"}
    made = make_holdout(str(tmp_path / "photos"), out=tmp_path / "out", **settings)
    told = open_hidden(made.path)
    labels = open_labels(told)
    in_order = np.array([0, 2, 1], np.uint8)  # blue comes before red
    of_hidden = [truth[pbl.data.read_image(file).tobytes()] for file in told.files]
    of_hidden = [(patient, in_order[mask]) for patient, mask in of_hidden]
    assert all((mask == known).all() for mask, (_, known) in zip(labels.masks, of_hidden, strict=True))
    assert told.sizes == tuple(mask.shape for _, mask in of_hidden) and told.shape is None
    patients = {patient for patient, _ in of_hidden}
    assert len(set(labels.groups)) == len(patients) and all(
        len({word for word, (patient, _) in zip(labels.groups, of_hidden, strict=True) if patient == one}) == 1
        for one in patients
    )
    source = pbl.data.open_source(str(made.public), has_masks=True)
    assert source.class_names == ["background", "#0000ff", "#ff0000"] and source.val is not None
    for give in (source.train, source.val):
        for content, mask, name in give():
            pixels = pbl.data.decode_image(content, name)
            patient, known = truth[pixels.tobytes()]
            assert patient not in patients and name.endswith(".jpg") and f"p{patient:02d}" in name
            assert (mask.read(name, pixels.shape[:2]) == in_order[known]).all()
    # A zip whose masks are the true ones scores 1, with patients as the unit.
    masks = [known for _, known in of_hidden]
    metrics = score_masks(masks, labels.masks, told.class_names, labels.groups).metrics
    assert metrics["dice"] == 1 and metrics["false_images"] == 0


@pytest.mark.parametrize(
    ("source", "settings", "said"),
    [
        ("digits", {}, "'digits' has classes but no masks"),
        (
            "{}",
            {"normal": ["disc"]},
            "task=segmentation: valid are classification, segmentation, detection, and anomaly with",
        ),
        ("{}", {"task": "anomaly"}, "task=anomaly: valid are"),
        ("{}", {"task": "contrast"}, "task=contrast: valid are"),
        ("{}", {"fraction": 0.02}, "No hidden image would have the class square, so it would not be evaluated"),
    ],
)
def test_a_set_that_cannot_be_judged_is_not_made(tmp_path, source, settings, said):
    images, masks = shapes(60)
    masks[:, :2, :2] = 0
    masks[masks == 2] = 0
    masks[7, 0, 0] = 2  # in a single mask
    for kind, arrays in (("images", images), ("masks", masks)):
        (tmp_path / "in" / kind).mkdir(parents=True)
        for number, array in enumerate(arrays):
            (tmp_path / "in" / kind / f"{number}.png").write_bytes(save(array))
    (tmp_path / "in" / "classes.txt").write_text("\n".join(NAMES))
    with pytest.raises(InputError, match=said):
        make_holdout(
            source.format(tmp_path / "in"), out=tmp_path / "out", seed=0, **{"task": "segmentation", **settings}
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@needs_isolation
def test_a_class_is_graded(run, hidden, tmp_path, command):
    """A run, its copy with some pixels changed, nothing marked, the same for all images, the truth, and a zip with each fault."""
    told, handed_in = open_hidden(hidden), tmp_path / "in"
    labels = open_labels(told)
    handed_in.mkdir()
    for words, said in (
        ({}, "has task=segmentation: hand in masks for the hidden images"),
        ({"predictions": hidden / "images", "out": tmp_path / "folder"}, "masks are handed in as one zip"),
        ({"predictions": tmp_path / "none"}, "give the folder of hidden images"),
    ):
        with pytest.raises(InputError, match=said):
            submit(run, "run", **{"out": tmp_path / "a.zip", **words})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in"]
    written = submit(run, "run", out=handed_in / "run.zip", predictions=hidden / "images")
    assert written.status == "ok" and not written.remarks
    masks = split_masks(read_masks(handed_in / "run.zip", told.ids, told.sizes, 3), told.sizes)
    model, pixels = pbl.load_model(run), np.stack([pbl.data.read_image(file) for file in told.files])
    assert (np.stack(masks) == model.predict(pixels, verbose=0).argmax(axis=-1)).all()

    def write(team: str, of: list[np.ndarray]) -> None:
        write_masks(handed_in / f"{team}.zip", team, NAMES, told.ids, of)

    random = np.random.default_rng(0)
    others = {  # separate teams, each with its own mistakes
        f"other{number}": [np.where(random.random(mask.shape) < 0.1, random.integers(0, 3, mask.shape), mask).astype(np.uint8) for mask in labels.masks]
        for number in range(3)
    }  # fmt: skip
    copied = [mask.copy() for mask in others["other0"]]
    copied[0][:, 0] = 1
    teams = {**others, "copy": copied, "nothing": [mask * 0 for mask in masks], "constant": [labels.masks[0] * 0 + 1] * len(masks), "truth": labels.masks}  # fmt: skip
    for team, of in teams.items():
        write(team, of)
    whole = {f"masks/{key}.png": encode_mask(mask) for key, mask in zip(told.ids, masks, strict=True)}
    hostile = make_hostile(told.ids[0], told.sizes[0])
    for number, (spoil, _, _) in enumerate(hostile.values()):
        put(handed_in / f"fault{number}.zip", spoil(whole))
    write_predictions(handed_in / "table", "table", NAMES, told.ids, np.full((len(masks), 3), 1 / 3, np.float32))
    pbl.grading.write_submission(handed_in / "model", "model", NAMES, model=pbl.models.build("mlp", (16, 16, 1), 3, widths=[8]), builder="mlp", model_options={"widths": [8]})  # fmt: skip
    settings = {"data": hidden, "out": tmp_path / "grades", "language": "ja"}
    rubric = Rubric(bands=[(0.7, 100), (0.3, 30)], levels=[(0.7, "good")])
    graded = {row["team"]: row for row in grade(handed_in, rubric=rubric, **settings)}

    for team, of in {"run": masks, **teams}.items():
        values, false = judge_by_hand(labels.masks, of, 3, None)
        assert graded[team]["dice"] == pytest.approx(np.mean([np.mean(one) for one in values.values()])), team
        assert graded[team]["false_images"] == pytest.approx(false), team
    own = graded["run"]
    assert own["dice_interval"][0] < own["dice"] < own["dice_interval"][1] and own["dice"] > 0.5
    assert own["dice_of"] == {of["name"]: of["dice"] for of in own["classes"]} and "accuracy" not in own
    assert (own["points"], own["level"]) == ((100, "good") if own["dice"] >= 0.7 else (30, None)) and own["flags"] == []
    assert graded["truth"]["flags"] == ["above_ceiling"] and graded["truth"]["tie_group"] == 1
    assert graded["nothing"]["flags"] == ["all_background"] and graded["nothing"]["points"] == 0
    assert graded["constant"]["flags"] == ["constant_predictions"]
    assert graded["run"]["tie_group"] < graded["nothing"]["tie_group"]
    assert any(flag.startswith("agrees_on_errors_with:other0=") for flag in graded["copy"]["flags"])
    assert not graded["other1"]["flags"] and not graded["other2"]["flags"]
    assert graded["table"]["reason"] == graded["model"]["reason"] == "masks_needed"
    for number, (name, (_, reason, fields)) in enumerate(hostile.items()):
        row = graded[f"fault{number}"]
        assert row["reason"] == (reason or "ok") and (row["dice"] is None) == bool(reason), (name, row["message"])
        assert fields.items() <= row["fields"].items() and row["used"]["seconds"] < 10, (name, row["fields"])

    header = (tmp_path / "grades" / "grades.csv").read_text("utf-8-sig").partition("\n")[0]
    assert header.startswith("team,status,dice,dice_low,dice_high,false_images,points") and "dice_of(square)" in header
    page = (tmp_path / "grades" / "summary.html").read_text()
    assert "誤った印" in page and "t 分布" in page and "McNemar" not in page and "AUROC" not in page
    said = {team: (tmp_path / "grades" / "teams" / team / "feedback.md").read_text() for team in graded}
    assert f"Dice 係数：{own['dice']:.4f}" in said["run"] and "| disc |" in said["run"]
    assert "どの画像にも印がありません" in said["nothing"] and "すべての画像のマスクが同じです" in said["constant"]
    assert "正解率" not in "".join(said.values()) and "--predictions IMAGES" in said["table"]

    # Nothing runs again for the leaderboard; if a simple method is as good, a good score is not suspicious; all reach a lower requirement.
    (hidden / "references").mkdir(exist_ok=True)
    (hidden / "references" / "scores.json").write_text('{"brightness": 1.0}')
    public = {row["team"]: row for row in grade(tmp_path / "grades", phase="score", half="public", **settings)}
    places = np.flatnonzero(labels.is_public)
    values, _ = judge_by_hand([labels.masks[at] for at in places], [masks[at] for at in places], 3, None)
    exact = np.mean([np.mean(of) for of in values.values()])
    assert public["run"]["dice"] == pytest.approx(exact) and exact - 0.2 < public["run"]["coarse_score"] <= exact
    assert public["truth"]["flags"] == []
    status, _, err = command(
        "grade", tmp_path / "grades", "--data", hidden, "--score-only", "--require", "accuracy>=0.5"
    )
    assert status == 2 and "valid are dice, false_images, points" in err


@pytest.mark.nightly
@pytest.mark.slow
@needs_isolation
def test_the_references_need_no_network(hidden):
    found = make_references(hidden, hidden / "public", tell=lambda line: None)
    assert found.keys() == {"background", "mean_mask"} and found["background"] == 0 < found["mean_mask"] < 0.7
    assert json.loads((hidden / "references" / "scores.json").read_text()) == found


@pytest.mark.nightly
@pytest.mark.slow
@needs_isolation
def test_of_photographs_of_several_sizes_whole_masks_are_handed_in(tmp_path):
    """A network with one input size gives masks in each image's own size; parts that it never saw are background, and this is reported."""
    images, masks = shapes(80)
    draw = np.random.default_rng(0)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        width = int(draw.integers(16, 40))
        for kind, of, how in (("images", image, Image.Resampling.BILINEAR), ("masks", (mask > 0) * np.uint8(255), Image.Resampling.NEAREST)):  # fmt: skip
            (tmp_path / "in" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / kind / f"{number}.png").write_bytes(save(Image.fromarray(of).resize((width, 16), how)))
    made = make_holdout(str(tmp_path / "in"), out=tmp_path / "hidden", fraction=0.3, seed=0, task="segmentation")
    told = open_hidden(made.path)
    found = make_references(made.path, made.public, tell=lambda line: None)
    assert found.keys() == {"background", "mean_mask", "brightness"}
    for fit, remarks in (("stretch", 0), ("crop", 1)):
        config = pbl.Config(
            task="segmentation", dataset=str(made.public), image_size=16, channels=1, fit=fit, model="unet", epochs=1,
            model_options={"width": 4, "depth": 1}, batch_size=16, precision="float32",
        )  # fmt: skip
        run = pbl.train(config, folder=tmp_path / fit)
        file = tmp_path / f"{fit}.zip"
        written = submit(run, fit, out=file, predictions=made.path / "images")
        assert written.status == "ok" and sum("fit=crop" in remark for remark in written.remarks) == remarks
        assert len(read_masks(file, told.ids, told.sizes, 2)) == sum(height * width for height, width in told.sizes)
