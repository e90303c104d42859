"""The diagnosis of a training from its signals: `RULES`, the table of all rules, and `diagnose`, which tries them.

The first rule that matches is the headline. All that match are listed, since a run may have two faults. A gap is judged by its
interval, and a rise is measured on images that did not choose its beginning, never by a single number. If there are too few images to decide,
the diagnosis says so. Needs NumPy alone.

A threshold is changed in `RULES`, in the package or in an experiment file, where your own rules are added too:

```python
from pbl.diagnosis import RULES, Rule, Threshold, make_finding

def find_slow_epochs(run):                 # run: pbl.diagnosis.evidence.Evidence
    images = run.signals.epochs[-1].get("images_per_second", 1e9)
    if run.over("slowest", 1 / images):
        return make_finding("slow", "An image takes {seconds:.2f} s.", seconds=1 / images)

RULES["slow"] = Rule("slow", "slow", "note", {"slowest": Threshold(0.1, "s an image, our laptop")}, find_slow_epochs)
RULES["overfitting"].thresholds["gap"] = Threshold(0.05, "points by 100; our validation split has 5,000 images")
```

A rule of your own works where the experiment file is executed: in `train`, which writes what it found to `diagnosis.json`, and in a
notebook. `diagnose`, `report`, `log` and `compare RUN` never execute an experiment file: there only the rules of the package are tried. A
changed threshold is recorded with the run (`limits` in `environment.json`), so all commands judge by it, and say so.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from pbl import languages
from pbl.config import AFTER_EXPERIMENT, BEFORE_EXPERIMENT
from pbl.diagnosis import classes, generalisation, learning
from pbl.diagnosis import data as images
from pbl.diagnosis import remedies as to_try
from pbl.diagnosis.evidence import Evidence, Finding, make_finding
from pbl.diagnosis.signals import Signals
from pbl.errors import InputError, name_nearest
from pbl.languages import choose_language, translate


class Threshold(NamedTuple):
    """A limit on which a decision depends, and where it comes from: what it is, its unit, and what set it.

    Example:
        >>> from pbl.diagnosis import RULES
        >>> RULES["overfitting"].thresholds["gap"].value
        0.07
    """

    value: float
    source: str


@dataclass(frozen=True)
class Rule:
    """One thing that may be found in a training.

    Attributes:
        key: The rule's name in `RULES`.
        name: What is found, as a person reads it. Several rules may find the same thing by different signs.
        severity: "stop": the result is wrong or there is none; "act": it can be better; "note": for information.
        thresholds: The numbers that decide, which may be replaced. All rules share their names: a rule may use a threshold of another one.
        find: Takes the evidence and returns a finding, or None if the rule does not match.
        remedies: What to try, by the finding's cause or kind; "" is for any other. Each remedy has the share of the errors that
            it removed if that was measured, else None. They are used for all rules of that name.
        explains: Names of findings that are consequences of this one, and are not listed with it.

    Example:
        >>> from pbl.diagnosis import Rule, Threshold, make_finding
        >>> def find_slow_epochs(run):
        ...     seconds = 1 / run.signals.epochs[-1]["images_per_second"]
        ...     if run.over("slowest", seconds):
        ...         return make_finding("slow", "An image takes {seconds:.2f} s.", seconds=seconds)
        >>> limits = {"slowest": Threshold(0.1, "s an image, our laptop")}
        >>> Rule("slow", "slow", "note", limits, find_slow_epochs).thresholds["slowest"].value
        0.1
    """

    key: str
    name: str
    severity: str
    thresholds: dict[str, Threshold]
    find: Callable[[Evidence], Finding | None]
    remedies: dict[str, tuple[tuple[to_try.Remedy, float | None], ...]] = field(default_factory=dict)
    explains: tuple[str, ...] = ()


# What wrong validation images or labels look like; and what a network with wrong input does.
SEEMS = (
    "label_noise_suspected",
    "shift_suspected",
    "overfitting",
    "underfitting",
    "class_never_found",
    "class_shares_differ",
)
FAILS = ("dead_units", "vanishing_gradients", "diverged", "underfitting", "class_never_found", "unknown")
TRIAL = "a trial of 150 runs on digits and MNIST"
# Rules are tried in this order.
RULES = {rule.key: rule for rule in (
    Rule("other_arrays", "other_arrays", "stop", {
        "other_arrays": Threshold(0.2, "accuracy on validation that Keras logged minus the measured one, a share; on the same images they differ by chance alone"),
        "other_arrays_z": Threshold(5.0, "standard errors of the same"),
    }, images.find_other_arrays, {"": ((to_try.LOOK, None),)}),
    Rule("other_scale", "shift_suspected", "stop", {}, images.find_other_scale, explains=SEEMS),
    Rule("scaled_twice", "scaled_twice", "stop", {
        "divided_twice": Threshold(0.01, "largest pixel; 255 / 255 / 255 is .004, and a dark picture with pixels to 1 has more"),
    }, images.find_scaled_twice, {"": ((to_try.LOOK, None),)}, FAILS),
    Rule("greys_lost", "greys_lost", "stop", {
        "ones": Threshold(0.02, "share of ones among pixels that are 0 or 1; MNIST and photographs, // 255: .001 to .007"),
    }, images.find_lost_greys, {"": ((to_try.LOOK, None),)}, (*FAILS, *SEEMS, "blank_images")),
    Rule("two_softmaxes", "double_softmax", "stop", {}, learning.find_two_softmaxes, explains=FAILS),
    Rule("blank_images", "blank_images", "stop", {
        "blank": Threshold(0.01, "images of one colour, share of a split; as for copies, a single one changes no accuracy"),
    }, images.find_blank_images, {"": ((to_try.CHECK, None),)}, SEEMS),
    Rule("absent_class", "class_absent", "stop", {
        "absent": Threshold(0.01, "images of classes that training does not have, share of validation; as for copies"),
        "absent_class": Threshold(0.5, "the same divided by a class's average in validation, if there are at least order_images of them; with 100 classes a whole class is 1%"),
    }, classes.find_absent_class, {"": ((to_try.COUNT, None),)}, SEEMS),
    Rule("label_order", "label_order_suspected", "stop", {
        "order_images": Threshold(5, "fewest validation images of a class about which anything is said"),
        "order_share": Threshold(0.4, "share of a class's validation images that are taken for one other class; also how much lower its recall is than in training"),
        "order_known": Threshold(0.7, "accuracy on validation with the other numbering divided by that on training images"),
    }, classes.find_label_order, {"": ((to_try.COUNT, None),)}, SEEMS),
    Rule("batch_norm_mismatch", "batch_norm_mismatch", "stop", {
        "stored_ratio": Threshold(1.5, "loss of the probe with stored statistics divided by that with new ones, at the end; momentum .999 from 1.9"),
        "stored_share": Threshold(0.4, "difference of these two losses divided by that from guessing to new statistics; three mismatches with two classes .52 to 1.37, five healthy runs to .01"),
        "stored_difference": Threshold(0.1, "nats, difference of the same two losses; healthy to .001, few steps to .06, momentum .999 from .11"),
    }, learning.find_batch_norm_mismatch, {"": ((to_try.AVERAGES, None), (to_try.STEPS, None), (to_try.LONGER, None))}, ("unknown", "underfitting")),
    Rule("divergence", "diverged", "stop", {
        "initial_loss": Threshold(5.0, "loss before training divided by that of equal probabilities; healthy to 1.9, bad initialisation from 6.2"),
        "initial_least": Threshold(6.0, "nats, the limit if 5 times that is less; ResNet-20 with two classes 3.7"),
        "initial_most": Threshold(12.0, "nats, the limit if 5 times that is more; a loss is measured up to 15.9"),
        "collapse": Threshold(0.3, f"share of the descent that was lost again; {TRIAL}"),
        "collapse_end": Threshold(0.5, "loss at the end divided by that of guessing; above it, a collapse is reported first; two runs that ended lower had 83% and 86% accuracy"),
    }, learning.find_divergence, {
        "": ((to_try.LOWER_RATE, None), (to_try.FIND_RATE, None)),
        "initial": ((to_try.LOOK, None), (to_try.LOWER_RATE, None), (to_try.FIND_RATE, None)),
        "unscaled": ((to_try.LOOK, None),),
        "not_finite_at_once": ((to_try.LOOK, None), (to_try.MEMORISE, None)),
    }, ("unknown", "underfitting")),
    Rule("class_imbalance", "class_imbalance", "act", {
        "rare_class": Threshold(0.1, "images of a class divided by those of the commonest, as in the data doctor"),
        "rare_recall": Threshold(0.2, f"recall of common minus of rare classes, a share, lower bound; {TRIAL}: all 11 were found"),
    }, classes.find_class_imbalance, {"": ((to_try.WEIGHTS, None), (to_try.COUNT, None))}, ("class_shares_differ", "class_never_found")),
    Rule("dead_units", "dead_units", "stop", {
        "dead_share": Threshold(0.9, f"share of a layer's units that are 0 for all images, before training; {TRIAL}: healthy to .06"),
    }, learning.find_dead_units, {"": ((to_try.MEMORISE, None), (to_try.LOWER_RATE, None))}, ("unknown",)),
    Rule("vanishing_gradients", "vanishing_gradients", "stop", {
        "gradient_ratio": Threshold(1e-3, f"norm of the first kernel's gradient divided by that of the last, before training; {TRIAL}: .8 to 28, vanishing to 3e-6"),
        "gradient_norm": Threshold(1e-2, "largest norm of a kernel's gradient, before training; 16 plain convolutions to 5e-4, other networks from .05"),
        "vanishing_skill": Threshold(0.1, "as learned_skill; below it, vanishing gradients are reported; 16 plain convolutions once .08"),
    }, learning.find_vanishing_gradients, {"": ((to_try.SKIPS, None), (to_try.MEMORISE, None))}, ("unknown",)),
    Rule("double_softmax", "double_softmax", "stop", {
        "at_ceiling": Threshold(0.05, "share of images whose confidence is in the last 13th between guessing and the highest that two softmaxes allow, with none above; convention"),
    }, learning.find_double_softmax, {"": ((to_try.MEMORISE, None),)}, ("underfitting",)),
    Rule("leak", "leak_suspected", "stop", {
        "copies": Threshold(0.01, "copies of training images, share of the validation images, as in the data doctor"),
        "copies_p": Threshold(1e-4, "probability of so many look-alikes among the training images themselves; 300 digits once gave 6e-4"),
    }, images.find_leak, {"": ((to_try.LEAVE_OUT, None),), "belong_together": ((to_try.TOGETHER, None), (to_try.LEAVE_OUT, None))}),
    Rule("shift", "shift_suspected", "stop", {
        "shift_gap": Threshold(0.02, "points by 100, lower bound of the gap; a shift that costs less is not a reason to stop"),
        "known_of_val": Threshold(0.2, "skill on validation, upper bound, divided by that on training images; random labels to .1"),
        "fewest_learned": Threshold(500, "training images; from 160 cats and dogs nothing was learned that holds on other images"),
    }, images.find_shift, {"": ((to_try.CHECK, None),), "scale": ((to_try.LOOK, None),)}, ("overfitting", "underfitting", "class_shares_differ")),
    Rule("swallowed_class", "label_noise_suspected", "act", {
        "swallowed": Threshold(0.1, "lower bound of the share of a class that is taken for another minus that in the other direction"),
        "swallowed_chance": Threshold(0.005, "probability that of any two classes one has so much smaller a share of their labels in training by chance"),
        "swallowed_more": Threshold(1.15, "share of the other class in training divided by that in validation"),
    }, classes.find_swallowed_class, explains=("overfitting", "underfitting", "class_shares_differ")),
    Rule("label_noise", "label_noise_suspected", "act", {
        "unlike_neighbours": Threshold(0.03, "share of training images whose five nearest ones are all of one other class; clean digits and MNIST to .007, 20% wrong from .048"),
        "repeated": Threshold(3.0, "how often two suspected labels suggest the same change, divided by that of random changes; random wrong labels of digits and MNIST to 1.9, kinds of sounds that look alike from 5.2"),
        "neighbour_classes": Threshold(5, "fewest classes in training with which that is a sign; with clean photographs of two classes the share was .04"),
        "wrong_labels": Threshold(0.05, "lower bound of the share of wrong labels by simple models"),
        "harder_z": Threshold(2.0, "standard errors by which training images are harder than validation images, the smaller of two tests, largest mean of three epochs; the mean of both was up to 1.87 in 406 runs without wrong labels; the data doctor finds the other cases"),
    }, images.find_label_noise, {"": ((to_try.LABELS, None), (to_try.SMOOTH, None))}, ("overfitting", "underfitting", "class_never_found")),
    Rule("class_shares", "class_shares_differ", "act", {
        "shares": Threshold(0.1, "share of the images that would have to change their class to make the two splits equal"),
        "shares_z": Threshold(3.1, "standard errors by which the two differ (chi-square); p = .001"),
    }, classes.find_other_shares, {"": ((to_try.COUNT, None),)}, ("overfitting",)),
    Rule("instability", "diverged", "stop", {
        "logged_roughness": Threshold(0.25, "as roughness, the rises of Keras's training loss divided by those of the probe; below it, only inference mode jitters"),
        "roughness": Threshold(1.5, "sum of all rises of the loss in the second half divided by the whole descent; strong augmentation to 1.1, small steps on few images to 1.2"),
    }, learning.find_instability, explains=("unknown",)),
    Rule("too_few", "too_noisy_to_say", "note", {
        "fewest_validation": Threshold(50, "validation images; the interval of 90% is then 17 points wide"),
    }, generalisation.find_too_few, {"": ((to_try.VALIDATE, None), (to_try.SEEDS, None))}),
    Rule("unlearned", "underfitting", "act", {
        "reference": Threshold(0.02, f"points by 100 that an accuracy may be below the reference, lower bound; the reference is the luckiest of several; {TRIAL}"),
        # These thresholds decide the cause.
        "few_epochs": Threshold(5, "epochs up to which a network's capacity cannot be judged; convention"),
        "reference_late": Threshold(0.05, "as late_share, for a network below the reference that still learns"),
        "update_ratio": Threshold(0.005, "change of a kernel in an epoch divided by its norm, median; rate too low .0025, others from .011"),
        "load": Threshold(1.25, f"Keras's training loss divided by the probe's; {TRIAL}"),
        "penalty": Threshold(0.2, f"nats that penalties add to the loss; {TRIAL}"),
    }, learning.find_unlearned, {  # in the trial the errors were 83%, 39%, 39% and 13%
        "low_rate": ((to_try.RATE_10, 0.70), (to_try.LONGER, 0.07), (to_try.FIND_RATE, None)),
        "train_longer": ((to_try.LONGER, 0.29), (to_try.RATE_3, 0.25), (to_try.LESS, None)),
        "over_regularised": ((to_try.RELAX, None), (to_try.LONGER, None)),
        "capacity": ((to_try.LESS, None), (to_try.RATE_3, 0.25), (to_try.LONGER, 0.29), (to_try.LARGER_MODEL, 0.66)),
    }),
    Rule("still_learning", "underfitting", "act", {
        "late_of_both": Threshold(0.14, "share of the descent in the last fifth of the epochs, for both training and validation; as late_share"),
    }, learning.find_still_learning),
    Rule("overfitting", "overfitting", "act", {
        "gap": Threshold(0.07, "points of accuracy by 100; with 700 images healthy runs, whose true gap is below 6, reach 6.7"),
        "rise": Threshold(0.1, "rise of the validation loss divided by its lowest value (Prechelt 1998: GL 10)"),
        "rise_nats": Threshold(0.02, "nats, of the same; a loss of .001 may double without any meaning"),
        "rise_z": Threshold(2.0, "standard errors, of the same; one-sided 2.5%"),
        "rise_jitter": Threshold(4.0, "the same in multiples of the epochs' own jitter; on a simulated plateau of 6 to 60 epochs, last minus lowest exceeds it in 5 to 8%"),
        "may_be_gap": Threshold(0.1, "share of draws of other validation images with another verdict, above which the finding says so; convention"),
    }, generalisation.find_overfitting, {
        "stop_earlier": ((to_try.STOP, None), (to_try.MORE_DATA, 0.39)),
        "over_confident": ((to_try.STOP, None), (to_try.SMOOTH, None)),
        "": ((to_try.ALL_DATA, None), (to_try.MORE_DATA, 0.39), (to_try.DROPOUT, 0.37), (to_try.BOTH, 0.35), (to_try.AUGMENT, 0.32)),
    }),
    Rule("smaller_mismatch", "batch_norm_mismatch", "stop", {}, learning.find_smaller_mismatch),
    Rule("smaller_collapse", "diverged", "stop", {}, learning.find_smaller_collapse),
    Rule("underfitting", "underfitting", "act", {
        "late_share": Threshold(0.14, "share of the descent in the last fifth of the epochs; healthy to .08, with augmentation once .124; a straight line .2"),
        "late_val_share": Threshold(0.04, "the same for validation, which must improve too; healthy to .03"),
    }, learning.find_underfitting),
    Rule("nothing_learned", "unknown", "stop", {
        "learned_p": Threshold(1e-3, "probability that guessing the commonest class does so well; convention"),
        "learned_skill": Threshold(0.03, "share of what guessing gets wrong that the network gets right; with 300 images no smaller one can be shown"),
    }, learning.find_nothing_learned, {"": ((to_try.MEMORISE, None), (to_try.FIND_RATE, None))}),
    Rule("wide_gap", "too_noisy_to_say", "note", {
        "widest_gap": Threshold(0.22, f"points by 100, width of the gap's interval; {TRIAL}"),
    }, generalisation.find_wide_gap),
    Rule("class_never_found", "class_never_found", "act", {
        "never_images": Threshold(20, "fewest images of a class, both sides together, about which anything is said"),
        "never_recall": Threshold(0.05, "recall of the class on both sides, at most"),
        "never_less": Threshold(0.4, "recall of the others minus its own, lower bound"),
    }, classes.find_class_never_found, {"": ((to_try.COUNT, None), (to_try.LABELS, None))}),
    Rule("fewer_greys", "greys_lost", "note", {
        "more_ones": Threshold(0.1, "as for ones; digits // 16 .09, MNIST in black and white .13; thin drawings in black and white may have as few"),
    }, images.find_fewer_greys),
    Rule("numbers_from_one", "class_absent", "note", {}, classes.find_numbers_from_one),
    Rule("health", "healthy", "note", {
        "surely_learned": Threshold(0.95, "share of the training images, if no reference is known; convention"),
    }, generalisation.find_health, {"or_small_gap": ((to_try.VALIDATE, None), (to_try.SEEDS, None)), "": ((to_try.SEEDS, None), (to_try.LONGER, None), (to_try.LARGER_MODEL, None))}),
)}  # fmt: skip
# From the rules of the package.
NAMES = (*dict.fromkeys(rule.name for rule in RULES.values()), "thresholds_changed")
# Before an experiment file changes any.
_OF_PACKAGE = {key: (rule.find, dict(rule.thresholds)) for key, rule in RULES.items()}
REMEDIES = {(rule.name, cause): tried for rule in RULES.values() for cause, tried in rule.remedies.items()}
_GAIN = ("helped", "tried", "lowest", "highest", "gain")
COLOURS = {"stop": "#D55E00", "act": "#9A6700", "note": "#0072B2"}  # by severity; dark enough on white


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found in a training, and what to try next. `print` shows it, a notebook shows it in colours.

    Attributes:
        findings: The first is the headline.
        experiments: At most three `pbl.diagnosis.advice.Experiment`, the most promising first; none if only signals were judged.
    """

    findings: tuple[Finding, ...]
    experiments: tuple[Any, ...] = ()

    @property
    def headline(self) -> Finding:
        return self.findings[0]

    @property
    def severity(self) -> str:
        """The headline's severity: "stop", "act" or "note"."""
        return self.headline.severity or "note"

    def paragraphs(self, language: str | None = None) -> list[tuple[str, str]]:
        """The text in parts, each with its kind: "headline", "evidence", "also", "next", "command".

        Args:
            language: Such as "en" or "ja"; by default as `pbl.languages.choose_language` returns.
        """
        language = choose_language(language)

        def say(template: str, **details: Any) -> str:
            return languages.say(template, language, **details)

        def name(finding: Finding) -> str:
            words = translate(finding.name.replace("_", " "), language, "diagnosis")
            cause = translate(finding.cause.replace("_", " "), language, "cause")
            return say("{name} ({cause})", name=words, cause=cause) if cause else words

        parts = [("headline", name(self.headline)), ("evidence", say(self.headline.template, **self.headline.details))]
        for finding in self.findings[1:]:
            message = say(finding.template, **finding.details)
            parts.append(("also", say("Also {name}: {message}", name=name(finding), message=message)))
        for number, experiment in enumerate(self.experiments, 1):
            price = ""
            if experiment.gain is not None:
                measured = ", ".join(say(source, pairs=experiment.pairs) for source in experiment.sources)
                told = (
                    " It helped in {helped} of {tried} measured cases ({measured}); in this run that would be {lowest:+z.1f} to {highest:+z.1f} "
                    "points; expected: {gain:+z.1f}."
                )
                price = say(told, measured=measured, **{name: getattr(experiment, name) for name in _GAIN})
            if experiment.epochs:
                price += say(" Cost: {epochs} {epochs:epoch|epochs}.", epochs=experiment.epochs)
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
        told = [  # in a notebook cell a command starts with !
            (kind, f"!{text}" if kind == "command" and text.startswith("python -m pbl") else text)
            for kind, text in self.paragraphs()
        ]
        rows = [f'<div style="{styles.get(kind, "")}">{escape(text)}</div>' for kind, text in told]
        return f'<div style="border-left:4px solid {COLOURS[self.severity]};padding-left:1em">{"".join(rows)}</div>'


