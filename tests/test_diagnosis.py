"""Each rule of the diagnosis on signals that are made for it, and each of them on signals that just miss it."""

import ast
from dataclasses import replace
from pathlib import Path
from string import Formatter

import numpy as np
import pytest

from pbl import languages as japanese
from pbl.config import Config
from pbl.diagnosis import RULES, Remedy, Rule, Threshold, advice, make_finding
from pbl.diagnosis.rules import COLOURS, NAMES, THRESHOLDS, diagnose
from pbl.diagnosis.signals import Side, Signals
from pbl.errors import InputError


def side(labels: np.ndarray, losses: list[float], accuracies: list[float], seed: int) -> Side:
    """Images of such mean losses and accuracies, epoch by epoch."""
    random = np.random.default_rng(seed)
    made = Side.of(labels)
    of_image = random.gamma(2, 0.5, max(1, len(labels)))[
        : len(labels)
    ]  # the same images are the hard ones in each epoch
    for loss, accuracy in zip(losses, accuracies, strict=True):
        right = np.argsort(of_image, kind="stable").argsort() < round(accuracy * len(labels))
        wrong_class = np.where(labels == 0, 1, 0)
        rows = np.stack(
            [
                loss * of_image / max(of_image.sum() / max(1, len(labels)), 1e-9),
                np.where(right, labels, wrong_class),
                np.full(len(labels), 0.9),
            ],
            1,
        )
        made.append(rows.astype(np.float32))
    return made


def signals(
    probe=(2.3, 1.0, 0.5, 0.3, 0.2, 0.16, 0.14, 0.13, 0.125, 0.12, 0.12),
    val=(2.3, 1.0, 0.5, 0.35, 0.25, 0.2, 0.18, 0.17, 0.17, 0.17, 0.17),
    accuracy=0.98,
    val_accuracy=0.97,
    images=(400, 400),
    network=None,
    counts=None,
    penalty=0.0,
    keras_loss=0.2,
    labels=None,
    correct=None,
    end=None,
) -> Signals:
    labels = np.arange(10_000) % 10 if labels is None else labels
    n, val_n = images
    accuracies = np.linspace(0.1, accuracy, len(probe)), np.linspace(0.1, val_accuracy, len(val))
    look = {
        "epoch": 0, "kernels": ["a", "b"], "rectified": ["relu"], "gradient_norms": [1.0, 1.0], "weight_norms": [1.0, 1.0],
        "update_ratios": [0.01, 0.01], "dead": [0.0], "loss_in_training": 2.4, "loss_stored": 1.0, "loss_anew": 1.0,
    }  # fmt: skip
    looks = [{**look, **changes} for changes in (network or ({}, {"epoch": len(probe) - 1}))]
    made = Signals(
        {
            "num_classes": len(counts or [100] * 10),
            "train_counts": counts or [100] * 10,
            "val_counts": [40] * 10,
            "steps_per_epoch": 16,
            "model": "x",
        },
        side(labels[:n], list(probe), list(accuracies[0]), 0),
        side(labels[:val_n], list(val)[: len(probe)], list(accuracies[1])[: len(probe)], 1),
        [{"epoch": epoch, "loss": keras_loss, "penalty": penalty} for epoch in range(len(probe))],
        looks,
    )
    if end is not None:
        right, val_right = (round(2000 * share) for share in end)
        made.end = {
            "epoch": len(probe) - 1,
            "probe_images": 2000,
            "probe_correct": right,
            "val_images": 2000,
            "val_correct": val_right,
        }
    if correct is not None:
        made.val.predicted[-1] = np.where(correct(made.val.labels), made.val.labels, (made.val.labels + 1) % 10)
    return made


def doctor(check: str, severity: str = "act", **details) -> dict:
    return {"check": check, "severity": severity, "items": [], "message": "", "details": details}


FLAT = [2.3] * 11
HARD = (2.3, 1.5, 1.2, 1.1, 1.05, 1.0, 1.0, 0.99, 0.99, 0.98, 0.98)
RISING = (2.3, 1.0, 0.5, 0.35, 0.25, 0.2, 0.25, 0.35, 0.45, 0.55, 0.7)
UP_AND_DOWN = (2.3, 1.0, 0.5, *[0.2, 1.2] * 8, 0.6)


