"""What a training suffers from, told from its signals: a pure function, NumPy alone.

`diagnose` tries one rule after another, each a function below that gives a finding or None. The first that holds is the
headline; all that hold are listed, since a run may have two faults. A gap is judged with an interval and a rise on images that
did not choose its beginning, never by a bare number; where the images are too few to say, that is said.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, NamedTuple

import numpy as np

from pbl import languages as japanese
from pbl.diagnosis.signals import MOST_COUNTED, Signals
from pbl.languages import CAUSES, FINDINGS, choose_language
from pbl.statistics import binomial_tail, newcombe_interval, wilson_interval

NAMES = (
    "diverged",
    "batch_norm_mismatch",
    "class_imbalance",
    "dead_units",
    "vanishing_gradients",
    "leak_suspected",
    "shift_suspected",
    "label_noise_suspected",
    "too_noisy_to_say",
    "underfitting",
    "overfitting",
    "healthy",
    "unknown",
)


class Threshold(NamedTuple):
    """A number that decides, and what set it."""

    value: float
    source: str


TRIAL = "a trial of 150 runs on digits and MNIST"
THRESHOLDS: dict[str, Threshold] = {
    "initial_loss": Threshold(5.0, "times that of equal probabilities, before training; healthy to 1.9, bad initialisation from 6.2"),
    "initial_least": Threshold(6.0, "nats, where 5 times that is less; ResNet-20 of two classes 3.7"),
    "initial_most": Threshold(12.0, "nats, where 5 times that is more; a loss is measured up to 16.1"),
    "collapse": Threshold(0.3, f"share of the descent that was lost again; {TRIAL}"),
    "collapse_end": Threshold(0.5, "of the loss of guessing, from which on a collapse is the first to be told; two that ended lower knew 83% and 86%"),
    "roughness": Threshold(1.5, "sum of all rises in the second half by the whole descent; strong augmentation to 1.1, small steps on few images to 1.2"),
    "stored_ratio": Threshold(1.5, "loss of the probe with stored by loss with new statistics, at the end; momentum .999 from 1.9"),
    "stored_difference": Threshold(0.1, "nats, of the same two losses; healthy to .001, few steps to .06, momentum .999 from .11"),
    "rare_class": Threshold(0.1, "images of a class by those of the commonest, as the data doctor's"),
    "rare_recall": Threshold(0.2, f"recall of common minus of rare classes, lower bound; {TRIAL}: all 11 found"),
    "dead_share": Threshold(0.9, f"units of a layer that are 0 for all images, before training; {TRIAL}: healthy to .06"),
    "gradient_ratio": Threshold(1e-3, f"first by last kernel, before training; {TRIAL}: .8 to 28, vanishing to 3e-6"),
    "gradient_norm": Threshold(1e-2, "largest of a layer, before training; 16 plain convolutions to 5e-4, else from .05"),
    "vanishing_skill": Threshold(0.1, "as learned_skill, below which gradients that vanished are the news; 16 plain convolutions once .08"),
    "learned_p": Threshold(1e-3, "chance that guessing the commonest class does so well; convention"),
    "learned_skill": Threshold(0.03, "share of what guessing gets wrong; 300 images show no less"),
    "shift_gap": Threshold(0.02, "points by 100, lower bound of the gap; a shift that costs less is no reason to stop"),
    "known_of_val": Threshold(0.2, "skill on validation, upper bound, by that on training images; random labels to .1"),
    "fewest_learned": Threshold(500, "training images; 160 cats and dogs taught nothing that held"),
    "copies": Threshold(0.01, "share of the validation images, as the data doctor's"),
    "copies_p": Threshold(1e-4, "chance of so many look-alikes among training images themselves; 300 digits gave 6e-4 once"),
    "harder_z": Threshold(2.3, "standard errors, largest mean of three epochs; of 406 runs without wrong labels to 1.87, of 32 with 30% wrong 24 from 2.2; the data doctor finds the others"),
    "fewest_validation": Threshold(50, "images; the interval of 90% is then 17 points wide"),
    "widest_gap": Threshold(0.22, f"width of the gap's interval; {TRIAL}"),
    "gap": Threshold(0.07, "points of accuracy by 100; of 700 images healthy ones, whose true gap is below 6, reach 6.7"),
    "rise_z": Threshold(2.0, "standard errors; one-sided 2.5%"),
    "rise": Threshold(0.1, "share of the lowest validation loss (Prechelt 1998: GL 10)"),
    "rise_nats": Threshold(0.02, "of the same; a loss of .001 may double and nothing has happened"),
    "rise_jitter": Threshold(4.0, "times the epochs' own jitter; last minus lowest of a plateau, 6 to 60 epochs: 5 to 8%, simulated"),
    "surely_learned": Threshold(0.95, "of the training images, where no reference is known; convention"),
    "late_share": Threshold(0.14, "share of the descent in the last fifth; healthy to .08, once, augmented, .124; a straight line .2"),
    "late_val_share": Threshold(0.04, "the same of validation, which must improve too; healthy to .03"),
    "few_epochs": Threshold(5, "epochs after which nobody can tell a network's capacity; convention"),
    "update_ratio": Threshold(0.005, "change of a kernel in an epoch by its norm, median: rate too low .0025, others from .011; names a cause"),
    "reference_late": Threshold(0.05, "late share of a network below the reference that still learns; names a cause"),
    "reference": Threshold(0.02, f"points by 100 that an accuracy may lie below the reference, lower bound: of several the luckiest; {TRIAL}"),
    "load": Threshold(1.25, f"Keras's training loss by the probe's; {TRIAL}: names a cause, accuses nobody"),
    "penalty": Threshold(0.2, f"nats that penalties add to the loss; {TRIAL}: names a cause"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that holds of a training.

    Attributes:
        name: One of `NAMES`.
        cause: Of underfitting: "low_rate", "train_longer", "over_regularised", "capacity"; of overfitting: "gap", "stop_earlier",
            "over_confident"; of others "".
        message: What was measured, in a sentence.
        details: The numbers; they fill the fields of `template`.
        template: The sentence with `{name}` fields, so that it can be shown in another language.
    """

    name: str
    cause: str
    message: str
    details: dict[str, Any]
    template: str


