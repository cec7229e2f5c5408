"""The detector in service: what torchvision gives, without what it throws away, on a CPU or on a GPU.

To keep 100 proposals of a slice, torchvision decodes a box for each of 20,000 anchors and compares the best 500 of each
resolution with each other; and its RoIAlign reads the maps channel by channel, on a CPU. Here boxes are decoded where
they may be kept, the best are compared first, and a place of a map is read with all its channels. Proposals are the
same, and pooled values but for rounding (tests/unit/models/test_detector_heads.py).

A GPU computes maps and scores. Boxes, a few thousand numbers, are compared on the CPU: for 12 slices torchvision makes
a GPU wait for the host 200 times, this four times (`tests/benchmarks/gpu.py --count`).

torchvision is imported by functions, since modic/models/quick_import.py must be the first to do so.
"""

from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding_bag, pad


def quicken(net: Any) -> None:
    """Give a Faster R-CNN of torchvision, in evaluation mode, these stages, in place.

    It then takes images of one size, in a list or as a tensor (n, 3, rows, columns), and its boxes are on the CPU.
    """
    net.transform = Normalized(net.transform).to(next(net.parameters()).device)
    net.rpn = Proposals(net.rpn)
    net.roi_heads = Heads(net.roi_heads)


class Normalized(nn.Module):
    """In the place of a GeneralizedRCNNTransform that keeps sizes: all images at once."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.multiple = transform.size_divisible
        for name in ("mean", "std"):
            values = torch.tensor(getattr(transform, f"image_{name}"))
            self.register_buffer(name, values[:, None, None], persistent=False)

    def forward(self, images: Any, targets: None = None) -> tuple[Any, None]:
        from torchvision.models.detection.image_list import ImageList

        x = images if isinstance(images, torch.Tensor) else torch.stack(images)
        rows, columns = x.shape[-2:]
        x = (x - self.mean) / self.std
        below, right = -rows % self.multiple, -columns % self.multiple
        return ImageList(pad(x, (0, right, 0, below)) if below or right else x, [(rows, columns)] * len(x)), None

    def postprocess(self, result: Any, image_sizes: Any, original_image_sizes: Any) -> Any:
        return result


class Proposals(nn.Module):
    """In the place of a RegionProposalNetwork, whose head, anchors and limits are used."""

    def __init__(self, rpn: Any) -> None:
        super().__init__()
        self.rpn = rpn
        self.anchors: dict[Any, torch.Tensor] = {}

    def forward(self, images: Any, features: dict[str, torch.Tensor], targets: None = None) -> Any:
        maps = list(features.values())
        shapes = tuple(tuple(one.shape[-2:]) for one in (images.tensors, *maps))
        if shapes not in self.anchors:
            self.anchors[shapes] = anchors_of(self.rpn, *shapes)
        return propose(self.rpn, maps, self.anchors[shapes], images.image_sizes), {}


class Heads(nn.Module):
    """In the place of RoIHeads, whose layers and limits are used."""

    def __init__(self, heads: Any) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features: dict[str, torch.Tensor], boxes: Any, sizes: Any, targets: None = None) -> Any:
        heads = self.heads
        maps = [features[name] for name in heads.box_roi_pool.featmap_names]
        pool = pool_on_gpu if maps[0].is_cuda else pool_regions
        logits, codes = heads.box_predictor(heads.box_head(pool(heads.box_roi_pool, maps, boxes, sizes)))
        split = [logits.shape[1], codes.shape[1]]
        logits, codes = torch.split(torch.cat([logits, codes], 1).cpu(), split, 1)
        found = heads.postprocess_detections(logits, codes, boxes, sizes)
        return [dict(zip(("boxes", "scores", "labels"), one, strict=True)) for one in zip(*found, strict=True)], {}


def anchors_of(rpn: Any, image: tuple[int, int], *maps: tuple[int, int]) -> torch.Tensor:
    """(anchors, 4) on the CPU, of an image and maps of these rows and columns."""
    from torchvision.models.detection.image_list import ImageList

    blank, *features = (torch.zeros(()).expand(shape) for shape in (image, *maps))
    (anchors,) = rpn.anchor_generator(ImageList(blank, [image]), features)
    return anchors


def propose(
    rpn: Any, features: list[torch.Tensor], anchors: torch.Tensor, sizes: list[tuple[int, int]]
) -> list[torch.Tensor]:
    """The boxes (m, 4) that a RegionProposalNetwork proposes for each image, best first, on the CPU.

    Args:
        rpn: of torchvision, in evaluation mode.
        features: (n, channels, rows, columns) of each resolution.
        anchors: of `anchors_of`.
        sizes: rows and columns of each of the n images.
    """

    objectness, codes = rpn.head(features)
    counts = [level[0].numel() for level in objectness]
    together = [level.permute(0, 2, 3, 1).flatten(1) for level in objectness]  # (n, anchors) of each resolution
    starts = accumulate(counts, initial=0)
    parts = [level.topk(min(rpn.pre_nms_top_n(), level.shape[1])).indices for level in together]
    top = torch.cat([part + start for part, start in zip(parts, starts, strict=False)], 1)  # (n, most)
    logits = torch.cat(together, 1).gather(1, top)
    codes = torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, 4) for level in codes], 1)  # (n, anchors, 4)
    codes = codes.gather(1, top[..., None].expand(-1, -1, 4))
    known = torch.cat([logits[..., None], codes, top[..., None].to(codes.dtype)], 2).cpu()  # (whole up to 2^24)
    levels = torch.arange(len(parts)).repeat_interleave(torch.tensor([part.shape[1] for part in parts]))
    return [
        _best(rpn, one[:, 0], one[:, 1:5], anchors[one[:, 5].long()], levels, size)
        for one, size in zip(known, sizes, strict=True)
    ]


def _best(
    rpn: Any, logits: torch.Tensor, codes: torch.Tensor, anchors: torch.Tensor, levels: torch.Tensor,
    size: tuple[int, int],
) -> torch.Tensor:  # fmt: skip
    """Of the best anchors of one image, decoded, those that do not overlap a better one.

    A box falls to a better one only, so the best of all resolutions are decided first, and mostly are enough.

    Args:
        logits, codes, anchors: (m,), (m, 4), (m, 4), of one resolution after another.
        levels: (m,), of which resolution each is.
        size: rows and columns of the image.
    """
    from torchvision.ops import clip_boxes_to_image

    most, wanted = rpn.pre_nms_top_n(), rpn.post_nms_top_n()
    scores, order = logits.sigmoid().sort(descending=True, stable=True)
    levels = levels[order]
    boxes = clip_boxes_to_image(rpn.box_coder.decode_single(codes[order], anchors[order]), size)
    usable = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.min_size).all(1) & (scores >= rpn.score_thresh)
    boxes, scores, levels = boxes[usable], scores[usable], levels[usable]
    kept = _apart(boxes[:most], scores[:most], levels[:most], rpn.nms_thresh)
    if len(kept) < wanted:
        kept = _apart(boxes, scores, levels, rpn.nms_thresh)
    return boxes[kept[:wanted]]


def _apart(boxes: torch.Tensor, scores: torch.Tensor, levels: torch.Tensor, overlap: float) -> torch.Tensor:
    """Indices of boxes, best first, that no better one of the same resolution overlaps by more than `overlap` (IoU)."""
    from torchvision.ops import nms

    groups = [torch.where(levels == level)[0] for level in torch.unique(levels)]
    kept = [group[nms(boxes[group], scores[group], overlap)] for group in groups]
    return torch.cat([*kept, levels.new_zeros(0)]).sort().values


def pool_regions(
    pool: Any, features: list[torch.Tensor], boxes: list[torch.Tensor], sizes: list[tuple[int, int]]
) -> torch.Tensor:
    """What a MultiScaleRoIAlign pools, (regions of all images, channels, rows, columns).

    Args:
        pool: of torchvision; its names of maps are not used.
        features: (n, channels, rows, columns) of each resolution, finest first.
        boxes: (m, 4) of each of the n images, within it.
        sizes: rows and columns of each image.
    """

    steps, levels, images, together = _placed(pool, features, boxes, sizes)
    pooled = together.new_empty(len(together), *pool.output_size, features[0].shape[1])
    for level in torch.unique(levels).tolist():
        here = torch.where(levels == level)[0]
        scaled = together[here] / 2 ** steps[level]
        pooled[here] = _pool(features[level], scaled, images[here], pool.output_size, pool.sampling_ratio)
    return pooled.permute(0, 3, 1, 2).contiguous()


def pool_on_gpu(
    pool: Any, features: list[torch.Tensor], boxes: list[torch.Tensor], sizes: list[tuple[int, int]]
) -> torch.Tensor:
    """As `pool_regions`, of maps on a GPU and boxes on the CPU: one copy, one kernel a resolution, no waiting."""
    from torchvision.ops import roi_align

    steps, levels, images, together = _placed(pool, features, boxes, sizes)
    order = levels.argsort(stable=True)
    regions = torch.cat([images[:, None].to(together.dtype), together], 1)[order]
    back = order.argsort().to(together.dtype)  # where each region is in this order
    sent = torch.cat([regions, back[:, None]], 1).to(features[0].device)
    parts = torch.split(sent[:, :5], torch.bincount(levels, minlength=len(features)).tolist())
    pooled = [
        roi_align(feature, part, pool.output_size, 0.5**step, pool.sampling_ratio)
        for feature, part, step in zip(features, parts, steps, strict=True)
    ]
    return torch.cat(pooled)[sent[:, 5].long()]


def _placed(pool: Any, features: list[torch.Tensor], boxes: list[torch.Tensor], sizes: list[tuple[int, int]]) -> Any:
    """log2 of each resolution's stride; and of the boxes (m, 4) of all images each one's resolution and image."""
    from torchvision.ops.poolers import LevelMapper

    rows = max(size[0] for size in sizes)
    steps = [round(float(torch.tensor(rows / feature.shape[2]).log2())) for feature in features]
    mapper = LevelMapper(steps[0], steps[-1], pool.canonical_scale, pool.canonical_level)
    images = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(b) for b in boxes]))
    return steps, mapper(boxes), images, torch.cat(boxes)


def _pool(
    feature: torch.Tensor, boxes: torch.Tensor, images: torch.Tensor, bins: tuple[int, int], samples: int
) -> torch.Tensor:
    """RoIAlign (He 2017) of one resolution: (m, rows of bins, columns of bins, channels).

    Args:
        feature: (n, channels, rows, columns).
        boxes: (m, 4), in places of `feature`.
        images: (m,), which of the n each box lies on.
        bins: rows and columns.
        samples: of each bin in each direction.
    """

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
    start: torch.Tensor, end: torch.Tensor, bins: int, samples: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The places that each bin reads in one direction, and their shares: (m, bins, 2 * samples).

    A sample is read between two places; up to one place beyond the map is its border, farther out is nothing.
    """

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