@pytest.mark.parametrize(
    ("given", "data", "name", "cause"),
    [
        ({}, [], "healthy", ""),
        ({"probe": [2.3, np.nan, np.nan], "val": [2.3, np.nan, np.nan]}, [], "diverged", ""),
        ({"keras_loss": np.inf}, [], "diverged", ""),
        ({"network": [{"loss_in_training": 12.0}]}, [], "diverged", ""),
        ({"network": [{"loss_in_training": 11.0}]}, [], "healthy", ""),
        # Of two classes and of few images of one of them guessing costs little: that is no start far above it.
        ({"network": [{"loss_in_training": 3.0}], "counts": [1000, 50], "accuracy": 1.0, "val_accuracy": 0.99, "labels": (np.arange(10_000) % 20 == 0).astype(int)}, [], "healthy", ""),
        ({"probe": (2.3, 1.0, 0.5, 1.0, 2.2, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3), "accuracy": 0.1, "val_accuracy": 0.1}, [], "diverged", ""),
        ({"probe": (2.3, 0.5, 0.1, 0.1, 0.1, 0.1, 0.9, 1.0, 1.0, 1.0, 1.0), "val": (2.3, 0.6, 0.5, 0.5, 0.5, 0.5, 1.3, 1.5, 1.5, 1.5, 1.5), "val_accuracy": 0.8}, [], "overfitting", "gap"),  # most is still known
        ({"probe": (2.3, 0.5, 0.1, 0.1, 0.1, 0.1, 1.0, 1.1, 1.1, 1.1, 1.1), "val": (2.3, 0.6, 0.5, 0.5, 0.5, 0.5, 1.3, 1.5, 1.5, 1.5, 1.5), "accuracy": 0.65, "val_accuracy": 0.65}, [], "diverged", ""),
        ({"probe": UP_AND_DOWN, "val": UP_AND_DOWN}, [], "diverged", ""),
        ({"network": [{"loss_stored": 2.1}]}, [], "batch_norm_mismatch", ""),
        ({"network": [{"loss_stored": 1.45}]}, [], "healthy", ""),
        ({"network": [{"loss_stored": 2.1}], "val_accuracy": 0.8}, [], "overfitting", "gap"),  # the averages cost at most 1 point
        ({"network": [{"loss_stored": 2.1}], "accuracy": 0.7, "val_accuracy": 0.5}, [], "batch_norm_mismatch", ""),
        ({"counts": [5] + [100] * 9, "correct": lambda labels: labels != 0}, [], "class_imbalance", ""),
        ({"counts": [11] + [100] * 9, "correct": lambda labels: labels != 0}, [], "overfitting", "gap"),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "network": [{"dead": [0.95]}]}, [], "dead_units", ""),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "network": [{"dead": [0.0]}, {"dead": [1.0]}]}, [], "diverged", ""),
        ({"network": [{"dead": [0.95]}]}, [], "healthy", ""),  # and yet it has learned
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "network": [{"gradient_norms": [1e-6, 1.0]}]}, [], "vanishing_gradients", ""),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.17, "val_accuracy": 0.16, "network": [{"gradient_norms": [1e-3, 1e-3]}]}, [], "vanishing_gradients", ""),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1}, [], "unknown", ""),
        ({"probe": FLAT[:5], "val": FLAT[:5], "accuracy": 0.1, "val_accuracy": 0.1}, [], "underfitting", "train_longer"),  # too early
        ({"probe": FLAT[:1], "val": FLAT[:1], "accuracy": 0.1, "val_accuracy": 0.1}, [], "underfitting", "train_longer"),  # cut off in the first epoch
        ({"probe": (2.3, 0.4, 2.3, 2.3), "val": (2.3, 0.4, 2.3, 2.3), "accuracy": 0.1, "val_accuracy": 0.1}, [], "diverged", ""),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "end": (0.125, 0.12)}, [], "unknown", ""),  # a trace of skill
        ({}, [doctor("altered_copies", "stop", split="val", images=30, examples="a")], "leak_suspected", ""),
        ({}, [doctor("altered_copies", "note", split="val", images=3, examples="a")], "healthy", ""),
        ({}, [doctor("altered_copies", "stop", split="val", images=6, examples="a", p=5e-4)], "healthy", ""),
        ({}, [doctor("altered_copies", "stop", split="test", images=30, examples="a")], "healthy", ""),
        ({"end": (0.98, 0.95)}, [doctor("shift", split="val", auc=0.9, statistic="contrast")], "healthy", ""),  # it costs little
        ({"val_accuracy": 0.8}, [doctor("shift", split="val", auc=0.9, statistic="contrast")], "shift_suspected", ""),
        ({}, [doctor("shift", split="val", auc=0.9, statistic="contrast")], "healthy", ""),  # it does no harm
        ({"val": FLAT, "val_accuracy": 0.1}, [], "label_noise_suspected", ""),
        ({"val": FLAT, "val_accuracy": 0.1, "counts": [16] * 10}, [], "overfitting", "gap"),  # they teach nothing that holds
        ({"val": FLAT, "val_accuracy": 0.1}, [doctor("reference_accuracy", "note", accuracy=0.13, images=300)], "label_noise_suspected", ""),
        ({"val": FLAT, "val_accuracy": 0.1}, [doctor("reference_accuracy", "note", accuracy=0.4, images=300)], "shift_suspected", ""),  # it can be learned
        ({"val": FLAT, "val_accuracy": 0.1}, [doctor("reference_accuracy", "note", accuracy=0.4, images=10**12)], "label_noise_suspected", ""),  # of 400
        ({"val": FLAT, "val_accuracy": 0.1}, [doctor("reference_accuracy", "note", accuracy=0.155, images=400)], "overfitting", "gap"),  # more than guessing, but hardly
        ({"probe": HARD, "val": [0.7 * loss for loss in HARD], "accuracy": 0.6, "val_accuracy": 0.7}, [], "label_noise_suspected", ""),
        ({"probe": HARD, "val": [0.95 * loss for loss in HARD], "accuracy": 0.97}, [], "healthy", ""),
        ({}, [doctor("labels_harder_than_validation", loss=1.9, images=900, val_loss=1.2, val_images=400)], "label_noise_suspected", ""),
        ({}, [doctor("labels_unlike_predictions", "note", images=200, looked_at=900)], "healthy", ""),  # the classifier's own errors
        ({"images": (400, 15)}, [], "too_noisy_to_say", ""),
        ({"images": (400, 0)}, [], "too_noisy_to_say", ""),
        ({"images": (400, 60), "accuracy": 0.75, "val_accuracy": 0.75}, [], "too_noisy_to_say", ""),
        ({"images": (400, 60), "accuracy": 1.0, "val_accuracy": 0.6}, [], "overfitting", "gap"),  # few, and yet plain
        ({"probe": np.linspace(2.3, 1.0, 11), "val": np.linspace(2.3, 1.0, 11), "accuracy": 0.7, "val_accuracy": 0.69}, [], "underfitting", "train_longer"),
        ({"accuracy": 0.9, "val_accuracy": 0.9, "keras_loss": 0.13}, [doctor("reference_accuracy", "note", accuracy=0.97, images=300)], "underfitting", "capacity"),
        ({"accuracy": 0.9, "val_accuracy": 0.9, "penalty": 0.3}, [doctor("reference_accuracy", "note", accuracy=0.97, images=300)], "underfitting", "over_regularised"),
        ({"accuracy": 0.9, "val_accuracy": 0.9}, [doctor("reference_accuracy", "note", accuracy=0.92, images=300)], "healthy", ""),
        ({"accuracy": 1.0, "val_accuracy": 0.84}, [], "overfitting", "gap"),
        ({"accuracy": 1.0, "val_accuracy": 0.92}, [], "overfitting", "gap"),
        ({"accuracy": 1.0, "val_accuracy": 0.94}, [], "healthy", ""),
        ({"end": (0.99, 0.90)}, [], "overfitting", "gap"),  # by the many images in the end
        ({"val_accuracy": 0.8, "end": (0.98, 0.96)}, [], "healthy", ""),
        ({"accuracy": 0.9, "val_accuracy": 0.2}, [], "overfitting", "gap"),  # twice as often right as by chance: not random labels
        ({"val": RISING}, [], "overfitting", "over_confident"),
        ({"probe": (*RISING[:6], 0.2, 0.21, 0.22, 0.23, 0.25), "val": RISING}, [], "overfitting", "over_confident"),  # more than training's
        ({"probe": (*RISING[:6], 0.2, 0.3, 0.3, 0.3, 0.3), "val": (*RISING[:6], 0.2, 0.3, 0.3, 0.3, 0.3)}, [], "healthy", ""),  # as much
        ({"probe": [0.01 * loss for loss in RISING[:6]] + [0.002] * 5, "val": [0.01 * loss for loss in RISING]}, [], "healthy", ""),  # of next to nothing
        ({"images": (400, 10), "accuracy": 1.0, "val_accuracy": 0.2}, [], "too_noisy_to_say", ""),  # not random labels
        ({"probe": FLAT, "val": FLAT, "images": (400, 30), "accuracy": 0.1, "val_accuracy": 0.1}, [], "unknown", ""),
        ({"counts": [100], "labels": np.zeros(1000, int)}, [], "unknown", ""),
        ({"probe": [4.0, *FLAT[1:]], "val": FLAT, "network": [{"loss_in_training": 15.4}], "counts": [10] * 100}, [], "diverged", ""),
        ({"network": [{"dead": [np.nan, 0.97], "rectified": ["a", "b"]}], "probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1}, [], "dead_units", ""),
        ({}, [doctor("copies_across", split="val", images=1, examples="a")], "healthy", ""),  # of 400
        ({"probe": np.linspace(2.9, 2.45, 11), "val": np.linspace(2.9, 2.45, 11), "accuracy": 0.2, "val_accuracy": 0.2}, [], "underfitting", "train_longer"),
    ],
)  # fmt: skip
def test_each_rule(given, data, name, cause):
    headline = diagnose(signals(**given), data).headline
    assert (headline.name, headline.cause) == (name, cause), headline.message
    assert name in NAMES and "{" not in headline.message


