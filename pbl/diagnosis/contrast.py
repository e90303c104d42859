"""The diagnosis of a contrastive encoder, from its loss and from its features compared with pixels and with the untrained encoder.

As in `pbl.diagnosis.rules` the first finding is the headline, and all findings are listed. A gain is claimed only where the
difference on the same images is above 0 for every control, and significant for all numbers of labels that were tried together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pbl.config import Config
from pbl.diagnosis.evidence import Finding, make_finding
from pbl.diagnosis.planning import LOWER_RATE, Advice, conclude, read_history, read_metrics
from pbl.diagnosis.rules import Diagnosis, Threshold
from pbl.errors import Sentence, join_sentences
from pbl.runs import Run
from pbl.storage.schemas import ContrastMetrics

CONTROL_NAMES = {
    ("pixels", "probe"): "a logistic regression on pixels",
    ("pixels", "nearest"): "the nearest neighbour in pixels",
    ("untrained", "probe"): "a logistic regression on the same untrained network",
    ("pixels", "pairs"): "the cosine of pixels",
    ("untrained", "pairs"): "the cosine of the same untrained network",
}
LIMITS = {
    "spread": Threshold(
        0.15, "spread of the embeddings, 0 to 1; without negatives .00 to .02, untrained .24, healthy from .47 (digits)"
    ),
    "guessing": Threshold(
        0.97, "validation loss divided by ln(2B - 1), the loss of an encoder that tells nothing apart; healthy up to .9"
    ),
    "learned_little": Threshold(
        0.9, "the same; above it, with no gain over the untrained network, nothing was learned"
    ),
    "chance": Threshold(
        0.05, "probability of a gain by chance at any of the numbers of labels (p of each, times how many there are)"
    ),
    "may_gain": Threshold(
        0.03, "upper end of the difference from the best control: below it, a gain worth the training is ruled out"
    ),
    "hot": Threshold(1.0, "temperature; above it, all negatives count about the same"),
}


def _set_temperature(config: Config, options: Mapping[str, Any]) -> dict[str, Any] | None:
    now = options.get("temperature")
    return {"model_options.temperature": 0.2} if isinstance(now, (int, float)) and now != 0.2 else None


NEGATIVES = Advice(
    "negatives",
    "Use the negatives again: without them nothing keeps the embeddings apart.",
    lambda config, options: {"model_options.negatives": True} if options.get("negatives") is False else None,
)
TEMPERATURE = Advice(
    "temperature", "Set the temperature to 0.2: then the most similar other images count most.", _set_temperature
)
LONGER = Advice(
    "longer",
    "Train for three times the epochs: contrastive learning is slow.",
    lambda config, options: {"epochs": 3 * config.epochs},
)
LARGER_BATCH = Advice(
    "larger_batch",
    "Use larger batches: each image is then compared with more others.",
    lambda config, options: {"batch_size": 2 * config.batch_size} if config.batch_size < 512 else None,
)
AUGMENT = Advice(
    "augment",
    "Check the augmentation: two views must differ in everything that does not matter, and in nothing that matters.",
)
MORE_IMAGES = Advice(
    "more_images",
    "Evaluate on more images: a larger validation_fraction, or evaluate --split test in the end.",
    lambda config, options: {"validation_fraction": 0.4} if (config.validation_fraction or 0) < 0.4 else {},
)
SIMPLER = Advice("simpler", "Use the simpler method, or write in the report that it is as good.")
USE = Advice(
    "use",
    "Use the encoder if labels are few: model=encoder_transfer model_options.weights=RUN (frozen), or the encoder's own classifier with initial_weights=RUN.",
)
# By the name of the finding: severity, and what to try.
REMEDIES: dict[str, tuple[str, tuple[Advice, ...]]] = {
    "diverged": ("stop", (LOWER_RATE,)),
    "representation_collapse": ("act", (NEGATIVES, TEMPERATURE, LOWER_RATE, LARGER_BATCH)),
    "learned_nothing": ("act", (TEMPERATURE, LONGER, AUGMENT)),
    "no_gain": ("act", (AUGMENT, LONGER, SIMPLER)),
    "too_noisy_to_say": ("note", (MORE_IMAGES,)),
    "healthy": ("note", (USE,)),
}


def diagnose_features(
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, float]] = (),
    config: Config | None = None,
    run: str = "RUN",
    options: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Diagnoses a contrastive encoder.

    Args:
        metrics: `metrics_val.json` of a run with `task=contrast`.
        history: `loss`, `val_loss` and `val_guessing` of each epoch; empty if it is not known.
        config: The run's settings, for the experiments; without them none are named.
        run: Its folder, for the commands.
        options: The options of its model's builder.

    Returns:
        All findings; the first is the headline.
    """
    found = metrics["contrast"]
    tried = [_find_divergence(history), _find_collapse(found, history)]
    if tried[0] is None:
        tried.append(_judge_gain(found, history, metrics["images"]))
    findings = [finding for finding in tried if finding is not None]
    names = [finding.name for finding in findings]
    if len(names) > 1:  # a faulty encoder is not called healthy as well
        findings = [finding for finding in findings if finding.name not in ("healthy", "too_noisy_to_say")]
    return conclude(findings, REMEDIES, config, run, options)


