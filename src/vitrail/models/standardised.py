"""Convolutions with standardised weights, and the padding of TensorFlow."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EPS = 1e-8  # added to the variance of a kernel; 1e-8 in every published checkpoint


class StandardisedConv2d(nn.Conv2d):
    """A convolution without bias whose kernels are standardised whenever they are used.

    Source: Qiao et al. 2019, arXiv:1903.10520 (weight standardisation).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, *, same: bool = False
    ) -> None:
        """Pad by half a kernel on every side, or, `same`, as `pad_same` does."""
        self.same = same and stride > 1 and kernel_size > 1  # else both are the same padding
        padding = 0 if self.same else kernel_size // 2
        super().__init__(inputs, outputs, kernel_size, stride, padding, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Convolve with the standardised kernels."""
        if self.same:
            x = pad_same(x, self.kernel_size[0], self.stride[0])
        return F.conv2d(x, standardise(self.weight), None, self.stride, self.padding)


def standardise(weight: Float[Tensor, "d c p q"]) -> Float[Tensor, "d c p q"]:
    """Give the kernel of every output channel mean 0 and variance 1.

    That is a layer norm without parameters of its own, whose fused form takes a tenth of the time.
    """
    return F.layer_norm(weight, weight.shape[1:], eps=EPS)


def pad_same(
    x: Float[Tensor, "b c h w"], kernel_size: int, stride: int, value: float = 0.0
) -> Float[Tensor, "b c more_h more_w"]:
    """Pad as TensorFlow's SAME: just so much that a side n becomes ⌈n / stride⌉.

    Where the padding is odd, the bottom and the right get more. Google's weights were trained so.
    """
    down = _same(x.shape[2], kernel_size, stride)
    across = _same(x.shape[3], kernel_size, stride)
    return F.pad(x, (*across, *down), value=value)


def _same(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Give the padding before and after a side of `size`."""
    steps = (size + stride - 1) // stride
    missing = max(0, (steps - 1) * stride + kernel_size - size)
    return missing // 2, missing - missing // 2
