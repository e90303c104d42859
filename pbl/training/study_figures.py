"""The figures of a search: the scores by trial, by each setting, and the importance of each setting."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from pbl.reports.drawing import BLUE, GREEN, GREY, ORANGE, caption, literal
from pbl.training.space import Range, Space
from pbl.training.study import Found, Trial

WIDEST = 4  # panels in a row


def draw_search(found: Found, space: Space, experiment: str) -> Iterator[tuple[str, Figure]]:
    """Yields name and figure: `history`, `slices` and, if it is known, `importance`.

    Args:
        found: The result of `pbl.training.study.search`.
        space: The space that was searched.
        experiment: The experiment's name, for the headings.
    """
    if any(trial.status == "finished" for trial in found.trials):
        name = caption("validation accuracy") if found.measure == "accuracy" else caption("validation score")
        yield "history", plot_history(found.trials, name, caption("{experiment}: search", experiment=experiment))
        title = caption("{experiment}: scores by setting", experiment=experiment)
        yield "slices", plot_slices(found.trials, space, name, title)
    if found.importance:
        title = caption("{experiment}: importance of the settings", experiment=experiment)
        yield "importance", plot_importance(found.importance, title)


def plot_history(trials: list[Trial], name: str, title: str) -> Figure:
    """Draws the score of each trial, the best one so far, and where trials were pruned or failed.

    Args:
        trials: The trials, in their order.
        name: Name of the score.
        title: The heading.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(literal(title))
    finished = [trial for trial in trials if trial.status == "finished"]
    numbers, scores = [trial.number + 1 for trial in finished], [trial.score for trial in finished]
    axes.plot(numbers, scores, ".", color=BLUE, markersize=9, label=caption("finished"))
    axes.step(numbers, np.maximum.accumulate(scores), where="post", color=ORANGE, label=caption("the best so far"))
    for status, mark, color in (("pruned", "|", GREY), ("failed", "x", ORANGE)):
        at = [trial.number + 1 for trial in trials if trial.status == status]
        if at:
            label = caption("pruned") if status == "pruned" else caption("failed")
            axes.plot(at, [0.03] * len(at), mark, color=color, transform=axes.get_xaxis_transform(), label=label)
    axes.set_xlabel(caption("trial"))
    axes.set_ylabel(literal(name))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def plot_slices(trials: list[Trial], space: Space, name: str, title: str) -> Figure:
    """Draws the score by each setting, one panel for each; pruned trials are marks at the lower edge.

    Args:
        trials: The trials, in their order: later ones are darker.
        space: The space that was searched.
        name: Name of the score.
        title: The heading.
    """
    across = min(WIDEST, len(space))
    down = -(-len(space) // across)
    figure = Figure(figsize=(3.2 * across, 0.4 + 3 * down), layout="constrained")
    figure.suptitle(literal(title))
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    finished = [trial for trial in trials if trial.status == "finished"]
    pruned = [trial for trial in trials if trial.status == "pruned"]
    for axes, (key, values) in zip(panels, space.items(), strict=False):

        def place(trial: Trial, key=key, values=values) -> float:
            return float(trial.words[key]) if isinstance(values, Range) else values.words.index(trial.words[key])

        shades = 0.3 + 0.7 * np.arange(len(finished)) / max(1, len(finished) - 1)
        axes.scatter(list(map(place, finished)), [trial.score for trial in finished], c=BLUE, s=18, alpha=shades)
        axes.plot(list(map(place, pruned)), [0.02] * len(pruned), "|", color=GREY, transform=axes.get_xaxis_transform())
        if not isinstance(values, Range):
            axes.set_xticks(range(len(values.words)), [literal(word) for word in values.words], fontsize="small")
            axes.set_xlim(-0.5, len(values.words) - 0.5)
        elif values.is_log:
            axes.set_xscale("log")
        axes.set_xlabel(literal(key))
        axes.grid(alpha=0.3)
    for axes in panels[len(space) :]:
        axes.axis("off")
    for row in range(down):
        panels[row * across].set_ylabel(literal(name))
    return figure


def plot_importance(importance: dict[str, float], title: str) -> Figure:
    """Draws the share of the scores' variance that each setting explains.

    Args:
        importance: The shares, 0 to 1, by the settings' names, the largest first.
        title: The heading.
    """
    figure = Figure(figsize=(7, 1.4 + 0.4 * len(importance)), layout="constrained")
    axes = figure.subplots()
    axes.set_title(literal(title))
    names = list(importance)[::-1]
    bars = axes.barh([literal(name) for name in names], [importance[name] for name in names], color=GREEN)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize="small")
    axes.set_xlim(0, 1.1 * max(importance.values()))
    axes.set_xlabel(caption("share of the variance of the finished trials' scores (fANOVA)"))
    return figure
