"""What a ViT takes at any size and on any number of GPUs: plain arithmetic, nothing is run.

P parameters, d width, H hidden features of the MLP, N tokens, h heads, R ranks. Sizes are in bytes,
rates in bytes or operations a second; GB are 10⁹ bytes. Numbers are float32, but for the products
of matrices, which are bf16 where `half` is set.
"""

import math
from typing import Literal, NamedTuple

from vitrail.models.vit_config import ViTConfig

Strategy = Literal["ddp", "fsdp"]

FLOAT, HALF = 4, 2  # bytes of a number
STATE = {"adamw": 8, "lamb": 8, "sgd": 4, "muon": 4}  # bytes kept for a parameter, at least


class Machine(NamedTuple):
    """One GPU of a machine of several, with what connects it to the others."""

    memory: float  # of a GPU
    flops: float  # of a GPU, in bf16, without sparsity
    link: float  # from a GPU to the others of its machine, one way
    network: float  # from a machine to the others, one way, all its cards together
    gpus: int = 8


# NVIDIA, H100 Tensor Core GPU Architecture, SXM5: 80 GB, 989.4 TFLOPS in bf16 without sparsity,
# NVLink 900 GB/s both ways. NVIDIA, DGX H100 User Guide: 8 cards of 400 Gb/s for the cluster.
H100 = Machine(memory=80e9, flops=989.4e12, link=900e9 / 2, network=8 * 400e9 / 8)


