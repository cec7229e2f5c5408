"""What is shipped and the paper's design side by side: `python tests/benchmarks/designs.py SHARED_DATA`.

Both are measured in one run on the same test patients of SPIDER, which neither saw: levels on their slices, grades on
their discs (a disc's boxes are the given ones, or else the shipped detector's). Seconds are CPU time of one core, both
designs in turn on the same synthetic studies, both on the boxes of the shipped detector. Prints the tables of
modic/models/README.md, with the paper's own numbers, which are of other patients.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from modic.experiment import published  # noqa: E402
from modic.models.card import read_card, weights_path  # noqa: E402
from modic.records import LEVELS  # noqa: E402
from modic.statistics.metric_tables import Table, cell, count  # noqa: E402

KINDS = ("detector", "classifier")
STAGES = {"find_levels": "levels", "encode_regions": "classifier", "network_output": "classifier", "explain": "maps"}


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, metavar="SHARED_DATA", help="folder with spider/")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", default="paper", help="`paper` where it is installed, or NAME.safetensors")
    parser.add_argument("--rounds", type=int, default=3, help="of the synthetic studies")
    parser.add_argument("--archive", type=Path, help="DICOM to grade instead of four synthetic studies")
    parser.add_argument("--home", type=Path, help="folder that keeps the boxed slices for a next call")
    parser.add_argument("--studies", type=int, default=4, help="at most")
    parser.add_argument("--only", nargs="+", choices=("size", "speed", "levels", "grades"), help="some of the tables")
    options = parser.parse_args()
    designs = {
        "shipped": dict(zip(KINDS, KINDS, strict=True)),
        "paper's design": {kind: vars(options)[kind] for kind in KINDS},
    }
    with tempfile.TemporaryDirectory() as folder:
        home = options.home or Path(folder)
        makes = {
            "size": lambda: [size(designs)],
            "speed": lambda: [
                speed(
                    designs,
                    pairs_in(options.archive or home / "archive", options.studies),
                    options.rounds,
                    home / "case",
                )
            ],
            "levels": lambda: levels(designs, test_patients(options.shared / "spider", home / "spider")),
            "grades": lambda: grades(designs, test_patients(options.shared / "spider", home / "spider")),
        }
        for name, make in makes.items():
            if name in (options.only or makes):
                print(*(table.markdown() for table in make()), sep="\n", flush=True)


def size(designs: dict[str, dict[str, str]]) -> Table:
    """Parameters and megabytes of every file."""
    from safetensors import safe_open

    rows = []
    for kind in KINDS:
        for unit in ("million numbers", "MB"):
            cells = []
            for names in designs.values():
                path = weights_path(names[kind], kind)
                with safe_open(path, "np") as file:
                    n = sum(file.get_tensor(key).size for key in file.keys())  # noqa: SIM118  (no dictionary)
                cells.append(f"{n / 1e6 if unit != 'MB' else path.stat().st_size / 1e6:.1f}")
            rows.append((f"{kind}, {unit}", *cells))
    return Table("Size", ("", *designs), rows)


def speed(designs: dict[str, dict[str, str]], pairs: list[Any], rounds: int, pictures: Path) -> Table:
    """Median CPU seconds a study of the stages that differ, and of the whole study; both designs in turn.

    Each detector looks for the levels, and the shipped one's are then graded: both classifiers have the same work.
    """
    from modic import pipeline
    from modic.config import Config
    from modic.models.weights import load_models

    models = {name: load_models(names["detector"], names["classifier"], "cpu") for name, names in designs.items()}
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for pair in pairs if number else pairs[:1]:  # the first study warms up
            for name in designs:
                with clocked(pipeline, models["shipped"].detector) as clock:
                    began = time.process_time()
                    result = pipeline.grade_study(pair, models=models[name], config=Config(), pictures=pictures)
                    clock["all of a study"] = time.process_time() - began - clock.pop("given", 0.0)
                assert result.rejected is None, result.rejected
                for stage, seconds in clock.items() if number else ():
                    spent[stage, name].append(seconds)
    rows = []
    for stage in (*dict.fromkeys(STAGES.values()), "all of a study"):
        values = (spent[stage, name] for name in designs)
        rows.append((stage, *(f"{statistics.median(each):.2f}" if each else "–" for each in values)))
    return Table(f"CPU seconds a study, one core, {len(pairs)} studies, {rounds} rounds", ("", *designs), rows)


@contextmanager
def clocked(pipeline: Any, shipped: Any) -> Iterator[dict[str, float]]:
    """CPU seconds of the functions in `STAGES` while the context lasts, by stage; `given`: of the `shipped` detector,
    whose levels take the place of those found."""
    clock: dict[str, float] = defaultdict(float)
    real = {name: getattr(pipeline, name) for name in STAGES}

    def timed(name: str) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            result = real[name](*args, **kwargs)
            done = time.process_time()
            clock[STAGES[name]] += done - began
            if name == "find_levels":
                result = real[name](*args, **kwargs | {"detector": shipped})
                clock["given"] += time.process_time() - done
            return result

        return wrapped

    for name in STAGES:
        setattr(pipeline, name, timed(name))
    try:
        yield clock
    finally:
        for name, function in real.items():
            setattr(pipeline, name, function)


def pairs_in(archive: Path, most: int) -> list[Any]:
    """Pairs of T1 and T2 in `archive`, which is made of complete synthetic studies if it is not there."""
    from modic.archive.crawl import crawl
    from modic.config import Config
    from modic.phantom.archive import write_archive
    from modic.records import Pair
    from modic.series.identify import identify
    from modic.series.pair import pair

    if not archive.exists():
        write_archive(archive, patients=most, broken=False)
    config = Config()
    found = pair(identify(crawl(archive, index=None).headers, options=config.identify), options=config.pair)
    return [one for one in found if isinstance(one, Pair)][:most]


def test_patients(spider: Path, folder: Path) -> Path:
    """SPIDER's slices of the test patients alone, so that nobody else's are looked at, boxed once for all tables."""
    from modic.train.data.spider_slices import boxed_by
    from modic.train.data.split import split_of

    if (folder / "disc_boxes.json").is_file():
        return folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for path in (*spider.glob("*.csv"), *(spider / "images").glob("*.png")):
        copy = folder / path.relative_to(spider)
        if (path.suffix == ".csv" or split_of(path.name.split("_")[0]) == "test") and not copy.exists():
            copy.symlink_to(path.resolve())
    given = json.loads((spider / "disc_boxes.json").read_text())
    own = {key: entry for key, entry in given.items() if split_of(key.split("_")[0]) == "test"}
    (folder / "disc_boxes.json").write_text(json.dumps(boxed_by("detector", folder, own)))
    return folder


def levels(designs: dict[str, dict[str, str]], spider: Path) -> list[Table]:
    """The paper's Table 1: IoU and confidence by level; and names of whole slices and patients."""
    from modic.models.weights import load_detector
    from modic.train.data.spider_slices import load_spider
    from modic.train.data.split import split_of
    from modic.train.detector_results import compare
    from modic.train.evaluate_detector import measure_group

    samples = [one for one in load_spider(spider) if split_of(one.patient) == "test"]
    tables = []
    for title, chosen in (("boxes that were given", [s for s in samples if s.given]), ("all boxes", samples)):
        found = {
            name: measure_group(title, compare(chosen, load_detector(names["detector"])))
            for name, names in designs.items()
        }
        slices, patients = len(chosen), len({one.patient for one in chosen})
        rows = []
        for level, papers in zip(LEVELS, published.TABLE_1, strict=True):
            for metric, printed in zip(("IoU", "confidence"), papers, strict=True):
                rows.append((f"{level}: {metric}", *(cell(each, metric, level) for each in found.values()), printed))
        rows.append(("discs named right", *(cell(each, "named right", "all") for each in found.values()), "–"))
        for unit in ("slices", "patients"):
            for metric in ("all names right", "flagged uncertain", "wrong and not flagged"):
                rows.append((f"{unit}: {metric}", *(cell(each, metric, unit) for each in found.values()), "–"))
        title = f"Levels, {title}: {slices} slices of {patients} test patients"
        tables.append(Table(title, ("", *designs, "the paper, 152 patients of its own"), rows))
    return tables


