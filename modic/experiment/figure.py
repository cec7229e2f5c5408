"""The paper's Figure 2 as SVG: box plots by normalization, the paper's means, and the differences that hold."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modic.experiment import published
from modic.experiment.findings import metric_name
from modic.experiment.results import FALLS, SURVIVES, Results
from modic.grades import GRADES
from modic.statistics.metrics import Key

WIDTH, HEIGHT, GAP, TOP, FLOOR = 250, 330, 20, 34, 28
BRACKET = 15  # px between the brackets of two pairs


@dataclass(frozen=True, slots=True)
class Box:
    """One box plot (Tukey 1977): whiskers reach to the last fold within 1.5 interquartile ranges."""

    name: str
    low: float  # end of the lower whisker
    q1: float
    median: float
    q3: float
    high: float  # end of the upper whisker
    mean: float
    outside: tuple[float, ...]  # folds beyond the whiskers
    paper: float | None  # the paper's mean


def box(name: str, values: np.ndarray, papers: float | None) -> Box:
    """The box plot of a metric's values over folds (n,)."""
    q1, median, q3 = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (q3 - q1)
    inside = values[(values >= q1 - reach) & (values <= q3 + reach)]
    outside = tuple(float(v) for v in values if v not in inside)
    return Box(
        name, float(inside.min()), float(q1), float(median), float(q3), float(inside.max()), float(values.mean()),
        outside, papers,
    )  # fmt: skip


def panel(results: Results, key: Key) -> dict[str, Any]:
    """What the template draws for one metric; places in px within the panel."""
    design = results.study.design
    papers_key = ("F1", "not defined") if key == ("F1", "weighted") else key
    boxes = [
        box(name, results.values(name, key), published.RESULTS[name].get(papers_key)) for name in design.normalizations
    ]
    rows = [r for r in results.comparisons if (r["metric"], r["which"]) == key and r["verdict"] in (SURVIVES, FALLS)]
    rows.sort(key=lambda r: abs(design.normalizations.index(r["a"]) - design.normalizations.index(r["b"])))
    top = TOP + BRACKET * len(rows) + 8
    every = [v for b in boxes for v in (b.low, b.high, b.mean, *b.outside, *((b.paper,) if b.paper else ()))]
    low, high = max(0.0, min(every) - 0.02), min(1.0, max(every) + 0.02)
    step = (WIDTH - 40) / len(boxes)
    places = {b.name: 40 + step * (i + 0.5) for i, b in enumerate(boxes)}

    def y(value: float) -> float:
        return top + (HEIGHT - FLOOR - top) * (high - value) / (high - low)

    return {
        "title": metric_name(*key), "boxes": boxes, "x": places, "y": y, "half": 0.28 * step,
        "ticks": ticks(low, high), "bottom": HEIGHT - FLOOR,
        "brackets": [
            {"a": places[r["a"]], "b": places[r["b"]], "y": TOP + BRACKET * (i + 1), "holds": r["verdict"] == SURVIVES,
             "stars": stars(r["p_corrected_holm"] if r["verdict"] == SURVIVES else min(r["p_t"], r["p_wilcoxon"]))}
            for i, r in enumerate(rows)
        ],
    }  # fmt: skip


def stars(p: float) -> str:
    """The stars of a p-value in a figure."""
    return "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else "n.s."


def ticks(low: float, high: float) -> list[float]:
    """Round values within the limits, eight at most."""
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / s <= 8)
    return [round(k * step, 2) for k in range(int(np.ceil(low / step)), int(high / step) + 1)]


def figure(results: Results) -> str:
    """One SVG with a panel for each of the paper's metrics; it fits a page and needs nothing else."""
    from modic.templates.render import template

    keys: list[Key] = [("sensitivity", GRADES[k]) for k in results.study.classes]
    keys += [("balanced accuracy", "all"), ("F1", "weighted")]
    columns = 3
    lines = -(-len(keys) // columns)
    panels = [
        panel(results, key)
        | {"left": (i % columns) * (WIDTH + GAP), "top": (i // columns) * (HEIGHT + GAP), "width": WIDTH}
        for i, key in enumerate(keys)
    ]
    size = {"width": columns * (WIDTH + GAP), "height": lines * (HEIGHT + GAP) + 30}
    text: str = template("boxplots.svg").render(panels=panels, **size)
    return text
