"""Every setting of a training run."""

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from vitrail.config import Config, describe
from vitrail.data.augment import AugmentConfig
from vitrail.data.loading.sampling import SamplingConfig
from vitrail.data.preprocess import Preprocess
from vitrail.data.splitting import Fractions
from vitrail.device import Precision
from vitrail.errors import ConfigError
from vitrail.models import BackboneConfig
from vitrail.models.registry import find_model, resize_model
from vitrail.train.learning import (
    Count,
    GuardConfig,
    LoraConfig,
    LossConfig,
    OptimConfig,
    Positive,
    Rate,
    TeamConfig,
    WeightsConfig,
)

LEAST_STD = 1e-6  # of a channel that varies; the smallest step of 16 bits is 1.5e-5


class DataConfig(Config):
    """Which images, and how they are read."""

    source: str = "glyphs"
    """glyphs, digits, a folder (DIR/<class>/… or DIR/<split>/<class>/…), a .csv, .tsv, .jsonl or
    .parquet file, tar shards (DIR/{0000..0099}.tar), or hf://NAME."""
    fractions: Fractions = Fractions()
    """How splits are cut from data that have none."""
    quarantine: str = "auto"
    """List of images that are left out: a file, none, or auto: the one that `vitrail check` wrote
    beside the data."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images of each class that is used."""
    per_class: Positive | None = None
    """So many training images of each class are used."""
    sampling: SamplingConfig = SamplingConfig()
    """How often each image is drawn."""
    check: bool = True
    """Look for mistakes in the data before the training."""
    cache: Literal["auto", "none", "ram", "disk"] = "auto"
    """Where decoded images are kept: auto keeps in memory what is small."""
    workers: Count = 0
    """Processes that decode images beside the training; 0 decodes in between."""

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.per_class is not None and self.fraction != 1:
            raise ValueError(
                f"fraction={self.fraction} and per_class={self.per_class} exclude each other"
            )
        return self


class ModelConfig(Config):
    """Which model. A size that is None is the one that the name stands for."""

    name: str = "vit_tiny_patch16_224"
    """One of `vitrail models`, or the paper's name, such as ViT-B/16."""
    image_size: tuple[Positive, Positive] | None = None
    """Height and width in pixels."""
    patch_size: Positive | None = None
    """Height and width of a patch in pixels."""
    width: Positive | None = None
    """Features per token."""
    depth: Positive | None = None
    """Number of encoder blocks."""
    heads: Positive | None = None
    """Attention heads per block."""
    mlp_ratio: Annotated[float, Field(gt=0)] | None = None
    """Hidden features of the MLP, as a multiple of width."""
    drop_path: Rate | None = None
    """Chance to leave out a residual branch of the last block."""
    patch_dropout: Rate | None = None
    """Part of the patches that each image loses in training; ViT."""
    pool: Literal["token", "mean", "map", "token+mean"] | None = None
    """What a ViT classifies: class token, mean of the patches, attention pooling, or two."""
    registers: Count | None = None
    """Further tokens of a ViT, which have no place."""
    layer_scale: Annotated[float, Field(gt=0)] | None = None
    """First factor of each residual branch of a ViT."""
    depths: tuple[Positive, ...] | None = None
    """Blocks of each stage; Swin, ResNet, BiT."""
    window_size: tuple[Positive, Positive] | None = None
    """Height and width of a window in tokens; Swin."""

    def resolve(self, classes: int, channels: int) -> BackboneConfig:
        """Give the sizes of the model for so many classes and channels. Raises ModelError."""
        changes = {key: value for key, value in dict(self).items() if value is not None}
        name = changes.pop("name")
        return resize_model(
            find_model(name),
            f"model.name={name}",
            changes | {"classes": classes, "in_channels": channels},
        )


