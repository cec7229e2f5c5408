"""The detector's proposals and pooled regions on a CPU: what torchvision gives, without what it throws away.

To keep 100 proposals of a slice, torchvision decodes a box for each of 20,000 anchors and compares the best 500 of each
resolution with each other; and its RoIAlign reads the maps channel by channel. Here boxes are decoded where they may be
kept, the best are compared first, and a place of a map is read with all its channels. Proposals are the same, and
pooled values but for rounding (tests/unit/models/test_detector_heads.py).
"""

from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def quicken(net: Any) -> None:
    """Give a Faster R-CNN of torchvision, in evaluation mode on a CPU, these proposals and regions, in place."""
    from torch import nn

    class Proposals(nn.Module):
        """In the place of a RegionProposalNetwork, whose head, anchors and limits are used."""

        def __init__(self, rpn: Any) -> None:
            super().__init__()
            self.rpn = rpn

        def forward(self, images: Any, features: dict[str, "torch.Tensor"], targets: None = None) -> Any:
            return propose(self.rpn, images, list(features.values())), {}

    class Regions(nn.Module):
        """In the place of a MultiScaleRoIAlign, whose sizes are used."""

        def __init__(self, pool: Any) -> None:
            super().__init__()
            self.pool = pool

        def forward(self, features: dict[str, "torch.Tensor"], boxes: Any, sizes: Any) -> "torch.Tensor":
            return pool_regions(self.pool, [features[name] for name in self.pool.featmap_names], boxes, sizes)

    net.rpn = Proposals(net.rpn)
    net.roi_heads.box_roi_pool = Regions(net.roi_heads.box_roi_pool)


def propose(rpn: Any, images: Any, features: "list[torch.Tensor]") -> "list[torch.Tensor]":
    """The boxes (m, 4) that a RegionProposalNetwork proposes for each image, best first.

    Args:
        rpn: of torchvision, in evaluation mode.
        images: ImageList of n images.
        features: (n, channels, rows, columns) of each resolution.
    """
    import torch

    objectness, codes = rpn.head(features)
    anchors = rpn.anchor_generator(images, features)
    counts = [level[0].numel() for level in objectness]
    logits = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in objectness], 1)  # (n, anchors)
    codes = torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, 4) for level in codes], 1)  # (n, anchors, 4)
    each = zip(logits, codes, anchors, images.image_sizes, strict=True)
    return [_best(rpn, *one, counts) for one in each]


def _best(
    rpn: Any, logits: "torch.Tensor", codes: "torch.Tensor", anchors: "torch.Tensor", size: tuple[int, int],
    counts: list[int],
) -> "torch.Tensor":  # fmt: skip
    """Of one image: the best anchors of each resolution, decoded, without those that overlap a better one.

    A box falls to a better one only, so the best of all resolutions are decided first, and mostly are enough.

    Args:
        logits, codes, anchors: (m,), (m, 4), (m, 4), of one resolution after another.
        size: rows and columns of the image.
        counts: anchors of each resolution.
    """
    import torch
    from torchvision.ops import clip_boxes_to_image

    most, wanted = rpn.pre_nms_top_n(), rpn.post_nms_top_n()
    starts = accumulate(counts, initial=0)
    parts = [part.topk(min(most, len(part))).indices for part in torch.split(logits, counts)]
    top = torch.cat([part + start for part, start in zip(parts, starts, strict=False)])
    levels = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
    scores, order = logits[top].sigmoid().sort(descending=True, stable=True)
    top, levels = top[order], levels[order]
    boxes = clip_boxes_to_image(rpn.box_coder.decode_single(codes[top], anchors[top]), size)
    usable = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.min_size).all(1) & (scores >= rpn.score_thresh)
    boxes, scores, levels = boxes[usable], scores[usable], levels[usable]
    kept = _apart(boxes[:most], scores[:most], levels[:most], rpn.nms_thresh)
    if len(kept) < wanted:
        kept = _apart(boxes, scores, levels, rpn.nms_thresh)
    return boxes[kept[:wanted]]


