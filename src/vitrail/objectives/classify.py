"""From a batch of images to the loss of a classifier."""

from jaxtyping import Float
from torch import Tensor, nn

from vitrail.data.augment import AugmentConfig, Draw, augment
from vitrail.data.augmentation.mixing import draw_mixing, mix_images, mix_targets
from vitrail.data.loader import Batch
from vitrail.data.preprocess import Preprocess
from vitrail.objectives.losses import Loss


class Classify(nn.Module):
    """Wraps a model with everything between a batch of images and the loss."""

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        augmentation: AugmentConfig,
        *,
        loss: Loss,
        seed: int,
    ) -> None:
        """`loss` lies on the model's device; `seed` keys the augmentation."""
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.augmentation = augmentation
        self.loss = loss
        self.seed = seed

    def prepare(self, batch: Batch) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b classes"]]:
        """Augment, normalise and mix images; smooth and mix targets."""
        device = next(self.model.parameters()).device
        draw = Draw(self.seed, batch.epochs, batch.samples)
        images = augment(batch.images.to(device), draw, self.augmentation)
        images = self.preprocess.normalise(images)
        targets = self.loss.targets(batch.labels.to(device))
        mixing = draw_mixing(draw, self.augmentation, (images.shape[2], images.shape[3]))
        if mixing is not None:
            images, targets = mix_images(images, mixing), mix_targets(targets, mixing)
        return images, targets

    def forward(
        self, images: Float[Tensor, "b c h w"], targets: Float[Tensor, "b classes"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Give the mean loss over prepared images, and further figures to log (none here).

        A part of what `prepare` gave will do: its loss is its part of the mean.
        """
        return self.loss(self.model(images), targets), {}
