"""A run of detection from its data to its boxes, with the commands that a student uses; and what its diagnosis says."""

import copy
import json

import keras
import numpy as np
import pytest
from PIL import Image
from test_checkpoint import Cut, PowerCut

import pbl
from pbl.callbacks import CALLBACKS
from pbl.data import digit_canvases, write_coco
from pbl.diagnosis.detection import LIMITS, diagnose_boxes
from pbl.errors import InputError
from pbl.evaluation.detection import compute_average_precision, judge_threshold, match

SETTINGS = {
    "task": "detection", "model": "center_net", "model_options": {"width": 8, "head": 16, "depth": 2}, "optimizer": "adam",
    "learning_rate": 0.01, "batch_size": 16, "experiment": "boxes",
}  # fmt: skip


def few_canvases():
    return digit_canvases(240, side=32, most=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pbl.DATASETS, "few_canvases", few_canvases)
        yield pbl.train(
            pbl.Config(**SETTINGS, dataset="few_canvases", epochs=3), folder=tmp_path_factory.mktemp("runs")
        )


@pytest.mark.slow
def test_a_run_from_training_to_prediction(trained, tmp_path, command):
    run, names = trained, [str(digit) for digit in range(10)]
    found = run.read_json("metrics_val.json")
    val = pbl.load_data(few_canvases, boxes=True).images("val")
    with np.load(run.path / "predictions_val.npz") as saved:
        boxes, values = saved["boxes"], saved["values"]
    matches = match(val.boxes, boxes, 10)
    assert found["metrics"]["map50"] == pytest.approx(np.nanmean(compute_average_precision(matches)[:, 0]))
    assert values.mean() == pytest.approx(found["metrics"]["map50"])
    assert found["boxes"]["at_threshold"] == judge_threshold(matches, found["threshold"])
    history = run.read_table("history.csv", "val_map50", "probe_map50")
    assert max(float(row["val_map50"]) for row in history) == pytest.approx(found["metrics"]["map50"])
    assert {file.stem for file in (run.path / "figures").glob("*.png")} >= {"boxes_val", "learning_curves"}

    status, out, _ = command("evaluate", run.path, "--split", "test", "--json")
    assert status == 0 and json.loads(out)["threshold"] == found["threshold"]  # the one from validation
    status, out, _ = command("evaluate", run.path, "--require", "map50>=2")
    assert status == 1 and "right count" in out and "the mean box" in out
    assert {"boxes_val", "precision_recall_val", "thresholds_val"} <= {
        file.stem for file in (run.path / "figures").glob("*.png")
    }
    for words in (
        ("diagnose", run.path),
        ("report", run.path),
        ("report", run.path, "--language", "ja"),
        ("log", run.path.parent),
    ):
        assert command(*words)[0] == 0, words
    assert "枠" in (run.path / "report.html").read_text(encoding="utf-8")

    # In the image's own pixels: if the image is twice as large as the network's input, and padded, boxes are twice as large.
    pixels = val.pixels[:4, ..., 0]
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(image).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / f"large{number}.png")
    words = ("predict", run.path, tmp_path, "--csv", tmp_path / "boxes.csv", "--maps", tmp_path / "maps", "--json")
    status, out, _ = command(*words)
    assert status == 0 and len(list((tmp_path / "maps").glob("*_map.png"))) == 8
    rows = json.loads(out)
    assert (tmp_path / "boxes.csv").read_text(encoding="utf-8-sig").splitlines()[
        0
    ] == "file,class,score,left,top,right,bottom"
    for number in range(4):
        of = [row for row in rows if row["file"].endswith(f"/{number}.png")]
        wanted = [box for box in boxes[number].tolist() if box[5] >= found["threshold"]]
        assert len(of) == max(1, len(wanted))
        for row, (*corners, kind, score) in zip(of, wanted, strict=False):
            assert row["class"] == names[int(kind)] and row["score"] == pytest.approx(score)
            assert [row[side] for side in ("left", "top", "right", "bottom")] == pytest.approx(corners, abs=1e-4)
    large = [row for row in rows if "large" in row["file"] and row["class"]]
    assert large and max(row["right"] for row in large) > 32
    status, out, _ = command("predict", run.path, tmp_path / "0.png")
    assert status == 0 and ("bottom" in out or "nothing found" in out)


@pytest.mark.slow
def test_two_runs_are_compared_by_what_each_image_adds(trained, tmp_path, command):
    other = pbl.train(pbl.Config(**SETTINGS, dataset="few_canvases", epochs=1, seed=1), folder=trained.path.parents[1])
    status, out, _ = command("compare", trained.path, other.path, "--split", "val", "--out", tmp_path / "table")
    assert status == 0 and "mAP50" in out


