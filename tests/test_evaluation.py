import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pbl
from pbl.cli.evaluation import _show_what_validation_chose
from pbl.errors import InputError
from pbl.models.prediction import predict_probabilities
from pbl.runs import Run


@pytest.fixture
def run_copy(trained_run, tmp_path) -> Run:
    """A copy of the trained run, to be changed."""
    return Run(shutil.copytree(trained_run.path, tmp_path / "x" / "001"))


@pytest.mark.parametrize(("model", "options"), [("mlp", {}), pytest.param("resnet20", {}, marks=pytest.mark.nightly)])
def test_a_prediction_equals_the_evaluation_bit_for_bit(tmp_path, model, options):
    """Each test image, saved to a file and predicted alone or in a folder, gets the bits that evaluate computed."""
    run = pbl.train(pbl.Config(experiment="x", model=model, model_options=options, epochs=1), folder=tmp_path)
    pbl.evaluate(run, "test")
    with np.load(run.path / "predictions_test.npz") as saved:
        expected = saved["probabilities"]
    images = pbl.load_data("digits").images("test").pixels
    (tmp_path / "images").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / "images" / f"{number:04d}.png")
    together = pbl.predict(run, [tmp_path / "images"])
    np.testing.assert_array_equal(together.filter(like="p(").to_numpy(), expected)
    for number in (0, 37, 538):  # alone: at another place in its batch, among zeros
        alone = pbl.predict(run, [tmp_path / "images" / f"{number:04d}.png"])
        np.testing.assert_array_equal(alone.filter(like="p(").to_numpy()[0], expected[number])
        assert (
            alone["class"].item() == str(expected[number].argmax())
            and alone["probability"].item() == expected[number].max()
        )


@pytest.mark.parametrize("count", [1, 27, 28, 29, 31, 32, 33])
def test_the_company_of_an_image_changes_nothing(count):
    model = pbl.models.build("resnet20", (16, 16, 3), 4)
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8)
    expected = predict_probabilities(model, images)
    np.testing.assert_array_equal(predict_probabilities(model, images[-count:]), expected[-count:])


def test_another_size_and_mode_is_fitted(trained_run, tmp_path):
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (40, 31, 4), np.uint8)).save(tmp_path / "写真.png")
    table = pbl.predict(trained_run, [tmp_path])
    assert table["file"].item().endswith("写真.png") and table.filter(like="p(").to_numpy().sum() == pytest.approx(
        1, abs=1e-6
    )


@pytest.mark.slow
def test_each_use_of_the_test_split_is_counted(run_copy):
    assert pbl.evaluate(run_copy)["test_uses"] == 0
    assert pbl.evaluate(run_copy, "test")["test_uses"] == 1
    result = pbl.evaluate(run_copy, "test", source="digits")
    assert result["test_uses"] == 2 and result["images"] == 539
    assert (run_copy.path / "metrics_test.json").exists() and (
        run_copy.path / "figures" / "confusion_matrix_test.png"
    ).exists()
    assert pbl.evaluate(run_copy)["test_uses"] == 2


def digits_with(change) -> pbl.data.Source:
    images = pbl.data.load_data("digits")
    parts = [images.images(split) for split in ("train", "val", "test")]
    pixels, labels = np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts])
    return change(pixels, labels)


def test_other_images_under_the_same_name_are_refused(run_copy, monkeypatch):
    def changed(pixels, labels):
        pixels = pixels.copy()
        pixels[1069:1075] ^= 1  # six of the validation images
        return pbl.data.from_arrays(pixels, labels)

    source = digits_with(changed)
    monkeypatch.setitem(pbl.data.DATASETS, "digits", lambda: source)
    with pytest.raises(
        InputError,
        match=r"The val images of 'digits' are not those of the run .*: \d+ are new \(first: train/\d+\), \d+ are gone",
    ):
        pbl.evaluate(run_copy)


def test_other_classes_are_refused(run_copy, monkeypatch):
    source = digits_with(lambda pixels, labels: pbl.data.from_arrays(pixels, labels % 2, ["even", "odd"]))
    monkeypatch.setitem(pbl.data.DATASETS, "two", lambda: source)
    with pytest.raises(InputError, match=r"was trained on the classes 0, 1, .*, but 'two' has even, odd"):
        pbl.evaluate(run_copy, source="two")


