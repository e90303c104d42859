"""Hidden sets, submissions and the grading of a class, as a team and an instructor use them."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import pbl
from pbl.errors import InputError
from pbl.grading import Limits, Rubric, grade, judge, write_submission
from pbl.grading.fixtures import compare
from pbl.grading.hidden import open_hidden, open_labels
from pbl.grading.holdout import make_holdout
from pbl.grading.intake import File, find_sources, find_submissions
from pbl.grading.ledger import Ledger
from pbl.grading.outcomes import REASONS, STATUSES
from pbl.grading.refusals import clean
from pbl.grading.results import check_marks, update_marks
from pbl.grading.roster import read_roster, safe_name
from pbl.grading.sandbox import FULL, find_layers
from pbl.grading.submission import submit
from pbl.storage.escapes import for_csv

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
needs_isolation = pytest.mark.skipif(
    any(find_layers()[layer] for layer in FULL), reason="this machine's kernel has no Landlock or no seccomp filters"
)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory) -> Path:
    return make_holdout("digits", out=tmp_path_factory.mktemp("holdout") / "digits", seed=5).path


@pytest.fixture(scope="module")
def float_run(tmp_path_factory) -> pbl.runs.Run:
    """A run whose model computes as the grader does, so that its predictions are the same to the last digit."""
    config = pbl.Config(model="mlp", model_options={"widths": [32]}, epochs=3, precision="float32")
    return pbl.train(config, folder=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def submitted(float_run, tmp_path_factory) -> Path:
    """What `submit` writes for a run, as a zip."""
    file = tmp_path_factory.mktemp("submitted") / "team.zip"
    told = submit(float_run, "チームA", out=file)
    assert told.status == "ok" and not told.remarks, told
    return file


def as_rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))


# --- holdout


def test_a_holdout_hides_by_content_and_names_nothing(hidden):
    labels = as_rows(hidden / "labels" / "labels.csv")
    public = pbl.load_data(str(hidden / "public"))
    told = open_hidden(hidden)
    images = [pbl.data.read_image(file) for file in told.files]
    digits = pbl.load_data("digits")
    known = {content: label for part in ("train", "val", "test") for content, label in zip(digits.images(part).hashes, digits.images(part).labels, strict=True)}  # fmt: skip
    hashes = [pbl.data.hash_image(image) for image in images]
    seen = {content for part in ("train", "val", "test") for content in public.images(part).hashes}
    assert not seen & set(hashes) and seen | set(hashes) == set(known)
    order = {row["id"]: row for row in labels}
    assert [int(order[name]["label"]) for name in told.ids] == [known[content] for content in hashes]
    # Neither the order of the names nor their dates show the class; both halves have each class.
    classes = np.array([int(order[name]["label"]) for name in told.ids])
    assert abs(np.corrcoef(np.arange(len(classes)), classes)[0, 1]) < 0.2
    assert len({file.stat().st_mtime for file in told.files}) == 1
    halves = open_labels(told)
    assert set(classes[halves.is_public]) == set(classes[~halves.is_public]) == set(range(10))
    assert abs(halves.is_public.mean() - 0.5) < 0.03 and 0.19 < len(classes) / 1797 < 0.21
    assert (hidden / "labels").stat().st_mode & 0o077 == 0
    assert not [path for path in (hidden / "images").iterdir() if not path.name.endswith(".png")]
    assert "label" not in (hidden / "hidden.json").read_text()


def test_groups_hold_between_hidden_and_public_and_between_the_halves(tmp_path):
    """Three images of each patient: on one side of the split, and hidden ones are in one half."""
    from PIL import Image

    random = np.random.default_rng(0)
    for patient in range(120):
        for view in range(3):
            folder = tmp_path / "photos" / ("ill" if patient % 2 else "well")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / f"p{patient:03d}-{view}.png")
    made = make_holdout(str(tmp_path / "photos"), out=tmp_path / "out", groups=r"p\d+", fraction=0.4, seed=3)
    known = {
        pbl.data.hash_image(pbl.data.read_image(file)): file.stem[:4] for file in (tmp_path / "photos").rglob("*.png")
    }
    hidden = open_hidden(made.path)
    patients = [known[pbl.data.hash_image(pbl.data.read_image(file))] for file in hidden.files]
    halves = open_labels(hidden).is_public
    sides = [
        {patient for patient, is_public in zip(patients, halves, strict=True) if is_public == side}
        for side in (True, False)
    ]
    assert not sides[0] & sides[1] and 0.4 < halves.mean() < 0.6 and len(sides[0] | sides[1]) * 3 == len(patients)


def test_copies_across_the_border_are_named(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (300, 12, 12), np.uint8)
    near = np.roll(images[:100], 1, axis=2)  # moved by one pixel: no hash finds them
    np.savez(tmp_path / "a.npz", x_train=np.concatenate([images, near]), y_train=np.arange(400) % 2)
    made = make_holdout(str(tmp_path / "a.npz"), out=tmp_path / "out", seed=0)
    assert any(finding.check == "altered_copies" for finding in made.findings)
    pairs = as_rows(made.path / "labels" / "copies.csv")
    assert len(pairs) >= 20
    for pair in pairs:
        one, other = (int(pair[name].split("/")[-1]) for name in ("public image", "hidden image"))
        assert abs(one - other) == 300  # exactly the planted pairs


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "digits", "fraction": 0}, "--fraction 0: give a share above 0"),
        ({"source": "digits", "hide_test": True}, "has no test split of its own"),
        ({"source": "digits", "out": "."}, "already exists"),
        ({"source": "digit"}, "Did you mean 'digits'"),
    ],
)
def test_wrong_settings_of_a_holdout_write_nothing(tmp_path, monkeypatch, settings, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        make_holdout(**settings)
    assert said in str(error.value) and not list(tmp_path.iterdir())


# --- downloads and rosters

CLASS = ["チーム青", "Team B", "c", "佐藤 花子"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Team B.zip", "c.keras", "チーム青/model.keras"], {"Team B": 1, "c": 1, "チーム青": 1}),
        (["Team B_1234_assignsubmission_file_/model.keras", "佐藤 花子_77_assignsubmission_file_/a.zip", "c_9_assignsubmission_onlinetext_/onlinetext.html"], {"Team B": 1, "佐藤 花子": 1}),
        (["Team B_1234_assignsubmission_file_model.weights.h5", "Team B_1234_assignsubmission_file_submission.json"], {"Team B": 2}),
        (["Assignment 1/Team B - submission.zip", "Assignment 1/佐藤花子 - submission (1).zip"], {"Team B": 1, "佐藤 花子": 1}),
        (["TEAM_B.zip", "x/y.zip"], {"Team B": 1, "x": 1}),
        (["Team B/__MACOSX/._a.keras", "Team B/.DS_Store", "Team B/a.keras"], {"Team B": 1}),
        (["学籍番号123.zip"], {"c": 1}),
    ],
)  # fmt: skip
def test_downloads_are_understood_as_they_come(tmp_path, names, expected):
    (tmp_path / "r.csv").write_bytes("チーム,メンバー\nチーム青,\nTeam B,\nc,学籍番号123\n佐藤 花子,\n".encode("cp932"))
    roster = read_roster(tmp_path / "r.csv")
    assert [team.name for team in roster.teams] == CLASS
    found = find_submissions(find_sources([File(name, tmp_path / "r.csv") for name in names], roster, "class"), roster)
    assert {s.team: len(s.files) for s in found if s.parts} == expected
    assert [s.team for s in found][:4] == CLASS  # every team has a row, even if it sent nothing
    assert all(s.problem.reason == "nothing" for s in found if s.team not in expected)
    assert [s.is_expected for s in found] == [s.team in CLASS for s in found]


def test_two_submissions_of_one_team_are_refused(tmp_path):
    found = find_submissions(find_sources([File("a.zip", tmp_path), File("a.keras", tmp_path)], None), None)
    assert [s.problem.reason for s in found] == ["two_submissions"]


# --- scores


def test_ties_are_mcnemars_and_groups_have_a_first():
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 2000)

    def answers(accuracy: float, seed: int) -> np.ndarray:
        wrong = np.random.default_rng(seed).random(2000) >= accuracy
        return np.where(wrong, (labels + 1) % 10, labels)

    one, other = answers(0.92, 1), answers(0.9, 2)
    only = [int(((a == labels) & (b != labels)).sum()) for a, b in ((one, other), (other, one))]
    assert judge.are_tied(one, other, labels) == (binomtest(only[0], sum(only)).pvalue >= 0.05)
    assert judge.are_tied(one, one, labels)
    scored = {
        name: judge.Scored({"accuracy": float((given == labels).mean())}, given)
        for name, given in {
            "a": answers(0.97, 3),
            "b": answers(0.965, 4),
            "c": answers(0.8, 5),
            "d": answers(0.3, 6),
        }.items()
    }
    assert judge.group_ties(scored, labels) == {"a": 1, "b": 1, "c": 2, "d": 3}


def test_agreement_on_errors_tells_a_copy_from_a_colleague():
    """Networks of one kind, trained separately on the same images, share under half of their mistakes; a copy shares nearly all."""
    digits = pbl.load_data("digits")
    train, test = digits.images("train"), digits.images("test")
    given = []
    for seed in (0, 1):
        pbl.models.keras.utils.set_random_seed(seed)
        model = pbl.models.build("mlp", digits.input_shape, 10, widths=[32])
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(train.pixels, train.labels, epochs=6, verbose=0)
        given.append(model.predict(test.pixels, verbose=0).argmax(axis=1))
    model.fit(train.pixels[:64], train.labels[:64], epochs=1, verbose=0)
    copy = model.predict(test.pixels, verbose=0).argmax(axis=1)
    apart, of_copy = (judge.agreement_on_errors(given[1], other, test.labels) for other in (given[0], copy))
    told = judge.CHANCE + judge.AGREEMENT * (1 - judge.CHANCE)
    assert apart[0] < 0.7 < told <= of_copy[0] and of_copy[1] >= judge.FEWEST_ERRORS, (apart, of_copy)


@pytest.mark.parametrize(
    ("cause", "seen"),
    [
        ("", lambda x: x),
        ("scaled", lambda x: x / 255),
        ("centred", lambda x: x / 127.5 - 1),
        ("colour_order", lambda x: x[..., ::-1]),
        ("inverted", lambda x: 255 - x),
        ("turned", lambda x: x.swapaxes(1, 2)),
        ("unknown", lambda x: x[:, ::-1] // 3),
    ],
)
def test_other_preprocessing_is_noticed_and_named(cause, seen):
    """A linear classifier whose own pipeline changed the pixels before it saw them."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, 6, 6, 3), np.uint8)
    weights = random.normal(size=(108, 4)) * 0.02

    def predict(pixels: np.ndarray) -> np.ndarray:
        scores = pixels.reshape(len(pixels), -1).astype(float) @ weights
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)

    expected = predict(seen(images.astype(np.float32)) if cause in ("scaled", "centred") else seen(images))
    told = compare(predict, images, expected, predict(images))
    assert told["cause"] == cause and (told["difference"] <= 0.05) == (not cause)
    own = predict(images)
    assert compare(predict, images, own[:, [1, 0, 3, 2]], own)["cause"] == "class_order"
    assert compare(predict, images, np.log(own), own)["cause"] == "logits"


