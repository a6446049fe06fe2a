"""Every figure against scikit-learn or an independent float64 oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from vitrail import metrics


def made(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is right about half of the time, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes)).astype(np.float32) * 2
    logits[np.arange(count), labels] += 3
    return logits, labels


def softmax(logits: np.ndarray) -> np.ndarray:
    """One row at a time, in float64, so that nothing is shared with the code under test."""
    rows = [np.exp(row.astype(float) - float(row.max())) for row in logits]
    return np.array([row / row.sum() for row in rows])


@pytest.fixture(params=[(400, 2), (301, 7), (500, 40)], ids=["2", "7", "40"])
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, metrics.Outcomes]:
    logits, labels = made(*request.param)
    return logits, labels, metrics.outcomes(logits, labels)


def test_headline_figures_equal_scikit_learn(case) -> None:
    logits, labels, seen = case
    found = metrics.estimates(seen, resamples=0)
    probabilities = softmax(logits)
    classes = np.arange(logits.shape[1])
    predicted = probabilities.argmax(1)
    expected = {
        "top1": accuracy_score(labels, predicted),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "nll": log_loss(labels, probabilities, labels=classes),
        "brier": brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
        assert found[name].low is None and found[name].high is None


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_equals_scikit_learn(k: int) -> None:
    logits, labels = made(300, 9)
    seen = metrics.outcomes(logits, labels)
    expected = top_k_accuracy_score(labels, logits, k=k, labels=np.arange(9))
    assert metrics.top_k_accuracy(seen, k) == pytest.approx(expected, abs=1e-9)


def test_top_5_is_an_estimate_only_where_it_can_be_wrong() -> None:
    five = metrics.estimates(metrics.outcomes(*made(50, 5)), resamples=10)
    six = metrics.estimates(metrics.outcomes(*made(50, 6)), resamples=10)
    assert "top5" not in five
    assert six["top5"].value == metrics.top_k_accuracy(metrics.outcomes(*made(50, 6)), 5)


def test_class_scores_and_confusion_equal_scikit_learn(case) -> None:
    logits, labels, seen = case
    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(1)
    matrix = sklearn_confusion_matrix(labels, predicted, labels=classes)
    assert (metrics.confusion_matrix(seen) == matrix).all()
    cells = metrics.confusion_cells(seen)
    assert cells == [(i, j, matrix[i, j]) for i in classes for j in classes if matrix[i, j]]
    expected = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    scores = metrics.class_scores(seen)
    for name, column in zip(["precision", "recall", "f1", "support"], expected, strict=True):
        found = [getattr(score, name) or 0 for score in scores]
        assert found == pytest.approx(column.tolist(), abs=1e-9), name


def test_calibration_equals_a_plain_loop(case) -> None:
    logits, labels, seen = case
    error, bins = metrics.calibration(seen)
    probabilities = softmax(logits)
    top, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for m in range(15):
        inside = (top > m / 15) & (top <= (m + 1) / 15)
        assert bins[m].count == inside.sum()
        assert (bins[m].low, bins[m].high) == pytest.approx((m / 15, (m + 1) / 15), abs=1e-12)
        if inside.any():
            assert bins[m].accuracy == pytest.approx(right[inside].mean(), abs=1e-9)
            assert bins[m].confidence == pytest.approx(top[inside].mean(), abs=1e-9)
            expected += inside.mean() * abs(right[inside].mean() - top[inside].mean())
        else:
            assert bins[m].accuracy is None and bins[m].confidence is None
    assert error == pytest.approx(expected, abs=1e-9)
    assert metrics.estimates(seen, resamples=0)["ece"].value == pytest.approx(error, abs=1e-12)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    logits = np.zeros((4, 3), dtype=np.float32)  # confidence 1/3 = 5/15
    _, bins = metrics.calibration(metrics.outcomes(logits, np.array([0, 1, 2, 0])))
    assert [each.count for each in bins].index(4) == 4
    sure = np.array([[200.0, 0, 0]], dtype=np.float32)  # confidence 1
    _, bins = metrics.calibration(metrics.outcomes(sure, np.array([0])))
    assert bins[14].count == 1


def test_ties_go_to_the_lower_class_everywhere() -> None:
    logits = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=np.float32)
    seen = metrics.outcomes(logits, np.array([0, 1, 2]))
    assert seen.predicted.tolist() == [0, 0, 0]
    assert seen.rank.tolist() == [0, 1, 2]
    assert [metrics.top_k_accuracy(seen, k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1]


def test_one_image_is_defined() -> None:
    found = metrics.estimates(metrics.outcomes(np.zeros((1, 2), np.float32), np.array([0])))
    assert found["top1"] == metrics.Estimate(1.0, 1.0, 1.0)
    assert found["nll"].value == found["nll"].high == pytest.approx(np.log(2), abs=1e-12)
    assert found["ece"].value == pytest.approx(0.5, abs=1e-12)


def test_one_class_is_defined() -> None:
    seen = metrics.outcomes(np.array([[3.0], [-4.0]], np.float32), np.array([0, 0]))
    found = metrics.estimates(seen, resamples=20)
    assert found["top1"].value == 1 and found["nll"].value == 0 and found["brier"].value == 0


def test_classes_without_images_are_none_and_left_out_of_the_means() -> None:
    logits = np.array([[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]], dtype=np.float32)
    seen = metrics.outcomes(logits, np.array([0, 1, 1]))
    scores = metrics.class_scores(seen)
    assert scores[2] == metrics.ClassScore(0, 1, 0, precision=0.0, recall=None, f1=None)
    assert scores[3] == metrics.ClassScore(0, 0, 0, precision=None, recall=None, f1=None)
    found = metrics.estimates(seen, resamples=50)
    assert found["balanced_accuracy"].value == 0.75
    assert found["macro_f1"].value == pytest.approx((1 + 2 / 3) / 2, abs=1e-12)


def test_a_class_never_predicted_has_no_precision_and_f1_0() -> None:
    logits = np.array([[9, 0], [9, 0]], dtype=np.float32)
    score = metrics.class_scores(metrics.outcomes(logits, np.array([0, 1])))[1]
    assert (score.precision, score.recall, score.f1) == (None, 0.0, 0.0)


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[3e38, -3e38], [-3e38, 3e38]], dtype=np.float32)
    found = metrics.estimates(metrics.outcomes(logits, np.array([0, 0])), resamples=0)
    assert found["top1"].value == 0.5
    assert found["nll"].value == pytest.approx(float(np.float32(3e38)), rel=1e-9)


def test_slices_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = made(101, 7)
    whole = metrics.outcomes(logits, labels)
    monkeypatch.setattr(metrics, "SLICE", 7 * 10)
    sliced = metrics.outcomes(logits, labels)
    for name in ("labels", "predicted", "rank", "confidence", "nll", "brier"):
        assert (getattr(whole, name) == getattr(sliced, name)).all(), name


def test_intervals_are_the_percentiles_of_plain_resampling() -> None:
    logits, labels = made(60, 6)
    found = metrics.estimates(metrics.outcomes(logits, labels), resamples=200, seed=3)
    chosen = np.random.default_rng(3).integers(0, 60, size=(200, 60))
    again = [metrics.estimates(metrics.outcomes(logits[i], labels[i]), resamples=0) for i in chosen]
    for name, estimate in found.items():
        low, high = np.percentile([each[name].value for each in again], [2.5, 97.5])
        assert estimate.low == pytest.approx(min(low, estimate.value), abs=1e-9), name
        assert estimate.high == pytest.approx(max(high, estimate.value), abs=1e-9), name


def test_intervals_depend_on_the_seed_alone_and_not_on_the_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = metrics.outcomes(*made(90, 8))
    first = metrics.estimates(seen, resamples=100, seed=1)
    assert first == metrics.estimates(seen, resamples=100, seed=1)
    assert first != metrics.estimates(seen, resamples=100, seed=2)
    monkeypatch.setattr(metrics, "SLICE", 90 * 7)
    sliced = metrics.estimates(seen, resamples=100, seed=1)
    for name, estimate in first.items():
        assert estimate.low == pytest.approx(sliced[name].low, abs=1e-12)
        assert estimate.high == pytest.approx(sliced[name].high, abs=1e-12)


def test_a_higher_level_gives_a_wider_interval() -> None:
    seen = metrics.outcomes(*made(200, 6))
    narrow = metrics.estimates(seen, resamples=300, level=0.5)["top1"]
    wide = metrics.estimates(seen, resamples=300, level=0.99)["top1"]
    assert wide.low < narrow.low <= narrow.high < wide.high


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        labels = np.zeros(150, dtype=np.int64)
        logits = np.zeros((150, 2), dtype=np.float32)
        logits[:, 1] = np.where(random.random(150) < 0.7, -1, 1)  # right with probability 0.7
        top1 = metrics.estimates(metrics.outcomes(logits, labels), resamples=200, seed=seed)["top1"]
        held += top1.low <= 0.7 <= top1.high
    assert 180 <= held <= 198  # 95% of 200 is 190


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), r"logits \(0, 3\), labels \(0,\): not"),
        (np.zeros((2, 3)), np.zeros(3, int), r"labels \(3,\): not \[n, classes\] and \[n\]"),
        (np.zeros(3), np.zeros(3, int), r"logits \(3,\)"),
        (np.zeros((2, 3)), np.array([0, 3]), r"labels 0..3 must be in \[0, 3\)"),
        (np.zeros((2, 3)), np.array([-1, 0]), r"labels -1..0 must be in \[0, 3\)"),
        (np.array([[0, np.nan]]), np.array([0]), "not finite"),
        (np.array([[0, np.inf]]), np.array([0]), "not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(logits, labels, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.outcomes(logits.astype(np.float32), labels)


def test_k_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="k=0 must be at least 1"):
        metrics.top_k_accuracy(metrics.outcomes(*made(4, 3)), 0)


@st.composite
def anything(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits with many ties and extremes, and any labels."""
    count, classes = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    numbers = st.sampled_from([-3e38, -50.0, -1.0, 0.0, 1e-6, 1.0, 2.0, 100.0, 3e38])
    logits = draw(arrays(np.float32, (count, classes), elements=numbers.map(np.float32)))
    labels = draw(arrays(np.int64, count, elements=st.integers(0, classes - 1)))
    return logits, labels