def grades(designs: dict[str, dict[str, str]], spider: Path) -> list[Table]:
    """The paper's Table 2 and what it does not report, on real discs and with type 1 painted into real discs."""
    from modic.grading.measured import measured_of
    from modic.models.weights import load_classifier
    from modic.train.augment.regions import Stress
    from modic.train.evaluate_classifier import grouped, measure_group
    from modic.train.frozen import with_marrow
    from modic.train.inference import predict

    found: dict[str, dict[str, Any]] = {}
    discs = ""
    for name, names in designs.items():
        card, model = read_card(names["classifier"], "classifier")[0], load_classifier(names["classifier"])
        examples, options = examples_of(card, spider)
        logits = predict(model.net, examples, options, seed=1, stress=Stress())
        logits = with_marrow(logits, examples, measured_of(card["calibration"]))
        found[name] = {
            group: measure_group(group, [examples[i] for i in rows], logits[rows], card["calibration"], Stress())
            for group, rows in grouped(examples).items()
            if group in ("real", "real and painted MC1")
        }
        real = [one for one in examples if one.real]
        counts = ", ".join(f"MC{k} {sum(one.label == k for one in real)}" for k in range(3))
        discs = f"{len(real)} discs of {len({one.disc.patient for one in real})} test patients ({counts})"
    papers = {key: f"{value:.2f}" for key, value in published.RESULTS["standardize"].items()}
    wanted = [*(("sensitivity", f"MC{k}") for k in range(3)), ("balanced accuracy", "all"), ("F1", "weighted"),
              ("ROC AUC", "MC0 vs MC2"), ("calibration error", "all"), ("Brier", "all"), ("coverage", "all"),
              ("abstained", "all"), ("accuracy where not abstained", "all")]  # fmt: skip
    tables = []
    for group in ("real", "real and painted MC1"):
        of = [each.get(group, []) for each in found.values()]
        rows = [
            (f"{metric}{'' if which == 'all' else ', ' + which} ({count(of[0], metric, which)} discs)",
             *(cell(each, metric, which) for each in of),
             papers.get(("F1", "not defined") if metric == "F1" else (metric, which), "–"))
            for metric, which in wanted
        ]  # fmt: skip
        header = ("", *designs, "the paper, 912 patients of its own")
        tables.append(Table(f"Grades, {group}: {discs}", header, rows))
    return tables


def examples_of(card: dict[str, Any], spider: Path) -> tuple[list[Any], Any]:
    """The test examples as the card's classifier sees them, and the options that `predict` needs."""
    from modic.train.data.spider_discs import spider_discs
    from modic.train.options import ClassifierTraining
    from modic.train.sampling import examples_by_part

    segmenter = "endplates" if "marrow" in card["calibration"] else ""
    discs = spider_discs(spider, card["preprocessing"], segmenter=segmenter)
    preprocessing = {name: value for name, value in card["preprocessing"].items() if name != "contrasts"}
    backbone = card["architecture"].get("backbone", "resnet3d")
    options = ClassifierTraining(data=(), out=Path(), backbone=backbone, device="cpu", **preprocessing)
    return examples_by_part(discs)["test"], options


if __name__ == "__main__":
    main()