@dataclass(frozen=True)
class Diagnosis:
    """All that holds of a training, and what to try next. `print` shows it, a notebook in colours.

    Attributes:
        findings: The first is the headline.
        experiments: At most three `pbl.diagnosis.advice.Experiment`, the most promising first; none where only signals were judged.
    """

    findings: tuple[Finding, ...]
    experiments: tuple[Any, ...] = ()

    @property
    def headline(self) -> Finding:
        return self.findings[0]

    @property
    def severity(self) -> str:
        """ "stop", "act" or "note", of the headline."""
        return SEVERITIES[self.headline.name]

    def paragraphs(self, language: str | None = None) -> list[tuple[str, str]]:
        """The text in parts, each with what it is: "headline", "evidence", "also", "next", "command".

        Args:
            language: "en" or "ja"; by `pbl.languages.choose_language` unless given.
        """
        language = choose_language(language)

        def say(template: str, **details: Any) -> str:
            return japanese.say(template, language, **details)

        def name(finding: Finding) -> str:
            words, cause = finding.name.replace("_", " "), finding.cause.replace("_", " ")
            if language == "ja":
                words, cause = FINDINGS[finding.name], CAUSES.get(finding.cause, "")
            return say("{name} ({cause})", name=words, cause=cause) if cause else words

        parts = [("headline", name(self.headline)), ("evidence", say(self.headline.template, **self.headline.details))]
        for finding in self.findings[1:]:
            message = say(finding.template, **finding.details)
            parts.append(("also", say("Also {name}: {message}", name=name(finding), message=message)))
        for number, experiment in enumerate(self.experiments, 1):
            price = ""
            if experiment.gain is not None:
                measured = ", ".join(say(source, pairs=experiment.pairs) for source in experiment.sources)
                price = say(" About {gain:+.1f} points ({measured}).", gain=experiment.gain, measured=measured)
            if experiment.epochs:
                price += say(" Price: {epochs} epoch(s).", epochs=experiment.epochs)
            message = say(experiment.template, **experiment.details)
            parts.append(("next", say("Try {number}: {message}{price}", number=number, message=message, price=price)))
            parts += [("command", experiment.command)] if experiment.command else []
        return parts

    def __str__(self) -> str:
        indents = {"headline": "", "command": "      "}
        return "\n".join(indents.get(kind, "  ") + text for kind, text in self.paragraphs())

    def _repr_html_(self) -> str:
        styles = {
            "headline": f"font-weight:bold;color:{COLOURS[self.severity]}",
            "command": "font-family:monospace;margin-left:2em",
        }
        rows = [f'<div style="{styles.get(kind, "")}">{escape(text)}</div>' for kind, text in self.paragraphs()]
        return f'<div style="border-left:4px solid {COLOURS[self.severity]};padding-left:1em">{"".join(rows)}</div>'


# "stop": the result is wrong or there is none; "act": it can be better; "note".
SEVERITIES = dict.fromkeys(NAMES, "stop") | {
    "class_imbalance": "act",
    "label_noise_suspected": "act",
    "underfitting": "act",
    "overfitting": "act",
    "too_noisy_to_say": "note",
    "healthy": "note",
}
COLOURS = {"stop": "#D55E00", "act": "#9A6700", "note": "#0072B2"}  # dark enough on white


def _finding(name: str, template: str, cause: str = "", **details: Any) -> Finding:
    # Differences of shares are told in points: "5% more" would mean something else.
    details |= {f"{key}_points": 100 * details[key] for key in ("gap", "low", "high") if key in details}
    return Finding(name, cause, template.format(**details), details, template)


def _over(name: str, value: float) -> bool:
    return bool(value > THRESHOLDS[name].value)


