"""What the texts of a header name: T1, T2, STIR, fat suppression, a contrast agent, a computed image, …

People type these texts, in many languages and with product names, so no list is complete. A text therefore never makes
a series a T1 or T2; it only makes one doubtful. What no list knows is met in modic/series/pair.py (of two series alike
in all but a word, the one without it) and by the pixels (modic/series/contrast_from_pixels.py).
"""

import re
import unicodedata
from functools import lru_cache

AGENT_WORDS = (
    r"gd([ _-]?(dtpa|dota|bopta|bt|eob)[a-z0-9]*)?|gad[a-z]*|km|kmg|mdc|m\.d\.c\.?|civ|pdc|ce|dce|cemr[a-z]*|inj[a-z]*"
    r"|[ck]ontr[a-zı]*|[a-z]+contrast[a-z]*|enh[a-z]*|i\.?v\.?|ivkm|dtpa|dota|gbca|ilacli|bolus|iny[a-z]*|podaniu"
    r"|post(gd|gad|km|ce|inj|iny|iv|mdc)[a-z]*"
    r"|dotarem|dotagraf|dotagita|dotavision|clariscan|omniscan|magnevist|magnograf|magnegita|prohance|multihance|primovist"
    r"|eovist|vueway|elucirem|optimark|vasovist|ablavar|artirem|pixxoscan|cyclolux|teslascan|feraheme"
)
AFTER_WORDS = r"post|apres|dopo|nach|after|despues|efter|etter|poslije"
NO_WORDS = (
    r"no|non|not|pre|vor|w/?o|without|ohne|sans|sin|senza|zonder|geen|sem|uten|utan|uden|bez|avant|prima|antes|voor"
    r"|before|kein[a-z]*|none|off"
)
FAT_WORDS = (
    r"fs|f[/.]s\.?|fsat|sfs|qfs|fatsat[a-z]*|fat[ _-]?sat[a-z]*|fat[ _-]?sup[a-z]*|fat[ _-]?sep[a-z]*|spair|spir"
    r"|aspir|spec[ -]?ir|special|proset|pasta|wats|watex|watsel|we|water([ _-]?(exc|sel)[a-z]*)?|wfs|chess"
    r"|ideal|[a-z]?dixon[a-z]*|msoft"
    r"|h2o|fat|eau|agua|acqua|wasser[a-z]*|fett[a-z]*|gras[a-z]*|sat[ _-]?gra[a-z]*|supr[a-z]* ?gra[a-z]*"
    r"|vet[a-z]*[ _-]?(onderdr|suppr)[a-z]*|yag[ _-]*bask[a-zı]*|t[lł]uszcz[a-z]*|zsir[a-z]*"
)
GRADIENT_WORDS = (
    r"t2[ _-]?star|medic|merge|swi|swan|gre|grass|f?spgr|([bmt][ _-]?)?ffe|flash|fl[23]d[0-9]*|vibe|lava|thrive|bravo"
    r"|mp[ _-]?rage|(tru|true)?[ _-]?fisp|fiesta|ciss|dess|b?ssfp|(b[ _-]?)?tfe|tfl|hemo"
)
_ANY = r"(?<![a-z])({})(?![a-z])"
HINTS: dict[str, str] = {
    "t1": r"(?<![a-z0-9])t1(?![0-9])",
    "t2": r"(?<![a-z0-9])t2(?![0-9*])",
    "stir": r"stir|tirm|(?<![a-z])tir(?![a-z])",
    "fluid": r"flair|dark[ _-]?fluid",
    "fs": _ANY.format(FAT_WORDS) + r"|脂|脂肪|жир|(?<![а-я])жп(?![а-я])|지방",
    "opposed": _ANY.format(r"opp|opposed[a-z]*|out[ _-]*(of)?[ _-]*phase|oop"),
    "agent": _ANY.format(AGENT_WORDS)
    + rf"|(?<![a-z])({AFTER_WORDS})(?![a-z])(?![ _-]*op)"
    + r"|(?<![a-z])c ?\+|\+ ?c(?![a-z])|w ?/ ?c(?![a-z])|(?<![a-z])w ?/ ?wo(?![a-z])"
    + r"|w ?/ *$"
    + "|造影|增强|增強|조영|증강|صبغة|تباين|σκιαγραφικ|контраст|(?<![а-я])ку(?![а-я])|гадо"
    + r"|\+(?![ _]*(t[12]|pd|stir|tirm|fs|fat))(?!(sag|ax|cor|tra|tse|fse|[clt][ _-]?sp|[23]d|nd|norm|dis))",
    "transfer": r"(?<![a-z])(mt|mtc|mt[ _-]?on|magneti[sz]ation[ _-]?transfer)(?![a-z])",
    "gradient": r"t2 ?\*|" + _ANY.format(GRADIENT_WORDS),
    "diffusion": _ANY.format(r"dwi|dti|dki|ivim|diff(usion)?|e?adc|trace[a-z]*|b[ _=-]?(50|[1-9]00|1[0-9]00)"),
    "map": _ANY.format(
        r"maps?|mapping|mapit|subtr[a-z]*|sub|difference|mip|(min|max)[ _-]?ip|ratio|relaxo[a-z]*|curved|cpr"
    ),
    "computed": r"synth[a-z]*|symri|(?<![a-z])(magic|syn|calc[a-z]*)(?![a-z])",
}
"""What a text may name → pattern of its words, in lower case and without accents."""
DENIED = re.compile(
    rf"(?<![a-z])({NO_WORDS})[ _./-]*(i\.?v\.?[ _-]*)?({AGENT_WORDS}|{FAT_WORDS}|mt|mtc)(?![a-z])"
    r"|(?<![a-z])(un|non)[ _-]?enh[a-z]*|(?<![a-z])(non|pre)[ck]ontr[a-z]*|(?<![a-z])c ?-(?![a-z0-9])"
    r"|(?<![a-z])mt[ _-]?off"
    r"|平扫|(без|до) (контраст[а-я]*|ку)|造影前(?!後)|增[强強]前(?!后|後)|조영 ?전"
    r"|[ck]ontrasts[iı]z|nie ?kontrast[a-z]*|(χωρις|προ) σκιαγραφικ[α-ω]*|بدون (صبغة|تباين)"
)
IN_PHASE = re.compile(r"(?<![a-z])(in|ip|in[ _-]?phase|inphase|_in)(?![a-z])")
SEPARATED = re.compile(r"(?<![a-z])(ideal|[a-z]?dixon[a-z]*)(?![a-z])")
NO_AGENT = re.compile(
    r"(no|non(?![ -]?ion)|none|not|n|nil|nill|null|off|0+([.,]0*)?( ?ml)?|false|f|without|w/?o|native?|nativ|unknown"
    r"|unspecified|ohne|kein[a-z]*|sans|sin|senza|zonder|geen|sem|nao|ningun[oa]?|nessuno?|aucune?|pas|nein|nej|nie|nee|uten"
    r"|utan|uden|bez|n/?a|n\.a\.?|нет|без|无|無|なし|없음)(?![a-z])"
)
NO_AGENT_END = re.compile(r"(?<![a-z])(no|none|off|nein|false|not (given|used|applied|administered))\W*")