def test_a_rubric_gives_points_and_takes_days_off(tmp_path):
    (tmp_path / "rubric.py").write_text(
        "from pbl.grading import Rubric\n"
        "rubric = Rubric(bands=[(0.9, 80), (0.95, 100)], deadline='2026-12-01T12:00+09:00', late_points_per_day=10)\n"
    )
    from pbl.grading.rubric import load_rubric

    rubric = load_rubric(tmp_path / "rubric.py")
    assert [rubric.give_points({"accuracy": a}) for a in (0.89, 0.9, 0.951)] == [0, 80, 100]
    times = ("2026-12-01T12:00+09:00", "2026-12-01T03:00:01+00:00", "2026-12-03T12:00:01+09:00")
    assert [rubric.days_late(datetime.fromisoformat(time)) for time in times] == [0, 1, 3]
    assert Rubric().give_points({"accuracy": 1}) is None
    assert (
        Rubric(deadline="2026-12-01").days_late(datetime(2026, 12, 1, 23, 59)) == 0
    )  # a date without a time means its end
    assert Rubric(deadline="2026-12-01").days_late(datetime(2026, 12, 2)) == 1
    with pytest.raises(InputError, match=r"deadline 2026-12-01T23:59:59.999999 has none. Add a zone"):
        Rubric(deadline="2026-12-01").days_late(datetime.fromisoformat("2026-12-01T00:00+09:00"))
    for worth in (float("nan"), float("inf"), -3):
        with pytest.raises(
            InputError, match=r"The rubric's function points gave .* for A. Points must be numbers, 0 or more"
        ):
            Rubric(points=lambda row, worth=worth: worth).give_points({"team": "A"})
    total = Rubric(bands=[(0, 1)], marks=["report", "talk"], total={"points": 0.5, "report": 2})
    assert total.add_up("A", 80, {"report": "１０.5", "talk": ""}) == 61
    assert total.add_up("A", 80, {"report": ""}) is None and total.add_up("A", None, {"report": "1"}) is None
    with pytest.raises(InputError, match="the mark report of A is '良', and total needs a number"):
        total.add_up("A", 80, {"report": "良"})
    levels = Rubric(levels=[(0, "未到達"), (0.95, "理想的"), (0.85, "標準的")])
    assert [levels.name_level(a) for a in (0.2, 0.85, 0.95)] == ["未到達", "標準的", "理想的"]
    for text, said in (
        ("rubric = Rubric(band=[])", "Did you mean 'bands'"),
        ("rubric = 3", "does not set `rubric`"),
        ("rubric = Rubric(bands=[(2, 1)])", "less than or equal to 1"),
        ("rubric = Rubric(late_points_per_day=float('nan'))", "late_points_per_day"),
        ("rubric = Rubric(late_points_per_day=float('inf'))", "late_points_per_day"),
        ("rubric = Rubric(bands=[(0.5, float('nan'))])", "bands"),
        ("rubric = Rubric(bands=[(0.5, -1)])", "bands"),
        (
            "rubric = Rubric(bands=[(0.4, 100), (0.55, 80), (0.45, 60)])",
            "bands give 100 points from 0.4 on, but fewer from 0.45 on (60)",
        ),
        ("rubric = Rubric(marks=['Points'])", "the mark 'Points' has the name of another mark, or of a column"),
        ("rubric = Rubric(marks=['talk', 'ｔａｌｋ'])", "the mark 'ｔａｌｋ' has the name of another"),
        ("rubric = Rubric(marks=['recall(3)'])", "the mark 'recall(3)'"),
        (
            "rubric = Rubric(marks=['talk'], total={'report': 1})",
            "total names report. Valid are points and your marks: talk",
        ),
        ("rubric = Rubric(total={'points': 1})", "total counts points, but there are none"),
        (
            "rubric = Rubric(bands=[(0.5, 1)], late_points_per_day=1)",
            "late_points_per_day has no deadline to count from",
        ),
        ("rubric = Rubric(missing_points=-1)", "missing_points"),
        ("rubric = Rubric(marks=['team'])", "has the name of another mark, or of a column of grades.csv"),
    ):
        (tmp_path / "rubric.py").write_text(f"from pbl.grading import Rubric\n{text}\n")
        with pytest.raises(InputError) as error:
            load_rubric(tmp_path / "rubric.py")
        assert said in str(error.value) and "\n" not in str(error.value)