@given(anything(), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_figures_stay_in_range_and_agree_with_each_other(case, seed: int) -> None:
    logits, labels = case
    seen = metrics.outcomes(logits, labels)
    matrix = metrics.confusion_matrix(seen)
    assert matrix.sum() == len(labels)
    assert np.trace(matrix) / len(labels) == pytest.approx(metrics.top_k_accuracy(seen, 1))
    accuracies = [metrics.top_k_accuracy(seen, k) for k in range(1, logits.shape[1] + 1)]
    assert accuracies == sorted(accuracies) and accuracies[-1] == 1
    assert sum(each.count for each in metrics.calibration(seen)[1]) == len(labels)
    limits = {"nll": np.inf, "brier": 2}
    for name, estimate in metrics.estimates(seen, resamples=20, seed=seed).items():
        assert 0 <= estimate.low <= estimate.value <= estimate.high, name
        assert estimate.high <= limits.get(name, 1) + 1e-9, name


@given(anything(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_images_does_not_matter(case, random) -> None:
    logits, labels = case
    order = list(range(len(labels)))
    random.shuffle(order)
    first = metrics.estimates(metrics.outcomes(logits, labels), resamples=0)
    second = metrics.estimates(metrics.outcomes(logits[order], labels[order]), resamples=0)
    for name in first:
        assert first[name].value == pytest.approx(second[name].value, rel=1e-9, abs=1e-9)


def test_average_precision_by_its_definition() -> None:
    """Precision at the place of each true image, averaged; 1 where they all come first."""
    logits = np.array([[3.0, 0.1, 5.0], [2.0, 0.9, 1.0], [1.0, 0.5, 0.0]], np.float32)
    truth = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 0]])
    first = (1 / 2 + 2 / 3) / 2  # of class 0, images 1 and 2 stand second and third
    second = (1 / 1 + 2 / 3) / 2  # of class 1, image 1 stands first, image 0 third
    assert metrics.mean_average_precision(logits, truth) == pytest.approx((first + second) / 2)
    assert metrics.mean_average_precision(logits, truth[:, 2:].repeat(3, axis=1)) is None
    assert metrics.mean_average_precision(truth.astype(np.float32), truth) == 1.0