def diagnose_run(run: Run, has_ended: bool | None = None) -> Diagnosis:
    """Diagnoses a run of `task=contrast`, from its `metrics_val.json` and `history.csv`.

    Raises:
        InputError: A file is missing or damaged.
    """
    metrics, history = read_metrics(run, ContrastMetrics), read_history(run)
    return diagnose_features(metrics, history, run.config, str(run.path), run.environment.get("builder_options"))


def _find_divergence(history: Sequence[Mapping[str, float]]) -> Finding | None:
    bad = [row for row in history if not math.isfinite(row.get("loss", 0.0))]
    if not bad:
        return None
    return make_finding(
        "diverged", "The loss is no longer a number from epoch {epoch} on.", epoch=int(bad[0].get("epoch", 0))
    )


def _read_end(history: Sequence[Mapping[str, float]]) -> tuple[float, float] | None:
    """The last validation loss, and the loss of an encoder that tells nothing apart; None if they are not known."""
    known = [row for row in history if math.isfinite(row.get("val_loss", math.nan)) and row.get("val_guessing", 0) > 0]
    return (known[-1]["val_loss"], known[-1]["val_guessing"]) if known else None


def _find_collapse(found: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    end, temperature = _read_end(history), found["temperature"]
    if found["spread"] < LIMITS["spread"].value:
        return make_finding(
            "representation_collapse",
            "All images are mapped to nearly one point: the spread of the embeddings is {spread:.3f} (1: all directions alike; 0: one point). "
            "Healthy encoders have .5 and more.",
            spread=found["spread"],
        )
    # In supervised learning the loss has another minimum, and for classes that were not in training it is always high.
    if found["supervised"] or end is None or end[0] < LIMITS["guessing"].value * end[1]:
        return None
    details = {"loss": end[0], "guessing": end[1], "temperature": temperature}
    if temperature is not None and temperature > LIMITS["hot"].value:
        return make_finding(
            "representation_collapse",
            "Hardly any image is distinguished from the others: the validation loss is {loss:.3f}, and a network that distinguishes nothing has "
            "ln(2B - 1) = {guessing:.3f}. Division by the temperature of {temperature:g} makes all similarities nearly equal.",
            **details,
        )
    return make_finding(
        "representation_collapse",
        "Hardly any image is distinguished from the others: the validation loss is {loss:.3f}, and a network that distinguishes nothing has ln(2B "
        "- 1) = {guessing:.3f}.",
        **details,
    )


def _judge_gain(found: Mapping[str, Any], history: Sequence[Mapping[str, float]], images: int) -> Finding | None:
    """Whether the features are better than every control: with at least one number of labels, or by pairs."""
    return _judge_pairs(found) if found["identities"] else _judge_probes(found, history, images)


def _choose_best_control(level: Mapping[str, Any]) -> Mapping[str, Any]:
    """The difference from the control that is hardest to beat."""
    return min(level["differences"], key=lambda of: of["low"])


def _is_sure(of: Mapping[str, Any], tries: int) -> bool:
    """Whether the encoder is better, and this is hardly chance."""
    return of["value"] > 0 and of["p"] * tries < LIMITS["chance"].value


def _find_accuracy(level: Mapping[str, Any], name: str, way: str) -> float:
    return next((of["accuracy"] for of in level["arms"] if (of["name"], of["way"]) == (name, way)), math.nan)


def _tell_level(level: Mapping[str, Any]) -> Sentence:
    of = _choose_best_control(level)
    return Sentence(
        "With {labels:,} labels: {accuracy:.1%}, {value:+.1%} compared with {control} (95% interval {low:+.1%} to {high:+.1%}).",
        labels=level["labels"],
        accuracy=_find_accuracy(level, "encoder", "probe"),
        value=of["value"],
        control=Sentence(CONTROL_NAMES[of["name"], of["way"]]),
        low=of["low"],
        high=of["high"],
    )


def _judge_probes(found: Mapping[str, Any], history: Sequence[Mapping[str, float]], images: int) -> Finding | None:
    levels = [level for level in found["levels"] if level["differences"]]
    if not levels:
        return None
    lines = join_sentences([_tell_level(level) for level in levels])
    gains = [level for level in levels if all(_is_sure(of, len(levels)) for of in level["differences"])]
    if gains:
        others = [level for level in levels if level not in gains]
        if others:
            won, lost = (", ".join(f"{level['labels']:,}" for level in some) for some in (gains, others))
            return make_finding(
                "healthy",
                "The features are better than every control with {won} labels; with {others} no gain is certain, and a simpler method may be as "
                "good. {lines}",
                lines=lines,
                won=won,
                others=lost,
            )
        return make_finding(
            "healthy", "The features are better than every control with every number of labels. {lines}", lines=lines
        )
    of_untrained = [of for level in levels for of in level["differences"] if of["name"] == "untrained"]
    end = _read_end(history)
    is_stuck = found["supervised"] or end is None or end[0] > LIMITS["learned_little"].value * end[1]
    if of_untrained and is_stuck and not any(_is_sure(of, len(levels)) for of in of_untrained):
        return make_finding(
            "learned_nothing",
            "The features are not clearly better than the features of the same untrained network with any number of labels. {lines}",
            lines=lines,
        )
    if any(min(of["high"] for of in level["differences"]) > LIMITS["may_gain"].value for level in levels):
        return make_finding(
            "too_noisy_to_say",
            "A gain over the best control is neither certain nor ruled out: {images:,} images are too few to decide. {lines}",
            images=images,
            lines=lines,
        )
    return make_finding(
        "no_gain",
        "No gain here: the features are better than the best control with no number of labels. {lines}",
        lines=lines,
    )


def _judge_pairs(found: Mapping[str, Any]) -> Finding | None:
    pairs, controls = found["pairs"], [of for of in found["pair_controls"] if of["low"] is not None]
    if pairs is None or not controls:
        return None
    worst = max(controls, key=lambda of: of["high"])
    details = {
        "eer": pairs["metrics"]["eer"],
        "classes": pairs["classes"],
        "control": Sentence(CONTROL_NAMES[worst["name"], "pairs"]),
        "theirs": worst["eer"],
        "low": worst["low"],
        "high": worst["high"],
    }
    if worst["high"] < 0:
        return make_finding(
            "healthy",
            "Pairs of the same and of different identities are distinguished better than by every control: equal error rate {eer:.1%} on {classes} "
            "identities that were not trained on; {control} has {theirs:.1%} (difference {low:+.1%} to {high:+.1%}, 95% interval over identities).",
            **details,
        )
    if worst["low"] < -LIMITS["may_gain"].value:
        return make_finding(
            "too_noisy_to_say",
            "A gain over the best control is neither certain nor ruled out: {classes} identities are too few to decide. Equal error rate "
            "{eer:.1%}; {control} has {theirs:.1%} (difference {low:+.1%} to {high:+.1%}, 95% interval over identities).",
            **details,
        )
    return make_finding(
        "no_gain",
        "No gain here: pairs are distinguished no better than by the best control. Equal error rate {eer:.1%} on {classes} identities that were "
        "not trained on; {control} has {theirs:.1%} (difference {low:+.1%} to {high:+.1%}, 95% interval over identities).",
        **details,
    )
