"""What `modic adapt` found out: one record, for the folder's files (site.py) and for its page (page.py)."""

from dataclasses import dataclass

import numpy as np

from modic.adapt.grader import Adapted, Shipped
from modic.adapt.proof import Compared, Judged
from modic.adapt.site_data import SiteData
from modic.statistics.drift import Baseline, Drift


@dataclass(frozen=True, eq=False)
class Site:
    """Everything that `modic adapt` found out, for its files and its page."""

    data: SiteData
    shipped: Shipped
    adapted: Adapted
    before: Judged
    after: Judged
    compared: list[Compared]
    baseline: Baseline | None  # None: the network gives no features
    drift: list[Drift]
    shares: np.ndarray  # of types in the cohort, by label shift
    base_id: str
