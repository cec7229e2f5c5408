"""Which names of scanners may appear in the table `studies`.

Manufacturer and ManufacturerModelName are free text, in which archives hold anything, also names of patients. A value
is shown only if each word in it is known from scanners' names; one short number (`450w`, `1.5T`) may stand beside them.
Any other value becomes a keyed hash, which still groups studies by scanner. The words are vendors and models of
clinical MR scanners since 1990, as their public DICOM conformance statements and product pages spell them.
"""

import re

VENDORS = """
    siemens healthineers healthcare medical systems magnetom nixdorf ge general electric philips canon mec cmec tosha
    toshiba hitachi fujifilm fuji ltd limited corporation corp inc gmbh co ag se bv nv esaote spa s p a united imaging
    uih neusoft mindray xingaoyi alltech wandong time hyperfine fonar paramed anke basda mr mri mrt scanner system tesla
    phantom
"""
SIEMENS = """
    aera altea altera amira avanto avantofit biograph cima concerto c espree esprit essenza fit free flow harmony
    impact jet lumina magna max mmr open opus plus prisma rapid skyra skyrafit sola sempra sonata spectra star symphony
    tim terra trio triotim trueform verio verio vida viato vision vibe x xa xl xq xr xt symphonytim avantotim
"""
OTHERS = """
    achieva ambition dstream elition evolution gyroscan ingenia ingenuity intera marlin multiva panorama prodiva t5 nt
    t10 ach hfo omega power pulsar release nova dual cx
    air apex architect artist brivo champion creator discovery edge elite excite explorer genesis hd hde hdx hdxt hero
    hispeed horizon infinity lx mr mr360 mr430s mr450 mr450w mr750 mr750w mr355 optima ovation ovation openspeed pet
    pioneer premier profile recon signa spectrum twinspeed voyager victor prime virtuo gem sigma
    mrt200pp3 mrt200sp5 1503 1504 2003 3010 titan3t
    elan atlas excelart galan orian titan vantage zgv saturn visart fortian supreme opart flexart xgv pianissimo
    airis vento aperto echelon lucent oasis oval smart synergy trillium altaire supernova elite ii iii iv vi e
    g o scan gscan brio s sscan artoscan cscan oscan opera magnifico
    umr jupiter superstar nsm
"""
WORDS = frozenset(" ".join((VENDORS, SIEMENS, OTHERS)).split())
NUMBER = re.compile(r"(u?mr|t)?\d{1,3}(\.\d{1,2})?w?[a-z]?")


def is_scanner_name(text: str) -> bool:
    """Whether every word of `text` is known from scanners' names, except for one short number at most."""
    words = [word for word in re.split(r"[^a-z0-9.]+|\.(?!\d)", text.lower()) if word]
    numbers = [word for word in words if word not in WORDS]
    return text.isascii() and text.isprintable() and len(numbers) < 2 and all(map(NUMBER.fullmatch, numbers))
