"""Quantiles of many small sets of numbers at once, which numpy takes one function call each for."""

import numpy as np


def medians(values: np.ndarray) -> np.ndarray:
    """Median over the last axis of what is not NaN, as `np.nanmedian`; NaN if everything is."""
    return quantiles(values, 0.5)


def quantiles(values: np.ndarray, share: float) -> np.ndarray:
    """One quantile over the last axis of what is not NaN, as `np.nanquantile`; NaN if everything is.

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