class _Run:
    """The signals, and what several rules need of them."""

    def __init__(self, signals: Signals, data: Iterable[Mapping[str, Any]], best_accuracy: float | None):
        self.signals, self.best_accuracy = signals, best_accuracy
        self.found: list[Finding] = []  # by the rules before
        self.data: dict[str, list[dict]] = {}
        for finding in data:
            self.data.setdefault(finding["check"], []).append(finding)
        self.probe, self.val = signals.probe, signals.val
        self.correct, self.n, self.val_correct, self.val_n = signals.known
        self.loss = self.probe.loss.astype(np.float64).mean(axis=1)
        self.last = len(self.loss) - 1
        counts = np.array(signals.about["train_counts"], float)
        shares = counts[counts > 0] / counts.sum()
        self.guessing, self.majority = float(-(shares * np.log(shares)).sum()), float(shares.max())
        self.accuracy = self.correct / self.n

    @cached_property
    def learned(self) -> bool:
        """Whether the network does better on training images than guessing."""
        # Of thousands of images a trace of skill would be surely one.
        is_sure = (
            self.correct > 0 and binomial_tail(self.correct, self.n, self.majority) < THRESHOLDS["learned_p"].value
        )
        return bool(is_sure and _over("learned_skill", self.skill))

    @property
    def skill(self) -> float:
        """Share of the training images that guessing gets wrong and the network right."""
        return (self.accuracy - self.majority) / (1 - self.majority)

    @cached_property
    def descent(self) -> float:
        """How far the loss has come down from that of guessing; at least a hundredth."""
        return max(self.guessing - float(np.nanmin(self.loss)), 0.01)

    @cached_property
    def is_mismatched(self) -> bool:
        """Whether batch normalisation's stored averages spoil what the network does in inference mode."""
        look = self.signals.network[-1] if self.signals.network else {}
        stored, anew = look.get("loss_stored", np.nan), look.get("loss_anew", np.nan)
        return _over("stored_ratio", stored / max(anew, 1e-12)) and _over("stored_difference", stored - anew)

    @property
    def has_gap(self) -> bool:
        """Whether training images are better known than validation images, by more than is small or chance."""
        gap, low, _ = self.signals.gap
        return bool(gap > THRESHOLDS["gap"].value + 1e-9 and low > 0)

    @cached_property
    def late(self) -> float:
        """Share of the whole descent of the training loss that was made in the last fifth of the epochs."""
        return self._late_share(self.loss)

    def _late_share(self, loss: np.ndarray) -> float:
        if self.last < 2:
            return 0.0
        # Of the three epochs to the last fifth the best counts: a single one may be a peak.
        before = float(loss[max(1, self._late_epoch - 2) : self._late_epoch + 1].min())
        return (before - float(loss[-1])) / max(max(self.guessing, before) - float(loss[-1]), 1e-12)

    @property
    def _late_epoch(self) -> int:
        return min(self.last, max(1, round(0.8 * self.last)))

    @cached_property
    def improves(self) -> bool:
        """Whether validation improved in the last fifth too, by more than a little; taken to be so where there is none."""
        if not self.val_n:
            return True
        is_below_start = bool(self.val_loss[-1] < self.val_loss[0])
        return is_below_start and _over("late_val_share", self._late_share(self.val_loss))

    @cached_property
    def load(self) -> float:
        """Keras's training loss, under dropout and augmentation and without penalties, by that of the probe."""
        row = self.signals.epochs[-1]
        return (row.get("loss", 0.0) - row["penalty"]) / max(float(self.loss[-1]), 1e-12)

    @cached_property
    def why_little(self) -> str:
        """Why a network has learned too little."""
        if self.last <= THRESHOLDS["few_epochs"].value:
            return "train_longer"
        if self.improves and _over("reference_late", self.late):
            moved = [
                ratio for look in self.signals.network[1:] for ratio in look["update_ratios"] if np.isfinite(ratio)
            ]
            return "low_rate" if moved and np.median(moved) < THRESHOLDS["update_ratio"].value else "train_longer"
        held_back = _over("load", self.load) or _over("penalty", self.signals.epochs[-1]["penalty"])
        return "over_regularised" if held_back else "capacity"

    @property
    def collapse(self) -> tuple[int, float]:
        """The row of the lowest training loss, and the loss in the end."""
        # In the last two epochs, in three of a network that still knows something: single ones may jitter.
        recent = 3 if self.learned and self.last > 3 else 2
        return int(self.loss.argmin()), float(min(self.loss[-recent:]))

    @cached_property
    def has_collapsed(self) -> bool:
        """Whether much of the descent was lost again, for no reason that batch normalisation's averages give."""
        lowest, end = self.collapse
        least = float(self.loss[lowest])
        is_lost = _over("collapse", (end - least) / self.descent) and self.guessing - least > 0.1 * self.guessing
        return is_lost and not self.is_mismatched

    @cached_property
    def simple_references(self) -> list[tuple[float, int]]:
        """What the data doctor's simple methods, which learned from the training images, reach on how many of validation."""
        told = [(of["details"]["accuracy"], of["details"]["images"]) for of in self.data.get("reference_accuracy", [])]
        images = min(sum(self.signals.about["val_counts"]), MOST_COUNTED)
        # A file may come from a stranger.
        return [(share, n) for share, n in told if 0 <= share <= 1 and 0 < n <= images]

    @cached_property
    def references(self) -> list[tuple[float, int]]:
        """Accuracies that can be reached on unseen images, and on how many that was seen."""
        best = self.best_accuracy
        return self.simple_references + ([(best, self.val_n)] if best is not None and 0 <= best <= 1 else [])

    def epoch(self, row: int) -> int:
        """The epoch of a row of the signals; a training may begin later than at 0."""
        return int(self.signals.epochs[row]["epoch"])

    @cached_property
    def leaks(self) -> list[dict]:
        """The data doctor's findings of copies of training images in validation, where they are more than a few."""
        images = sum(self.signals.about["val_counts"])
        return [
            finding
            for check in ("copies_across", "altered_copies")
            for finding in self.data.get(check, [])
            if finding["severity"] != "note" and finding["details"].get("split", "val") == "val"
            # Exact copies leave no doubt; in small sets single images look like altered copies by nature.
            if finding["details"].get("p", 0.0) < THRESHOLDS["copies_p"].value
            # A single copy among hundreds changes no accuracy; the data doctor names it.
            if finding["details"].get("images", len(finding["items"])) >= THRESHOLDS["copies"].value * images
        ]

    @cached_property
    def unseen(self) -> np.ndarray:
        """`bool [n]`: which of the validation images that were looked at are no copies of training images."""
        copies = {name for leak in self.leaks for name in leak["items"] if isinstance(name, str)}
        names = self.signals.about.get("val_items", [])
        if len(names) != len(self.val.labels):  # of an earlier version
            return np.ones(len(self.val.labels), bool)
        return np.array([name not in copies for name in names], bool)

    @cached_property
    def is_lost_unseen(self) -> bool:
        """Whether the network, which knows training images, knows hardly more of the validation images than guessing."""
        labels, predicted = self.val.labels[self.unseen], self.val.predicted[-1, self.unseen]
        n = len(labels)
        is_few = (
            n < THRESHOLDS["fewest_validation"].value
            or sum(self.signals.about["train_counts"]) < THRESHOLDS["fewest_learned"].value
        )
        if is_few or not (self.learned and self.has_gap):
            return False
        right = int((labels == predicted).sum())
        # How often labels and predictions that know nothing of each other agree.
        counts = [np.bincount(side, minlength=self.signals.about["num_classes"]) for side in (labels, predicted)]
        chance = float(counts[0] @ counts[1][: len(counts[0])]) / n**2
        chance = min(max(chance, 1e-9), 1 - 1e-9)
        most = wilson_interval(right, n)[1] - chance
        is_chance = binomial_tail(right, n, chance) > THRESHOLDS["learned_p"].value
        return bool(is_chance and most < THRESHOLDS["known_of_val"].value * (self.accuracy - chance))

    @property
    def unseen_right(self) -> tuple[int, int]:
        """How many validation images that are no copies are right, of how many that were looked at."""
        return int(self.val.correct[-1, self.unseen].sum()), int(self.unseen.sum())

    def surest_above_guessing(self, references: list[tuple[float, int]]) -> float | None:
        """The highest of some accuracies on validation that is surely above that of guessing; None where there is none.

        Where validation holds copies of training images these tell nothing.
        """
        counts = np.array(self.signals.about["val_counts"])
        majority = float(counts.max() / max(counts.sum(), 1))
        for share, n in sorted(references, reverse=True) if not self.leaks else ():
            if share > majority and binomial_tail(round(share * n), n, majority) < THRESHOLDS["learned_p"].value:
                return share
        return None

    @cached_property
    def harder(self) -> tuple[int, float]:
        """After which epoch training images were hardest beside validation images, and how much it is in three, in standard errors.

        The mean of two: of the mean loss, and of the share of images above the loss that a fifth of the validation images
        exceeds, since images with wrong labels stand in the tail.
        """
        n, val_n = len(self.probe.labels), int(self.unseen.sum())
        if val_n < THRESHOLDS["fewest_validation"].value or self.last < 1:
            return 0, 0.0
        probe, val = self.probe.loss[1:].astype(np.float64), self.val.loss[1:, self.unseen].astype(np.float64)
        error = np.sqrt(probe.var(axis=1) / n + val.var(axis=1) / val_n)
        of_mean = (probe.mean(axis=1) - val.mean(axis=1)) / np.maximum(error, 1e-12)
        tail = (probe > np.quantile(val, 0.8, axis=1, keepdims=True)).mean(axis=1) - 0.2
        of_tail = tail / np.sqrt(0.2 * 0.8 * (1 / n + 1 / val_n))
        # Three epochs together: the network of a single one may be unlucky with these images.
        z = (of_mean + of_tail) / 2
        together = min(3, len(z))
        means = np.convolve(z, np.full(together, 1 / together), "valid")
        at = int(np.argmax(means))
        return at + int(np.argmax(z[at : at + together])) + 1, float(means[at])

    @cached_property
    def val_loss(self) -> np.ndarray:
        return self.val.loss.astype(np.float64).mean(axis=1)

    @cached_property
    def rise(self) -> tuple[float, float]:
        """By what share the validation loss rose after its lowest, and how many standard errors that is, cross-fitted.

        The lowest epoch is chosen on one half of the images and the rise measured on the other, and the other way round:
        on the images that chose it every lowest epoch looks lower than it is.
        """
        losses = self.val.loss[1:].astype(np.float64)
        z, rises = [], []
        for half in (0, 1):
            chosen, other = losses[:, half::2], losses[:, 1 - half :: 2]
            lowest = int(chosen.mean(axis=1).argmin())
            difference = other[-1] - other[lowest]
            error = difference.std(ddof=1) / np.sqrt(len(difference)) if lowest < len(losses) - 1 else 0.0
            z.append(difference.mean() / error if error > 0 else 0.0)
            rises.append(other[-1].mean() / max(other[lowest].mean(), 1e-12) - 1)
        return float(np.mean(rises)), float(np.sum(z) / np.sqrt(2))


