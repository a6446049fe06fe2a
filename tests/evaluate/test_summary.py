"""The summary of an evaluation: right, complete, JSON-able, and defined at the edges."""

import json
import math

import numpy as np
import pytest
import torch

from vitrail import metrics
from vitrail.errors import RunError
from vitrail.evaluate.summary import PAIRS, RIGHT, WORST, Summary, summarise
from vitrail.runs import Predictions


def made(count: int = 200, classes: int = 8, seed: int = 0, noise: float = 2) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes)).astype(np.float32) * noise
    logits[np.arange(count), labels] += 3
    return Predictions(
        split="test",
        keys=tuple(f"test/{i:04d}.png" for i in range(count)),
        classes=tuple(f"class {i}" for i in range(classes)),
        logits=torch.from_numpy(logits),
        labels=torch.from_numpy(labels),
        preprocess_hash="abc",
        unreadable=(("test/broken.png", "truncated"),),
    )


def test_figures_are_those_of_the_metrics() -> None:
    predictions = made()
    summary = summarise(predictions, bootstrap=50, seed=4)
    seen = metrics.outcomes(predictions.logits.numpy(), predictions.labels.numpy())
    for name, estimate in metrics.estimates(seen, resamples=50, seed=4).items():
        assert getattr(summary, name) == estimate, name
    assert list(summary.per_class) == metrics.class_scores(seen)
    assert (summary.confusion_matrix() == metrics.confusion_matrix(seen)).all()
    assert summary.images == 200 and summary.unreadable == (("test/broken.png", "truncated"),)
    assert sum(each.count for each in summary.bins) == 200
    assert summary.resamples == 50 and summary.seed == 4 and summary.level == 0.95


def test_worst_are_the_mistakes_by_confidence() -> None:
    predictions = made()
    probabilities = predictions.logits.double().softmax(1)
    confidence, predicted = probabilities.max(1)
    wrong = [i for i in range(200) if predicted[i] != predictions.labels[i]]
    expected = sorted(wrong, key=lambda i: -confidence[i].item())[:WORST]
    summary = summarise(predictions, bootstrap=0)
    assert [each.index for each in summary.worst] == expected
    for each in summary.worst:
        assert each.key == predictions.keys[each.index]
        assert each.true == predictions.labels[each.index] != each.predicted
        assert each.probability == pytest.approx(confidence[each.index].item(), abs=1e-9)
        own = probabilities[each.index, each.true].item()
        assert each.true_probability == pytest.approx(own, abs=1e-9)


def test_right_span_the_range_of_confidence() -> None:
    predictions = made()
    right = summarise(predictions, bootstrap=0).right
    confidence, predicted = predictions.logits.double().softmax(1).max(1)
    every = confidence[predicted == predictions.labels]
    assert len(right) == RIGHT == len({each.index for each in right})
    assert all(each.true == each.predicted for each in right)
    assert [each.probability for each in right] == sorted(
        (e.probability for e in right), reverse=True
    )
    assert right[0].probability == pytest.approx(every.max().item(), abs=1e-9)
    assert right[-1].probability == pytest.approx(every.min().item(), abs=1e-9)


def test_confused_pairs_are_the_largest_cells_off_the_diagonal() -> None:
    summary = summarise(made(500, 12), bootstrap=0)
    matrix = summary.confusion_matrix()
    np.fill_diagonal(matrix, 0)
    largest = sorted(matrix.ravel().tolist(), reverse=True)[:PAIRS]
    assert [pair.count for pair in summary.confused] == [count for count in largest if count]
    for pair in summary.confused:
        assert matrix[pair.true, pair.predicted] == pair.count
        assert pair.share == pair.count / summary.per_class[pair.true].support


def test_survives_json() -> None:
    summary = summarise(made(60, 6), bootstrap=20)
    text = json.dumps(summary.to_json(), allow_nan=False)
    assert Summary.parse(json.loads(text), "summary.json") == summary


def test_same_seed_same_summary() -> None:
    first, second = summarise(made(), seed=1), summarise(made(), seed=1)
    assert first.model_dump_json() == second.model_dump_json()
    assert first != summarise(made(), seed=2)


def test_without_bootstrap_there_are_no_intervals() -> None:
    summary = summarise(made(), bootstrap=0)
    assert summary.resamples == 0
    assert summary.top1.low is None and summary.ece.high is None


def test_one_image_two_classes() -> None:
    predictions = Predictions(
        split="val",
        keys=("a.png",),
        classes=("cat", "dog"),
        logits=torch.zeros(1, 2),
        labels=torch.tensor([1]),
        preprocess_hash="",
    )
    summary = summarise(predictions, bootstrap=10)
    assert summary.top1.value == 0 and summary.top5 is None and summary.right == ()
    assert summary.nll.value == pytest.approx(math.log(2), abs=1e-12)
    assert summary.per_class[0].recall is None and summary.per_class[1].precision is None
    json.dumps(summary.to_json(), allow_nan=False)


def test_a_perfect_model_has_no_mistakes() -> None:
    summary = summarise(made(noise=0), bootstrap=10)
    assert summary.worst == () and summary.confused == ()
    assert summary.top1 == metrics.Estimate(1.0, 1.0, 1.0)


def test_names_that_are_not_unicode_still_go_to_json() -> None:
    broken = b"test/\xff\xfe.png".decode("utf-8", "surrogateescape")
    predictions = Predictions(
        split="test",
        keys=(broken,),
        classes=(broken, "b"),
        logits=torch.zeros(1, 2),
        labels=torch.tensor([1]),
        preprocess_hash="",
        unreadable=((broken, broken),),
    )
    summary = summarise(predictions, bootstrap=0)
    assert summary.worst[0].key == r"test/\udcff\udcfe.png"
    assert summary.model_dump_json().encode()


def changed(**changes: object) -> Predictions:
    fields = {**vars(made(4, 3)), **changes}
    return Predictions(**fields)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (
            changed(keys=(), logits=torch.zeros(0, 3), labels=torch.zeros(0, dtype=torch.int64)),
            r"predictions of split 'test': no image could be read",
        ),
        (changed(keys=("a", "b")), r"logits \(4, 3\) do not fit 2 keys and 3 classes"),
        (changed(classes=("a", "b")), r"logits \(4, 3\) do not fit 4 keys and 2 classes"),
        (changed(labels=torch.tensor([0, 1, 2, 3])), r"labels 0..3 must be in \[0, 3\)"),
        (changed(logits=torch.full((4, 3), math.nan)), "a logit is not finite; evaluate the run"),
    ],
    ids=["empty", "keys", "classes", "labels", "nan"],
)
def test_predictions_that_do_not_fit_are_refused(predictions: Predictions, message: str) -> None:
    with pytest.raises(RunError, match=message):
        summarise(predictions)