def test_what_a_person_filled_in_is_kept(tmp_path):
    file, names = tmp_path / "marks.csv", ["報告書", "talk"]
    assert update_marks(file, ["A", "=B"], names) == {"A": {"報告書": "", "talk": ""}, "=B": {"報告書": "", "talk": ""}}
    assert [row["team"] for row in as_rows(file)] == ["A", "'=B"]
    # As Excel in Japan saves it, with the instructor's own column and lines.
    file.write_bytes('team,報告書,talk,memo\r\nA,-1,,"two\nlines"\r\n\'=B,良,,\r\n'.encode("cp932"))
    kept = file.read_bytes()
    assert update_marks(file, ["A", "=B"], names)["=B"] == {"報告書": "良", "talk": ""} and file.read_bytes() == kept
    marks = update_marks(file, ["A", "=B", "C"], [*names, "demo"])
    assert marks["A"] == {"報告書": "-1", "talk": "", "demo": ""} and marks["C"]["demo"] == ""
    assert [row["team"] for row in csv.DictReader(file.open(encoding="utf-8-sig", newline=""))] == ["A", "'=B", "C"]
    assert next(csv.DictReader(file.open(encoding="utf-8-sig", newline="")))["memo"] == "two\nlines"
    counted = Rubric(marks=names, total={"報告書": 1}, bands=[(0.5, 1)])
    with pytest.raises(InputError, match="the mark 報告書 of '=B is '良', and total needs a number"):
        check_marks(file, counted)  # before any model is run
    check_marks(file, Rubric(marks=names, total={"talk": 1}))
    check_marks(tmp_path / "none.csv", counted)
    file.write_text("x\n")
    with pytest.raises(InputError, match="not a CSV file with a column team"):
        update_marks(file, ["A"], names)


