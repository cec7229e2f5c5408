"""Where a training starts from: made-up files as others publish them, and what is said where they do not fit."""

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from modic.errors import UsageError
from modic.models.card import sha256
from modic.models.classifier import build_classifier
from modic.models.detector import build_detector
from modic.models.weights import save_weights
from modic.train import pretrained
from modic.train.pretrained import find, load, medicalnet, read_tensors

DETECTOR = {"backbone": "resnet18", "fpn_channels": 16, "head_features": 16}
SMALL = {"depth": 10, "widths": [4, 4, 8, 8]}
FULL = {"depth": 10, "widths": [64, 128, 256, 512]}


def other_values(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {k: torch.rand(v.shape, generator=generator) if v.is_floating_point() else v for k, v in state.items()}


def med3d(branch: torch.nn.Module, *, shortcuts: bool = True) -> dict[str, torch.Tensor]:
    """A file's `state_dict` as Med3D publishes it: prefixed, a first kernel of 7 planes, shortcuts without bias."""
    state = other_values(branch.state_dict())
    state["conv1.weight"] = torch.arange(7.0).reshape(1, 1, 7, 1, 1).expand(64, 1, 7, 7, 7).clone()
    kept = {k: v for k, v in state.items() if not k.endswith(("downsample.0.bias", "num_batches_tracked"))}
    kept = {k: v for k, v in kept.items() if shortcuts or "downsample" not in k}
    return {f"module.{k}": v for k, v in kept.items()} | {"module.conv_seg.0.weight": torch.zeros(3)}


def test_nothing_is_random_weights() -> None:
    net = torch.nn.Linear(1, 1)
    before = net.weight.item()
    found = find(None, model="detector", architecture=DETECTOR)
    load(net, found)
    assert (found.record, net.weight.item()) == ({}, before)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_imagenet_weights_of_a_resnet_come_from_a_file_without_its_head(suffix: str, tmp_path: Path) -> None:
    from torchvision.models import resnet18

    state, path = other_values(resnet18().state_dict()), tmp_path / f"resnet18{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    found = find(f"imagenet={path}", model="detector", architecture=DETECTOR)
    assert found.record == {"init": "imagenet", "file": path.name, "sha256": sha256(path)}
    net = build_detector(DETECTOR)
    heads = net.roi_heads.box_predictor.cls_score.weight.clone()
    load(net, found, backbone="resnet18")
    assert torch.equal(net.backbone.body.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert torch.equal(net.roi_heads.box_predictor.cls_score.weight, heads)
    with pytest.raises(UsageError, match="does not fit --backbone resnet34"):
        load(build_detector({**DETECTOR, "backbone": "resnet34"}), found, backbone="resnet34")


def test_imagenet_weights_are_fetched_with_their_hash_checked_and_offline_the_file_form_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision.models import resnet18

    asked: list[dict[str, Any]] = []

    def fetch(url: str, **how: Any) -> dict[str, torch.Tensor]:
        asked.append(how)
        path = tmp_path / "checkpoints" / url.rsplit("/", 1)[-1]
        path.parent.mkdir()
        torch.save(resnet18().state_dict(), path)
        return {}

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    found = find("imagenet", model="detector", architecture=DETECTOR)
    assert found.record["file"].startswith("resnet18-") and asked[0]["check_hash"] and asked[0]["weights_only"]

    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(UsageError, match=r"no network.*imagenet=FILE\.pth"):
        find("imagenet", model="detector", architecture=DETECTOR)


def test_imagenet_weights_of_efficientnet_come_from_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from modic.models import efficientnet

    architecture = {**DETECTOR, "backbone": "efficientnet_lite0"}
    state, path = other_values(efficientnet.trunk().state_dict()), tmp_path / "lite0.pth"
    torch.save({f"theirs.{i}": v for i, v in enumerate(state.values())} | {"_fc.bias": torch.zeros(3)}, path)
    monkeypatch.setattr(efficientnet, "packaged", lambda: path)
    found, net = find("imagenet", model="detector", architecture=architecture), build_detector(architecture)
    load(net, found, backbone="efficientnet_lite0")
    assert torch.equal(net.backbone.body.stem[1].weight, state["stem.1.weight"])

    def missing() -> None:
        raise ModuleNotFoundError("no package")

    monkeypatch.setattr(efficientnet, "packaged", missing)
    with pytest.raises(UsageError, match=r"no package.*imagenet=FILE\.pth"):
        find("imagenet", model="detector", architecture=architecture)


def test_medicalnet_weights_go_into_both_branches_and_the_middle_planes_are_taken(tmp_path: Path) -> None:
    net = build_classifier(FULL)
    state, path = med3d(net.t1), tmp_path / "resnet_10_23dataset.pth"
    torch.save({"state_dict": state}, path)
    head = net.head.weight.clone()
    load(net, find(f"medicalnet={path}", model="classifier", architecture=FULL))
    for branch in (net.t1, net.t2):
        assert branch.conv1.weight[0, 0, :, 0, 0].tolist() == [2, 3, 4]
        assert torch.equal(branch.layer4[0].conv2.weight, state["module.layer4.0.conv2.weight"])
        assert torch.equal(branch.layer2[0].downsample[0].weight, state["module.layer2.0.downsample.0.weight"])
        assert not branch.layer2[0].downsample[0].bias.any()
    assert torch.equal(net.head.weight, head)


def test_medicalnet_of_depth_18_leaves_our_shortcuts_as_they_are() -> None:
    net = build_classifier({**SMALL, "depth": 18})
    ours = net.t1.state_dict()
    taken = medicalnet(med3d(net.t1, shortcuts=False), ours)
    assert torch.equal(taken["layer2.0.downsample.0.weight"], ours["layer2.0.downsample.0.weight"])
    assert taken.keys() | {k for k in ours if k.endswith("num_batches_tracked")} == ours.keys()


def test_medicalnet_needs_its_widths_and_its_depth(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--widths 64,128,256,512"):
        find("medicalnet=x.pth", model="classifier", architecture=SMALL)
    path = tmp_path / "resnet_34.pth"
    torch.save({"state_dict": med3d(build_classifier(FULL).t1)}, path)
    found = find(f"medicalnet={path}", model="classifier", architecture={**FULL, "depth": 18})
    with pytest.raises(UsageError, match="does not fit a MedicalNet of this --depth"):
        load(build_classifier({**FULL, "depth": 18}), found)


def test_whole_weights_are_taken_up_and_their_history_recorded(tmp_path: Path) -> None:
    first, net = build_classifier(SMALL), build_classifier(SMALL)
    card = {
        "kind": "classifier", "architecture": SMALL, "recipe": {"command": "modic train …", "started_from": None},
        "preprocessing": {"normalization": "none", "region_scale": 1, "region_size": 32, "slices": 5},
        "calibration": {"temperature": 1.0, "conformal_q": [0.7, 0.7, 0.7]},
    }  # fmt: skip
    path = save_weights(tmp_path / "first.safetensors", first.state_dict(), card)
    found = find(str(path), model="classifier", architecture=SMALL)
    assert found.record == {
        "init": "weights", "file": "first.safetensors", "sha256": sha256(path), "command": "modic train …",
        "before": None,
    }  # fmt: skip
    load(net, found)
    assert torch.equal(net.head.weight, first.head.weight.half().float())
    path.with_suffix(".json").unlink()  # without a card it still is a file with a hash
    assert "command" not in find(str(path), model="classifier", architecture=SMALL).record
    with pytest.raises(UsageError, match="does not fit this architecture"):
        load(build_classifier({**SMALL, "depth": 18}), found)


@pytest.mark.parametrize(
    ("model", "init", "said"),
    [
        ("detector", "medicalnet=x.pth", "imagenet=FILE or NAME.safetensors"),
        ("classifier", "imagenet", "medicalnet=FILE .resnet3d. or NAME.safetensors"),
        ("classifier", "medicalnet", "medicalnet=FILE .resnet3d. or NAME.safetensors"),
        ("detector", "imagenet=nowhere.pth", "nowhere.pth does not exist"),
        ("classifier", "nowhere.safetensors", "nowhere.safetensors does not exist"),
    ],
)
def test_what_cannot_be_started_from_is_named(model: str, init: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find(init, model=model, architecture=DETECTOR | FULL)


class Harm:
    """What a pickle could run."""

    def __reduce__(self) -> Any:
        return print, ("harm",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"conv1.weight": Harm()}, tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes(b"not a pickle")
    (tmp_path / "z.safetensors").write_bytes(b"not one either")
    for name in ("x.pth", "y.pth", "z.safetensors"):
        with pytest.raises(UsageError, match=name):
            read_tensors(tmp_path / name)
    assert "harm" not in capsys.readouterr().out


def test_efficientnet_tensors_are_matched_by_order_which_safetensors_do_not_keep(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    found = pretrained.Start("imagenet", tmp_path / "x.safetensors")
    net = build_detector({**DETECTOR, "backbone": "efficientnet_lite0"})
    with pytest.raises(UsageError, match=r"\.pth"):
        load(net, found, backbone="efficientnet_lite0")
