"""Learning curves and reliability diagrams as small pictures, drawn with OpenCV."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from modic.files import write_whole

INK, GREY, GRID = (40, 40, 40), (120, 120, 120), (225, 225, 225)
BLUE, ORANGE = (176, 114, 31), (20, 107, 222)  # BGR
FONT, TEXT, PAD = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 8


@dataclass(frozen=True, eq=False)
class Plot:
    """Axes on a picture."""

    image: np.ndarray  # uint8 (rows, columns, 3), BGR, drawn on in place
    frame: tuple[int, int, int, int]  # left, top, right, bottom, px
    x: tuple[float, float]  # limits of the data
    y: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[int, int]:
        """Pixel (column, row) of a point."""
        left, top, right, bottom = self.frame
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return round(left + across * (right - left)), round(bottom - up * (bottom - top))

    def line(self, x: Any, y: Any, colour: tuple[int, int, int], *, dots: bool = True, thick: int = 2) -> None:
        """Draw a line through the points, in their order."""
        points = [self.place(float(a), float(b)) for a, b in zip(x, y, strict=True)]
        for a, b in pairwise(points):
            cv2.line(self.image, a, b, colour, thick, cv2.LINE_AA)
        for point in points if dots else ():
            cv2.circle(self.image, point, 4, colour, -1, cv2.LINE_AA)


def blank(width: int, height: int) -> np.ndarray:
    """A white picture."""
    return np.full((height, width, 3), 255, np.uint8)


def axes(
    image: np.ndarray, frame: tuple[int, int, int, int], x: tuple[float, float], y: tuple[float, float], *,
    labels: tuple[str, str], title: str = "", whole: bool = False,
) -> Plot:  # fmt: skip
    """Draw frame, grid, ticks and labels; `whole`: ticks of x are whole numbers."""
    plot = Plot(image, frame, x, y)
    left, top, right, bottom = frame
    for value in ticks(*x, whole=whole):
        column, _ = plot.place(value, y[0])
        cv2.line(image, (column, top), (column, bottom), GRID, 1)
        text(image, f"{value:g}", (column, bottom + 18), across=0.5)
    for value in ticks(*y):
        _, row = plot.place(x[0], value)
        cv2.line(image, (left, row), (right, row), GRID, 1)
        text(image, f"{value:g}", (left - PAD, row + 5), across=1.0)
    cv2.rectangle(image, (left, top), (right, bottom), GREY, 1)
    text(image, labels[0], ((left + right) // 2, bottom + 42), across=0.5)
    text(image, labels[1], (left - 45, top - 14))
    text(image, title, ((left + right) // 2, top - 36), across=0.5)
    return plot


def text(
    image: np.ndarray, words: str, at: tuple[int, int], *, across: float = 0.0, colour: tuple[int, int, int] = INK
) -> None:
    """Write one line of ASCII. `across`: 0 starts it at `at`, 0.5 centres it there, 1 ends it there."""
    (width, _), _ = cv2.getTextSize(words, FONT, TEXT, 1)
    cv2.putText(image, words, (round(at[0] - across * width), at[1]), FONT, TEXT, colour, 1, cv2.LINE_AA)


def ticks(low: float, high: float, *, most: int = 8, whole: bool = False) -> list[float]:
    """Round numbers between `low` and `high`, at most about `most`."""
    rough = max((high - low) / most, 1e-9)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(float(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    return [round(i * step, 10) for i in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]


def learning_curve(history: list[dict[str, Any]]) -> np.ndarray:
    """Training and validation loss over epochs, the best epoch marked; uint8 (480, 760, 3)."""
    epochs = [row["epoch"] for row in history]
    losses = [[row[name] for row in history] for name in ("loss", "validation_loss")]
    low, high = min(map(min, losses)), max(map(max, losses))
    room = 0.08 * (high - low) or 0.1
    image = blank(760, 480)
    x, y = (min(epochs) - 0.5, max(epochs) + 0.5), (low - room, high + room)
    plot = axes(image, (80, 60, 730, 410), x, y, labels=("epoch", "loss"), whole=True)
    best = max(row["epoch"] for row in history if row["best"])
    cv2.line(image, plot.place(best, y[0]), plot.place(best, y[1]), GREY, 1, cv2.LINE_AA)
    for values, colour in zip(losses, (BLUE, ORANGE), strict=True):
        plot.line(epochs, values, colour)
    text(image, "training", (250, 28), colour=BLUE)
    text(image, "validation", (350, 28), colour=ORANGE)
    text(image, f"| kept: epoch {best}", (465, 28), colour=GREY)
    return image


def save_png(path: Path, image: np.ndarray) -> Path:
    """Write a picture that appears whole; returns `path`."""
    return write_whole(path, cv2.imencode(".png", image)[1].tobytes())


def reliability_diagram(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, *, title: str, note: str = ""
) -> np.ndarray:
    """For each Modic type that occurs, the share of discs of that type against the predicted probability.

    Args:
        before, after: probabilities before and after the temperature, float (n, 3).
        labels: int (n,).
        note: written under the picture.

    Returns:
        uint8 (rows, columns, 3), BGR.
    """
    from modic.statistics.metrics import reliability

    present = np.unique(labels).tolist()
    image = blank(70 + 400 * len(present), 520)
    for place, k in enumerate(present):
        left = 70 + 400 * place
        of = f"MC{k} ({int((labels == k).sum())} of {len(labels)} discs)"
        frame = (left, 90, left + 320, 410)
        plot = axes(image, frame, (0, 1), (0, 1), labels=("probability", "share true"), title=of)
        plot.line((0, 1), (0, 1), GREY, dots=False, thick=1)
        for p, colour in ((before, BLUE), (after, ORANGE)):
            mean, share, _ = zip(*reliability(p[:, k], labels == k), strict=True)
            plot.line(mean, share, colour)
    text(image, title, (70, 28))
    text(image, "before temperature", (270, 28), colour=BLUE)
    text(image, "after", (430, 28), colour=ORANGE)
    text(image, note, (70, 500))
    return image
