"""The diagnosis of a generator, from its samples compared with real images, and from the course of its training.

As in `pbl.diagnosis.rules` the first finding is the headline, and all findings are listed. No finding rests on the losses alone, nor
on a single number.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pbl.config import Config
from pbl.diagnosis.evidence import Finding, make_finding
from pbl.diagnosis.planning import LOWER_RATE, Advice, conclude, read_course, read_history, read_metrics
from pbl.diagnosis.rules import Diagnosis, Threshold
from pbl.errors import Sentence
from pbl.runs import Run
from pbl.statistics import wilson_interval
from pbl.storage.schemas import GenerationMetrics

BASELINE_NAMES = {"pixel_gaussian": "a normal distribution of pixels", "mean_of_two": "the mean of two training images"}
LIMITS = {
    "fewest": Threshold(
        100, "real images; with fewer, even the distance of real images varies as much as that of bad ones"
    ),
    "copies": Threshold(0.05, "lower end of the share of samples that are copies; no real image is one, by definition"),
    "variety": Threshold(
        0.5,
        "median distance to the nearest other sample divided by that of real images; 50 images repeated have 0, healthy networks from .8",
    ),
    "missing": Threshold(0.15, "share of the images that a class should have; a judge that errs gives it a few"),
    "missing_p": Threshold(1e-6, "probability of so few, binomial"),
    "shares": Threshold(
        0.3,
        "total variation of the estimated classes of samples and real images; a healthy network had .19, other real images to .15",
    ),
    "recall": Threshold(0.5, "share of the recall of other real images; healthy networks had .85 and more"),
    "no_recall": Threshold(0.25, "the same, after one epoch"),
    "rises": Threshold(1.2, "recall at the end divided by that a third of the epochs earlier"),
    "unlike": Threshold(
        0.6, "share of the better baseline's distance; above it, a generator that learned nothing is nearly as good"
    ),
    "sure": Threshold(3.0, "standard errors above the distance of real images"),
    "far": Threshold(1.15, "median distance to the nearest training image divided by that of real images"),
    "very_far": Threshold(1.3, "the same, if the distance of the sets cannot decide"),
    "less_precise": Threshold(0.1, "precision below that of other real images"),
    "more_unsure": Threshold(0.05, "share of samples of which the judge is unsure, above that of real images"),
    "falls": Threshold(0.8, "distance at the end divided by that a third of the epochs earlier"),
    "wins": Threshold(0.9, "mean of D on real images, and 1 minus it on generated ones"),
    "equal": Threshold(
        0.1, "largest difference of D on real and generated images at which it does not tell them apart"
    ),
}


def _option(name: str, value: Callable[[Any], Any]) -> Callable[[Config, Mapping[str, Any]], dict[str, Any] | None]:
    def change(config: Config, options: Mapping[str, Any]) -> dict[str, Any] | None:
        now = options.get(name)
        new = None if now is None else value(now)
        return None if new is None or new == now else {f"model_options.{name}": new}

    return change


MORE = Advice(
    "more_images",
    "Use more images: with so few images the numbers vary too much. A larger validation_fraction helps to evaluate, not to train.",
)
LONGER = Advice(
    "longer",
    "Train for twice the epochs: the distance to real images was still falling.",
    lambda config, options: {"epochs": 2 * config.epochs},
)
WASSERSTEIN = Advice(
    "wasserstein",
    "Use the Wasserstein loss with a gradient penalty: its discriminator gives a direction even if it distinguishes all images.",
    _option("loss", lambda now: "wgan_gp"),
)
NORMALISE = Advice(
    "normalise",
    "Use batch normalization again: without it many generators make one image for all noise.",
    _option("batch_normalization", lambda now: True),
)
FASTER_D = Advice(
    "faster_discriminator",
    "Let the discriminator learn three times as fast.",
    _option("discriminator_rate", lambda now: round(3 * now, 4)),
)
SLOWER_D = Advice(
    "slower_discriminator",
    "Let the discriminator learn at a third of the generator's learning rate.",
    _option("discriminator_rate", lambda now: round(now / 3, 4)),
)
BY_CLASS = Advice(
    "conditional",
    "Give both networks the class: then each class is asked for, and none is missing.",
    _option("conditional", lambda now: True),
)
FEWER_EPOCHS = Advice(
    "fewer_epochs",
    "Train on more images, or for fewer epochs: the discriminator has memorised the training images.",
    lambda config, options: {"epochs": max(1, config.epochs // 2)},
)
WIDER = Advice("wider", "Use wider networks.", _option("width", lambda now: 2 * now))
# By the name of the finding: severity, and what to try.
REMEDIES: dict[str, tuple[str, tuple[Advice, ...]]] = {
    "diverged": ("stop", (LOWER_RATE, NORMALISE)),
    "too_noisy_to_say": ("stop", (MORE,)),
    "memorised": ("stop", (FEWER_EPOCHS,)),
    "mode_collapse": ("act", (NORMALISE, FASTER_D, WASSERSTEIN, BY_CLASS)),
    "discriminator_wins": ("act", (SLOWER_D, WASSERSTEIN)),
    "generator_wins": ("act", (FASTER_D, NORMALISE)),
    "still_learning": ("act", (LONGER,)),
    "unlike_real_images": ("act", (LONGER, WIDER)),
    "healthy": ("note", ()),
}


def diagnose_samples(
    measured: Mapping[str, Any],
    history: Sequence[Mapping[str, float]] = (),
    config: Config | None = None,
    run: str = "RUN",
    options: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Diagnoses a generator.

    Args:
        measured: What `pbl.evaluation.gan_monitor.describe` returns, or `metrics_val.json` of a run with `task=generation`.
        history: `d_real`, `d_generated`, `val_kid` and the losses of each epoch; empty if nothing was trained.
        config: The run's settings, for the experiments; without them none are named.
        run: Its folder, for the commands.
        options: The options of its model's builder.

    Returns:
        All findings; the first is the headline.
    """
    rules = (
        _find_divergence,
        _find_too_few,
        _find_copies,
        _find_collapse,
        _find_missing,
        _find_unlike,
        _find_low_recall,
    )
    findings: list[Finding] = []
    for rule in rules:
        finding = rule(measured, history)
        if finding is not None and finding.name not in [one.name for one in findings]:
            findings.append(finding)
        if finding is not None and finding.name in ("diverged", "too_noisy_to_say"):
            break
    if not findings:
        findings = [_find_health(measured)]
    return conclude(findings, REMEDIES, config, run, options)


