"""The names of tensors in transformers, by `model_type`.

Files have the names of the releases before 5, and so they do when transformers 5 writes them:
`conversion_mapping.py` there renames on the way in and out. Those are the ones below. The names of
the modules of transformers 5 are read too. Both without the prefix (`vit.`) that a model with a
head puts before those of its encoder.
"""

from collections.abc import Mapping

from vitrail.weights.hf_values import STAGES

PREFIXES = {
    "vit": "vit.",
    "deit": "deit.",
    "vit_mae": "vit.",
    "dinov2": "dinov2.",
    "dinov2_with_registers": "dinov2_with_registers.",
    "dinov3_vit": "model.",
    "swin": "swin.",
    "resnet": "resnet.",
}
CLASS, TABLE = "embeddings.cls_token", "embeddings.position_embeddings"
DISTILLATION = "embeddings.distillation_token"

# Ours: theirs; several of theirs lie one below the other in ours. A name is taken with all below.
Table = Mapping[str, str | tuple[str, ...]]
EMBEDDINGS: Table = {
    "cls_token": CLASS,
    "pos_embed": TABLE,
    r"patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"norm": "layernorm",
    r"head": "classifier",
}
BLOCK = r"encoder.layer.\1"
ATTENTION: Table = {
    r"blocks\.(\d+)\.attn\.qkv": tuple(
        rf"{BLOCK}.attention.attention.{part}" for part in ("query", "key", "value")
    ),
    r"blocks\.(\d+)\.attn\.proj": rf"{BLOCK}.attention.output.dense",
}
VIT: Table = {
    **EMBEDDINGS,
    **ATTENTION,
    r"blocks\.(\d+)\.norm1": rf"{BLOCK}.layernorm_before",
    r"blocks\.(\d+)\.norm2": rf"{BLOCK}.layernorm_after",
    r"blocks\.(\d+)\.mlp\.fc1": rf"{BLOCK}.intermediate.dense",
    r"blocks\.(\d+)\.mlp\.fc2": rf"{BLOCK}.output.dense",
}
DEIT: Table = {**VIT, "dist_token": DISTILLATION, "reg_token": DISTILLATION}
TEACHER: Table = {**DEIT, "head": "cls_classifier", "head_dist": "distillation_classifier"}
DINO: Table = {
    "cls_token": CLASS,
    "reg_token": "embeddings.register_tokens",
    r"blocks\.(\d+)\.(norm[12])": r"@.\2",
    r"blocks\.(\d+)\.ls([12])\.gamma": r"@.layer_scale\2.lambda1",
}
DINOV2: Table = {
    **EMBEDDINGS,
    **ATTENTION,
    **{ours: str(theirs).replace("@", BLOCK) for ours, theirs in DINO.items()},
    r"blocks\.(\d+)\.mlp\.fc1": rf"{BLOCK}.mlp.fc1",
    r"blocks\.(\d+)\.mlp\.fc2": rf"{BLOCK}.mlp.fc2",
}
DINOV2_GATED: Table = {
    **DINOV2,
    r"blocks\.(\d+)\.mlp\.fc1": rf"{BLOCK}.mlp.weights_in",
    r"blocks\.(\d+)\.mlp\.fc2": rf"{BLOCK}.mlp.weights_out",
}
DINOV2_SPLIT: Table = {  # as in the modules of transformers 5
    **DINOV2,
    r"blocks\.(\d+)\.mlp\.fc1": (rf"{BLOCK}.mlp.gate_proj", rf"{BLOCK}.mlp.up_proj"),
    r"blocks\.(\d+)\.mlp\.fc2": rf"{BLOCK}.mlp.weights_out",
}
DINOV3: Table = {
    **{ours: str(theirs).replace("@", r"layer.\1") for ours, theirs in DINO.items()},
    r"patch_embed\.proj": "embeddings.patch_embeddings",
    r"norm": "norm",
    r"blocks\.(\d+)\.attn\.qkv": tuple(rf"layer.\1.attention.{part}_proj" for part in "qkv"),
    r"blocks\.(\d+)\.attn\.([qv])_bias": r"layer.\1.attention.\2_proj.bias",
    r"blocks\.(\d+)\.attn\.proj": r"layer.\1.attention.o_proj",
    r"blocks\.(\d+)\.mlp\.fc1": r"layer.\1.mlp.up_proj",
    r"blocks\.(\d+)\.mlp\.fc2": r"layer.\1.mlp.down_proj",
}
DINOV3_GATED: Table = {
    **DINOV3,
    r"blocks\.(\d+)\.mlp\.fc1": (r"layer.\1.mlp.gate_proj", r"layer.\1.mlp.up_proj"),
}
SWIN_BLOCK = r"encoder.layers.\1.blocks.\2"
SWIN: Table = {
    r"patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"patch_embed\.norm": "embeddings.norm",
    r"norm": "layernorm",
    r"head\.fc": "classifier",
    r"layers\.(\d+)\.blocks\.(\d+)\.norm1": rf"{SWIN_BLOCK}.layernorm_before",
    r"layers\.(\d+)\.blocks\.(\d+)\.norm2": rf"{SWIN_BLOCK}.layernorm_after",
    r"layers\.(\d+)\.blocks\.(\d+)\.attn\.(relative\w+)": rf"{SWIN_BLOCK}.attention.self.\3",
    r"layers\.(\d+)\.blocks\.(\d+)\.attn\.qkv": tuple(
        rf"{SWIN_BLOCK}.attention.self.{part}" for part in ("query", "key", "value")
    ),
    r"layers\.(\d+)\.blocks\.(\d+)\.attn\.proj": rf"{SWIN_BLOCK}.attention.output.dense",
    r"layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc1": rf"{SWIN_BLOCK}.intermediate.dense",
    r"layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc2": rf"{SWIN_BLOCK}.output.dense",
    # patches are merged at the end of a stage there, at the start of the next here
    **{rf"layers\.{i + 1}\.downsample": rf"encoder.layers.{i}.downsample" for i in range(STAGES)},
}
RESNET: Table = {
    "conv1": "embedder.embedder.convolution",
    "bn1": "embedder.embedder.normalization",
    "fc": "classifier.1",
} | {
    rf"layer{stage + 1}\.(\d+)\.{ours}": rf"encoder.stages.{stage}.layers.\1.{theirs}"
    for stage in range(STAGES)
    for ours, theirs in {
        **{f"conv{i + 1}": f"layer.{i}.convolution" for i in range(3)},
        **{f"bn{i + 1}": f"layer.{i}.normalization" for i in range(3)},
        r"downsample\.0": "shortcut.convolution",
        r"downsample\.1": "shortcut.normalization",
    }.items()
}
TABLES: dict[str, Table] = {
    "vit": VIT,
    "deit": DEIT,
    "vit_mae": VIT,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2,
    "dinov3_vit": DINOV3,
    "swin": SWIN,
    "resnet": RESNET,
}

