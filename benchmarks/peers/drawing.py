"""Draws the comparison as bars, on white and on a dark page alike."""

import statistics
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.peers.contenders import OURS, UNTRACKED
from benchmarks.peers.disciplines import DISCIPLINES, Figures

# Legible on white and on black, as the page may be either.
_TEXT = "#7a7f87"
_OURS = "#d9822b"
_OTHERS = "#5b8db8"


def draw(path: Path, told: dict[str, Figures]) -> None:
    """Draw the medians of all contenders.

    Args:
        path: The SVG file to write.
        told: The figures by broker.
    """
    panels = [(broker, name, figures) for broker, by_name in told.items() for name, figures in by_name.items()]
    heights = [len(figures) + 2.2 for _, _, figures in panels]
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(7, sum(heights) * 0.27), layout="constrained")
        axes = figure.subplots(len(panels), 1, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
        for axis, (broker, name, figures) in zip(axes, panels, strict=True):
            discipline = DISCIPLINES[name]
            names = [*figures][::-1]
            medians = [statistics.median(figures[one]) for one in names]
            colours = [_OURS if one in {OURS.label, UNTRACKED.label} else _OTHERS for one in names]
            bars = axis.barh(names, medians, color=colours, height=0.7)
            digits = 1 if discipline.unit == "ms" else 0
            axis.bar_label(bars, [f" {median:,.{digits}f}" for median in medians], color=_TEXT)
            better = "more" if discipline.more_is_better else "less"
            title = f"{broker}: {discipline.label} ({discipline.unit}, {better} is better)"
            axis.set_title(title, loc="left", fontsize=10, color=_TEXT)
            axis.tick_params(length=0, colors=_TEXT)
            axis.set_xticks([])
            axis.set_xlim(0, max(medians) * 1.15)
            axis.spines[:].set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None})