def test_wrong_words(run_copy):
    with pytest.raises(InputError, match=r"split='train'\. Valid: val, test"):
        pbl.evaluate(run_copy, "train")
    with pytest.raises(InputError, match=r"No file or folder photo\.png"):
        pbl.predict(run_copy, "photo.png")
    with pytest.raises(InputError, match="No image was named"):
        pbl.predict(run_copy, [])


@pytest.mark.slow
def test_copies_of_training_images_are_counted(tmp_path, monkeypatch):
    digits = pbl.load_data("digits").images("test")
    source = pbl.data.from_arrays(digits.pixels, digits.labels, test=(digits.pixels[:50], digits.labels[:50]))
    monkeypatch.setitem(pbl.data.DATASETS, "leaking", lambda: source)
    run = pbl.train(
        pbl.Config(experiment="x", dataset="leaking", model="softmax_regression", epochs=1), folder=tmp_path
    )
    trained = set(run.split["hashes"]["train"])
    expected = sum(content[:16] in trained for content in digits.hashes[:50])
    assert pbl.evaluate(run, "test")["copies_in_train"] == expected > 30
    assert pbl.evaluate(run, "val")["copies_in_train"] == 0


def cut(run: Run) -> None:
    file = run.path / "best.weights.h5"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def fewer_classes(run: Run) -> None:
    run.write_json("split.json", {**run.read_json("split.json"), "class_names": ["a", "b"]})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            lambda run: [(run.path / f"best.{end}").unlink() for end in ("weights.h5", "keras")],
            "contains no trained model",
        ),
        (cut, "best.weights.h5 is damaged"),
        (lambda run: (run.path / "best.weights.h5").write_bytes(b""), "best.weights.h5 is damaged"),
        (
            lambda run: run.write_json("split.json", {"class_names": []}),
            "split.json is not used, because it is damaged (class_names)",
        ),
        (fewer_classes, "does not fit the model that the run describes (mlp, 2 classes)"),
        (lambda run: (run.path / "split.json").write_text("{"), "split.json is not used, because it is damaged."),
        (lambda run: (run.path / "experiment.py").unlink(), "experiment.py"),
    ],
)
def test_a_damaged_run(run_copy, harm, said):
    harm(run_copy)
    with pytest.raises(InputError) as error:
        pbl.evaluate(run_copy)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_classifier_is_judged_without_what_the_data_doctor_found(run_copy):
    (run_copy.path / "data_check.json").write_text("{")
    assert pbl.evaluate(run_copy)["images"] > 0


@pytest.mark.slow
def test_an_official_test_split_that_changed_is_noticed(tmp_path):
    """It is not read in training; from its first use its images are known."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 2
    file = tmp_path / "a.npz"
    np.savez(file, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    run = pbl.train(pbl.Config(dataset=str(file), model="mlp", epochs=1), folder=tmp_path / "runs")
    assert "test" not in run.split["hashes"]
    assert pbl.evaluate(run, "test")["images"] == 20 and len(run.split["hashes"]["test"]) == 20
    assert pbl.evaluate(run, "test")["test_uses"] == 2
    np.savez(file, x_train=x[:40], y_train=y[:40], x_test=x[40:] // 2, y_test=y[40:])
    with pytest.raises(
        InputError, match=r"The test images of .* are not those of the run .*: 20 are new .*, 20 are gone"
    ):
        pbl.evaluate(run, "test")
    assert run.count_test_uses() == 2


@pytest.mark.slow
def test_data_that_moved_and_other_data(tmp_path, monkeypatch):
    """From another folder: the run's own data is recognised by its content; of other data all images are judged."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 2
    np.savez("a.npz", x_train=x, y_train=y)
    np.savez("b.npz", x_train=x // 2, y_train=y)
    run = pbl.train(pbl.Config(dataset="a.npz", model="mlp", epochs=1, folds=4), folder=tmp_path / "runs")
    own = pbl.evaluate(run)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"No file a\.npz.*relative to the folder in which it was trained.*--data"):
        pbl.evaluate(run)
    moved = pbl.evaluate(run, source=str(tmp_path / "there" / "a.npz"))
    assert moved["accuracy"] == own["accuracy"] and moved["split"] == "val" and moved["images"] == own["images"]
    other = pbl.evaluate(run, source="there/b.npz")
    assert other["split"] == "all" and other["images"] == 60
    assert run.read_json("metrics_val.json")["images"] == own["images"]