def diagnose(signals: Signals, data: Iterable[Mapping[str, Any]] = (), best_accuracy: float | None = None) -> Diagnosis:
    """Says what a training suffers from.

    Args:
        signals: What `OverfittingMonitor` measured, of one epoch at least.
        data: What the data doctor found, as dictionaries (`data_check.json`).
        best_accuracy: The best validation accuracy of any run on these data, a share; a network that stays below it on its own
            training images underfits.

    Returns:
        All that holds; the first is the headline.
    """
    run = _Run(signals, data, best_accuracy)
    if run.majority >= 1:
        return Diagnosis((_finding("unknown", "All training images are of one class: there is nothing to learn."),))
    found = run.found
    for rule in RULES:
        finding = rule(run)
        if finding is not None and finding.name not in [other.name for other in found]:
            found.append(finding)
        if found and found[-1].details.get("kind") == "not_finite":
            break  # nothing else can be told
    return Diagnosis(tuple(found))


def find_divergence(run: _Run) -> Finding | None:
    """No finite loss; a start far above guessing; a descent that was lost again; a layer that has died."""
    logged = [row.get("loss", 0.0) for row in run.signals.epochs]
    broken = ~(np.isfinite(run.loss) & np.isfinite(np.array(logged, float)))
    if broken.any():
        return _finding(
            "diverged", "The training loss is no finite number from epoch {epoch} on.", epoch=run.epoch(int(broken.argmax())), kind="not_finite"
        )  # fmt: skip
    looks = run.signals.network
    alike = np.log(run.signals.about["num_classes"])  # the loss of equal probabilities
    least, most = THRESHOLDS["initial_least"].value, THRESHOLDS["initial_most"].value
    limit = min(max(THRESHOLDS["initial_loss"].value * alike, least), most)
    if looks and looks[0]["loss_in_training"] > limit:
        return _finding(
            "diverged",
            "Before training the loss was {loss:.3g}, and that of guessing is {guessing:.2f}: the pixels are not scaled, or the"
            " initial weights are too large.",
            loss=looks[0]["loss_in_training"], guessing=run.guessing, kind="initial",
        )  # fmt: skip
    if run.is_mismatched:  # that is why the loss went up
        return None
    if run.has_collapsed and _over("collapse_end", run.collapse[1] / run.guessing):
        return find_smaller_collapse(run)
    dead = [float(np.nanmax([0.0, *look["dead"]])) for look in looks]
    has_died = not run.learned and len(dead) > 1 and not _dead(dead[0]) and _dead(dead[-1])
    if has_died and find_vanishing_gradients(run) is None:  # which would be why
        return _finding(
            "diverged",
            "The network no longer learns: in a layer {share:.0%} of the units are 0 for all images, before training {before:.0%}.",
            share=dead[-1], before=dead[0], kind="died",
        )  # fmt: skip
    return None


