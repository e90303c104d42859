"""The figure of the log: what each change of a team gained or lost."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pbl.reports.drawing import BLUE, GREY, ORANGE, SMALL, WIDE, literal, set_heading, wrap


def plot_gains(
    labels: Sequence[str],
    gains: Sequence[tuple[float, float, float]],
    title: str,
    axis: str,
    is_open: Sequence[bool],
    remark: str = "",
) -> Figure:
    """Draws what each run gained or lost compared with the run that it came from, the first run on top.

    An interval above 0 is blue, one below 0 orange, one that contains 0 grey.

    Args:
        labels: For each run its name, and what it changed.
        gains: For each run the difference of the two accuracies, -1 to 1, and the bounds of its interval.
        title: The heading.
        axis: What the numbers are.
        is_open: For each run whether it is drawn as an open circle.
        remark: The line below the axis.
    """
    shown = list(zip(labels, gains, is_open, strict=True))
    texts = [literal(wrap(label, 50, 3)) for label, *_ in shown]
    lines = sum(max(2, text.count("\n") + 1) for text in texts)
    figure = Figure(figsize=(WIDE, 1.5 + 0.17 * max(lines, 4)), layout="constrained")
    axes = figure.subplots()
    set_heading(figure, title)
    axes.axvline(0, color=GREY, linewidth=1)
    for row, (_, (difference, low, high), is_hollow) in enumerate(shown):
        colour = BLUE if low > 0 else ORANGE if high < 0 else GREY
        axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=2)
        axes.plot(100 * difference, row, "o", color=colour, markerfacecolor="white" if is_hollow else colour)
    axes.set_yticks(range(len(shown)), texts, fontsize=SMALL)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    figure.supxlabel("\n".join(literal(wrap(line, 110)) for line in (axis, remark)), fontsize=9)
    axes.grid(alpha=0.3, axis="x")
    return figure
