"""The paper's classifier: what it keeps of a level, and that it is still MONAI's network."""

from typing import Any

import pytest
import torch

from modic.models.classifier import build_classifier
from modic.models.network import FeatureNetwork

ARCHITECTURE = {"depth": 10, "widths": [4, 4, 4, 8]}


@pytest.fixture(scope="module")
def net() -> Any:
    """With the running statistics of forty batches."""
    torch.manual_seed(0)
    net = build_classifier(ARCHITECTURE)
    with torch.no_grad():
        for _ in range(40):
            net(torch.randn(16, 2, 5, 32, 32))
    return net.eval()


def test_both_branches_are_monais_network_from_end_to_end(net: Any) -> None:
    x = torch.randn(3, 2, 5, 32, 32)
    with torch.inference_mode():
        expected = net.head(torch.cat([net.t1(x[:, :1]), net.t2(x[:, 1:])], 1))
        torch.testing.assert_close(net(x), expected)


def test_level_features_have_about_unit_variance_and_change_no_logit(net: Any) -> None:
    assert isinstance(net, FeatureNetwork)
    with torch.inference_mode():
        encoding = net.encode(torch.randn(200, 2, 5, 32, 32))
        features = net.level_features(encoding)
        torch.testing.assert_close(net.logits(encoding), net.head(encoding.features))
    assert features.shape == (200, 16)
    assert features.mean().abs() < 0.2 and 0.6 < features.std(0).mean() < 1.4
    assert encoding.features.std(0).mean() < 0.5, "what the head reads is on another scale"


def test_weights_from_before_features_were_kept_still_load(net: Any) -> None:
    state = {name: value for name, value in net.state_dict().items() if not name.startswith("spread.")}
    old = build_classifier(ARCHITECTURE)
    old.load_state_dict(state)
    x = torch.randn(2, 2, 5, 32, 32)
    with torch.inference_mode():
        encoding = old.eval().encode(x)
        torch.testing.assert_close(old(x), net(x))
        torch.testing.assert_close(old.level_features(encoding), encoding.features, rtol=1e-4, atol=1e-5)
    assert not any(name.startswith("spread.") for name in state)
    with pytest.raises(RuntimeError, match=r"head\.bias"):
        old.load_state_dict({name: value for name, value in state.items() if name != "head.bias"})


def test_a_slice_alone_is_a_stack_of_that_slice(net: Any) -> None:
    x = torch.randn(2, 2, 5, 32, 32)
    with torch.inference_mode():
        alone = net.slice_logits(net.encode(x))
        torch.testing.assert_close(alone[:, 3], net(x[:, :, 3:4].expand_as(x)))


def test_the_map_of_one_class_is_not_that_of_another(net: Any) -> None:
    x = torch.randn(2, 2, 5, 32, 32)
    with torch.inference_mode():
        encoding = net.encode(x)
    one, other = (net.saliency(encoding, torch.tensor([k, k])) for k in (0, 1))
    assert one.shape[:2] == (2, 2) and one.min() >= 0 and one.max() > 0 and not torch.allclose(one, other)
    assert not encoding.maps[0].requires_grad