def _apart(boxes: "torch.Tensor", scores: "torch.Tensor", levels: "torch.Tensor", overlap: float) -> "torch.Tensor":
    """Indices of boxes, best first, that no better one of the same resolution overlaps by more than `overlap` (IoU)."""
    import torch
    from torchvision.ops import nms

    groups = [torch.where(levels == level)[0] for level in torch.unique(levels)]
    kept = [group[nms(boxes[group], scores[group], overlap)] for group in groups]
    return torch.cat([*kept, levels.new_zeros(0)]).sort().values


def pool_regions(
    pool: Any, features: "list[torch.Tensor]", boxes: "list[torch.Tensor]", sizes: list[tuple[int, int]]
) -> "torch.Tensor":
    """What a MultiScaleRoIAlign pools, (regions of all images, channels, rows, columns).

    Args:
        pool: of torchvision; its names of maps are not used.
        features: (n, channels, rows, columns) of each resolution, finest first.
        boxes: (m, 4) of each of the n images, within it.
        sizes: rows and columns of each image.
    """
    import torch
    from torchvision.ops.poolers import LevelMapper

    rows = max(size[0] for size in sizes)
    steps = [round(float(torch.tensor(rows / feature.shape[2]).log2())) for feature in features]  # log2 of its stride
    mapper = LevelMapper(steps[0], steps[-1], pool.canonical_scale, pool.canonical_level)
    levels, images = mapper(boxes), torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(b) for b in boxes]))
    together, channels = torch.cat(boxes), features[0].shape[1]
    pooled = together.new_empty(len(together), *pool.output_size, channels)
    for level in torch.unique(levels).tolist():
        here = torch.where(levels == level)[0]
        scaled = together[here] / 2 ** steps[level]
        pooled[here] = _pool(features[level], scaled, images[here], pool.output_size, pool.sampling_ratio)
    return pooled.permute(0, 3, 1, 2).contiguous()


def _pool(
    feature: "torch.Tensor", boxes: "torch.Tensor", images: "torch.Tensor", bins: tuple[int, int], samples: int
) -> "torch.Tensor":
    """RoIAlign (He 2017) of one resolution: (m, rows of bins, columns of bins, channels).

    Args:
        feature: (n, channels, rows, columns).
        boxes: (m, 4), in places of `feature`.
        images: (m,), which of the n each box lies on.
        bins: rows and columns.
        samples: of each bin in each direction.
    """
    from torch.nn.functional import embedding_bag

    channels, rows, columns = feature.shape[1:]
    places = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    y, y_share = _taps(boxes[:, 1], boxes[:, 3], bins[0], samples, rows)
    x, x_share = _taps(boxes[:, 0], boxes[:, 2], bins[1], samples, columns)
    y = (images[:, None, None] * rows + y) * columns
    index = y[:, :, None, :, None] + x[:, None, :, None, :]  # (m, rows, columns, taps, taps)
    share = y_share[:, :, None, :, None] * x_share[:, None, :, None, :]
    taps = index.shape[-1] * index.shape[-2]
    read = embedding_bag(
        index.reshape(-1, taps), places, mode="sum", per_sample_weights=share.reshape(-1, taps).to(places.dtype)
    )
    return read.view(len(boxes), *bins, channels)


def _taps(
    start: "torch.Tensor", end: "torch.Tensor", bins: int, samples: int, length: int
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The places that each bin reads in one direction, and their shares: (m, bins, 2 * samples).

    A sample is read between two places; up to one place beyond the map is its border, farther out is nothing.
    """
    import torch

    width = (end - start).clamp(min=1)[:, None, None] / bins
    number = torch.arange(bins)[:, None]
    at = start[:, None, None] + number * width + (torch.arange(samples) + 0.5) * width / samples  # (m, bins, samples)
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    low = at.long()
    beyond = at - low
    index = torch.stack([low, (low + 1).clamp(max=length - 1)], -1)
    share = torch.stack([1 - beyond, beyond], -1) * inside[..., None] / samples
    return index.flatten(2), share.flatten(2)
