"""torchvision's state dicts of ViTs, Swins and ResNets, in a `.safetensors` file.

`torchvision_model.load_state_dict(safetensors.torch.load_file(path))` takes what is written. A
ResNet's names are timm's too, and such files are read as timm's. Checked against torchvision 0.28.
"""

import json
from pathlib import Path
from typing import Any

from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError
from vitrail.models import Backbone, BackboneConfig
from vitrail.models.resnet import ResNetConfig
from vitrail.models.swin_config import SwinConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.defaults import IMAGENET, default
from vitrail.weights.description import describe, parse_description
from vitrail.weights.foreign import Foreign, Format
from vitrail.weights.grids import SIZE_NOTE
from vitrail.weights.infer import count_blocks, infer_vit, name_of
from vitrail.weights.limits import PAPER, require
from vitrail.weights.names import read_by, write_by
from vitrail.weights.source import OWN_KEY, PICKLES, Source
from vitrail.weights.tensors import write_tensors
from vitrail.weights.torchvision_names import renamed, rules, vit_rules
from vitrail.weights.torchvision_swin import SWIN_EPS, infer_swin, swin_indices

WHOSE = "torchvision"
ALLOWED = PAPER | {"prefix_positions": (True,)}
NORM_EPS = {"vit": 1e-6, "swin": SWIN_EPS}
UNUSED = {r".*\.relative_position_index": "computed from the sizes"}
VIT_MARK = "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"
SWIN_MARK = "features.1.0.attn.qkv.weight"


def matches(source: Source) -> bool:
    """Whether the tensors are called as torchvision calls those of a ViT or Swin."""
    return source.has(VIT_MARK) or source.has(SWIN_MARK)


def read(source: Source) -> Foreign:
    """Read a ViT or Swin.

    Raises:
        WeightsError: the architecture is none of ours, or a tensor is missing or unknown.
    """
    tensors = {renamed(name): tensor for name, tensor in source.tensors.items()}
    where = source.where
    if source.own:
        about = parse_description(source.own, where)
        _require(about.config, f"{where}: {WHOSE}")
        ours, dropped = read_by(rules(about.config), tensors, UNUSED, where)
        return Foreign.of(about, ours, dropped)
    if source.has(SWIN_MARK):
        config: BackboneConfig = infer_swin(tensors, where, source.trained_size)
        notes: tuple[str, ...] = () if source.trained_size else (SIZE_NOTE,)
        ours, dropped = read_by(rules(config), tensors, UNUSED, where)
    else:
        depth = count_blocks(tensors, r"encoder\.layers\.encoder_layer_(\d+)\..*")
        found = vit_rules(depth, head="heads.head.weight" in tensors)
        ours, dropped = read_by(found, tensors, UNUSED, where)
        known: dict[str, Any] = {"norm_eps": NORM_EPS["vit"], "position_rule": "corners"}
        config, notes = infer_vit(ours, where, source.trained_size, **known)
    preprocess, note = _preprocess(config)
    return Foreign(config, ours, name_of(config), (), preprocess, dropped, (*notes, note))


def write(model: Backbone, path: Path) -> tuple[str, ...]:
    """Write a `.safetensors` file, or a folder with `model.safetensors`.

    Vitrail's own description goes into the header of the file.

    Raises:
        WeightsError: torchvision has no such model, or the model lacks class names or
            preprocessing.
        StorageError: it cannot be written.
    """
    if path.suffix in (*PICKLES, ".npz"):
        raise WeightsError(f"{path}: torchvision's format is a .safetensors file or a folder here")
    config = model.config
    _require(config, WHOSE)
    about = describe(model)
    tensors = write_by(rules(config), model.state_dict())
    if isinstance(config, SwinConfig):
        tensors |= swin_indices(config)
    file = path if path.suffix == ".safetensors" else path / "model.safetensors"
    write_tensors(file, tensors, {OWN_KEY: json.dumps(about), "format": "pt"})
    return _unsaid(config)


def _preprocess(config: BackboneConfig) -> tuple[Preprocess | None, str]:
    """Give what vit_b_16's and swin_t's first weights were evaluated with, and a line about it."""
    swin = isinstance(config, SwinConfig)
    resized, interpolation = (232, "bicubic") if swin else (256, "bilinear")
    preprocess = default(
        config, *IMAGENET, crop_fraction=224 / resized, interpolation=interpolation
    )
    return preprocess, (
        f"the file does not say its preprocessing; mean and deviation ImageNet's, {interpolation}, "
        f"crop 224 of {resized} are assumed: set model.preprocess where it is another"
    )


def _require(config: BackboneConfig, whose: str) -> None:
    """Refuse a model that torchvision cannot build. Raises WeightsError."""
    if isinstance(config, ViTConfig) and dict(config)["kind"] == "vit":
        require(config, ALLOWED, whose)
        height, width = config.image_size
        if height != width:
            raise WeightsError(
                f"{whose} has no place for image_size={height}x{width}: its ViTs take square images"
            )
    elif isinstance(config, ResNetConfig):
        require(config, {"width": (64,)}, whose)
        if len(config.depths) != 4:
            raise WeightsError(f"{whose} has no place for depths={config.depths}, only for four")
    elif not isinstance(config, SwinConfig):
        raise WeightsError(f"{whose} has no place for a {dict(config)['kind']}; save as vitrail")


def _unsaid(config: BackboneConfig) -> tuple[str, ...]:
    notes = []
    sizes = dict(config)
    eps = NORM_EPS.get(sizes["kind"])
    if eps is not None and sizes["norm_eps"] != eps:
        notes.append(f"has no place for norm_eps={sizes['norm_eps']}; it computes with {eps}")
    if isinstance(config, ViTConfig) and config.position_rule != "corners":
        rule = config.position_rule
        notes.append(f"has no place for position_rule={rule}; it resamples with corners")
    if not config.classes:
        notes.append("its models have a head: put torch.nn.Identity() there before you load")
    if config.in_channels != 3:
        notes.append(f"its models take 3 channels; change the first layer to {config.in_channels}")
    return tuple(notes)


TORCHVISION = Format(
    "torchvision: a .safetensors file (or a folder with one) of a ViT, Swin or ResNet",
    matches,
    read,
    write,
)
