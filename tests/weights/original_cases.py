"""ViT checkpoints as their authors publish them: weights, the file around, what is expected."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tests.weights.original_vit import (
    SIDE,
    WIDTH,
    Place,
    State,
    a_state,
    place_deit3,
    place_dino,
    place_mae,
    place_registers,
)

NATIVE = (32, 32)
LS = ("ls1.gamma", "ls2.gamma")
GAMMA = ("gamma_1", "gamma_2")
HEAD = {f"head.{name}": torch.ones(2, 2) for name in ("mlp.0.weight", "last_layer.weight_g")}
STEPS = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}, "param_groups": []}
TRAINING = {"optimizer": STEPS, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
MASK = {"mask_token": (1, WIDTH)}
REGISTERS = MASK | {"register_tokens": (1, 3, WIDTH)}


@dataclass(frozen=True)
class Case:
    """A published layout: the bare weights, the file around them, and what is expected of both."""

    format: str
    state: State
    place: Place
    wrap: Callable[[State], Any] = lambda state: state
    rule: str = "bicubic"
    crop: float = 0.875
    given: str | None = None  # the format that has to be given


def mae_file(state: State) -> Any:
    decoder = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, 17, 8),
        "decoder_embed.weight": torch.zeros(8, WIDTH),
        "decoder_pred.weight": torch.zeros(192, 8),
        "decoder_blocks.0.attn.qkv.weight": torch.zeros(24, 8),
        "decoder_norm.weight": torch.zeros(8),
    }
    return {"model": state | decoder, "scaler": {"scale": torch.tensor(2.0)}, **TRAINING}


def deit_file(state: State) -> Any:
    other = {name: tensor + 1 for name, tensor in state.items()}
    return {"model": other, "model_ema": state, "lr_scheduler": {"x": torch.ones(2)}, **TRAINING}


def dino_file(state: State) -> Any:
    teacher = {f"backbone.{name}": tensor for name, tensor in state.items()} | HEAD
    student = {f"module.{name}": tensor + 1 for name, tensor in teacher.items()}
    return {
        "student": student,
        "teacher": teacher,
        "dino_loss": {"center": torch.zeros(1, 4)},
        "fp16_scaler": {"scale": torch.tensor(2.0)},
        **TRAINING,
    }


def chunked(state: State) -> Any:
    """DINOv2 trains with one group for each block here; the blocks count on."""
    groups = {
        name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): tensor
        for name, tensor in state.items()
    }
    teacher = {f"backbone.{name}": tensor for name, tensor in groups.items()}
    teacher |= {f"dino_{name}": tensor for name, tensor in HEAD.items()}
    teacher |= {f"ibot_{name}": tensor for name, tensor in HEAD.items()}
    return {"teacher": teacher}


def model_only(state: State) -> Any:
    return {"model": state}


PATCHES = SIDE * SIDE
DIST = {"dist_token": (1, 1, WIDTH)}
CASES = {
    "mae": Case("mae", a_state(), place_mae, mae_file),
    "mae-encoder": Case("mae", a_state(), place_mae, model_only, given="mae"),
    "mae-tuned": Case("mae", a_state(norms=("fc_norm",), heads=("head",)), place_mae, model_only),
    "deit": Case("deit", a_state(heads=("head",)), place_mae, deit_file, given="deit"),
    "deit-distilled": Case(
        "deit",
        a_state(rows=PATCHES + 2, tokens=DIST, heads=("head", "head_dist")),
        place_mae,
        deit_file,
    ),
    "deit3": Case(
        "deit",
        a_state(rows=PATCHES, gamma=GAMMA, heads=("head",)),
        place_deit3,
        model_only,
        crop=1.0,
    ),
    "dino": Case("dino", a_state(), place_dino, dino_file, "offset"),
    "dino-backbone": Case("dino", a_state(), place_dino, rule="offset", given="dino"),
    "dinov2": Case("dinov2", a_state(gamma=LS, tokens=MASK), place_dino, rule="offset"),
    "dinov2-chunked": Case("dinov2", a_state(gamma=LS, tokens=MASK), place_dino, chunked, "offset"),
    "dinov2-gated": Case(
        "dinov2", a_state(gamma=LS, tokens=REGISTERS, gated=True), place_registers, rule="antialias"
    ),
    "dinov2-registers": Case(
        "dinov2", a_state(gamma=LS, tokens=REGISTERS), place_registers, chunked, "antialias"
    ),
}
