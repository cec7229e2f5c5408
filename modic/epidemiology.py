"""Numbers that epidemiologists expect beside a count."""

import math


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval (95 % by default) of a proportion `k / n` of independent units; (0, 1) where `n` is 0.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212. Count patients or one level of each patient: several levels
    of one patient are not independent, and the interval would be too narrow.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no proportion")
    if n == 0:
        return 0.0, 1.0
    p, square = k / n, z * z / n
    middle = (p + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(p * (1 - p) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)
