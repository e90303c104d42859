"""What is advised against each finding, at what cost, and how the team's own runs change it."""

import json
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pbl.config import Config, apply_overrides
from pbl.diagnosis.advice import MEASURED, MOST, OWN, RATES, SOURCE, advise, diagnose_run
from pbl.diagnosis.evidence import Finding
from pbl.diagnosis.remedies import LARGER
from pbl.diagnosis.rules import NAMES, REMEDIES, Diagnosis

CONFIG = Config(model="small_cnn", epochs=30, optimizer="sgd", learning_rate=0.01)
OPTIONS = {"dropout": 0.0, "l2": 0.0}


def finding(name: str, cause: str = "", **details) -> Finding:
    return Finding(name, cause, "", details, "")


@pytest.mark.parametrize(
    ("found", "changes", "options", "settings"),
    [
        (finding("overfitting", "gap"), {}, {}, [{}, {"model_options.dropout": 0.5, "epochs": 90}, {"augmentation.crop": 4, "augmentation.rotation": 10, "epochs": 90, "model_options.dropout": 0.3}]),
        (finding("overfitting", "gap"), {}, {"dropout": 0.5}, [{}, {"augmentation.crop": 4, "augmentation.rotation": 10, "epochs": 90}]),
        (finding("overfitting", "gap"), {"augmentation": {"crop": 2}}, {"dropout": 0.5}, [{}]),
        (finding("overfitting", "gap"), {"train_fraction": 0.25, "augmentation": {"crop": 2}}, {"dropout": 0.5}, [{"train_fraction": 1.0}]),
        (finding("underfitting", "low_rate"), {}, {}, [{"learning_rate": 0.1}, {"epochs": 90}]),
        (finding("underfitting", "capacity"), {}, {}, [{"learning_rate": 0.03}, {"epochs": 90}, {"model": "resnet20"}]),
        (finding("underfitting", "over_regularised"), {"augmentation": {"crop": 2}}, {"dropout": 0.5, "l2": 0.02}, [{"model_options.l2": 0.0, "model_options.dropout": 0.25, "augmentation": {}}, {"epochs": 90}]),
        (finding("diverged", "", kind="collapse"), {}, {}, [{"learning_rate": 0.001}]),
        (finding("class_imbalance"), {}, {}, [{"class_weight": "balanced"}, {}]),
        (finding("class_imbalance"), {"class_weight": "balanced"}, {}, [{}]),
        (finding("too_noisy_to_say"), {}, {}, [{"validation_fraction": 0.3}, {}]),
    ],
)  # fmt: skip
def test_what_is_advised(found, changes, options, settings):
    advised = advise(found, CONFIG.replace(**changes), OPTIONS | options, side=32)
    assert [experiment.settings for experiment in advised] == settings
    for experiment in advised:
        # Pasted, a command changes just that; a regulariser is never added without a longer schedule.
        words = shlex.split(experiment.command)
        assert words[:3] == ["python", "-m", "pbl"] and experiment.message == experiment.template.format(
            **experiment.details
        )
        if experiment.settings:
            changed = apply_overrides(CONFIG.replace(**changes), words[5:])
            assert changed.epochs == experiment.epochs
            more = changed.model_options.get("dropout", 0) > (options.get("dropout") or 0)
            assert changed.epochs > CONFIG.epochs or not (more or (changed.augmentation and not changes))


def test_there_is_advice_against_everything():
    for name in NAMES:
        # That thresholds were changed is a remark on the others, and never the headline.
        assert (name, "") in REMEDIES or name in ("underfitting", "thresholds_changed")
        for cause in [cause for other, cause in REMEDIES if other == name]:
            assert 1 <= len(advise(finding(name, cause), CONFIG, OPTIONS, 32)) <= MOST
    from pbl.models import MODELS

    assert set(LARGER) | set(LARGER.values()) <= set(MODELS)


