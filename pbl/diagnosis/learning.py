"""Rules about learning itself: a training that breaks, that does not start to learn, or that ends too early."""

import numpy as np

from pbl.diagnosis.evidence import Evidence, Finding, make_finding
from pbl.statistics import newcombe_interval, wilson_interval


def find_divergence(run: Evidence) -> Finding | None:
    """A loss that is not finite; a start far above guessing; a descent that was lost again; a layer that has died."""
    logged = [row.get("loss", 0.0) for row in run.signals.epochs]
    broken = ~(np.isfinite(run.loss) & np.isfinite(np.array(logged, float)))
    if broken[0]:  # not caused by the learning rate
        return make_finding(
            "diverged",
            "The loss is not a finite number (NaN or infinite) even before training. Look for such values in the images: np.isfinite(images).all() "
            "must be True; then look for a layer of your own that produces them.",
            kind="not_finite_at_once",
        )
    if broken.any():
        return make_finding(
            "diverged",
            "The training loss is not a finite number (NaN or infinite), for the first time in epoch {epoch}. Lower the learning"
            " rate first.",
            epoch=run.epoch(int(broken.argmax())),
            kind="not_finite",
        )
    looks = run.signals.network
    alike = np.log(run.signals.about["num_classes"])  # the loss of equal probabilities
    least, most = run.limits["initial_least"], run.limits["initial_most"]
    limit = min(max(run.limits["initial_loss"] * alike, least), most)
    if looks and looks[0]["loss_in_training"] > limit:
        if run.are_unscaled:
            return make_finding(
                "diverged",
                "Before training the loss was {loss:.3g}, and guessing has a loss of {guessing:.2f}: pixels go up to {largest:g}, and no layer of "
                "the model scales them. Put keras.layers.Rescaling(1 / {range:g}) first.",
                loss=looks[0]["loss_in_training"],
                guessing=run.guessing,
                largest=run.inputs["train"][1],
                range=run.pixel_range,
                kind="unscaled",
            )
        return make_finding(
            "diverged",
            "Before training the loss was {loss:.3g}, and guessing has a loss of {guessing:.2f}. Usually the reason is that the pixels are not "
            "scaled, or that the initial weights are too large.",
            loss=looks[0]["loss_in_training"],
            guessing=run.guessing,
            kind="initial",
        )
    if run.is_mismatched:  # this explains why the loss went up
        return None
    if run.has_collapsed and run.over("collapse_end", run.collapse[1] / run.guessing):
        return find_smaller_collapse(run)
    dead = [float(np.nanmax([0.0, *look["dead"]])) for look in looks]
    has_died = not run.learned and len(dead) > 1 and dead[0] < run.limits["dead_share"] <= dead[-1]
    if has_died and find_vanishing_gradients(run) is None:  # which would explain it
        return make_finding(
            "diverged",
            "The network no longer learns: in one layer {share:.1%} of the units are 0 for all examined images; before training it was "
            "{before:.1%} at most. Lower the learning rate.",
            share=dead[-1],
            before=dead[0],
            kind="died",
        )
    return None


def find_smaller_collapse(run: Evidence) -> Finding | None:
    """A descent that was lost again, however good the result still is."""
    if not run.has_collapsed:
        return None
    lowest, _ = run.collapse
    if not lowest:  # a network that was trained before, such as by an earlier `fit`
        return make_finding(
            "diverged",
            "Before this training the loss of training images was {lowest:.3g}, and in the end {loss:.3g}; guessing has a loss of {guessing:.3g}. "
            "Lower the learning rate.",
            lowest=float(run.loss[0]),
            loss=float(run.loss[-1]),
            guessing=run.guessing,
            kind="collapse",
        )
    return make_finding(
        "diverged",
        "The loss of training images fell to {lowest:.3g} after epoch {epoch}, and in the end it was {loss:.3g}; guessing has a loss of "
        "{guessing:.3g}. Lower the learning rate.",
        lowest=float(run.loss[lowest]),
        epoch=run.epoch(lowest),
        loss=float(run.loss[-1]),
        guessing=run.guessing,
        kind="collapse",
    )


def find_batch_norm_mismatch(run: Evidence) -> Finding | None:
    """Batch normalisation's stored averages do not fit the weights, and no gap is larger than what this can cost."""
    # New averages can at most gain what is missing on training images.
    return None if run.signals.gap[1] > 1 - run.accuracy else find_smaller_mismatch(run)


def find_smaller_mismatch(run: Evidence) -> Finding | None:
    """The same, whatever else was found."""
    if not run.is_mismatched:
        return None
    return make_finding(
        "batch_norm_mismatch",
        "With the same weights the loss of training images is {stored:.2f} with batch normalisation's stored averages and {anew:.2f} with "
        "recomputed averages: in inference the network is not the one that was trained. More steps help, or "
        "keras.layers.BatchNormalization(momentum=0.9).",
        stored=run.signals.network[-1]["loss_stored"],
        anew=run.signals.network[-1]["loss_anew"],
    )


