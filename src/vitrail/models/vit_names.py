"""The named ViTs: timm's names, and what they stand for."""

from typing import Any

from vitrail.models.vit_config import ViTConfig

# Dosovitskiy et al. 2021, Table 1 (B, L, H); Touvron et al. 2021, arXiv:2012.12877 (Ti, S);
# Zhai et al. 2022, arXiv:2106.04560, Table 2 (g, G).
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "huge": {"width": 1280, "depth": 32, "heads": 16},
    "giant": {"width": 1408, "depth": 40, "heads": 16, "mlp_ratio": 48 / 11},
    "gigantic": {"width": 1664, "depth": 48, "heads": 16, "mlp_ratio": 64 / 13},
}
MEDIUM = {"width": 512, "depth": 12, "heads": 8}
# size: (patch, image) in pixels, those that timm has
VARIANTS = {
    "tiny": [(16, 224), (16, 384)],
    "small": [(8, 224), (16, 224), (16, 384), (32, 224), (32, 384)],
    "base": [(8, 224), (16, 224), (16, 384), (32, 224), (32, 384)],
    "large": [(14, 224), (16, 224), (16, 384), (32, 224), (32, 384)],
    "huge": [(14, 224)],
    "giant": [(14, 224)],
    "gigantic": [(14, 224)],
}


def square(image: int, patch: int, **sizes: Any) -> ViTConfig:
    """Give the sizes of a ViT for square images."""
    return ViTConfig(image_size=(image, image), patch_size=patch, **sizes)


PLAIN: dict[str, ViTConfig] = {
    f"vit_{size}_patch{patch}_{image}": square(image, patch, **SIZES[size])
    for size, variants in VARIANTS.items()
    for patch, image in variants
}

# Pooled otherwise: the mean of the patches, or one learned query (MAP).
NO_CLASS = {"class_token": False, "pool": "mean"}
REGISTERS = {"registers": 4, "prefix_positions": False}
POOLED: dict[str, ViTConfig] = {
    "vit_base_patch16_gap_224": square(224, 16, width=768, depth=12, heads=16, **NO_CLASS),
    "vit_medium_patch16_reg4_gap_256": square(
        256, 16, **MEDIUM, **NO_CLASS, **REGISTERS, norm_after_pool=True, layer_scale=1e-5
    ),
    "vit_base_patch16_reg4_gap_256": square(
        256, 16, **SIZES["base"], **NO_CLASS, **REGISTERS, norm_after_pool=True
    ),
    "vit_base_patch16_siglip_224": square(
        224, 16, **SIZES["base"], class_token=False, pool="map", classes=0
    ),
}

# Touvron et al. 2021, arXiv:2012.12877, Table 1 and section 5.
DEIT: dict[str, ViTConfig] = {
    f"deit_{size}{'_distilled' if distilled else ''}_patch16_{image}": square(
        image, 16, **SIZES[size], distilled=distilled
    )
    for distilled in (False, True)
    for size, image in (("tiny", 224), ("small", 224), ("base", 224), ("base", 384))
}

# Touvron et al. 2022, arXiv:2204.07118, section 3.
DEIT3: dict[str, ViTConfig] = {
    f"deit3_{size}_patch{patch}_{image}": square(
        image, patch, **(SIZES | {"medium": MEDIUM})[size], prefix_positions=False, layer_scale=1e-6
    )
    for size, patch, images in (
        ("small", 16, (224, 384)),
        ("medium", 16, (224,)),
        ("base", 16, (224, 384)),
        ("large", 16, (224, 384)),
        ("huge", 14, (224,)),
    )
    for image in images
}

# Oquab et al. 2023, arXiv:2304.07193, Table 17; registers: Darcet et al. 2024, arXiv:2309.16588.
DINOV2_SIZES = {size: SIZES[size] for size in ("small", "base", "large")} | {
    "giant": {"width": 1536, "depth": 40, "heads": 24, "mlp_ratio": 8 / 3, "mlp": "swiglu"}
}
DINOV2: dict[str, ViTConfig] = {
    f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2": square(
        518, 14, **sizes, **(REGISTERS if registers else {}), layer_scale=1e-5, classes=0
    )
    for registers in (False, True)
    for size, sizes in DINOV2_SIZES.items()
}

# Siméoni et al. 2025, arXiv:2508.10104, Table 2 and section 3.2.
DINOV3_SIZES: dict[str, dict[str, Any]] = {
    "small": SIZES["small"],
    "small_plus": SIZES["small"] | {"mlp": "swiglu"},
    "base": SIZES["base"],
    "large": SIZES["large"],
    "huge_plus": {"width": 1280, "depth": 32, "heads": 20, "mlp": "swiglu"},
    "7b": {"width": 4096, "depth": 40, "heads": 32, "mlp_ratio": 2.0, "mlp": "swiglu"},
}
DINOV3: dict[str, ViTConfig] = {
    f"vit_{size}_patch16_dinov3{suffix}": square(
        256,
        16,
        **sizes,
        registers=4,
        positions="rotary",
        layer_scale=1e-5,
        norm_eps=1e-5,
        qkv_bias=bias,
        classes=0,
    )
    for size, sizes in DINOV3_SIZES.items()
    for suffix, bias in (("", "none"), ("_qkvb", "no_key"))
    if (size, suffix) != ("7b", "_qkvb")
}

VIT_MODELS = PLAIN | POOLED | DEIT | DEIT3 | DINOV2 | DINOV3

# The paper's own names, and Zhai et al.'s.
VIT_ALIASES: dict[str, str] = {
    f"ViT-{letter}/{patch}": f"vit_{size}_patch{patch}_224"
    for letter, size in zip(("Ti", "S", "B", "L", "H", "g", "G"), SIZES, strict=True)
    for patch, image in VARIANTS[size]
    if image == 224
} | {  # the encoders of He et al. 2022, as their code names them
    f"mae_vit_{size}_patch{patch}": f"vit_{size}_patch{patch}_224"
    for size, patch in (("base", 16), ("large", 16), ("huge", 14))
}