def test_own_runs_replace_the_table():
    """Dropout removed no errors where the team tried it, augmentation half of them: it comes first."""
    base = [CONFIG.replace(seed=seed) for seed in range(1, 7)]
    dropped = [config.replace(model_options={"dropout": 0.5}, epochs=90) for config in base]
    augmented = [config.replace(augmentation={"crop": 4, "rotation": 10}, epochs=90) for config in base]
    team = [*((config, 0.8) for config in base + dropped), *((config, 0.9) for config in augmented)]
    gap = finding("overfitting", "gap")
    first, *others = advise(gap, CONFIG, OPTIONS, 32, accuracy=0.9, team=team)
    assert first.name == "augmentation_and_longer" and first.pairs == 6 and first.sources == (SOURCE, OWN)
    assert first.gain == pytest.approx(100 * 0.1 * (2 * 0.079 + 6 * 0.5) / 8)
    assert (first.helped, first.tried) == (10 + 6, 11 + 6) and first.highest == pytest.approx(100 * 0.1 * 0.5)
    assert "dropout_and_longer" not in [experiment.name for experiment in others]  # .014 * 2 / 8: it has fallen behind
    # A change that made more errors is not advised, nor anything that the team has tried already.
    worse = [(config, 0.5) for config in dropped]
    names = [one.name for one in advise(gap, CONFIG, OPTIONS, 32, team=[*((c, 0.8) for c in base), *worse])]
    assert "dropout_and_longer" not in names
    tried = [(CONFIG.replace(model_options={"dropout": 0.5}, epochs=90), 0.8)]
    assert "dropout_and_longer" not in [one.name for one in advise(gap, CONFIG, OPTIONS, 32, team=tried)]


def test_no_gain_beyond_what_is_left_and_commands_that_can_be_pasted():
    for accuracy in (0.2, 0.91, 0.999):
        for cause in ("low_rate", "train_longer", "capacity"):
            gains = [one.gain for one in advise(finding("underfitting", cause), CONFIG, OPTIONS, 32, accuracy=accuracy)]
            assert any(gains) and all(0 < gain <= 100 * (1 - accuracy) for gain in gains if gain is not None)
    folder = "/drive/実験 1/e/001"
    for name in NAMES:
        found = finding(name, "capacity" if name == "underfitting" else "")
        for one in advise(found, CONFIG, OPTIONS, 32, run=folder, runs="/my runs"):
            words = shlex.split(one.command)
            assert words[4] == folder if words[4] != "--leave-out" else words[3] == folder
            assert (words[-2:] == ["--runs", "/my runs"]) == (words[3] == "train")
    early = CONFIG.replace(callbacks=["early_stopping"])
    assert "longer" not in [one.name for one in advise(finding("underfitting", "capacity"), early, OPTIONS, 32)]
    assert advise(finding("too_noisy_to_say"), CONFIG, OPTIONS, 32, has_official_validation=True)[0].name == "seeds"


def test_what_is_promised_is_what_was_measured():
    """The table of the advice equals experiments/benchmarks/advice.csv, and an advice that is not in it has no gain."""
    table = pd.read_csv(Path(__file__).resolve().parent.parent / "experiments" / "benchmarks" / "advice.csv")
    table = table[table["after"].notna()]
    shares = ((table["after"] - table["before"]) / (1 - table["before"])).groupby(table["advice"])
    assert {name: tuple(of) for name, of in MEASURED.items()} == {
        name: (*(pytest.approx(of.quantile(q), abs=5e-4) for q in (0, 0.5, 1)), (of > 0).sum(), len(of))
        for name, of in shares
    }
    (rate, longer), two = (
        advise(finding("underfitting", cause), CONFIG, OPTIONS, 32, accuracy=0.5, chance=chance)
        for cause, chance in (("low_rate", 0.4), ("low_rate", 0.6))
    )
    assert (rate.lowest, rate.gain, rate.highest) == pytest.approx((6.05, 33.15, 41.8)) and (
        rate.helped,
        rate.tried,
    ) == (7, 7)
    assert longer.tried == 13 and all(one.gain is None and one.tried == 0 for one in two)  # at chance