def find_smaller_collapse(run: _Run) -> Finding | None:
    """A descent that was lost again, whatever is left."""
    if not run.has_collapsed:
        return None
    lowest, _ = run.collapse
    return _finding(
        "diverged",
        "The training loss came down to {lowest:.2f} after epoch {epoch} and ended at {loss:.2f}; that of guessing is"
        " {guessing:.2f}.",
        lowest=float(run.loss[lowest]), epoch=run.epoch(lowest), loss=float(run.loss[-1]), guessing=run.guessing, kind="collapse",
    )  # fmt: skip


def _dead(share: float) -> bool:
    return share >= THRESHOLDS["dead_share"].value


def find_batch_norm_mismatch(run: _Run) -> Finding | None:
    """Batch normalisation's stored averages do not fit the weights, and no gap is larger than what that can cost."""
    # New averages can at most bring what is missing on training images.
    return None if run.signals.gap[1] > 1 - run.accuracy else find_smaller_mismatch(run)


def find_smaller_mismatch(run: _Run) -> Finding | None:
    """The same, whatever else holds."""
    if not run.is_mismatched:
        return None
    return _finding(
        "batch_norm_mismatch",
        "With the same weights the loss of training images is {stored:.2f} with batch normalisation's stored averages and"
        " {anew:.2f} with averages taken anew: in inference the network is not the one that was trained.",
        stored=run.signals.network[-1]["loss_stored"], anew=run.signals.network[-1]["loss_anew"],
    )  # fmt: skip


