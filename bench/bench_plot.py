"""The bench's curve as a PNG: CPU-ms per call-second against the number of calls."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from bench_report import Results

matplotlib.use("Agg")  # no screen is needed
from matplotlib import pyplot  # after the line above

# Told apart by colour-blind readers too: Okabe and Ito's palette
_COLOURS = ("#D55E00", "#009E73", "#0072B2", "#CC79A7", "#56B4E9", "#7F7F7F", "#E69F00")


def draw(results: Results, file: Path) -> None:
    """Draw the cases that were carried; where a peer was over its limit its curve ends."""
    counts = sorted({case.calls for case in results.cases})
    figure, axes = pyplot.subplots(figsize=(9, 5.2), dpi=120)
    for colour, (peer, title) in zip(_COLOURS, results.titles.items(), strict=False):
        cases = [results.case(peer, calls) for calls in counts]
        points = [(case.calls, case.cpu_ms) for case in cases if case and case.carried]
        if not points:
            continue
        mine = peer == results.ours
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            label=title,
            marker="o",
            markersize=7 if mine else 5,
            linewidth=3 if mine else 1.6,
            zorder=3 if mine else 2,
        )
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xticks(counts, [str(calls) for calls in counts])
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda y, _: f"{y:g}"))
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200) if low <= tick <= high]
    axes.set_yticks(ticks)
    axes.set_xlabel("calls at once, on one worker")
    axes.set_ylabel("CPU-ms per call-second")
    axes.set_title("What a second of one call costs (10 ms: 100 calls on a core)")
    axes.grid(True, color="#DDDDDD")
    if axes.lines:
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)
