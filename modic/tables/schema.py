"""The four tables of a cohort: what one row is, and what each column means, in which unit, with which values.

`SCHEMAS` is the contract with everyone who reads a cohort. A column that it does not describe cannot be written. The
descriptions travel in every Parquet file (metadata of the file and of each column) and become the data dictionary
(modic/tables/dictionary.py). Removing or renaming a column, another type, unit or meaning, or a value that is no longer
allowed needs a new SCHEMA_VERSION; a new column or a new value of a closed list does not.

A new column needs its description here and one place that fills it:

    a level's or a study's, from its grading    level_row or study_columns in modic/run/ledger.py
    a study's, from a header                    attributes in modic/run/rows.py
    a series'                                   series_rows in modic/run/rows.py
    a run's                                     run_row in modic/run/manifest.py

It is null in rows of an earlier version, so it must allow null. Then record it, for the tests that watch over the
contract: `python tests/support/schema_snapshot.py` and `modic dictionary > sql/dictionary.md`.
"""

import pyarrow as pa

from modic.errors import Reason
from modic.grades import AbstainedReason, EndplateType, UdbyExtent
from modic.records import LEVELS, NUMBERING_BASES, TRANSITIONAL_REASONS

SCHEMA_VERSION = 1
ROWS = {
    "studies": "one MR study of the archive, graded or not",
    "series": "one stack of images of a study: its contrast, its geometry and whether it was used",
    "levels": "one of the six levels of a graded study; every graded study has all six",
    "runs": "one finished run of the pipeline over the archive",
}
"""What one row of each table is."""

KEYS = {"studies": ("study_key",), "series": ("series_key",), "levels": ("study_key", "level"), "runs": ("run_id",)}
"""The columns that name a row. Tables are published sorted by them, levels from head to foot."""

REFERENCES = {
    ("series", "study_key"): "studies",
    ("levels", "study_key"): "studies",
    ("studies", "t1_series_key"): "series",
    ("studies", "t2_series_key"): "series",
    ("studies", "stir_series_key"): "series",
}
"""Table and column → the table whose key it holds. Not run_id: a killed run leaves rows, but none in runs."""

TEXT, COUNT, REAL, BYTE = pa.string(), pa.int64(), pa.float32(), pa.int8()
SHARE = (0, 1)


def _column(
    name: str,
    kind: pa.DataType,
    description: str,
    *,
    null: bool = True,
    unit: str = "",
    span: tuple[float, float | None] | None = None,
) -> pa.Field:
    """`unit`: "" if the column is no quantity; `span`: smallest and largest value that make sense."""
    metadata = {"description": description, "unit": unit}
    if span:
        metadata |= {k: str(v) for k, v in zip(("minimum", "maximum"), span, strict=True) if v is not None}
    return pa.field(name, kind, nullable=null, metadata={k: v for k, v in metadata.items() if v})


def _schema(table: str, columns: list[pa.Field]) -> pa.Schema:
    return pa.schema(columns, metadata={"schema_version": str(SCHEMA_VERSION), "row": ROWS[table]})


def _box(prefix: str, pixels: str, slices: str, null: str = "") -> list[pa.Field]:
    sides = {"x0": "smaller column", "y0": "smaller row", "x1": "larger column", "y1": "larger row"}
    corners = [
        _column(
            f"{prefix}_{corner}",
            REAL,
            f"box of the disc, {side}, in pixels of the {pixels}; 0 is the first pixel's centre{null}",
            unit="pixel",
        )
        for corner, side in sides.items()
    ]
    about = f"slice of the box in the {pixels}, from 0, {slices}{null}"
    return [*corners, _column(f"{prefix}_slice", pa.int32(), about, unit="slice", span=(0, None))]


def _mm_box() -> list[pa.Field]:
    sides = {"x": "+ to the patient's left", "y": "+ to posterior", "z": "+ to the head"}
    return [
        _column(
            f"mm_{axis}{corner}",
            REAL,
            f"corner {corner} of the box on T2, patient coordinates (LPS) in mm, {axis}: {way}",
            unit="mm",
        )
        for corner in (0, 1)
        for axis, way in sides.items()
    ]


def _count(name: str, description: str, unit: str) -> pa.Field:
    return _column(name, COUNT, description, null=False, unit=unit, span=(0, None))


