"""The page of a run: its content, what a stranger's run cannot do, and how a browser shows and prints it."""

import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pbl
from pbl.config import Config
from pbl.diagnosis.signals import Side, Signals
from pbl.errors import InputError
from pbl.evaluation.metrics import compute_metrics
from pbl.evaluation.mistakes import find_pairs, make_small_images
from pbl.reports import pages
from pbl.reports import run_report as report
from pbl.reports.run_report import write_report
from pbl.runs import Run
from pbl.storage.reading import UnreadableFile

pytestmark = pytest.mark.slow  # little of it depends on versions

PACKAGE = Path(report.__file__).parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FOREIGN = (
    'cat <script>alert(1)</script> "><img src=x onerror=alert(1)> {{ 7*77777 }} </style></table> & \u202eevil 猫 قطة'
)
CLASSES = ["cat", "dog", "fox"]
METRICS = {
    "run": "photos/001",
    "source": "photos.zip",
    "best_epoch": 2,
    "test_uses": 0,
    "copies_in_train": 0,
    "images": 120,
    "accuracy": 0.9,
    "accuracy_interval": [0.8333, 0.9417],
    "balanced_accuracy": 0.8877,
    "macro": {"precision": 0.8811, "recall": 0.8822, "f1": 0.8833},
    "micro": {"precision": 0.9, "recall": 0.9, "f1": 0.9},
    "weighted": {"precision": 0.8911, "recall": 0.8922, "f1": 0.8933},
    "top_k_accuracy": {"3": 0.9901, "5": 0.9902},
    "log_loss": 0.3456,
    "brier": 0.1567,
    "roc_auc": 0.9678,
    "average_precision": None,
    "intervals": {"balanced_accuracy": [0.8111, 0.9222], "macro.f1": [0.8333, 0.9444]},
    "calibration": {
        "ece": 0.0512, "ece_if_calibrated": 0.0213, "ece_if_calibrated_high": 0.0414, "temperature": 1.5015, "ece_after": 0.0216,
        "log_loss_after": 0.3017,
    },
    "threshold": {
        "aim": "highest F1", "value": 0.3718, "at_threshold": {"precision": 0.7719, "f1": 0.8021}, "at_half": {"precision": 0.8122, "f1": 0.7923},
    },
    "by_class": {
        "cat": {"precision": 0.7124, "recall": 0.7225, "f1": 0.7326, "images": 60, "roc_auc": 0.9427, "average_precision": 0.9328},
        "dog": {"precision": None, "recall": 0.0, "f1": 0.0, "images": 59, "roc_auc": 0.9529, "average_precision": 0.9130},
        "fox": {"precision": 0.6131, "recall": None, "f1": 0.0, "images": 1, "roc_auc": float("nan"), "average_precision": None},
    },
    "class_names": CLASSES,
    "confusion_matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}  # fmt: skip


def make_signals(accuracy: float = 0.75) -> Signals:
    """Three epochs of a network that knows its training images, and validation with this accuracy."""
    labels = np.arange(120) % 3
    made = Signals(
        {"num_classes": 3, "train_counts": [300, 290, 10], "val_counts": [60, 59, 1], "steps_per_epoch": 10, "model": "mlp"},
        Side.of(labels), Side.of(labels),
    )  # fmt: skip
    for epoch, loss in enumerate((1.1, 0.4, 0.1, 0.05)):
        for side, share in ((made.probe, 1.0), (made.val, accuracy)):
            right = np.arange(120) < (share if epoch else 0.33) * 120
            rows = [np.where(right, loss, 2.0), np.where(right, labels, (labels + 1) % 3), np.full(120, 0.9)]
            side.append(np.stack(rows, 1).astype(np.float32))
        made.epochs.append({"epoch": epoch, "penalty": 0.0, "loss": loss})
    return made


def make_run(folder: Path, name: str = "photos", classes: list[str] = CLASSES, **changes: dict | None) -> Path:
    """A run as `train`, `evaluate` and `inspect` leave it, made by hand.

    Args:
        folder: Where runs are kept.
        name: Name of the experiment.
        classes: Names of the three classes.
        **changes: Changes in a file, by its name without extension; None: there is no such file.
    """
    path = folder / name / "001"
    (path / "figures").mkdir(parents=True)
    config = Config(dataset="photos.zip", model="mlp", model_options={"dropout": 0.5}, epochs=3, learning_rate=0.01)
    results = json.loads(json.dumps(METRICS).replace("NaN", "null"))
    results["by_class"] = dict(zip(classes, results["by_class"].values(), strict=True))
    results["class_names"] = classes
    counts = {part: dict(zip(classes, n, strict=True)) for part, n in (("train", (300, 290, 10)), ("val", (60, 59, 1)), ("test", (50, 40, 10)))}  # fmt: skip
    files = {
        "config": config.model_dump(mode="json"),
        "environment": {
            "status": "finished", "started": "2026-11-21T18:24:26+09:00", "command": "python -m pbl train experiments/photos.py epochs=3",
            "python": "3.11.7", "versions": {"keras": "3.15.1", "numpy": "2.4.6"},
            "machine": {"system": "Linux-6.18", "processor": "AMD EPYC", "cores": 2},
            "git": {"commit": "883679c304d9b248c976fa8aadb19fdb59655d81", "uncommitted_changes": True},
            "devices": ["CPU: /physical_device:CPU:0"], "images": "9b97c67ccc38e508", "trainable_weights": 269434,
            "precision": "mixed_bfloat16", "replicas": 1, "epochs": 3, "best_epoch": 2, "diverged": False,
            "seconds": {"data": 0.16, "fit": 7210.4, "monitor (in fit)": 4.4}, "builder_options": {"dropout": 0.5},
            "resumed": [{"epoch": 2, "step": 3}],
        },
        "split": {
            "source": "photos.zip", "class_names": classes, "input_shape": [32, 32, 3], "fit": "crop", "hashes": {},
            "made_by": {"test": "official", "val": "15% of the images that are not test, by content, groups together"},
            "images": {"train": 600, "val": 120, "test": 100}, "images_by_class": counts, "left_out": 2, "broken": {"a.png": "empty"},
        },
        "data_check": {
            "findings": [
                {
                    "check": "imbalance", "severity": "act", "message": "The training images are unbalanced: said in English.", "items": [],
                    "details": {"common": classes[0], "rare": classes[2], "most": 300, "fewest": 10},
                    "template": "The training images are unbalanced: '{common}' has {most}, '{rare}' only {fewest}; look at recall by class and macro F1 rather than accuracy, and try class weights (class_weight=balanced).",
                },
            ]
        },
        "metrics_val": {**results, "split": "val"},
        "metrics_test": {**results, "split": "test", "accuracy": 0.87, "accuracy_interval": [0.79, 0.9224], "brier": 0.1999, "copies_in_train": 4},
        "cost": {"multiply_accumulates": 40813184, "milliseconds_per_image": 1.2345678, "note": "on a CPU"},
    }  # fmt: skip
    for file, content in files.items():
        if file not in changes or isinstance(changes[file], dict):
            (path / f"{file}.json").write_text(json.dumps({**content, **changes.get(file, {})}), encoding="utf-8")
    (path / "experiment.py").write_text("raise SystemExit('it was executed')  # <b>bold</b>\n", encoding="utf-8")
    (path / "history.csv").write_text(
        "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate\n1,1.5,0.4,1.4,0.5,0.01\n2,0.6,0.7,0.5123,0.75,0.01\n3,,0.9,0.7,0.74,0.005\n"
    )
    make_signals().save(path / "signals.npz")
    (path / "test_uses.csv").write_text("time,host,command\na,b,c\na,b,d\n")
    (path / "best.weights.h5").write_bytes(b"weights")
    for number, stem in enumerate(
        ["learning_curves", "zebra <b>", "confusion_matrix_test", "filters", "mistakes_test", "mistakes_val", "reliability_val", "confusion_matrix_val"]
    ):  # fmt: skip
        # A picture with a frame: if it were cut, an edge would be missing.
        pixels = np.full((300, 900 if stem in ("learning_curves", "filters") else 320, 3), 200 - 10 * number, np.uint8)
        pixels[[0, -1]] = pixels[:, [0, -1]] = 0
        Image.fromarray(pixels).save(path / "figures" / f"{stem}.png")
    return path


class Page(HTMLParser):
    """A parsed page: its elements with their attributes, and its text; ill-nested elements are an error."""

    def __init__(self, file: Path):
        super().__init__(convert_charrefs=True)
        self.source = file.read_text(encoding="utf-8")
        self.elements, self.open, self.parts = [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open += [] if tag in ("meta", "img") else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.parts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(run: Path, language: str = "en") -> Page:
    return Page(write_report(run, language=language).file)


# The content of the page


@pytest.mark.parametrize("language", ["en", "ja"])
def test_all_that_a_run_holds_is_on_the_page(tmp_path, language):
    run = make_run(tmp_path)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    page = page_of(run, language)
    assert {file: file.read_bytes() for file in before} == before  # and nothing of it was executed
    assert "physical_device" not in page.source
    numbers = "90.0% 83.3% 94.2% 87.0% 0.9000 0.8877 0.8111 0.9222 0.8811 0.8822 0.8833 0.9444 0.8911 0.9901 0.9902 0.3456 0.1567 0.1999 0.9678"
    numbers += " 0.0512 0.0213 0.0414 1.5015 0.0216 0.3017 0.3718 0.7719 0.8021 0.8122 0.7923 0.7124 0.7225 0.7326 0.9427 0.9328"
    numbers += " 269,434 40,813,184 1.235 mixed_bfloat16 883679c304d9b248c976fa8aadb19fdb59655d81 3.15.1 0.5123 600 290"
    others = ["cat", "dog", "fox", "photos.zip", "model_options.dropout", "highest F1", "AMD EPYC", "2026-11-21T18:24:26+09:00", "on a CPU"]  # fmt: skip
    others += [f"python -m pbl train {run}", "python -m pbl train experiments/photos.py epochs=3", "it was executed"]
    assert [text for text in [*numbers.split(), *others] if text not in page.text] == []
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    said = {
        "en": ["overfitting (gap)", "Try 1:", "used the test split 2 times", "undefined", "Precision is undefined if", "Recall is undefined if", "2.0 h", "yes: the code that ran", "Look at it: imbalance", "look at recall by class and macro F1", "official, of the data set itself", "4 of these images are in the training images too", "1 time, in epoch 2", "groups stay together"],
        "ja": ["過学習（訓練と検証の差）", "次の実験 1", "テストデータを 2 回使いました", "定義なし", "適合率は定義されません", "再現率は定義されません", "2.0 時間", "あり（実行したコード", "要確認: クラス不均衡", "'cat' は 300 枚、'fox' は 10 枚だけ", "公式の分割", "このうち 4 枚は訓練画像にも", "1 回（エポック 2）", "同じグループの画像は分けません"],
    }  # fmt: skip
    assert [text for text in said[language] if text not in page.text] == []
    # Wherever the test split is shown, its uses are shown too: headline, all classes, class by class, pictures.
    assert page.text.count(said[language][2]) == 4

    assert page.all("html")[0]["lang"] == language and page.all("title") and page.source.startswith("<!DOCTYPE html>")
    pictures = page.all("img")
    assert all(picture["alt"] and picture["src"].startswith("data:image/png;base64,") for picture in pictures)
    order = "learning_curves confusion_matrix_val confusion_matrix_test reliability_val mistakes_val mistakes_test filters zebra".split()
    captions = [caption_of(stem, language) for stem in order]
    assert [picture["alt"] for picture in pictures] == captions
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th")) and page.all("table")
    # Nothing is downloaded, nothing runs.
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    assert not re.search(r"https?://|url\(|@import", page.source)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_how_the_split_was_made_is_read_as_facts_and_as_a_sentence(tmp_path, language):
    run = make_run(tmp_path)
    page, split = page_of(run, language), json.loads((run / "split.json").read_text(encoding="utf-8"))
    facts = {"kind": "share", "of": "rest", "fraction": 0.15, "groups": True}
    split["made_by"] = {"test": {"kind": "official", "groups": False}, "val": facts}
    (run / "split.json").write_text(json.dumps(split), encoding="utf-8")
    assert page_of(run, language).text == page.text
    expected = {"en": "15% of the images that are not test, chosen by their content; groups stay together", "ja": "テスト以外の画像の 15%（画像の内容によって選択）"}  # fmt: skip
    assert expected[language] in page.text
    for strange in ({"kind": "share"}, 7, ["official"]):  # is ignored
        (run / "split.json").write_text(json.dumps({**split, "made_by": {"val": strange}}), encoding="utf-8")
        assert expected[language] not in page_of(run, language).text


def test_the_background_of_masks_is_not_counted_as_a_class(tmp_path):
    names = ["background", "fox"]
    counts = {"train": {"background": 4, "fox": 5}, "val": {"fox": 3}}
    of_masks = {"class_names": names, "images_by_class": counts, "images": {"train": 9, "val": 3}}
    run = make_run(tmp_path, config={"task": "segmentation"}, split=of_masks)
    page = page_of(run)
    assert "1 class, 9 training images" in page.text and "nothing marked 4" in page.text
    assert "2 classes, 9 training images" in page_of(make_run(tmp_path / "other", split=of_masks)).text


def caption_of(stem: str, language: str) -> str:
    for kind, caption in report.CAPTIONS.items():
        for split, word in (("val", "validation"), ("test", "test")):
            if kind.format(split=split) == stem:
                say = report._Voice(language)
                return say(caption, split=say.word(word))
    return "zebra <b>.png"


# Wrong and hostile runs


def test_what_a_stranger_wrote_is_shown_and_does_nothing(tmp_path):
    """Names, values and findings that are markup, templates, formats, very long, or change the direction of the text."""
    long = "x" * 10_000
    classes = [FOREIGN, "{name.__class__}", long]
    text = {"status": FOREIGN, "reason": FOREIGN, "started": FOREIGN, "command": FOREIGN, "versions": {FOREIGN: FOREIGN}, "devices": [FOREIGN], "precision": FOREIGN, "seconds": {FOREIGN: 1.0}, "git": {"commit": FOREIGN}}  # fmt: skip
    finding = {"check": FOREIGN, "severity": FOREIGN, "message": FOREIGN + "{message}", "items": [], "details": {"x": FOREIGN}, "template": "{x.__class__} {x:>999999999}"}  # fmt: skip
    known = "The training images are unbalanced: {common} has {most} of them, {rare} {fewest}."
    crooked = {"check": "shift", "severity": "note", "message": FOREIGN, "items": [], "details": {"share": [1], "images": "\ud800", "template": 1}, "template": known}  # fmt: skip
    run = make_run(
        tmp_path,
        "<img src=x onerror=alert(1)>",
        classes,
        config={"dataset": FOREIGN, "model": long, "model_options": {FOREIGN: FOREIGN, "a": {"b": ["\ud800", long]}}},
        environment=text,
        data_check={"findings": [finding, crooked]},
        split={"source": FOREIGN, "made_by": {"val": FOREIGN, "test": "9" * 5000}, "input_shape": [FOREIGN, long, None]},
        metrics_val={"threshold": {"aim": FOREIGN, "value": 0.5, "at_half": {FOREIGN: 1}}, "positive": {"class": FOREIGN}, "top_k_accuracy": {FOREIGN: 1, "9" * 400: 1}},
        cost={FOREIGN: FOREIGN, long: 1},
    )  # fmt: skip
    (run / "experiment.py").write_bytes(
        b"# </code></pre><script>alert(1)</script> \x00 \xff {% raise %}\n" + long.encode() * 20
    )
    for name in ('"><img src=x onerror=alert(1)>.png', "{{ 7*77777 }}.png", "ア\u202e.png"):
        shutil.copy(run / "figures" / "filters.png", run / "figures" / name)
    (run / "history.csv").write_text(f"epoch,loss\n{FOREIGN},{FOREIGN}\n", encoding="utf-8")
    plain = make_run(tmp_path / "plain")
    for language in ("en", "ja"):
        page, expected = page_of(run, language), page_of(plain, language)
        # Exactly our own elements with our own attributes: nothing that a stranger wrote has become one.
        assert {tag for tag, _ in page.elements} <= {tag for tag, _ in expected.elements}
        ours = {name for _, attributes in expected.elements for name in attributes}
        assert {name for _, attributes in page.elements for name in attributes} <= ours
        shown = FOREIGN.replace("\u202e", "\\u202e")
        assert (
            page.text.count(" ".join(shown.split())) > 10 and "{{ 7*77777 }}" in page.text and "544439" not in page.text
        )
        assert (
            "{name.__class__}" in page.text
            and "<class" not in page.text
            and "\\u0000" in page.text
            and "\\ud800" in page.text
        )
        assert "\u202e" not in page.source and len(page.source) < 400_000
        assert max(len(word) for word in page.text.split()) < pages.MOST_LETTERS_OF_CODE + 10


def damage(run: Path, name: str, content: object) -> None:
    """Replaces a file by something else."""
    file = run / name
    file.unlink(missing_ok=True)
    if content == "link":
        outside = run.parent.parent.parent / f"outside{file.suffix}"
        outside.write_bytes((run / "figures" / "mistakes_val.png").read_bytes() if file.suffix == ".png" else b'{"secret": "SECRET"}')  # fmt: skip
        file.symlink_to(outside)
    elif content == "loop":
        file.symlink_to(file.name)
    elif content == "pipe":
        os.mkfifo(file)
    elif content == "folder":
        file.mkdir()
    elif isinstance(content, int):
        with file.open("wb") as opened:
            opened.truncate(content)
    elif content is not None:
        file.write_bytes(content if isinstance(content, bytes) else str(content).encode())


PICTURES = ("figures/filters.png", "figures/learning_curves.png")
UNREADABLE = [
    *[("metrics_val.json", content) for content in ("", "{", "[1]", "null", "link", "pipe", '{"a": ' + "[" * 100_000, report.MOST_BYTES + 1)],
    *[(name, content) for name in ("split.json", "metrics_test.json", "data_check.json", "cost.json") for content in ("{", "link")],
    *[(name, content) for name in ("history.csv", "test_uses.csv") for content in (b"\x00\xff", "link", "folder")],
    *[(PICTURES[0], content) for content in ("", b"\x89PNG\r\n\x1a\n", "<svg onload=alert(1)>", "link", "loop", "pipe", report.MOST_PICTURE + 1)],
    (PICTURES[1], "GIF89a"),
    *[(name, content) for name in ("signals.npz", "experiment.py") for content in ("link", "pipe")],
]  # fmt: skip
STRANGE = [
    ("signals.npz", b"PK\x03\x04"),
    ("experiment.py", b"\xff\x00"),
    ("history.csv", ""),
    ("history.csv", "epoch,val_loss\n1\n2,3,4,5\n"),
    ("test_uses.csv", ""),
    ("metrics_val.json", "{}"),
    ("metrics_val.json", '{"accuracy": 1e400, "accuracy_interval": ["a"], "by_class": {"a": 3, "b": {"precision": "x"}}, "macro": 1, "intervals": [], "calibration": 3, "class_names": 5}'),
    ("metrics_val.json", '{"accuracy": 2, "images": "many", "macro": {"f1": NaN, "recall": -Infinity}, "intervals": {"macro.f1": [NaN, 1]}, "by_class": [], "threshold": []}'),
    ("split.json", '{"class_names": {"a": 1}, "images": [], "images_by_class": 3, "input_shape": 7, "made_by": [], "broken": 1}'),
    ("split.json", '{"class_names": [[1], null, 3], "images": {"train": "x"}, "input_shape": [1, 2, 3], "fit": 1, "hashes": 3}'),
    ("data_check.json", '{"findings": [1, null, {"check": [1], "severity": {}, "message": 5, "details": 3}]}'),
    ("environment.json", '{"status": 5, "versions": [], "machine": 3, "git": [], "seconds": {"fit": "x"}, "resumed": [1], "devices": {}, "best_epoch": "x", "epochs": []}'),
    ("cost.json", '{"a": {"b": 1}, "c": [1], "d": NaN, "e": true, "f": ' + "9" * 4000 + "}"),
    ("lock.json", '{"host": "x", "pid": 1e400, "time": 1e400, "token": 3}'),
]  # fmt: skip
MISSING = {
    "split.json": ("What the data are is written when a training begins:", "train {run}"),
    "metrics_val.json": ("Metrics of the validation split:", "evaluate {run}"),
    "metrics_test.json": ("Metrics of the test split, once and at the very end:", "evaluate {run} --split test"),
    "data_check.json": ("The data were not checked:", "check {run}"),
    "signals.npz": ("The diagnosis comes with the training:", "train {run}"),
    "best.weights.h5": ("There is no trained model yet that could be evaluated:", "train {run}"),
    PICTURES[0]: ("What the network looks at, and its filters:", "inspect {run}"),
    PICTURES[1]: ("The picture of the learning curves is drawn when the training has ended:", "train {run}"),
}


def name_case(value: object) -> str:
    return str(value)[:25]


@pytest.mark.parametrize(("name", "content"), UNREADABLE, ids=name_case)
def test_a_file_that_cannot_be_shown_is_named_with_the_reason(tmp_path, name, content):
    run = make_run(tmp_path)
    damage(run, name, content)
    written = write_report(run)
    page = Page(written.file)
    assert list(written.left_out) == [name] and f"{name} : {written.left_out[name]}" in page.text
    assert "SECRET" not in page.source and "onload" not in page.source
    assert len(page.all("img")) == len(written.pictures) == 8 - name.startswith("figures/")


def test_signals_that_a_failing_disk_hides_are_left_out(tmp_path, monkeypatch):
    """Training again would not help, and is not advised."""
    run = make_run(tmp_path)

    def fail(*_):
        raise UnreadableFile(run / "signals.npz", "Input/output error", is_damaged=False)

    monkeypatch.setattr(report, "diagnose_run", fail)
    written = write_report(run)
    assert list(written.left_out) == ["signals.npz"]
    text = Page(written.file).text
    assert "signals.npz is left out: it cannot be read" in text and "The diagnosis comes with" not in text


@pytest.mark.parametrize(("name", "content"), STRANGE, ids=name_case)
def test_what_makes_no_sense_leaves_a_page(tmp_path, name, content):
    run = make_run(tmp_path)
    damage(run, name, content)
    for language in ("en", "ja"):
        page = page_of(run, language)
        assert "photos/001" in page.text and not re.search(r"\b(nan|inf|None)\b", page.text)
    assert set(write_report(run).left_out.items()) <= {(name, "it is damaged")}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path, name):
    run = make_run(tmp_path)
    sentence, command = MISSING[name]
    line = f"{sentence} python -m pbl {command.format(run=run)}"
    assert line not in page_of(run).text
    (run / name).unlink()
    if name == "best.weights.h5":  # it is written together with the metrics
        (run / "metrics_val.json").unlink()
    assert line in page_of(run).text


STATUS = [
    ({"status": "running"}, "was cut off: 3 of 3 epochs", "学習は途中で切れました", True),
    ({"status": "paused", "epochs": 1}, "is paused: 1 of 3 epochs", "一時停止中", True),
    ({"status": "interrupted"}, "was stopped: 3 of 3", "途中で止められました", True),
    ({"status": "failed", "reason": "OSError: disk"}, "failed after 3 of 3 epochs. OSError: disk", "学習は失敗しました", False),
    ({"diverged": True, "diverged_at": "step 2"}, "diverged (step 2) and was stopped", "発散したため", False),
    ({"status": "odd"}, "its status is “odd”", "状態は「odd」", True),
]  # fmt: skip


@pytest.mark.parametrize(("environment", "english", "japanese", "goes_on"), STATUS, ids=name_case)
def test_a_run_that_did_not_end_well_says_so(tmp_path, environment, english, japanese, goes_on):
    run = make_run(tmp_path, environment=environment)
    page = page_of(run)
    assert english in page.text and ("To resume it:" in page.text) == goes_on
    assert japanese in page_of(run, "ja").text
    assert "status" in [one.get("class") for one in page.all("div")]
    assert "status" not in [one.get("class") for one in page_of(make_run(tmp_path / "well")).all("div")]


def test_uses_of_the_test_split_are_never_understated(tmp_path):
    run = make_run(tmp_path)
    for content, count in ((b"\xff", 4), ("", 4), (None, 4), ("time,host,command\na,b,c\n", 0)):
        damage(run, "test_uses.csv", content)
        assert page_of(run).text.count("is not known: test_uses.csv is missing or damaged") == count, content
    assert page_of(run).text.count("has used the test split once.") == 4
    for file in run.rglob("*_test.*"):
        file.unlink()
    assert page_of(run).text.count("has used the test split once.") == 1
    damage(run, "test_uses.csv", "link")
    assert page_of(run).text.count("is not known") == 1 and "has not used" not in page_of(run).text


def test_a_run_that_has_just_begun_and_one_under_way(tmp_path):
    run = make_run(tmp_path)
    for file in run.rglob("*"):
        if file.is_file() and file.name not in ("config.json", "environment.json"):
            file.unlink()
    (run / "environment.json").write_text('{"status": "running"}')
    for language, words in (
        ("en", "cut off: 0 of 3 epochs"),
        ("ja", "学習は途中で切れました。3 エポックのうち 0 まで"),
    ):
        assert words in page_of(run, language).text
    with Run(run).lock():
        assert "is running: 0 of 3 epochs" in page_of(run).text


def test_wrong_input_gets_one_line_and_writes_nothing(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "good config environment nested link".split():
        make_run(tmp_path / "runs", name)
    damage(tmp_path / "runs/config/001", "config.json", "{")
    damage(tmp_path / "runs/environment/001", "environment.json", None)
    damage(tmp_path / "runs/nested/001", "environment.json", '{"a": ' + "[" * 100_000)
    (tmp_path / "runs/link/001/report.html").symlink_to(tmp_path / "precious.html")
    (tmp_path / "precious.html").write_text("precious")
    (tmp_path / "empty").mkdir()
    cases = [
        ("absent", "No run absent. Runs here:"),
        ("empty", "is not a run"),
        ("runs", "is a folder of runs"),
        ("runs/config/001", "config.json is left out, because it is damaged"),
        ("runs/environment/001", "environment.json is missing"),
        ("runs/nested/001", "environment.json is left out, because it is damaged"),
        ("runs/link/001", "report.html is a link"),
        ("runs/good/001 --out runs/good/001/config.json", "whose name ends in .html"),
        ("runs/good/001 --out absent/x.html", "a folder that exists"),
        ("runs/good/001 --language fr", "Invalid value for '--language'"),
    ]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    for words, said in cases:
        status, out, error = command("report", *words.split())
        assert status == 2 and error.count("\n") == 1 and said in error and not out, (words, error)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}

    status, out, error = command("report", "runs/good/001", "--json")
    written = json.loads(out)
    assert status == 0 and not error and written["file"] == "runs/good/001/report.html" and written["left_out"] == {}
    assert written["bytes"] == Path(written["file"]).stat().st_size and len(written["pictures"]) == 8
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    status, out, _ = command("report", "runs/good/001", "--out", "page.html")
    assert (
        status == 0 and out.startswith("page.html：") and 'lang="ja"' in Path("page.html").read_text(encoding="utf-8")
    )


def test_too_many_pictures_and_too_much_packed(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    monkeypatch.setattr(report, "MOST_PICTURES", 5)
    written = write_report(run)
    assert len(written.pictures) == 5 and len(written.left_out) == 3
    monkeypatch.setattr(report, "MOST_UNPACKED", 100)
    assert "signals.npz is left out: it is too large." in page_of(run).text
    with pytest.raises(InputError, match="is not a run"):
        write_report(tmp_path / "photos" / "001" / "figures")


def test_it_takes_a_moment_and_no_tensorflow(tmp_path):
    program = "import sys, pbl.reports.run_report; pbl.reports.run_report.write_report(sys.argv[1]); print(*sorted({'tensorflow', 'keras', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program, make_run(tmp_path)], capture_output=True, text=True, cwd=PACKAGE.parent.parent, check=True)  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("", "")


# In a browser

FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome, which is not installed")

# Looks at pages in frames of a given width, since a window is never narrower than about 500 pixels.
LOOK = """
<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
    const shade = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(x => x / 255).map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
                              return .2126 * r + .7152 * g + .0722 * b; };
    const pale = [];
    for (const element of page.body.querySelectorAll("*")) {
      if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
      let under = element;
      while (under && view.getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
      const style = view.getComputedStyle(element), size = parseFloat(style.fontSize);
      const two = [shade(style.color), shade(under ? view.getComputedStyle(under).backgroundColor : "rgb(255, 255, 255)")].sort((a, b) => b - a);
      const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      if ((two[0] + .05) / (two[1] + .05) < (isLarge ? 3 : 4.5)) pale.push(element.tagName + ": " + element.textContent.slice(0, 40));
    }
    const boxes = [...page.querySelectorAll(".box")];
    const out = [...page.body.querySelectorAll("*")].filter(element => !element.closest(".box") && element.getBoundingClientRect().right > root.clientWidth + .5);
    return { width: view.innerWidth, has: root.clientWidth, needs: root.scrollWidth, language: root.lang, pictures: [...page.images].map(image => image.naturalWidth),
             scripts: page.scripts.length, out: out.map(element => element.outerHTML.slice(0, 60)), pale, scrolls: boxes.filter(box => box.scrollWidth > box.clientWidth).length,
             said: page.body.innerText.length };
  });
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
});
</script>
"""


def browse(folder: Path, *words: str) -> str:
    """Starts the browser; returns what it prints."""
    words = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={folder / 'browser'}", *words]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout


def look_at(folder: Path, pages: list[str], widths: tuple[int, ...] = (1280, 400)) -> list[dict]:
    """What a browser measures of each page at each width."""
    frames = [f'<iframe width="{width}" height="800" style="border:0" srcdoc="{html.escape(page)}"></iframe>' for page in pages for width in widths]  # fmt: skip
    file = folder / "frames.html"
    file.write_text(f'<!DOCTYPE html><meta charset="utf-8">{LOOK}<body>{"".join(frames)}', encoding="utf-8")
    dumped = browse(folder, "--virtual-time-budget=10000", "--window-size=1400,900", "--dump-dom", file.as_uri())
    return json.loads(html.unescape(re.search("<body>FOUND(.*)END", dumped, re.DOTALL)[1]))


@needs_browser
def test_a_browser_shows_it_whole_at_any_width(tmp_path):
    plain, begun = make_run(tmp_path), make_run(tmp_path, "begun", metrics_val=None, metrics_test=None, environment={"status": "paused"})  # fmt: skip
    hostile = make_run(tmp_path, "h" * 250, [FOREIGN, "y" * 10_000, "z z " * 3_000], config={"model": "m" * 10_000, "model_options": {"n" * 900: "v" * 10_000}})  # fmt: skip
    (hostile / "experiment.py").write_text("x" * 50_000)
    runs = {run: [page_of(run, language).source for language in ("en", "ja")] for run in (plain, begun, hostile)}
    seen = look_at(tmp_path, [page for pages in runs.values() for page in pages])
    assert [(one["width"], one["language"]) for one in seen] == [
        (1280, "en"),
        (400, "en"),
        (1280, "ja"),
        (400, "ja"),
    ] * 3
    for one in seen:
        assert one["needs"] <= one["has"] <= one["width"] and not one["out"], one
        assert len(one["pictures"]) == 8 and all(width > 0 for width in one["pictures"])
        assert one["pale"] == [] and one["scripts"] == 0 and one["said"] > 1000
    assert any(one["scrolls"] for one in seen if one["width"] == 400)  # tables scroll, each in its box


@needs_browser
def test_the_look_itself_finds_faults(tmp_path):
    """Elements wider than the page, a broken picture and pale text are noticed; otherwise the test above could not fail."""
    page = '<!DOCTYPE html><html lang="en"><p style="width:2000px;color:#999">pale</p><img src="data:image/png;base64,AAAA" alt=""></html>'
    (seen,) = look_at(tmp_path, [page], (400,))
    assert seen["needs"] > 400 and seen["out"] and seen["pictures"] == [0] and seen["pale"] == ["P: pale"]


def pages_of(pdf: bytes) -> list[tuple[tuple[float, float], int, int]]:
    """For each page its size in points, the number of texts and the number of pictures."""
    objects = {int(number): body for number, body in re.findall(rb"(\d+) 0 obj\b(.*?)endobj", pdf, re.DOTALL)}
    found = []
    for body in objects.values():
        if not re.search(rb"/Type\s*/Page\b", body):
            continue
        box = [float(side) for side in re.search(rb"/MediaBox\s*\[([^]]*)\]", body)[1].split()]
        stream = re.search(
            rb"stream\r?\n(.*)endstream", objects[int(re.search(rb"/Contents (\d+)", body)[1])], re.DOTALL
        )[1]
        content = zlib.decompressobj().decompress(stream)
        found.append(
            (
                (box[2] - box[0], box[3] - box[1]),
                len(re.findall(rb"\bTj\b|\bTJ\b", content)),
                len(re.findall(rb"\bDo\b", content)),
            )
        )
    return found


@needs_browser
@pytest.mark.parametrize("language", ["en", "ja"])
def test_it_prints_on_a4(tmp_path, language):
    run = make_run(tmp_path)
    file = write_report(run, language=language).file
    browse(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}", file.as_uri())
    pages = pages_of((tmp_path / "page.pdf").read_bytes())
    assert 3 <= len(pages) <= 12
    for size, texts, _ in pages:
        assert size == pytest.approx((595, 842), abs=1) and texts > 5
    assert sum(pictures for _, _, pictures in pages) >= 8


# From a number of the confusion matrix to the images


class Sections(HTMLParser):
    """For each element with an id: its text, pictures and links; and all links of the page, each with its sentence and text."""

    def __init__(self, source: str):
        super().__init__()
        self.open, self.ids, self.links = [], {}, []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        about = dict(attributes)
        if tag == "a":
            self.links.append([about["href"], about.get("aria-label"), ""])
        if tag == "img":
            for name in filter(None, self.open):
                self.ids[name]["pictures"].append(about["src"])
        if tag not in ("meta", "img"):
            self.open.append(about.get("id"))
            if "id" in about:
                assert about["id"] not in self.ids
                self.ids[about["id"]] = {"text": "", "pictures": [], "focus": about.get("tabindex")}

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        if self.links and self.links[-1][2] == "":
            self.links[-1][2] = data
        for name in filter(None, self.open):
            self.ids[name]["text"] += data


def pixels_of(source: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_each_number_of_mistakes_leads_to_its_images(trained_run, tmp_path, language):
    run = Run(shutil.copytree(trained_run.path, tmp_path / "copy"))
    saved, names = run.read_predictions("val"), run.split["class_names"]
    predicted = saved.probabilities.argmax(axis=1)
    data = pbl.load_data("digits").images("val")
    images = dict(zip(data.hashes, data.pixels, strict=True))
    page = Sections(write_report(run, language=language).file.read_text(encoding="utf-8"))
    leading = [link for link in page.links if link[1]]
    expected = Counter(zip(saved.labels.tolist(), predicted.tolist(), strict=True))
    expected = {pair: count for pair, count in expected.items() if pair[0] != pair[1]}
    assert len(leading) == len(expected) > 5 and len({target for target, *_ in leading}) == len(leading)
    for target, told, text in leading:
        true, other = map(int, target.split("-")[2:])
        places = np.flatnonzero((saved.labels == true) & (predicted == other))
        section = page.ids[target.removeprefix("#")]
        assert int(text) == expected[true, other] == len(places) and section["focus"] == "-1"
        assert f"{text}" in told and names[true] in told and names[other] in told
        surest = places[np.argsort(-saved.probabilities[places].max(axis=1), kind="stable")][:6]
        numbers = [re.search(r"\d+$", saved.names[place])[0] for place in surest]
        word = "画像" if language == "ja" else "image"
        assert re.findall(rf"{word} (\d+) \(0\.", section["text"]) == numbers
        if section["pictures"]:
            for place, picture in zip(surest, section["pictures"], strict=True):
                np.testing.assert_array_equal(pixels_of(picture), images[saved.hashes[place]][..., 0])
    assert sum(bool(page.ids[target[1:]]["pictures"]) for target, *_ in leading) == min(24, len(leading))
    assert {target[1:] for target, *_ in page.links} <= set(page.ids)  # links back and in the contents too

    # If an earlier version, or a stranger, left something else instead of the images: only the names.
    with np.load(run.path / "predictions_val.npz") as arrays:
        arrays = dict(arrays)
    small = arrays.pop("small_images")
    for other in (
        {},
        {"small_images": small.astype(float)},
        {"small_images": np.zeros((len(small), 9000, 1, 1), np.uint8)},
    ):
        np.savez_compressed(run.path / "predictions_val.npz", **arrays, **other)
        without = Sections(write_report(run, language=language).file.read_text(encoding="utf-8"))
        assert not any(section["pictures"] for name, section in without.ids.items() if name.startswith("mistakes"))
        assert [link[::2] for link in without.links if link[1]] == [link[::2] for link in leading]
        for target, *_ in leading:
            known, again = (re.findall(r"\d+ \(0\.\d+\)", one.ids[target[1:]]["text"]) for one in (page, without))
            assert known == again


def test_of_many_classes_the_pairs_that_the_page_shows_lead_to_images(tmp_path):
    """And the page stays small, whatever the images: 24 pairs with 6 images, 48 pixels a side."""
    names, random = [f"class {number}" for number in range(30)], np.random.default_rng(0)
    labels = np.arange(3000) % 30
    probabilities = random.dirichlet(np.ones(30), 3000).astype(np.float32)
    run = make_run(tmp_path, metrics_test=None, metrics_val=compute_metrics(labels, probabilities, names))
    places = [place for pair in find_pairs(labels, probabilities) for place in pair.places]
    small = make_small_images(random.integers(0, 256, (len(places), 70, 96, 3), np.uint8))
    assert small.shape == (24 * 6, 35, 48, 3)
    arrays = {
        "labels": labels,
        "probabilities": probabilities,
        "hashes": labels.astype(str),
        "names": labels.astype(str),
    }
    before = write_report(run).bytes
    np.savez_compressed(run / "predictions_val.npz", **arrays, class_names=names, mistakes=places, small_images=small)
    written = write_report(run)
    page = Sections(written.file.read_text(encoding="utf-8"))
    leading = [link for link in page.links if link[1]]
    assert len(leading) == 20 and all(len(page.ids[target[1:]]["pictures"]) == 6 for target, *_ in leading)
    assert 100_000 < written.bytes - before < 1_200_000


@needs_browser
def test_a_browser_shows_the_mistakes_at_any_width(trained_run, tmp_path):
    pages = [Path(write_report(trained_run, tmp_path / f"{language}.html", language).file).read_text(encoding="utf-8") for language in ("en", "ja")]  # fmt: skip
    for one in look_at(tmp_path, pages, (1280, 390)):
        assert one["needs"] <= one["has"] <= one["width"] and not one["out"] and one["pale"] == [], one
        assert len(one["pictures"]) > 20 and all(width > 0 for width in one["pictures"])
