"""Words of several languages and products: they make a series doubtful, never a T1 or T2."""

from typing import Any

import pytest

from modic.archive.header_values import COLUMNS
from modic.series.contrast import find_contrast

MR = "1.2.840.10008.5.1.4.1.1.4"
TIMES = {
    "t1": {"RepetitionTime": 500.0, "EchoTime": 12.0},
    "t2": {"RepetitionTime": 3500.0, "EchoTime": 100.0, "EchoTrainLength": 17},
}


def contrast(of: str, **values: Any) -> str:
    header = {**dict.fromkeys(COLUMNS), "SOPClassUID": MR, "ScanningSequence": "SE", **TIMES[of], **values}
    return find_contrast(header).contrast


@pytest.mark.parametrize(
    "agent",
    [
        "NO CONTRAST",
        "N/A",
        "n.a.",
        "-",
        "--",
        "none given",
        "No",
        "ohne KM",
        "sans injection",
        "senza mdc",
        "sin contraste",
        "zonder",
        "Keine",
        "not applicable",
        "NIL",
        "0",
        "0 ml",
        "NON",
        "w/o",
        "WITHOUT CONTRAST",
        "native",
        "Contrast: none",
        "Nein",
        "bez kontrastu",
        "なし",
        "无",
        "нет",
        "OFF",
        "unknown",
        ".",
        "?",
    ],
)
def test_denials_of_an_agent_are_none(agent: str) -> None:
    assert contrast("t1", ContrastBolusAgent=agent) == "t1"


@pytest.mark.parametrize(
    "agent", ["Gadovist", "YES", "15 ml Dotarem", "Prohance", "Nonionic Gd", "Omniscan", "KM", "造影剤"]
)
def test_whatever_else_the_element_holds_is_an_agent(agent: str) -> None:
    assert contrast("t1", ContrastBolusAgent=agent) == "t1_post_contrast"
    assert contrast("t2", ContrastBolusAgent=agent) == "t2"


def test_the_ingredient_names_an_agent() -> None:
    assert contrast("t1", ContrastBolusIngredient="GADOLINIUM") == "t1_post_contrast"


@pytest.mark.parametrize(
    "text",
    [
        "T1 SAG mdc",
        "t1_sag_civ",
        "SAG T1 enhanced",
        "T1 + sag",
        "T1+",
        "SAG T1 +",
        "T1 TSE SAG Gd-DTPA",
        "T1 dotarem",
        "sag t1 prohance",
        "SAG T1 Gadavist",
        "T1 après injection",
        "T1 contraste",
        "T1 sag con contraste",
        "T1 KONTRAST",
        "T1 SAG IV",
        "T1 sag W/C",
        "T1 W/WO",
        "T1 nach KM",
        "T1 post",
        "T1 SAG C+",
        "T1 矢状位增强",
        "造影 T1 SAG",
        "T1 сагиттальная с КУ",
        "T1 조영",
        "T1 SAG CE",
        "T1_omniscan",
        "t1 mit kontrastmittel",
        "T1 postcontrast",
        "T1 FS",
        "T1 dixon W",
        "SAG T1_POSTGD",
        "T1postKM",
        "T1 sag con inyección",
        "T1 po podaniu",
        "SAG T1 W/",
        "T1 증강",
        "T1 بعد الصبغة",
        "T1 με σκιαγραφικό",
        "T1 kontrastlı",
        "T1 opp",
        "T1 sag OUT OF PHASE",
    ],
)
def test_words_that_make_a_t1_doubtful(text: str) -> None:
    assert contrast("t1", SeriesDescription=text) == "unknown"


@pytest.mark.parametrize(
    "text",
    [
        "SAG T1",
        "t1_tse_sag",
        "T1 unenhanced",
        "T1 non-enhanced",
        "T1 pre contrast",
        "T1 ohne KM",
        "T1 senza mdc",
        "T1 sin contraste",
        "T1 sans gado",
        "T1 C-",
        "T1 sag without fat sat",
        "T1 SAG POST-OP",
        "T1 SAG L-SPINE",
        "SAG T1 FSE",
        "T1 W SAG",
        "T1+T2 SAG",
        "T1 noncontrast",
        "T1 precontrast",
        "T1 平扫",
        "T1 без контраста",
        "SPINE T1 VOR KM",
        "T1 mt off",
        "T1 sin inyección",
        "T1 kontrastsız",
        "T1 KONTRASTSIZ",
        "T1 造影前",
        "T1 조영 전",
        "T1 χωρίς σκιαγραφικό",
        "T1 بدون صبغة",
        "T1 posterior sat",
        "T1 sag w/ pad",
        "矢状位 T1",
        "T1 SAG 5 cm",
        "Sag T1 lumbar stitched",
        "WS LWS sag T1",
        "colonne lombaire sag T1",
    ],
)
def test_words_that_leave_a_t1_what_it_is(text: str) -> None:
    assert contrast("t1", SeriesDescription=text) == "t1"