def _length(name: str, description: str) -> pa.Field:
    return _column(name, REAL, description, unit="mm", span=(0, None))


def _time(name: str, description: str) -> pa.Field:
    return _column(name, REAL, description, unit="ms", span=(0, None))


def _share(name: str, description: str) -> pa.Field:
    return _column(name, REAL, description, unit="1", span=SHARE)


ENDPLATES = {
    "upper": "endplate above the disc (lower endplate of the vertebra above)",
    "lower": "endplate below the disc (upper endplate of the vertebra below)",
}


def _endplates() -> list[pa.Field]:
    """The columns of modic.records.ENDPLATE_COLUMNS."""
    fields = []
    for side, endplate in ENDPLATES.items():
        text = (
            f"Modic change at the {endplate}, from mc and the unlike marrow beside it: 0, 1, 2, or 1/2 (mixed: at least"
            " a quarter of that marrow looks like each); null if mc is null, or if at a level with a change it"
            " was not measured or neither endplate shows where the change lies"
        )
        fields.append(_column(f"mc_{side}", TEXT, text))
        text = (
            f"how high the change at the {endplate} reaches into its vertebra (Udby 2022): A under 25 % of the"
            " vertebra's height, B 25 to 50 %, C over 50 %; null without a change there"
        )
        fields.append(_column(f"udby_{side}", TEXT, text))
    return fields


def _marrow() -> list[pa.Field]:
    """The columns of modic.records.MARROW_COLUMNS."""
    fields = []
    for side, endplate in ENDPLATES.items():
        for reference, over in (("", "the same vertebra's own marrow"), ("patient_", "the marrow of all vertebrae")):
            for contrast in ("t1", "t2"):
                text = (
                    f"{contrast.upper()} signal of the marrow beside the {endplate} over {over}; null if not measured"
                )
                name = f"{contrast}_{reference}ratio_{side}"
                fields.append(_column(name, REAL, text, unit="1", span=(0, None)))
        text = (
            f"share of the {endplate} beside which the marrow is unlike that of the vertebra's core, 0-1: T1 differs"
            " from the core's by more than a factor 1.28 (more if the core is uneven) and T2 is not darker than 0.9 of"
            " the core's; null if not measured"
        )
        fields.append(_share(f"extent_{side}", text))
        text = f"how far such marrow reaches from the {endplate}; 0 if the extent is 0; null if not measured"
        fields.append(_column(f"depth_{side}_mm", REAL, text, unit="mm", span=(0, None)))
    return fields


def _stir() -> list[pa.Field]:
    """The columns of modic.records.STIR_COLUMNS."""
    return [
        _column(
            f"stir_ratio_{side}",
            REAL,
            f"STIR signal of the marrow beside the {endplate} over the same vertebra's own marrow, evidence of oedema"
            " (type 1) that the grader of T1 and T2 does not see; null if no STIR fits, or if not measured",
            unit="1",
            span=(0, None),
        )
        for side, endplate in ENDPLATES.items()
    ]


RUN_OF_ROW = _column("run_id", TEXT, "the run whose work this row is (runs.run_id)", null=False)
STUDY = _column("study_key", TEXT, "pseudonym of the study: keyed hash of its UID", null=False)
PATIENT = _column("patient_key", TEXT, "pseudonym of the patient: keyed hash of the patient id", null=False)
MODELS = [
    _column("detector_id", TEXT, "first 12 hex digits of the SHA-256 of the detector's weights", null=False),
    _column("classifier_id", TEXT, "first 12 hex digits of the SHA-256 of the classifier's weights", null=False),
]
GRADER = [
    _column(
        "grading_version",
        pa.int16(),
        "version of the grading's algorithms, which is raised when a change can change a grade; null in rows"
        " that an earlier version of modic published, all of them of grading version 1",
    ),
    _column(
        "grader_id",
        TEXT,
        "first 12 hex digits of a SHA-256 over the cards of all networks and the grading version: rows of one grader_id"
        " are of the same weights, calibration and algorithms; null if graded by an earlier version",
    ),
]

UNLISTED = "`unlisted_` and a keyed hash if the text is not the name of a known scanner"
OLDEST = 90
"""Years from which ages are all alike: so few people are as old that an age could point at one (45 CFR 164.514)."""

