"""The weights that a training starts from: `--init`.

| --init             | detector                                        | classifier                                   |
|--------------------|-------------------------------------------------|----------------------------------------------|
| (nothing)          | random weights                                  | random weights                               |
| `imagenet`         | the trunk: EfficientNet-Lite0 from its package, | the trunk: EfficientNet-Lite0 from its       |
|                    | a ResNet fetched by torchvision, hash checked   | package                                      |
| `imagenet=FILE`    | the trunk, from a file (.pth, .safetensors)     | the trunk, from its .pth file                |
| `medicalnet=FILE`  |                                                 | both branches, from Med3D's file (Chen 2019) |
| `NAME.safetensors` | the whole network, of the same architecture     | the whole network, of the same architecture  |

A .pth file is a pickle; it is read with `weights_only`, so that no code in it can run.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modic.errors import UsageError
from modic.models.card import read_card, sha256

if TYPE_CHECKING:
    import torch
    from torch import nn

MEDICALNET_WIDTHS = (64, 128, 256, 512)
FORMS = {
    "detector": "imagenet, imagenet=FILE or NAME.safetensors",
    "classifier": "imagenet, imagenet=FILE (efficientnet_lite0), medicalnet=FILE (resnet3d) or NAME.safetensors",
}


@dataclass(frozen=True, slots=True)
class Start:
    """Weights to start from, which `load` puts into a network."""

    form: str = ""  # "" (random) | imagenet | medicalnet | weights
    path: Path | None = None  # None for random weights
    record: dict[str, Any] = field(default_factory=dict)  # for the card: form, the file's name, its SHA-256


def find(init: str | None, *, model: str, architecture: dict[str, Any]) -> Start:
    """The weights that `--init` names for a network, their file hashed; weights that torchvision hosts are fetched.

    Args:
        init: the value of `--init`.
        model: detector | classifier.
        architecture: of its card.

    Raises:
        UsageError: the form is unknown, the file is missing, or the architecture cannot take such weights.
    """
    if not init:
        return Start()
    form, _, file = init.partition("=")
    takes_imagenet = model == "detector" or architecture.get("backbone") == "efficientnet_lite0"
    if takes_imagenet and form == "imagenet":
        path = Path(file) if file else _imagenet(architecture["backbone"])
    elif model == "classifier" and form == "medicalnet" and file:
        _check_widths(architecture.get("widths", ()))
        path = Path(file)
    elif init.endswith(".safetensors"):
        form, path = "weights", Path(init)
    else:
        raise UsageError(f"--init {init}: give {FORMS[model]}")
    if not path.is_file():
        raise UsageError(f"--init: {path} does not exist")
    record = {"init": form, "file": path.name, "sha256": sha256(path)}
    return Start(form, path, record | (_earlier(path, model) if form == "weights" else {}))


def load(net: "nn.Module", start: Start, *, backbone: str = "efficientnet_lite0") -> None:
    """Put the weights into a detector (of this `backbone`) or a classifier, in place.

    Raises UsageError if they do not fit.
    """
    if start.path is None:
        return
    if start.form == "imagenet":
        body: Any = net.get_submodule("trunk" if hasattr(net, "trunk") else "backbone.body")
        _load_imagenet(body, start.path, backbone)
    elif start.form == "medicalnet":
        tensors = read_tensors(start.path)
        for branch in (net.get_submodule("t1"), net.get_submodule("t2")):
            _copy(branch, medicalnet(tensors, branch.state_dict()), start.path, "a MedicalNet of this --depth")
    else:
        _copy(net, read_tensors(start.path), start.path, "this architecture; repeat the options of its card")


def read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    """The float32 state dict of a .safetensors or .pth file; the latter may hold it under `state_dict`, as Med3D's do.

    Raises UsageError if the file cannot be read or holds anything but tensors.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        safe = path.suffix == ".safetensors"
        content: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    except (OSError, EOFError, RuntimeError, AttributeError, SafetensorError, pickle.UnpicklingError) as error:
        raise UsageError(f"--init: {path} holds no weights that can be read safely: {_first_line(error)}") from error