def test_all_that_holds_is_listed():
    found = diagnose(
        signals(accuracy=1.0, val_accuracy=0.8, network=[{"loss_stored": 3.0}]),
        [doctor("copies_across", "stop", split="val", images=9, examples="a")],
    ).findings
    assert [finding.name for finding in found] == ["leak_suspected", "overfitting", "batch_norm_mismatch"]


def test_what_a_better_run_has_learned_is_no_random_label():
    lost = signals(val=FLAT, val_accuracy=0.1)
    weak = doctor("reference_accuracy", "note", accuracy=0.13, images=300)
    assert diagnose(lost, [weak]).headline.name == "label_noise_suspected"
    assert diagnose(lost, [weak], best_accuracy=0.6).headline.name == "overfitting"


def test_frames_of_one_film_are_no_independent_images():
    """400 validation images, of which 80 are those of 400 that guessing gets right, tell nothing where they are 8 films."""
    reference = doctor("reference_accuracy", "note", accuracy=0.4, images=300)
    apart, films = signals(val=FLAT, val_accuracy=0.1), signals(val=FLAT, val_accuracy=0.1)
    films.about["val_groups"] = [f"film {i % 8}" for i in range(400)]
    assert diagnose(apart, [reference]).headline.name == "shift_suspected"
    assert "shift_suspected" not in [finding.name for finding in diagnose(films, [reference]).findings]
    of_films = doctor("reference_accuracy", "note", accuracy=0.4, images=300, independent=8)
    assert "shift_suspected" not in [finding.name for finding in diagnose(apart, [of_films]).findings]
    films.about["val_groups"] = [""] * 400  # in no group
    assert diagnose(films, [reference]).headline.name == "shift_suspected"