@lru_cache(maxsize=10_000)
def plain(text: str) -> str:
    """Lower case without accents, and width forms as usual letters."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return unicodedata.normalize(
        "NFC", "".join(c for c in decomposed if not unicodedata.combining(c) or c in "\u3099\u309a")
    )


@lru_cache(maxsize=10_000)
def hints(text: str) -> frozenset[str]:
    """Which of HINTS a text names and does not deny. In-phase images of a Dixon sequence are ordinary ones."""
    known = DENIED.sub(" ", plain(text))
    if IN_PHASE.search(known):
        known = SEPARATED.sub(" ", known)
    return frozenset(name for name, pattern in HINTS.items() if re.search(pattern, known))


@lru_cache(maxsize=10_000)
def denies_agent(text: str) -> bool:
    """Whether a ContrastBolusAgent says that there was none: `NO CONTRAST`, `N/A`, `-`, `ohne KM`."""
    known = plain(text).strip()
    if not re.search(r"[^\W_]", known):
        return True
    return bool(NO_AGENT.match(known) or re.search(NO_AGENT_END.pattern + "$", known))


REPEATS = frozenset(
    ["repeat", "rep", "rpt", "again", "redo", "new", "bis", "wdh", "motion", "neu", "repet", "repeated"]
)


def new_words(text: str) -> frozenset[str]:
    """The words of a description that may mean something: no numbers, and no word for a repeat."""
    parts = re.findall(r"\+|[^\W\d_]+\d*", plain(text))
    return frozenset(parts) - REPEATS