def test_sentences_statuses_and_cells():
    assert {status for status, _ in REASONS.values()} == set(STATUSES)
    assert clean("a\x1b[31m\u202eb\n\tc" + "x" * 200, 20) == "a [31m b cxxxxxxxxx…"
    assert [for_csv(text) for text in ("=1", "+1", "-1", "@a", "＝1", "a=1", "")] == [
        "'=1",
        "'+1",
        "'-1",
        "'@a",
        "'＝1",
        "a=1",
        "",
    ]
    names = [safe_name(name) for name in ("../../etc", "CON", "a/b", "チームA", "a" * 300, "", "x.", "\x00")]
    assert len(set(names)) == len(names) and "チームA" in names
    assert all(
        0 < len(name) < 60 and not set(name) & set('/\\:*?"<>|\x00') and name.strip(". ") == name for name in names
    )


def test_the_ledger_survives_a_torn_line_and_shows_an_edit(tmp_path):
    file = tmp_path / "ledger.jsonl"
    ledger = Ledger(file)
    for team in "ab":
        ledger.add("start", key=team, team=team)
        ledger.add("end", key=team, team=team, reason="ok", accuracy=0.5)
    ledger.add("start", key="c", team="c")
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"event": "end", "key": "c", "rea')
    again = Ledger(file)
    assert (
        again.is_whole
        and again.outcome("a")["reason"] == "ok"
        and again.outcome("c") is None
        and again.starts("c") == 1
    )
    assert file.read_bytes() == whole
    file.write_bytes(whole.replace(b"0.5", b"0.9", 1))
    assert not Ledger(file).is_whole


def test_what_a_worker_left_is_read_as_a_strangers(tmp_path):
    """Even if nothing has locked the worker down: a pipe blocks nothing, a link leads nowhere, a hard link and a folder are not read."""
    good = json.dumps({"reason": "ok", "fields": {}, "facts": {}})
    secret = tmp_path / "secret"
    secret.write_text(good)
    result = np.eye(3, dtype="<f4").tobytes()

    def leave(make) -> str:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "predictions.f32").write_bytes(result)
        make(folder)
        return judge.read_left(folder, 3, 3).reason

    started = time.monotonic()
    assert leave(lambda folder: (folder / "status.json").write_text(good)) == "ok"
    for make in (
        lambda folder: None,
        lambda folder: os.mkfifo(folder / "status.json"),
        lambda folder: (folder / "status.json").symlink_to(secret),
        lambda folder: (folder / "status.json").hardlink_to(secret),
        lambda folder: (folder / "status.json").mkdir(),
        lambda folder: (folder / "status.json").write_bytes(b"{" * 3000),
        lambda folder: (folder / "status.json").write_text(good.replace("ok", "grader")),
        lambda folder: (folder / "status.json").write_text("[" * 10_000),
        lambda folder: (folder / "status.json").write_text('{"reason": ["ok"], "fields": 3, "facts": null}'),
        lambda folder: ((folder / "status.json").write_text(good), (folder / "predictions.f32").unlink(), os.mkfifo(folder / "predictions.f32")),
    ):  # fmt: skip
        assert leave(make) == "no_result"
    folder = tmp_path / "linked"
    folder.symlink_to(tmp_path / "1")
    assert judge.read_left(folder, 3, 3).reason == "no_result" and time.monotonic() - started < 5


