"""What a card says of the data that a training used."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


SPIDER = (
    "SPIDER, mid-sagittal slices of T1 and T2 with radiological gradings, Zenodo 10159290, CC BY 4.0. Cite: van der "
    "Graaf J. W. et al., Lumbar spine segmentation in MR images: a dataset and a public benchmark, Scientific Data 11, "
    "264 (2024)."
)
PHANTOM = "Synthetic lumbar spines of modic.phantom (spin-echo physics, Modic 1 and 2 lesions); no patient data."
RELEASE = SPIDER.replace("mid-sagittal slices of T1 and T2", "volumes of T1 and T2, segmentations")


def described(source: str) -> str:
    """What a card says of a source of data. Of a user's own it holds no name, place or patient."""
    texts = {"spider": SPIDER, "spider-release": RELEASE, "phantom": PHANTOM}
    return texts.get(source, f"Images and labels of whoever trained these weights (`{source}`); describe them here.")


def licence(sources: Iterable[str]) -> str:
    if any(source.startswith("spider") for source in sources):
        return "Apache-2.0 (weights); trained on data under CC BY 4.0: keep the citation in `data`"
    return "That of the data in `data`, and of the weights that training started from"
