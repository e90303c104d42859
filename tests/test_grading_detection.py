"""Hidden sets, submissions and the grading of a class in detection: boxes.json from honest and hostile teams, and the score of its boxes."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import pbl
from pbl.data.box_writing import write_coco
from pbl.data.boxes import from_boxed_arrays, pad_boxes, unfit_boxes
from pbl.errors import InputError
from pbl.evaluation.detection import make_baselines
from pbl.grading import Rubric, grade, judge
from pbl.grading.box_rows import MOST_OF_IMAGE, find_problem, split_rows
from pbl.grading.detection import find_box_flags, score_boxes
from pbl.grading.formats import BOXES_LIMIT, parse_json
from pbl.grading.hidden import open_hidden, open_labels
from pbl.grading.holdout import make_holdout
from pbl.grading.outcomes import REASONS, explain, say
from pbl.grading.packing import write_boxes, write_files, write_predictions
from pbl.grading.predictions import read_boxes
from pbl.grading.references import make_references
from pbl.grading.refusals import Refusal
from pbl.grading.sandbox import FULL, find_layers
from pbl.grading.segmentation import are_dice_tied
from pbl.grading.submission import check_submission, submit
from pbl.models.center_net import center_net

needs_isolation = pytest.mark.skipif(
    any(find_layers()[layer] for layer in FULL), reason="this machine's kernel has no Landlock or no seccomp filters"
)
NAMES = ["disc", "square"]

# --- The score


def overlap(one, other) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0, width) * max(0, height)
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


def judge_by_hand(truth, found, threshold: float, classes: int) -> dict[str, float]:
    """mAP50 (101 recalls, the best precision from there on) and the share of images of the right count, in plain loops."""
    areas = []
    for number in range(classes):
        ranked = sorted(
            (
                (-row[5], at, place)
                for at, rows in enumerate(found)
                for place, row in enumerate(rows)
                if row[4] == number
            )
        )
        total, free = 0, {}
        for at, rows in enumerate(truth):
            free[at] = [row for row in rows if row[4] == number]
            total += len(free[at])
        if not total:
            continue
        hits = []
        for _, at, place in ranked:
            near = max(free[at], key=lambda row: overlap(row, found[at][place]), default=None)
            is_hit = near is not None and overlap(near, found[at][place]) >= 0.5
            hits.append(is_hit)
            if is_hit:
                free[at] = [row for row in free[at] if row is not near]
        right = np.cumsum(hits)
        points = [(right[n] / total, right[n] / (n + 1)) for n in range(len(hits))]
        areas.append(
            np.mean([max((p for r, p in points if r >= level), default=0) for level in np.linspace(0, 1, 101)])
        )
    right = [
        all(
            sum(row[4] == number for row in true) == sum(row[4] == number and row[5] >= threshold for row in rows)
            for number in range(classes)
        )
        for true, rows in zip(truth, found, strict=True)
    ]
    return {"map50": float(np.mean(areas)), "right_count": float(np.mean(right))}


def draw(seed: int, images: int = 12) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """True boxes that do not touch, found ones next to them, and sizes; some images without either."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    sizes = random.integers(60, 120, (images, 2))
    for height, width in sizes:
        cells = random.permutation([(x, y) for x in range(width // 20) for y in range(height // 20)])
        true = [
            (20 * x, 20 * y, 20 * x + 15, 20 * y + 12, random.integers(2)) for x, y in cells[: random.integers(0, 5)]
        ]
        near = [(*(np.array(row[:4]) + random.normal(0, 1.5, 4)), row[4]) for row in true if random.random() < 0.8]
        wrong = [
            (20 * x + 2, 20 * y + 1, 20 * x + 18, 20 * y + 9, random.integers(2))
            for x, y in cells[5 : 5 + random.integers(0, 3)]
        ]
        rows = np.array(near + wrong, float).reshape(-1, 5)
        limits = np.array([width, height, width, height])
        rows[:, :4] = np.clip(rows[:, :4], 0, limits)
        truth.append(np.array(true, float).reshape(-1, 5))
        found.append(np.column_stack([rows, random.permutation(1 + np.arange(len(rows))) / 20 + random.random() / 100]))
    return truth, found, sizes


def as_rows(found: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.column_stack([np.full(len(rows), at), rows]) for at, rows in enumerate(found)])


def score(truth, found, sizes, threshold: float = 0.1, groups=None):
    padded = pad_boxes(truth, max(1, *map(len, truth)))
    return score_boxes(split_rows(as_rows(found), sizes), padded, NAMES, threshold, groups)


@pytest.mark.parametrize("seed", range(25))
def test_boxes_are_scored_as_a_reference_scores_them(seed):
    truth, found, sizes = draw(seed)
    metrics = score(truth, found, sizes).metrics
    expected = judge_by_hand(truth, found, 0.1, 2)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    low, high = metrics["map50_interval"]
    assert 0 <= low <= metrics["map50"] <= high <= 1 and metrics["images"] == len(truth)
    for number, of in enumerate(metrics["classes"]):
        assert of["boxes"] == sum((rows[:, 4] == number).sum() for rows in truth)


def test_one_image_says_nothing_of_others_and_a_patient_counts_as_one():
    truth, found, sizes = draw(3)
    at = next(at for at, rows in enumerate(truth) if len(rows) > 1)
    alone = score([truth[at]], [found[at]], sizes[at : at + 1])
    assert alone.metrics["map50_interval"] == [0, 1] and are_dice_tied(alone, alone, np.zeros(0))
    one = score(truth, found, sizes, groups=["p"] * len(truth)).metrics
    assert one["map50_interval"] == [0, 1] and one["map50"] == score(truth, found, sizes).metrics["map50"]


def test_teams_are_tied_as_a_paired_test_of_the_jackknife_ties_them():
    """Each image contributes n times mAP50 minus (n - 1) times mAP50 without it, here computed by leaving each out in turn."""
    truth, found, sizes = draw(11, 40)
    random, several = np.random.default_rng(0), []
    for share in (1.0, 0.97, 0.8, 0.4):
        several.append([rows[random.random(len(rows)) < share] for rows in found])
    n, added = len(truth), []
    for of in several:
        left_out = [
            judge_by_hand(truth[:at] + truth[at + 1 :], of[:at] + of[at + 1 :], 0.1, 2)["map50"] for at in range(n)
        ]
        added.append(n * judge_by_hand(truth, of, 0.1, 2)["map50"] - (n - 1) * np.array(left_out))
    scored = [score(truth, of, sizes) for of in several]
    verdicts = []
    for other in (1, 2, 3):
        p = stats.ttest_rel(added[0], added[other]).pvalue
        verdicts.append(are_dice_tied(scored[0], scored[other], np.zeros(0)))
        assert verdicts[-1] == (p > 0.05)
    assert verdicts[0] and not verdicts[2]


def test_flags_of_boxes():
    sizes = np.array([(40, 60), (80, 120), (20, 30)])
    true = [np.array([[0.1 * w, 0.1 * h, 0.5 * w, 0.6 * h, 0]]) for h, w in sizes]
    same = [np.array([[*rows[0], 0.5]]) for rows in true]
    shifted = [rows.copy() for rows in same]
    shifted[1][0, :4] += 6
    nothing = [np.zeros((0, 6))] * 3
    for flags, truth, found, threshold in (
        (["nothing_found"], true, nothing, 0.3),
        (["nothing_found"], [rows + np.array([2, 0, 9, 0, 0]) for rows in true], same, 0.6),
        (["constant_predictions", "above_ceiling"], true, same, 0.3),
        (["above_ceiling"], [rows[:, :5] for rows in shifted], shifted, 0.3),
        ([], true, shifted[:2] + nothing[:1], 0.3),
    ):
        scored, rows = score(truth, found, sizes, threshold), split_rows(as_rows(found), sizes)
        assert find_box_flags(scored, rows, sizes, threshold, 0.999) == flags


def test_answers_are_objects_found_and_boxes_of_none():
    """Three objects in two images: one found twice, one by the other class, one by a box below the threshold."""
    truth = pad_boxes([np.array([[0, 0, 10, 10, 0], [20, 20, 30, 30, 1]]), np.array([[0, 0, 8, 8, 1]])], 2)
    found = np.full((2, 4, 6), -1.0)
    found[0, :3] = [0, 0, 10, 9, 0, 0.9], [0, 1, 10, 10, 0, 0.8], [20, 20, 30, 30, 0, 0.7]
    found[1, 0] = 0, 0, 8, 8, 1, 0.2
    expected = [1, 0, 0] + [2, 0] + [0, 0]  # noqa: RUF005
    assert score_boxes(found, truth, NAMES, 0.5).predicted.tolist() == expected
    assert score_boxes(found, truth, NAMES, 0.1).predicted.tolist() == [1, 0, 1, *expected[3:]]


# --- The submission

IDS, SIZES = ["a1c", "b2c", "c3c"], [(60, 80), (50, 50), (400, 700)]
BOX = [1, 2, 30.5, 20, "disc", 0.75]


def make_file(**changes) -> dict[str, Any]:
    return {"threshold": 0.4, "images": {"a1c": [BOX, [0, 0, 80, 60, "square", 1]], "b2c": [], "c3c": [BOX]}} | changes


EXPECTED = np.array([[0, 1, 2, 30.5, 20, 0, 0.75], [0, 0, 0, 80, 60, 1, 1], [2, 1, 2, 30.5, 20, 0, 0.75]])
FORMS: dict[str, Callable[[dict], bytes]] = {
    "plain": lambda told: json.dumps(told).encode(),
    "indented, with a mark of UTF-8": lambda told: b"\xef\xbb\xbf" + json.dumps(told, indent=4).encode(),
    "in another order, with notes beside": lambda told: json.dumps({"team": "A", "images": dict(reversed(told["images"].items())), "notes": [{}], "threshold": 0.4}).encode(),
    "ids as names of files": lambda told: json.dumps(told | {"images": {f"images/{key}.png": of for key, of in told["images"].items()}}).encode(),
    "classes in capitals": lambda told: json.dumps(told).replace("disc", "Disc ").encode(),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_boxes_with_one_reading_are_read(form):
    rows, threshold = read_boxes(FORMS[form](make_file()), IDS, NAMES)
    assert rows.dtype == np.float64 and (rows == EXPECTED).all() and threshold == 0.4
    assert find_problem(rows, IDS, SIZES, 2) is None
    found = split_rows(rows, SIZES)
    assert found.shape == (3, 2, 6) and found[0, 1].tolist() == [0, 0, 80, 60, 1, 1] and (found[1, :, 4] == -1).all()


@pytest.mark.slow
def test_what_is_written_is_read_to_the_last_digit(tmp_path):
    random = np.random.default_rng(0)
    boxes = [np.column_stack([random.random((9, 2)) * 20, 21 + random.random((9, 2)) * 20, random.integers(-1, 2, 9), random.random(9)]).astype(np.float32) for _ in IDS]  # fmt: skip
    threshold = float(boxes[1][4, 5])
    file = write_boxes(tmp_path / "A.zip", "A", NAMES, IDS, boxes, threshold)
    left = check_submission(file, NAMES, ids=IDS, task="detection", sizes=SIZES)
    assert left.reason == "ok" and left.facts["threshold"] == threshold and left.facts["team"] == "A"
    written = as_rows([rows[rows[:, 4] >= 0] for rows in boxes])
    assert (left.result[:, 6] == written[:, 6]).all() and (left.result.astype(np.float32) == written).all()


def spoil_box(at: int, value: Any) -> Callable[[dict], bytes]:
    def spoil(told: dict) -> bytes:
        key = next(reversed(told["images"]))
        box = list(BOX)
        box[at] = value
        return json.dumps(told | {"images": told["images"] | {key: [BOX, box]}}).encode()

    return spoil


def spoil_text(old: str, new: str) -> Callable[[dict], bytes]:
    return lambda told: json.dumps(told).replace(old, new, 1).encode()


def spoil_images(change: Callable[[dict], Any]) -> Callable[[dict], bytes]:
    return lambda told: json.dumps(told | {"images": change(dict(told["images"]))}).encode()


def spoil_last(value: Any) -> Callable[[dict], bytes]:
    return spoil_images(lambda images: images | {next(reversed(images)): value})


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("boxes.json", content)
    return stream.getvalue()


def twice(told: dict) -> bytes:
    first = next(iter(told["images"]))
    return json.dumps(told).replace("{", "{", 1).replace('"images": {', f'"images": {{"{first}": [], ', 1).encode()


# A change of boxes.json with two classes: its bytes, the reason of the refusal, values of the sentence.
Case = tuple[Callable[[dict], bytes], str, dict[str, Any]]
HOSTILE: dict[str, Case] = {
    "empty": (lambda told: b"", "empty_file", {}),
    "no JSON": (lambda told: b"left,top\n1,2", "no_json", {"file": "boxes.json"}),
    "cut off": (lambda told: json.dumps(told).encode()[:-9], "no_json", {}),
    "a list, as COCO's results": (lambda told: b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', "no_json", {}),
    "not UTF-8": (lambda told: json.dumps(told).replace("disc", "d\xefsc").encode("latin-1"), "no_json", {}),
    "UTF-16": (lambda told: json.dumps(told).encode("utf-16"), "no_json", {}),
    "a zip": (lambda told: zipped(json.dumps(told).encode()), "no_json", {}),
    "a bomb": (lambda told: zipped(bytes(200 * 10**6)), "no_json", {}),
    "a pickle": (lambda told: b"\x80\x04\x95", "no_json", {}),
    "deep nesting": (lambda told: b"[" * 10**6, "json_large", {"file": "boxes.json"}),
    "deep nesting beside": (lambda told: json.dumps(told | {"notes": 0}).replace('"notes": 0', '"notes": ' + "[" * 5000 + "]" * 5000).encode(), "json_large", {}),
    "quotes without end": (lambda told: b'{"' + b'\\"' * 10**6, "no_json", {}),
    "huge": (lambda told: json.dumps(told).encode() + b" " * BOXES_LIMIT, "json_large", {"limit": BOXES_LIMIT // 1024}),
    "NaN": (spoil_text("0.75", "NaN"), "no_json", {}),
    "Infinity": (spoil_text("30.5", "-Infinity"), "no_json", {}),
    "infinite by its exponent": (spoil_text("30.5", "1e999"), "box_form", {"number": 1}),
    "a huge integer": (spoil_text("30.5", "1" + "0" * 400), "box_form", {"number": 1}),
    "an integer beyond what Python reads": (spoil_text("30.5", "1" * 10**6), "no_json", {}),
    "a key twice": (twice, "key_twice", {"file": "boxes.json"}),
    "many keys twice": (lambda told: json.dumps(told | {"notes": 0}).replace('"notes": 0', '"notes": {' + ", ".join(f'"{n % 200000}": 0' for n in range(250_000)) + "}").encode(), "key_twice", {}),
    "no threshold": (lambda told: json.dumps({"images": told["images"]}).encode(), "boxes_form", {"name": "threshold"}),
    "a threshold as a word": (spoil_text("0.4", '"0.4"'), "boxes_form", {"name": "threshold"}),
    "a threshold above 1": (spoil_text("0.4", "40"), "boxes_form", {"name": "threshold"}),
    "no images": (lambda told: b'{"threshold": 0.4}', "boxes_form", {"name": "images"}),
    "images as a list": (spoil_images(lambda images: list(images.values())), "boxes_form", {"name": "images"}),
    "an image missing": (spoil_images(lambda images: dict(list(images.items())[:-1])), "ids", {"missing": 1, "unknown": 0, "twice": 0}),
    "an unknown image": (spoil_images(lambda images: images | {"zzz": []}), "ids", {"missing": 0, "unknown": 1, "first": "zzz"}),
    "an image under two names": (spoil_images(lambda images: images | {next(iter(images)) + ".png": []}), "ids", {"missing": 0, "twice": 1}),
    "a name that draws": (spoil_images(lambda images: images | {"\u202ex\n\x1b[31m": []}), "ids", {"unknown": 1}),
    "boxes as a number": (spoil_last(7), "box_form", {"number": 1, "found": "7"}),
    "a box as an object": (spoil_last([BOX, {"bbox": [1, 2, 3, 4]}]), "box_form", {"number": 2}),
    "a box of five": (spoil_last([BOX[:5]]), "box_form", {"number": 1}),
    "a box of a thousand": (spoil_last([[1] * 1000]), "box_form", {"number": 1}),
    "floats as words": (spoil_box(0, "1.0"), "box_form", {"number": 2}),
    "null": (spoil_box(2, None), "box_form", {"number": 2}),
    "true": (spoil_box(5, True), "box_form", {"number": 2}),
    "a class as a number": (spoil_box(4, 0), "box_form", {"number": 2}),
    "a class as a list": (spoil_box(4, ["disc"]), "box_form", {"number": 2}),
    "an unknown class": (spoil_box(4, "cat"), "box_class", {"number": 2, "name": "cat", "classes": "disc, square"}),
    "a class that draws": (spoil_box(4, "\u202e\n\x1b[31mdisc"), "box_class", {"number": 2}),
    "a score above 1": (spoil_box(5, 75), "box_score", {"number": 2, "score": "75"}),
    "a score below 0": (spoil_box(5, -0.1), "box_score", {"number": 2, "score": "-0.1"}),
    "inverted": (spoil_box(2, 0.5), "box_corners", {"number": 2, "corners": "1, 2, 0.5, 20"}),
    "no area": (spoil_box(3, 2), "box_corners", {"number": 2, "corners": "1, 2, 30.5, 2"}),
    "outside": (spoil_box(2, 5000), "box_outside", {"number": 2, "corners": "1, 2, 5000, 20"}),
    "left of the image": (spoil_box(0, -3), "box_outside", {"number": 2}),
    "too many of an image": (spoil_last([BOX] * (MOST_OF_IMAGE + 1)), "boxes_many", {"count": MOST_OF_IMAGE + 1, "limit": MOST_OF_IMAGE}),
    "a million boxes": (spoil_last([[0, 0, 9, 9, "disc", 1]] * 10**6), "boxes_many", {"count": 10**6}),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.nightly] * (name == "a million boxes")) for name in HOSTILE]
)
def test_what_is_hostile_is_refused_by_name(name):
    spoil, reason, fields = HOSTILE[name]
    try:
        rows, _ = read_boxes(spoil(make_file()), IDS, NAMES)
        told = find_problem(rows, IDS, SIZES, 2)
    except Refusal as refusal:
        told = refusal.reason, refusal.fields
    assert told is not None and told[0] == reason and fields.items() <= told[1].items(), told
    assert explain(reason, told[1]).isprintable() and set(say(reason, {})[1]) <= told[1].keys()


def test_what_a_worker_says_is_looked_at(tmp_path):
    """A worker that was taken over may leave any bytes: the judge accepts only boxes of these images."""

    def leave(rows: np.ndarray, content: bytes | None = None, facts: dict | None = None) -> judge.Outcome:
        facts = {"kind": "boxes", "threshold": 0.4} if facts is None else facts
        (tmp_path / "status.json").write_text(json.dumps({"reason": "ok", "fields": {}, "facts": facts}))
        (tmp_path / "predictions.f32").write_bytes(rows.tobytes() if content is None else content)
        return judge.read_left(tmp_path, 3, 2, SIZES, IDS)

    assert leave(EXPECTED).reason == "ok" and (leave(EXPECTED).result == EXPECTED).all()
    assert leave(EXPECTED[:0]).result.shape == (0, 7)
    for at, value in ((0, 3), (0, -1), (0, 1.5), (5, 2), (5, 0.5)):
        rows = EXPECTED.copy()
        rows[0, at] = value
        assert leave(rows).reason == "no_result", (at, value)
    assert leave(EXPECTED[::-1]).reason == "no_result"  # in another order
    assert leave(np.where(EXPECTED == 30.5, np.nan, EXPECTED)).reason == "predictions_not_finite"
    assert leave(EXPECTED, b"1234567").reason == "result_length"
    for facts in ({}, {"threshold": float("nan")}, {"threshold": 7.0}, {"threshold": "0.4"}):
        assert leave(EXPECTED, facts=facts).reason == "no_result"


@pytest.mark.parametrize("content", [b'{"a": "[[[[", "b": "\\"[{"}', b'{"a": "\\\\", "b": [1]}'])
def test_brackets_in_words_are_no_nesting(content):
    assert parse_json(content, "x.json", depth=2) == json.loads(content)


# --- A class


def shapes(count: int = 200, side: int = 32) -> tuple[np.ndarray, list[np.ndarray]]:
    """Up to three bright discs and dark squares that do not touch, in noise; on a fifth of the images none."""
    draw = np.random.default_rng(0)
    images, boxes = draw.normal(110, 8, (count, side, side)), []
    y, x = np.mgrid[:side, :side]
    for at in range(count):
        rows = []
        for left, top in (
            draw.permutation([(0, 0), (0, 1), (1, 0), (1, 1)])[: at % 5 and draw.integers(1, 4)] * side // 2
        ):
            radius, kind = draw.integers(3, 6), draw.integers(2)
            middle_x, middle_y = left + draw.integers(radius, side // 2 - radius), top + draw.integers(radius, side // 2 - radius)  # fmt: skip
            inside = (x - middle_x) ** 2 + (y - middle_y) ** 2 <= radius**2
            if kind:
                inside = np.maximum(abs(x - middle_x), abs(y - middle_y)) <= radius
            images[at][inside] += -70 if kind else 70
            rows.append((middle_x - radius, middle_y - radius, middle_x + radius + 1, middle_y + radius + 1, kind))
        boxes.append(np.array(rows, float).reshape(-1, 5))
    return images.clip(0, 255).astype(np.uint8), boxes


@pytest.fixture(scope="module")
def hidden(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("holdout")
    images, boxes = shapes()
    np.savez(place / "shapes.npz", x_train=images, b_train=pad_boxes(boxes, 3), class_names=np.array(NAMES))
    return make_holdout(str(place / "shapes.npz"), out=place / "hidden", fraction=0.3, seed=2, task="detection").path


@pytest.fixture(scope="module")
def run(hidden, tmp_path_factory) -> pbl.runs.Run:
    pbl.MODELS.setdefault("center_net", center_net)
    config = pbl.Config(
        task="detection", dataset=str(hidden / "public"), model="center_net", model_options={"width": 8, "depth": 3},
        epochs=10, learning_rate=0.01, optimizer="adam", batch_size=16, precision="float32",
    )  # fmt: skip
    return pbl.train(config, folder=tmp_path_factory.mktemp("runs"))


def test_a_hidden_set_keeps_its_boxes_to_itself(hidden):
    told = open_hidden(hidden)
    images, boxes = shapes()
    known = {image.tobytes(): rows for image, rows in zip(images, boxes, strict=True)}
    labels = open_labels(told)
    assert (told.task, told.headline, told.class_names, set(told.sizes)) == ("detection", "map50", NAMES, {(32, 32)})
    for file, rows, kind in zip(told.files, labels.boxes, labels.classes, strict=True):
        true = known[pbl.data.read_image(file).tobytes()]
        assert (rows == true).all() and kind == (np.bincount(true[:, 4].astype(int)).argmax() if len(true) else 2)
    assert not {"boxes", "labels", "group"} & set(json.loads((hidden / "hidden.json").read_text()))
    assert not list((hidden / "images").rglob("*.json")) and oct((hidden / "labels").stat().st_mode)[-3:] == "700"
    for half in (labels.is_public, ~labels.is_public):
        assert set(labels.classes[half].tolist()) == {0, 1, 2}  # images without boxes too
    public = pbl.load_data(str(hidden / "public"), boxes=True)
    assert public.class_names == NAMES and len(told.ids) + sum(public.split["images"].values()) == len(images)
    for part in map(public.images, ("train", "val", "test")):
        for image, rows in zip(part.pixels, part.boxes, strict=True):
            assert (rows[rows[:, 4] >= 0] == known[image.tobytes()]).all()


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_folder_of_photographs_with_patients_and_an_official_split(tmp_path, as_zip):
    """JPEG of several sizes, three images for each patient, COCO by split; names that are in two folders."""
    random, truth = np.random.default_rng(0), {}
    for split, numbers in {"train": range(30), "val": range(30, 36)}.items():
        names, sizes, boxes = [], [], []
        for number in numbers:
            name, size = (
                f"{split}/{'ab'[number % 2]}/images/p{number // 3:02d}_{number // 2}.jpg",
                (40 + number % 3, 48),
            )
            file = tmp_path / "photos" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (*size, 3), np.uint8)).save(file)
            left, top = random.integers(0, 20, (2, number % 4))
            rows = np.column_stack([left, top, left + 12.5, top + 9.25, np.arange(number % 4) % 2])
            names.append(name)
            sizes.append(size)
            boxes.append(rows)
            truth[pbl.data.read_image(file).tobytes()] = number // 3, rows
        write_coco(tmp_path / "photos" / "annotations" / f"instances_{split}.json", names, sizes, boxes, NAMES)
    settings = {"groups": r"p\d+", "fraction": 0.4, "seed": 1, "as_zip": as_zip, "task": "detection"}
    made = make_holdout(str(tmp_path / "photos"), out=tmp_path / "out", **settings)
    told = open_hidden(made.path)
    labels = open_labels(told)
    of_hidden = [truth[pbl.data.read_image(file).tobytes()] for file in told.files]
    assert all((rows == known).all() for rows, (_, known) in zip(labels.boxes, of_hidden, strict=True))
    assert told.shape is None and {size[0] for size in told.sizes} <= {40, 41, 42}
    patients = {patient for patient, _ in of_hidden}
    assert len(set(labels.groups)) == len(patients)
    source = pbl.data.open_source(str(made.public), has_boxes=True)
    assert source.class_names == NAMES and source.val is not None
    seen = 0
    for give in (source.train, source.val):
        for content, boxes, name in give():
            pixels = pbl.data.decode_image(content, name)
            patient, known = truth[pixels.tobytes()]
            assert patient not in patients and (f"p{patient:02d}" in name or "_" not in name)
            assert (boxes.read(name, pixels.shape[:2]).rows == known).all()
            seen += 1
    assert seen + len(told.ids) == 36 == made.images + made.public_images
    # The true boxes score 1, with patients as the unit.
    found = [np.column_stack([rows, np.ones(len(rows))]) for rows in labels.boxes]
    metrics = score(labels.boxes, found, told.sizes, 0.5, labels.groups).metrics
    assert metrics["map50"] == metrics["right_count"] == 1 and metrics["map50_interval"] == [0, 1]  # equal images


@pytest.mark.parametrize(
    ("source", "settings", "said"),
    [
        ("digits", {}, "'digits' has classes but no boxes"),
        ("{}", {"task": "segmentation"}, "'.*' has boxes: train with task=detection"),
        (
            "{}",
            {"normal": ["disc"]},
            "task=detection: valid are classification, segmentation, detection, and anomaly with",
        ),
        ("{}", {"fraction": 0.05}, "No hidden image would have the class square, so it would not be evaluated"),
        ("{}", {"hide_test": True}, "has no test split of its own to hide"),
    ],
)
def test_a_set_that_cannot_be_judged_is_not_made(tmp_path, monkeypatch, source, settings, said):
    images, boxes = shapes(60)
    boxes = [rows * [1, 1, 1, 1, 0] for rows in boxes]
    boxes[7][0, 4] = 1  # a single box
    monkeypatch.setitem(pbl.DATASETS, "boxed", lambda: from_boxed_arrays(images, boxes, NAMES))
    with pytest.raises(InputError, match=said):
        make_holdout(source.format("boxed"), out=tmp_path / "out", seed=0, **{"task": "detection", **settings})
    assert not (tmp_path / "out").exists()


def test_labels_of_another_set_are_told(hidden, tmp_path):
    told, place = open_hidden(hidden), tmp_path / "labels"
    place.mkdir()
    for name in ("labels.csv", "boxes.json"):
        (place / name).write_bytes((hidden / "labels" / name).read_bytes())
    assert len(open_labels(told, place / "labels.csv").boxes) == len(told.ids)
    whole = (place / "boxes.json").read_text()
    for content, said in (
        (whole.replace(told.ids[0], "0" * 12), "do not belong to this hidden set"),
        (whole.replace('"square"', '"triangle"'), "do not belong to this hidden set"),
        (whole[:-99], "cannot be read"),
        (None, "cannot be read: No such file"),
    ):
        (place / "boxes.json").unlink()
        if content is not None:
            (place / "boxes.json").write_text(content)
        with pytest.raises(InputError, match=said):
            open_labels(told, place / "labels.csv")
        (place / "boxes.json").write_text(whole)


def put(file: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file


@pytest.mark.nightly
@pytest.mark.slow
@needs_isolation
def test_a_class_is_graded(run, hidden, tmp_path, command):
    """A run, its copy with some boxes moved, no boxes, the same for all images, the truth, and a file with each fault."""
    told, handed_in = open_hidden(hidden), tmp_path / "in"
    labels = open_labels(told)
    handed_in.mkdir()
    for words, said in (
        ({}, "has task=detection: hand in boxes for the hidden images"),
        ({"predictions": tmp_path / "none"}, "give the folder of hidden images"),
    ):
        with pytest.raises(InputError, match=said):
            submit(run, "run", **{"out": tmp_path / "a.zip", **words})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in"]
    written = submit(run, "run", out=handed_in / "run.zip", predictions=hidden / "images")
    assert written.status == "ok" and not written.remarks
    with zipfile.ZipFile(handed_in / "run.zip") as archive:
        own_file = json.loads(archive.read("boxes.json"))
    model, pixels = pbl.load_model(run), np.stack([pbl.data.read_image(file) for file in told.files])
    predicted = [rows[rows[:, 4] >= 0] for rows in model.predict(pixels, verbose=0)]
    handed = [[row for row in own_file["images"][key] if row[5] > 0.02] for key in told.ids]
    for rows, of in zip(predicted, handed, strict=True):
        rows = rows[rows[:, 5] > 0.02]
        assert [NAMES.index(row[4]) for row in of] == rows[:, 4].tolist()
        assert [[*row[:4], row[5]] for row in of] == [pytest.approx(row, abs=1e-3) for row in np.delete(rows, 4, axis=1).clip(0, 32).tolist()]  # fmt: skip
    threshold = json.loads((run.path / "metrics_val.json").read_text())["threshold"]
    assert own_file["threshold"] == threshold

    random = np.random.default_rng(0)

    def make_others() -> list[np.ndarray]:
        """The truth with faults: some moved, some missed, some of no object."""
        found = []
        for rows in labels.boxes:
            rows = np.column_stack([rows, random.uniform(0.5, 1, len(rows))])[random.random(len(rows)) < 0.8]
            rows[:, :4] = (rows[:, :4] + random.normal(0, 0.8, (len(rows), 4))).clip(0, 32)
            left, top = random.integers(0, 20, 2)
            wrong = [[left, top, left + 9, top + 9, random.integers(2), random.uniform(0.3, 0.9)]]
            found.append(np.concatenate([rows, wrong if random.random() < 0.4 else np.zeros((0, 6))]))
        return found

    others = {f"other{number}": make_others() for number in range(4)}
    copied = [rows + np.array([0.25, 0, 0.25, 0, 0, 0]) for rows in others["other0"]]
    copied = [rows.clip(0, [32, 32, 32, 32, 1, 1]) for rows in copied]
    constant = [np.array([[4.0, 4, 14, 14, 0, 0.9]])] * len(told.ids)
    truth = [np.column_stack([rows, np.ones(len(rows))]) for rows in labels.boxes]
    teams = {**others, "copy": copied, "nothing": [rows[:0] for rows in truth], "constant": constant, "truth": truth}
    for team, of in teams.items():
        write_boxes(handed_in / f"{team}.zip", team, NAMES, told.ids, of, 0.4)
    whole = {"threshold": 0.4, "images": {key: [[*row[:4], NAMES[int(row[4])], row[5]] for row in rows.tolist()] for key, rows in zip(told.ids, others["other1"], strict=True)}}  # fmt: skip
    whole["images"][told.ids[0]] = [BOX]
    for number, (spoil, _, _) in enumerate(HOSTILE.values()):  # half of them as a single file, half in a zip
        content = spoil(json.loads(json.dumps(whole)))
        if number % 2:
            (handed_in / f"fault{number}.json").write_bytes(content)
        else:
            put(handed_in / f"fault{number}.zip", {"boxes.json": content})
    sealed = put(handed_in / "sealed.zip", {"boxes.json": b"{}"})  # its boxes are changed after it was written
    with zipfile.ZipFile(handed_in / "other2.zip") as archive:
        put(sealed, {name: archive.read(name).replace(b"0.9", b"0.8") if name == "boxes.json" else archive.read(name) for name in archive.namelist()})  # fmt: skip
    put(handed_in / "bomb.zip", {"boxes.json": bytes(800 * 2**20)})
    put(handed_in / "path.zip", {"../boxes.json": b"{}"})
    put(handed_in / "two.zip", {"a_boxes.json": b"{}", "b_boxes.json": b"{}"})
    (handed_in / "link.json").symlink_to(hidden / "labels" / "boxes.json")
    write_files(handed_in / "COCO", {"boxes.json": (hidden / "labels" / "boxes.json").read_bytes()})
    write_predictions(handed_in / "table", "table", NAMES, told.ids, np.full((len(told.ids), 2), 0.5, np.float32))
    pbl.grading.write_submission(handed_in / "model", "model", NAMES, model=pbl.models.build("mlp", (32, 32, 1), 2, widths=[8]), builder="mlp", model_options={"widths": [8]})  # fmt: skip
    settings = {"data": hidden, "out": tmp_path / "grades", "language": "ja"}
    rubric = Rubric(bands=[(0.4, 100), (0.1, 30)], levels=[(0.4, "good")])
    graded = {row["team"]: row for row in grade(handed_in, rubric=rubric, **settings)}

    own = [np.array([[*row[:4], NAMES.index(row[4]), row[5]] for row in own_file["images"][key]]).reshape(-1, 6) for key in told.ids]  # fmt: skip
    for team, of in {"run": own, **teams}.items():
        of = [rows.astype(np.float32).astype(float) for rows in of]
        expected = judge_by_hand(labels.boxes, of, threshold if team == "run" else 0.4, 2)
        assert {name: graded[team][name] for name in expected} == pytest.approx(expected), team
    row = graded["run"]
    assert row["map50_interval"][0] < row["map50"] < row["map50_interval"][1] and row["map50"] > 0.1
    assert row["ap50"] == {of["name"]: of["ap50"] for of in row["classes"]} and "accuracy" not in row
    assert row["threshold"] == threshold and row["points"] == (100 if row["map50"] >= 0.4 else 30) and not row["flags"]
    assert graded["truth"]["flags"] == ["above_ceiling"] and graded["truth"]["tie_group"] == 1
    assert graded["nothing"]["flags"] == ["nothing_found"] and graded["nothing"]["points"] == 0
    assert graded["constant"]["flags"] == ["constant_predictions"]
    assert graded["truth"]["tie_group"] < graded["other1"]["tie_group"] < graded["nothing"]["tie_group"]
    assert any(flag.startswith("agrees_on_errors_with:other0=") for flag in graded["copy"]["flags"])
    assert [graded[f"other{number}"]["flags"] for number in (1, 2, 3)] == [[], [], []]
    assert graded["table"]["reason"] == graded["model"]["reason"] == "boxes_needed"
    assert graded["sealed"]["reason"] == "changed_file" and graded["bomb"]["reason"] == "member_large"
    assert graded["path"]["reason"] == "member_path" and graded["two"]["reason"] == "two_files"
    assert graded["link"]["reason"] == "not_regular" and graded["COCO"]["reason"] == "boxes_form"
    for number, (name, (_, reason, _)) in enumerate(HOSTILE.items()):
        row = graded[f"fault{number}"]
        assert row["reason"] == reason and row["map50"] is None, (name, row["reason"], row["message"])
        assert row["used"]["processor_seconds"] < 60 and row["status"] == REASONS[reason][0], (name, row["used"])

    header = (tmp_path / "grades" / "grades.csv").read_text("utf-8-sig").partition("\n")[0]
    assert header.startswith("team,status,map50,map50_low,map50_high,right_count,right_count_low,right_count_high,map,precision,recall,threshold,points")  # fmt: skip
    assert "ap50(square)" in header
    page = (tmp_path / "grades" / "summary.html").read_text()
    assert "個数の正解" in page and "ジャックナイフ" in page and "McNemar" not in page and "AUROC" not in page
    said = {team: (tmp_path / "grades" / "teams" / team / "feedback.md").read_text() for team in graded}
    assert f"mAP50：{graded['run']['map50']:.4f}" in said["run"] and "| disc |" in said["run"]
    assert (
        "しきい値以上の検出枠がありません" in said["nothing"] and "すべての画像の検出枠が同じです" in said["constant"]
    )
    assert "正解率" not in "".join(said.values()) and "--predictions IMAGES" in said["table"]

    # Nothing runs again for the leaderboard; if a simple method is as good, a good score is not suspicious.
    (hidden / "references").mkdir(exist_ok=True)
    (hidden / "references" / "scores.json").write_text('{"mean_boxes": 1.0}')
    public = {row["team"]: row for row in grade(tmp_path / "grades", phase="score", half="public", **settings)}
    places = np.flatnonzero(labels.is_public)
    exact = judge_by_hand([labels.boxes[at] for at in places], [own[at] for at in places], threshold, 2)["map50"]
    assert public["run"]["map50"] == pytest.approx(exact) and exact - 0.2 < public["run"]["coarse_score"] <= exact
    assert public["truth"]["flags"] == []
    words = ("grade", tmp_path / "grades", "--data", hidden, "--score-only", "--require")
    status, _, err = command(*words, "accuracy>=0.5")
    assert status == 2 and "valid are map50, right_count, map, precision, recall, threshold, points" in err
    status, out, _ = command(*words, "map50>=0.0")
    assert status == 1 and "mAP50 (95% interval)" in out and "right count" in out  # refused ones do not reach it


@pytest.mark.nightly
@pytest.mark.slow
@needs_isolation
def test_the_references_need_no_network(hidden):
    found = make_references(hidden, hidden / "public", tell=lambda line: None)
    assert found.keys() == {"nothing", "mean_box", "mean_boxes"} and found["nothing"] == 0 < found["mean_boxes"] < 0.5
    assert json.loads((hidden / "references" / "scores.json").read_text()) == found
    train = pbl.load_data(str(hidden / "public"), boxes=True).images("train").boxes
    told = open_hidden(hidden)
    expected = judge_by_hand(open_labels(told).boxes, list(make_baselines(train, (32, 32), len(told.ids), 2)["mean_boxes"]), 0.5, 2)  # fmt: skip
    assert found["mean_boxes"] == pytest.approx(expected["map50"], abs=1e-6)


@pytest.mark.nightly
@pytest.mark.slow
@needs_isolation
@pytest.mark.parametrize(("fit", "remarks"), [("pad", 0), ("stretch", 0), ("crop", 1)])
def test_boxes_are_brought_to_the_pixels_of_each_image(tmp_path, monkeypatch, fit, remarks):
    """Photographs of several sizes: the boxes of a network with one input size are submitted in each image's own pixels."""
    images, boxes = shapes(80)
    draw, wide, moved = np.random.default_rng(0), [], []
    for image, rows in zip(images, boxes, strict=True):
        width = int(draw.integers(32, 70))
        wide.append(np.array(Image.fromarray(image).resize((width, 32))))
        moved.append(rows * [width / 32, 1, width / 32, 1, 1])
    monkeypatch.setitem(pbl.DATASETS, "boxed", lambda: from_boxed_arrays(wide, moved, NAMES))
    made = make_holdout("boxed", out=tmp_path / "hidden", fraction=0.3, seed=0, task="detection")
    told = open_hidden(made.path)
    pbl.MODELS.setdefault("center_net", center_net)
    config = pbl.Config(
        task="detection", dataset=str(made.public), image_size=32, channels=1, fit=fit, model="center_net", epochs=1,
        model_options={"width": 4, "depth": 2}, batch_size=16, precision="float32",
    )  # fmt: skip
    run = pbl.train(config, folder=tmp_path / fit)
    written = submit(run, fit, out=tmp_path / "a.zip", predictions=made.path / "images")
    assert written.status == "ok" and sum("fit=crop" in remark for remark in written.remarks) == remarks
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        rows, _ = read_boxes(archive.read("boxes.json"), told.ids, NAMES)
    assert find_problem(rows, told.ids, told.sizes, 2) is None and len(rows)
    fitted = np.stack([pbl.data.fit_image(pbl.data.read_image(file), (32, 32), 1, fit) for file in told.files])
    for at, found in enumerate(pbl.load_model(run).predict(fitted, verbose=0)):
        of_image = rows[rows[:, 0] == at]
        for one in unfit_boxes(found[found[:, 4] >= 0], told.sizes[at], fit, (32, 32)):
            if (one[2:4] - one[:2] > 0.01).all():  # others are only in the borders of `pad`, or empty
                assert np.abs(of_image[:, 1:5] - one[:4]).max(axis=1).min() < 0.01
