"""The settings of learning: from which weights, by which loss, how fast, and on what machines."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vitrail.config import Config

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class WeightsConfig(Config):
    """Where fine-tuning begins. Without `source` the model begins with random weights."""

    source: str = ""
    """A run directory, a folder or file of weights in any known format, or hf://owner/name."""
    head: Literal["auto", "keep", "new"] = "auto"
    """keep: the head of the file; new: zeros; auto: kept where the classes have the same names."""
    format: str = ""
    """Whose reader to take, where the names of the tensors leave it open, such as mae or dino."""
    trained_size: tuple[Positive, Positive] | None = None
    """Height and width that the weights were made for, where the file does not say."""


class LoraConfig(Config):
    """Low-rank matrices beside frozen weights. Source: Hu et al. 2022, arXiv:2106.09685."""

    rank: Count = 0
    """Rank of the added matrices; 0 trains the weights themselves."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """The product of the added matrices is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("attn.qkv", "attn.proj")
    """Which matrices: endings of module names, such as attn.qkv, attn.proj, mlp.fc1, mlp.fc2."""


class LossConfig(Config):
    """What is minimised."""

    kind: Literal["auto", "softmax", "sigmoid"] = "auto"
    """auto: softmax where each image has one class, sigmoid where it may have several."""
    focal: Annotated[float, Field(ge=0)] = 0.0
    """Focusing exponent: how much less easy examples count; 0 is plain cross-entropy."""
    class_weights: Literal["none", "balanced", "effective"] = "none"
    """balanced: by the inverse of each class's images; effective: by their effective number."""
    logit_adjustment: Annotated[float, Field(ge=0)] = 0.0
    """Strength tau of the prior that is added to the logits in training; 1 suits imbalance."""


class OptimConfig(Config):
    """How long and how fast the model learns."""

    epochs: Annotated[float, Field(gt=0)] = 100.0
    """Passes over the training images."""
    batch_size: Positive = 128
    """Images a step, of all ranks together."""
    accumulate: Positive = 1
    """In how many parts a step computes its batch, one after the other: less memory."""
    optimizer: Literal["adamw", "sgd", "lamb", "muon"] = "adamw"
    """adamw; sgd with momentum; lamb, for large batches; muon for matrices, adamw for the rest."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Highest learning rate, reached after the warm-up."""
    schedule: Literal["cosine", "linear", "rsqrt", "wsd", "constant"] = "cosine"
    """How the learning rate falls: half a cosine, a line, by the reciprocal square root of the
    step, not until a cool-down at the end (wsd), or never."""
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Learning rate at the end of the schedule, as a part of lr."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 5.0
    """Passes during which the learning rate grows linearly from 0."""
    cooldown_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Passes at the end during which rsqrt and wsd fall linearly to final_lr."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from each block to the one before it."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Decay of matrices; biases, norms, tokens and positions have none."""
    beta1: Rate = 0.9
    """AdamW's and LAMB's memory of gradients; the momentum of sgd."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """AdamW's and LAMB's memory of squared gradients."""
    momentum: Rate = 0.95
    """Muon's memory of the gradients of matrices."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Longest gradient, over all parameters; None leaves it as it is."""
    label_smoothing: Rate = 0.1
    """Part of the target that is spread over all classes."""
    freeze: tuple[str, ...] = ()
    """Parameters that keep their values: names or patterns, such as pos_embed or blocks.0.*."""
    freeze_depth: Count = 0
    """The patch embedding and so many of the first blocks keep their values."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights that are evaluated and saved; 0 turns averaging off."""

    @model_validator(mode="after")
    def _check(self) -> "OptimConfig":
        if self.cooldown_epochs and self.schedule not in ("rsqrt", "wsd"):
            raise ValueError(
                f"cooldown_epochs={self.cooldown_epochs:g} needs schedule=rsqrt or wsd, "
                f"not {self.schedule}"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size={self.batch_size} must be a multiple of accumulate={self.accumulate}"
            )
        return self

    def lasting(self, epochs: float) -> "OptimConfig":
        """Train for so many passes; a warm-up or cool-down that would not fit is cut to a part."""
        return self.replace(
            epochs=epochs,
            warmup_epochs=min(self.warmup_epochs, epochs / 2),
            cooldown_epochs=min(self.cooldown_epochs, epochs / 4),
        )


class GuardConfig(Config):
    """What happens when a loss or a gradient goes wrong; the weights never take such a step."""

    spike: Annotated[float, Field(gt=1)] | None = 8.0
    """A spike is a loss so many times as far above the running mean as losses usually are from it,
    and above three times that mean; None looks only for what is not finite."""
    skip: Positive = 4
    """Steps before a spike that are left out with it, after going back to a checkpoint."""
    slow_down: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Factor of the learning rate from the second event in a row on, and again at each further."""
    limit: Positive = 3
    """The training stops at so many events in a row."""
    forgive: Positive = 500
    """Steps beyond an event after which the next one is no longer in a row with it."""


class TeamConfig(Config):
    """How several processes train together, under torchrun."""

    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: each rank holds the whole model; fsdp: each holds a part of every matrix."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a rank that does not move is named, and the job ends."""