LOCKED = """
import json, sys
from pathlib import Path
from pbl.grading import server
server.import_all()
def loaded():
    return {module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "pbl" and module.__file__}
before = loaded()
from pbl.grading import jobs, orders, sandbox, worker
work = orders.describe_work(["a.zip"], ["0"], [str(number) for number in range(10)], sandbox.Limits(), (8, 8, 1), "crop")
folder = orders.make_folder(Path(sys.argv[2]), work)
(folder / jobs.SUBMISSION / "0").write_bytes(Path(sys.argv[1]).read_bytes())
(folder / jobs.PIXELS).write_bytes(bytes(64))
worker.work(folder)
assert json.loads((folder / jobs.OUTPUT / jobs.STATUS).read_text())["reason"] == "ok"
assert loaded() == before | {orders.__file__}, loaded() - before
print(*before, sep="\\n")
"""


def test_what_runs_inside_the_lock_is_read_in_an_hour(submitted, tmp_path):
    """A locked worker once had 41 files and 9,397 lines of this package. Apart from the builders (one file for each paper, any may be named,
    and half of their lines are docstrings) it must have less than half of either; and import nothing more
    once it is locked."""
    words = [sys.executable, "-c", LOCKED, submitted, tmp_path / "job"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(ROOT))]
    texts = {str(file.relative_to(ROOT / "pbl").with_suffix("")): file.read_text(encoding="utf-8") for file in files}
    assert "grading/worker" in texts and "models/resnet" in texts
    beside = [text for name, text in texts.items() if not name.startswith("models/")]
    assert sum(len(text.splitlines()) for text in beside) < 2700 and len(beside) < 20  # half would be 4,698
    strange = {"config", "runs", "plotting", "data/pipeline", "training/__init__", "evaluation/run", "grading/judge"}
    assert not strange & texts.keys() and not any(
        name.startswith(("data/", "training/", "evaluation/")) for name in texts
    )
    assert not re.search(r"^\s*(import|from) (matplotlib|pandas|sklearn)", "\n".join(texts.values()), re.MULTILINE)


# --- the complete grading


