"""The detector's cards: JSON for the machine, Markdown for people."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modic.models.weights import save_weights
from modic.train.data_citations import described, licence, share_text

if TYPE_CHECKING:
    from modic.train.options import DetectorTraining

DETECTOR_LIMITS = (
    "Research use; not a medical device, not for diagnosis.",
    "Levels are named without counting from C2: transitional anatomy cannot be told from ordinary anatomy for certain.",
    "SPIDER's boxes cover discs counted up from the sacrum; images whose boxes could not be named were left out of "
    "training and of the results.",
    "Measured on single mid-sagittal slices; grading joins three slices. Scoliosis, fractures, implants, tumours and "
    "children are rare or absent in the data.",
)


def write_detector(
    state: dict[str, Any], results: dict[str, Any], patients: dict[str, int], recipe: dict[str, Any],
    options: "DetectorTraining", path: Path,
) -> Path:  # fmt: skip
    """Write the detector's weights and both cards; returns `path`.

    Args:
        state: the network's state dict.
        results: of the test patients, by group (modic.train.detector_results.evaluate).
        patients: their number by kind of source.
        recipe: how the weights were made.
        path: of the weights, DIR/detector.safetensors.
    """
    card = {
        "name": "detector", "kind": "detector", "architecture": options.architecture,
        "preprocessing": options.preprocessing,
        "data": {"patients": patients, "sources": {name: described(name) for name in patients}},
        "recipe": recipe, "results": results, "limits": list(DETECTOR_LIMITS),
        "licence": licence(patients),
    }  # fmt: skip
    save_weights(path, state, card)
    path.with_suffix(".md").write_text(detector_markdown(card), encoding="utf-8")
    return path


def detector_markdown(card: dict[str, Any]) -> str:
    """The detector's card for people."""
    arch, pre = card["architecture"], card["preprocessing"]
    lines = [
        "# Detector card", "",
        f"Faster R-CNN, {arch['backbone']} with a feature pyramid of {arch['fpn_channels']} channels, seven classes "
        f"(background and T12/L1 to L5/S1), on sagittal slices of {pre['image_size']} px. Boxes are the disc with a "
        "margin of about 5 mm, as SPIDER's are.", "",
        "## Limits", *(f"- {limit}" for limit in card["limits"]), "",
        "## Results", "Patients of the test split (20 %, by a hash of the patient): not seen in training nor for "
        "choosing the epoch. IoU and score are means over the levels found; `named right` counts boxes of the right "
        "name with IoU of at least 0.5.", "",
    ]  # fmt: skip
    for name, result in card["results"].items():
        lines += [
            f"**{name}**: {result['slices']} slices of {result['patients']} patients; every visible level named right "
            f"in {share_text(result['all_named_right'])} of the slices.", "",
            "| level | n | IoU | score | named right |", "|---|---|---|---|---|",
            *(f"| {level} | {row['n']} | {row['iou']} | {row['score']} | {share_text(row['named_right'])} |"
              for level, row in result.items() if isinstance(row, dict)), "",
        ]  # fmt: skip
    if card.get("elsewhere"):
        lines += ["## Measured elsewhere", *(f"- {text}" for text in card["elsewhere"]), ""]
    lines += ["## Data", *(f"- {text}" for text in card["data"]["sources"].values()), ""]
    lines += ["## Recipe", *(f"- {key}: {value}" for key, value in card["recipe"].items()), ""]
    return "\n".join([*lines, "## Licence", card["licence"], ""])
