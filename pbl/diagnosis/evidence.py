"""What a rule of the diagnosis reads (`Evidence`) and what it returns (a `Finding`). Needs NumPy alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pbl.diagnosis.signals import MOST_COUNTED, Signals
from pbl.languages.forms import fill_sentence
from pbl.statistics import binomial_tail, newcombe_interval, wilson_interval

MOST_CLASSES = 1_000  # with more, classes are not looked at one by one


@dataclass(frozen=True)
class Finding:
    """One thing that was found in a training.

    Attributes:
        name: One of `NAMES`, or the name of your own rule.
        cause: For underfitting: "low_rate", "train_longer", "over_regularised", "capacity"; for overfitting: "gap", "stop_earlier",
            "over_confident"; for healthy: "or_small_gap"; otherwise "".
        message: What was measured, in a sentence.
        details: The numbers; they fill the fields of `template`.
        template: The sentence with `{name}` fields, so that it can be shown in another language.
        severity: "stop", "act" or "note"; with "", the severity of its rule in `pbl.diagnosis.RULES`.
    """

    name: str
    cause: str
    message: str
    details: dict[str, Any]
    template: str
    severity: str = ""


def make_finding(name: str, template: str, cause: str = "", **details: Any) -> Finding:
    """Makes the finding that a rule returns.

    Args:
        name: The finding's name.
        template: What was measured, in a sentence with the fields `{name}` of `details`. If `pbl.languages` does
            not have the sentence in Japanese, it is shown in English.
        cause: As in `Finding`.
        **details: The numbers. `gap`, `low` and `high` are differences of shares: for each of them the sentence also has a field in points
            (`gap_points` and so on), since "5% more" would mean something else.

    Example:
        >>> from pbl.diagnosis import make_finding
        >>> make_finding("slow", "An image takes {seconds:.2f} s.", seconds=0.25).message
        'An image takes 0.25 s.'
    """
    known = [key for key in ("gap", "low", "high") if details.get(key) is not None]  # too few images have no interval
    details |= {f"{key}_points": 100 * details[key] for key in known}
    return Finding(name, cause, fill_sentence(template, details), details, template)


class Evidence:
    """The signals of a training, and numbers computed from them that several rules need; each is computed when a rule first asks.

    Attributes:
        signals, data, best_accuracy: As in `diagnose`; `data` is grouped by the name of the check, and the signals end with the weights
            that were kept.
        is_put_back: Whether that is an earlier epoch than the last.
        limits: The thresholds of all rules.
        found: What the rules before this one have found.
        probe, val: `signals.probe` and `signals.val`.
        correct, n, val_correct, val_n: Number of images classified correctly at the end, and number of images: of train, then of validation.
        loss: `float64 [epochs + 1]`, mean loss of the probe in nats; row 0 before training, row `last` at the end.
        guessing, majority: Loss and accuracy of a guess that knows how frequent each class is, and nothing else.
        accuracy: On training images, a share.
    """

    def __init__(
        self,
        signals: Signals,
        data: Iterable[Mapping[str, Any]],
        best_accuracy: float | None,
        limits: Mapping[str, float],
    ):
        # What happened after the epoch whose weights were restored is not a fault of these weights.
        self.is_put_back = signals.kept is not signals
        self.signals, self.best_accuracy, self.limits = signals.kept, best_accuracy, limits
        signals = self.signals
        self.found: list[Finding] = []
        self.data: dict[str, list[Mapping[str, Any]]] = {}
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
    def counts(self) -> np.ndarray:
        """`int [2, classes]`: images of each class in the complete splits, of train and of validation."""
        sides = [self.signals.about[f"{side}_counts"] for side in ("train", "val")]
        counts = np.zeros((2, max(map(len, sides))), int)
        for row, side in zip(counts, sides, strict=True):
            row[: len(side)] = side
        return counts

    @cached_property
    def have_other_shares(self) -> bool:
        """Whether classes are more or less frequent in validation than in training, by more than a little and more than by chance."""
        sums = self.counts.sum(axis=1)
        if not sums.all():
            return False
        counts = self.counts[:, self.counts.any(axis=0)]
        expected = np.outer(sums, counts.sum(axis=0)) / sums.sum()
        degrees = max(counts.shape[1] - 1, 1)
        # Pearson's chi-square, in standard errors (E. Wilson, M. Hilferty 1931, PNAS 17, 684-688).
        chi_square = ((counts - expected) ** 2 / expected).sum() * self.independent.mean()
        z = ((chi_square / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / np.sqrt(2 / (9 * degrees))
        moved = np.abs(np.diff(counts / sums[:, None], axis=0)).sum() / 2
        return self.over("shares", moved) and self.over("shares_z", z)

    @property
    def inputs(self) -> dict[str, Any]:
        """Ranges of pixels and what the model does to them, as in `Signals.about`; empty if an earlier version wrote the signals."""
        return self.signals.about.get("inputs", {})

    @property
    def are_unscaled(self) -> bool:
        """Whether pixels up to 255 reach the first layer unscaled."""
        is_plain = self.inputs.get("scale") == 1 and not self.inputs.get("normalises", True)
        return is_plain and self.inputs.get("train", [0, 0])[1] > 50

    @property
    def pixel_range(self) -> float:
        """The divisor for pixels that reach the first layer unscaled: 255, or the largest pixel if it is more."""
        return max(255.0, float(self.inputs["train"][1]))

    @cached_property
    def learned(self) -> bool:
        """Whether the network does better on training images than guessing."""
        # With thousands of images even a trace of skill would be significant.
        is_sure = self.correct > 0 and binomial_tail(self.correct, self.n, self.majority) < self.limits["learned_p"]
        return bool(is_sure and self.over("learned_skill", self.skill))

    @property
    def skill(self) -> float:
        """Of the training images that guessing gets wrong, the share that the network gets right: `(accuracy - majority) / (1 - majority)`."""
        return (self.accuracy - self.majority) / (1 - self.majority)

    @cached_property
    def descent(self) -> float:
        """How far the loss has fallen below that of guessing; at least 0.01."""
        return max(self.guessing - float(np.nanmin(self.loss)), 0.01)

    @cached_property
    def is_mismatched(self) -> bool:
        """Whether batch normalisation's stored averages spoil what the network does in inference mode."""
        look = self.signals.network[-1] if self.signals.network else {}
        stored, anew = look.get("loss_stored", np.nan), look.get("loss_anew", np.nan)
        is_many_times = self.over("stored_ratio", stored / max(anew, 1e-12))
        # With two classes guessing has a loss of .69 nats: no loss can be many times another.
        known = self.guessing - anew
        is_lost = known > 0 and self.over("stored_share", (stored - anew) / known)
        return (is_many_times or is_lost) and self.over("stored_difference", stored - anew)

    @property
    def has_gap(self) -> bool:
        """Whether accuracy is higher on training images than on validation images, by more than a little and more than by chance."""
        return self.is_gap(self.signals.known)

    def is_gap(self, known: tuple[int, int, int, int]) -> bool:
        """The same for counts in the form of `Signals.known`."""
        right, n, val_right, val_n = known
        if not (n and val_n and len(self.probe.loss)):
            return False
        gap = right / n - val_right / val_n
        return bool(gap > self.limits["gap"] + 1e-9 and newcombe_interval(*known)[0] > 0)

    @cached_property
    def gap_if_drawn_again(self) -> float:
        """How often a gap would be seen if as many other validation images were drawn, each as likely to be right."""
        right, n, val_right, val_n = self.signals.known
        if not val_n:
            return 0.0
        draws = np.random.default_rng(0).binomial(val_n, val_right / val_n, 400)
        counts = {int(drawn): self.is_gap((right, n, int(drawn), val_n)) for drawn in np.unique(draws)}
        return float(np.mean([counts[int(drawn)] for drawn in draws]))

    @cached_property
    def confusions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """`int [classes, classes]`, of train and of validation: how many images of a class (row) are taken for which class (column);
        None without validation, and with more than `MOST_CLASSES`."""
        classes = self.signals.about["num_classes"]
        if classes > MOST_CLASSES or not self.val_n or not len(self.val.loss):
            return None
        matrices = np.zeros((2, classes, classes), int)
        for matrix, name in zip(matrices, ("probe", "val"), strict=True):
            rows = self.signals.confusion(name)
            rows = rows[(rows[:, :2] < classes).all(axis=1)]
            matrix[rows[:, 0], rows[:, 1]] = rows[:, 2]
        return matrices[0], matrices[1]

    @cached_property
    def independent(self) -> np.ndarray:
        """`float [classes]`: for each class, the share of its validation images that is independent: a group, such as a film, counts as
        one image."""
        groups, labels = self.signals.about.get("val_groups", []), self.val.labels
        shares = np.ones(max(self.signals.about["num_classes"], int(labels.max(initial=-1)) + 1))
        if len(groups) == len(labels):
            for label in np.unique(labels):
                of = np.flatnonzero(labels == label)
                shares[label] = len({groups[at] or at for at in of}) / len(of)
        return shares

    @property
    def gap_and_accuracies(self) -> dict[str, Any]:
        """The numbers of a sentence about the gap."""
        gap, low, high = self.signals.gap
        numbers = {"accuracy": self.accuracy, "val_accuracy": self.accuracy - gap, "gap": gap, "low": low, "high": high}
        return {**numbers, "images": self.val_n}

    @cached_property
    def late(self) -> float:
        """Share of the total descent of the training loss that was made in the last fifth of the epochs."""
        return self._late_share(self.loss)

    def _late_share(self, loss: np.ndarray) -> float:
        if self.last < 2:
            return 0.0
        before = self._before_late(loss)
        return (before - float(loss[-1])) / max(max(self.guessing, before) - float(loss[-1]), 1e-12)

    def _before_late(self, loss: np.ndarray) -> float:
        # The best of the three epochs before the last fifth counts: a single one may be a peak.
        return float(loss[max(1, self.late_epoch - 2) : self.late_epoch + 1].min())

    @property
    def before_late(self) -> float:
        """The training loss at the beginning of the last fifth of the epochs."""
        return self._before_late(self.loss)

    @property
    def late_epoch(self) -> int:
        return min(self.last, max(1, round(0.8 * self.last)))

    @cached_property
    def improves(self) -> bool:
        """Whether validation improved in the last fifth too, by more than a little; true if there is no validation."""
        if self.is_put_back:  # after that epoch it no longer improved
            return False
        if not self.val_n:
            return True
        is_below_start = bool(self.val_loss[-1] < self.val_loss[0])
        return is_below_start and self.over("late_val_share", self.late_of_val)

    @cached_property
    def late_of_val(self) -> float:
        """As `late`, for validation."""
        return self._late_share(self.val_loss)

    @cached_property
    def load(self) -> float:
        """Keras's training loss, with dropout and augmentation and without penalties, divided by the loss of the probe."""
        row = self.signals.epochs[-1]
        return (row.get("loss", 0.0) - row["penalty"]) / max(float(self.loss[-1]), 1e-12)

    @cached_property
    def why_little(self) -> str:
        """Why a network has learned too little: a cause of underfitting, as in `Finding`."""
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
        """The row of the lowest training loss, and the loss at the end."""
        # The end is the lower of the last two epochs, or the lowest of three if the network still knows something: single ones may jitter.
        recent = 3 if self.learned and self.last > 3 else 2
        return int(self.loss.argmin()), float(min(self.loss[-recent:]))

    @cached_property
    def has_collapsed(self) -> bool:
        """Whether much of the descent was lost again, and batch normalisation's averages do not explain it."""
        lowest, end = self.collapse
        least = float(self.loss[lowest])
        is_lost = self.over("collapse", (end - least) / self.descent) and self.guessing - least > 0.1 * self.guessing
        return is_lost and not self.is_mismatched

    @cached_property
    def simple_references(self) -> list[tuple[float, int]]:
        """Accuracies of the data doctor's simple methods, which learned from the training images, each with its number of validation images;
        empty if validation holds copies of training images."""
        if self.leaks:
            return []
        told = [of["details"] for of in self.data.get("reference_accuracy", [])]
        # If images are in groups, the number of independent ones counts.
        told = [(details["accuracy"], details.get("independent", details["images"])) for details in told]
        images = min(sum(self.signals.about["val_counts"]), MOST_COUNTED)
        # A file may come from a stranger and hold any number.
        return [(share, n) for share, n in told if 0 <= share <= 1 and 0 < n <= images]

    @cached_property
    def references(self) -> list[tuple[float, int]]:
        """Accuracies that can be reached on unseen images, each with the number of images that it was measured on."""
        best = self.best_accuracy
        if best is None or not 0 <= best <= 1 or self.val_n < 1 or self.leaks:
            return self.simple_references
        return [*self.simple_references, (best, self.val_n)]

    def epoch(self, row: int) -> int:
        """The epoch of a row of the signals; a training may begin later than at epoch 0."""
        return int(self.signals.epochs[row]["epoch"])

    @cached_property
    def leaks(self) -> list[Mapping[str, Any]]:
        """The data doctor's findings of copies of training images in validation, if there are more than a few."""
        images = sum(self.signals.about["val_counts"])
        # In small sets single images look like altered copies by nature. If training images are copies of one another too,
        # both were drawn from the same films.
        are_films = bool(self.copies_in_train)
        return [
            finding
            for check in ("copies_across", "altered_copies")
            for finding in self.data.get(check, [])
            if finding["details"].get("split", "val") == "val"
            if (finding["severity"] != "note" and finding["details"].get("p", 0.0) < self.limits["copies_p"])
            or are_films
            # A single copy among hundreds changes no accuracy; the data doctor names it.
            if finding["details"].get("images", len(finding["items"])) >= self.limits["copies"] * images
        ]

    @cached_property
    def copies_in_train(self) -> list[Mapping[str, Any]]:
        """The data doctor's findings that training images are altered copies of one another."""
        return self.data.get("altered_copies_in_train", [])

    @property
    def is_augmented_offline(self) -> bool:
        """Whether training holds altered copies and validation none: they were made after the split, which is not a fault."""
        return bool(self.copies_in_train) and not self.leaks

    @cached_property
    def unseen(self) -> np.ndarray:
        """`bool [n]`: which of the validation images that were looked at are not copies of training images."""
        copies = {name for leak in self.leaks for name in leak["items"] if isinstance(name, str)}
        names = self.signals.about.get("val_items", [])
        if len(names) != len(self.val.labels):  # written by an earlier version
            return np.ones(len(self.val.labels), bool)
        return np.array([name not in copies for name in names], bool)

    @cached_property
    def is_lost_unseen(self) -> bool:
        """Whether the network does better on training images than guessing, and on validation images hardly."""
        labels, predicted = self.val.labels[self.unseen], self.val.predicted[-1, self.unseen]
        right, n = self.independent_right
        is_few = (
            n < self.limits["fewest_validation"]
            or sum(self.signals.about["train_counts"]) < self.limits["fewest_learned"]
        )
        if is_few or not (self.learned and self.has_gap):
            return False
        # How often independent labels and predictions agree.
        counts = [np.bincount(side, minlength=self.signals.about["num_classes"]) for side in (labels, predicted)]
        chance = float(counts[0] @ counts[1][: len(counts[0])]) / len(labels) ** 2
        chance = min(max(chance, 1e-9), 1 - 1e-9)
        most = wilson_interval(right, n)[1] - chance
        # Far below guessing is not guessing either: then classes are taken for one another.
        tails = binomial_tail(right, n, chance), 1 - binomial_tail(right + 1, n, chance) if right < n else 1.0
        is_chance = min(tails) > self.limits["learned_p"]
        return bool(is_chance and most < self.limits["known_of_val"] * (self.accuracy - chance))

    @property
    def unseen_right(self) -> tuple[int, int]:
        """How many validation images that are not copies are right, and how many of them were looked at."""
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
        """The highest of some accuracies on validation that is significantly above that of guessing; None if there is none.

        If validation holds copies of training images, the accuracies say nothing.
        """
        counts = np.array(self.signals.about["val_counts"])
        majority = float(counts.max() / max(counts.sum(), 1))
        for share, n in sorted(references, reverse=True) if not self.leaks else ():
            if share > majority and binomial_tail(round(share * n), n, majority) < self.limits["learned_p"]:
                return share
        return None

    @cached_property
    def harder(self) -> tuple[int, float]:
        """The epoch after which training images were hardest compared with validation images, and by how many standard errors, over three epochs.

        The smaller of two measures: the mean loss, and the share of images above the loss that a fifth of the validation images
        exceeds, since images with wrong labels are in the tail. Training images are weighted to the class shares of validation: of
        classes brought to one number, the rare ones, which are harder, would count for more.
        """
        labels, val_labels = self.probe.labels, self.val.labels[self.unseen]
        val_n = len(val_labels)
        if val_n < self.limits["fewest_validation"] or self.last < 1:
            return 0, 0.0
        probe, val = self.probe.loss[1:].astype(np.float64), self.val.loss[1:, self.unseen].astype(np.float64)
        classes = 1 + max(labels.max(), val_labels.max())
        counts, val_counts = (np.bincount(of, minlength=classes) for of in (labels, val_labels))
        weights = val_counts[labels] / counts[labels]
        if not weights.any():  # the two sides have no class in common
            return 0, 0.0
        weights /= weights.sum()
        n = 1 / (weights**2).sum()  # as many images without weights are as certain
        mean = probe @ weights
        error = np.sqrt(((probe - mean[:, None]) ** 2 @ weights) / n + val.var(axis=1) / val_n)
        of_mean = (mean - val.mean(axis=1)) / np.maximum(error, 1e-12)
        tail = (probe > np.quantile(val, 0.8, axis=1, keepdims=True)) @ weights - 0.2
        of_tail = tail / np.sqrt(0.2 * 0.8 * (1 / n + 1 / val_n))
        # Three epochs together: a single one may be unlucky with these images.
        z = np.minimum(of_mean, of_tail)  # if only one of them is high, the cause is not wrong labels
        together = min(3, len(z))
        means = np.convolve(z, np.full(together, 1 / together), "valid")
        at = int(np.argmax(means))
        return at + int(np.argmax(z[at : at + together])) + 1, float(means[at])

    @cached_property
    def val_loss(self) -> np.ndarray:
        return self.val.loss.astype(np.float64).mean(axis=1)

    @cached_property
    def rise(self) -> tuple[float, float]:
        """By what share the validation loss rose after its lowest value, and how many standard errors that is, cross-fitted.

        The lowest epoch is chosen on one half of the images and the rise is measured on the other half, and the other way round:
        on the images that chose it, the lowest epoch always looks lower than it is.
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
