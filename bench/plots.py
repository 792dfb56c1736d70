"""Cost against the number of jobs, both axes logarithmic."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from run import Row


def draw(rows: "Sequence[Row]", folder: Path) -> None:
    """Write plan-time and plan-memory, each as PNG and SVG."""
    plans = [row for row in rows if row.group == "no-op plan"]
    # The same figures give the same bytes.
    mpl.rcParams.update({"svg.hashsalt": "reconciler", "svg.fonttype": "none"})
    values: Mapping[str, tuple[str, Callable[[Row], float]]] = {
        "plan-time": ("seconds", lambda row: row.timing.wall_s),
        "plan-memory": ("MB at most", lambda row: row.timing.peak_bytes / 2**20),
    }
    for name, (label, value) in values.items():
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        for case in dict.fromkeys(row.name for row in plans):
            own = [row for row in plans if row.name == case]
            style = {"linewidth": 2.5} if case.startswith("reconciler") else {"linewidth": 1, "linestyle": "--"}
            axes.plot([row.jobs for row in own], [value(row) for row in own], marker="o", label=case, **style)
        axes.set(xscale="log", yscale="log", xlabel="jobs", ylabel=label, title="A plan with nothing to do")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize="small")
        for ending, more in (("png", {"Software": None}), ("svg", {"Date": None})):
            figure.savefig(folder / f"{name}.{ending}", dpi=120, metadata=more)
        plt.close(figure)
