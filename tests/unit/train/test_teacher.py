"""A detector that learns another detector's feature maps first."""

from pathlib import Path

import pytest
import torch

from modic.errors import UsageError
from modic.models.detector import build_detector
from modic.models.weights import save_weights
from modic.train.options import DetectorTraining
from modic.train.teacher import HEADS, Teacher

SIZE = 64
THIN = {"backbone": "resnet18", "fpn_channels": 8, "head_features": 8}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    net = build_detector(THIN | {"backbone": "efficientnet_lite0"})
    card = {"kind": "detector", "preprocessing": {"image_size": SIZE, "percentiles": [1.0, 99.5]}}
    architecture = {"architecture": THIN | {"backbone": "efficientnet_lite0"}}
    return str(save_weights(tmp_path / "teacher.safetensors", net.state_dict(), card | architecture))


def test_the_heads_are_the_teachers_and_stay(weights: str) -> None:
    torch.manual_seed(1)
    net = build_detector(THIN)
    teacher = Teacher(weights, net, "cpu")
    own = net.state_dict()
    heads = {key: value for key, value in teacher.net.state_dict().items() if key.startswith(HEADS)}
    assert heads
    assert all(torch.equal(own[key], value) for key, value in heads.items())
    learnt = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert learnt == {name for name, _ in net.named_parameters() if name.startswith("backbone.")}


def test_the_distance_falls_to_nothing_for_the_teacher_itself_and_is_what_is_learnt(weights: str) -> None:
    torch.manual_seed(1)
    images = [torch.rand(3, SIZE, SIZE) for _ in range(2)]
    itself = build_detector(THIN | {"backbone": "efficientnet_lite0"})
    same = Teacher(weights, itself, "cpu")
    itself.load_state_dict(same.net.state_dict())
    itself.eval()(images)
    assert same.distance().item() == pytest.approx(0, abs=1e-8)

    net = build_detector(THIN)
    teacher = Teacher(weights, net, "cpu")
    optimizer = torch.optim.Adam([each for each in net.parameters() if each.requires_grad], 3e-3)
    targets = [{"boxes": torch.tensor([[10.0, 10, 40, 30]]), "labels": torch.tensor([1])}] * 2
    distances = []
    for _ in range(12):
        net(images, targets)
        distance = teacher.distance()
        distances.append(distance.item())
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
    assert distances[-1] < 0.7 * distances[0]


def test_a_teacher_of_another_width_is_refused(weights: str) -> None:
    with pytest.raises(UsageError, match="another width"):
        Teacher(weights, build_detector(THIN | {"fpn_channels": 16}), "cpu")


def test_a_card_names_no_folder(weights: str) -> None:
    from modic.train.command_line import command

    options = DetectorTraining(data=("phantom=3",), out=Path("out"), teacher=weights)
    assert "--teacher NAME.safetensors" in command("detector", options)
