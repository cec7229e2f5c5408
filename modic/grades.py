"""The Modic types, once: their names, their columns, their count."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


CLASSES = 3


GRADES = ("MC0", "MC1", "MC2")
PARTS = {**{grade: (k,) for k, grade in enumerate(GRADES)}, "MC1 or MC2": (1, 2)}
"""What a prevalence is of → the grades that count."""

P = ["p_mc0", "p_mc1", "p_mc2"]