def test_data_with_some_of_the_classes(run_copy, monkeypatch, command):
    """In another order too: recall is reported for existing classes; what needs images of all classes is undefined."""
    digits = pbl.load_data("digits").images("test")
    chosen = np.isin(digits.labels, (3, 1))
    labels = np.where(digits.labels[chosen] == 3, 0, 1)
    monkeypatch.setitem(
        pbl.data.DATASETS, "two", lambda: pbl.data.from_arrays(digits.pixels[chosen], labels, ["3", "1"])
    )
    result = pbl.evaluate(run_copy, source="two")
    probabilities = predict_probabilities(pbl.load_model(run_copy), digits.pixels[chosen])
    right = probabilities.argmax(axis=1) == digits.labels[chosen]
    recall = {name: right[digits.labels[chosen] == int(name)].mean() for name in "13"}
    assert result["images"] == chosen.sum() and result["accuracy"] == pytest.approx(right.mean())
    assert {name: result["by_class"][name]["recall"] for name in "13"} == pytest.approx(recall)
    assert result["balanced_accuracy"] == pytest.approx(np.mean(list(recall.values())))
    assert result["missing_classes"] == list("02456789") and result["class_names"] == list("0123456789")
    undefined = [result["macro"]["f1"], result["roc_auc"], result["by_class"]["1"]["precision"]]
    assert undefined == [None] * 3 and not {"macro.f1", "roc_auc"} & set(result["intervals"])
    status, said, error = command("evaluate", run_copy.path, "--data", "two")
    assert status == 0 and not error and "No image is of 0, 2, 4, 5, 6, 7, 8, 9. Accuracy and recall are" in said
    status, _, error = command("evaluate", run_copy.path, "--data", "two", "--require", "macro.f1>0.1")
    assert status == 2 and "'macro.f1' is undefined here" in error


def test_a_folder_with_a_broken_file_gives_the_table_of_the_others(run_copy, tmp_path, command):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "abc":
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(folder / f"{name}.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:30])
    told: list[str] = []
    table = pbl.predict(run_copy, folder, tell=told.append)
    assert [Path(file).name for file in table["file"]] == ["a.png", "c.png"]
    assert len(told) == 1 and "1 of 3 files" in told[0]
    status, said, error = command("predict", run_copy.path, folder, "--csv", tmp_path / "out.csv")
    assert status == 1 and "a.png" in said and "c.png" in said and error.count("\n") == 1
    assert "1 of 3 files could not be read and are left out" in error and "b.png" in error
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8-sig").splitlines()) == 3
    status, said, error = command("predict", run_copy.path, folder, folder / "b.png", "--json")  # it is named too
    assert status == 2 and not said and "b.png" in error
    for file in ("a.png", "c.png"):
        (folder / file).write_bytes(b"x")
    assert command("predict", run_copy.path, folder)[0] == 2


@pytest.mark.parametrize(("temperature", "is_end"), [(0.0501, True), (19.99, True), (1.3, False)])
def test_a_temperature_at_the_end_of_its_range_is_said(temperature, is_end, capsys):
    calibration = {"ece": 0.1, "ece_if_calibrated_high": 0.2, "temperature": temperature, "ece_after": 0.1, "log_loss_after": 1.0}  # fmt: skip
    _show_what_validation_chose({"calibration": calibration, "split": "val"})
    assert ("the end of the searched range, 0.05 to 20" in capsys.readouterr().out) == is_end


def test_that_no_temperature_was_fitted_is_said(capsys):
    calibration = {"ece": 0.1, "ece_if_calibrated_high": 0.2, "temperature": 1.0, "ece_after": 0.1, "log_loss_after": 1.0}  # fmt: skip
    _show_what_validation_chose({"calibration": calibration, "split": "test"})
    said = " ".join(capsys.readouterr().out.split())
    assert "No temperature was fitted" in said and "on validation" in said and "With the temperature" not in said