def test_nothing_that_hurt_is_advised_again():
    """If a rate three times as large hurt, neither another step of three nor one of ten is advised; epochs are not, if the best epoch is far back."""
    slow, fast = CONFIG.replace(learning_rate=0.01), CONFIG.replace(learning_rate=0.03)

    def names(config, accuracy, team, cause="low_rate", **more):
        found = finding("underfitting", cause)
        return [one.name for one in advise(found, config, OPTIONS, 32, accuracy=accuracy, team=team, **more)]

    for cause, advised in (
        ("low_rate", "rate_times_10"),
        ("train_longer", "rate_times_3"),
        ("capacity", "rate_times_3"),
    ):
        assert advised in names(fast, 0.5, [(slow, 0.505)], cause)  # a difference as between seeds
        assert not set(RATES) & set(names(fast, 0.5, [(slow, 0.63)], cause)) - {"find_rate"}
        assert not set(RATES) & set(names(slow, 0.63, [(CONFIG.replace(learning_rate=0.02), 0.5)], cause)) - {
            "find_rate"
        }
        assert advised in names(
            fast, 0.5, [(slow.replace(batch_size=32), 0.63)], cause
        )  # two settings differ: which one hurt is not known
        assert "longer" in names(slow, 0.5, [], cause, best_epoch=25)
        assert "longer" not in names(slow, 0.5, [], cause, best_epoch=12)
    longer = CONFIG.replace(epochs=90)
    assert "longer" not in names(longer, 0.5, [(CONFIG, 0.6)])


def test_of_a_rate_there_is_one_advice():
    for name, cause in REMEDIES:
        names = [one.name for one in advise(finding(name, cause), CONFIG, OPTIONS, 32)]
        assert sum(one in RATES for one in names) <= 1, (name, cause)


def test_slow_averages_of_batch_normalisation_are_the_first_suspect():
    """If the builder has an option for their momentum, and it is above .9; without batch normalisation the option does nothing."""
    mismatch = finding("batch_norm_mismatch")
    for options, expected in (
        ({"batch_norm": True, "batch_norm_momentum": 0.99}, {"model_options.batch_norm_momentum": 0.9}),
        ({"variant": "b0", "batch_norm_momentum": 0.99}, {"model_options.batch_norm_momentum": 0.9}),
        ({"batch_norm": True, "batch_norm_momentum": 0.9}, None),
        ({"batch_norm": False, "batch_norm_momentum": 0.99}, None),
    ):
        first = advise(mismatch, CONFIG, options, 32)[0]
        assert (first.name == "quicker_averages") == (expected is not None)
        assert expected is None or first.settings == expected


def test_damaged_files_of_others_stand_in_nobodys_way(trained_run, tmp_path, command):
    """Damaged files of the run itself are named in one line."""
    runs = tmp_path / "my runs"
    run = shutil.copytree(trained_run.path, runs / "small" / "001")
    for number, (name, content) in enumerate(
        [("metrics_val.json", "{}"), ("metrics_val.json", '{"accuracy": "x"}'), ("environment.json", "[]"), ("data_check.json", "{}"), ("config.json", "[1]")]
    ):  # fmt: skip
        other = shutil.copytree(trained_run.path, runs / "other" / f"00{number}")
        (other / name).write_text(content)
    status, said, _ = command("diagnose", run)
    assert status == 0 and f"'{run}'" in said and f"--runs '{runs}'" in said
    for name, content in (
        ("data_check.json", "{}"),
        ("data_check.json", '{"findings": [{"check": "shift"}]}'),
        (
            "data_check.json",
            '{"findings": [{"check": "copies_across", "severity": "stop", "items": 3, "details": {}}]}',
        ),
        (
            "data_check.json",
            '{"findings": [{"check": "reference_accuracy", "severity": "note", "items": [], "details": {"accuracy": "x", "images": 9}}]}',
        ),
        (
            "data_check.json",
            '{"findings": [{"check": "labels_harder_than_validation", "severity": "act", "items": [], "details": {"loss": 2}}]}',
        ),
        (
            "data_check.json",
            '{"findings": [{"check": "shift", "severity": "act", "items": [], "details": {"auc": 1%s, "split": "val", "statistic": "x"}}]}'
            % ("0" * 400),
        ),
        ("split.json", "[]"),
    ):
        kept = (run / name).read_text()
        (run / name).write_text(content)
        status, _, said = command("diagnose", run)
        assert status == 2 and said.count("\n") == 1 and str(run) in said, name
        (run / name).write_text(kept)
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({**environment, "status": "interrupted"}))
    status, said, _ = command("diagnose", run)
    assert status == 0 and "has not ended" in said and said.count("Try ") == 1


def test_a_rate_is_not_called_too_high_and_too_low(trained_run, monkeypatch):
    found = (finding("diverged", kind="collapse"), finding("underfitting", "low_rate"), finding("class_imbalance"))
    monkeypatch.setattr("pbl.diagnosis.advice.diagnose", lambda *of: Diagnosis(found))
    assert [one.name for one in diagnose_run(trained_run).findings] == ["diverged", "class_imbalance"]
