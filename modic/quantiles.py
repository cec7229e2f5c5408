"""Quantiles of many small sets of numbers at once, where numpy takes a function call for each of them."""

import numpy as np


def medians(values: np.ndarray) -> np.ndarray:
    """Median over the last axis of what is not NaN, as `np.nanmedian`; NaN where everything is."""
    return quantiles(values, 0.5)


def quantiles(values: np.ndarray, share: float) -> np.ndarray:
    """One quantile over the last axis of what is not NaN, as `np.nanquantile`; NaN where everything is.

    Args:
        values: floating point (…, n), n > 0.
        share: 0-1; linear between the two nearest.
    """
    rows = np.sort(values, -1).reshape(-1, values.shape[-1])  # NaN come last
    place = share * (np.count_nonzero(~np.isnan(rows), axis=1) - 1).clip(0)
    low, each = place.astype(int), np.arange(len(rows))
    below, above = rows[each, low], rows[each, np.ceil(place).astype(int)]
    result: np.ndarray = (below + (above - below) * (place - low)).astype(values.dtype).reshape(values.shape[:-1])
    return result


def patches(image: np.ndarray, *sides: np.ndarray) -> np.ndarray:
    """The pixels within each rectangle: (n, pixels of the largest), filled up with NaN. At least one pixel each.

    Args:
        image: floating point (rows, columns).
        sides: first and last row, first and last column, (n,) each, fractional; both ends belong to the rectangle.
    """
    last = np.array(image.shape).repeat(2)[:, None] - 1
    top, bottom, left, right = np.clip(np.rint(np.stack(sides)), 0, last).astype(int)
    bottom, right = np.maximum(bottom, top), np.maximum(right, left)
    rows = top[:, None] + np.arange((bottom - top).max() + 1)
    columns = left[:, None] + np.arange((right - left).max() + 1)
    there = (rows <= bottom[:, None])[:, :, None] & (columns <= right[:, None])[:, None]
    values = image[rows.clip(max=last[0])[:, :, None], columns.clip(max=last[2])[:, None]]
    return np.where(there, values, np.nan).astype(image.dtype).reshape(len(top), -1)