# Names in the modules of transformers 5, and what files call them.
QKV = {
    rf"(?<=\.attention)\.{part[0]}_proj(?=\.)": f".attention.{part}"
    for part in ("query", "key", "value")
}
OUTPUT = {r"(?<=\.attention)\.o_proj(?=\.)": ".output.dense"}
MLP = {
    r"(?<=\d)\.mlp\.fc1(?=\.)": ".intermediate.dense",
    r"(?<=\d)\.mlp\.fc2(?=\.)": ".output.dense",
}
RENAMED_VIT = {r"^layers(?=\.\d+\.)": "encoder.layer"} | QKV | OUTPUT | MLP
RENAMED_DINOV2 = QKV | OUTPUT | {r"(?<=\.mlp)\.down_proj(?=\.)": ".weights_out"}
RENAMED_SWIN = {
    **{pattern: name.replace(".attention.", ".self.") for pattern, name in QKV.items()},
    **OUTPUT,
    **MLP,
    r"(?<=\.attention)\.relative_position_bias(?=\.)": ".self",
}
RENAMED: dict[str, Mapping[str, str]] = {
    "vit": RENAMED_VIT,
    "deit": RENAMED_VIT,
    "vit_mae": RENAMED_VIT,
    "dinov2": RENAMED_DINOV2,
    "dinov2_with_registers": RENAMED_DINOV2,
    "swin": RENAMED_SWIN,
}

# What a model does not need, and why.
UNUSED = {
    r"pooler\.dense\.(weight|bias)": "the pooler, which no classifier reads",
    r"embeddings\.mask_token": "only for pre-training",
    r"decoder\..*": "the decoder, only for pre-training",
    r".*\.relative_position_index": "computed from the sizes",
    r"rope_embeddings\.inv_freq": "computed from the sizes",
}