ARCHIVE = _column(
    "archive",
    pa.int16(),
    "number of the archive that held it last (of a run: that it read): 1 for the first folder that fed the cohort, 2"
    " for the next; which is which stands in private/archives.json; null in rows that an earlier version published",
    span=(1, None),
)
STUDIES = [
    STUDY,
    PATIENT,
    _column("study_year", pa.int16(), "calendar year of the study", unit="year"),
    _column(
        "days_since_first_study",
        pa.int32(),
        "days since the same patient's first study that this cohort has ever held; 0 for the first",
        unit="day",
        span=(0, None),
    ),
    _column(
        "age_years",
        pa.int16(),
        f"the patient's age at the study in completed years; {OLDEST} means {OLDEST} or older",
        unit="year",
        span=(0, None),
    ),
    _column("sex", TEXT, "F, M or O, as DICOM PatientSex; null if blank"),
    _column("manufacturer", TEXT, f"manufacturer of the scanner; {UNLISTED}"),
    _column("scanner_model", TEXT, f"the manufacturer's name for the scanner model; {UNLISTED}"),
    _column("field_strength_t", REAL, "field strength in tesla", unit="T", span=(0, None)),
    _column(
        "status", TEXT, "graded; excluded (by a rule); or failed (by trouble that a later run may cure)", null=False
    ),
    _column("reason", TEXT, "why not graded, from a closed list; null for graded studies"),
    _column("detail", TEXT, "details of the reason: numbers and DICOM keywords"),
    _column(
        "in_archive",
        pa.bool_(),
        "true if the archive held the study at the last run; false if it has left, its row and levels stay; null in"
        " rows that an earlier version published",
    ),
    ARCHIVE,
    _column("t1_series_key", TEXT, "the T1 series that was graded (series.series_key)"),
    _column(
        "t2_series_key",
        TEXT,
        "the T2 series that was graded (series.series_key); null in a study of T1 and STIR (pairing_rule P13)",
    ),
    _column(
        "stir_series_key",
        TEXT,
        "the STIR series that was measured beside T1 and T2 (series.series_key), or, if t2_series_key is null, graded"
        " in the place of T2; null if there is none that fits, or if graded by an earlier version",
    ),
    _share("overlap_fraction", "share of the T2 stack's extent that the T1 stack also covers, 0-1"),
    _column(
        "pairing_rule",
        TEXT,
        "row of the decision table for pairing (P1-P14) by which the study was paired or excluded",
    ),
    _column(
        "n_levels_graded",
        BYTE,
        "number of levels of this study with status graded, 0-6",
        null=False,
        unit="level",
        span=(0, 6),
    ),
    _column(
        "level_numbering",
        TEXT,
        "ok, or uncertain: the names of the levels may be shifted. They count from below: L5/S1 is the last mobile disc"
        " above the sacrum, which says nothing about a vertebra more or fewer (transitional_suspected); null if not"
        " graded",
    ),
    _share(
        "level_numbering_probability",
        "probability that the names of all levels are right, counted from the last mobile disc above the sacrum, 0-1;"
        " before the transitional columns came, that and the usual number of vertebrae",
    ),
    _column(
        "numbering_basis",
        TEXT,
        "what the names rest on: sacrum (counted from the last mobile disc above it) or looks of the discs (the sacrum"
        " or L5/S1 is not in view, so that names follow from the shape of the discs alone), or count from C2 (the same"
        " names, and on a series of the whole spine L5/S1 is the 23rd disc from C2/C3, as it usually is; the"
        " counter saw phantoms only, and takes no doubt of level_numbering away); warnings says what was counted. Null"
        " if not graded, or graded by an earlier version",
    ),
    _column(
        "transitional_suspected",
        pa.bool_(),
        "true if the patient may have one lumbar vertebra more or fewer than usual, or a transitional L5 or S1: names"
        " count from the last mobile disc all the same; null if the image cannot tell, if not graded, or if graded by"
        " an earlier version",
    ),
    _share("transitional_probability", "probability of what transitional_suspected says, 0-1; null if that is null"),
    _column(
        "transitional_reason",
        TEXT,
        "why: disc more (possibly one lumbar vertebra more than usual); disc fewer (possibly one fewer); sacralized"
        " look (possibly a sacralized L5: the lowest disc found may not be L5/S1); count from above disagrees (names"
        " were counted from a disc below the one that was first taken for L5/S1); count from C2 disagrees (on a"
        " series of the whole spine there are more or fewer than 23 discs from C2/C3 to L5/S1: level_numbering is"
        " uncertain, names are not moved); or sacrum not in view (the image cannot tell, transitional_suspected is"
        " null); null if nothing is suspected",
    ),
    _column(
        "warnings",
        TEXT,
        "warnings about T1, T2, their pairing or the images for the report, separated by `; `; null if none",
    ),
    RUN_OF_ROW,
]
SERIES = [
    _column("series_key", TEXT, "pseudonym of the stack: keyed hash of series UID and stack number", null=False),
    STUDY,
    _column(
        "role",
        TEXT,
        "contrast or kind of the images: t1, t2, stir, t2_fat_suppressed, localizer, …, unknown",
        null=False,
    ),
    _column(
        "role_evidence",
        TEXT,
        "acquisition parameters that decided the role; or what the pixels showed if TR or TE is missing",
    ),
    _column("plane", TEXT, "sagittal, axial, coronal, oblique or unknown", null=False),
    _time("repetition_time_ms", "repetition time TR in ms"),
    _time("echo_time_ms", "echo time TE in ms"),
    _time("inversion_time_ms", "inversion time TI in ms; null without an inversion"),
    _length("pixel_spacing_row_mm", "distance between neighbouring rows in mm"),
    _length("pixel_spacing_column_mm", "distance between neighbouring columns in mm"),
    _length("slice_spacing_mm", "distance between neighbouring slices in mm, measured from their positions"),
    _length("slice_thickness_mm", "thickness of a slice in mm"),
    _column("n_slices", pa.int32(), "number of slices", null=False, unit="slice", span=(0, None)),
    _column(
        "status", TEXT, "used (graded, a STIR measured beside, or a whole spine counted on) or not_used", null=False
    ),
    _column("reason", TEXT, "why not used, from a closed list; null for used series"),
    _column("detail", TEXT, "details of the reason: numbers and DICOM keywords"),
    _column("warnings", TEXT, "warnings about the series, separated by `; `; null if none"),
    RUN_OF_ROW,
]
CALIBRATED = (
    "0-1, calibrated for levels of which each grade makes a third, not for this cohort: its mean is no prevalence"
)
LEVEL_COLUMNS = [
    STUDY,
    PATIENT,
    _column("level", TEXT, f"the disc and both its endplates: {', '.join(LEVELS)}", null=False),
    _column(
        "status",
        TEXT,
        "graded; not_found on T2; or unreadable (found, but no region could be cut from the images)",
        null=False,
    ),
    _column("reason", TEXT, "why not graded, from a closed list; null for graded levels"),
    _column(
        "mc",
        BYTE,
        "Modic change: 0 none, 1 type 1, 2 type 2; null, never 0, if the model abstained or the level was not graded",
        span=(0, 2),
    ),
    _share("p_mc0", f"probability of no Modic change, {CALIBRATED}"),
    _share("p_mc1", f"probability of Modic change type 1, {CALIBRATED}"),
    _share("p_mc2", f"probability of Modic change type 2, {CALIBRATED}"),
    _share("confidence", "the largest of the three probabilities (p_mc0, p_mc1, p_mc2)"),
    _column("prediction_set", pa.list_(BYTE), "grades that cannot be ruled out (conformal prediction); may be empty"),
    _column(
        "abstained",
        pa.bool_(),
        "true if the prediction set is not a single grade, or its grade contradicts the marrow, so that mc is null",
    ),
    _column(
        "abstained_reason",
        TEXT,
        "why it abstained, from a closed list: set.* of the prediction set, marrow.* if the single grade in it"
        " contradicts the marrow measured beside the endplates; null if not abstained, or graded by an earlier version",
    ),
    _share(
        "slice_disagreement",
        "how far the slices of the level, each graded alone, disagree: largest minus smallest probability of the"
        " level's most probable grade, 0 (all alike, or a single slice) to 1; null if not graded, or graded by an"
        " earlier version",
    ),
    _share(
        "level_score",
        "the detector's score of the box under the level's name, 0-1; if names were counted from below, its best score",
    ),
    *_box("t2", "T2 series", "in order of position towards the patient's left", "; null in a study of T1 and STIR"),
    *_box("t1", "T1 series", "in order of position towards the patient's left"),
    *_mm_box(),
    *_marrow(),
    *_stir(),
    *_endplates(),
    _column("normalization", TEXT, "normalization of grey levels that the classifier was trained with"),
    *MODELS,
    *GRADER,
    RUN_OF_ROW,
]
UTC = pa.timestamp("us", tz="UTC")
RUNS = [
    _column("run_id", TEXT, "name of the run; sorts by time", null=False),
    _column("started", UTC, "when the run began", null=False),
    _column("finished", UTC, "when its tables were published", null=False),
    _column("code_version", TEXT, "version of modic", null=False),
    _column("configuration_hash", TEXT, "hash of the options that can change a grade", null=False),
    _column(
        "conformal_thresholds",
        TEXT,
        "JSON list of {alpha, q, wrong}, smallest alpha first: at a risk alpha, grade k (0, 1, 2) is in the prediction"
        " set if 1 minus its probability (p_mc0, p_mc1, p_mc2 of levels) is at most element k of q, counted from 0 (in"
        " DuckDB: q[k + 1]); wrong, where the classifier's card counted it, is the share of sure grades that were wrong"
        " on its patients; null for runs of an earlier version",
    ),
    _share("alpha", "risk of the grades of this run: how often a prediction set may miss the true grade"),
    *MODELS,
    *GRADER,
    _column("device", TEXT, "where the networks ran: cpu, cuda or auto", null=False),
    ARCHIVE,
    _count(
        "files_seen",
        "files in the archive, inside zip and tar files too, = files_read + files_unchanged + files_rejected",
        "file",
    ),
    _count("files_read", "files whose header was read in this run", "file"),
    _count("files_unchanged", "files known from an earlier run and not opened again", "file"),
    _count("files_rejected", "files that are no usable MR images, found in this or an earlier run", "file"),
    _column(
        "files_rejected_by_reason", TEXT, "JSON object: reason → number of files; sums to files_rejected", null=False
    ),
    _count("studies_found", "rows of studies = studies_graded + studies_excluded + studies_failed", "study"),
    _count("studies_graded", "studies with grades, of this or an earlier run", "study"),
    _count("studies_excluded", "studies left out by a rule", "study"),
    _count("studies_failed", "studies without grades because of trouble", "study"),
    _column("studies_by_reason", TEXT, "JSON object: reason → number of studies not graded", null=False),
]
SCHEMAS: dict[str, pa.Schema] = {
    name: _schema(name, columns)
    for name, columns in {"studies": STUDIES, "series": SERIES, "levels": LEVEL_COLUMNS, "runs": RUNS}.items()
}