def collect_limits() -> dict[str, float]:
    """Returns the thresholds of all rules in `RULES`, by their names, as they are now.

    Raises:
        InputError: A rule of the package has a threshold that its function does not read; two rules give one name different values.

    Example:
        >>> from pbl.diagnosis import collect_limits
        >>> collect_limits()["gap"]
        0.07
    """
    limits: dict[str, float] = {}
    given_by: dict[str, str] = {}
    for key, rule in RULES.items():
        find, of_package = _OF_PACKAGE.get(key, (None, {}))
        for name, limit in rule.thresholds.items():
            if rule.find is find and name not in of_package:
                raise InputError(
                    "RULES['{key}'] has no threshold '{name}'. {nearest}",
                    key=key,
                    name=name,
                    nearest=name_nearest(name, of_package),
                )
            if limits.setdefault(name, limit.value) != limit.value:
                raise InputError(
                    "Two rules, {first} and {second}, have a threshold '{name}' of different values. Give yours another name.",
                    first=given_by[name],
                    second=key,
                    name=name,
                )
            given_by[name] = key
    return limits


def find_changed_limits(file: Path | None = None) -> dict[str, float]:
    """Returns the thresholds of the package's rules that were changed: what a run records, so that it is judged by them later too.

    Args:
        file: The run's experiment file: what it changed counts, and what was changed by hand, as in a notebook, but not what another
            experiment file changed. None: all that is changed in `RULES` now.
    """
    now, of_package = _read_places(), _limits_of_package()
    of_files = {name for (key, name), (_, new) in _by_last_file.items() if now.get((key, name)) == new}
    changed = {
        name: now_has.value
        for (_, name), now_has in now.items()
        if of_package.get(name, now_has.value) != now_has.value
    }
    if file is None:
        return changed
    by_hand = {name: value for name, value in changed.items() if name not in of_files}
    return {**_by_file.get(file, {}), **by_hand}


