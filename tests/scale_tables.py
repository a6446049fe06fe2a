"""The tables of docs/scale.md, computed anew from the formulas."""

from vitrail import scale
from vitrail.models.vit_config import ViTConfig
from vitrail.models.vit_names import VIT_MODELS
from vitrail.scale import H100, Strategy

BATCH = 4096  # images a step, of all GPUs
UTILISATION = 0.4  # part of a GPU's operations that a training gets
PRICE = 2.5  # dollars an hour of a GPU
IMAGE = 110e3  # bytes of a JPEG of ImageNet
DECODED = 450  # images that a core decodes in a second (benchmarks/LOG.md)
STAGING = 25e9  # bytes a second from a GPU to its host
WRITING = 2e9  # bytes a second that one process writes
GPUS = (1, 8, 64, 1024)

# Dehghani et al. 2023, arXiv:2302.05442, table 1 and section 2; its blocks compute attention and
# MLP side by side, with the same matrices.
VIT_22B = ViTConfig(
    image_size=(224, 224),
    patch_size=14,
    width=6144,
    depth=48,
    heads=48,
    qkv_bias="none",
    qk_norm=True,
    class_token=False,
    pool="map",
)
MODELS: dict[str, ViTConfig] = {
    "ViT-B/16": VIT_MODELS["vit_base_patch16_224"],
    "ViT-L/16": VIT_MODELS["vit_large_patch16_224"],
    "ViT-H/14": VIT_MODELS["vit_huge_patch14_224"],
    "ViT-g/14": VIT_MODELS["vit_giant_patch14_224"],
    "ViT-G/14": VIT_MODELS["vit_gigantic_patch14_224"],
    "ViT-22B/14": VIT_22B,
}


def sizes(name: str, config: ViTConfig) -> list[str]:
    """Parameters, operations, activations and checkpoint of a model."""
    count = scale.parameters(config)
    return [
        name,
        f"{count / 1e6:,.0f} M",
        f"{scale.flops(config) / 1e9:,.0f}",
        f"{scale.activations(config) / 1e6:,.0f}",
        f"{scale.activations(config, recompute=True) / 1e6:,.0f}",
        f"{scale.checkpoint_bytes(config) / 1e9:,.1f}",
    ]


def fixed(config: ViTConfig, gpus: int, strategy: Strategy) -> scale.Memory:
    """What a rank holds without images."""
    return scale.memory(config, images=0, ranks=gpus, strategy=strategy)


def memory(name: str, config: ViTConfig) -> list[str]:
    """GB of a GPU before any image, and how many images fit beside."""
    cells = [name]
    kinds: list[tuple[int, Strategy]] = [(1, "ddp"), (8, "fsdp"), (64, "fsdp"), (1024, "fsdp")]
    for gpus, strategy in kinds:
        held = fixed(config, gpus, strategy)
        counts = [
            scale.largest_batch(held, scale.activations(config, recompute=recompute), H100)
            for recompute in (False, True)
        ]
        fits = f"{counts[0]:,} / {counts[1]:,}" if counts[1] else "none"
        cells.append(f"{held.total / 1e9:,.1f}: {fits}")
    return cells


def strategy_of(config: ViTConfig, gpus: int) -> Strategy | None:
    """The first of ddp and fsdp with which an image fits; None if neither."""
    each = scale.activations(config, recompute=True)
    order: tuple[Strategy, ...] = ("ddp", "fsdp") if gpus > 1 else ("ddp",)
    for strategy in order:
        if scale.largest_batch(fixed(config, gpus, strategy), each, H100):
            return strategy
    return None


def steps(name: str, config: ViTConfig) -> list[str]:
    """Seconds of a step: computing, and sending if nothing of it goes on beside the computing."""
    cells = [name]
    for gpus in GPUS:
        strategy = strategy_of(config, gpus)
        if strategy is None:
            cells.append("does not fit")
            continue
        operations = BATCH / gpus * scale.training_flops(config)
        compute = scale.compute_seconds(operations, H100, UTILISATION)
        size = scale.traffic(config, gpus, strategy=strategy)
        send = scale.traffic_seconds(size, gpus, H100)
        cells.append(f"{strategy} {compute:.3g} + {send:.2g}" if gpus > 1 else f"{compute:.3g}")
    return cells


def costs(name: str, config: ViTConfig) -> list[str]:
    """Images a second of a GPU, hours and dollars for a billion images, days on 64 GPUs."""
    hours = scale.gpu_hours(config, 1e9, H100, utilisation=UTILISATION, recompute=False)
    return [
        name,
        f"{1e9 / hours / 3600:,.0f}",
        f"{hours:,.0f}",
        f"{PRICE * hours:,.0f}",
        f"{hours / 64 / 24:,.2f}",
    ]


def reading(name: str, config: ViTConfig) -> list[str]:
    """Images a second, GB a second and cores to decode them, for 8 GPUs and 1,024."""
    hours = scale.gpu_hours(config, 1.0, H100, utilisation=UTILISATION, recompute=False)
    cells = [name]
    for gpus in (8, 1024):
        rate = gpus / hours / 3600
        cells += [f"{rate:,.0f}", f"{rate * IMAGE / 1e9:,.2f}", f"{rate / DECODED:,.0f}"]
    return cells


def saving(name: str, config: ViTConfig) -> list[str]:
    """Seconds that a checkpoint holds up the training, and that it takes beside it."""
    size = scale.checkpoint_bytes(config)
    cells = [name, f"{size / 1e9:,.1f}", f"{size / STAGING:.2g}", f"{size / WRITING:,.0f}"]
    shares = (size / 64, size / 1024)
    return cells + [f"{share / WRITING:.2g}" for share in shares]


TABLES = {
    "sizes": sizes,
    "memory": memory,
    "steps": steps,
    "costs": costs,
    "reading": reading,
    "saving": saving,
}


def rows(table: str) -> list[str]:
    """Give the rows of one table as they stand in the page."""
    return [f"| {' | '.join(TABLES[table](*item))} |" for item in MODELS.items()]