def medicalnet(tensors: dict[str, "torch.Tensor"], ours: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Convert Med3D's state dict to that of one branch of the classifier.

    The prefix `module.` and the segmentation head are dropped. Of the first kernel's seven planes the middle three are
    kept, since slices are 4-5 mm apart. Med3D's shortcuts have no bias: ours becomes zero. At depths 18 and 34 its
    shortcuts have no weights: ours stay as they are.

    Args:
        tensors: of a Med3D file (`read_tensors`).
        ours: state dict of the branch.
    """
    import torch

    state = {key.removeprefix("module."): value for key, value in tensors.items()}
    state = {key: value for key, value in state.items() if not key.startswith(("conv_seg", "fc."))}
    if (first := state.get("conv1.weight")) is not None and first.ndim == 5:
        middle, half = first.shape[2] // 2, ours["conv1.weight"].shape[2] // 2
        state["conv1.weight"] = first[:, :, middle - half : middle + half + 1]
    weightless = not any("downsample" in key for key in state)
    for key, value in ours.items():
        if "downsample" in key and key not in state and (weightless or key.endswith("downsample.0.bias")):
            state[key] = value if weightless else torch.zeros_like(value)
    return state


def _load_imagenet(body: "nn.Module", path: Path, backbone: str) -> None:
    """Put ImageNet weights into a trunk. Raises UsageError."""
    if backbone == "efficientnet_lite0":
        from modic.models.efficientnet import load_imagenet

        if path.suffix == ".safetensors":  # tensors are matched by order, which safetensors does not keep
            raise UsageError(f"--init: {path}: of {backbone} give the .pth file")
        load_imagenet(body, str(path))
        return
    tensors = {key: value for key, value in read_tensors(path).items() if not key.startswith("fc.")}
    _copy(body, tensors, path, f"--backbone {backbone}")


def _imagenet(backbone: str) -> Path:
    """The file of a backbone's ImageNet weights: from the package, or from torchvision, which checks the hash."""
    import torch
    from torchvision.models import get_model_weights

    from modic.models.detector import RESNETS
    from modic.models.efficientnet import packaged

    try:
        if backbone not in RESNETS:
            return Path(str(packaged()))
        weights = get_model_weights(backbone)["IMAGENET1K_V1"]
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, ImportError, RuntimeError) as error:
        raise UsageError(
            f"--init imagenet: the weights of {backbone} are not at hand ({_first_line(error)}); give their file: "
            "--init imagenet=FILE.pth"
        ) from error
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


def _copy(module: "nn.Module", tensors: dict[str, Any], path: Path, target: str) -> None:
    """Load a state dict in which only counts of batches may be missing. Raises UsageError, naming the `target`."""
    counts = {key: value for key, value in module.state_dict().items() if key.endswith("num_batches_tracked")}
    try:
        module.load_state_dict(counts | tensors)
    except RuntimeError as error:
        raise UsageError(f"--init: {path} does not fit {target}: {' '.join(str(error).split())[:300]}") from error


def _earlier(path: Path, model: str) -> dict[str, Any]:
    """How the weights were made, by the card beside them; empty without a card."""
    if not path.with_suffix(".json").is_file():
        return {}
    card, _ = read_card(str(path), model)
    return {"command": card["recipe"].get("command"), "before": card["recipe"].get("started_from")}


def _check_widths(widths: Any) -> None:
    """Raise UsageError for other widths than Med3D's."""
    if tuple(widths) != MEDICALNET_WIDTHS:
        wanted = ",".join(map(str, MEDICALNET_WIDTHS))
        raise UsageError(f"--init medicalnet needs --widths {wanted} (and --depth as in the file's name)")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