def find_class_imbalance(run: _Run) -> Finding | None:
    """Rare classes that are found much less often than the common ones."""
    counts = np.array(run.signals.about["train_counts"], float)
    rare = np.flatnonzero(counts < THRESHOLDS["rare_class"].value * counts.max())
    of_rare = np.isin(run.val.labels, rare)
    if not of_rare.any() or of_rare.all():
        return None
    correct = run.val.correct[-1]
    numbers = int(correct[~of_rare].sum()), int((~of_rare).sum()), int(correct[of_rare].sum()), int(of_rare.sum())
    low, high = newcombe_interval(*numbers)
    if not _over("rare_recall", low):
        return None
    return _finding(
        "class_imbalance",
        "Of the rare classes {found} of {rare} validation images were found ({recall:.0%}), of the others {others:.0%}: between"
        " {low_points:.0f} and {high_points:.0f} points more.",
        found=numbers[2], rare=numbers[3], recall=numbers[2] / numbers[3], others=numbers[0] / numbers[1], low=low, high=high,
        classes=rare.tolist(),
    )  # fmt: skip


def find_dead_units(run: _Run) -> Finding | None:
    """A layer whose units gave 0 for all images before training, in a network that has learned nothing."""
    look = run.signals.network[0] if run.signals.network else {"dead": []}
    if run.learned or not _dead(float(np.nanmax([0.0, *look["dead"]]))):
        return None
    at = int(np.nanargmax(look["dead"]))
    return _finding(
        "dead_units",
        "Before training {share:.0%} of the units of '{layer}' were 0 for all images, and nothing was learned since.",
        share=look["dead"][at], layer=look["rectified"][at],
    )  # fmt: skip


def find_vanishing_gradients(run: _Run) -> Finding | None:
    """Gradients that hardly reached the first layer before training, or were tiny everywhere, and next to nothing was learned."""
    norms = run.signals.network[0]["gradient_norms"] if run.signals.network else []
    has_learned = run.learned and _over("vanishing_skill", run.skill)
    if has_learned or len(norms) < 2 or not norms[-1] > 0:
        return None
    if norms[0] / norms[-1] < THRESHOLDS["gradient_ratio"].value:
        return _finding(
            "vanishing_gradients",
            "Before training the gradient of the first layer was {ratio:.1e} times that of the last, and next to nothing was learned since.",
            ratio=norms[0] / norms[-1],
        )  # fmt: skip
    if max(norms) < THRESHOLDS["gradient_norm"].value:
        return _finding(
            "vanishing_gradients",
            "Before training the largest gradient of a layer was {norm:.1e}: all images look alike to the last layer, and next"
            " to nothing was learned since.",
            norm=max(norms),
        )  # fmt: skip
    return None


def find_leak(run: _Run) -> Finding | None:
    """Copies of training images in validation, found by the data doctor."""
    if not run.leaks:
        return None
    leak = run.leaks[0]
    return _finding(
        "leak_suspected",
        "{images} validation images are copies of training images, such as {examples}: the validation accuracy is too high.",
        images=leak["details"].get("images", len(leak["items"])), examples=leak["details"].get("examples", ""),
    )  # fmt: skip


def find_shift(run: _Run) -> Finding | None:
    """Validation images that a simple classifier tells from training images, and on which the network does worse; or on which
    the network alone knows nothing, which have been learned from the same training images otherwise."""
    shifts = [finding["details"] for finding in run.data.get("shift", []) if finding["details"]["split"] == "val"]
    gap, low, _ = run.signals.gap
    if shifts and _over("shift_gap", low):
        return _finding(
            "shift_suspected",
            "A simple classifier tells validation images from training images (area under the ROC curve {auc:.2f}, equal ones .50),"
            " most plainly by {statistic}, and the network is {gap_points:.1f} points worse on them.",
            auc=shifts[0]["auc"], statistic=shifts[0]["statistic"], gap=gap,
        )  # fmt: skip
    reference = run.surest_above_guessing(run.simple_references) if run.is_lost_unseen else None
    if reference is None:
        return None
    right, images = run.unseen_right
    if _over("reference", newcombe_interval(round(reference * images), images, right, images)[0]):
        return _finding(
            "shift_suspected",
            "The network knows {accuracy:.0%} of its training images and hardly more of the validation images than guessing:"
            " {right} of {images}, where {reference:.0%} were reached otherwise. Validation images may reach it in another form.",
            accuracy=run.accuracy, right=right, images=images, reference=reference,
        )  # fmt: skip
    return None