def test_copies_in_validation_do_not_hide_wrong_labels():
    """Beside copies of training images, half of them with wrong labels, validation looks as hard as training."""
    made = signals(HARD, HARD, accuracy=0.6, val_accuracy=0.6)
    copies = np.arange(400) < 160
    made.val.loss[1:] *= np.where(copies, 1.0, 0.8).astype(np.float16)
    leak = doctor("copies_across", "stop", split="val", images=160, examples="0") | {
        "items": [str(i) for i in range(160)]
    }
    unnamed = [finding.name for finding in diagnose(made, [leak]).findings]
    made.about["val_items"] = [str(i) for i in range(400)]
    named = diagnose(made, [leak]).findings
    assert "label_noise_suspected" not in unnamed
    assert [finding.name for finding in named][:2] == ["leak_suspected", "label_noise_suspected"]
    assert abs(named[1].details["val_loss"] / named[1].details["loss"] - 0.83) < 0.05


def test_the_best_run_is_a_reference_and_thresholds_have_sources():
    weak = signals(accuracy=0.9, val_accuracy=0.9)
    assert diagnose(weak).headline.name == "healthy"
    assert diagnose(weak, best_accuracy=0.96).headline.name == "underfitting"
    assert all(threshold.source for threshold in THRESHOLDS.values()) and len(RULES) == 18