def block_parameters(config: ViTConfig) -> int:
    """Count the parameters of an encoder block, 12 d² and some vectors for the usual one."""
    d, hidden = config.width, config.hidden
    biases = {"full": 3 * d, "no_key": 2 * d, "none": 0}[config.qkv_bias]
    attention = 4 * d * d + biases + d + (4 * (d // config.heads) if config.qk_norm else 0)
    inner = hidden * (2 if config.mlp == "swiglu" else 1)
    mlp = d * inner + inner + hidden * d + d
    return attention + mlp + 4 * d + (2 * d if config.layer_scale is not None else 0)


def parameters(config: ViTConfig) -> int:
    """Count the parameters of a whole model."""
    d, hidden = config.width, config.hidden
    patch = config.in_channels * config.patch_size**2 * d + d
    tokens = (config.prefix_tokens + config.position_rows) * d
    pool = 4 * (d * d + d) + 2 * d * hidden + hidden + 4 * d if config.pool == "map" else 0
    pooled = 2 * d if config.pool == "token+mean" else d
    heads = (pooled + 1) * config.classes * (2 if config.distilled else 1)
    return patch + tokens + config.depth * block_parameters(config) + 2 * d + pool + heads


def flops(config: ViTConfig) -> int:
    """Count the operations of an image's forward pass; a multiply-add is two."""
    d, n, hidden = config.width, config.tokens, config.hidden
    patches = config.grid[0] * config.grid[1]
    inner = 3 if config.mlp == "swiglu" else 2
    block = 8 * n * d * d + 4 * n * n * d + 2 * inner * n * d * hidden
    patch = 2 * patches * config.in_channels * config.patch_size**2 * d
    pool = 0
    if config.pool == "map":
        pool = 4 * d * d + 4 * patches * d * d + 4 * patches * d + 4 * d * hidden
    pooled = 2 * d if config.pool == "token+mean" or config.distilled else d
    return patch + config.depth * block + pool + 2 * pooled * config.classes


def training_flops(config: ViTConfig, *, recompute: bool = False) -> int:
    """Count the operations of an image's step: the way back takes twice the way there."""
    return flops(config) * (4 if recompute else 3)


def block_activations(config: ViTConfig, *, half: bool = True) -> int:
    """Count what a block keeps of an image for the way back, with fused attention.

    In float32, of the residual stream: the input of both norms, their means and deviations. In the
    precision of the products: the input of four matrices, queries, keys, values, and the MLP before
    its activation. Attention keeps a logarithm for each token and head.

    Equal to what PyTorch keeps on the CPU. On a GPU autocast makes the norms of `qk_norm` float32,
    and they keep 8 N d more.
    """
    d, n, hidden = config.width, config.tokens, config.hidden
    product = HALF if half else FLOAT
    mlp = (4 if config.mlp == "swiglu" else 2) * hidden
    features = 6 * d + mlp
    stream = 2 * d + 4 + config.heads
    if config.qk_norm:  # both, and the answer of attention in another layout
        features += 3 * d
        stream += 4 * config.heads
    if config.layer_scale is not None:
        features += 2 * d
    return n * (product * features + FLOAT * stream)


def activations(config: ViTConfig, *, half: bool = True, recompute: bool = False) -> int:
    """Count what an image leaves for the way back; with `recompute` of one block at a time."""
    d, n = config.width, config.tokens
    product = HALF if half else FLOAT
    block = block_activations(config, half=half)
    ends = product * config.in_channels * math.prod(config.image_size)
    if not config.norm_after_pool:
        ends += FLOAT * n * (d + 2)  # the last norm
    if config.pool == "map":
        ends += product * n * 3 * d
    elif config.pool == "token" and not half and not config.norm_after_pool:
        ends += FLOAT * n * d  # the head looks at one token, which holds all
    if recompute:
        return ends + config.depth * FLOAT * n * d + block
    return ends + config.depth * block


class Memory(NamedTuple):
    """Bytes of a rank."""

    weights: float
    gradients: float
    optimizer: float
    average: float
    copies: float  # in bf16: all of them with ddp; those of the blocks at hand with fsdp
    activations: float

    @property
    def total(self) -> float:
        """All together, without what PyTorch and CUDA take for themselves."""
        return sum(self)


def memory(
    config: ViTConfig,
    *,
    images: int,
    ranks: int = 1,
    strategy: Strategy = "ddp",
    optimizer: str = "adamw",
    ema: bool = True,
    half: bool = True,
    recompute: bool = False,
) -> Memory:
    """Count what a rank holds while it trains on `images` at a time.

    With ddp every rank holds everything. With fsdp it holds 1 / R of weights, gradients, state and
    average; beside these the weights of two blocks (one computes, the next arrives), and the
    gradients of one as computed and in float32, as they are added up.
    """
    count, share = parameters(config), ranks if strategy == "fsdp" else 1
    copies = HALF * count if half else 0
    if strategy == "fsdp":
        product = HALF if half else FLOAT
        copies = (3 * product + FLOAT) * block_parameters(config)
    return Memory(
        weights=FLOAT * count / share,
        gradients=FLOAT * count / share,
        optimizer=STATE[optimizer] * count / share,
        average=FLOAT * count / share if ema else 0,
        copies=copies,
        activations=images * activations(config, half=half, recompute=recompute),
    )


def largest_batch(fixed: Memory, each: int, machine: Machine, *, used: float = 0.9) -> int:
    """Give how many images fit beside what a rank holds anyway.

    Args:
        fixed: of no images.
        each: of one image, as `activations` counts.
        used: part of a GPU's memory that is filled.
    """
    return max(0, int((used * machine.memory - fixed.total) // each))


def compute_seconds(operations: float, machine: Machine, utilisation: float) -> float:
    """Give the seconds of so many operations on one GPU, at a part of what it can do at most."""
    return operations / (machine.flops * utilisation)


def traffic(config: ViTConfig, ranks: int, *, strategy: Strategy, half: bool = True) -> float:
    """Count what each rank sends in a step of one part.

    ddp adds up the gradients of all ranks in float32 around a ring: 2 (R - 1) / R of them. fsdp
    gathers the weights on the way there and on the way back, and adds up the gradients to parts of
    them: (R - 1) / R each time.
    """
    count, part = parameters(config), (ranks - 1) / ranks
    if strategy == "ddp":
        return 2 * FLOAT * count * part
    return (2 * (HALF if half else FLOAT) + FLOAT) * count * part


def traffic_seconds(size: float, ranks: int, machine: Machine) -> float:
    """Give the seconds of so much traffic around rings.

    Within a machine each GPU sends by its own link. Between machines as many rings as there are
    cards run side by side, so that all cards of a machine together set the pace.
    """
    if ranks == 1:
        return 0.0
    inside = ranks <= machine.gpus
    return size / (machine.link if inside else min(machine.link, machine.network))


def checkpoint_bytes(config: ViTConfig, *, optimizer: str = "adamw", ema: bool = True) -> int:
    """Count a checkpoint: weights, state of the optimiser, average."""
    return parameters(config) * (FLOAT + STATE[optimizer] + (FLOAT if ema else 0))


def gpu_hours(
    config: ViTConfig, images: float, machine: Machine, *, utilisation: float, recompute: bool
) -> float:
    """Give the hours of one GPU that a training on so many images, passes counted, takes."""
    operations = images * training_flops(config, recompute=recompute)
    return compute_seconds(operations, machine, utilisation) / 3600
