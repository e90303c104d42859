"""Hidden sets, submissions and the grading of a class in anomaly detection: scores of images, their order and their alarms."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

import pbl
from pbl.errors import InputError
from pbl.grading import Rubric, grade
from pbl.grading.anomalies import are_areas_tied, find_anomaly_flags, judge_promise, score_anomalies
from pbl.grading.hidden import open_hidden, open_labels
from pbl.grading.holdout import make_holdout
from pbl.grading.predictions import read_scores
from pbl.grading.references import make_references
from pbl.grading.refusals import Refusal
from pbl.grading.sandbox import FULL, find_layers
from pbl.grading.submission import submit

IDS = ["a1c", "b2c", "c3c", "d4c"]
needs_isolation = pytest.mark.skipif(
    any(find_layers()[layer] for layer in FULL), reason="this machine's kernel has no Landlock or no seccomp filters"
)


def write_table(scores: np.ndarray, alarm: np.ndarray, ids: list[str]) -> bytes:
    lines = [
        f"{name},{score!r},{'yes' if called else 'no'}"
        for name, score, called in zip(ids, scores.tolist(), alarm, strict=True)
    ]
    return "\n".join(["id,score,alarm", *lines]).encode()


# --- The submission


@pytest.mark.parametrize("images", [7, 400, 30_000])
@pytest.mark.parametrize("decimals", [1, 16])
def test_what_is_read_keeps_order_ties_and_alarms(images, decimals):
    random = np.random.default_rng(images)
    scores = random.normal(size=images).round(decimals) * 1e-9
    alarm, labels = scores > np.quantile(scores, 0.8), np.arange(images) % 2
    result, _ = read_scores(
        write_table(scores, alarm, [f"a{n}c" for n in range(images)]), [f"a{n}c" for n in range(images)]
    )
    assert ((result[:, 1] > 0.5) == alarm).all()
    assert (result.sum(axis=1, dtype=np.float64) == 1).all() and result.min() > 0
    order = np.argsort(scores, kind="stable")
    assert (np.sign(np.diff(result[order, 1])) == np.sign(np.diff(scores[order]))).all()
    scored = score_anomalies(result, labels, 0.05)
    assert scored.metrics["roc_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert scored.metrics["found"] == alarm[labels == 1].mean()
    assert scored.metrics["false_alarms"] == alarm[labels == 0].mean()


@pytest.mark.parametrize(
    "text",
    [
        "id,score,alarm\nd4c,4,yes\na1c,-1e3,no\nc3c,2.5,yes\nb2c,2,no\n",
        "id;score;alarm\nimages/d4c.png;4;TRUE\na1c;-1000;FALSE\nc3c;2,5;TRUE\nb2c;2;FALSE\n",
        "ID\tScore\tAlarm\nd4c\t4\t１\na1c\t-1000\t0\nc3c\t2.5\t1.0\nb2c\t2\t0\n",
    ],
)
def test_tables_with_one_reading_are_read(text):
    result, told = read_scores(text.encode("utf-16"), IDS)
    assert result[:, 1].argsort().tolist() == [0, 1, 2, 3] and (result[:, 1] > 0.5).tolist() == [False, False, True, True]  # fmt: skip
    assert told == {"has_probabilities": True}


RIGHT = ["a1c,1,no", "b2c,2,no", "c3c,3,yes", "d4c,4,yes"]
FAULTS = [
    (["id,score", "a1c,1"], "scores_header", {"found": "id,score"}),
    (["id,label,alarm", *RIGHT], "scores_header", {"found": "id,label,alarm"}),
    (["id,score,alarm", *RIGHT[:3], "d4c,4"], "table_cells", {"line": 5, "found": 2, "expected": 3}),
    (["id,score,alarm", *RIGHT[:3], "d4c,high,yes"], "score_number", {"line": 5, "name": "high"}),
    (["id,score,alarm", *RIGHT[:3], "d4c,,yes"], "score_number", {"line": 5, "name": ""}),
    (["id,score,alarm", *RIGHT[:2], "c3c,inf,yes", "d4c,nan,yes"], "predictions_not_finite", {"rows": 2}),
    (
        ["id,score,alarm", *RIGHT[:2], "c3c,3,maybe", "d4c,4,2"],
        "alarm_word",
        {"rows": 2, "line": 4, "name": "maybe"},
    ),
    (
        ["id,score,alarm", "a1c,1,no", "b2c,3.5,no", *RIGHT[2:]],
        "alarm_unlike_score",
        {"line": 3, "other": 4},
    ),
    (  # no threshold separates equal scores
        ["id,score,alarm", "a1c,1,no", "b2c,3,no", *RIGHT[2:]],
        "alarm_unlike_score",
        {"line": 3, "other": 4},
    ),
    (
        ["id,score,alarm", *RIGHT[:3]],
        "ids",
        {"file": "predictions.csv", "found": 3, "expected": 4, "missing": 1, "unknown": 0, "twice": 0, "first": "d4c"},
    ),
]


@pytest.mark.parametrize(("lines", "reason", "fields"), FAULTS)
def test_the_first_row_that_is_wrong_is_shown(lines, reason, fields):
    with pytest.raises(Refusal) as told:
        read_scores("\n".join(lines).encode(), IDS)
    assert (told.value.reason, told.value.fields) == (reason, fields)


# --- The score


@pytest.mark.parametrize(("alarms", "images"), [(5, 100), (0, 60), (12, 100), (4, 20), (0, 200), (30, 2000), (3, 20)])
def test_the_promise_is_held_beside_a_binomial_interval(alarms, images):
    scores = np.zeros((images + 1, 2), np.float32)
    scores[:, 1] = np.arange(images + 1) / (2 * images + 2)
    scores[: alarms + 1, 1] += 0.5  # the anomaly, which comes first, and `alarms` others
    labels = np.zeros(images + 1, int)
    labels[0] = 1
    low, high = binomtest(alarms, images).proportion_ci(method="wilson")
    expected = "too_many" if low > 0.05 else "too_few" if high < 0.05 else "kept"
    metrics = score_anomalies(scores, labels, 0.05).metrics
    assert metrics["false_alarms_interval"] == pytest.approx([low, high]) and metrics["promise"] == expected
    assert [judge_promise(ends, 0.05) for ends in ((0.06, 0.2), (0.05, 0.05), (0, 0.04))] == [
        "too_many",
        "kept",
        "too_few",
    ]


def test_flags_go_by_the_scores_and_not_by_the_alarms():
    labels = (np.arange(300) < 60).astype(int)
    random = np.random.default_rng(0)

    def flags(scores: np.ndarray, alarm: np.ndarray) -> list[str]:
        ids = [f"a{n}c" for n in range(len(scores))]
        return find_anomaly_flags(score_anomalies(read_scores(write_table(scores, alarm, ids), ids)[0], labels, 0.05), 0.999)  # fmt: skip

    good, none = labels + random.normal(size=300), np.zeros(300, bool)
    assert flags(good, none) == []  # an accuracy of .8, from answers that are all one class
    assert flags(np.full(300, 2.5), none) == ["constant_predictions"]
    assert flags(-good, none) == ["below_chance"]
    assert flags(random.normal(size=300), none) == []
    assert flags(labels + 0.0, labels == 1) == ["above_ceiling"]


def test_teams_are_tied_where_their_areas_are():
    labels = (np.arange(600) < 300).astype(int)
    random = np.random.default_rng(1)
    common = 1.5 * labels + random.normal(size=600)

    def scored(scores: np.ndarray):
        ids = [f"a{n}c" for n in range(len(scores))]
        return score_anomalies(read_scores(write_table(scores, scores > 1, ids), ids)[0], labels, 0.05)

    good, like, worse = (scored(common + size * random.normal(size=600)) for size in (0, 0.1, 3))
    assert are_areas_tied(good, like, labels) and are_areas_tied(good, good, labels)
    assert not are_areas_tied(good, worse, labels)


# --- A class


@pytest.fixture(scope="module")
def hidden(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("holdout") / "digits"
    return make_holdout("digits", out=folder, fraction=0.3, seed=5, normal=["8", "3"], false_alarms=0.1).path


@pytest.fixture(scope="module")
def run(hidden, tmp_path_factory) -> pbl.runs.Run:
    config = pbl.Config(
        task="anomaly",
        task_options={"normal": ["8", "3"], "false_alarms": 0.1},
        dataset=str(hidden / "public"),
        model="autoencoder",
        model_options={"code_size": 8, "widths": [64]},
        epochs=8,
        learning_rate=0.003,
        optimizer="adam",
        batch_size=16,
        precision="float32",
    )
    return pbl.train(config, folder=tmp_path_factory.mktemp("runs"))


def test_a_hidden_set_holds_both_kinds_and_tells_neither(hidden):
    told = open_hidden(hidden)
    assert (told.task, told.class_names, told.normal) == ("anomaly", ["normal", "anomaly"], ("8", "3"))
    assert told.false_alarms == 0.1 and told.headline == "roc_auc"
    digits = pbl.load_data("digits")
    known = {content: int(label) for part in ("train", "val", "test") for content, label in zip(digits.images(part).hashes, digits.images(part).labels, strict=True)}  # fmt: skip
    found = [known[pbl.data.hash_image(pbl.data.read_image(file))] for file in told.files]
    labels = open_labels(told)
    assert labels.classes.tolist() == [int(digit not in (3, 8)) for digit in found]
    for half in (labels.is_public, ~labels.is_public):
        assert 0 < (labels.classes[half] == 0).mean() < 0.3 and set(np.array(found)[half]) == set(range(10))
    assert sorted(folder.name for folder in (hidden / "public").iterdir()) == [str(digit) for digit in range(10)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"normal": ["eight"]}, "--normal eight: the data have no such class. Valid: 0, 1"),
        ({"normal": ["8"], "false_alarms": 0.5}, "--false-alarms 0.5: give a share above 0 and below 0.5"),
        ({"false_alarms": 0.1}, "name the normal classes too, --normal CLASS"),
        ({"normal": list("0123456789")}, "All hidden images would be of one kind: normal"),
    ],
)
def test_a_set_that_cannot_be_judged_is_not_made(tmp_path, settings, said):
    with pytest.raises(InputError, match=said):
        make_holdout("digits", out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_hands_in_scores_and_no_model(run, hidden, tmp_path):
    with pytest.raises(InputError, match="has task=anomaly: hand in scores for the hidden images"):
        submit(run, "A", out=tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.nightly
@pytest.mark.slow
@needs_isolation
def test_a_class_is_graded(run, hidden, tmp_path):
    """A run, its scores with the opposite sign, the same score for all images, a model, and a CSV with each fault."""
    told, handed_in = open_hidden(hidden), tmp_path / "in"
    handed_in.mkdir()
    written = submit(run, "run", out=handed_in / "run", predictions=hidden / "images")
    assert written.status == "ok" and not written.remarks
    rows = list(csv.DictReader((handed_in / "run" / "predictions.csv").read_text().splitlines()))
    order = np.argsort([row["id"] for row in rows])
    scores = np.array([float(row["score"]) for row in rows])[order]
    alarm = np.array([row["alarm"] == "yes" for row in rows])[order]
    expected = pbl.predict(run, told.files)  # the same scores and alarms, from the command that a team can use
    assert (scores == expected["score"].to_numpy()).all() and (alarm == expected["alarm"].to_numpy()).all()

    def hand_in(team: str, content: bytes) -> None:
        (handed_in / team).mkdir()
        (handed_in / team / "predictions.csv").write_bytes(content)

    noisy = scores + np.random.default_rng(0).normal(size=len(scores)) * scores.std()
    hand_in("loud", write_table(noisy, noisy > np.quantile(noisy, 0.05), told.ids))
    hand_in("reversed", write_table(-scores, -scores > np.quantile(-scores, 0.99), told.ids))
    hand_in("constant", write_table(np.full(len(scores), 1.5), np.zeros(len(scores), bool), told.ids))
    right, first = write_table(scores, alarm, told.ids).decode(), repr(float(scores[0]))
    faults = {
        "scores_header": right.replace("alarm", "call"),
        "score_number": right.replace(first, "high"),
        "predictions_not_finite": right.replace(first, "nan"),
        "alarm_word": right.replace("yes", "maybe"),
        "alarm_unlike_score": right.replace("yes", "?").replace("no", "yes").replace("?", "no"),
        "ids": right.replace(told.ids[0], told.ids[1]),
    }
    for reason, text in faults.items():
        hand_in(reason, text.encode())
    pbl.grading.write_submission(
        handed_in / "model",
        "model",
        told.class_names,
        model=pbl.models.build("mlp", (8, 8, 1), 2, widths=[8]),
        builder="mlp",
        model_options={"widths": [8]},
    )
    labels = open_labels(told)
    truth, rubric = labels.classes, Rubric(bands=[(0.7, 100), (0.4, 30)], levels=[(0.7, "good")])
    hand_in("perfect", write_table(truth * 0.5, truth == 1, told.ids))
    settings = {"data": hidden, "out": tmp_path / "grades", "rubric": rubric, "language": "ja"}
    graded = {row["team"]: row for row in grade(handed_in, **settings)}

    for team, given in (("run", scores), ("loud", noisy), ("reversed", -scores), ("constant", np.ones(len(scores)))):
        assert graded[team]["roc_auc"] == pytest.approx(roc_auc_score(truth, given), abs=1e-9), team
    own = graded["run"]
    assert own["roc_auc"] > 0.7 and own["roc_auc_interval"][0] < own["roc_auc"] < own["roc_auc_interval"][1]
    assert (own["points"], own["level"], own["tie_group"], own["flags"]) == (100, "good", 2, [])
    assert own["found"] == alarm[truth == 1].mean() and own["false_alarms"] == alarm[truth == 0].mean()
    assert own["promise"] == "kept" and graded["loud"]["promise"] == "too_many" and "accuracy" not in own
    assert graded["reversed"]["flags"] == ["below_chance"] and graded["reversed"]["points"] == 0
    assert graded["constant"]["flags"] == ["constant_predictions"] and graded["constant"]["points"] == 30
    assert graded["perfect"]["flags"] == ["above_ceiling"] and graded["perfect"]["tie_group"] == 1
    for reason in faults:
        assert graded[reason]["reason"] == reason and graded[reason]["roc_auc"] is None
    assert graded["model"]["reason"] == "scores_needed" and len(graded) == 6 + len(faults)
    table = list(csv.DictReader((tmp_path / "grades" / "grades.csv").read_text("utf-8-sig").splitlines()))
    of_run = next(row for row in table if row["team"] == "run")
    assert float(of_run["roc_auc"]) == pytest.approx(own["roc_auc"], abs=1e-6) and of_run["promise"] == "kept"
    assert not {"accuracy", "macro_f1", "log_loss"} & of_run.keys()

    page = (tmp_path / "grades" / "summary.html").read_text()
    assert "守られた" in page and "多すぎる" in page and "AUROC の差" in page and "McNemar" not in page
    told_to = {team: (tmp_path / "grades" / "teams" / team / "feedback.md").read_text() for team in graded}
    assert (
        f"AUROC：{own['roc_auc']:.4f}" in told_to["run"]
        and "約束した割合 0.1 は、この区間に入っています" in told_to["run"]
    )
    assert (
        "約束した割合 0.1 より多くなっています" in told_to["loud"]
        and "スコアが異常画像より大きく" in told_to["reversed"]
    )
    assert "すべての画像のスコアが同じです" in told_to["constant"] and "正解率" not in "".join(told_to.values())
    assert "課題は異常検知です。モデルではなく" in told_to["model"] and "--predictions IMAGES" in told_to["ids"]

    # A leaderboard shows the public half, rounded down, and runs nothing again. If a simple method is as good, there is no flag.
    (hidden / "references").mkdir(exist_ok=True)
    (hidden / "references" / "scores.json").write_text('{"mean_image": 1.0}')
    public = {row["team"]: row for row in grade(tmp_path / "grades", phase="score", half="public", **settings)}
    exact = roc_auc_score(truth[labels.is_public], scores[labels.is_public])
    assert public["run"]["roc_auc"] == pytest.approx(exact, abs=1e-9)
    assert exact - 0.03 < public["run"]["coarse_score"] <= exact
    assert public["perfect"]["roc_auc"] == 1 and public["perfect"]["flags"] == []


@pytest.mark.nightly
@pytest.mark.slow
@needs_isolation
def test_the_references_need_no_network(hidden):
    found = make_references(hidden, hidden / "public", tell=lambda line: None)
    assert found.keys() == {"mean_image", "nearest_neighbours"}
    assert json.loads((hidden / "references" / "scores.json").read_text()) == found
    data, told = pbl.load_data(str(hidden / "public"), normal=["8", "3"]), open_hidden(hidden)
    images = np.stack([pbl.data.read_image(file) for file in told.files]).astype(float)
    distance = np.square(images - data.images("train").pixels.mean(axis=0)).mean(axis=(1, 2, 3))
    assert found["mean_image"] == pytest.approx(roc_auc_score(open_labels(told).classes, distance), abs=0.002)
