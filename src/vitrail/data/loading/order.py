"""Which sample stands at which place of the training: a pure function of (seed, place).

Training draws from one endless stream: pass 0, pass 1, … over the split, one after the other, each
in an order of its own. Batch k of size b takes the places k b … (k + 1) b - 1, so the position of a
run is one integer. Batches are cut from the whole stream first and shared out to ranks then, so
that neither ranks nor workers change what is in them.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from vitrail.data.dataset import Split
from vitrail.data.keyed import permutation
from vitrail.data.loading.sampling import SamplingConfig, find_chances, resample
from vitrail.errors import ConfigError

COPY_BITS = 32  # where the number of the copy begins in the epochs of a batch

Pass = tuple[NDArray[np.int64], NDArray[np.int64] | None]  # samples, and which copy each is


class Order:
    """The endless stream of training samples."""

    def __init__(self, split: Split, seed: int, sampling: SamplingConfig) -> None:
        """Raises ConfigError, DataError: `weighted` is set, and the weights cannot be used."""
        self.n = len(split)
        self.seed = seed
        self.repeats = sampling.repeats
        self._chances = find_chances(split, sampling)
        self._passes: dict[int, Pass] = {}

    def batch(self, k: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the samples of batch k, and their epochs.

        With repeats m, a batch has size / m different places of the stream, all of them m times:
        first each once, then each again, so that neighbours (which mixup pairs) differ.

        Returns:
            `size` samples, and the pass in which each stands, with the number of its copy in the
            bits from `COPY_BITS` up: these are the epochs that key the random draws. Copy 0 is the
            first of a sample in its pass.
        Source: of repeats, Hoffer et al. 2020, arXiv:1901.09335, section 3.
        """
        distinct = size // self.repeats
        passes, places = np.divmod(np.arange(k * distinct, (k + 1) * distinct), self.n)
        samples, copies = np.empty_like(places), np.zeros_like(places)
        for number in range(int(passes[0]), int(passes[-1]) + 1):
            here = passes == number
            of_pass, copy = self._pass(number)
            samples[here] = of_pass[places[here]]
            if copy is not None:
                copies[here] = copy[places[here]]
        if self.repeats > 1:
            nth = np.repeat(np.arange(self.repeats), distinct)
            copies = np.tile(copies, self.repeats) * self.repeats + nth
            samples, passes = np.tile(samples, self.repeats), np.tile(passes, self.repeats)
        return samples, passes + (copies << COPY_BITS)

    def _pass(self, number: int) -> Pass:
        """Give a whole pass; the last two are kept, since a batch can touch both."""
        if number not in self._passes:
            for old in [each for each in self._passes if each != number - 1]:
                del self._passes[old]
            if self._chances is None:
                self._passes[number] = permutation(self.seed, number, self.n), None
            else:
                self._passes[number] = resample(self.seed, number, self._chances)
        return self._passes[number]


def part_size(batch_size: int, ranks: int, *, repeats: int = 1, pairs: bool = False) -> int:
    """Give how many images of a batch each rank takes.

    Args:
        batch_size: of all ranks together.
        repeats: how often each image stands in the batch.
        pairs: whether neighbours of a batch are mixed, and so must not lie on two ranks.
    Raises:
        ConfigError: the batch cannot be cut so.
    """
    unit = ranks * 2 if pairs and ranks > 1 else ranks
    if batch_size < 1 or batch_size % unit:
        mixed = ", since mixup pairs neighbours" if unit > ranks else ""
        raise ConfigError(
            f"batch_size={batch_size} must be a multiple of {unit} on {ranks} ranks{mixed}"
        )
    if batch_size % repeats:
        raise ConfigError(
            f"batch_size={batch_size} must be a multiple of sampling.repeats={repeats}"
        )
    return batch_size // ranks


def cut_evenly(n: int, rank: int, ranks: int, batch_size: int) -> list[tuple[int, int]]:
    """Cut the places 0 … n-1 into ranks, and the part of one rank into batches.

    Returns:
        first place and the one after the last of each batch; equally many batches on every rank,
        of which the last may be shorter or empty.
    """
    first, last = n * rank // ranks, n * (rank + 1) // ranks
    longest = -(-n // ranks)
    count = -(-longest // batch_size)
    starts = [min(first + k * batch_size, last) for k in range(count + 1)]
    return list(itertools.pairwise(starts))
