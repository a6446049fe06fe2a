"""ViTs in the layouts of their authors: weights under their names, and what they compute.

Written from the papers and the published names, without a module of ours: the forward pass is a few
plain operations on the dictionary itself.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH, HEADS, PATCH, SIDE, DEPTH = 128, 2, 8, 4, 2  # 4 x 4 patches: images of 32 x 32
State = dict[str, Tensor]
Place = Callable[[State, Tensor, tuple[int, int]], Tensor]  # patches and their grid to all tokens


def a_state(
    *,
    rows: int = SIDE * SIDE + 1,
    hidden: int = 192,
    gamma: tuple[str, ...] = (),
    gated: bool = False,
    norms: tuple[str, ...] = ("norm",),
    heads: tuple[str, ...] = (),
    tokens: dict[str, tuple[int, ...]] | None = None,
    seed: int = 0,
) -> State:
    """Draw the weights of a ViT under the names that all of these code bases share."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def draw(name: str, *shape: int, mean: float = 0.0, std: float = 0.1) -> None:
        state[name] = mean + std * torch.randn(shape, generator=generator)

    def layer(name: str, inside: int, outside: int) -> None:
        draw(f"{name}.weight", outside, inside)
        draw(f"{name}.bias", outside)

    def norm(name: str, width: int = WIDTH) -> None:
        draw(f"{name}.weight", width, mean=1.0)
        draw(f"{name}.bias", width)

    for name, shape in ({"cls_token": (1, 1, WIDTH)} | (tokens or {})).items():
        draw(name, *shape, std=0.5)
    draw("pos_embed", 1, rows, WIDTH, std=0.5)
    draw("patch_embed.proj.weight", WIDTH, 3, PATCH, PATCH)
    draw("patch_embed.proj.bias", WIDTH)
    for i in range(DEPTH):
        norm(f"blocks.{i}.norm1")
        layer(f"blocks.{i}.attn.qkv", WIDTH, 3 * WIDTH)
        layer(f"blocks.{i}.attn.proj", WIDTH, WIDTH)
        norm(f"blocks.{i}.norm2")
        first, second = ("w12", "w3") if gated else ("fc1", "fc2")
        layer(f"blocks.{i}.mlp.{first}", WIDTH, (1 + gated) * hidden)
        layer(f"blocks.{i}.mlp.{second}", hidden, WIDTH)
        for name in gamma:
            draw(f"blocks.{i}.{name}", WIDTH, mean=0.5)
    for name in norms:
        norm(name)
    for name in heads:
        layer(name, WIDTH, 5)
    return state


def encode(state: State, images: Tensor, place: Place) -> Tensor:
    """Give the states of all tokens after the last block, before the last norm."""
    x = F.conv2d(
        images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH
    )
    x = place(state, x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3]))
    for i in range(DEPTH):
        name = f"blocks.{i}"
        x = x + _scale(state, name, 1, _attention(state, name, norm(state, f"{name}.norm1", x)))
        x = x + _scale(state, name, 2, _mlp(state, f"{name}.mlp", norm(state, f"{name}.norm2", x)))
    return x


def norm(state: State, name: str, x: Tensor) -> Tensor:
    """LayerNorm with the epsilon of all these code bases."""
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    """A layer by its name."""
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _attention(state: State, name: str, x: Tensor) -> Tensor:
    q, k, v = (
        part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part in linear(state, f"{name}.attn.qkv", x).chunk(3, dim=-1)
    )
    weights = (q @ k.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)).softmax(dim=-1)
    return linear(state, f"{name}.attn.proj", (weights @ v).transpose(1, 2).flatten(2))


def _mlp(state: State, name: str, x: Tensor) -> Tensor:
    if f"{name}.w12.weight" in state:
        gate, value = linear(state, f"{name}.w12", x).chunk(2, dim=-1)
        return linear(state, f"{name}.w3", F.silu(gate) * value)
    return linear(state, f"{name}.fc2", F.gelu(linear(state, f"{name}.fc1", x)))


def _scale(state: State, name: str, branch: int, x: Tensor) -> Tensor:
    for gamma in (f"{name}.gamma_{branch}", f"{name}.ls{branch}.gamma"):
        if gamma in state:
            return x * state[gamma]
    return x


def _resized(table: Tensor, grid: tuple[int, int], **how: Any) -> Tensor:
    """Interpolate a table without rows for tokens that have no place."""
    if grid == (SIDE, SIDE):
        return table
    maps = table.reshape(1, SIDE, SIDE, -1).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, mode="bicubic", **how)
    assert tuple(maps.shape[2:]) == grid
    return maps.flatten(2).transpose(1, 2)


def place_mae(state: State, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """MAE and DeiT resize the table when they load it, to a size; the first rows are tokens'."""
    names = [name for name in ("cls_token", "dist_token") if name in state]
    prefix = torch.cat([state[name] for name in names], dim=1)
    count = len(names)
    table = state["pos_embed"]
    places = _resized(table[:, count:], grid, size=grid)
    return torch.cat([(prefix + table[:, :count]).expand(len(x), -1, -1), x + places], dim=1)


def place_deit3(state: State, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """DeiT III has positions for patches only."""
    places = _resized(state["pos_embed"], grid, size=grid)
    return torch.cat([state["cls_token"].expand(len(x), -1, -1), x + places], dim=1)


def place_dino(state: State, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """DINO and DINOv2 resize by a factor that is a little too large."""
    factor = ((grid[0] + 0.1) / SIDE, (grid[1] + 0.1) / SIDE)
    table = state["pos_embed"]
    places = _resized(table[:, 1:], grid, scale_factor=factor)
    return torch.cat([(state["cls_token"] + table[:, :1]).expand(len(x), -1, -1), x + places], 1)


def place_registers(state: State, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """DINOv2 with registers smooths, and puts the registers in after the positions."""
    table = state["pos_embed"]
    places = _resized(table[:, 1:], grid, size=grid, antialias=True)
    prefix = torch.cat([state["cls_token"] + table[:, :1], state["register_tokens"]], dim=1)
    return torch.cat([prefix.expand(len(x), -1, -1), x + places], dim=1)
