"""A run as a file for another runtime: the file gives the same outputs as the run, or is not kept; and the card next to it."""

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import pbl
from pbl.data import from_masked_arrays
from pbl.errors import InputError
from pbl.evaluation.run import load_model, open_data
from pbl.export import formats, readers
from pbl.export import run as exporting
from pbl.models.saving import save_model
from pbl.reports.model_card import BOXES, FILLED, _list_classes, write_card
from pbl.reports.run_report import write_report
from pbl.runs import Run, load_run, start_run
from pbl.statistics import wilson_interval

NEEDS = {name: list(one.packages.values()) for name, one in formats.FORMATS.items()}


def skip_without(name: str) -> None:
    for module in NEEDS[name]:
        pytest.importorskip(module, reason=f"--format {name} needs {module}")


@pytest.fixture
def run(trained_run, tmp_path) -> Run:
    """A copy of a trained run, which tests may change."""
    shutil.copytree(trained_run.path, tmp_path / "runs" / "small" / "001")
    return load_run(tmp_path / "runs" / "small" / "001")


def make_run(tmp_path: Path, **settings) -> Run:
    """A run that has not been trained: its initial weights are its best."""
    config = pbl.Config(experiment="made", precision="float32", **settings)
    data = open_data(config)
    run = start_run(config, tmp_path / "runs")
    run.write_json("split.json", data.split)
    run.write_json("environment.json", {**run.environment, "status": "finished", "precision": "float32"})
    keras.utils.set_random_seed(0)
    model = pbl.models.build(config.model, data.input_shape, data.num_classes, **config.model_options)
    save_model(model, run.path, "best")
    return load_run(run.path)


REFUSED = [
    ("tfjs", None, "tfjs cannot be written here: tensorflowjs needs TensorFlow 2.19 or older"),
    ("tflite", None, "No format is called 'tflite'. Did you mean 'litert'? Valid: keras, litert, onnx, savedmodel."),
    ("keras", "int8", "--quantise int8 does not work with --format keras. Valid: --format litert: int8, float16; --format onnx: int8."),
    ("onnx", "float16", "--quantise float16 does not work with --format onnx."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "quantise", "told"), REFUSED)
def test_what_cannot_be_is_told_in_one_line(run, name, quantise, told):
    with pytest.raises(InputError) as error:
        pbl.export_run(run, name, quantise=quantise)
    assert str(error.value).startswith(told) and not (run.path / "export").exists()


@pytest.mark.parametrize(("name", "told"), [("litert", '"ai-edge-litert"'), ("onnx", '"tf2onnx" "onnxruntime"')])
def test_a_missing_package_is_named_with_how_to_install_it(run, command, monkeypatch, name, told):
    find = importlib.util.find_spec
    missing = {module for modules in NEEDS.values() for module in modules}
    monkeypatch.setattr(importlib.util, "find_spec", lambda of, *more: None if of in missing else find(of, *more))
    status, said, error = command("export", run.path, "--format", name)
    assert status == 2 and error.count("\n") == 1 and error.endswith(f"Run: pip install {told}\n") and not said
    assert not (run.path / "export").exists()


def test_quantising_is_for_classifiers(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "check_format", lambda name, quantise: formats.FORMATS[name])
    made = make_run(tmp_path, task="anomaly", model="autoencoder", task_options={"normal": "8"})
    with pytest.raises(InputError, match="--quantise is for classifiers"):
        exporting.export_run(made, "litert", quantise="int8")