def _limits_of_package() -> dict[str, float]:
    return {name: limit.value for _, thresholds in _OF_PACKAGE.values() for name, limit in thresholds.items()}


def _read_places() -> dict[tuple[str, str], Threshold]:
    return {(key, name): limit for key, rule in RULES.items() for name, limit in rule.thresholds.items()}


# What experiment files have changed, by the file; and what the last one has, by the place: the threshold before and after.
_by_file: dict[Path, dict[str, float]] = {}
_by_last_file: dict[tuple[str, str], tuple[Threshold, Threshold]] = {}
_before_file = _read_places()


def _forget_last_file(file: Path) -> None:
    """Undoes what the experiment file before this one has changed: it would judge this one's runs."""
    for (key, name), (old, new) in _by_last_file.items():
        if key in RULES and RULES[key].thresholds.get(name) == new:
            RULES[key].thresholds[name] = old
    _by_last_file.clear()
    _before_file.clear()
    _before_file.update(_read_places())


def _note_file(file: Path) -> None:
    now, of_package = _read_places(), _limits_of_package()
    _by_last_file.update(
        (place, (old, now[place])) for place, old in _before_file.items() if place in now and now[place] != old
    )
    _by_file[file] = {name: new.value for (_, name), (_, new) in _by_last_file.items() if name in of_package}