def _reasons(step: str) -> frozenset[str]:
    return frozenset(str(reason) for reason in Reason if reason.startswith(f"{step}."))


CLOSED: dict[tuple[str, str], frozenset[str]] = {
    ("studies", "status"): frozenset({"graded", "excluded", "failed"}),
    ("studies", "reason"): _reasons("study") | _reasons("series") | _reasons("file"),
    ("studies", "sex"): frozenset({"F", "M", "O"}),
    ("studies", "level_numbering"): frozenset({"ok", "uncertain"}),
    ("studies", "numbering_basis"): frozenset(NUMBERING_BASES),
    ("studies", "transitional_reason"): frozenset(TRANSITIONAL_REASONS),
    ("series", "status"): frozenset({"used", "not_used"}),
    ("series", "reason"): _reasons("series"),
    ("series", "plane"): frozenset({"sagittal", "axial", "coronal", "oblique", "unknown"}),
    ("levels", "level"): frozenset(LEVELS),
    ("levels", "status"): frozenset({"graded", "not_found", "unreadable"}),
    ("levels", "reason"): _reasons("level"),
    ("levels", "abstained_reason"): frozenset(map(str, AbstainedReason)),
    **{("levels", f"mc_{side}"): frozenset(map(str, EndplateType)) for side in ENDPLATES},
    **{("levels", f"udby_{side}"): frozenset(map(str, UdbyExtent)) for side in ENDPLATES},
}
"""Closed lists: table and column → every value it may hold besides null."""
