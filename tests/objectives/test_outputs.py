"""The logits of a split."""

from collections.abc import Iterator

import pytest
import torch

from tests.objectives.helpers import PREPROCESS, Linear, batch
from vitrail.data.loader import Batch
from vitrail.errors import DataError
from vitrail.objectives.outputs import collect_logits


@pytest.mark.parametrize("training", [True, False])
def test_collect_logits(training: bool) -> None:
    model = Linear().train(training)
    broken = (("5.png", "5.png: cut short"), ("6.png", "6.png: empty"))
    parts = [batch(0, 1, 2), batch(failures=broken[:1]), batch(7, 4, failures=broken[1:])]
    told: list[int] = []
    outputs = collect_logits(model, PREPROCESS, parts, tell=told.append)
    assert model.modes == [False] * 3  # also for the batch without images: ranks compute together
    assert model.training is training
    assert outputs.samples.tolist() == [0, 1, 2, 7, 4]
    assert outputs.labels.tolist() == [0, 1, 2, 2, 4]
    assert outputs.failures == broken
    assert told == [3, 1, 3]
    expected = model(PREPROCESS.normalise(batch(0, 1, 2, 7, 4).images))
    assert outputs.logits.dtype == torch.float32 and not outputs.logits.requires_grad
    torch.testing.assert_close(outputs.logits, expected.detach(), atol=1e-5, rtol=1e-5)


def test_collect_logits_in_bf16_gives_float32() -> None:
    model = Linear()
    full = collect_logits(model, PREPROCESS, [batch(0, 1, 2)]).logits
    short = collect_logits(model, PREPROCESS, [batch(0, 1, 2)], "bf16").logits
    assert short.dtype == torch.float32
    assert torch.equal(short, short.bfloat16().float()) and not torch.equal(short, full)
    torch.testing.assert_close(short, full, atol=0.05, rtol=0.02)


def test_collect_logits_without_an_image() -> None:
    model = Linear().train()
    parts = [batch(failures=(("0.png", "0.png: empty"),)), batch(failures=(("1.png", "x"),))]
    with pytest.raises(DataError, match=r"no readable image among 2; the first: 0\.png: empty"):
        collect_logits(model, PREPROCESS, parts)
    assert model.training


def test_the_mode_comes_back_when_a_batch_fails() -> None:
    def failing() -> Iterator[Batch]:
        yield batch(0, 1)
        raise DataError("the disk is gone")

    model = Linear().train()
    with pytest.raises(DataError, match="the disk is gone"):
        collect_logits(model, PREPROCESS, failing())
    assert model.training
