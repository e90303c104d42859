"""What a rule of the diagnosis reads, `Evidence`, and what it gives, a `Finding`. NumPy alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pbl.diagnosis.signals import MOST_COUNTED, Signals
from pbl.statistics import binomial_tail, wilson_interval


@dataclass(frozen=True)
class Finding:
    """One thing that holds of a training.

    Attributes:
        name: One of `NAMES`, or of a rule of one's own.
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


def make_finding(name: str, template: str, cause: str = "", **details: Any) -> Finding:
    """Makes what a rule gives where it holds.

    Args:
        name: Of the rule.
        template: What was measured, in a sentence with the fields `{name}` of `details`. A sentence that `pbl.languages` does
            not have in Japanese is shown in English.
        cause: As in `Finding`.
        **details: The numbers. Of `gap`, `low` and `high`, which are differences of shares, the sentence has `gap_points` and so
            on too, in points: "5% more" would mean something else.
    """
    details |= {f"{key}_points": 100 * details[key] for key in ("gap", "low", "high") if key in details}
    return Finding(name, cause, template.format(**details), details, template)


class Evidence:
    """The signals of a training, and what several rules need of them; each number is computed when a rule first asks.

    Attributes:
        signals, data, best_accuracy: As in `diagnose`; `data` by the name of the check.
        limits: The thresholds of all rules.
        found: What the rules before have found.
        probe, val: `signals.probe` and `signals.val`.
        correct, n, val_correct, val_n: How many images are classified correctly in the end, of how many: of train, of validation.
        loss: `float64 [epochs + 1]`, mean loss of the probe in nats; row 0 before training, row `last` in the end.
        guessing, majority: Loss and accuracy of one who knows how frequent each class is, and nothing else.
        accuracy: On training images, a share.
    """

    def __init__(
        self,
        signals: Signals,
        data: Iterable[Mapping[str, Any]],
        best_accuracy: float | None,
        limits: Mapping[str, float],
    ):
        self.signals, self.best_accuracy, self.limits = signals, best_accuracy, limits
        self.found: list[Finding] = []
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

    def over(self, name: str, value: float) -> bool:
        """Whether a value is above the threshold of that name."""
        return bool(value > self.limits[name])

    @cached_property
    def learned(self) -> bool:
        """Whether the network does better on training images than guessing."""
        # Of thousands of images a trace of skill would be surely one.
        is_sure = self.correct > 0 and binomial_tail(self.correct, self.n, self.majority) < self.limits["learned_p"]
        return bool(is_sure and self.over("learned_skill", self.skill))

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
        return self.over("stored_ratio", stored / max(anew, 1e-12)) and self.over("stored_difference", stored - anew)

    @property
    def has_gap(self) -> bool:
        """Whether training images are better known than validation images, by more than is small or chance."""
        gap, low, _ = self.signals.gap
        return bool(gap > self.limits["gap"] + 1e-9 and low > 0)

    @property
    def gap_and_accuracies(self) -> dict[str, Any]:
        """The numbers of a sentence about the gap."""
        gap, low, high = self.signals.gap
        numbers = {"accuracy": self.accuracy, "val_accuracy": self.accuracy - gap, "gap": gap, "low": low, "high": high}
        return {**numbers, "images": self.val_n}

    @cached_property
    def late(self) -> float:
        """Share of the whole descent of the training loss that was made in the last fifth of the epochs."""
        return self._late_share(self.loss)

    def _late_share(self, loss: np.ndarray) -> float:
        if self.last < 2:
            return 0.0
        # Of the three epochs to the last fifth the best counts: a single one may be a peak.
        before = float(loss[max(1, self.late_epoch - 2) : self.late_epoch + 1].min())
        return (before - float(loss[-1])) / max(max(self.guessing, before) - float(loss[-1]), 1e-12)

    @property
    def late_epoch(self) -> int:
        return min(self.last, max(1, round(0.8 * self.last)))

    @cached_property
    def improves(self) -> bool:
        """Whether validation improved in the last fifth too, by more than a little; taken to be so where there is none."""
        if not self.val_n:
            return True
        is_below_start = bool(self.val_loss[-1] < self.val_loss[0])
        return is_below_start and self.over("late_val_share", self._late_share(self.val_loss))

    @cached_property
    def load(self) -> float:
        """Keras's training loss, under dropout and augmentation and without penalties, by that of the probe."""
        row = self.signals.epochs[-1]
        return (row.get("loss", 0.0) - row["penalty"]) / max(float(self.loss[-1]), 1e-12)

    @cached_property
    def why_little(self) -> str:
        """Why a network has learned too little."""
        if self.last <= self.limits["few_epochs"]:
            return "train_longer"
        if self.improves and self.over("reference_late", self.late):
            moved = [
                ratio for look in self.signals.network[1:] for ratio in look["update_ratios"] if np.isfinite(ratio)
            ]
            return "low_rate" if moved and np.median(moved) < self.limits["update_ratio"] else "train_longer"
        held_back = self.over("load", self.load) or self.over("penalty", self.signals.epochs[-1]["penalty"])
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
        is_lost = self.over("collapse", (end - least) / self.descent) and self.guessing - least > 0.1 * self.guessing
        return is_lost and not self.is_mismatched

    @cached_property
    def simple_references(self) -> list[tuple[float, int]]:
        """What the data doctor's simple methods, which learned from the training images, reach on how many of validation."""
        told = [of["details"] for of in self.data.get("reference_accuracy", [])]
        # Of images in groups so many are independent.
        told = [(details["accuracy"], details.get("independent", details["images"])) for details in told]
        images = min(sum(self.signals.about["val_counts"]), MOST_COUNTED)
        # A file may come from a stranger.
        return [(share, n) for share, n in told if 0 <= share <= 1 and 0 < n <= images]

    @cached_property
    def references(self) -> list[tuple[float, int]]:
        """Accuracies that can be reached on unseen images, and on how many that was seen."""
        best = self.best_accuracy
        is_known = best is not None and 0 <= best <= 1 and self.val_n > 0
        return self.simple_references + ([(best, self.val_n)] if is_known else [])

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
            if finding["details"].get("p", 0.0) < self.limits["copies_p"]
            # A single copy among hundreds changes no accuracy; the data doctor names it.
            if finding["details"].get("images", len(finding["items"])) >= self.limits["copies"] * images
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
        right, n = self.independent_right
        is_few = (
            n < self.limits["fewest_validation"]
            or sum(self.signals.about["train_counts"]) < self.limits["fewest_learned"]
        )
        if is_few or not (self.learned and self.has_gap):
            return False
        # How often labels and predictions that know nothing of each other agree.
        counts = [np.bincount(side, minlength=self.signals.about["num_classes"]) for side in (labels, predicted)]
        chance = float(counts[0] @ counts[1][: len(counts[0])]) / len(labels) ** 2
        chance = min(max(chance, 1e-9), 1 - 1e-9)
        most = wilson_interval(right, n)[1] - chance
        is_chance = binomial_tail(right, n, chance) > self.limits["learned_p"]
        return bool(is_chance and most < self.limits["known_of_val"] * (self.accuracy - chance))

    @property
    def unseen_right(self) -> tuple[int, int]:
        """How many validation images that are no copies are right, of how many that were looked at."""
        return int(self.val.correct[-1, self.unseen].sum()), int(self.unseen.sum())

    @cached_property
    def independent_right(self) -> tuple[int, int]:
        """As `unseen_right`, but images of one group, such as frames of a film, count as one."""
        right, images = self.unseen_right
        groups = self.signals.about.get("val_groups", [])
        if len(groups) != len(self.unseen):
            return right, images
        units = len({group or at for at, group in enumerate(groups) if self.unseen[at]})
        return round(right * units / max(images, 1)), units

    def surest_above_guessing(self, references: list[tuple[float, int]]) -> float | None:
        """The highest of some accuracies on validation that is surely above that of guessing; None where there is none.

        Where validation holds copies of training images these tell nothing.
        """
        counts = np.array(self.signals.about["val_counts"])
        majority = float(counts.max() / max(counts.sum(), 1))
        for share, n in sorted(references, reverse=True) if not self.leaks else ():
            if share > majority and binomial_tail(round(share * n), n, majority) < self.limits["learned_p"]:
                return share
        return None

    @cached_property
    def harder(self) -> tuple[int, float]:
        """After which epoch training images were hardest beside validation images, and how much it is in three, in standard errors.

        The mean of two: of the mean loss, and of the share of images above the loss that a fifth of the validation images
        exceeds, since images with wrong labels stand in the tail.
        """
        n, val_n = len(self.probe.labels), int(self.unseen.sum())
        if val_n < self.limits["fewest_validation"] or self.last < 1:
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