def find_dead_units(run: Evidence) -> Finding | None:
    """A layer whose units were 0 for all images before training, in a network that has learned nothing."""
    look = run.signals.network[0] if run.signals.network else {"dead": []}
    if run.learned or float(np.nanmax([0.0, *look["dead"]])) < run.limits["dead_share"]:
        return None
    at = int(np.nanargmax(look["dead"]))
    return make_finding(
        "dead_units",
        "Before training {share:.1%} of the units of '{layer}' were 0 for all examined images, and nothing was learned since. Check the initial "
        "weights of that layer, and the range of the pixels.",
        share=look["dead"][at],
        layer=look["rectified"][at],
    )


def find_vanishing_gradients(run: Evidence) -> Finding | None:
    """Gradients that hardly reached the first layer before training, or were tiny everywhere, while almost nothing was learned."""
    norms = run.signals.network[0]["gradient_norms"] if run.signals.network else []
    has_learned = run.learned and run.over("vanishing_skill", run.skill)
    if has_learned or len(norms) < 2 or not norms[-1] > 0:
        return None
    if norms[0] / norms[-1] < run.limits["gradient_ratio"]:
        return make_finding(
            "vanishing_gradients",
            "Before training the gradient of the first layer was {ratio:.1e} times the gradient of the last layer, and almost nothing was learned "
            "since. Fewer layers, batch normalisation or skip connections help.",
            ratio=norms[0] / norms[-1],
        )
    if max(norms) < run.limits["gradient_norm"]:
        return make_finding(
            "vanishing_gradients",
            "Before training the largest gradient of a layer was {norm:.1e}, and almost nothing was learned since. This happens if all images look "
            "alike to the last layer. Fewer layers, batch normalisation or skip connections help.",
            norm=max(norms),
        )
    return None


def find_two_softmaxes(run: Evidence) -> Finding | None:
    """Two softmaxes, or sigmoids, one after the other, as the model itself shows."""
    if not run.inputs.get("squashes", 1) > 1:
        return None
    width = max(int(run.inputs.get("width", run.signals.about["num_classes"])), 2)
    return make_finding(
        "double_softmax",
        "The model ends with two softmaxes (or sigmoids), one after the other: no class can have a probability above {highest:.3f}, so the model "
        "learns slowly or not at all. Remove one of the two, the last layer's activation or the layer after it.",
        highest=float(np.e / (np.e + width - 1)),
        kind="seen",
    )


def find_double_softmax(run: Evidence) -> Finding | None:
    """Confidences that never exceed what a softmax of probabilities can give, although the network is right more often."""
    width = max(int(run.inputs.get("width", run.signals.about["num_classes"])), 2)
    highest = np.e / (np.e + width - 1)  # if one probability is 1
    range_of_all = highest - 1 / width  # above guessing
    confidences = run.probe.confidence[-1].astype(np.float64)
    confidence = float(np.nanmax(np.append(confidences, 0.0)))
    if (
        not run.learned or confidence > highest + 0.04 * range_of_all or run.accuracy < highest
    ):  # a margin, as confidences are kept in half precision
        return None
    # Many must be at the ceiling: a network that is seldom sure has confidences of all sizes.
    if not run.over("at_ceiling", (confidences > highest - 0.075 * range_of_all).mean()):
        return None
    return make_finding(
        "double_softmax",
        "No examined training image has a confidence above {confidence:.3f}, but {accuracy:.0%} of them are classified correctly. A softmax (or "
        "sigmoid) of the outputs of another one gives about {highest:.3f} at most. If the model has two, remove one of them: the last layer's "
        "activation or the layer after it.",
        confidence=confidence,
        accuracy=run.accuracy,
        highest=float(highest),
    )