@needs_isolation
def test_a_class_from_submit_to_the_table(hidden, submitted, float_run, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    shutil.copyfile(submitted, tmp_path / "in" / "チームA_12_assignsubmission_file_submission.zip")
    status, out, _ = command("submit", float_run.path, "--team", "B", "--keras", "--json")
    assert status == 0 and json.loads(out)["status"] == "ok"
    shutil.move("B.zip", tmp_path / "in" / "B.zip")
    status, out, _ = command("submit", float_run.path, "--team", "C", "--predictions", hidden / "images")
    assert status == 0 and "checked in the same way as by the grader" in out and "upload the file" in out
    shutil.move("C.zip", tmp_path / "in" / "C.zip")
    (tmp_path / "teams.csv").write_bytes("班,提出日時\nチームA,2026-12-02\nB,2026-11-30\nC,\n誰も,\n".encode("cp932"))
    (tmp_path / "rubric.py").write_text(
        "from pbl.grading import Rubric\n"
        "rubric = Rubric(bands=[(0.5, 60)], deadline='2026-12-01', late_points_per_day=5, ceiling=0.5, marks=['talk'],"
        " levels=[(0.5, '標準的')], total={'points': 1, 'talk': 2}, missing_points=0)\n"
    )
    words = ["grade", "in", "--data", hidden, "--roster", "teams.csv", "--rubric", "rubric.py"]
    (tmp_path / "grades").mkdir()
    (tmp_path / "grades" / "marks.csv").write_text(
        "チーム,ｔａｌｋ\nチームＡ,10\n誰も,3\n知らない班,5\n", encoding="utf-8-sig"
    )
    status, out, err = command(*words)
    assert status == 0 and "3/3" in err and "grades/grades.csv" in out, (out, err)
    assert "the mark talk 5 belongs to no team: there is no team '知らない班'" in err
    table = pd.read_csv("grades/grades.csv", encoding="utf-8-sig")
    assert table["team"].tolist() == ["チームA", "B", "C", "誰も"]
    assert table["status"].tolist() == ["ok", "ok", "ok", "missing"]
    assert table["isolation"].tolist()[:3] == ["full"] * 3
    assert table["accuracy"].nunique() == 1 and table["accuracy"][0] > 0.5 and np.isnan(table["accuracy"][3])
    assert table["points"].tolist() == [60] * 3 + [0] and table["final_points"].tolist() == [55, 60, 60, 0]
    assert table["total"].tolist()[0] == 75 and np.isnan(table["total"][1]) and table["total"][3] == 6
    assert "No total yet for 2 teams, since some marks are missing: B, C. Fill them in: grades/marks.csv" in " ".join(
        out.split()
    )
    assert table["flags"][0].split() == ["late", "above_ceiling", "duplicate_of:B", "duplicate_of:C"]
    # The same as the package's own evaluation of that run on those images.
    labels = open_labels(open_hidden(hidden))
    expected = pbl.predict(float_run, [hidden / "images"])
    right = expected["class"].to_numpy() == np.array([str(c) for c in range(10)])[labels.classes]
    assert table["accuracy"][0] == pytest.approx(right.mean(), abs=1e-6)
    feedback = Path("grades/teams/チームA/feedback.md").read_text(encoding="utf-8")
    assert (
        "Accuracy" in feedback
        and "5 for 1 day late" in feedback
        and str(hidden) not in feedback
        and "duplicate" not in feedback
    )
    assert "Level: 標準的" in feedback and "talk: 10" in feedback and "Final grade: 75" in feedback
    assert "Nothing was handed in" in Path("grades/teams/誰も/feedback.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in Path("grades/grades.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (
        rows[0]["facts"]["model"] == "mlp"
        and rows[1]["facts"]["kind"] == "keras"
        and rows[2]["facts"]["kind"] == "predictions"
    )
    summary = Path("grades/summary.html").read_text(encoding="utf-8")
    assert "標準的" in summary and '<th scope="col">talk</th>' in summary and "<td>75</td>" in summary
    assert (
        "seccomp" in summary
        and "ledger is complete" in summary
        and "data:image/png" in summary
        and "http" not in summary
        and "final points" in summary
        and "final points" in out
    )

    # A wrong roster leaves no page among those that are handed out.
    Path("grades/teams/Wrong_name").mkdir()
    Path("grades/teams/Wrong_name/feedback.md").write_text("missing")
    # Again: nothing is run. Other points: nothing is run either. One changed: only that one is run.
    first = Path("grades/grades.csv").read_bytes()
    started = time.monotonic()
    status, _, err = command(*words)
    assert (
        status == 0
        and "ok" not in err
        and Path("grades/grades.csv").read_bytes() == first
        and time.monotonic() - started < 30
        and "no longer graded (Wrong_name)" in err
    )
    assert (
        not Path("grades/teams/Wrong_name").exists() and Path("grades/teams_of_before/Wrong_name/feedback.md").exists()
    )
    shutil.copyfile("in/B.zip", "in/誰も.zip")
    status, _, err = command(*words, "--require", "accuracy>=0.999")
    assert status == 1 and "1/1 誰も: ok" in err
    status, out, err = command(*words, "--again", "D")
    assert status == 2 and "--again D: no such team" in err

    # A cached score edited by hand: reported and computed again, or, if nothing is run, a fault of the grader and status 1.
    results = sorted(Path("grades/work/results").iterdir())
    edited = next(file for file in results if file.stem == rows[0]["key"])
    whole = edited.read_bytes()
    edited.write_bytes(bytes(len(whole)))
    status, out, err = command("grade", "grades", "--data", hidden, "--score-only", "--roster", "teams.csv")
    assert status == 1 and "cached predictions were changed" in out and "--again チームA" in out
    status, _, err = command(*words)
    assert (
        status == 0
        and "cached predictions were changed or lost, so it is graded again" in err
        and "1/1 チームA: ok" in err
    )
    assert edited.read_bytes() == whole
    # A line removed from the end of the ledger is reported, and the exit status says so.
    ledger = Path("grades/work/ledger.jsonl")
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]))
    status, _, err = command("grade", "grades", "--data", hidden, "--score-only", "--roster", "teams.csv")
    assert status == 1 and "lines were edited or lost" in err
    ledger.write_bytes(b"".join(lines))

    # Halves, and a leaderboard that shows coarse scores, at most as many as there are tries.
    assert command(*words, "--half", "private")[0] == 0
    assert pd.read_csv("grades/grades.csv")["images"].dropna().unique().tolist() == [int((~labels.is_public).sum())]
    assert command(*words, "--half", "public", "--tries", "1")[0] == 0
    board = pd.read_csv("grades/leaderboard.csv", dtype=str)
    assert set(board["team"]) == {"チームA", "B", "C", "誰も"} and all(len(score) == 4 for score in board["best_score"])
    feedback = Path("grades/teams/B/feedback.md").read_text()
    assert "at least 0." in feedback and "Accuracy" not in feedback and "left: 0" in feedback
    shutil.copyfile(submitted, "in/B.zip")
    assert command(*words, "--half", "public", "--tries", "1")[0] == 0
    assert "No more scores are shown" in Path("grades/teams/B/feedback.md").read_text()