def find_label_noise(run: _Run) -> Finding | None:
    """Labels that have nothing to do with the images, or are harder to tell than those of validation images, for simple models
    that did not see them or for the network that learned from them.

    How many labels the data doctor's classifier contradicts is no sign: 25% of clean photographs of four classes.
    """
    is_shifted = any(finding.name == "shift_suspected" for finding in run.found)  # which explains it
    if run.is_lost_unseen and not is_shifted and run.surest_above_guessing(run.references) is None:
        right, images = run.unseen_right
        return _finding(
            "label_noise_suspected",
            "The network knows {accuracy:.0%} of its training images and hardly more of the validation images than guessing:"
            " {right} of {images}. It seems that the labels do not belong to the images.",
            accuracy=run.accuracy, right=right, images=images, kind="random",
        )  # fmt: skip
    harder = [finding["details"] for finding in run.data.get("labels_harder_than_validation", [])]
    if harder:
        return _finding(
            "label_noise_suspected",
            "Simple models have a loss of {loss:.2f} on {images} training images that they did not learn from and of {val_loss:.2f}"
            " on {val_images} validation images, more than by chance: labels of training images are wrong, or validation is easier.",
            **{name: harder[0][name] for name in ("loss", "images", "val_loss", "val_images")}, kind="harder_for_simple_models",
        )  # fmt: skip
    epoch, z = run.harder
    if _over("harder_z", z):
        return _finding(
            "label_noise_suspected",
            "After epoch {epoch} the loss was {loss:.2f} on the training images that the network learned from and {val_loss:.2f} on"
            " validation images that it had not seen: the wrong way round, by more than chance. Labels of training images are"
            " wrong, or validation is easier.",
            epoch=run.epoch(epoch), loss=float(run.loss[epoch]), kind="harder",
            val_loss=float(run.val.loss[epoch, run.unseen].astype(np.float64).mean()),
        )  # fmt: skip
    return None