@pytest.mark.nightly
@pytest.mark.slow
def test_a_run_is_the_left_side(tmp_path, monkeypatch):
    """A classifier's kernels are those of the left side, frozen, then fine-tuned; the run is loaded without the classifier's."""
    monkeypatch.setitem(pbl.DATASETS, "few_canvases", few_canvases)
    small = {"image_size": 32, "model": "small_cnn", "epochs": 1, "precision": "float32"}
    donor = pbl.train(pbl.Config(dataset="digits", experiment="donor", **small), folder=tmp_path)
    options = {"head": 16, "encoder": "small_cnn", "weights": str(donor.path)}
    model = pbl.models.build("center_net", (32, 32, 1), 10, **options)
    left, kernels = model.get_layer("encoder"), [w for w in pbl.load_model(donor).weights if len(w.shape) == 4]
    assert not left.trainable_weights and kernels
    for weight, given in zip([w for w in left.weights if len(w.shape) == 4], kernels, strict=True):
        np.testing.assert_array_equal(weight, given)
    config = pbl.Config(**SETTINGS, dataset="few_canvases", epochs=1).replace(model_options=options)
    frozen = pbl.train(config, folder=tmp_path)
    run = pbl.train(config.replace(fine_tune_epochs=1, fine_tune_learning_rate=1e-3, unfreeze=1), folder=tmp_path)
    donor.path.rename(tmp_path / "gone")
    for one, is_kept in ((frozen, True), (run, False)):
        last = keras.models.load_model(one.path / "final.keras").get_layer("encoder")
        now = [w for w in last.weights if len(w.shape) == 4]
        assert all(np.array_equal(*pair) for pair in zip(now, kernels, strict=True)) == is_kept
    assert run.environment["fine_tune_from_epoch"] == 2
    assert pbl.load_model(run).predict(few_canvases_pixels(), verbose=0).shape == (4, 100, 6)


def few_canvases_pixels():
    return pbl.load_data(few_canvases, boxes=True).images("val").pixels[:4]


