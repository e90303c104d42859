"""The notebooks: their form, the two languages compared, and each exercise with its model answer.

A lesson is executed as Jupyter would, cell by cell in one namespace, but in a plain process and without a screen. A cell
tagged `exercise` has a gap; the cell tagged `check` below it judges what was written there.
"""

import ast
import base64
import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAIRS = [(lesson, lesson.parent / "ja" / lesson.name) for lesson in LESSONS]
PAIRS.append((ROOT / "run_colab.ipynb", ROOT / "notebooks" / "ja" / "run_colab.ipynb"))
NOTEBOOKS = [file for pair in PAIRS for file in pair]
MOST_LINES, MOST_EXERCISES = 25, 6
JAPANESE = re.compile("[ぁ-んァ-ヶ一-龠]")

# For each exercise a right answer, and wrong ones that are close.
ANSWERS = {
    "01_what_learning_is": {
        "exercise-1": ("new_w = -0.5", ["new_w = 2.5", "new_w = 0.25"]),
        "exercise-2": ("my_rate = 0.4", ["my_rate = 0.1", "my_rate = 1.05", "my_rate = 0.9"]),
        "exercise-3": (
            "squares = np.array([2.0, 8.0, 18.0, 32.0])\n\ndef my_slope(w):\n    return np.mean(2 * (w * x**2 - squares) * x**2)",
            ["def my_slope(w):\n    return np.mean(2 * (w * x**2 - squares))", "def my_slope(w):\n    return 0.0"],
        ),
    },
    "02_a_neuron_and_a_layer": {
        "exercise-1": ("or_weights = (1, 1, -1)", ["or_weights = (1, 1, -2)", "or_weights = (1, 1, 0)"]),
        "exercise-2": (
            "def my_softmax(scores):\n    return np.exp(scores) / np.exp(scores).sum()",
            ["def my_softmax(scores):\n    return np.exp(scores)", "def my_softmax(scores):\n    return scores / scores.sum()"],
        ),
        "exercise-3": ("my_gradient = 8", ["my_gradient = -8", "my_gradient = 4"]),
    },
    "03_keras_flow": {
        "exercise-1": ("updates = 5628", ["updates = 5625", "updates = 469"]),
        "exercise-2": (
            """
inputs = keras.Input((8, 8))
x = layers.Rescaling(1 / 16)(inputs)
x = layers.Flatten()(x)
x = layers.Dense(32, activation="relu")(x)
x = layers.Dense(16, activation="relu")(x)
my_model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))""",
            [
                "my_model = build_model()",
                "my_model = keras.Sequential([keras.Input((64,)), layers.Dense(10)])",
                """
my_model = keras.Sequential(
    [keras.Input((8, 8)), layers.Flatten(), layers.Dense(32), layers.Dense(16), layers.Dense(10)]
)""",
            ],
        ),
        "exercise-3": (
            """
schedule = keras.optimizers.schedules.InverseTimeDecay(0.1, decay_steps=1, decay_rate=1e-3)
my_optimizer = keras.optimizers.SGD(schedule, momentum=0.9)""",
            [
                "my_optimizer = keras.optimizers.SGD(0.1, momentum=0.9)",
                "my_optimizer = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-3)",
                "my_optimizer = keras.optimizers.SGD(0.1)",
                "my_optimizer = keras.optimizers.Adam(0.1)",
            ],
        ),
    },
    "04_convolution": {
        "exercise-1": ("width = 14", ["width = 13", "width = 16"]),
        "exercise-2": ("weights = 18_496", ["weights = 640", "weights = 18_432", "weights = 64"]),
        "exercise-3": (
            "my_filter = np.array([[1, 1, 1, 1], [-1, -1, -1, -1]] * 2)",
            ["my_filter = stripe_filter", "my_filter = rows", "my_filter = np.ones((3, 3))"],
        ),
    },
    "05_architectures": {
        "exercise-1": ("my_weights = 102_764_544", ["my_weights = 102_760_448", "my_weights = 2_101_248"]),
        "exercise-2": (
            "my_macs = 14 * 14 * (1024 * 256 + 9 * 256 * 256 + 256 * 1024)",
            ["my_macs = 14 * 14 * (1024 * 256 + 256 * 256 + 256 * 1024)", "my_macs = 14 * 14 * 9 * 1024 * 1024", "my_macs = 1024 * 256 + 9 * 256 * 256 + 256 * 1024"],
        ),
        "exercise-3": (
            """
def my_block(x):
    y = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(x.shape[-1], 3, padding="same")(y)
    return layers.ReLU()(layers.Add()([x, y]))""",
            [
                """
def my_block(x):
    y = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)
    return layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(y)""",
                """
def my_block(x):
    y = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(y)
    return layers.Add()([x, y])""",
                """
def my_block(x):
    y = layers.Conv2D(x.shape[-1], 3, padding="same")(x)
    return layers.ReLU()(layers.Add()([x, y]))""",
                """
def my_block(x):
    y = layers.Conv2D(32, 3, activation="relu")(x)
    return layers.Conv2D(4, 3)(y)""",
            ],
        ),
    },
    "06_data": {
        "exercise-1": ("my_sizes = (595, 105, 300)", ["my_sizes = (550, 150, 300)", "my_sizes = (700, 150, 150)", "my_sizes = (600, 100, 300)"]),
        "exercise-2": (
            "my_class_weight = {0: 1000 / 1800, 1: 1000 / 200}",
            ["my_class_weight = {0: 1, 1: 9}", "my_class_weight = {0: 5, 1: 5 / 9}", "my_class_weight = {0: 0.1, 1: 0.5}"],
        ),
        "exercise-3": ("my_leaks = {1, 3, 5}", ["my_leaks = {1, 3}", "my_leaks = {1, 2, 3, 5}", "my_leaks = {3, 5}", "my_leaks = {1, 3, 4, 5}"]),
    },
    "07_overfitting": {
        "exercise-1": ("my_gap = 6", ["my_gap = -2", "my_gap = 0.06", "my_gap = 8"]),
        "exercise-2": (
            'my_stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=10, restore_best_weights=True)',
            [
                'my_stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=10)',
                'my_stopping = keras.callbacks.EarlyStopping(monitor="loss", patience=10, restore_best_weights=True)',
                "my_stopping = keras.callbacks.EarlyStopping(restore_best_weights=True)",
            ],
        ),
        "exercise-3": ('my_cure = {"share": 4 * SHARE}', ["my_cure = {}", 'my_cure = {"units": 8}']),
    },
    "08_evaluation": {
        "exercise-1": ("my_values = (0.667, 0.800)", ["my_values = (0.8, 0.667)", "my_values = (0.85, 0.8)"]),
        "exercise-2": ("my_threshold = 0.25", ["my_threshold = 0.5", "my_threshold = 0.1", "my_threshold = 0.35"]),
        "exercise-3": ("my_images = 900", ["my_images = 100", "my_images = 800", "my_images = 10_000", "my_images = 865"]),
    },
    "09_transfer_learning": {
        "exercise-1": ("weights = 6405", ["weights = 6400", "weights = 1285", "weights = 4_055_976"]),
        "exercise-2": (
            "my_f, my_model = transfer(frozen=False)\nmy_f.trainable = False",
            [
                "my_f, my_model = transfer(frozen=False)\nmy_model.trainable = False",
                """
my_f, my_model = transfer(frozen=False)
for layer in my_f.layers:
    if isinstance(layer, layers.Conv2D):
        layer.trainable = False""",
                "my_f = build_f()\nmy_model = g_after(my_f)\nmy_model.layers[-1].trainable = False",
            ],
        ),
        "exercise-3": ("my_rate = 0.0001", ["my_rate = 0.1", "my_rate = 0.0000001", "my_rate = 0.03"]),
    },
    "10_comparing_networks": {
        "exercise-1": (
            'my_report = ("b", 0.946)',
            ['my_report = ("c", 0.952)', 'my_report = ("b", 0.958)', 'my_report = ("a", 0.944)', 'my_report = ("b", 0.952)'],
        ),
        "exercise-2": (
            """
my_difference = statistics.crossed_interval(statistics.summarise_seeds(first), statistics.summarise_seeds(second))
my_verdict = "tie\"""",
            [
                """
my_difference = statistics.crossed_interval(statistics.summarise_seeds(first), statistics.summarise_seeds(second))
my_verdict = "first\"""",
                """
my_difference = statistics.crossed_interval(statistics.summarise_seeds(second), statistics.summarise_seeds(first))
my_verdict = "tie\"""",
                """
my_difference = statistics.crossed_interval(statistics.summarise_seeds(first[:2]), statistics.summarise_seeds(second[:2]))
my_verdict = "tie\"""",
                'my_difference = first.mean() - second.mean()\nmy_verdict = "first"',
            ],
        ),
        "exercise-3": ("epochs_of_b = 20", ["epochs_of_b = 4", "epochs_of_b = 0.8", "epochs_of_b = 5"]),
    },
    "11_your_own_project": {
        "exercise-1": (
            'my_groups = "(plant[0-9]+)"',
            ['my_groups = "([a-z]+)"', 'my_groups = "plant[0-9]+_([abc])"', 'my_groups = "(plant[0-9]+_[abc])"', 'my_groups = "(plant"'],
        ),
        "exercise-2": (
            'my_config = config.replace(model_options={"filters": 64})',
            [
                "my_config = config.replace()",
                'my_config = config.replace(model_options={"filters": 64}, epochs=24)',
                'my_config = config.replace(model_options={"filters": 128})',
                'my_config = pbl.Config(model="small_cnn", model_options={"filters": 64})',
            ],
        ),
        "exercise-3": ('my_sentences = {"b", "d"}', ['my_sentences = {"a", "b", "d"}', 'my_sentences = {"b", "c", "d"}', 'my_sentences = {"b"}']),
    },
    "12_anomaly_detection": {
        "exercise-1": ("needed = 99", ["needed = 19", "needed = 98", "needed = 100", "needed = 1_000"]),
        "exercise-2": ('my_images = "b"', ['my_images = "a"', 'my_images = "c"', 'my_images = "d"']),
        "exercise-3": ('my_groups = "(part[0-9]+)"', ['my_groups = "([a-z]+)"', 'my_groups = "(light[0-9])"', 'my_groups = "(part[0-9]+_light[0-9])"']),
    },
    "13_generation": {
        "exercise-1": ("my_answer = 0.75", ["my_answer = 0.5", "my_answer = 3", "my_answer = 1", "my_answer = 0.25"]),
        "exercise-2": (
            'my_names = {"a": "mode_collapse", "b": "memorised", "c": "healthy"}',
            [
                'my_names = {"a": "healthy", "b": "memorised", "c": "mode_collapse"}',
                'my_names = {"a": "mode_collapse", "b": "healthy", "c": "memorised"}',
                'my_names = {"a": "healthy", "b": "healthy", "c": "healthy"}',
            ],
        ),
        "exercise-3": (
            "my_images = np.repeat(test.pixels[:1], n, axis=0)",
            [
                'my_images = sets["copies"]',
                'my_images = sets["noise"]',
                'my_images = sets["fifty"]',
                "my_images = test.pixels[:1]",
                "my_images = np.repeat(test.pixels[:1] / 255, n, axis=0)",
            ],
        ),
    },
    "14_segmentation": {
        "exercise-1": ("my_share = 0.9988", ["my_share = 0.0012", "my_share = 0.9239", "my_share = 0.9952", "my_share = 99.88"]),
        "exercise-2": (
            """
def my_dice(truth, predicted):
    total = truth.sum() + predicted.sum()
    return 2 * (truth & predicted).sum() / total if total else np.nan""",
            [
                """
def my_dice(truth, predicted):
    either = (truth | predicted).sum()
    return (truth & predicted).sum() / either if either else np.nan""",
                """
def my_dice(truth, predicted):
    total = truth.sum() + predicted.sum()
    return 2 * (truth & predicted).sum() / total if total else 1.0""",
                """
def my_dice(truth, predicted):
    return 2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()) if truth.any() else np.nan""",
                "def my_dice(truth, predicted):\n    return (truth == predicted).mean() if (truth | predicted).any() else np.nan",
            ],
        ),
        "exercise-3": ("my_mean = 0.35", ["my_mean = 0.75", "my_mean = 0.7", "my_mean = 0.25", "my_mean = 7"]),
        "exercise-4": (
            """
def my_join(low, left):
    return keras.layers.Concatenate()([left, keras.layers.Conv2DTranspose(8, 2, strides=2)(low)])""",
            [
                "def my_join(low, left):\n    return keras.layers.Conv2DTranspose(8, 2, strides=2)(low)",
                "def my_join(low, left):\n    return keras.layers.Concatenate()([left, low])",
                """
def my_join(low, left):
    return keras.layers.Add()([left, keras.layers.Conv2DTranspose(5, 2, strides=2)(low)])""",
                """
def my_join(low, left):
    x = keras.layers.Concatenate()([left, keras.layers.Conv2DTranspose(8, 2, strides=2)(low)])
    return keras.layers.Conv2D(13, 1)(x)""",
                """
def my_join(low, left):
    return keras.layers.Concatenate()([left, keras.layers.Conv2D(8, 1)(left)])""",
            ],
        ),
        "exercise-5": ("my_threshold = 0.7", ["my_threshold = 0.6", "my_threshold = 0.5", "my_threshold = 0.4", "my_threshold = 0.8", "my_threshold = 0.65"]),
        "exercise-6": (
            "def my_leak(train_patients, test_patients):\n    return np.isin(test_patients, train_patients).mean()",
            [
                "def my_leak(train_patients, test_patients):\n    return np.isin(train_patients, test_patients).mean()",
                "def my_leak(train_patients, test_patients):\n    return len({*train_patients} & {*test_patients}) / len({*test_patients})",
                "def my_leak(train_patients, test_patients):\n    return 0.25",
            ],
        ),
    },
    "15_contrastive_learning": {
        "exercise-1": ("my_number = 6.907", ["my_number = 6.908", "my_number = 6.215", "my_number = 6.906", "my_number = 6.213", "my_number = 999"]),
        "exercise-2": (
            """
def my_loss(z, temperature):
    powers = np.exp(z @ z.T / temperature)
    np.fill_diagonal(powers, 0)
    i = np.arange(len(z))
    return -np.log(powers[i, np.roll(i, len(z) // 2)] / powers.sum(axis=1)).mean()""",
            [
                """
def my_loss(z, temperature):
    powers = np.exp(z @ z.T / temperature)
    i = np.arange(len(z))
    return -np.log(powers[i, np.roll(i, len(z) // 2)] / powers.sum(axis=1)).mean()""",
                """
def my_loss(z, temperature):
    powers = np.exp(z @ z.T / 0.5)
    np.fill_diagonal(powers, 0)
    i = np.arange(len(z))
    return -np.log(powers[i, np.roll(i, len(z) // 2)] / powers.sum(axis=1)).mean()""",
                """
def my_loss(z, temperature):
    powers = np.exp(z @ z.T / temperature)
    np.fill_diagonal(powers, 0)
    i = np.arange(len(z))
    return -np.log(powers[i, i ^ 1] / powers.sum(axis=1)).mean()""",
                """
def my_loss(z, temperature):
    powers = np.exp(z @ z.T / temperature)
    np.fill_diagonal(powers, 0)
    i = np.arange(len(z))
    return -np.log(powers[i, np.roll(i, len(z) // 2)] / powers.sum(axis=1))""",
            ],
        ),
        "exercise-3": (
            """
def my_verdict(spread, loss, images):
    if spread < 0.15:
        return "one_point"
    return "alike" if loss >= 0.97 * np.log(2 * images - 1) else "healthy\"""",
            [
                """
def my_verdict(spread, loss, images):
    return "alike" if loss >= 0.97 * np.log(2 * images - 1) else "healthy\"""",
                """
def my_verdict(spread, loss, images):
    if spread < 0.15:
        return "one_point"
    return "alike" if loss >= 0.97 * np.log(images) else "healthy\"""",
                """
def my_verdict(spread, loss, images):
    if spread < 0.15:
        return "one_point"
    return "alike" if loss >= 0.97 * np.log(2 * 128 - 1) else "healthy\"""",
            ],
        ),
        "exercise-4": ("my_eer = 0.2", ["my_eer = 0.4", "my_eer = 0.3", "my_eer = 0.1", "my_eer = 0.25", "my_eer = 20"]),
        "exercise-5": ('my_sentences = {"b", "d"}', ['my_sentences = {"a", "d"}', 'my_sentences = {"b"}', 'my_sentences = {"b", "c", "d"}', 'my_sentences = {"d", "e"}']),
    },
    "16_object_detection": {
        "exercise-1": ("my_overlap = 0.231", ["my_overlap = 0.1875", "my_overlap = 0.375", "my_overlap = 23.1", "my_overlap = 0.3"]),
        "exercise-2": (
            """
def my_iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)""",
            [
                """
def my_iou(one, other):  # two negative sides make a positive area
    both = (min(one[2], other[2]) - max(one[0], other[0])) * (min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(both, 0) / (sum(areas) - both)""",
                """
def my_iou(one, other):
    both = max(min(one[2], other[2]) - max(one[0], other[0]), 0) * max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    return both / sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))""",
                """
def my_iou(one, other):
    both = max(min(one[2], other[2]) - max(one[0], other[0]), 0) * max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    return both / min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))""",
            ],
        ),
        "exercise-3": ("my_windows = 5592", ["my_windows = 4389", "my_windows = 6300", "my_windows = 5300"]),
        "exercise-4": (
            """
def my_peaks(heat, least):
    rows, columns = heat.shape
    return [
        (r, c)
        for r in range(rows)
        for c in range(columns)
        if heat[r, c] >= least and heat[r, c] == heat[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].max()
    ]""",
            [
                "def my_peaks(heat, least):\n    return [tuple(place) for place in np.argwhere(heat >= least)]",
                "def my_peaks(heat, least):\n    return [tuple(place) for place in np.argwhere(heat == maximum_filter(heat, 3))]",
                "def my_peaks(heat, least):\n    return [tuple(place) for place in np.argwhere((heat >= least) & (heat == maximum_filter(heat, 5)))]",
                "def my_peaks(heat, least):\n    return [tuple(place) for place in np.argwhere((heat >= least) & (heat == maximum_filter(heat, (1, 3))))]",
            ],
        ),
        "exercise-5": ("my_ap = 0.625", ["my_ap = 0.833", "my_ap = 0.604", "my_ap = 0.6", "my_ap = 62.5"]),
        "exercise-6": ("my_share = 0.97**5", ["my_share = 0.97", "my_share = 0.85", "my_share = 85.9"]),
    },
    "17_numbers_and_groups": {
        "exercise-1": ("my_errors = (3.33, 1.33, 0.62)", ["my_errors = (10, 1.33, 0.62)", "my_errors = (1.83, 1.33, 0.62)", "my_errors = (3.33, 0.67, 0.62)", "my_errors = (3.33, 1.33, 0.38)"]),
        "exercise-2": (
            """
def my_distance(first, second):
    between = np.mod(first - second, 360)
    return np.minimum(between, 360 - between)""",
            [
                "def my_distance(first, second):\n    return first - second",
                "def my_distance(first, second):\n    return abs(first - second)",
                "def my_distance(first, second):\n    return distance(first, second)",
                "def my_distance(first, second):\n    return np.minimum(abs(first - second), 180)",
                "def my_distance(first, second):\n    return 20",
            ],
        ),
        "exercise-3": (
            """
def my_step(points, centres):
    nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    for number in range(len(centres)):
        if (nearest == number).any():
            centres[number] = points[nearest == number].mean(axis=0)
    return centres""",
            [
                "def my_step(points, centres):\n    return centres",
                "def my_step(points, centres):\n    return np.tile(points.mean(axis=0), (len(centres), 1))",
                """
def my_step(points, centres):
    nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    with np.errstate(all="ignore"):
        return [points[nearest == number].sum(axis=0) / (nearest == number).sum() for number in range(len(centres))]""",
                """
def my_step(points, centres):
    nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    return np.array([points[nearest == number].mean(axis=0) for number in sorted(set(nearest))])""",
            ],
        ),
        "exercise-4": ("my_minutes = 0", ["my_minutes = 360", "my_minutes = 719 / 2 + 100", "my_minutes = -1"]),
    },
}  # fmt: skip


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def code_cells(file: Path) -> list[dict]:
    return [cell for cell in read(file)["cells"] if cell["cell_type"] == "code"]


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def plain_python(cell: dict) -> str:
    """The cell's source; lines that only IPython understands (%pip, !apt-get, %%writefile) become `pass`."""
    return re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", "".join(cell["source"]))


