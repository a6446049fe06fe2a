"""docs/scale.md says what the formulas give."""

from pathlib import Path

import pytest

from tests import scale_tables
from tests.scale_tables import MODELS, TABLES, VIT_22B, rows
from vitrail import scale
from vitrail.models.vit_names import VIT_MODELS
from vitrail.recipes.common import IMAGENET_21K, JFT_300M
from vitrail.scale import H100

PAGE = (Path(__file__).parent.parent / "docs" / "scale.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", TABLES)
def test_every_number_of_the_tables_is_computed_anew(table: str) -> None:
    assert "\n".join(rows(table)) in PAGE


def test_there_are_no_other_rows() -> None:
    listed = [line for line in PAGE.splitlines() if line.startswith("| ViT-")]
    assert listed == [row for table in TABLES for row in rows(table)]


def test_the_assumptions_are_those_of_the_tables() -> None:
    for text in (
        f"{H100.memory / 1e9:.0f} GB, {H100.flops / 1e12:.0f} TFLOPS",
        f"{H100.link / 1e9:.0f} GB/s from each GPU",
        f"{H100.network / 1e9:.0f} GB/s from each machine",
        f"{scale_tables.UTILISATION:.0%}".replace("%", " %"),
        f"$ {scale_tables.PRICE:.2f}",
        f"{scale_tables.IMAGE / 1e3:.0f} kB",
        f"{scale_tables.DECODED} images a second",
        f"{scale_tables.STAGING / 1e9:.0f} GB/s",
        f"{scale_tables.WRITING / 1e9:.0f} GB/s",
        f"a batch of {scale_tables.BATCH:,} images",
    ):
        assert text in PAGE, text


def test_the_rules_of_thumb_hold_for_plain_vits() -> None:
    for config in list(MODELS.values())[:3]:
        d, n = config.width, config.tokens
        assert scale.block_parameters(config) == pytest.approx(12 * d * d, rel=0.02)
        block = (scale.flops(config) / config.depth) / (24 * n * d * d + 4 * n * n * d)
        assert block == pytest.approx(1, rel=0.02)
        assert scale.block_activations(config) == pytest.approx(36 * n * d, rel=0.02)
        count = scale.parameters(config)
        assert scale.checkpoint_bytes(config) == 16 * count
        assert scale.memory(config, images=0).total == 22 * count
        assert scale.memory(config, images=0, half=False, ema=False).total == 16 * count


def test_images_seen() -> None:
    for images, text in (
        (90 * IMAGENET_21K, "1.28 · 10⁹"),
        (14 * JFT_300M, "4.2 · 10⁹"),
        (177_000 * 65_536, "11.6 · 10⁹"),
    ):
        assert text in PAGE
        assert float(text.split()[0]) == pytest.approx(images / 1e9, rel=0.015)


def test_vit_22b_is_that_of_the_paper() -> None:
    blocks = VIT_22B.depth * scale.block_parameters(VIT_22B)
    assert blocks == pytest.approx(21_743e6, rel=1e-3)  # table 1
    assert f"{4 * scale.parameters(VIT_22B) / 1e9:.0f} GB for its weights alone" in PAGE


def test_the_largest_vit_with_a_name_still_fits_with_ddp() -> None:
    largest = VIT_MODELS["vit_gigantic_patch14_224"]
    held = scale.memory(largest, images=0)
    assert scale.largest_batch(held, scale.activations(largest), H100) > 1
