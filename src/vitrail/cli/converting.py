"""`vitrail convert`: weights from one ecosystem to another, proved equal."""

import json as json_module
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.flags import parse
from vitrail.errors import printable


def convert(args: list[str]) -> None:
    """`vitrail convert SRC DST --to FORMAT`."""
    parse(_convert, args, "convert")


def _convert(  # noqa: PLR0913  # one argument a flag
    source: Positional[str],
    target: Positional[Path],
    /,
    *,
    to: str = "vitrail",
    source_format: Annotated[str | None, arg(name="from")] = None,
    image_size: tuple[int, int] | None = None,
    patch_size: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    classes: tuple[str, ...] = (),
    head: Literal["keep", "new"] | None = None,
    trained_size: tuple[int, int] | None = None,
    json: bool = False,
) -> None:
    """Write weights in another format, and prove it: load them again and compare the logits.

    Args:
        source: a folder, a .safetensors, .npz or .pth file, or hf://owner/name[@revision].
        target: what is written; it must not exist yet. google wants a name that ends in .npz.
        to: vitrail, timm, huggingface, google or torchvision.
        source_format: the source's format, where its tensors leave it open: mae or dino.
        image_size: height and width in pixels that the model shall take; positions are resampled.
        patch_size: pixels; the patch kernels are resampled.
        in_channels: channels of the images; the stem is inflated.
        num_classes: classes; a new head of zeros where the source has another number.
        classes: names; these rows of the head are kept, in this order.
        head: keep or new, to be sure.
        trained_size: height and width that the source was made for, where it does not say.
        json: print the result as JSON.
    """
    from vitrail.weights.adapt import Wanted
    from vitrail.weights.convert import convert as prove
    from vitrail.weights.load import show

    sizes = {"image_size": image_size, "patch_size": patch_size, "in_channels": in_channels}
    wanted = Wanted(
        num_classes=num_classes,
        classes=classes or None,
        head=head,
        sizes={name: size for name, size in sizes.items() if size is not None},
    )
    proof = prove(source, target, to, wanted, trained_size=trained_size, format=source_format)
    if proof.model.loaded is not None:
        show(proof.model.loaded)
    for note in proof.notes:
        NOTE.print(printable(f"{to}: {note}"))
    if json:
        about = {
            "source": source,
            "from": proof.format,
            "target": str(target),
            "to": to,
            "largest_difference": proof.largest_difference,
            "tensors_equal": proof.tensors_equal,
            "notes": list(proof.notes),
        }
        OUT.print(json_module.dumps(about))
        return
    equal = "every tensor is equal to the bit" if proof.tensors_equal else "tensors differ"
    OUT.print(
        printable(
            f"{target} ({to}): loaded again; largest difference of a logit "
            f"{proof.largest_difference:.2g}; {equal}"
        )
    )