def find_instability(run: _Run) -> Finding | None:
    """A training loss that went up and down more than it came down."""
    rises = np.diff(run.loss[1 + len(run.loss) // 2 :]).clip(0).sum()
    came_back = run.loss[-1] - run.loss.min() < 0.1 * run.descent
    if not (run.is_mismatched or came_back) and _over("roughness", rises / max(run.descent, 0.1 * run.guessing)):
        return _finding(
            "diverged",
            "In the second half the training loss rose by {rises:.2f} in all, more than the {descent:.2f} that it ever came down.",
            rises=float(rises), descent=run.descent, kind="rough",
        )  # fmt: skip
    return None


def find_too_few(run: _Run) -> Finding | None:
    """Validation images too few to say anything."""
    if not run.val_n and run.learned:
        return _finding(
            "too_noisy_to_say", "There are no validation images: whether the network overfits cannot be told.", images=0
        )
    # Where nothing was learned that is the news.
    return _too_noisy(run) if run.learned and run.val_n < THRESHOLDS["fewest_validation"].value else None


def find_wide_gap(run: _Run) -> Finding | None:
    """A gap of which it cannot be said whether it is one."""
    _, low, high = run.signals.gap
    is_open = not run.has_gap and _over("widest_gap", high - low)
    return _too_noisy(run) if is_open else None


def _too_noisy(run: _Run) -> Finding:
    _, low, high = run.signals.gap
    return _finding(
        "too_noisy_to_say",
        "With {images} validation images the accuracy on training images minus that on validation images is between"
        " {low_points:+.0f} and {high_points:+.0f} points: too wide to judge.",
        images=run.val_n, low=low, high=high,
    )  # fmt: skip


def find_unlearned(run: _Run) -> Finding | None:
    """Training images that the network knows less well than unseen images can be known: overfitting it is not."""
    if not (run.references and run.learned) or run.has_collapsed:
        return None
    reference, images = max(run.references)
    high = wilson_interval(run.correct, run.n)[1]
    if not _over("reference", newcombe_interval(round(reference * images), images, run.correct, run.n)[0]):
        return None
    return _finding(
        "underfitting",
        "The network knows {accuracy:.1%} of its own training images (at most {high:.1%}), where {reference:.1%} of unseen"
        " images can be reached.",
        cause=run.why_little, accuracy=run.accuracy, high=high, reference=reference, load=run.load,
    )  # fmt: skip


def find_underfitting(run: _Run) -> Finding | None:
    """A network that still learns, or that stays below a reference on validation without knowing its training images better."""
    if run.improves and run.accuracy < 0.995 and _over("late_share", run.late):
        return _finding(
            "underfitting",
            "Of all that the training loss came down, {late:.0%} came in the last {epochs} epoch(s), and validation improved too:"
            " it still learns.",
            cause=run.why_little, late=run.late, epochs=run.last - run._late_epoch, loss=float(run.loss[-1]),
        )  # fmt: skip
    if not (run.references and run.learned and run.val_n) or run.has_gap:
        return None
    best, images = max(run.references)
    right = run.val_correct
    if newcombe_interval(round(best * images), images, right, run.val_n)[0] <= THRESHOLDS["reference"].value:
        return None
    return _finding(
        "underfitting",
        "The network is right on {accuracy:.1%} of the validation images, where {reference:.1%} can be reached, and it does"
        " no better on its training images: it has learned too little, not too much.",
        cause=run.why_little, accuracy=right / run.val_n, reference=best, load=run.load,
    )  # fmt: skip


def find_overfitting(run: _Run) -> Finding | None:
    """Accuracy that is lost on unseen images, or confidence that is: which of the two is said."""
    if not run.val_n or run.last < 1:
        return None
    gap, low, high = run.signals.gap
    if run.has_gap:
        return _finding(
            "overfitting",
            "The network knows {accuracy:.1%} of the training images and {val_accuracy:.1%} of the validation images:"
            " {gap_points:.1f} points less, between {low_points:.1f} and {high_points:.1f} (95% interval, {images} images).",
            cause="gap", accuracy=run.accuracy, val_accuracy=run.accuracy - gap, gap=gap, low=low, high=high, images=run.val_n,
        )  # fmt: skip
    rise, z = run.rise
    # Learning rates that are high let the loss jitter about its course, on all images at once; taken from second differences,
    # to which a steady rise adds nothing.
    jitter = np.diff(run.val_loss[1:], 2).std() / np.sqrt(6) if run.last > 3 else 0.0
    best = int(run.val_loss[1:].argmin()) + 1
    rose = float(run.val_loss[-1] - run.val_loss[best])
    is_jitter = rose < THRESHOLDS["rise_jitter"].value * jitter
    # What training images lost too is no overfitting.
    more = rose - max(0.0, float(run.loss[-1] - run.loss[best]))
    is_small = more < THRESHOLDS["rise_nats"].value or not _over("rise", more / max(float(run.val_loss[best]), 1e-12))
    is_sure = _over("rise_z", z) and _over("rise", rise)
    if is_jitter or is_small or not is_sure:
        return None
    correct = run.val.correct
    lost = int((correct[best] & ~correct[-1]).sum()) - int((~correct[best] & correct[-1]).sum())
    is_lost = lost > 2 * np.sqrt(max((correct[best] != correct[-1]).sum(), 1))
    return _finding(
        "overfitting",
        "After epoch {best} the validation loss rose by {rise:.0%}, more than that of training images; the validation accuracy"
        " went from {before:.1%} to {after:.1%}.",
        cause="stop_earlier" if is_lost else "over_confident", best=run.epoch(best), rise=rise, z=z,
        before=float(correct[best].mean()), after=float(correct[-1].mean()),
    )  # fmt: skip


def find_nothing_learned(run: _Run) -> Finding | None:
    """Training images of which no more is known than by guessing, for no reason that was found."""
    known = {"diverged", "batch_norm_mismatch", "dead_units", "vanishing_gradients", "underfitting"}
    if run.learned or known & {finding.name for finding in run.found}:
        return None
    if run.last <= THRESHOLDS["few_epochs"].value:
        return _finding(
            "underfitting", "After {epochs} epoch(s) the accuracy on training images, {accuracy:.1%}, is not yet above that of guessing"
            " ({majority:.1%}), and no fault was found: too early to tell more.",
            cause="train_longer", epochs=run.last, accuracy=run.accuracy, majority=run.majority,
        )  # fmt: skip
    return _finding(
        "unknown", "The accuracy on training images, {accuracy:.1%}, is not above that of guessing ({majority:.1%}), and no known"
        " cause was found.", accuracy=run.accuracy, majority=run.majority,
    )  # fmt: skip


def find_health(run: _Run) -> Finding | None:
    """Nothing else."""
    if run.found:
        return None
    gap, low, high = run.signals.gap
    details = {
        "accuracy": run.accuracy,
        "val_accuracy": run.accuracy - gap,
        "gap": gap,
        "low": low,
        "high": high,
        "images": run.val_n,
    }
    if not run.references and run.accuracy < THRESHOLDS["surely_learned"].value:
        return _finding(
            "healthy",
            "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of"
            " {gap_points:.1f} points, between {low_points:.1f} and {high_points:.1f} (95% interval, {images} images). What could"
            " be reached on these data is not known here.",
            **details,
        )  # fmt: skip
    return _finding(
        "healthy",
        "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of"
        " {gap_points:.1f} points, between {low_points:.1f} and {high_points:.1f} (95% interval, {images} images).",
        **details,
    )


RULES = (
    find_batch_norm_mismatch,
    find_divergence,
    find_class_imbalance,
    find_dead_units,
    find_vanishing_gradients,
    find_leak,
    find_shift,
    find_label_noise,
    find_instability,
    find_too_few,
    find_unlearned,
    find_overfitting,
    find_smaller_mismatch,
    find_smaller_collapse,
    find_underfitting,
    find_nothing_learned,
    find_wide_gap,
    find_health,
)
