"""Proposals and regions of the detector in service are torchvision's, on a CPU and on a (pretended) GPU."""

import copy
from typing import Any

import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign

from modic.models import detector_heads, weights
from modic.models.detector import build_detector
from modic.models.detector_heads import _apart, pool_regions, quicken
from modic.models.device import compute_exactly
from pretended_cuda import pretended_cuda


@pytest.fixture(scope="module")
def detector() -> Any:
    """Random weights, whose scores differ from place to place."""
    torch.manual_seed(3)
    net = build_detector({"backbone": "resnet18", "fpn_channels": 16, "head_features": 16, "proposals": 20}).eval()
    torch.nn.init.normal_(net.rpn.head.cls_logits.weight, std=0.5)
    torch.nn.init.normal_(net.rpn.head.bbox_pred.weight, std=0.05)
    torch.nn.init.normal_(net.roi_heads.box_predictor.cls_score.weight, std=0.2)
    return net


@pytest.mark.parametrize(("overlap", "rounds"), [(0.7, 1), (0.02, 2)], ids=["best are enough", "others are needed"])
def test_proposals_are_the_same(detector: Any, overlap: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def apart(boxes: torch.Tensor, *others: Any) -> torch.Tensor:
        compared.append(len(boxes))
        return _apart(boxes, *others)

    monkeypatch.setattr(detector_heads, "_apart", apart)
    theirs = copy.deepcopy(detector)
    theirs.rpn.nms_thresh = overlap
    ours = copy.deepcopy(theirs)
    quicken(ours)
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        features = theirs.backbone(images)
        wanted, _ = theirs.rpn(ImageList(images, [(160, 160)] * 2), features)
        found, _ = ours.rpn(ImageList(images, [(160, 160)] * 2), features)
    assert len(compared) == 2 * rounds and compared[0] == 100 < compared[-1] + (rounds == 1)
    assert all(len(boxes) for boxes in wanted)
    for a, b in zip(wanted, found, strict=True):
        assert torch.equal(a, b)


def test_regions_are_the_same_at_every_resolution_and_at_the_border() -> None:
    torch.manual_seed(4)
    features = {str(i): torch.randn(2, 8, 160 // 2**i, 128 // 2**i) for i in range(2, 6)}
    sizes = [(160, 128), (160, 128)]
    first = torch.tensor([
        [0, 0, 128, 160], [100, 150, 128, 160], [127.9, 159.9, 128, 160], [30, 40, 70, 52], [0, 0, 1, 1.0],
        [20, 20, 100, 130], [5.5, 3.2, 80.1, 9.7], [10, 20, 55, 70],
    ])  # fmt: skip
    second = torch.rand(9, 2).repeat(1, 2) * 60 + torch.tensor([0, 0, 8, 12.0])
    pool = MultiScaleRoIAlign(list(features), 7, 2, canonical_scale=60)
    wanted = pool(features, [first, second], sizes)
    found = pool_regions(pool, list(features.values()), [first, second], sizes)
    assert pool.map_levels([first, second]).unique().tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    empty = pool_regions(pool, list(features.values()), [first[:0], second[:0]], sizes)
    assert empty.shape == (0, 8, 7, 7)


def test_the_detector_in_service_finds_what_torchvision_finds(detector: Any) -> None:
    ours = copy.deepcopy(detector)
    quicken(ours)
    images = list(torch.rand(3, 3, 160, 160))
    with torch.inference_mode():
        wanted, found = detector(images), ours(images)
    assert sum(len(one["boxes"]) for one in wanted) > 20
    for a, b in zip(wanted, found, strict=True):
        assert torch.equal(a["labels"], b["labels"])
        torch.testing.assert_close(b["scores"], a["scores"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(b["boxes"], a["boxes"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("size", [(160, 160), (150, 130)], ids=["whole", "padded"])
def test_a_gpu_finds_the_same_and_waits_for_the_host_four_times(detector: Any, size: tuple[int, int]) -> None:
    ours, images = copy.deepcopy(detector), torch.rand(3, 3, *size)
    with torch.inference_mode():
        wanted = detector(list(images))
    with pretended_cuda() as device:
        compute_exactly()
        quicken(ours.to("cuda"))
        with torch.inference_mode():
            before = device.counts.copy()
            found = ours(images.to("cuda"))
        assert (device.counts - before).waits == 4, "images, places, regions, outcome"
    assert sum(len(one["boxes"]) for one in wanted) > 20
    for a, b in zip(wanted, found, strict=True):
        assert torch.equal(a["labels"], b["labels"])
        torch.testing.assert_close(b["scores"], a["scores"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(b["boxes"], a["boxes"], rtol=1e-5, atol=1e-3)


def test_the_shipped_detector_has_them() -> None:
    service = weights.load_detector("detector").net
    assert not isinstance(service.rpn, RegionProposalNetwork)
    assert not isinstance(service.roi_heads, RoIHeads)
