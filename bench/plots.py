"""Plot the cost against the number of jobs, with two logarithmic axes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from timing import Row


def draw(rows: "Sequence[Row]", title: str, label: str, value: "Callable[[Row], float]", path: Path) -> None:
    """Write a plot to `path`.png and .svg, one line for each name; the same rows give the same bytes.

    `value` returns the figure of a row.
    """
    mpl.rcParams.update({"svg.hashsalt": "reconciler", "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(10, 5), layout="constrained")
    for case in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == case]
        style = {"linewidth": 2.5} if case.startswith("reconciler") else {"linewidth": 1, "linestyle": "--"}
        axes.plot([row.jobs for row in own], [value(row) for row in own], marker="o", label=case, **style)
    axes.set(xscale="log", yscale="log", xlabel="jobs", ylabel=label, title=title)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for ending, more in (("png", {"Software": None}), ("svg", {"Date": None})):
        figure.savefig(path.with_suffix(f".{ending}"), dpi=120, metadata=more)
    plt.close(figure)
