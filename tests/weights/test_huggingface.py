"""Reading what transformers writes, against transformers itself."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers import draw_images
from tests.weights.references import close
from tests.weights.transformers_models import CASES, LABELS, reference, saved, states_and_logits
from vitrail.models.base import Backbone
from vitrail.weights.load import load_model
from vitrail.weights.tensors import read_tensors, write_tensors

pytestmark = pytest.mark.peer

SIZES = {  # beyond the native one: larger, and of unequal sides
    "resnet": [(64, 64), (40, 72)],
    "swin": [(64, 64), (48, 80), (37, 51)],  # transformers' Swin shrinks its windows below
    "vit-wide": [],  # transformers resizes square tables only
}


def assert_equal_answers(model: Backbone, theirs: torch.nn.Module, case: str) -> None:
    """Tokens and logits agree at the native size and at others."""
    family = case if case in SIZES else case.split("-")[0]
    config = model.config
    for size in (config.image_size, *SIZES.get(family, [(48, 48), (32, 64)])):
        images = draw_images(2, config.in_channels, *size)
        states, logits = states_and_logits(theirs, images)
        with torch.no_grad():
            found = model.features(images)
            answer = model(images)
        tokens = found.tokens
        theirs_tokens = states.flatten(2).mT if states.ndim == 4 else states[:, -tokens.shape[1] :]
        close(tokens, theirs_tokens)
        if logits is not None:
            close(answer, logits)
        elif family not in ("swin", "resnet") and states.shape[1] > tokens.shape[1]:
            close(found.pooled[:, : states.shape[-1]], states[:, 0])


@pytest.mark.parametrize("case", CASES)
def test_what_transformers_saves_is_read(case: str, tmp_path: Path) -> None:
    theirs = reference(case)
    model = load_model(saved(theirs, tmp_path), quiet=True)
    assert model.loaded is not None and model.loaded.format == "huggingface"
    assert {row.fate for row in model.loaded.rows} <= {"loaded", "dropped"}
    assert_equal_answers(model, theirs, case)
    if model.config.classes:
        assert model.classes == tuple(LABELS.values())
    assert any("no preprocessor_config.json" in note for note in model.loaded.notes)


@pytest.mark.parametrize("case", CASES)
def test_the_names_of_the_modules_are_read_too(case: str, tmp_path: Path) -> None:
    theirs = reference(case)
    saved(theirs, tmp_path)
    tensors = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    assert case.startswith("resnet") or tensors.keys() != read_tensors(tmp_path / WEIGHTS).keys()
    write_tensors(tmp_path / WEIGHTS, tensors)
    assert_equal_answers(load_model(tmp_path, quiet=True), theirs, case)


WEIGHTS = "model.safetensors"
DROPPED = {
    "vit-bare": ("pooler.dense.weight", "the pooler"),
    "vit-masked": ("vit.embeddings.mask_token", "only for pre-training"),
    "mae-pretraining": ("decoder.decoder_pos_embed", "the decoder"),
    "registers": ("dinov2_with_registers.embeddings.mask_token", "only for pre-training"),
    "dinov3-gated": ("embeddings.register_tokens", "there are no registers"),
}


@pytest.mark.parametrize("case", DROPPED)
def test_what_is_not_needed_is_dropped_with_its_own_name(case: str, tmp_path: Path) -> None:
    model = load_model(saved(reference(case), tmp_path), quiet=True)
    name, why = DROPPED[case]
    assert model.loaded is not None
    assert any(row.name == name and why in row.why for row in model.loaded.of("dropped"))


def test_weights_in_several_files_are_read(tmp_path: Path) -> None:
    theirs = reference("vit")
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")  # type: ignore[operator]
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_equal_answers(load_model(tmp_path, quiet=True), theirs, "vit")


def test_half_precision_is_read(tmp_path: Path) -> None:
    theirs = reference("registers").half()
    model = load_model(saved(theirs, tmp_path), quiet=True)
    assert_equal_answers(model, theirs.float(), "registers")


def test_a_named_model_is_recognised(tmp_path: Path) -> None:
    sizes = {"hidden_size": 192, "num_attention_heads": 3, "num_hidden_layers": 12}
    theirs = reference("vit", **sizes, intermediate_size=768, image_size=224, patch_size=16)
    assert load_model(saved(theirs, tmp_path), quiet=True).name == "vit_tiny_patch16_224"


def test_transformers_positions_are_resampled_as_there(tmp_path: Path) -> None:
    for case in ("vit", "deit", "registers", "mae"):
        theirs = reference(case)
        model = load_model(saved(theirs, tmp_path / case), image_size=(16, 24), quiet=True)
        images = draw_images(1, 3, 16, 24)
        states, _ = states_and_logits(theirs, images)
        with torch.no_grad():
            tokens = model.features(images).tokens
        close(tokens, states[:, -tokens.shape[1] :])


def test_class_names_that_stand_there_twice_get_numbers(tmp_path: Path) -> None:
    folder = saved(reference("vit"), tmp_path)
    about = json.loads((folder / "config.json").read_text())
    about["id2label"]["3"] = "cat"
    (folder / "config.json").write_text(json.dumps(about))
    model = load_model(folder, quiet=True)
    assert model.classes == ("cat (0)", "dog", "LABEL_2", "cat (3)", "ünïcode")
    assert model.loaded is not None
    assert any("1 names, such as 'cat', stand for several" in note for note in model.loaded.notes)
    about["id2label"] = {"0": "cat"}
    (folder / "config.json").write_text(json.dumps(about))
    assert load_model(folder, quiet=True).classes == ("0", "1", "2", "3", "4")