def _each(value: float | tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Give one value a channel."""
    return value if isinstance(value, tuple) else (value,) * channels


class InputConfig(Config):
    """How an image file becomes the model's input; with its image size, the whole contract."""

    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    """3 for colour, 1 for grey; any other number takes the bands of TIFF or .npy files."""
    depth: Literal[8, 16] = 8
    """16 keeps what images have beyond 8 bits."""
    resize: Literal["crop", "squash", "pad"] = "crop"
    """crop: shorter side to size, centre; squash: both sides; pad: longer side, rest filled."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """How pixels are resampled."""
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the shorter side that the centre crop keeps."""
    mean: float | tuple[float, ...] = 0.5
    """Subtracted from every channel, of values in [0, 1]; one value, or one a channel."""
    std: float | tuple[float, ...] = 0.5
    """Divides every channel; one value, or one a channel."""
    normalise: Literal["given", "data"] = "given"
    """given: mean and std as they stand; data: those of the training images."""

    @model_validator(mode="after")
    def _check(self) -> "InputConfig":
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and len(value) != self.channels:
                raise ValueError(f"{name}={value} must have channels={self.channels} values, or 1")
        if min(_each(self.std, self.channels)) <= 0:
            raise ValueError(f"std={self.std} must be above 0")
        if self.resize == "pad" and self.crop_fraction != 1:
            raise ValueError(f"crop_fraction={self.crop_fraction} must be 1 with resize=pad")
        return self

    def with_statistics(self, mean: tuple[float, ...], std: tuple[float, ...]) -> "InputConfig":
        """Fill in what was measured for `normalise="data"`, one value a channel, of 0 to 1.

        Raises:
            ConfigError: a channel does not vary, so that nothing can be divided by its std.
        """
        flat = [str(channel) for channel, value in enumerate(std) if value < LEAST_STD]
        if flat:
            raise ConfigError(
                f"input.normalise=data: channel {', '.join(flat)} (from 0) has the same value in "
                "all training pixels; leave it out of the images, or give input.mean and input.std"
            )
        return self.replace(mean=mean, std=std, normalise="given")

    def preprocess(self, size: tuple[int, int]) -> Preprocess:
        """Give the contract for images of this (height, width).

        Raises:
            ConfigError: mean and std are still to be measured; see `with_statistics`.
        """
        if self.normalise == "data":
            raise ConfigError("input.normalise=data: mean and std have not been measured yet")
        return Preprocess(
            size=size,
            channels=self.channels,
            depth=self.depth,
            resize=self.resize,
            interpolation=self.interpolation,
            crop_fraction=self.crop_fraction,
            mean=_each(self.mean, self.channels),
            std=_each(self.std, self.channels),
        )


class RunConfig(Config):
    """A whole training run: enough to run it again."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    weights: WeightsConfig = WeightsConfig()
    lora: LoraConfig = LoraConfig()
    loss: LossConfig = LossConfig()
    train: OptimConfig = OptimConfig()
    guard: GuardConfig = GuardConfig()
    team: TeamConfig = TeamConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides initial weights, order, augmentation and drop path."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "auto"
    """float32, bf16, fp16, or auto: bf16 where the hardware has it."""
    compile: bool = False
    """Compile the model: a slow first step, faster ones after it."""
    recompute: bool = False
    """Keep only the input of each block, and compute it again on the way back: less memory, more
    time."""
    log_every: Positive = 10
    """Steps between two lines of the training curve."""
    eval_every_epochs: Annotated[float, Field(gt=0)] = 5.0
    """Passes between two measurements on the val split."""
    save_every_epochs: Annotated[float, Field(gt=0)] = 5.0
    """Passes between two checkpoints."""
    keep_checkpoints: Positive = 2
    """How many of the newest checkpoints are kept."""
    keep_best: bool = True
    """Keep the checkpoint with the best score on the val split too."""

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        if self.train.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"train.warmup_epochs={self.train.warmup_epochs:g} must be less than "
                f"train.epochs={self.train.epochs:g}"
            )
        if self.input.resize == "pad" and self.augment.crop_area is not None:
            raise ValueError("augment.crop_area must be None with input.resize=pad")
        return self


def checked(config: RunConfig, **changes: object) -> RunConfig:
    """Change top-level settings. Raises ConfigError."""
    try:
        return config.replace(**changes)
    except ValidationError as error:
        raise ConfigError(describe(error, RunConfig)) from None
