"""The log of a team's runs: each run's parent, what changed, and what that gained."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pbl.reports import team_log
from pbl.reports.team_log import ONE_SEED, describe_changes, describe_gain, describe_status, read_log
from pbl.statistics import paired_interval, wilson_interval

BASE = np.arange(200) < 160  # 160 of 200 validation images are right
MORE = np.arange(200) < 180


def by_name(folder) -> dict[str, team_log.LoggedRun]:
    return {run.name: run for run in read_log(folder)}


def test_parents_changes_and_gains(tmp_path, write_run):
    mlp = {"model": "mlp", "optimizer": "sgd", "optimizer_options": {"momentum": 0.9}}
    write_run("a/001", BASE, **mlp)
    write_run("a/002", MORE, **mlp, epochs=90)
    write_run("a/003", MORE, **mlp, epochs=90, seed=1)
    write_run("a/004", BASE, **mlp, epochs=90, learning_rate=0.1)
    write_run("b/001", MORE, model="mlp", optimizer="adam", epochs=90)
    write_run("b/002", BASE, **(mlp | {"model": "resnet20"}), epochs=90, learning_rate=0.1)
    write_run("b/003", MORE, **(mlp | {"model_options": {"dropout": 0.5}}), epochs=90, seed=1)
    write_run("b/004", MORE, **mlp, epochs=90, label_smoothing=0.1, loss="categorical_crossentropy")
    write_run("b/005", MORE, **mlp, epochs=90)
    write_run("b/006", BASE, **mlp, initial_weights="elsewhere/a/001/best.weights.h5", epochs=90, seed=1)
    write_run("b/007", BASE, **mlp, augmentation={"flip": True}, epochs=90, memory_budget=2.0, positive_class="odd")
    runs = by_name(tmp_path)
    assert list(runs) == [*(f"a/00{n}" for n in range(1, 5)), *(f"b/00{n}" for n in range(1, 8))]  # the oldest first
    told = {name: (run.parent and run.parent.name, describe_changes(run)) for name, run in runs.items()}
    at_once = "(2 changes at once: it is not known which of them had the effect)"
    assert told == {
        "a/001": (None, ""),
        "a/002": ("a/001", "epochs: 30 -> 90"),
        "a/003": ("a/002", "another seed"),
        "a/004": ("a/002", "learning_rate: 0.001 -> 0.1"),  # not a/003, the later one: it has another seed
        # An option that the other optimizer or model does not have is not a separate change.
        "b/001": ("a/002", "optimizer: sgd (momentum=0.9) -> adam"),
        "b/002": ("a/004", "model: mlp -> resnet20"),
        "b/003": ("a/003", "model_options.dropout: 0 -> 0.5"),
        "b/004": ("a/002", "label_smoothing: 0 -> 0.1"),  # it needs the other loss
        "b/005": ("a/002", "nothing: the same settings and seed"),
        "b/006": ("a/001", f"initial_weights: none -> elsewhere/a/001/best.weights.h5; epochs: 30 -> 90; another seed {at_once}"),
        "b/007": ("b/005", "augmentation.flip: false -> true"),  # what changes no network is no change
    }  # fmt: skip
    gain = runs["a/002"].gain
    assert gain == pytest.approx((0.1, *paired_interval(160, 20, 0, 200))) and gain.is_clear
    assert describe_gain(runs["a/002"]) == f"+10.0 ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    assert runs["a/004"].gain.difference == pytest.approx(-0.1) and runs["a/004"].gain.high < 0
    assert runs["a/003"].gain[0] == 0 and not runs["a/003"].gain.is_clear
    assert (runs["a/001"].low, runs["a/001"].high) == wilson_interval(160, 200)


def test_what_cannot_be_compared_says_why(tmp_path, write_run):
    write_run("a/001", BASE)
    write_run("a/002", MORE, split_seed=1, images="another split")
    write_run("a/003", MORE, initial_weights=str(tmp_path / "a" / "002"))
    write_run(
        "a/004", None, status="failed", reason="InputError: Training diverged.\nLower {rate}\x1b[1m", learning_rate=9.0
    )
    write_run("a/005", None, status="running", epochs=60)
    write_run("a/006", BASE, status="paused")
    write_run("a/007", MORE, epochs=60, hashes=[f"{n + 1:016x}" for n in range(200)])
    write_run("a/008", MORE, epochs=90)
    write_run("a/009", MORE, epochs=91, labels=np.ones(200, int))
    write_run("a/010", MORE, epochs=92, environment={"diverged": True, "diverged_at": "epoch 3"})
    write_run("a/011", MORE, images="")
    for name, file, content in (
        ("a/008", "predictions_val.npz", b"PK"),
        ("b/001", "config.json", b'{"epochs": '),
        ("b/002", "config.json", b'{"epoch": 3}'),
        ("b/003", "environment.json", b'{"status": 3}'),
        ("b/004", "metrics_val.json", b'{"accuracy": "x", "images": 200}'),
        ("b/005", "metrics_val.json", b"[]"),
        ("b/006", "test_uses.csv", b"\xff\xfe\x00"),
    ):
        if name.startswith("b"):
            write_run(name, BASE, epochs=7)
        (tmp_path / name / file).write_bytes(content)
    write_run("b/007", BASE, epochs=7)
    (tmp_path / "b/007/config.json").unlink()
    (tmp_path / "a" / "no run").mkdir()
    (tmp_path / "sweep.csv").touch()
    runs = by_name(tmp_path)
    assert {name: describe_gain(run) for name, run in runs.items()} == {
        "a/001": "– the first result on its images and split",
        "a/002": "– the first result on its images and split",
        "a/003": "– other images or another split than a/002",
        **dict.fromkeys(("a/004", "a/005", "a/006", *(f"b/00{n}" for n in range(1, 8))), "–"),
        "a/007": "– a/001 was evaluated on other validation images",
        "a/008": "– predictions_val.npz of a/008 is missing or damaged",
        "a/009": "– predictions_val.npz of a/008 is missing or damaged",
        "a/010": "– a/009 was evaluated on other validation images",
        "a/011": "– its images are not known",
    }
    statuses = {name: describe_status(run) for name, run in runs.items()}
    assert statuses["a/004"] == "failed: Training diverged. Lower {rate}\\u001b[1m"  # no escape reaches the terminal
    assert statuses["a/005"] == "cut off: 0 of 60 epochs" and statuses["a/006"] == "paused: 2 of 30 epochs"
    assert statuses["a/010"] == "finished: diverged in epoch 3" and statuses["a/011"] == "finished"
    for name in ("b/001", "b/002", "b/003", "b/006", "b/007"):
        assert statuses[name].startswith("damaged: "), name
    assert runs["a/004"].parent.name == "a/001" and runs["a/006"].accuracy == 0.8
    assert runs["b/004"].accuracy is None and runs["b/005"].accuracy is None


def test_hostile_files_end_no_log(tmp_path, write_run):
    write_run("a/001", BASE)
    write_run("a/002", MORE, initial_weights="~nobody/\x00")
    for started in ("0001-01-01T00:00:00+23:59", "now", None, 7):
        write_run(f"b/{started}", MORE, epochs=7, environment={"started": started})
    for number, status in enumerate(([], {}, None, "done")):
        write_run(f"c/{number}", MORE, environment={"status": status})
    write_run("d/001", MORE, environment={"builder_options": [1], "images": ["the same"]})
    write_run("\x1b[1m$/001", MORE, model="\x1b[31m$m$" * 40)
    for number, arrays in enumerate(
        (
            {"labels": [], "probabilities": np.zeros((0, 2)), "hashes": []},
            {"labels": [[1]], "probabilities": [[0, 1]], "hashes": ["a"]},
            {"labels": [1], "probabilities": [0, 1], "hashes": ["a"]},
            {"labels": [1], "probabilities": [[0, 1]], "hashes": ["猫"]},
            {"labels": [1], "probabilities": [[0, 1]]},
        )
    ):
        path = write_run(f"e/{number}", MORE, epochs=100 + number)
        np.savez(path / "predictions_val.npz", **arrays)
    np.save(tmp_path / "f", np.ones(3))
    (write_run("f/001", MORE, epochs=200) / "predictions_val.npz").write_bytes((tmp_path / "f.npy").read_bytes())
    (write_run("f/002", MORE, epochs=300) / "metrics_val.json").write_text(f'{{"accuracy": 1, "images": 1{"0" * 400}}}')
    runs = by_name(tmp_path)
    assert len(runs) == 19 and runs["a/002"].parent.name == "a/001"
    assert [runs[f"c/{number}"].status for number in range(4)] == ["damaged"] * 4
    for name in ("e/0", "e/1", "e/2", "e/3", "e/4", "f/001"):
        assert runs[name].no_gain.startswith("predictions_val.npz of"), name
    for language in ("en", "ja"):
        assert not any("\x1b" in cell for row in team_log.make_table(list(runs.values()), language)[1] for cell in row)
        team_log.plot_log(list(runs.values()), language).savefig(tmp_path / "x.png")


OWN = '''"""{text}"""
from pbl.models import MODELS
MODELS["mine"] = lambda shape, classes: {value}  # a comment
config = Config(model="mine", epochs={epochs})
'''


def test_code_of_ones_own_is_a_setting(tmp_path, write_run):
    """What is around it is not: comments, the docstring, the settings."""
    write_run("a/001", BASE, model="mine", code=OWN.format(text="A try.", value=1, epochs=30))
    write_run("a/002", BASE, model="mine", epochs=31, code=OWN.format(text="Another.", value="1 ", epochs=31))
    write_run("a/003", MORE, model="mine", epochs=31, code=OWN.format(text="Another.", value=2, epochs=31))
    write_run("a/004", MORE, model="mlp", epochs=31, code=OWN.format(text="Another.", value=3, epochs=31))
    write_run("a/005", MORE, model="mine", epochs=31, code="config = Config(\n")
    told = {name: describe_changes(run) for name, run in by_name(tmp_path).items()}
    assert told["a/002"] == "epochs: 30 -> 31"
    assert told["a/003"] == "own code in experiment.py"
    assert told["a/004"] == "model: mine -> mlp"


def test_another_setting_that_uses_other_code_of_the_file_is_one_change(tmp_path, write_run):
    own = OWN.replace("config =", "from pbl.callbacks import CALLBACKS\nCALLBACKS['seen'] = lambda: {seen}\nconfig =")
    common = {"callbacks": ["seen"], "epochs": 31}
    same, edited = (own.format(text="", value=1, seen=seen, epochs=31) for seen in (2, 3))
    write_run("a/001", BASE, model="mine", code=same, **common)
    write_run("a/002", MORE, model="mlp", code=same, **common)
    assert describe_changes(by_name(tmp_path)["a/002"]) == "model: mine -> mlp"
    write_run("a/003", MORE, model="vgg_small", code=edited, **common)
    assert "own code in experiment.py" in describe_changes(by_name(tmp_path)["a/003"])  # the callback was edited too


def test_tables_pictures_and_scripts(tmp_path, write_run, command, monkeypatch):
    write_run("実験/001", BASE, epochs=3)
    write_run("実験/002", MORE, epochs=4, batch_size=32, test_uses=2)
    write_run("[red]$a$ <b>/001", None, status="failed", reason="ValueError: [/x]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBL_RUNS", str(tmp_path))
    status, said, _ = command("log", "--out", "gains.png", "--csv", "log.csv")
    assert status == 0 and ONE_SEED in said and "実験/002" in said and "2 times" in said
    assert "[red]$a$ <b>/001" in said and "failed: ValueError: [/x]" in said
    assert Image.open("gains.png").size[0] == 1008
    with Path("log.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    status, said, _ = command("log", tmp_path, "--json")
    records = json.loads(said)["runs"]
    assert [row["run"] for row in rows] == [record["run"] for record in records]
    assert records[1]["changes"] == {"batch_size": ["64", "32"], "epochs": ["3", "4"]}
    assert float(rows[1]["difference"]) == records[1]["difference"] == pytest.approx(0.1)
    assert records[1]["test_uses"] == 2 and records[2]["val_accuracy"] is None and rows[2]["difference"] == ""
    status, said, _ = command("log", "実験", "--language", "ja")
    assert status == 0 and "正解率" in said and "（同時に 2 か所の変更" in said and "2 回" in said


def test_wrong_input_gets_one_line(tmp_path, write_run, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run("runs/a/001", BASE)
    (tmp_path / "empty").mkdir()
    for words, expected in (
        (["absent"], "There is no folder absent"),
        (["empty"], "empty contains no runs. Train one first"),
        (["runs/a/001"], f"runs/a/001 is one run. Give the folder of all runs: {tmp_path / 'runs'}"),
        (["runs", "--out", "gains.txt"], "whose name ends in one of .png"),
        (["runs", "--csv", "nowhere/log.csv"], "give a file in a folder that exists"),
        (["runs", "--out", "gains.png"], "No run can be compared with an earlier one yet"),
        (["runs", "--language", "fr"], "Invalid value for '--language'"),
    ):
        status, said, error = command("log", *words)
        assert status == 2 and error.count("\n") == 1 and expected in error and not said, (words, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "runs"]


@pytest.mark.slow
def test_a_thousand_runs_take_seconds_and_no_tensorflow(tmp_path, write_run):
    first = write_run("e/0000", BASE)
    settings, about = (json.loads((first / f"{name}.json").read_text()) for name in ("config", "environment"))
    for number in range(1, 1000):
        path = tmp_path / f"e{number % 5}" / f"{number:04d}"
        path.mkdir(parents=True)
        settings |= {"epochs": number // 3 + 1, "learning_rate": (number % 40 + 1) / 1000}
        (path / "config.json").write_text(json.dumps(settings))
        (path / "environment.json").write_text(json.dumps(about))
        for name in ("metrics_val.json", "predictions_val.npz", "experiment.py"):
            (path / name).hardlink_to(first / name)
    code = (
        "import sys, time; from pbl.team_log import read_log; start = time.process_time(); runs = read_log(sys.argv[1]);"
        " print(len(runs), time.process_time() - start, [m for m in ('tensorflow', 'keras', 'pandas', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    count, seconds, heavy = done.stdout.split(maxsplit=2)
    assert count == "1000" and float(seconds) < 10 and heavy.strip() == "[]"
