"""Rules about unseen images: overfitting, health, and too few validation images to say which."""

import numpy as np

from pbl.diagnosis.evidence import Evidence, Finding, make_finding


def find_too_few(run: Evidence) -> Finding | None:
    """Too few validation images to say anything."""
    if not run.val_n and run.learned:
        return make_finding(
            "too_noisy_to_say",
            "There are no validation images, so it cannot be decided whether the network overfits. Keep some images back: "
            "OverfittingMonitor((images, labels), (val_images, val_labels)).",
            images=0,
        )
    # If nothing was learned, another rule reports that.
    return _too_noisy(run) if run.learned and run.val_n < run.limits["fewest_validation"] else None


def find_wide_gap(run: Evidence) -> Finding | None:
    """A gap so uncertain that it cannot be said whether there is one."""
    _, low, high = run.signals.gap
    is_open = not run.has_gap and run.over("widest_gap", high - low)
    return _too_noisy(run) if is_open else None


def _too_noisy(run: Evidence) -> Finding:
    _, low, high = run.signals.gap
    return make_finding(
        "too_noisy_to_say",
        "The accuracy on training images minus the accuracy on validation images is between {low_points:+z.0f} and {high_points:+z.0f} points (95% "
        "interval): with so few validation images ({images}) the size of the gap is not known.",
        images=run.val_n,
        low=low,
        high=high,
    )


def find_overfitting(run: Evidence) -> Finding | None:
    """Accuracy that is lower on unseen images, or confidence that is too high there; the cause says which."""
    if not run.val_n or run.last < 1:
        return None
    if run.has_gap and run.over("may_be_gap", 1 - run.gap_if_drawn_again):
        return make_finding(
            "overfitting",
            "The network classifies {accuracy:.1%} of the training images and {val_accuracy:.1%} of the validation images correctly:"
            " {gap_points:.1f} points less, between {low_points:.1f} and {high_points:.1f} (95% interval). The gap may be smaller: if other"
            " images ({images}) were drawn for validation, {otherwise:.0%} of the draws would not be called overfitting.",
            cause="gap",
            otherwise=1 - run.gap_if_drawn_again,
            **run.gap_and_accuracies,
        )
    if run.has_gap:
        return make_finding(
            "overfitting",
            "The network classifies {accuracy:.1%} of the training images and {val_accuracy:.1%} of the validation images correctly:"
            " {gap_points:.1f} points less, between {low_points:.1f} and {high_points:.1f} (95% interval, {images} images).",
            cause="gap",
            **run.gap_and_accuracies,
        )
    rise, z = run.rise
    # High learning rates make the loss jitter, on all images at once. The jitter is computed from second differences, to which a
    # steady rise adds nothing.
    jitter = np.diff(run.val_loss[1:], 2).std() / np.sqrt(6) if run.last > 3 else 0.0
    best = int(run.val_loss[1:].argmin()) + 1
    rose = float(run.val_loss[-1] - run.val_loss[best])
    is_jitter = rose < run.limits["rise_jitter"] * jitter
    # A rise that is on training images too is not overfitting.
    more = rose - max(0.0, float(run.loss[-1] - run.loss[best]))
    is_small = more < run.limits["rise_nats"] or not run.over("rise", more / max(float(run.val_loss[best]), 1e-12))
    is_sure = run.over("rise_z", z) and run.over("rise", rise)
    if is_jitter or is_small or not is_sure:
        return None
    correct = run.val.correct
    lost = int((correct[best] & ~correct[-1]).sum()) - int((~correct[best] & correct[-1]).sum())
    is_lost = lost > 2 * np.sqrt(max((correct[best] != correct[-1]).sum(), 1))
    return make_finding(
        "overfitting",
        "The validation loss was lowest after epoch {best}, at {lowest:.3g}, and then rose to {loss:.3g}, more than the loss of training images; "
        "the validation accuracy went from {before:.1%} to {after:.1%}.",
        cause="stop_earlier" if is_lost else "over_confident",
        best=run.epoch(best),
        lowest=float(run.val_loss[best]),
        loss=float(run.val_loss[-1]),
        rise=rise,
        z=z,
        before=float(correct[best].mean()),
        after=float(correct[-1].mean()),
    )


def find_health(run: Evidence) -> Finding | None:
    """No rule has found anything."""
    if run.found:
        return None
    if run.over("may_be_gap", run.gap_if_drawn_again):
        return make_finding(
            "healthy",
            "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of {gap_points:z.1f} points, "
            "between {low_points:z.1f} and {high_points:z.1f} (95% interval). It cannot be decided whether the network overfits a little: if other "
            "images ({images}) were drawn for validation, {again:.0%} of the draws would be called overfitting.",
            cause="or_small_gap",
            again=run.gap_if_drawn_again,
            **run.gap_and_accuracies,
        )
    if not run.references and run.accuracy < run.limits["surely_learned"]:
        return make_finding(
            "healthy",
            "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of {gap_points:z.1f} points, "
            "between {low_points:z.1f} and {high_points:z.1f} (95% interval, {images} images). It is not known here how high the accuracy could be "
            "on these data.",
            **run.gap_and_accuracies,
        )
    return make_finding(
        "healthy",
        "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of"
        " {gap_points:z.1f} points, between {low_points:z.1f} and {high_points:z.1f} (95% interval, {images} images).",
        **run.gap_and_accuracies,
    )