class Skeleton(ast.NodeTransformer):
    """Removes text from code: strings become empty; in an f-string the values are kept, in any order."""

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        values = sorted(ast.dump(part.value) for part in node.values if isinstance(part, ast.FormattedValue))
        return ast.Tuple([ast.Constant(value) for value in values], ast.Load())


def skeleton(cell: dict) -> str:
    return ast.dump(Skeleton().visit(ast.parse(plain_python(cell))))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: str(file.relative_to(ROOT)))
def test_form(file):
    book = read(file)
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    for cell in book["cells"]:
        assert sum(1 for _ in cell["source"]) <= MOST_LINES, f"{cell['id']}: a cell fits a screen"
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None, (
                f"{cell['id']} has outputs: jupyter nbconvert --clear-output --inplace {file.relative_to(ROOT)}"
            )
    if file.stem.startswith("run_colab"):
        assert len(ids) <= 24 and sum(cell["cell_type"] == "code" for cell in book["cells"]) <= 14
        assert ids.index("install") < ids.index("quiet") < ids.index("train")  # TensorFlow starts without its messages
    else:
        kinds = [kind for cell in book["cells"] for kind in tags(cell) if kind in ("exercise", "check")]
        assert kinds == ["exercise", "check"] * (len(kinds) // 2) and "check" in tags(book["cells"][-1])
        assert 2 <= len(kinds) // 2 <= MOST_EXERCISES
        assert [cell["id"].removesuffix("-gap") for cell in book["cells"] if "exercise" in tags(cell)] == list(ANSWERS[file.stem])  # fmt: skip


@pytest.mark.parametrize(("english", "japanese"), PAIRS, ids=[english.stem for english, _ in PAIRS])
def test_both_languages_have_the_same_code(english, japanese):
    ours, theirs = read(english), read(japanese)
    assert [cell["id"] for cell in ours["cells"]] == [cell["id"] for cell in theirs["cells"]]
    assert ours["metadata"] == theirs["metadata"]
    for cell, other in zip(ours["cells"], theirs["cells"], strict=True):
        assert (cell["cell_type"], cell["metadata"]) == (other["cell_type"], other["metadata"]), cell["id"]
        if cell["cell_type"] == "code":
            assert skeleton(cell) == skeleton(other), f"{cell['id']}: other code in {japanese.name}"
            magics = [re.findall(r"(?m)^\s*[%!].*$", "".join(each["source"])) for each in (cell, other)]
            assert magics[0] == magics[1], cell["id"]
        else:
            assert JAPANESE.search("".join(other["source"])), f"{cell['id']}: not in Japanese"
            formulas = [
                re.findall(r"\$\$.*?\$\$|`[^`\n]+`|https?://[^)]+", "".join(each["source"])) for each in (cell, other)
            ]
            assert {*formulas[0]} == {*formulas[1]}, cell["id"]
    text = "".join("".join(cell["source"]) for cell in theirs["cells"])
    assert "精度" not in text  # 正解率 or 適合率


def test_the_skeleton_tells_code_apart_and_leaves_text_alone():
    def of(source):
        return skeleton({"source": [source]})

    assert of('print(f"{a} of {b}", "x")  # one') == of('print(f"{b} の {a}", "い")  # 二')
    assert of('print(f"{a} of {b}")') != of('print(f"{a} of {c}")')
    assert of("x = 1") != of("x = 2") and of("%pip install x\ny = 1") == of("%pip install x\ny = 1")


QUESTION = re.compile(r"\?|Guess|Decide|expect|Write (it|both|them|down)|Calculate first|on paper")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda file: file.stem)
def test_a_lesson_asks_before_it_tells(lesson):
    """What follows a question does not show its answer in an assertion, nor an exercise's check the answer; and it says where to read more."""
    is_asked = False
    for cell in read(lesson)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            is_asked = bool(QUESTION.search(source.strip().rpartition("\n\n")[2]))
        elif {"check", "hide-input"} & set(tags(cell)):
            assert cell["metadata"]["jupyter"]["source_hidden"] and cell["metadata"]["cellView"] == "form", cell["id"]
            assert source.startswith("# @title "), f"{cell['id']}: Colab shows the title alone"
        elif is_asked:
            spoiling = [line for line in source.splitlines() if line.startswith("assert ")]
            assert not spoiling, f"{cell['id']}: into a hidden cell with {spoiling}"
    checks = {cell["id"].removesuffix("-check"): "".join(cell["source"]) for cell in code_cells(lesson)}
    for name, (right, _) in ANSWERS[lesson.stem].items():
        value = right.partition(" = ")[2]
        with contextlib.suppress(ValueError, SyntaxError):  # computed or called values are judged by their result
            if not isinstance(answer := ast.literal_eval(value), (str, float)) and answer not in range(10):
                written = re.sub(r"sha256.*?== \"\w+\"", "", checks[name])
                assert not re.search(rf"\b{re.escape(str(answer))}\b", written.replace("_", "").replace(",", "")), name
    assert "https://keras.io/" in lesson.read_text(encoding="utf-8")