@pytest.mark.parametrize(
    "text",
    [
        "T2 IDEAL SAG",
        "WATER: SAG T2 FLEX",
        "dixon_sag_W",
        "t2_tse_dixon_sag_W",
        "T2 FATSUP",
        "T2 ASPIR",
        "T2 PROSET",
        "T2 PASTA",
        "T2 SPAIR",
        "T2 mDIXON",
        "T2 WATS",
        "T2 f.s.",
        "T2 fat suppressed",
        "T2 FAT-SAT",
        "T2 SAT GRASA",
        "T2 sat graisse",
        "T2 Fettsat",
        "T2 water excitation",
        "T2 SAG WE",
        "T2 脂肪抑制",
        "T2 压脂",
        "T2 с жироподавлением",
        "T2 ЖП",
        "T2 yağ baskılı",
        "T2 vetsuppressie",
        "T2 tłuszcz",
        "t2_tse_opp",
        "t2_fs",
        "T2 STIR",
        "T2 tirm",
        "T2 FLAIR",
        "FAT: SAG T2",
        "T2 dark-fluid",
        "T2 MTC",
    ],
)
def test_words_that_make_a_t2_doubtful(text: str) -> None:
    assert contrast("t2", SeriesDescription=text) == "unknown"


@pytest.mark.parametrize(
    "text",
    [
        "SAG T2",
        "t2_tse_sag_384",
        "T2 dixon_in",
        "t2_tse_dixon_sag_in",
        "InPhase: T2 SAG IDEAL",
        "T2 no fat sat",
        "T2 w/o FS",
        "T2 POST GAD",
    ],
)
def test_words_that_leave_a_t2_what_it_is(text: str) -> None:
    assert contrast("t2", SeriesDescription=text) == "t2"


@pytest.mark.parametrize(
    "options, found",
    [
        ("FS", "t2_fat_suppressed"),
        ("SP\\FATSUP", "t2_fat_suppressed"),
        ("ASPIR", "t2_fat_suppressed"),
        ("PASTA", "t2_fat_suppressed"),
        ("FAST_GEMS\\SEQ_GEMS\\FS", "t2_fat_suppressed"),
        ("PROSET", "t2_fat_suppressed"),
        ("IDEAL", "t2_fat_suppressed"),
        ("FAT_SAT", "t2_fat_suppressed"),
        ("WATEX", "t2_fat_suppressed"),
        ("SP\\FC\\PFP", "t2"),
        ("FAST_GEMS\\SEQ_GEMS\\FILTERED_GEMS", "t2"),
        ("SAT_GEMS", "t2"),
        ("OTHER", "t2"),
        ("PER\\CG\\RG", "t2"),
    ],
)
def test_scan_options(options: str, found: str) -> None:
    assert contrast("t2", ScanOptions=options) == found


@pytest.mark.parametrize(
    "manufacturer, description, found",
    [("SIEMENS", "", "unknown"), ("SIEMENS", "SAG T1", "t1"), ("GE MEDICAL SYSTEMS", "", "t1")],
)
def test_the_protocol_speaks_for_a_blank_description_unless_it_is_that_of_the_examination(
    manufacturer: str, description: str, found: str
) -> None:
    values = {"Manufacturer": manufacturer, "SeriesDescription": description, "ProtocolName": "T1 SAG +C"}
    assert contrast("t1", **values) == found


def test_magnetization_transfer_is_no_plain_t1() -> None:
    assert contrast("t1", SequenceVariant="SK\\MTC") == "unknown"
    assert contrast("t1", SequenceVariant="SK\\SP\\OSP") == "t1"
    assert contrast("t1", SeriesDescription="T1 MT ON") == "unknown"


def test_siemens_names_inversion_in_the_sequence() -> None:
    assert contrast("t2", SequenceName="*tir2d1_15") == "unknown"
    assert contrast("t2", SequenceName="*tse2d1_15") == "t2"


@pytest.mark.parametrize(
    "text, of",
    [
        ("T2* sag", "t2"),
        ("Sag T2 star", "t2"),
        ("t2_me2d MEDIC sag", "t2"),
        ("SAG MERGE", "t2"),
        ("T1 FLASH sag", "t1"),
        ("t1_fl2d_sag", "t1"),
        ("sT1W_FFE", "t1"),
        ("t1_vibe_sag", "t1"),
        ("T1 MP-RAGE", "t1"),
        ("sag trueFISP", "t2"),
        ("T2 CISS sag", "t2"),
        ("DWI sag b50", "t2"),
        ("sag diffusion", "t2"),
        ("ADC map", "t2"),
        ("T2 map", "t2"),
        ("T2_mapping_sag", "t2"),
        ("SAG T1 SUB", "t1"),
        ("T1 subtraction", "t1"),
        ("T2 thin MIP", "t2"),
        ("T2 max_IP", "t2"),
        ("T1/T2 ratio", "t2"),
    ],
)
def test_another_sequence_or_a_computed_image_named_by_the_description_alone_is_unsure(text: str, of: str) -> None:
    assert contrast(of, SeriesDescription=text) == "unknown"


@pytest.mark.parametrize(
    "text, of",
    [
        ("T2 sag DRIVE", "t2"),
        ("T2 BLADE sag", "t2"),
        ("T2 PROPELLER", "t2"),
        ("T1 sag CUBE", "t1"),
        ("T2_space_sag_c4", "t2"),
        ("T2 VISTA", "t2"),
        ("t2_tse_rst_sag_3.5 mm", "t2"),
        ("T2 FRFSE-XL b10", "t2"),
        ("T2 sag subtle motion", "t2"),
        ("hemivertebra L3, T2", "t2"),
        ("T2 sag after fusion", "t2"),
    ],
)
def test_spin_echoes_by_their_names_stay_what_they_are(text: str, of: str) -> None:
    assert contrast(of, SeriesDescription=text) == of


def test_philips_image_type_names_a_gradient_echo() -> None:
    assert contrast("t1", ImageType="ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE", ScanningSequence=None) == "gradient_echo"
    assert contrast("t1", ImageType="ORIGINAL\\PRIMARY\\M_SE\\M\\SE", ScanningSequence=None) == "t1"
