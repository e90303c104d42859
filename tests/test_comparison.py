import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pbl.cli import main
from pbl.comparison import Failure, compare, describe, find_runs, write_results
from pbl.comparison.figures import plot_comparison
from pbl.comparison.own_code import hash_own_code
from pbl.comparison.run import _compare_architectures, _judge, _pair_values
from pbl.comparison.tables import read_results
from pbl.config import Config
from pbl.errors import InputError
from pbl.evaluation.generation import measure_kernel_distance
from pbl.evaluation.measurement import find_throughput_batch, measure_cost
from pbl.reports.team_log import read_log
from pbl.runs import load_run
from pbl.statistics import adjust_holm, mcnemar_test

N = 600
LABELS = np.arange(N) % 10
HASHES = np.array([f"{at:064x}" for at in range(N)])


def make_run(
    folder: Path, accuracy: float, seed: int = 0, *, images: str = "abc", split: str = "val", status: str = "finished",
    hashes: np.ndarray = HASHES, epochs: int = 10, environment: dict | None = None, **settings,
) -> Path:  # fmt: skip
    """A run's folder, as `train` and `evaluate` leave it, without a training."""
    config = Config(**{"experiment": "x", "seed": seed, "model": "mlp", **settings})
    number = len(list((folder / config.experiment).glob("*"))) + 1
    run = folder / config.experiment / f"{number:03d}"
    run.mkdir(parents=True)
    random = np.random.default_rng([seed, number])
    difficulty = np.random.default_rng(5).random(N)
    correct = difficulty + 0.05 * random.normal(size=N) < accuracy
    predicted = np.where(correct, LABELS, (LABELS + 1) % 10)
    probabilities = np.full((N, 10), 0.01, np.float32)
    probabilities[np.arange(N), predicted] = 0.91
    (run / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    about = {
        "status": status,
        "images": images,
        "epochs": epochs,
        "seconds": {"fit": 12.5},
        "trainable_weights": 1234,
        "devices": ["CPU"],
    }
    (run / "environment.json").write_text(json.dumps(about | (environment or {})))
    if status == "finished":
        np.savez_compressed(run / f"predictions_{split}.npz", labels=LABELS, probabilities=probabilities, hashes=hashes)
        metrics = {"macro": {"f1": float(correct.mean())}, "log_loss": 0.3, "calibration": {"ece": 0.02}}
        (run / f"metrics_{split}.json").write_text(json.dumps(metrics))
        rows = "".join(f"{epoch},{accuracy * epoch / epochs},2.0\n" for epoch in range(1, epochs + 1))
        (run / "history.csv").write_text("epoch,val_accuracy,seconds\n" + rows)
    return run


def of_two(folder: Path, seeds: int = 3, difference: float = 0.08, **others):
    for seed in range(seeds):
        make_run(folder, 0.9, seed, model="mlp")
        make_run(folder, 0.9 - difference, seed, model="lenet5", **others)
    return compare(find_runs([folder]))


def plot_drawn(result):
    runs = result.runs.assign(
        device=[str(at) for at in range(len(result.runs))]
    )  # so the axis shows weights, not seconds
    figure = plot_comparison(dataclasses.replace(result, runs=runs))
    figure.canvas.draw()  # ticks get their texts only then
    return figure


def test_two_questions(tmp_path):
    result = of_two(tmp_path)
    (pair,) = result.pairs.itertuples()
    assert (pair.first, pair.second) == ("mlp", "lenet5") and pair.low > 0.04 and pair.p_holm < 0.01
    assert pair.verdict == "first better, by more than the margin"
    assert list(result.architectures["tie_group"]) == ["a", "b"]
    assert result.architectures["best_with_probability"].tolist() == pytest.approx([1, 0], abs=0.005)
    assert list(result.runs["accuracy"]) == pytest.approx(
        [result.values[row.model][row.seed].mean() for row in result.runs.itertuples()]
    )
    text = describe(result)
    assert text.index("treated as unimportant") < text.index("## This architecture compared with that one")
    assert text.index("## This architecture compared with that one") < text.index(
        "## This trained model compared with that one"
    )
    files = write_results(result, tmp_path / "out")
    table = pd.read_csv(files[0])
    assert [file.name for file in files] == ["results.csv", "results.md", "results.png", "results.json"] and files[
        2
    ].stat().st_size > 10_000
    assert len(table) == 6 and not table.drop(columns="run").map(lambda value: "," in str(value)).any().any()
    assert table["seconds_to_target"].notna().all() and (table["parameters"] == 1234).all()  # in files as numbers,
    assert text.count("| 1,234 |") == 2 and "1234" not in text  # for people with separators
    ticks = [label.get_text() for label in plot_drawn(result).axes[0].get_xticklabels()]
    assert any(re.fullmatch(r"\d{1,2},000", label) for label in ticks) and not any(
        re.search(r"\d{4}", label) for label in ticks
    )
    facts = json.loads(files[3].read_text())
    assert facts["notes"] == result.notes and (facts["margin"], facts["split"], facts["images"]) == (1.0, "val", N)
    assert facts["pairs"][0]["p"] == pair.p and facts["runs"][0]["log_loss"] == 0.3  # in full precision
    assert describe(read_results(files[3])) == describe(result) == files[1].read_text()


def test_a_comparison_is_read_again_in_the_readers_language(tmp_path):
    """From the file of facts too, whose sentences are English; a template that is not ours is not shown."""
    names = "mlp lenet5 Holm McNemar Wilson Newcombe MACs ECE MiB AUROC CPU accuracy"
    of_two(tmp_path, seeds=4, difference=0.01)
    make_run(tmp_path, 0.5, 9, status="failed")
    for runs in (find_runs([tmp_path]), find_runs([tmp_path])[:2]):
        result = compare(runs)
        file = write_results(result, tmp_path / "out")[3]
        ours = describe(read_results(file), "ja")
        assert ours == describe(result, "ja") and describe(read_results(file), "en") == describe(result, "en")
        plain = re.sub("python -m pbl [ -~]+|--split test", "", ours)  # what is to be typed
        words = {word for word in re.findall("[A-Za-z]{3,}[0-9]?", plain) if word not in names.split()}
        assert words == set(), ours
        facts = json.loads(file.read_text())
        english = next(iter(facts["sentences"]))
        facts["sentences"][english] = {"template": "{a.__class__}" + english, "fields": {"a": 1}}
        file.write_text(json.dumps(facts))
        assert describe(read_results(file), "en") == describe(result, "en") and "class" not in describe(
            read_results(file), "ja"
        )


def test_equal_ones_are_tied_and_it_is_said_what_would_separate_them(tmp_path):
    result = of_two(tmp_path, difference=0.004)
    (pair,) = result.pairs.itertuples()
    assert pair.verdict in ("not separated", "equivalent: within the margin") and set(
        result.architectures["tie_group"]
    ) == {"a"}
    assert "more" in pair.needed or pair.verdict.startswith("alike")


def test_the_positive_class_makes_no_other_architecture(tmp_path):
    """It says what precision and recall are about; the weights and the accuracy are the same."""
    make_run(tmp_path, 0.9, seed=0)
    make_run(tmp_path, 0.9, seed=1, positive_class="bees")
    assert compare(find_runs([tmp_path])).architectures["architecture"].tolist() == ["mlp"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_make_no_claim_about_architectures(tmp_path, seeds):
    result = of_two(tmp_path, seeds)
    assert not len(result.pairs) and result.architectures["best_with_probability"].isna().all()
    assert "No claim about architectures" in describe(result) and len(result.models)
    assert result.models["only_first"].iloc[0] > result.models["only_second"].iloc[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": "other"}, "trained on different images or another split"),
        ({"hashes": HASHES[::-1].copy() + "x"}, "evaluated on different val images"),
        ({"split": "test"}, "has no predictions of the val split"),
    ],
)
def test_what_is_never_mixed(tmp_path, change, said):
    make_run(tmp_path, 0.9)
    make_run(tmp_path, 0.8, model="lenet5", **change)
    with pytest.raises(InputError, match=said):
        compare(find_runs([tmp_path]))


def rewrite(run: Path, **changes) -> None:
    """Changes arrays of a run's predictions: each by a function of the old one."""
    with np.load(run / "predictions_val.npz") as arrays:
        kept = {name: changes.get(name, lambda old: old)(values) for name, values in arrays.items()}
    np.savez_compressed(run / "predictions_val.npz", **kept)


def test_what_is_no_further_seed(tmp_path):
    """A copy of a run, other code under the same name and settings, probabilities that are not numbers."""
    runs = [make_run(tmp_path, 0.9, seed, model="mine") for seed in range(4)]
    shutil.copytree(runs[0], runs[0].parent / "copy")
    rewrite(runs[3], probabilities=lambda old: np.full_like(old, np.nan))
    for seed, run in enumerate(runs[:3]):
        code = f"# of seed {seed}\ndef mine():\n    return {seed // 2}\n\nMODELS['mine'] = mine\nconfig = Config(seed={seed})\n"
        (run / "experiment.py").write_text(code)
    shutil.copy(runs[0] / "experiment.py", runs[0].parent / "copy")
    result = compare(find_runs([tmp_path]))
    assert sorted(result.architectures["seeds"]) == [1, 2] and not len(result.pairs)
    assert all("code=" in label for label in result.architectures["architecture"])
    reasons = result.runs.set_index("run")["reason"]
    assert (
        "not count as another seed" in reasons[str(runs[0].parent / "copy")]
        and "not all numbers" in reasons[str(runs[3])]
    )
    write_results(result, tmp_path / "results")  # a reason names a run by its path
    stored = read_results(tmp_path / "results" / "results.json")
    assert stored.runs["reason"].tolist() == result.runs["reason"].tolist()
    assert compare(find_runs([runs[0], runs[1]])).architectures["seeds"].tolist() == [
        2
    ]  # a comment and the seed do not count as code


OWN = '''"""An experiment."""
import keras
from pbl import CALLBACKS, MODELS, Config

WIDTH = 64
OTHER = {"rate": 1}
OTHER["more"] = 2


def block(x, width=WIDTH):
    return keras.layers.Dense(width)(x)


def unused(x):
    return x + 1


class Mine:
    """A callback."""

    def on_epoch_end(self, epoch):
        return OTHER["rate"]


def mine(shape, classes):
    """A network."""
    unused = block(shape)  # a name of its own, not the function
    return unused


MODELS["mine"] = mine
MODELS["another"] = lambda shape, classes: unused(shape)
CALLBACKS["watch"] = Mine
config = Config(model="mine", epochs=3)
'''
BY_LOOP = OWN.replace('MODELS["mine"] = mine', 'for name in ("mine", "yours"):\n    MODELS[name] = mine')


@pytest.mark.parametrize(
    ("old", "new", "is_other"),
    [
        ("epochs=3", "epochs=4", False),
        ('"""A network."""', '"""Another."""\n    # a comment', False),
        ("return x + 1", "return x + 2", False),  # no setting uses it
        ("return unused\n", "return  unused # the same\n", False),
        ("import keras\n", "import keras, os\n", False),
        ("lambda shape, classes: unused(shape)", "None", False),  # another model of the file
        ("WIDTH = 64", "WIDTH = 32", True),  # a default of a function that the builder calls
        ("keras.layers.Dense(width)", "keras.layers.Dense(width + 1)", True),
        ("return unused\n", "return unused + 1\n", True),
        ("import keras\n", "import tensorflow as keras\n", True),
        ('OTHER["more"] = 2', 'OTHER["rate"] = 2', "watch"),
        ('return OTHER["rate"]', "return 3", "watch"),
        ("\n\ndef unused", "\n\nprint(WIDTH)\n\n\ndef unused", True),  # such a statement may do anything
        ("\n\ndef unused", "\n\nfor width in range(WIDTH):\n    OTHER[width] = 1\n\n\ndef unused", True),
    ],
)
def test_an_experiments_own_code_is_what_its_settings_use(tmp_path, old, new, is_other):
    file = tmp_path / "experiment.py"
    assert OWN.count(old) == 1

    def hashes(source: str) -> dict[str, str]:
        file.write_text(source)
        return {
            name: hash_own_code(file, Config(model=model, callbacks=callbacks))
            for name, model, callbacks in (("model", "mine", []), ("watch", "mine", ["watch"]), ("none", "mlp", []))
        }

    first, second = hashes(OWN), hashes(OWN.replace(old, new))
    assert first["model"] and first["model"] != first["watch"] and first["none"] == second["none"] == ""
    assert (first["watch"] != second["watch"]) == bool(is_other)
    assert (first["model"] != second["model"]) == (is_other is True)


@pytest.mark.parametrize(
    "unclear",
    [
        BY_LOOP,
        OWN.replace("import keras", "from keras import *"),
        OWN.replace("WIDTH = 64", "exec('WIDTH = 64')"),
        OWN.replace('MODELS["mine"] = mine', "MODELS.update(mine=mine)"),
        OWN.replace("MODELS, Config", "MODELS as M, Config")
        .replace("MODELS[", "M[")
        .replace('CALLBACKS["watch"] = Mine', ""),
        "exec('WIDTH = 64')\ndef unused(x):\n    return x + 1\n\n\nconfig = Config(epochs=3)\n",
    ],
)
def test_where_it_cannot_be_told_the_whole_file_counts(tmp_path, unclear):
    file, config = tmp_path / "experiment.py", Config(model="mine")
    found = []
    for source in (unclear, unclear.replace("epochs=3", "epochs=4"), unclear.replace("return x + 1", "return x + 2")):
        file.write_text(source)
        found.append(hash_own_code(file, config))
    assert found[0] and found[0] == found[1] != found[2]
    for damaged in (b"\xff\x00", b"def f(:", b"", b"from pbl import *\nconfig = Config(model='mine')\n"):
        file.write_bytes(damaged)
        assert hash_own_code(file, config) == ""
    assert hash_own_code(tmp_path / "absent.py", config) == ""


def test_compare_and_log_agree_on_what_is_other_code(tmp_path):
    """An unused function is edited between three seeds; then the builder is."""
    edits = ("return x + 1", "return x + 2", "return x + 3", "return x + 3")
    runs = [
        make_run(tmp_path, 0.9, seed, model="mine", environment={"started": f"2026-10-0{seed + 1}"})
        for seed in range(4)
    ]
    for seed, (run, edit) in enumerate(zip(runs, edits, strict=True)):
        accuracy = load_run(run).read_predictions("val").by_content()[2].mean()
        (run / "metrics_val.json").write_text(json.dumps({"accuracy": accuracy, "images": N}))
        width = 64 if seed < 3 else 32
        (run / "experiment.py").write_text(OWN.replace("return x + 1", edit).replace("WIDTH = 64", f"WIDTH = {width}"))
    assert sorted(compare(find_runs([tmp_path])).architectures["seeds"]) == [1, 3]
    log = read_log(tmp_path)
    assert [[change.key for change in run.changes] for run in log] == [[], [], [], ["experiment.py"]]


def test_what_lies_beside_the_runs_is_passed_over_where_a_shell_names_it(tmp_path):
    """`runs/*/*` names the folder of a search, tables and pictures too; but a run's folder that is empty is told."""
    runs = [make_run(tmp_path, 0.9, seed) for seed in range(2)]
    beside = runs[0].parent / "search"
    beside.mkdir()
    (beside / "history.png").touch()
    (runs[0].parent / "sweep.csv").touch()
    assert len(find_runs(sorted(runs[0].parent.iterdir()))) == 2
    for alone in ([beside], [beside.parent / "nothing", runs[0]]):
        with pytest.raises(InputError, match=r"contains no run|does not exist"):
            find_runs(alone)
    (runs[0].parent / "007").mkdir()
    with pytest.raises(InputError, match="007 contains no run"):
        find_runs(sorted(runs[0].parent.iterdir()))


def test_other_labels_are_refused(tmp_path):
    make_run(tmp_path, 0.9)
    rewrite(make_run(tmp_path, 0.8, model="lenet5"), labels=lambda old: (old + 1) % 10)
    with pytest.raises(InputError, match="with different labels"):
        compare(find_runs([tmp_path]))


@pytest.mark.parametrize(
    ("images", "verdict"), [(3, "not separated"), (350, "not separated"), (600, "equivalent: within the margin")]
)
def test_few_images_make_nothing_alike(tmp_path, images, verdict):
    """If all images are classified the same, up to 4 in n of other images may not be."""
    for seed in range(3):
        for model in ("mlp", "lenet5"):
            run = make_run(tmp_path, 0.9, seed, model=model)
            ones = np.eye(10, dtype=np.float32)[LABELS]
            rewrite(
                run,
                probabilities=lambda old, to=ones: to[:images],
                **dict.fromkeys(("labels", "hashes"), lambda old: old[:images]),
            )
    result = compare(find_runs([tmp_path]))
    for table in (result.pairs, result.models):
        row = table.iloc[0]
        assert row["verdict"] == verdict and row["difference"] == 0 and row["p_holm"] == 1
        assert -row["low"] == pytest.approx(row["high"]) and row["high"] > 3.8 / (images + 4)


def test_holm_counts_all_pairs_of_models_though_the_best_alone_is_shown(tmp_path):
    for at in range(6):
        make_run(tmp_path, 0.9 - 0.01 * at, at, model=f"model_{at}")
    result = compare(find_runs([tmp_path]))
    correct = [result.values[label][0] for label in result.architectures["architecture"]]
    p = [mcnemar_test((a & ~b).sum(), (~a & b).sum()) for a, b in combinations(correct, 2)]
    assert len(p) == 15 and result.models["p_holm"].tolist() == pytest.approx(adjust_holm(p)[:5])


def test_the_best_by_validation_is_the_kept_model_not_a_lucky_epoch(tmp_path):
    """Seed 0 once had a higher accuracy, but the model that was kept has a lower one than that of seed 1."""
    for seed in (0, 1):
        for model in ("a", "b", "c"):
            run = make_run(tmp_path, 0.7 + 0.1 * seed, seed, model=model)
            right = measure_stored(run)
            metrics = json.loads((run / "metrics_val.json").read_text())
            (run / "metrics_val.json").write_text(json.dumps({**metrics, "accuracy": right}))
            (run / "history.csv").write_text(f"epoch,val_accuracy,seconds\n1,{0.99 - 0.05 * seed},2.0\n2,{right},2.0\n")
    result = compare(find_runs([tmp_path]))
    names = {run.path.name: run.config.seed for run in find_runs([tmp_path])}
    shown = {re.search(r"(\d+)\)$", name)[1] for name in [*result.models["first"], *result.models["second"]]}
    assert [names[name] for name in sorted(shown)] == [1, 1, 1]
    assert result.runs["best_val_accuracy"].max() == 0.99  # as before: what was reached, for the seconds to a target


def measure_stored(run: Path) -> float:
    """The accuracy of the predictions that a run has stored."""
    with np.load(run / "predictions_val.npz") as saved:
        return float((saved["probabilities"].argmax(axis=1) == saved["labels"]).mean())


def test_a_generator_of_unknown_validation_is_not_the_best(tmp_path):
    """Less is better, so the known values have a reversed sign, and an unknown one must not stand for 0."""
    for at, rate in enumerate((0.001, 0.002, 0.003)):
        for seed, kid in ((0, 9.0), (1, 5.0)):
            values = kid + at + np.linspace(-1, 1, 100)
            run = make_generator(tmp_path, values, seed, learning_rate=rate)
            for kind in ("predictions", "metrics"):
                (file,) = run.glob(f"{kind}_val.*")
                file.with_name(file.name.replace("val", "test")).write_bytes(file.read_bytes())
            if seed == 0:
                (run / "metrics_val.json").unlink()
    result = compare(find_runs([tmp_path]), "test")
    seeds = {run.path.name: run.config.seed for run in find_runs([tmp_path])}
    shown = {re.search(r"(\d+)\)$", name)[1] for name in [*result.models["first"], *result.models["second"]]}
    assert [seeds[name] for name in sorted(shown)] == [1, 1, 1]


def test_areas_of_one_prove_no_more_than_the_rarer_kind():
    """Perfect detectors that no image distinguishes: with ten anomalies, up to four other ones may."""
    perfect = {name: np.ones((3, 200)) for name in "ab"}
    table, _ = _compare_architectures(perfect, {"a": False, "b": False}, None, 0.1, 10)
    assert table.loc[0, ["difference", "low", "high"]].tolist() == [0, -0.4, 0.4]
    assert table.loc[0, "verdict"] == "not separated"


def test_equally_good_generators_are_not_called_different():
    """Two draws from one distribution, that is not the real one: the test errs in about 5% of the cases, since each draw's own error counts."""
    random, p, alone, spread = np.random.default_rng(0), [], [], []
    first, second = np.array([0]), np.array([1])
    for _ in range(60):
        real = random.normal(size=(300, 8))
        found = [measure_kernel_distance(real, random.normal(0.4, 1, (300, 8))) for _ in range(2)]
        values, own = np.stack([of.by_real for of in found]), np.array([of.generated_error for of in found])
        (pair,) = _pair_values(values, first, second, 300, own).itertuples()
        assert pair.low < pair.difference < pair.high
        p.append(pair.p)
        alone.append(_pair_values(values, first, second, 300, 0 * own)["p"][0])
        spread.append((pair.difference, np.hypot(*own)))
    assert sum(of < 0.05 for of in p) <= 8 and sum(of < 0.05 for of in alone) > 20
    differences, errors = np.array(spread).T
    assert np.std(differences) == pytest.approx(np.median(errors), rel=0.25)  # the real images add little


def make_generator(folder: Path, kid: np.ndarray, seed: int = 0, samples: dict | None = None, **settings) -> Path:
    """A run's folder as `train` leaves it for a generator, whose distance is the mean of the given values of the real images."""
    run = make_run(folder, 0.9, seed, **{"model": "dcgan", "task": "generation", **settings})
    np.savez(run / "predictions_val.npz", hashes=HASHES[: len(kid)], truth=np.zeros(len(kid), np.int32), values=kid)
    mean = float(kid.mean())
    metrics = {
        "headline": "kid", "better": "lower", "metrics": {"kid": mean}, "intervals": {"kid": [mean - 1, mean + 1]},
        "samples": {"error": 0.5} if samples is None else samples,
    }  # fmt: skip
    (run / "metrics_val.json").write_text(json.dumps(metrics))
    return run


@pytest.mark.parametrize(
    ("samples", "error"), [({"error": 0.5, "generated_error": 0.2}, 0.2), ({"error": 0.5}, 0.5), ({}, None)]
)
def test_the_generated_images_error_is_read_from_the_run(tmp_path, samples, error):
    """The part of the generated images; of an earlier run the whole; where neither is known, nothing is compared."""
    shape = np.linspace(-1, 1, 100)
    for rate, kid in ((0.001, 3 + shape), (0.002, 5 + 2 * shape)):
        make_generator(tmp_path, kid, samples=samples, learning_rate=rate)
    if error is None:
        with pytest.raises(InputError, match="does not belong to these predictions"):
            compare(find_runs([tmp_path]))
        return
    result = compare(find_runs([tmp_path]))
    (pair,) = result.models.itertuples()
    reach = 1.984 * np.sqrt(shape.var(ddof=1) / 100 + 2 * error**2)  # Student's t with 99 degrees of freedom
    assert (pair.difference, pair.high - pair.difference) == pytest.approx((-2, reach), rel=1e-3)
    assert "and the generated ones" in describe(result)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_distance_has_an_interval_over_folds_too(tmp_path, seeds):
    """A distance is no share: it is neither counted, which raised an error after all the training, nor kept inside 0 to 1."""
    level = np.array([-4.0, -1.0, 0.0, 2.0, 8.0])  # of each fold; the images of a fold hardly differ
    for seed in range(seeds):
        for fold in range(5):
            file = make_generator(tmp_path, np.full(80, level[fold]), seed, images=f"fold {fold}", folds=5, fold=fold)
            with np.load(file / "predictions_val.npz") as saved:
                arrays = {**saved, "hashes": HASHES[80 * fold : 80 * fold + 80]}
            np.savez(file / "predictions_val.npz", **arrays)
    (row,) = compare(find_runs([tmp_path])).architectures.itertuples()
    reach = 2.776 * level.std(ddof=1) / np.sqrt(5)  # Student's t with 4 degrees of freedom, from a table
    assert (row.kid, row.low, row.high) == pytest.approx((1, 1 - reach, 1 + reach), rel=1e-3)


def test_verdicts():
    for values, said in [
        ((0.02, 0.012, 0.028, 0.01), "first better, by more than the margin"),
        ((-0.02, -0.035, -0.005, 0.01), "second better; it is unclear whether by more than the margin"),
        ((-0.004, -0.006, -0.002, 0.01), "second better, by less than the margin"),
        ((0.003, -0.003, 0.009, 0.4), "equivalent: within the margin"),
        ((0.02, 0.001, 0.039, 0.2), "not separated"),
    ]:
        assert _judge(*values, 0.01, 2000) == said


def test_the_order_of_the_images_does_not_matter(tmp_path):
    result = of_two(tmp_path)
    run = next((tmp_path / "x").glob("001"))
    with np.load(run / "predictions_val.npz") as arrays:
        turned = {name: values[::-1] for name, values in arrays.items()}
    np.savez_compressed(run / "predictions_val.npz", **turned)
    again = compare(find_runs([tmp_path]))
    assert again.pairs.equals(result.pairs)


def test_what_else_must_be_said(tmp_path):
    for seed in range(3):
        make_run(tmp_path, 0.9, seed)
        make_run(tmp_path, 0.8, seed, learning_rate=0.5, epochs=20)
        make_run(tmp_path, 0.95, seed, model="efficientnet_transfer")
    make_run(tmp_path, 0.9, 3, status="failed", environment={"reason": "InputError: diverged"})
    make_run(tmp_path, 0.9, 4, status="running")
    damaged = make_run(tmp_path, 0.9, 5)
    (damaged / "predictions_val.npz").write_bytes(b"PK\x03\x04")
    result = compare(find_runs([tmp_path]), failures=[Failure("alexnet", 0, "InputError: the images are too small")])
    text = " ".join(result.notes)
    for part in (
        "4 runs are not compared",
        "diverged",
        "too small",
        "Unequal budget, epochs",
        "settings tried",
        "seen other images",
    ):
        assert part in text, part
    labels = set(result.architectures["architecture"])
    assert {"mlp learning_rate=0.001", "mlp learning_rate=0.5", "efficientnet_transfer"} == labels
    # Pre-trained and from scratch: shown in one table, never subtracted.
    assert not (set(result.pairs["first"]) | set(result.pairs["second"])) & {"efficientnet_transfer"}
    assert len(result.runs) == 13 and result.runs["reason"].ne("").sum() == 4
    assert (
        compare(find_runs([tmp_path]), baseline="mlp learning_rate=0.5")
        .pairs["second"]
        .eq("mlp learning_rate=0.5")
        .all()
    )
    with pytest.raises(InputError, match="several of those compared"):
        compare(find_runs([tmp_path]), baseline="mlp")
    with pytest.raises(InputError, match="none of those compared"):
        compare(find_runs([tmp_path]), baseline="vgg16")


@pytest.mark.slow
def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_two(tmp_path / "runs")
    assert main(["compare", "runs", "--margin", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["margin"] == 2 and len(shown["runs"]) == 6 and (tmp_path / "comparison" / "results.md").exists()
    assert main(["compare", "nothing"]) == 2
    assert "nothing does not exist" in capsys.readouterr().err
    assert main(["compare", "runs", "--epochs", "3"]) == 2
    code = "import sys; from pbl.cli import main; main(['compare', 'runs']); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True).returncode == 0
    )


EXPERIMENT = "from pbl import Config\n\nconfig = Config(model='{model}', epochs=2, model_options={options})\n"


@pytest.mark.nightly
def test_training_for_a_comparison(tmp_path, capsys, monkeypatch):
    """Equal budget; a model that cannot be built stays in the table; the same command trains nothing twice."""
    monkeypatch.chdir(tmp_path)
    for name, model, options in (
        ("small", "mlp", {"widths": [8]}),
        ("large", "mlp", {"widths": [64]}),
        ("broken", "alexnet", {}),
    ):
        Path(f"{name}.py").write_text(EXPERIMENT.format(model=model, options=options))
    command = [
        "compare",
        "--train",
        "small.py",
        "large.py",
        "broken.py",
        "--seeds",
        "3",
        "--split",
        "test",
        "--measure",
    ]
    assert main(command) == 1  # one of them failed
    table = pd.read_csv("comparison/results.csv")
    assert len(table) == 9 and table["reason"].notna().sum() == 3 and set(table["split"].dropna()) == {"test"}
    told = table[table["reason"].notna()]
    assert set(told["model"]) == {"alexnet"}
    assert table.groupby("architecture")["latency_ms"].count().loc[lambda counts: counts > 0].tolist() == [1, 1]
    assert table["throughput_batch"].dropna().tolist() == [256, 256]
    trained = sorted(Path("runs").glob("*/*/history.csv"))
    times = [file.stat().st_mtime_ns for file in trained]
    capsys.readouterr()
    assert main(command) == 1
    assert [file.stat().st_mtime_ns for file in sorted(Path("runs").glob("*/*/history.csv"))] == times
    assert main(["compare", "--train", "small.py", "large.py", "--seeds", "1", "--minutes", "0.05"]) == 0
    epochs = json.loads(Path("runs/.budgets/budget.json").read_text())
    assert len(epochs) == 2 and all(count >= 1 for count in epochs.values())
    Path("longer.py").write_text(EXPERIMENT.format(model="mlp", options={}).replace("epochs=2", "epochs=3"))
    assert main(["compare", "--train", "small.py", "longer.py"]) == 2
    assert "that would compare budgets" in capsys.readouterr().err


@pytest.mark.parametrize(("side", "filters", "expected"), [(32, 16, 256), (224, 16, 64), (224, 64, 16), (1024, 64, 1)])
def test_a_batch_of_the_throughput_fits_into_memory(side, filters, expected):
    """VGG16 gives out 224 x 224 x 64 numbers an image in its first layer: 3.3 GB in batches of 256."""
    import keras

    model = keras.Sequential([keras.Input((side, side, 3)), keras.layers.Conv2D(filters, 3, padding="same")])
    assert find_throughput_batch(model, (side, side, 3)) == expected


def test_costs_are_measured_by_this_package_from_any_folder(trained_run, tmp_path, monkeypatch):
    """The process that measures finds `pbl`, and only Python's own `statistics`: it gets as far as not finding the run."""
    monkeypatch.chdir(tmp_path)
    run = load_run(shutil.copytree(trained_run.path, tmp_path / "run"))
    shutil.rmtree(run.path)
    with pytest.raises(InputError, match=f"No run {run.path}"):
        measure_cost(run)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_peak_memory_is_not_that_of_the_process_that_asked():
    """On Linux a child inherits ru_maxrss."""
    asks = "import sys, subprocess; held = bytearray(2**30); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    told = "from pbl.measurement import _peak_mib; print(_peak_mib())"
    done = subprocess.run([sys.executable, "-c", asks, told], capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 512


def of_folds(folder: Path, seeds: int = 3, folds: int = 5) -> None:
    for model, accuracy in (("mlp", 0.9), ("lenet5", 0.8)):
        for seed in range(seeds):
            for fold in range(folds):
                run = make_run(folder, accuracy, seed, images=f"fold {fold}", model=model, folds=folds, fold=fold)
                file = run / "predictions_val.npz"
                with np.load(file) as whole:
                    part = {name: whole[name][fold::folds] for name in whole.files}
                np.savez_compressed(file, **part)


def test_folds_are_pooled_and_each_image_is_judged_once(tmp_path):
    of_folds(tmp_path)
    runs = find_runs([tmp_path])
    result = compare(runs)
    first = result.architectures.iloc[0]
    means = {}
    for run in runs:
        right = run.read_predictions("val").by_content()[2]
        means.setdefault((run.config.model, run.config.seed), []).append(right)
    by_seed = [np.concatenate(parts).mean() for (model, _), parts in means.items() if model == "mlp"]
    assert result.images == N and len(result.runs) == 30 and sorted(set(result.runs["fold"])) == [0, 1, 2, 3, 4]
    assert (first["architecture"], first["seeds"]) == ("mlp", 3) and first["accuracy"] == pytest.approx(
        np.mean(by_seed)
    )
    assert first["lowest_seed"] == pytest.approx(min(by_seed)) and first["low"] < first["accuracy"] < first["high"]
    assert result.pairs["verdict"].tolist() == ["first better, by more than the margin"] and not len(result.models)
    assert any("folds=5" in str(note) and "80%" in str(note) for note in result.notes)
    assert "folds=5" in describe(result) and write_results(result, tmp_path / "out")[2].stat().st_size
    with pytest.raises(InputError, match="omit --split test"):
        compare(runs, "test")
    lacking = compare([run for run in runs if (run.config.seed, run.config.fold) != (0, 3)])
    assert lacking.runs["reason"].astype(str).str.contains("the folds 3 of its cross-validation are missing").sum() == 8
    assert lacking.architectures["seeds"].tolist() == [2, 2]
    # Runs of the same fold are compared with each other as usual.
    one = compare([run for run in runs if run.config.fold == 0])
    assert one.images == N // 5 and len(one.models)