def test_diagrams_stand_in_both_languages(monkeypatch):
    """A PNG in the text itself, and described in words; drawn again it has the stated size, to 2 pixels."""
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    diagrams = importlib.import_module("diagrams")
    for diagram in diagrams.DIAGRAMS:
        sizes = {Image.open(io.BytesIO(diagrams.make_png(diagram.draw("en")))).size}
        for folder, said in (("notebooks", diagram.english), ("notebooks/ja", diagram.japanese)):
            (cell,) = (
                cell for cell in read(ROOT / folder / f"{diagram.lesson}.ipynb")["cells"] if cell["id"] == diagram.cell
            )
            told, data = re.fullmatch(r"!\[(.*)\]\(data:image/png;base64,(.*)\)", "".join(cell["source"])).groups()
            assert told == said
            sizes.add(Image.open(io.BytesIO(base64.b64decode(data))).size)
        widths, heights = zip(*sizes, strict=True)
        # A pixel of rounding lies between two versions of matplotlib.
        assert max(widths) - min(widths) <= 2 and max(heights) - min(heights) <= 2, (diagram.cell, sizes)


# The Japanese ones have the same code (see above), and lessons take long: nightly, except the first and run_colab.
RUNS = [
    pytest.param(
        file, marks=pytest.mark.nightly if is_second or file.stem[:2] not in ("01", "ru") else pytest.mark.slow
    )
    for pair in PAIRS
    for is_second, file in enumerate(pair)
]


