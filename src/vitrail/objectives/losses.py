"""What is minimised: cross-entropy by softmax or sigmoid, with what helps where classes are uneven.

Every loss is the mean over images of one number for each, so that the mean over the parts of a
batch, weighted by their sizes, is the mean over the whole.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

Kind = Literal["softmax", "sigmoid"]


class Loss(nn.Module):
    """A loss of training, from logits and soft targets.

    With t the target, l the logit plus `shift`, p its softmax or sigmoid, w `weights`, v `against`
    and g `focal`, the loss of an image is

        softmax: the sum over classes of - w t (1 - p)^g log p;
        sigmoid: the mean over classes of - w t (1 - p)^g log p - v (1 - t) p^g log(1 - p).

    It is linear in the targets, so mixed and smoothed ones weigh what they consist of. For targets
    of 0 and 1 it is the focal loss; without `focal`, `weights` and `shift`, the cross-entropy.
    It is computed in float32, or float64 if the logits are, whatever autocast says. A model is
    measured without all this: the shift in particular is no part of it.

    Source: Lin et al. 2017, arXiv:1708.02002, section 3.2, without its alpha, which `weights` and
    `against` replace; Menon et al. 2021, arXiv:2007.07314, equation 10.
    """

    weights: Tensor
    against: Tensor
    shift: Tensor | None

    def __init__(
        self,
        classes: int,
        *,
        kind: Kind = "softmax",
        smoothing: float = 0.0,
        focal: float = 0.0,
        weights: Float[Tensor, " classes"] | None = None,
        against: Float[Tensor, " classes"] | None = None,
        shift: Float[Tensor, " classes"] | None = None,
    ) -> None:
        """Without `weights` or `against` all classes count alike.

        Args:
            smoothing: part of the target that is spread, in [0, 1).
            focal: exponent, 0 or more.
            weights: of being of a class, 0 or more.
            against: of not being of a class, 0 or more; for sigmoid.
            shift: added to the logits.
        """
        super().__init__()
        self.classes = classes
        self.kind = kind
        self.smoothing = smoothing
        self.focal = focal
        self.plain = focal == 0 and weights is None and against is None
        ones = torch.ones(classes)
        # follow the model to its device, but are no part of what is saved
        self.register_buffer("weights", ones if weights is None else weights, persistent=False)
        self.register_buffer("against", ones if against is None else against, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def targets(
        self, labels: Int64[Tensor, " b"] | Integer[Tensor, "b classes"]
    ) -> Float[Tensor, "b classes"]:
        """Smooth one class for each image, or the 0 and 1 of each class where there may be more."""
        if labels.dim() == 2:
            return smooth_labels(labels, self.smoothing)
        return smooth_targets(labels, self.classes, self.smoothing)

    def forward(
        self, logits: Float[Tensor, "b classes"], targets: Float[Tensor, "b classes"]
    ) -> Float[Tensor, ""]:
        """Give the mean over images."""
        logits = _wide(logits)
        if self.shift is not None:
            logits = logits + self.shift
        if self.kind == "softmax":
            if self.plain:
                return soft_cross_entropy(logits, targets)
            return self._softmax(logits, targets)
        if self.plain:
            return sigmoid_cross_entropy(logits, targets)
        return self._sigmoid(logits, targets)

    def _softmax(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weigh the term of each class by its weight and by how far it is from certain."""
        log_p = logits.log_softmax(dim=-1)
        terms = self.weights * targets * log_p
        if self.focal:
            # At p = 1 the term is 0 and so is its slope; without a floor, exponents below 1 would
            # make the slope infinity times 0.
            far = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)
            terms = terms * far**self.focal
        return -terms.sum(dim=-1).mean()

    def _sigmoid(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weigh yes and no of each class alike; powers by their logarithms, which never vanish."""
        log_p, log_q = F.logsigmoid(logits), F.logsigmoid(-logits)  # q = 1 - p
        yes = self.weights * targets * log_p * (self.focal * log_q).exp()
        no = self.against * (1 - targets) * log_q * (self.focal * log_p).exp()
        return -(yes + no).mean()


def smooth_targets(
    labels: Int64[Tensor, " b"], classes: int, smoothing: float
) -> Float[Tensor, "b classes"]:
    """Give each label 1 - smoothing, and spread the rest over all classes evenly.

    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """
    hot = F.one_hot(labels, classes).float()
    return hot * (1 - smoothing) + smoothing / classes


def smooth_labels(
    labels: Integer[Tensor, "b classes"], smoothing: float
) -> Float[Tensor, "b classes"]:
    """Draw the answers 0 and 1 of each class towards a half: to s / 2 and 1 - s / 2."""
    return labels.float() * (1 - smoothing) + smoothing / 2


def soft_cross_entropy(
    logits: Float[Tensor, "b classes"], targets: Float[Tensor, "b classes"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy against target probabilities, in float32 or wider."""
    return -(targets * _wide(logits).log_softmax(dim=-1)).sum(dim=-1).mean()


def sigmoid_cross_entropy(
    logits: Float[Tensor, "b classes"], targets: Float[Tensor, "b classes"]
) -> Float[Tensor, ""]:
    """Mean over images and classes of the cross-entropy of each yes or no, in float32 or wider."""
    return F.binary_cross_entropy_with_logits(_wide(logits), targets)


def _wide(logits: Tensor) -> Tensor:
    """Make float32 of 16 bits, whose exponentials overflow or lose what decides."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
