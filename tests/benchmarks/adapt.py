"""Is an adapted grader ever worse than the shipped one, and does coverage come back? On made-up sites of known truth.

    python tests/benchmarks/adapt.py [SITES] [FIRST_SEED]

A disc's logits are those of a calibrated grader with noise that discs of a patient share in part. A quarter of the
sites are as in training; the others mistake types for each other (shift, normal with SD 0.8), are sharper or blurred
(temperature), and half of these have features that tell more than the logits do. Readers err in 3 %. The readings
(50, 100, 200 or 400, in turn) are drawn evenly over the shipped grader's answers, as `modic review --by grade` does,
and weighted. Every site is judged on 6,000 further discs: log loss and coverage with the types counted alike.
"""

import sys

import numpy as np

from modic.adapt.grader import Adapted, Shipped, adapt, graded
from modic.adapt.site_data import Group
from modic.adapt.update import SHIPPED, Discs, fit, losses
from modic.statistics.calibration import conformal_quantiles

TEMPERATURE, ALPHA, WIDTH, JUDGED = 0.7, 0.2, 64, 6000
READINGS = (50, 100, 200, 400)


def discs_of(rng: np.random.Generator, n: int, site: dict[str, np.ndarray | float], first: int = 0) -> Group:
    """`n` discs, five a patient."""
    patients = first + np.arange(n) // 5
    labels = rng.choice(3, n, p=np.asarray(site["types"]))
    own = rng.normal(scale=0.5, size=(n // 5 + 1, 3))[np.arange(n) // 5]
    noise = np.sqrt(1 - 0.25) * rng.normal(size=(n, 3)) + own
    logits = (noise + np.eye(3)[labels] / TEMPERATURE) * float(site["scale"]) + site["shift"]
    features = rng.normal(size=(n, WIDTH))
    features[:, :3] += float(site["told"]) * np.eye(3)[labels]
    discs = Discs(logits, features.astype(np.float16), labels, patients, np.ones(n), np.ones(n))
    same = np.array(["all"] * n)
    return Group(discs, same, same, same, np.zeros(n, int), (None,) * n)


def site_of(rng: np.random.Generator, number: int) -> dict[str, np.ndarray | float]:
    """What is special about a site."""
    types = rng.dirichlet((6, 1.5, 3))
    if number % 4 == 0:
        return {"types": types, "shift": np.zeros(3), "scale": 1.0, "told": 0.0}
    return {
        "types": types, "shift": rng.normal(scale=0.8, size=3), "scale": float(np.exp(rng.normal(scale=0.25))),
        "told": float(number % 2),
    }  # fmt: skip


def sampled(rng: np.random.Generator, group: Group, p: np.ndarray, shipped: Shipped, n: int) -> Group:
    """Readings drawn evenly over the shipped grader's answers."""
    answers, _ = graded(group, p, shipped.quantiles)
    chosen, weights = [], []
    for answer in (-1, 0, 1, 2):
        of = np.flatnonzero(answers == answer)
        take = min(len(of), n // 4)
        if take:
            chosen += rng.choice(of, take, replace=False).tolist()
            weights += [len(of) / take] * take
    read = group.some(np.array(chosen))
    wrong = rng.random(len(read)) < 0.03
    labels = np.where(wrong, rng.integers(0, 3, len(read)), read.discs.labels)
    d = read.discs
    discs = Discs(d.logits, d.features, labels, d.patients, np.array(weights), d.shares)
    return Group(discs, read.levels, read.scanners, read.fields, read.years, read.marrow)


def judged(group: Group, adapted: Adapted | None, shipped: Shipped) -> tuple[float, np.ndarray, float]:
    """Log loss, coverage of each type, share of discs without a grade: of an adapted grader, or of the shipped one."""
    discs = group.discs
    update = adapted.update if adapted else fit(SHIPPED, discs, shipped.temperature)
    p = update.p(discs.logits, discs.features)
    grades, held = graded(group, p, adapted.quantiles if adapted else shipped.quantiles)
    of = [discs.labels == k for k in range(3)]
    loss = losses(p, discs.labels)
    return float(np.mean([loss[k].mean() for k in of])), np.array([held[k].mean() for k in of]), (grades < 0).mean()


def main() -> None:
    sites = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    at_home = {"types": np.full(3, 1 / 3), "shift": np.zeros(3), "scale": 1.0, "told": 0.0}
    home = discs_of(np.random.default_rng(99), 20_000, at_home).discs
    p = fit(SHIPPED, home, TEMPERATURE).p(home.logits, home.features)
    shipped = Shipped(TEMPERATURE, np.array(conformal_quantiles(p, home.labels, alpha=ALPHA)), ALPHA)
    rows = []
    for number in range(first, first + sites):
        rng = np.random.default_rng(number)
        site, n = site_of(rng, number), READINGS[number // 4 % 4]
        archive = discs_of(rng, 3000, site)
        before = fit(SHIPPED, archive.discs, TEMPERATURE).p(archive.discs.logits, archive.discs.features)
        read = sampled(rng, archive, before, shipped, n)
        adapted = adapt(read, shipped)
        test = discs_of(rng, JUDGED, site, first=10**6)
        old, new = judged(test, None, shipped), judged(test, adapted, shipped)
        counts = np.bincount(read.discs.labels, minlength=3)
        rows.append((number % 4 == 0, n, adapted.choice.kind.name, old, new, counts))
    show(rows)


def show(rows: list[tuple[bool, int, str, tuple, tuple, np.ndarray]]) -> None:
    worse = [new[0] - old[0] for *_, old, new, _ in rows if new[0] > old[0] + 1e-9]
    farther = [np.abs(new[1] - 0.8).max() - np.abs(old[1] - 0.8).max() for *_, old, new, _ in rows]
    print(
        f"{len(rows)} sites; log loss worse than shipped in {len(worse)}"
        + (f", at most by {max(worse):.3f}" if worse else "")
    )
    print(
        "coverage of the worst type farther from 80 % than shipped, by over 4 points, in"
        f" {sum(f > 0.04 for f in farther)}"
    )
    for as_trained in (True, False):
        print("sites as in training" if as_trained else "shifted sites")
        for n in READINGS:
            some = [row for row in rows if row[0] == as_trained and row[1] == n]
            if not some:
                continue
            taken = {name: sum(row[2] == name for row in some) for name in sorted({row[2] for row in some})}
            saved = np.mean([row[3][0] - row[4][0] for row in some])
            parts = []
            for k in range(3):
                enough = [row for row in some if row[5][k] >= 20]
                was, now = (np.array([row[i][1][k] for row in enough]) for i in (3, 4))
                if len(enough):
                    parts.append(
                        f"MC{k} {100 * was.mean():.0f}→{100 * now.mean():.1f}"
                        f" (SD {100 * was.std():.0f}→{100 * now.std():.0f})"
                    )
            print(
                f"  {n} readings, {len(some)} sites: {taken}; log loss saved {saved:.3f}; coverage {'; '.join(parts)}"
            )


if __name__ == "__main__":
    main()