@pytest.mark.parametrize("file", RUNS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_lesson_runs_and_its_exercises_check_themselves(file, tmp_path):
    process = start(file, tmp_path)
    said, errors = process.communicate()
    assert process.returncode == 0, f"{said[-500:]}\n{errors[-1500:]}"
    if file.stem.startswith("run_colab"):
        drive = tmp_path / "runs" / "my_drive"
        assert (drive / "runs" / "my_team" / "001" / "metrics_val.json").exists()
        assert (drive / "photos" / "example.png").exists()
        assert zipfile.is_zipfile(drive / "submission.zip") and "see: ok" in said.replace("見える状態：", "see: ")


def start(file: Path, folder: Path, last: str = "") -> subprocess.Popen:
    """Starts to execute a notebook in a separate process, up to a cell; the package is in `folder` if it is needed.

    As Jupyter does, it starts in the notebook's own folder, at the same place below `folder` as in the repository.
    """
    (started := folder / file.parent.relative_to(ROOT)).mkdir(parents=True, exist_ok=True)
    if "pbl.zip" in file.read_text(encoding="utf-8") and not (folder / "pbl").exists():
        bring_package(folder)
    return subprocess.Popen(
        [sys.executable, __file__, file, last], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        cwd=started, env={**os.environ, "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": ""},
    )  # fmt: skip


def bring_package(folder: Path) -> None:
    for name in ("pbl", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", folder)


@pytest.mark.nightly
def test_a_kernel_killed_in_the_middle_of_the_training_changes_nothing(tmp_path):
    """Running the cells of run_colab.ipynb again gives the weights of an uninterrupted run, bit for bit, and no second run."""
    import keras
    import numpy as np
    import pandas as pd

    notebook = ROOT / "run_colab.ipynb"
    models, histories = {}, {}
    for name in ("cut", "uncut"):
        (folder := tmp_path / name).mkdir()
        bring_package(folder)
        states = folder / "pbl" / "training" / "checkpoint.py"
        kept, changed = re.subn(r"(?m)^(REST|FIRST_REST) = .*", r"\1 = 0", states.read_text(encoding="utf-8"))
        assert changed == 2  # a state after each epoch, although the training is very short
        states.write_text(kept, encoding="utf-8")
        runs = folder / "runs" / "my_drive" / "runs" / "my_team"
        history, deadline = runs / "001" / "history.csv", time.monotonic() + 120
        process = start(notebook, folder, "train")
        while name == "cut" and not (history.exists() and history.read_text().count("\n") > 4):  # four epochs of 20
            assert process.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
            time.sleep(0.01)
        if name == "cut":
            process.kill()  # signal 9: nothing more can be saved
            process.communicate()
            assert json.loads((runs / "001" / "environment.json").read_text())["status"] == "running"
            assert not (runs / "001" / "final.keras").exists()
            process = start(notebook, folder, "train")
        said, errors = process.communicate()
        assert process.returncode == 0, f"{said[-500:]}\n{errors[-1500:]}"
        assert [run.name for run in runs.iterdir()] == ["001"]
        assert ("resumed" in json.loads((runs / "001" / "environment.json").read_text())) == (name == "cut")
        models[name] = keras.models.load_model(runs / "001" / "final.keras")
        histories[name] = pd.read_csv(history).drop(columns=["seconds", "images_per_second", "data_share"])
    assert len(histories["cut"]) == 20
    pd.testing.assert_frame_equal(histories["cut"], histories["uncut"], check_exact=True)
    for ours, theirs in zip(models["cut"].variables, models["uncut"].variables, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy()), ours.path
    states = [[variable.numpy() for variable in model.optimizer.variables] for model in models.values()]
    assert len(states[0]) > 2 and all(np.array_equal(*pair) for pair in zip(*states, strict=True))


def execute(file: Path, last: str = "") -> None:
    """Runs a notebook in this process, up to a cell; for each exercise with the empty gap, wrong answers and the right one."""
    import warnings

    import matplotlib.pyplot as plt

    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
    warnings.filterwarnings("error", message="Glyph")  # a box instead of a letter
    is_japanese = file.parent.name == "ja"
    space = {"__name__": "__main__"}
    _stand_in_for_ipython()

    def run(source: str, name: str) -> None:
        exec(compile(source, f"{file.name}, cell {name}", "exec"), space)
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
        plt.close("all")

    def refuse(check: dict) -> None:
        try:
            run(plain_python(check), check["id"])
        except AssertionError as error:
            said = str(error)
            assert said and "\n" not in said and bool(JAPANESE.search(said)) == is_japanese, f"{check['id']}: {said!r}"
        else:
            raise SystemExit(f"{check['id']}: the check passes what is not right")

    cells = code_cells(file)
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if source.startswith("%%writefile"):
            head, _, body = source.partition("\n")
            Path(head.split(maxsplit=1)[1].format(**space)).write_text(body, encoding="utf-8")
        elif "check" not in tags(cell):
            run(plain_python(cell), cell["id"])
        if "exercise" in tags(cell):
            right, wrong = ANSWERS[file.stem][cell["id"].removesuffix("-gap")]
            refuse(cells[number + 1])
            for answer in wrong:
                run(answer, f"{cell['id']}, wrong")
                refuse(cells[number + 1])
            run(right, f"{cell['id']}, right")
            run(plain_python(cells[number + 1]), cells[number + 1]["id"])
        if cell["id"] == last:
            return


def _stand_in_for_ipython() -> None:
    """If IPython is not installed: a `display` that only prints."""
    try:
        importlib.import_module("IPython.display")
    except ImportError:
        module = types.ModuleType("IPython.display")
        module.display, module.Image = print, lambda filename, width: filename
        sys.modules["IPython.display"] = module


@pytest.mark.parametrize("map_of_lessons", ["README.md", "README.ja.md"])
def test_the_map_names_lessons_cells_and_files_that_exist(map_of_lessons):
    text = (ROOT / "notebooks" / map_of_lessons).read_text(encoding="utf-8")
    links = re.findall(r"\]\(((?:ja/)?\d\d_[^)]+)\)", text)
    assert links == [f"{folder}{lesson.name}" for lesson in LESSONS for folder in ("", "ja/")]
    rows = [[part.strip() for part in line.strip("| ").split(" | ")] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 5 and re.fullmatch(r"\d\d", row[2])]
    assert len(rows) > 50 and {row[2] for row in rows} == {lesson.name[:2] for lesson in LESSONS}
    for idea, word, number, cells, files in rows:
        (lesson,) = (lesson for lesson in LESSONS if lesson.name.startswith(number))
        ids = {cell["id"] for cell in read(lesson)["cells"]}
        named = re.findall(r"`([^`]+)`", cells)
        assert word and named and set(named) <= ids, f"{idea}: lesson {number} has no {set(named) - ids}"
        paths = re.findall(r"`([^`]+)`", files)
        assert paths and all((ROOT / path).is_file() for path in paths), f"{idea}: {files}"


def test_lesson_7_tells_how_many_images_the_monitor_looks_at():
    from pbl.diagnosis.monitor import FEWEST, MOST_AT_END

    for name, told in (("", "at most {} images of each part"), ("ja/", "最大{}枚だけ")):
        text = (ROOT / "notebooks" / f"{name}07_overfitting.ipynb").read_text(encoding="utf-8")
        assert told.format(FEWEST) in text and f"{MOST_AT_END:,}" in text


@pytest.mark.parametrize("map_of_lessons", ["README.md", "README.ja.md"])
def test_worked_numbers_of_the_slides_are_asserted(map_of_lessons):
    """Each number of the table stands in an assertion of one of the cells that are named beside it."""
    text = (ROOT / "notebooks" / map_of_lessons).read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| ([-\d._, ]+) \| (\d\d) \| ([^|]+) \|$", text, re.MULTILINE)
    assert len(rows) == 20
    for numbers, lesson, ids in rows:
        (file,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
        cells = {cell["id"]: "".join(cell["source"]) for cell in code_cells(file)}
        asserted = [
            line for name in re.findall("`(.+?)`", ids) for line in cells[name].splitlines() if "assert" in line
        ]
        for number in numbers.split(", "):
            found = re.search(rf"(?<![\w.]){re.escape(number)}(?![\w.])", " ".join(asserted))
            assert found, f"{lesson} {ids}: {number} is in none of {asserted}"


def test_what_colab_ships_satisfies_the_requirements():
    """Installing there replaces nothing: each lower bound is at or below Colab's version; packages that are new there are named here."""
    from packaging.requirements import Requirement

    lines = (ROOT / "tests" / "colab_constraints.txt").read_text(encoding="utf-8").splitlines()
    shipped = dict(line.split("==") for line in lines if "==" in line)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = [Requirement(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]
    assert {need.name for need in needed} - set(shipped) <= {"pillow", "importlib_resources", "jinja2", "babel"}
    for need in needed:
        if need.name in shipped:
            assert need.specifier.contains(shipped[need.name]), f"{need} replaces Colab's {shipped[need.name]}"

    (tested,) = re.findall(r"TESTED = (\{.*?\})", "".join("".join(c["source"]) for c in code_cells(ROOT / "run_colab.ipynb")), re.S)  # fmt: skip
    tested = ast.literal_eval(tested)
    assert tested == {name: shipped[name] for name in tested}  # what the pre-flight compares with


def in_colab(monkeypatch, folder: Path) -> Path:
    """Simulates Colab, with /content as a folder here; returns the folder pbl of the Drive."""
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=lambda place: None)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google", types.SimpleNamespace(colab=colab))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(folder)
    (drive := folder / "content" / "drive" / "MyDrive" / "pbl").mkdir(parents=True)
    return drive


def test_lessons_begin_with_one_cell_that_takes_an_address_or_a_zip(monkeypatch, tmp_path):
    """The clone does not have the package's name: `import pbl` next to it would find an empty folder."""
    firsts = {}
    for file in NOTEBOOKS:
        if "pbl.zip" in file.read_text(encoding="utf-8") and not file.stem.startswith("run_colab"):
            firsts.setdefault(file.parent.name == "ja", set()).add("".join(code_cells(file)[0]["source"]))
    assert {is_japanese: len(cells) for is_japanese, cells in firsts.items()} == {False: 1, True: 1}
    assert not any("/content/pbl" in file.read_text(encoding="utf-8") for file in NOTEBOOKS)
    monkeypatch.setenv("PBL_LANGUAGE", "en")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    drive = in_colab(monkeypatch, tmp_path)
    for (cell,) in firsts.values():
        source = plain_python({"source": [cell]}).replace("/content", str(tmp_path / "content"))
        if not (drive / "pbl.zip").exists():
            with pytest.raises(SystemExit) as stop:  # a sentence, not a traceback
                exec(source, {})
            assert "REPOSITORY" in str(stop.value) and "pbl.zip" in str(stop.value)
            (package := tmp_path / "made" / "pbl-main" / "pbl").mkdir(parents=True)
            (package / "__init__.py").touch()
            (package.parent / "requirements.txt").touch()
            shutil.make_archive(drive / "pbl", "zip", tmp_path / "made")
        exec(source, {})
        assert sys.path[0] == str(tmp_path / "content" / "course")


@pytest.mark.parametrize("file", [ROOT / "run_colab.ipynb", ROOT / "notebooks" / "ja" / "run_colab.ipynb"])
def test_run_colab_overwrites_no_experiment_that_was_changed_elsewhere(file, tmp_path, capsys):
    cells = {cell["id"]: "".join(cell["source"]) for cell in read(file)["cells"]}
    (copying,) = (text.partition("\n\n")[0] for text in cells.values() if "my_team_before.txt" in text)
    (folder := tmp_path / "experiments").mkdir()
    mine = folder / "my_team.py"

    def run_all(experiment: str) -> str:
        (folder / "my_team.txt").write_text(experiment)  # what %%writefile does
        exec(copying, {"HOME": tmp_path, "shutil": shutil})
        return mine.read_text()

    assert "%%writefile {HOME}/experiments/my_team.txt\n" in cells["my-team"]
    assert [run_all(text) for text in ("one", "one", "two")] == ["one", "one", "two"] and not capsys.readouterr().out
    mine.write_text("by hand")
    assert [run_all(text) for text in ("two", "three")] == ["by hand"] * 2 and "my_team.py" in capsys.readouterr().out
    mine.unlink()
    assert run_all("three") == "three"


if __name__ == "__main__":
    execute(Path(sys.argv[1]), *sys.argv[2:])
