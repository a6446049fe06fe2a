"""The weights among what a training saves beside them, without the names of what they lie in.

Research code and training loops save `{"model": weights, "optimizer": …}`; wrappers of modules put
a prefix before every name. Both are taken off here, whoever wrote the file.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from vitrail.errors import WeightsError
from vitrail.weights.source import Source

# Keys that sets of weights lie under, the best first. The teacher is what DINO's authors publish;
# an average over the training goes before the weights themselves, as in timm (1.0.31).
SETS = ("teacher", "student", "state_dict_ema", "model_ema", "state_dict", "model")
PREFIXES = ("module", "_orig_mod", "backbone")  # DistributedDataParallel, torch.compile, a wrapper
BESIDE = {  # patterns of what lies beside the weights, by full name, and why it is not needed
    r"[a-z_]*optim[a-z_]*\..*": "state of the optimiser",
    r"(lr_)?sched[a-z_]*\..*": "state of the schedule",
    r"((amp_|fp16_|loss_)?scaler|amp)\..*": "state of mixed precision",
    r"[a-z_]*loss[a-z_]*\..*": "state of the loss",
    r"(epoch|iter|iteration|step|global_step|args|config|rng[a-z_]*|random[a-z_]*)(\..*)?": (
        "state of the training"
    ),
    r"(callbacks|loops|hyper_parameters)\..*": "state of the training",
    # of DINO, iBOT and DINOv2
    r"(head|dino_head|ibot_head)\.(mlp|last_layer).*": "projection head of the pretraining",
}


def unwrap(source: Source) -> Source:
    """Take off the keys and prefixes around the weights, and drop what lies beside them.

    A source that is not wrapped comes back as it is. Tensors beside the weights that are not known
    to be unneeded stay under their names, so that whoever reads the rest refuses them.

    Returns:
        the weights; `wrapped_in` says what was taken off, `dropped` what was left out.
    Raises:
        WeightsError: two tensors get the same name.
    """
    while (layer := _outermost(source.tensors)) is not None:
        source = _take_off(source, layer)
    return source


def _outermost(names: Iterable[str]) -> str | None:
    """Find the key or prefix that is taken off next."""
    parts = (name.partition(".") for name in names)
    around = {first for first, _, rest in parts if rest}
    return next((layer for layer in (*SETS, *PREFIXES) if layer in around), None)


def _take_off(source: Source, layer: str) -> Source:
    tensors, dropped, others = {}, dict(source.dropped), set()
    around = "".join(f"{each}." for each in source.wrapped_in)  # dropped ones keep their full name
    for name, tensor in source.tensors.items():
        first, _, rest = name.partition(".")
        if first == layer and rest:
            new = rest
        elif layer in SETS and first in SETS:
            dropped[around + name] = f"another set of weights; those of {layer} are taken"
            others.add(first)
            continue
        elif why := _reason(name):
            dropped[around + name] = why
            continue
        else:
            new = name
        if new in tensors:
            raise WeightsError(f"{source.where}: has two tensors for {new!r}, one under {layer!r}")
        tensors[new] = tensor
    notes = source.notes
    if others:
        notes += (f"the file holds several sets of weights: {layer} is taken, not {_list(others)}",)
    elif layer == "student":
        notes += ("the file holds the student only, which is worse than its teacher",)
    wrapped_in = (*source.wrapped_in, layer)
    return replace(source, tensors=tensors, wrapped_in=wrapped_in, dropped=dropped, notes=notes)


def _reason(name: str) -> str:
    """Say why a tensor beside the weights is not needed; `""` if it may be."""
    return next((why for pattern, why in BESIDE.items() if re.fullmatch(pattern, name)), "")


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
