"""What is advised against each finding, at what price, and how the team's own runs change it."""

import shlex

import pytest

from pbl.advice import LARGER, MOST, OWN, REMEDIES, SOURCE, advise
from pbl.config import Config, apply_overrides
from pbl.diagnosis import NAMES, Finding

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
        (finding("overfitting", "gap"), {"train_fraction": 0.25, "augmentation": {"crop": 2}}, {"dropout": 0.5}, [{"train_fraction": 0.5}]),
        (finding("underfitting", "low_rate"), {}, {}, [{"learning_rate": 0.1}, {"epochs": 90}, {}]),
        (finding("underfitting", "capacity"), {}, {}, [{"learning_rate": 0.03}, {"epochs": 90}, {"model": "resnet20"}]),
        (finding("underfitting", "over_regularised"), {"augmentation": {"crop": 2}}, {"dropout": 0.5, "l2": 0.02}, [{"model_options.l2": 0.0, "model_options.dropout": 0.25, "augmentation": {}}, {"epochs": 90}]),
        (finding("diverged", "", kind="collapse"), {}, {}, [{"learning_rate": 0.001}, {}]),
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
        assert (name, "") in REMEDIES or name == "underfitting"
        for cause in [cause for other, cause in REMEDIES if other == name]:
            assert 1 <= len(advise(finding(name, cause), CONFIG, OPTIONS, 32)) <= MOST
    from pbl.models import MODELS

    assert set(LARGER) | set(LARGER.values()) <= set(MODELS)


def test_own_runs_replace_the_table():
    """Dropout gained nothing where the team tried it twice, augmentation 10 points: it comes before dropout."""
    base = [CONFIG.replace(seed=seed) for seed in range(6)]
    dropped = [config.replace(model_options={"dropout": 0.5}, epochs=90) for config in base]
    augmented = [config.replace(augmentation={"crop": 4, "rotation": 10}, epochs=90) for config in base]
    team = [*((config, 0.8) for config in base + dropped), *((config, 0.9) for config in augmented)]
    first, *others = advise(finding("overfitting", "gap"), CONFIG, OPTIONS, 32, team=team)
    assert first.name == "augmentation_and_longer" and first.gain == pytest.approx((2 * 4.2 + 6 * 10) / 8)
    assert first.pairs == 6 and first.sources == (OWN, SOURCE)
    assert "dropout_and_longer" not in [experiment.name for experiment in others]  # 2 * 4.9 / 8: it has fallen behind