BEFORE_EXPERIMENT.append(_forget_last_file)
AFTER_EXPERIMENT.append(_note_file)


def diagnose(
    signals: Signals,
    data: Iterable[Mapping[str, Any]] = (),
    best_accuracy: float | None = None,
    limits: Mapping[str, float] | None = None,
) -> Diagnosis:
    """Diagnoses a training from its signals.

    Args:
        signals: What `OverfittingMonitor` measured, at least one epoch.
        data: What the data doctor found, as dictionaries (`data_check.json`).
        best_accuracy: The best validation accuracy of any run on these data, a share; a network that is below it on its own
            training images underfits.
        limits: Thresholds that were changed for the run, by their names (`find_changed_limits`): they count, and what was changed by
            hand since, but not what other experiment files changed. None: `RULES` as they are now.

    Returns:
        All findings; the first is the headline.

    Example:
        >>> import pbl
        >>> signals = pbl.diagnosis.Signals.load("runs/mine/001/signals.npz")
        >>> pbl.diagnose(signals).headline.name
        'underfitting'
    """
    of_package = _limits_of_package()
    if limits is None:
        changed = find_changed_limits()
    else:
        changed = {name: value for name, value in limits.items() if of_package.get(name, value) != value}
        changed |= find_changed_limits(Path())
    run = Evidence(signals, data, best_accuracy, collect_limits() | of_package | changed)
    if run.majority >= 1:
        nothing = make_finding(
            "unknown",
            "All training images are of one class: there is nothing to learn. Check the labels, or the folders they come from.",
        )
        return Diagnosis((replace(nothing, severity="stop"),))
    found = run.found
    # Health comes last, even if a user's own rules were added after it.
    for rule in sorted(RULES.values(), key=lambda rule: rule.key == "health"):
        finding = rule.find(run)
        if finding is not None and finding.name not in [other.name for other in found]:
            found.append(replace(finding, severity=finding.severity or rule.severity))
        if found and (found[-1].name == "other_arrays" or found[-1].details.get("kind", "").startswith("not_finite")):
            break  # nothing else can be said
    if changed:
        told = ", ".join(f"{name} = {value:g} ({of_package[name]:g})" for name, value in changed.items())
        finding = make_finding(
            "thresholds_changed",
            "Judged with changed thresholds; the values of the package are in brackets: {limits}.",
            limits=told,
        )
        found.append(replace(finding, severity="note"))
    return Diagnosis(tuple(_leave_out_consequences(found)))


def _leave_out_consequences(found: list[Finding]) -> list[Finding]:
    """The findings without the consequences of an earlier one."""
    explained: dict[str, set[str]] = {finding.name: set() for finding in found}
    for rule in RULES.values():
        explained.setdefault(rule.name, set()).update(rule.explains)
    kept: list[Finding] = []
    for finding in found:
        if not any(finding.name in explained[earlier.name] for earlier in kept):
            kept.append(finding)
    return kept