def read_by_itself(name: str, file: Path, pixels: np.ndarray) -> np.ndarray:
    """What a stranger's program does, with only the JSON file from us."""
    about = json.loads(file.with_name(f"{file.name}.json").read_text())
    inputs = {about["inputs"][0]["name"]: pixels.astype(about["inputs"][0]["dtype"])}
    if name == "keras":
        return np.asarray(keras.saving.load_model(file)(pixels))
    if name == "savedmodel":
        import tensorflow as tf

        given = {key: tf.constant(value) for key, value in inputs.items()}
        return tf.saved_model.load(str(file)).signatures["serving_default"](**given)[about["output"]["name"]].numpy()
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file))
        assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == about["class_names"]
        return session.run([about["output"]["name"]], inputs)[0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": [*inputs], "outputs": [about["output"]["name"]]}
    }
    place, rows = interpreter.get_input_details()[0]["index"], []
    interpreter.allocate_tensors()
    for image in pixels.astype(np.float32):
        interpreter.set_tensor(place, image[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.stack(rows)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_file_gives_what_the_run_gives(run, command, name):
    skip_without(name)
    status, said, _ = command("export", run.path, "--format", name, "--json")
    about = json.loads(said)
    file, images = Path(about["path"]), open_data(run.config).images("val")
    pixels = images.pixels[:20]
    found = read_by_itself(name, file, pixels)
    exact = load_model(run, "float32").predict(pixels, verbose=0)
    assert status == 0 and file == run.path / "export" / formats.FORMATS[name].file
    assert abs(found - exact).max() < 1e-4 and about["largest_difference_from_float32"] < 1e-4
    assert about["compared"] == 100 and about["changed_classes"] <= 5
    assert about["class_names"] == run.split["class_names"] and about["image_size"] == [8, 8] and about["channels"] == 1
    files = [one for one in file.rglob("*") if one.is_file()] if file.is_dir() else [file]
    assert sum(one.stat().st_size for one in files) >= about["bytes"] > 1000
    low, median, high = (about["latency_ms"][key] for key in ("low", "median", "high"))
    assert 0 < low <= median <= high
    assert (run.path / "export" / "model_card.md").exists()


def spoil(change):
    """A format whose reader returns something else than the run."""
    keras_format = formats.FORMATS["keras"]

    def read(file, names):
        reading = keras_format.read(file, names)
        return reading._replace(call=lambda *arrays: change(reading.call(*arrays)))

    return keras_format._replace(read=read, quantises=("int8",))


def push(rows: np.ndarray) -> np.ndarray:
    return rows + np.float32(0.01) * np.eye(len(rows), rows.shape[1], dtype=np.float32)


SPOILT = [
    (push, "The keras file differs from the run by 0.01 (from the same weights in float32), but rounding explains at most 0.001"),
    (lambda rows: rows * np.nan, "The keras file gives not all finite numbers of the shape (100, 10)"),
    (lambda rows: rows[:, :9], "The keras file gives finite numbers of the shape (100, 9), but the run gives (100, 10)"),
    (lambda rows: 1 / 0, "This model cannot be exported as keras: ZeroDivisionError: division by zero. Try another --format"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), SPOILT)
def test_a_file_that_gives_something_else_is_not_kept(run, command, monkeypatch, change, told):
    monkeypatch.setitem(formats.FORMATS, "keras", spoil(change))
    status, said, error = command("export", run.path, "--format", "keras")
    assert status == 2 and error.splitlines()[-1].startswith(f"pbl: {told}") and not said and "Traceback" not in error
    assert not (run.path / "export").exists()


def test_a_bug_of_ours_keeps_its_traceback():
    """Only what a converter, or a layer that it calls, raises is told in one line."""
    with pytest.raises(AttributeError), formats.converting("keras"):
        formats.flatten_layers(None)


def test_a_runtime_that_crashes_is_told_in_one_line(run, monkeypatch):
    """One runtime frees memory twice: its process dies, and this one does not."""
    program = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
    start = lambda *words: subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: E731
    monkeypatch.setattr(readers, "start_process", start)
    read = functools.partial(readers.read_elsewhere, "litert")
    monkeypatch.setitem(formats.FORMATS, "keras", formats.FORMATS["keras"]._replace(read=read))
    with pytest.raises(InputError, match=r"The runtime of litert crashes when it runs this file \(SIGABRT\)"):
        pbl.export_run(run, "keras")
    assert not (run.path / "export").exists()


def test_a_run_of_16_bits_is_compared_with_float32_too(monkeypatch):
    """Rounding may change the outputs of `predict`, but not the file's own numbers; in a float32 run nothing may differ."""
    rows = np.full((4, 2), 0.5, np.float32)
    monkeypatch.setattr(exporting, "is_native", lambda policy: True)
    for policy, passes in (("float32", False), ("mixed_bfloat16", True)):
        run = type("AnyRun", (), {"environment": {"precision": policy}, "config": pbl.Config()})()
        if passes:
            assert exporting._compare(run, "onnx", None, rows + 0.1, rows, rows + 0.1)["largest_difference"] > 0.09
        else:
            with pytest.raises(InputError, match="from predict, in float32"):
                exporting._compare(run, "onnx", None, rows + 0.1, rows, rows + 0.1)
    with pytest.raises(InputError, match=r"0\.3 .*from predict, in mixed_bfloat16"):
        exporting._compare(run, "onnx", None, rows + 0.3, rows, rows + 0.3)


@pytest.mark.parametrize(
    ("name", "quantise", "smaller"), [("litert", "int8", 0.4), ("litert", "float16", 0.6), ("onnx", "int8", 0.4)]
)
def test_a_quantised_file_is_smaller_and_judged_on_the_same_images(run, name, quantise, smaller):
    skip_without(name)
    whole, small = pbl.export_run(run, name), pbl.export_run(run, name, quantise=quantise)
    assert small.file.name == f"model_{quantise}{whole.file.suffix}" and whole.file.exists()
    assert small.about["bytes"] < max(smaller * whole.about["bytes"], 20_000)
    images = open_data(run.config).images("val")
    found = read_by_itself(name, small.file, images.pixels).argmax(axis=1) == images.labels
    before = load_model(run).predict(images.pixels, verbose=0).argmax(axis=1) == images.labels
    accuracy = small.about["accuracy"]
    assert accuracy["images"] == len(images.labels)
    for side, right in (("before", before), ("after", found)):
        assert abs(accuracy[side]["value"] - right.mean()) < 0.02
        n = round(accuracy[side]["value"] * len(right))
        assert accuracy[side]["interval"] == pytest.approx(wilson_interval(n, len(right)))
    assert accuracy["difference"] == pytest.approx(
        (accuracy["only_after"] - accuracy["only_before"]) / accuracy["images"]
    )
    low, high = accuracy["interval"]
    assert low <= accuracy["difference"] <= high and 0 < accuracy["p"] <= 1


def test_a_quantised_file_that_loses_too_much_is_not_kept(run, monkeypatch):
    monkeypatch.setitem(formats.FORMATS, "keras", spoil(lambda rows: rows[:, ::-1]))
    with pytest.raises(InputError, match="the loss is certainly more than 5 points"):
        pbl.export_run(run, "keras", quantise="int8")
    assert not (run.path / "export").exists()


TASKS = {
    "segmentation": {"model": "unet", "dataset": "squares", "model_options": {"width": 8, "depth": 2}},
    "anomaly": {"model": "vae", "task_options": {"normal": "8"}},
    "generation": {"model": "mlp_gan", "model_options": {"conditional": True}},
    "contrast": {"model": "simclr", "model_options": {"encoder": "small_cnn"}, "augmentation": {"crop": 1}},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["savedmodel", "litert", pytest.param("onnx", marks=pytest.mark.slow)])
def test_other_tasks_give_what_is_of_use(tmp_path, task, name):
    skip_without(name)
    draw = np.random.default_rng(0)
    masks = np.repeat(np.repeat(draw.integers(0, 2, (60, 2, 2)), 8, axis=1), 8, axis=2).astype(np.uint8)
    noisy = (100 * masks + draw.integers(0, 100, masks.shape)).astype(np.uint8)
    pbl.DATASETS["squares"] = lambda: from_masked_arrays(noisy, masks)
    made = pbl.export_run(make_run(tmp_path, task=task, **TASKS[task]), name)
    about, shape = made.about, tuple(load_run(tmp_path / "runs/made/001").split["input_shape"])
    outputs = {"segmentation": shape[:2], "anomaly": shape, "generation": shape, "contrast": ()}[task]
    assert tuple(about["output"]["shape"][1 : 1 + len(outputs)]) == outputs
    assert [one["name"] for one in about["inputs"]] == (["noise", "label"] if task == "generation" else ["images"])
    assert about["largest_difference"] < 1e-3 and ("changed_classes" in about) == (task == "segmentation")


def test_a_model_that_is_never_called_has_nothing_to_export(run, monkeypatch):
    class OwnSteps(keras.Model):
        """Like a GAN with two networks: only its training step is its own."""

    take = exporting._take_part
    monkeypatch.setattr(exporting, "_take_part", lambda run, model: take(run, OwnSteps()))
    with pytest.raises(InputError, match=r"has no call\(\): there is nothing to export"):
        pbl.export_run(run, "keras")


@pytest.mark.parametrize(
    "settings",
    [
        {
            "model": "vit_tiny",
            "model_options": {"depth": 1, "patch": 4},
        },  # GELU, of which tf2onnx makes what ONNX lacks
        pytest.param(
            {"model": "efficientnet_transfer", "model_options": {"weights": None}, "image_size": 32},
            marks=pytest.mark.slow,
        ),  # a normalisation with numbers that are no weights
    ],
    ids=["vit_tiny", "efficientnet_transfer"],
)
def test_networks_that_tf2onnx_alone_gets_wrong(tmp_path, settings):
    skip_without("onnx")
    assert pbl.export_run(make_run(tmp_path, **settings), "onnx").about["largest_difference"] < 1e-4


def test_what_people_wrote_in_a_card_stays(run):
    first = pbl.export_run(run, "keras")
    text = first.card.read_text(encoding="utf-8")
    for heading in (*BOXES, *FILLED.values()):
        assert text.count(f"\n## {heading}\n") == 1
    ours = text.replace("## Intended use\n", "## Intended use\n\nFor our class alone. 授業用です。\n")
    ours = ours.replace("- Model: mlp", "- Model: our own words")
    first.card.write_bytes(ours.replace("\n", "\r\n").encode())  # as a Windows editor writes it
    second = pbl.export_run(run, "savedmodel")
    now = second.card.read_bytes().decode().replace("\r\n", "\n")
    assert second.kept == ["Model details"] and "- Model: our own words" in now
    assert "For our class alone. 授業用です。" in now and "| saved_model |" in now and "| saved_model |" not in ours
    assert write_card(run, run.path / "export", "ja")[1] == ["モデルの概要"]
    assert second.card.read_text(encoding="utf-8").count("<!-- pbl:") == len(FILLED)


def test_a_card_that_is_no_text_stands_before_any_work(run, monkeypatch):
    card = run.path / "export" / "model_card.md"
    card.parent.mkdir()
    card.write_bytes("日本語".encode("cp932"))
    monkeypatch.setattr(exporting, "load_model", None)
    with pytest.raises(InputError, match="is not text in UTF-8"):
        pbl.export_run(run, "keras")
    assert card.read_bytes() == "日本語".encode("cp932")


def test_a_card_says_what_the_run_says(write_run):
    """Counted here by hand; a hostile name neither ends a mark nor adds a column."""
    hostile = "<!-- /pbl:metrics -->|dog"
    labels = np.repeat([0, 1], 50)
    correct = np.r_[np.arange(50) < 40, np.arange(50) < 45]
    run = Run(write_run("runs/x/001", correct, labels=labels, class_names=["cat", hostile], model="mlp"))
    card, _ = write_card(run, run.path)
    text = card.read_text(encoding="utf-8")
    (low, high), (found_low, found_high) = wilson_interval(40, 50), wilson_interval(40, 45)
    assert f"| cat | 80.0% ({low:.1%} to {high:.1%}) | 88.9% ({found_low:.1%} to {found_high:.1%}) | " in text
    assert "| Accuracy | 0.8500 |" in text and "\n<!-- /pbl:metrics -->|" not in text
    assert write_card(run, run.path)[1] == [] and card.read_text(encoding="utf-8") == text


def test_a_folder_of_another_run_and_a_strangers_links_are_left_alone(run, tmp_path, command):
    place = tmp_path / "mine"
    pbl.export_run(run, "keras", out=place)
    other = run.path.parent / "002"
    shutil.copytree(run.path, other)
    status, _, error = command("export", other, "--format", "keras", "--out", place)
    assert status == 2 and error.splitlines()[-1].endswith("another run, small/001. Give another folder with --out.")
    (victim := tmp_path / "victim").write_text("precious")
    (other / "export").mkdir()
    (other / "export" / "model.keras").symlink_to(victim)
    status, _, error = command("export", other, "--format", "keras")
    assert status == 2 and "is a link: nothing is written to its target" in error and victim.read_text() == "precious"


def test_the_report_of_a_run_leads_to_the_card(run):
    before = write_report(run).file.read_text(encoding="utf-8")
    pbl.export_run(run, "keras")
    after = write_report(run).file.read_text(encoding="utf-8")
    assert "export --format litert" in before.replace(f" {run.path}", "") and "model_card.md" not in before
    assert "<code>export/model_card.md</code>" in after and "<code>export/model.keras</code>" in after


def test_the_lowest_f1_of_a_card_are_of_classes_that_have_one():
    """60 classes, of which the first 20 have no images and no F1: of the other 40 all are told, the one with the lowest F1 first."""
    n, rows = 60, np.diag([0] * 20 + [10 + at for at in range(40)])
    rows[20, 59] = 30
    by_class = {f"c{at}": {"f1": None if at < 20 else 0.4 if at == 20 else 0.9} for at in range(n)}
    result = {"by_class": by_class, "confusion_matrix": rows.tolist(), "class_names": list(by_class)}
    told = _list_classes(result, "en")
    assert told[0] == "The 40 of 60 classes with the lowest F1" and told[1] == "" and len(told) == 4 + 40
    assert told[4].startswith("| c20 |") and not any("undefined" in line for line in told)
