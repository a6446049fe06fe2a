"""A copy of the training's tensors in the memory of the CPU, from which a checkpoint is written."""

from collections.abc import Mapping

import torch
from torch import Tensor

Files = Mapping[str, Mapping[str, Tensor]]  # by file and name


class Staging:
    """Room for one copy of the tensors, used again by the next save."""

    def __init__(self) -> None:
        """Begin without any room."""
        self._room: dict[tuple[str, str], Tensor] = {}

    def copy(self, files: Files) -> dict[str, dict[str, Tensor]]:
        """Copy all tensors; the originals may change as soon as this returns.

        What the call before gave is overwritten. Of tensors on a GPU, all are on their way at once.
        """
        room: dict[tuple[str, str], Tensor] = {}
        for file, tensors in files.items():
            for name, tensor in tensors.items():
                place = self._place(self._room.pop((file, name), None), tensor)
                room[file, name] = place.copy_(tensor.detach(), non_blocking=tensor.is_cuda)
        for device in {each.device for part in files.values() for each in part.values()}:
            if device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()
        self._room = room
        return {file: {name: room[file, name] for name in files[file]} for file in files}

    def _place(self, place: Tensor | None, tensor: Tensor) -> Tensor:
        """Give room for a tensor: what it had before, if that still fits."""
        if place is not None and (place.shape, place.dtype) == (tensor.shape, tensor.dtype):
            return place
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
