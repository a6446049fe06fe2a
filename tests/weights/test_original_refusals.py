"""Originals that cannot be read are refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.weights.original_cases import GAMMA, LS, REGISTERS
from tests.weights.original_vit import WIDTH, State, a_state
from vitrail.errors import WeightsError
from vitrail.weights.load import load_model
from vitrail.weights.tensors import write_tensors


def damaged(change: Callable[[State], None], **state: Any) -> State:
    result = a_state(**state)
    change(result)
    return result


V2: dict[str, Any] = {"gamma": LS, "tokens": REGISTERS}
FAULTS: dict[str, tuple[str, State, str]] = {
    "a class token of another width": (
        "dinov2",
        damaged(lambda s: s.update(cls_token=torch.ones(1, 1, 3)), **V2),
        r"cls_token \[1, 1, 3\] and pos_embed \[1, 17, 128\] must have one width",
    ),
    "a table of one axis": (
        "dinov2",
        damaged(lambda s: s.update(pos_embed=torch.ones(5)), **V2),
        r"pos_embed is \[5\]; it must have 3 axes",
    ),
    "two blocks of one number": (
        "dinov2",
        damaged(lambda s: s.update({"blocks.7.0.norm1.weight": torch.ones(WIDTH)}), **V2),
        r"has two blocks with the same number",
    ),
    "patches of one axis": (
        "deit",
        damaged(
            lambda s: s.update({"patch_embed.proj.weight": torch.ones(3)}), rows=16, gamma=GAMMA
        ),
        r"patch_embed.proj.weight is \[3\]; it must have 4 axes",
    ),
    "parallel branches": (
        "deit",
        damaged(lambda s: s.update({"blocks.0.attn1.qkv.weight": torch.ones(3)}), gamma=GAMMA),
        r"has 'blocks.0.attn1.qkv.weight', which this architecture lacks",
    ),
    "a hole": (
        "deit",
        damaged(lambda s: s.pop("blocks.1.gamma_2"), gamma=GAMMA),
        r"lacks 'blocks.1.gamma_2' \(1 tensors missing\)",
    ),
    "no grid": (
        "mae",
        damaged(lambda s: None, rows=16, norms=("fc_norm",)),
        r"has positions for 15 patches, which is no square grid",
    ),
    "a linear probe with its norm": (
        "mae",
        damaged(lambda s: s.update({"head.0.running_mean": torch.ones(WIDTH)})),
        r"has 'head.0.running_mean', which this architecture lacks",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refusals(name: str, tmp_path: Path) -> None:
    format, state, match = FAULTS[name]
    write_tensors(tmp_path / "x.safetensors", state)
    with pytest.raises(WeightsError, match=match):
        load_model(tmp_path / "x.safetensors", format=format)