@pytest.mark.nightly
@needs_isolation
def test_two_halves_on_two_machines(hidden, submitted, tmp_path):
    """The machine that runs models has no labels; the one that scores runs nothing; together they are one grading."""
    (tmp_path / "in").mkdir()
    shutil.copyfile(submitted, tmp_path / "in" / "a.zip")
    shutil.copytree(hidden, tmp_path / "here", ignore=shutil.ignore_patterns("labels"))
    with pytest.raises(InputError, match=r"labels .* are not here"):
        grade(tmp_path / "in", tmp_path / "here", out=tmp_path / "out")
    rows = grade(tmp_path / "in", tmp_path / "here", out=tmp_path / "out", phase="predict", limits=Limits(seconds=60))
    assert [row["status"] for row in rows] == ["ok"] and not (tmp_path / "out" / "grades.csv").exists()
    shutil.copytree(tmp_path / "out", tmp_path / "there")
    program = (
        "import sys; from pbl.grading import grade; rows = grade(sys.argv[1], sys.argv[2], phase='score');"
        "assert rows[0]['accuracy'] > .5, rows; print(sorted({'tensorflow', 'keras', 'h5py', 'pbl.grading.archives', 'pbl.grading.weights',"
        " 'pbl.grading.architecture', 'pbl.grading.worker', 'pickle5'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", program, tmp_path / "there", hidden]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path
    )
    assert done.returncode == 0 and done.stdout.strip() == "[]", (done.stdout, done.stderr)
    both = grade(tmp_path / "in", hidden, out=tmp_path / "both", limits=Limits(seconds=60), jobs=2)
    assert (tmp_path / "there" / "grades.csv").read_bytes() == (tmp_path / "both" / "grades.csv").read_bytes()
    assert both[0]["accuracy"] > 0.5
    with pytest.raises(InputError, match="another hidden set"):
        other = make_holdout("digits", out=tmp_path / "other", seed=6).path
        grade(tmp_path / "there", other, phase="score")


