"""Augmentation of one strip: bent, turned, scaled, cut off; another coil, contrast, curve of grey values, noise."""

import cv2
import numpy as np

from modic.imaging.spine_strip import COLUMNS
from modic.phantom.masks import UNKNOWN
from modic.train.data.endplate_strips import StripSample

View = tuple[np.ndarray, np.ndarray, np.ndarray]


def view_of(sample: StripSample, rng: np.random.Generator, *, rows: int) -> View:
    """Image float32 (rows, COLUMNS) ≥ 0, labels uint8 alike, and rhythm float32 (rows,) of a random view."""
    x, y = _map(sample.image.shape, rng, rows)
    image = cv2.remap(sample.image, x, y, cv2.INTER_LINEAR, borderValue=0)
    labels = cv2.remap(sample.labels, x, y, cv2.INTER_NEAREST, borderValue=UNKNOWN)
    rhythm = np.interp(y[:, COLUMNS // 2], np.arange(len(sample.rhythm)), sample.rhythm)
    step = np.gradient(sample.rhythm).mean()
    beyond = y[:, COLUMNS // 2] - np.clip(y[:, COLUMNS // 2], 0, len(sample.rhythm) - 1)
    rhythm = rhythm + beyond * step + _slow(rng, rows, 0.05)
    _cut(image, labels, rng)
    return _intensity(image, rng), labels, rhythm.astype(np.float32)


def _map(shape: tuple[int, ...], rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in the strip each pixel of the view comes from: turned ± 8 degrees, scaled by 15 %, moved and bent."""
    centre = (rng.uniform(0.25, 0.75) * shape[0], (shape[1] - 1) / 2 + rng.normal(0, 2.5))
    scale = np.exp(rng.uniform(-0.15, 0.15)) * np.exp(rng.uniform(-0.06, 0.06, 2))
    angle = np.deg2rad(rng.uniform(-8, 8) if rng.random() < 0.7 else 0.0)
    v, u = np.meshgrid(np.arange(rows) - rows / 2, np.arange(COLUMNS) - (COLUMNS - 1) / 2, indexing="ij")
    u = u * scale[0] + _slow(rng, rows, 2.5)[:, None]
    v = v * scale[1]
    x = centre[1] + u * np.cos(angle) - v * np.sin(angle)
    y = centre[0] + u * np.sin(angle) + v * np.cos(angle) + 0.04 * rng.normal() * u
    return x.astype(np.float32), y.astype(np.float32)


def _slow(rng: np.random.Generator, rows: int, size: float) -> np.ndarray:
    """A smooth random curve (rows,) of this standard deviation."""
    knots = rng.normal(0, size, 5)
    return np.interp(np.arange(rows), np.linspace(0, rows - 1, 5), knots)


def _cut(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    """In place: the border of the image now and then lies within the view."""
    if rng.random() < 0.2:
        edge = int(rng.uniform(0, 0.35) * len(image))
        part = slice(0, edge) if rng.random() < 0.6 else slice(len(image) - edge, None)
        image[part], labels[part] = 0, 0
    if rng.random() < 0.1:
        edge = int(rng.uniform(0, 0.3) * image.shape[1])
        image[:, :edge], labels[:, :edge] = 0, 0


def _intensity(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Receive field, blur, grey values, noise, gamma; the network's own scaling follows."""
    height, width = view.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    a, b, c = rng.normal(0, 0.3, 3).astype(np.float32)
    view = view * np.exp(a * x + b * y + c * x * y)
    if rng.random() < 0.3:
        view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.4, 1.2))
    view = _tone(_dark_vertebra(view, rng), rng)
    size = rng.uniform(0, 0.05 if rng.random() < 0.8 else 0.12)
    noise = size * rng.standard_normal((2, height, width), dtype=np.float32)
    return np.hypot(view + noise[0], noise[1]).astype(np.float32) ** np.float32(rng.uniform(0.6, 1.6))


def _dark_vertebra(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Now and then a band of rows is darker or brighter: a vertebra whose marrow is unlike that of the others."""
    if rng.random() > 0.25:
        return view
    middle, half = rng.uniform(0, len(view)), rng.uniform(8, 28)
    band = 1 / (1 + np.exp((np.abs(np.arange(len(view)) - middle) - half) / 1.5))
    columns = np.abs(np.arange(view.shape[1]) - view.shape[1] / 2) < rng.uniform(15, 26)
    factor = np.exp(rng.normal(0, 0.5))
    return (view * (1 + (factor - 1) * band[:, None] * columns)).astype(np.float32)


def _tone(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A contrast that no sequence gave: bright and dark exchanged, or a curve that rises and falls."""
    kind = rng.random()
    if kind > 0.4:
        return view
    unit = np.clip(view / max(float(np.percentile(view, 99.5)), 1e-6), 0, 1)
    if kind < 0.12:
        return np.where(unit > 0.03, 1.03 - unit, unit).astype(np.float32)
    knots = np.concatenate([[0.0], rng.random(4)])
    return np.interp(unit, np.linspace(0, 1, 5), knots).astype(np.float32)
