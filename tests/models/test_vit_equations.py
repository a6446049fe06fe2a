"""The ViT against the equations of the paper, written out in NumPy and float64."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers import images_for, tiny_model
from vitrail.models.vit import ViT
from vitrail.models.vit_config import ViTConfig

Array = NDArray[np.float64]


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + shift


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def self_attention(z: Array, p: dict[str, Array], name: str, heads: int) -> Array:
    """Appendix A, equations 5 to 8: one head at a time."""
    width = z.shape[1]
    k = width // heads
    weight, bias = p[f"{name}.qkv.weight"], p[f"{name}.qkv.bias"]
    answers = []
    for head in range(heads):
        rows = [slice(part * width + head * k, part * width + (head + 1) * k) for part in range(3)]
        q, key, v = (z @ weight[r].T + bias[r] for r in rows)
        weights = softmax(q @ key.T / math.sqrt(k))
        answers.append(weights @ v)
    return np.concatenate(answers, 1) @ p[f"{name}.proj.weight"].T + p[f"{name}.proj.bias"]


def equations(image: Array, p: dict[str, Array], config: ViTConfig) -> Array:
    """Section 3.1, equations 1 to 4, and the head; image c h w."""
    size, (rows, columns) = config.patch_size, config.grid
    kernel = p["patch_embed.proj.weight"].reshape(config.width, -1)
    tokens = [p["cls_token"][0, 0]]
    for row in range(rows):
        for column in range(columns):
            top, left = row * size, column * size
            patch = image[:, top : top + size, left : left + size]
            tokens.append(kernel @ patch.reshape(-1) + p["patch_embed.proj.bias"])
    z = np.stack(tokens) + p["pos_embed"][0]  # 1
    for i in range(config.depth):
        block = f"blocks.{i}"
        normed = layer_norm(z, p[f"{block}.norm1.weight"], p[f"{block}.norm1.bias"])
        z = z + self_attention(normed, p, f"{block}.attn", config.heads)  # 2
        normed = layer_norm(z, p[f"{block}.norm2.weight"], p[f"{block}.norm2.bias"])
        hidden = gelu(normed @ p[f"{block}.mlp.fc1.weight"].T + p[f"{block}.mlp.fc1.bias"])
        z = z + hidden @ p[f"{block}.mlp.fc2.weight"].T + p[f"{block}.mlp.fc2.bias"]  # 3
    y = layer_norm(z[0], p["norm.weight"], p["norm.bias"])  # 4
    return p["head.weight"] @ y + p["head.bias"]


@pytest.mark.parametrize("heads", [1, 4])
def test_equations_1_to_4(heads: int) -> None:
    model = tiny_model("vit", heads=heads).double().eval()
    assert isinstance(model, ViT)
    images = images_for(model, 3).double()
    p = {name: tensor.detach().numpy() for name, tensor in model.named_parameters()}
    expected = np.stack([equations(image, p, model.config) for image in images.numpy()])
    np.testing.assert_allclose(model(images).detach().numpy(), expected, rtol=1e-10, atol=1e-10)