@pytest.mark.nightly
@pytest.mark.slow
def test_it_goes_on_after_a_cut_and_ends_the_same(tmp_path, monkeypatch):
    """Interrupted within an epoch: weights, what the monitor measured, the evaluation, each box."""
    monkeypatch.setitem(pbl.DATASETS, "few_canvases", few_canvases)
    monkeypatch.setitem(CALLBACKS, "cut", Cut)
    config = pbl.Config(
        **SETTINGS, dataset="few_canvases", epochs=2, augmentation={"crop": 2, "zoom": 0.1}, callbacks=["cut"],
        checkpoint_minutes=1e-6, precision="mixed_bfloat16",
    )  # fmt: skip
    whole = pbl.train(config, folder=tmp_path / "whole")
    monkeypatch.setattr(Cut, "at", ("step", 1, 5))
    with pytest.raises(PowerCut):
        pbl.train(config, folder=tmp_path)
    run = pbl.train(config, folder=tmp_path)
    assert run.environment["resumed"][0]["step"] == 4
    for one, other in zip(pbl.load_model(run).get_weights(), pbl.load_model(whole).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.read_json("metrics_val.json")["boxes"] == whole.read_json("metrics_val.json")["boxes"]
    columns = ("loss", "val_loss", "probe_map50", "val_map50")
    for name in columns:
        assert [row[name] for row in run.read_table("history.csv", name)] == [
            row[name] for row in whole.read_table("history.csv", name)
        ]
    with np.load(run.path / "predictions_val.npz") as one, np.load(whole.path / "predictions_val.npz") as other:
        np.testing.assert_array_equal(one["boxes"], other["boxes"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": "categorical_crossentropy"}, "has its own loss"),
        ({"class_weight": "balanced"}, "class_weight"),
        ({"dataset": "digits"}, "no boxes"),
        ({"model": "small_cnn", "model_options": {}}, "task=classification|center_net"),
        ({"augmentation": {"mixup": 0.2}}, "boxes cannot be mixed"),
        ({"task_options": {"threshold": 0.5}}, "has no option 'threshold'"),
        ({"task": "classification", "model": "mlp", "model_options": {}}, "task=detection"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(settings, said, tmp_path, monkeypatch):
    monkeypatch.setitem(pbl.DATASETS, "few_canvases", few_canvases)
    with pytest.raises(InputError, match=said) as error:
        pbl.train(pbl.Config(**{**SETTINGS, "dataset": "few_canvases", "epochs": 1, **settings}), folder=tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_with_boxes_is_examined_and_broken_ones_are_told(tmp_path, command):
    data = pbl.load_data(few_canvases, boxes=True).images("val")
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    names = [f"{number}.png" for number in range(len(data.names))]
    for name, pixels in zip(names, data.pixels[..., 0], strict=True):
        Image.fromarray(pixels).save(folder / "images" / name)
    write_coco(folder / "annotations.json", names, [(32, 32)] * len(names), data.boxes, list("0123456789"))
    status, out, _ = command("check", folder, "task=detection")
    assert status in (0, 1) and "boxes" in out
    annotations = next(folder.rglob("*.json"))
    text = json.loads(annotations.read_text())
    for change, said in (
        (lambda of: of["annotations"][0].update(category_id=77), "77"),
        (lambda of: of["annotations"][0].update(bbox=[1, 2, "x", 4]), "bbox"),
        (lambda of: of["images"][0].update(file_name="gone.png"), "gone.png"),
        (lambda of: of.pop("images"), "images"),
    ):
        broken = copy.deepcopy(text)
        change(broken)
        annotations.write_text(json.dumps(broken))
        status, _, told = command("check", folder, "task=detection")
        assert status == 2 and said in told and told.count("\n") == 1, told
    annotations.write_text('{"images": [')
    status, _, told = command("check", folder, "task=detection")
    assert status == 2 and annotations.name in told and told.count("\n") == 1


HEALTHY = {
    "images": 200, "leak": None, "difference": {"baseline": "mean_box", "value": 0.9, "low": 0.85, "high": 0.93},
    "boxes": {
        "map50": 0.95, "map": 0.7,
        "classes": [{"name": name, "boxes": 90, "images": 60, "ap50": 0.95, "ap": 0.7} for name in "ab"],
        "at_threshold": {
            "threshold": 0.4, "precision": 0.96, "recall": 0.94, "image_f1": 0.95, "right_count": 0.9,
            "right_count_interval": [0.85, 0.93], "count_error": 0.1, "empty": 40, "empty_with_boxes": 1,
        },
    },
    "training": {"images": 300, "map50": 0.97, "gap": {"value": 0.02, "low": 0.0, "high": 0.04}},
}  # fmt: skip


def change(**values):
    metrics = copy.deepcopy(HEALTHY)
    for path, value in values.items():
        at = metrics
        *way, last = path.split("__")
        for name in way:
            at = at[name]
        at[last] = value
    return metrics


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        (HEALTHY, ["healthy"]),
        (change(boxes__map50=0.01), ["learned_nothing"]),
        (change(difference={"baseline": "mean_boxes", "value": -0.1, "low": -0.15, "high": -0.05}), ["learned_nothing"]),
        (change(difference={"baseline": "mean_boxes", "value": 0.01, "low": -0.05, "high": 0.06}), ["no_better_than_baseline"]),
        (change(training__gap={"value": 0.2, "low": 0.15, "high": 0.25}), ["overfitting"]),
        (change(training__gap={"value": 0.2, "low": 0.01, "high": 0.4}), ["healthy"]),  # not significant
        (change(training__map50=0.5), ["underfitting"]),
        (change(boxes__classes=[{**HEALTHY["boxes"]["classes"][0], "ap50": of, "name": name} for name, of in (("a", 0.9), ("b", 0.0))]), ["class_never_found"]),
        (change(boxes__at_threshold__empty_with_boxes=20), ["false_boxes"]),
        (change(boxes__at_threshold__right_count=0.6, boxes__at_threshold__right_count_interval=[0.53, 0.66]), ["wrong_count"]),
        (change(boxes__at_threshold__right_count=0.7, boxes__at_threshold__right_count_interval=[0.63, 0.76]), ["healthy"]),
        (change(leak={"check": "copies_across", "severity": "stop", "items": 7}), ["leak_suspected"]),
        (change(boxes__at_threshold=None), ["healthy"]),
    ],
)  # fmt: skip
def test_the_verdict(metrics, names):
    found = diagnose_boxes(metrics)
    assert [finding.name for finding in found.findings] == names
    assert str(found) and found.paragraphs("ja")
    assert LIMITS["counted"].value == 0.75


def test_what_rises_still_is_to_be_trained_longer():
    history = [{"epoch": epoch, "val_map50": epoch / 20} for epoch in range(1, 10)]
    found = diagnose_boxes(change(training__map50=0.5), history, pbl.Config(**SETTINGS, epochs=9))
    assert found.headline.cause == "train_longer" and found.experiments[0].settings == {"epochs": 27}