def test_a_rule_and_a_threshold_of_ones_own(monkeypatch):
    """As an experiment file enters them: found after the package's rules and before "healthy", with what may help."""
    for key in RULES:
        monkeypatch.setitem(RULES, key, replace(RULES[key], thresholds=dict(RULES[key].thresholds)))

    def find_slow_epochs(run):
        seconds = 1 / run.signals.epochs[-1].get("images_per_second", np.inf)
        return make_finding("slow", "{seconds:.2f} s an image.", seconds=seconds) if run.over("slow", seconds) else None

    buy = Remedy(
        "buy", "A faster machine, for {settings}.", lambda config, options, side: {"epochs": 2 * config.epochs}
    )
    limit = {"slow": Threshold(0.1, "seconds an image; our laptop")}
    monkeypatch.setitem(RULES, "mine", Rule("mine", "slow", "note", limit, find_slow_epochs, {"": ((buy, None),)}))
    quick, slow, overfitted = signals(), signals(), signals(accuracy=1.0, val_accuracy=0.8)
    slow.epochs[-1]["images_per_second"] = overfitted.epochs[-1]["images_per_second"] = 4.0
    assert diagnose(quick).headline.name == "healthy"
    assert [finding.name for finding in diagnose(overfitted).findings] == ["overfitting", "slow"]
    found = diagnose(slow)
    found = replace(found, experiments=advice.advise(found.headline, Config(epochs=30), {}, side=8))
    shown = ["slow", "0.25 s an image.", "Try 1: A faster machine, for epochs=60. Price: 60 epoch(s)."]
    assert [text for _, text in found.paragraphs("en")][:3] == shown and found.severity == "note"
    in_japanese = found.paragraphs("ja")
    assert in_japanese[:2] == found.paragraphs("en")[:2] and "A faster machine, for epochs=60." in in_japanese[2][1]
    assert diagnose(signals(accuracy=1.0, val_accuracy=0.94)).headline.name == "healthy"
    RULES["overfitting"].thresholds["gap"] = Threshold(0.05, "points by 100; ours")
    assert diagnose(signals(accuracy=1.0, val_accuracy=0.94)).headline.name == "overfitting"


def test_a_rise_is_judged_on_images_that_did_not_choose_its_beginning():
    """Losses that jitter about a plateau: the lowest epoch looks lower than it is, and yet no rise is seen."""
    random, rises = np.random.default_rng(0), 0
    for _ in range(200):
        made = signals()
        made.val.loss[1:] = (
            0.3
            + 0.05 * random.normal(size=(10, 1)) * random.normal(size=(1, 400)) ** 2
            + random.normal(0, 0.2, (10, 400))
        ).clip(0.001)
        rises += diagnose(made).headline.name == "overfitting"
    assert rises <= 14  # 5%, and chance


def test_signals_come_back_from_the_disk_with_the_same_verdict(tmp_path):
    made = signals(accuracy=1.0, val_accuracy=0.8)
    made.save(tmp_path / "signals.npz")
    assert diagnose(Signals.load(tmp_path / "signals.npz")) == diagnose(made)


def sentences_of(file: Path) -> set[str]:
    """What a file can say: the second argument of each finding and each remedy."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return {ast.literal_eval(call.args[1]) for call in calls if call.func.id in ("make_finding", "Remedy")}


def test_all_is_said_in_japanese_with_the_same_numbers():
    said = set().union(*map(sentences_of, Path(advice.__file__).parent.glob("*.py")))
    assert len(said) > 40 and said | {advice.OWN, advice.SOURCE} <= set(japanese.SENTENCES)
    for english, ours in japanese.SENTENCES.items():
        fields = [sorted(field for _, *field, _ in Formatter().parse(text) if field[0]) for text in (english, ours)]
        assert fields[0] == fields[1], english
        assert "精度" not in ours
    assert set(japanese.FINDINGS) == set(NAMES)
    shown = dict(diagnose(signals(accuracy=1.0, val_accuracy=0.84)).paragraphs("ja"))
    assert shown["headline"] == "過学習（訓練と検証の差）"
    assert shown["evidence"].startswith("正解率は訓練 100.0%、検証 84.0%、差は 16.0 ポイント")


def test_a_notebook_shows_it_in_colour_and_without_its_markup():
    found = diagnose(signals(), [doctor("copies_across", "stop", split="val", images=9, examples="<b>.png")])
    assert COLOURS["stop"] in found._repr_html_() and "&lt;b&gt;.png" in found._repr_html_()
    assert str(found).startswith("leak suspected\n  9 validation images")


@pytest.mark.parametrize(
    "end",
    [
        {"epoch": 10},
        {"epoch": 10, "probe_images": 10**15, "probe_correct": 3, "val_images": 400, "val_correct": 4},
        {"epoch": 10, "probe_images": 400, "probe_correct": 401, "val_images": 400, "val_correct": 4},
        {"epoch": 10, "probe_images": 400, "probe_correct": 4, "val_images": 0, "val_correct": 0},
    ],
)
def test_counts_that_cannot_be_are_not_believed(end, tmp_path):
    """A file may come from a stranger; 10**15 images would be counted until the end of days."""
    made = signals()
    made.end = end
    made.save(tmp_path / "signals.npz")
    with pytest.raises(InputError, match="damaged"):
        Signals.load(tmp_path / "signals.npz")