def diagnose_run(run: Run, has_ended: bool | None = None) -> Diagnosis:
    """Diagnoses a run of `task=generation`, from its `metrics_val.json` and `history.csv`.

    Raises:
        InputError: A file is missing or damaged.
    """
    metrics, history = read_metrics(run, GenerationMetrics), read_history(run)
    return diagnose_samples(metrics, history, run.config, str(run.path), run.environment.get("builder_options"))


def _find_divergence(measured: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    bad = [row for row in history if not all(math.isfinite(row.get(name, 0.0)) for name in ("d_loss", "g_loss"))]
    if not bad:
        return None
    return make_finding(
        "diverged", "The losses are no longer numbers from epoch {epoch} on.", epoch=int(bad[0].get("epoch", 0))
    )


def _find_too_few(measured: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    if measured["real_images"] >= LIMITS["fewest"].value:
        return None
    return make_finding(
        "too_noisy_to_say",
        "There are {images} real images to compare with, fewer than {fewest:.0f}: even the numbers of real images vary too much to distinguish "
        "good images from bad ones.",
        images=measured["real_images"],
        fewest=LIMITS["fewest"].value,
    )


def _find_copies(measured: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    of = measured["samples"]
    count = round(of["copies"] * of["looked_at"])
    low, high = wilson_interval(count, of["looked_at"])
    if low < max(LIMITS["copies"].value, 3 * of["copies_of_real"]):
        return None
    return make_finding(
        "memorised",
        "Among {looked_at} generated images {count} are copies of training images, perhaps shifted ({low:.0%} to {high:.0%}, 95% interval); "
        "{real:.0%} of other real images are as near. The small distance to real images (KID x 1000: {kid:.1f}) then means nothing: copies have "
        "the best distance of all.",
        count=count,
        looked_at=of["looked_at"],
        low=low,
        high=high,
        real=of["copies_of_real"],
        kid=of["kid"],
    )


def _find_collapse(measured: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    of = measured["samples"]
    if of["variety"] >= LIMITS["variety"].value or of["recall"] >= 0.5 * measured["floor"]["recall"]:
        return None
    return make_finding(
        "mode_collapse",
        "The images are very similar to each other: the distance from one to the nearest other is {variety:.0%} of the distance between real "
        "images, and {recall:.0%} of the real images are within the generated ones (recall; for other real images {floor:.0%}).",
        variety=of["variety"],
        recall=of["recall"],
        floor=measured["floor"]["recall"],
    )


def _list_missing(measured: Mapping[str, Any]) -> list[int]:
    """The numbers of the judge's classes that are missing, or nearly so."""
    from scipy.stats import binom

    of, missing = measured["samples"], []
    if not measured["classes"]:
        return []
    total = sum(of["real_counts"])
    for number, (count, real) in enumerate(zip(of["counts"], of["real_counts"], strict=True)):
        expected = of["samples"] * real / max(total, 1)
        if count < LIMITS["missing"].value * expected:
            p = binom.cdf(count, of["samples"], real / total)
            if p < LIMITS["missing_p"].value:
                missing.append(number)
    return missing


def _is_far_from_real(measured: Mapping[str, Any], limit: float = 1.5) -> bool:
    """Whether the samples are so unlike real images that the judge's classes mean nothing."""
    of, floor = measured["samples"], measured["floor"]
    far = of["nearest"] > limit and of["precision"] < floor["precision"] - LIMITS["less_precise"].value
    return bool(far)


def _find_missing(measured: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    missing = _list_missing(measured)
    of, names, floor = measured["samples"], measured["classes"], measured["floor"]
    total = sum(of["real_counts"])
    # For such images, which class is rare depends on the judge: another judge finds another one.
    if _is_far_from_real(measured, LIMITS["very_far"].value) or not names:
        return None
    if not missing:
        apart, usual = of.get("shares_apart"), floor.get("shares_apart")
        if apart is None or usual is None:  # the run was made before shares were estimated
            return None
        is_strange = of["nearest"] > LIMITS["far"].value or _find_unlike(measured, history) is not None
        if apart < max(LIMITS["shares"].value, 2 * usual) or is_strange:
            return None  # for images unlike real ones the judge's classes say little
        shares, real = of["shares"], floor["shares"]
        most = max(range(len(names)), key=lambda number: shares[number] - real[number])
        return make_finding(
            "mode_collapse",
            "The shares of the classes differ from those in real images: an estimated {apart:.0%} of the images would have to be of another class "
            "({usual:.0%} for other real images). {most} exceeds its share most: {share:.0%} of the generated images, but {real:.0%} of the real "
            "ones. The judge's classes are right for {right:.0%} of real images, and the estimate takes its errors into account.",
            apart=apart,
            usual=usual,
            most=names[most],
            share=shares[most],
            real=real[most],
            right=floor["right"],
        )
    told = ", ".join(
        f"{names[number]} ({of['counts'][number]} / {of['samples'] * of['real_counts'][number] / total:.0f})"
        for number in missing[:10]
    )
    return make_finding(
        "mode_collapse",
        "{n} of {all} classes are missing, or almost missing (found / expected of {samples} images): {told}. The judge's classes are right for "
        "{right:.0%} of real images.",
        n=len(missing),
        all=len(names),
        samples=of["samples"],
        told=told,
        right=measured["floor"]["right"],
    )


def _find_low_recall(measured: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    of, floor = measured["samples"], measured["floor"]
    if of["recall"] >= LIMITS["recall"].value * floor["recall"] or _is_far_from_real(measured) or of["variety"] > 1:
        return None
    name, course = "mode_collapse", ""
    before, last = read_course(history, "val_recall") or ({}, {})
    if (balance := _find_balance(last)) is not None:
        name, course = "generator_wins", Sentence(" {why}", why=balance)
    elif before and last["val_recall"] > LIMITS["rises"].value * before["val_recall"]:
        name = "still_learning"
        course = Sentence(
            " It was still rising: {before:.0%} after epoch {then:.0f}, {now:.0%} after epoch {epoch:.0f}.",
            before=before["val_recall"],
            then=before["epoch"],
            now=last["val_recall"],
            epoch=last["epoch"],
        )
    elif len(history) == 1 and of["recall"] >= LIMITS["no_recall"].value * floor["recall"]:
        return None  # after one epoch it is too early to say
    return make_finding(
        name,
        "Much of what real images show is never generated: {recall:.0%} of the real images are within the generated ones (recall), and {floor:.0%} "
        "for other real images; the distance from one generated image to the nearest other is {variety:.0%} of the distance between real "
        "ones.{course}",
        recall=of["recall"],
        floor=floor["recall"],
        variety=of["variety"],
        course=course,
    )


def _find_unlike(measured: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Finding | None:
    of, floor = measured["samples"], measured["floor"]
    baseline = min(measured["baselines"], key=measured["baselines"].get)
    of_baseline = measured["baselines"][baseline]
    error = math.hypot(of["error"], floor["kid_sd"])
    is_distant = of["kid"] - floor["kid"] > max(
        LIMITS["sure"].value * error, LIMITS["unlike"].value * (of_baseline - floor["kid"])
    )
    signs = (
        of["nearest"] > LIMITS["far"].value,
        of["precision"] < floor["precision"] - LIMITS["less_precise"].value,
        of["unsure"] > floor["unsure"] + LIMITS["more_unsure"].value,
    )
    # With few images the distance cannot distinguish a generator that learned nothing from real images; the pixels can.
    is_blind = LIMITS["sure"].value * error > LIMITS["unlike"].value * (of_baseline - floor["kid"])
    is_strange = is_blind and of["nearest"] > LIMITS["very_far"].value and any(signs[1:])
    if not (is_distant and any(signs)) and not is_strange:
        return None
    name, why = _explain(history)
    details = {
        "nearest": of["nearest"],
        "kid": of["kid"],
        "error": 2 * error,
        "floor": floor["kid"],
        "of_baseline": of_baseline,
        "baseline": Sentence(BASELINE_NAMES[baseline]),
        "unsure": of["unsure"],
        "floor_unsure": floor["unsure"],
        "precision": of["precision"],
        "floor_precision": floor["precision"],
        "why": why,
    }
    if is_distant and any(signs):
        return make_finding(
            name,
            "The generated images are not like real ones: their distance to real images is {kid:.1f} (KID x 1000, plus or minus {error:.1f}), for "
            "other real images it is {floor:.1f}, and for {baseline}, which learns nothing, it is {of_baseline:.1f}; the judge is unsure of "
            "{unsure:.0%} of them, and of {floor_unsure:.0%} of real images; {precision:.0%} are within the real images (precision), and "
            "{floor_precision:.0%} of other real ones. {why}",
            **details,
        )
    return make_finding(
        name,
        "The generated images are not like real ones: their distance to the nearest training image is {nearest:.2f} times the distance of other "
        "real images; the judge is unsure of {unsure:.0%} of them, and of {floor_unsure:.0%} of real images; {precision:.0%} are within the real "
        "images (precision), and {floor_precision:.0%} of other real ones. {why}",
        **details,
    )


def _explain(history: Sequence[Mapping[str, float]]) -> tuple[str, Sentence]:
    """Which of the two networks is the cause, or that the training only needs longer; judged at the end of the training."""
    course = read_course(history, "val_kid")
    if course is None:
        return "unlike_real_images", Sentence("The course of the training is not known.")
    before, last = course
    if (balance := _find_balance(last)) is not None:
        return "generator_wins", balance
    if last["val_kid"] < LIMITS["falls"].value * before["val_kid"]:
        return "still_learning", Sentence(
            "The distance was still falling: {before:.1f} after epoch {then:.0f}, {now:.1f} after epoch {epoch:.0f}.",
            before=before["val_kid"],
            then=before["epoch"],
            now=last["val_kid"],
            epoch=last["epoch"],
        )
    real, generated = last.get("d_real", math.nan), last.get("d_generated", math.nan)
    if 1 >= real > LIMITS["wins"].value and 0 <= generated < 1 - LIMITS["wins"].value:  # probabilities
        return "discriminator_wins", Sentence(
            "The discriminator nearly always distinguishes them: its mean is {real:.2f} on real and {generated:.2f} on generated images, and the "
            "images do not improve.",
            real=real,
            generated=generated,
        )
    return "unlike_real_images", Sentence("The losses do not show the reason.")


def _find_balance(last: Mapping[str, float]) -> Sentence | None:
    """Says that the discriminator tells nothing apart, if so: with bad images the losses are then in balance."""
    real, generated = last.get("d_real", math.nan), last.get("d_generated", math.nan)
    are_probabilities = 0 <= min(real, generated) <= max(real, generated) <= 1
    if not are_probabilities or real - generated >= LIMITS["equal"].value:
        return None
    return Sentence(
        "But the discriminator does not distinguish them: its mean is {real:.2f} on real and {generated:.2f} on generated images, so the generator "
        "learns little from it.",
        real=real,
        generated=generated,
    )


def _find_health(measured: Mapping[str, Any]) -> Finding:
    of, floor = measured["samples"], measured["floor"]
    baseline = min(measured["baselines"], key=measured["baselines"].get)
    return make_finding(
        "healthy",
        "No fault was found: the distance to real images is {kid:.1f} (KID x 1000, plus or minus {error:.1f}), for other real images it is "
        "{floor:.1f}, and for {baseline} it is {of_baseline:.1f}; {recall:.0%} of the real images are within the generated ones (recall; for other "
        "real ones {floor_recall:.0%}), {precision:.0%} of the generated ones are within the real ones (precision; {floor_precision:.0%}); "
        "{copies:.0%} are copies of training images.",
        kid=of["kid"],
        error=2 * math.hypot(of["error"], floor["kid_sd"]),
        floor=floor["kid"],
        baseline=Sentence(BASELINE_NAMES[baseline]),
        of_baseline=measured["baselines"][baseline],
        recall=of["recall"],
        floor_recall=floor["recall"],
        precision=of["precision"],
        floor_precision=floor["precision"],
        copies=of["copies"],
    )
