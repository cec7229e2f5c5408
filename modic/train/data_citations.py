"""What the cards say about the data that a training used, and how they print shares."""

from collections.abc import Iterable

SPIDER = (
    "SPIDER, mid-sagittal slices of T1 and T2 with radiological gradings, Zenodo 10159290, CC BY 4.0. Cite: van der "
    "Graaf J. W. et al., Lumbar spine segmentation in MR images: a dataset and a public benchmark, Scientific Data 11, "
    "264 (2024)."
)
PHANTOM = "Synthetic lumbar spines of modic.phantom (spin-echo physics, Modic 1 and 2 lesions); no patient data."
RELEASE = SPIDER.replace("mid-sagittal slices of T1 and T2", "volumes of T1 and T2, segmentations")


def described(source: str) -> str:
    """What a card says about a kind of source. About a user's own data it gives no name, place or patient."""
    texts = {"spider": SPIDER, "spider-release": RELEASE, "phantom": PHANTOM}
    return texts.get(source, f"Images and labels of whoever trained these weights (`{source}`); describe them here.")


def licence(sources: Iterable[str]) -> str:
    """The licence of weights trained on these kinds of source."""
    if any(source.startswith("spider") for source in sources):
        return "Apache-2.0 (weights); trained on data under CC BY 4.0: keep the citation in `data`"
    return "That of the data in `data`, and of the weights that training started from"


def share_text(value: float | None) -> str:
    """A share as a percentage, a dash if there is none."""
    return "–" if value is None else f"{value:.0%}"
