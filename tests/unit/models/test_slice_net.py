"""The classifier that reads slices one by one."""

import pytest
import torch

from modic.errors import WeightsError
from modic.models.classifier import build_classifier
from modic.models.detector import build_detector
from modic.models.network import FeatureNetwork


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    made = build_classifier({"backbone": "efficientnet_lite0"}).eval()
    torch.nn.init.normal_(made.head.weight)
    return made


def test_discs_with_different_numbers_of_slices_are_graded_together_as_alone(net: torch.nn.Module) -> None:
    five, one = torch.rand(2, 5, 64, 64), torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        together = net([five, one])
        alone = torch.cat([net(five[None]), net(one[None])])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_repeated_slice_is_graded_as_that_slice(net: torch.nn.Module) -> None:
    one = torch.rand(1, 2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(net(one.expand(-1, -1, 5, -1, -1)), net(one), rtol=1e-4, atol=1e-4)


def test_the_middle_slice_weighs_most_and_mirrored_stacks_are_alike(net: torch.nn.Module) -> None:
    stack, other = torch.rand(1, 2, 5, 64, 64), torch.rand(1, 2, 64, 64)
    middle, outer = stack.clone(), stack.clone()
    middle[:, :, 2], outer[:, :, 0] = other, other
    with torch.inference_mode():
        whole = net(stack)
        torch.testing.assert_close(net(stack.flip(2)), whole, rtol=1e-4, atol=1e-4)
        assert (net(middle) - whole).abs().sum() > (net(outer) - whole).abs().sum() > 0


def test_what_sees_both_contrasts_speaks_for_type_1_only(net: torch.nn.Module) -> None:
    x = torch.rand(1, 2, 1, 64, 64)
    with torch.inference_mode():
        before = net(x)
        net.oedema.bias += 1
        after = net(x)
        net.oedema.bias -= 1
    torch.testing.assert_close(after - before, torch.tensor([[0.0, 1.0, 0.0]]), rtol=1e-4, atol=1e-4)


def test_batch_statistics_of_the_trunk_are_not_trained(net: torch.nn.Module) -> None:
    before = {key: value.clone() for key, value in net.trunk.state_dict().items()}
    net.train()
    net(torch.rand(2, 2, 1, 64, 64))
    net.eval()
    assert all(torch.equal(before[key], value) for key, value in net.trunk.state_dict().items())


@pytest.mark.parametrize("build", [build_classifier, build_detector])
def test_an_unknown_backbone_is_named(build) -> None:
    with pytest.raises(WeightsError, match="vgg"):
        build({"backbone": "vgg"})


def test_what_the_last_layer_reads_is_what_the_level_features_hold(net: torch.nn.Module) -> None:
    torch.nn.init.normal_(net.oedema.weight)
    with torch.inference_mode():
        encoding = net.encode(torch.rand(3, 2, 5, 64, 64))
        features, logits = net.level_features(encoding), net.logits(encoding)
        pooled, joint = features.split([net.head.in_features, net.oedema.in_features], 1)
        again = net.head(pooled)
        again[:, 1:2] += net.oedema(joint)
    assert isinstance(net, FeatureNetwork)
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)