def find_instability(run: Evidence) -> Finding | None:
    """A training loss that rose in total by more than it fell."""
    rises = np.diff(run.loss[1 + len(run.loss) // 2 :]).clip(0).sum()
    came_back = run.loss[-1] - run.loss.min() < 0.1 * run.descent
    # Jitter in inference mode alone comes from batch normalisation's averages, or from augmentation, not from the training.
    logged = np.array([row.get("loss", np.nan) for row in run.signals.epochs[1 + len(run.loss) // 2 :]], float)
    came_back |= bool(np.nansum(np.diff(logged).clip(0)) < run.limits["logged_roughness"] * rises)
    if not (run.is_mismatched or came_back) and run.over("roughness", rises / max(run.descent, 0.1 * run.guessing)):
        return make_finding(
            "diverged",
            "In the second half the loss of training images went up and down: its rises add up to {rises:.2f}. At its lowest it was {lowest:.2f}, "
            "and guessing has a loss of {guessing:.2f}. Lower the learning rate.",
            rises=float(rises),
            lowest=float(run.loss.min()),
            guessing=run.guessing,
            kind="rough",
        )
    return None


def find_unlearned(run: Evidence) -> Finding | None:
    """Training accuracy below what is reached on unseen images: this cannot be overfitting."""
    references = run.references
    if run.has_gap:  # then a better network of the team counts only if it is better by more than the gap
        gap = run.signals.gap[0]
        references = run.simple_references + [of for of in references if of[0] - run.accuracy >= gap]
    if not (references and run.learned) or run.has_collapsed:
        return None
    reference, images = max(references)
    high = wilson_interval(run.correct, run.n)[1]
    if not run.over("reference", newcombe_interval(round(reference * images), images, run.correct, run.n)[0]):
        return None
    return make_finding(
        "underfitting",
        "The network classifies {accuracy:.1%} of its own training images correctly (95% interval up to {high:.1%}), but a simple method or "
        "another run classifies {reference:.1%} of unseen images correctly.",
        cause=run.why_little,
        accuracy=run.accuracy,
        high=high,
        reference=reference,
        load=run.load,
    )


def find_still_learning(run: Evidence) -> Finding | None:
    """A network that still learns much, on unseen images too: it needs more epochs, although there is a gap already.

    If the gap is twice what is missing on training images, more epochs can give little: then the gap is named first.
    """
    is_falling = run.val_n > 0 and run.last > 1 and run.improves and run.accuracy < 0.995
    if run.has_gap and run.signals.gap[0] >= 2 * (1 - run.accuracy):
        return None
    if not is_falling or not run.over("late_of_both", min(run.late, run.late_of_val)):
        return None
    return _tell_still_falling(run)


def _tell_still_falling(run: Evidence) -> Finding:
    return make_finding(
        "underfitting",
        "In the last {epochs} {epochs:epoch|epochs} the loss of training images still fell, from {before:.4g} to {loss:.4g}, and the loss of "
        "validation images fell too: the network is still learning.",
        cause=run.why_little,
        late=run.late,
        epochs=run.last - run.late_epoch,
        before=run.before_late,
        loss=float(run.loss[-1]),
    )


def find_underfitting(run: Evidence) -> Finding | None:
    """A network that still learns, or that is below a reference on validation and hardly better on its training images."""
    if run.improves and run.accuracy < 0.995 and run.over("late_share", run.late):
        if run.val_n:
            return _tell_still_falling(run)
        return make_finding(
            "underfitting",
            "In the last {epochs} {epochs:epoch|epochs} the loss of training images still fell, from {before:.4g} to {loss:.4g}: the network is "
            "still learning.",
            cause=run.why_little,
            late=run.late,
            epochs=run.last - run.late_epoch,
            before=run.before_late,
            loss=float(run.loss[-1]),
        )
    if not (run.references and run.learned and run.val_n) or run.has_gap:
        return None
    best, images = max(run.references)
    right = run.val_correct
    if newcombe_interval(round(best * images), images, right, run.val_n)[0] <= run.limits["reference"]:
        return None
    return make_finding(
        "underfitting",
        "The network classifies {accuracy:.1%} of the validation images correctly, but a simple method or another run reaches {reference:.1%}. On "
        "training images it is {train_accuracy:.1%}, which is not clearly more: this is not called overfitting.",
        cause=run.why_little,
        accuracy=right / run.val_n,
        train_accuracy=run.accuracy,
        reference=best,
        load=run.load,
    )


def find_nothing_learned(run: Evidence) -> Finding | None:
    """Training accuracy no better than guessing, for no known reason."""
    known = {"diverged", "batch_norm_mismatch", "dead_units", "vanishing_gradients", "underfitting"}
    if run.learned or known & {finding.name for finding in run.found}:
        return None
    if run.are_unscaled:
        return make_finding(
            "unknown",
            "The accuracy on training images, {accuracy:.1%}, is not clearly above guessing ({majority:.1%}). Pixels go up to {largest:g}, and no "
            "layer of the model scales them: put keras.layers.Rescaling(1 / {range:g}) first.",
            accuracy=run.accuracy,
            majority=run.majority,
            largest=run.inputs["train"][1],
            range=run.pixel_range,
            kind="unscaled",
        )
    if run.last <= run.limits["few_epochs"]:
        return make_finding(
            "underfitting",
            "After {epochs} {epochs:epoch|epochs} the accuracy on training images, {accuracy:.1%}, is not yet clearly above guessing "
            "({majority:.1%}), and no fault was found: it is too early for more.",
            cause="train_longer",
            epochs=run.last,
            accuracy=run.accuracy,
            majority=run.majority,
        )
    return make_finding(
        "unknown",
        "The accuracy on training images, {accuracy:.1%}, is not clearly above guessing ({majority:.1%}), and none of the known causes was found. "
        "Train the network on only 32 images: it should memorise them.",
        accuracy=run.accuracy,
        majority=run.majority,
    )