@pytest.mark.nightly
@needs_isolation
def test_a_killed_grader_goes_on_and_a_second_one_is_kept_out(hidden, submitted, trained_run, tmp_path):
    """Killed with SIGKILL three times in the middle of the class: the same table as without interruption, and no process left."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(10):
        shutil.copyfile(submitted, folder / f"{number}.zip")
    (folder / "broken.keras").write_bytes(b"PK")
    words = [sys.executable, "-m", "pbl", "grade", "in", "--data", str(hidden), "--out"]
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}  # fmt: skip
    ledger = tmp_path / "killed" / "work" / "ledger.jsonl"
    # Each time another submission is running: the same one twice would be taken for the cause.
    for wanted in (1, 3, 5):
        process = subprocess.Popen([*words, "killed"], **options)
        while process.poll() is None:
            done = ledger.read_text().count('"event": "end"') if ledger.exists() else 0
            if done >= wanted:
                process.send_signal(signal.SIGSTOP)  # it stays running as long as the second one needs
                second = subprocess.run([*words, "killed"], **options)
                assert second.returncode == 2 and "Another grader is working" in second.stderr
                process.kill()
                process.wait()
            time.sleep(0.01)
    assert subprocess.run([*words, "killed"], **options).returncode == 0
    assert subprocess.run([*words, "whole"], **options).returncode == 0
    assert (tmp_path / "killed" / "grades.csv").read_bytes() == (tmp_path / "whole" / "grades.csv").read_bytes()
    scratch = Path((tmp_path / "killed" / "work" / "scratch.txt").read_text())
    assert not scratch.exists()
    left = [
        entry
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and str(scratch).encode() in _command_line(entry)
    ]
    assert not left


def _command_line(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
    except OSError:
        return b""


WITHOUT = """
import ctypes, runpy, struct, sys
# A kernel without {name}: its calls are not there.
libc = ctypes.CDLL(None)
def step(code, k, yes=0, no=0): return struct.pack("=HBBI", code, yes, no, k)
program = step(0x20, 0) + b"".join(step(0x15, n, 0, 1) + step(0x06, 0x00050000 | 38) for n in {numbers}) + step(0x06, 0x7FFF0000)
code = ctypes.create_string_buffer(program)
header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0
sys.argv[0] = "pbl"
runpy.run_module("pbl", run_name="__main__")
"""


@pytest.mark.nightly
@needs_isolation
def test_a_machine_without_landlock_is_refused_unless_the_instructor_says_otherwise(hidden, submitted, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copyfile(submitted, tmp_path / "in" / "a.zip")
    (tmp_path / "without.py").write_text(WITHOUT.format(name="Landlock", numbers=(444, 445, 446)))
    words = [sys.executable, "without.py", "grade", "in", "--data", hidden]
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    done = subprocess.run(words, **options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout, done.stderr
    assert "cannot isolate a submission: landlock" in done.stderr and "--require-isolation limits" in done.stderr
    done = subprocess.run([*words, "--require-isolation", "limits"], **options)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "grades" / "grades.jsonl").read_text())
    assert (
        row["status"] == "ok"
        and row["isolation"] == "limits"
        and "landlock" not in row["layers"]
        and "seccomp" in row["layers"]
    )
    assert "not in force: landlock" in (tmp_path / "grades" / "summary.html").read_text()


@needs_isolation
def test_the_known_good_submission_stops_a_machine_that_is_not_good(hidden, submitted, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copyfile(submitted, tmp_path / "in" / "a.zip")
    with pytest.raises(InputError) as error:
        grade(tmp_path / "in", hidden, out=tmp_path / "out", limits=Limits(memory=8))
    assert "own known-good submission was not graded (out_of_memory" in str(error.value)
    assert not (tmp_path / "out" / "grades.csv").exists()
    ledger = tmp_path / "out" / "work" / "ledger.jsonl"
    assert not ledger.exists() or "start" not in ledger.read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("grade in", "Missing option '--data'"),
        ("grade in --data in", "in is not a hidden set: it has no hidden.json"),
        ("grade HIDDEN --data in", "is a hidden set, and in is none. The submissions come first"),
        ("grade HIDDEN --data HIDDEN", "belongs to the hidden set, and is no folder of submissions"),
        ("grade HIDDEN/images --data HIDDEN", "belongs to the hidden set, and is no folder of submissions"),
        ("grade in --data HIDDEN --out HIDDEN", "is the hidden set. Give another folder"),
        ("grade in --data HIDDEN --export moodle --out grades", "--export lacks a value: --out is the next option"),
        ("grade in --data HIDDEN --export moodle", "requires 2 arguments. See: python -m pbl grade --help"),
        ("grade in --data HIDDEN --data in", "--data is given 2 times. Give it once"),
        ("grade absent --data HIDDEN", "No folder or file absent"),
        ("grade in --data HIDDEN --roster absent.csv", "The roster absent.csv cannot be read"),
        ("grade in --data HIDDEN --rubric absent.py", "No rubric absent.py"),
        ("grade in --data HIDDEN --labels absent.csv", "labels absent.csv are not here"),
        ("grade in --data HIDDEN --score-only", "in contains no predictions"),
        ("grade in --data HIDDEN --score-only --predict-only", "Give one of --predict-only and --score-only"),
        ("grade in --data HIDDEN --tries 3", "--tries is for a leaderboard"),
        ("grade in --data HIDDEN --require recall>1", "valid are accuracy"),
        ("grade in --data HIDDEN", "in contains no submission"),
        ("grade came --data HIDDEN --roster teams.csv", "team on the roster. Its teams: B, C. Submissions: A. Give"),
        ("submit absent --team A", "No run absent"),
        ("submit RUN", "Missing option '--team'"),
        ("submit RUN --team A --out a.tar", "ends in .zip"),
        ("submit RUN --team A --out absent/a.zip", "The folder absent does not exist"),
        ("submit RUN --team A --keras --predictions in", "Give one of --keras and --predictions"),
    ],
)
def test_wrong_input_gets_one_line(command, hidden, trained_run, tmp_path, monkeypatch, line, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "came").mkdir()
    (tmp_path / "came" / "A.csv").touch()
    (tmp_path / "teams.csv").write_text("team\nB\nC\n")
    places = {"HIDDEN": hidden, "HIDDEN/images": hidden / "images", "RUN": trained_run.path}
    words = [places.get(word, word) for word in line.split()]
    status, out, err = command(*words)
    assert status == 2 and err.count("\n") == 1 and said in err and not out, (status, out, err)


def test_what_would_not_be_graded_is_not_written(trained_run, tmp_path, monkeypatch):
    """A model whose outputs are not probabilities; and a user's own builder, which the instructor must list."""
    monkeypatch.chdir(tmp_path)
    experiment = (
        "from pbl import Config\nfrom pbl.models import MODELS, mlp\nimport keras\n"
        "def logits(input_shape, num_classes):\n"
        "    model = mlp(input_shape, num_classes, widths=[8])\n"
        "    return keras.Model(model.inputs, keras.layers.Rescaling(2.0)(model.outputs[0])) if {broken} else model\n"
        "MODELS['logits'] = logits\nconfig = Config(model='logits', epochs=1, experiment='own')\n"
    )
    (tmp_path / "own.py").write_text(experiment.format(broken=False))
    run = pbl.train(pbl.load_experiment("own.py"), folder=tmp_path / "runs")
    told = submit(run, "A")
    assert told.status == "refused" and "on the instructor's list" in told.message and told.file.is_file()
    assert "needs no permission: hand it in with --keras" in told.remarks[0]
    whole = submit(run, "C", as_keras=True)
    assert whole.status == "ok" and not any("--keras" in remark for remark in whole.remarks)
    with pytest.raises(InputError, match=r"would not grade this submission \(incompatible\)"):
        (run.path / "experiment.py").write_text(experiment.format(broken=True))
        pbl.trust_run(run.path)
        submit(run, "B", as_keras=True)
    assert not (tmp_path / "B.zip").exists()


def test_python_writes_a_submission_of_a_notebooks_model(tmp_path):
    """Any Keras model of built-in layers, without a run."""
    import keras

    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    file = write_submission(tmp_path / "mine.zip", "mine", ["a", "b", "c"], model=model)
    from pbl.grading.submission import check_submission

    told = check_submission(file, ["c", "a", "b"], images=np.zeros((4, 8, 8, 1), np.uint8))
    assert told.reason == "ok" and told.result.shape == (4, 3) and told.facts["kind"] == "keras", told
