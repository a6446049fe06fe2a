"""Packed names and label sets behave as tuples of strings and of sets."""

import multiprocessing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.data.dataset import Data, LabelSets, Names, Split

texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=20)


@given(texts)
def test_names_are_a_sequence_of_strings(names: list[str]) -> None:
    packed = Names.of(names)
    assert len(packed) == len(names) and list(packed) == names
    assert [packed[i] for i in range(len(names))] == names
    assert packed == tuple(names) and packed == Names.of(names) and packed[:3] == tuple(names[:3])
    if names:
        assert packed[-1] == names[-1] and packed != tuple(names[1:]) and names[0] in packed


@given(texts.filter(bool), st.data())
def test_names_are_taken_in_any_order(names: list[str], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(names) - 1)))
    assert list(Names.of(names).take(np.array(places, np.int64))) == [names[i] for i in places]


def test_names_that_are_no_utf_8() -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert list(Names.of([name, "b"]).take(np.array([1, 0]))) == ["b", name]


def test_names_refuse_what_is_outside() -> None:
    packed = Names.of(["a", "b"])
    for place in (2, -3):
        with pytest.raises(IndexError):
            packed[place]


def test_more_names_than_are_copied_at_a_time() -> None:
    names = [f"{i:x}" * (i % 3) for i in range(40_000)]
    places = np.random.default_rng(0).permutation(40_000)
    assert list(Names.of(names).take(places)) == [names[i] for i in places.tolist()]


def test_label_sets() -> None:
    sets = LabelSets.of([[2, 0, 2], [], [1]], 3)
    assert [each.tolist() for each in sets] == [[0, 2], [], [1]]
    assert [each.tolist() for each in sets.take(np.array([2, 0]))] == [[1], [0, 2]]
    assert sets.hot().tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert [each.tolist() for each in sets.take(np.array([1, 0, 0]))] == [[], [0, 2], [0, 2]]
    assert len(sets.take(np.array([], np.int64))) == 0
    split = Split(("a", "b", "c"), sets, lambda i: b"")
    assert split.counts(4).tolist() == [1, 1, 1, 0]
    assert Data("x", ("p", "q", "r"), {"train": split}).multi_label


def test_a_split_takes_samples_with_all_that_belongs_to_them() -> None:
    names = Names.of("abc")
    weights = np.array([1.0, 2.0, 3.0])
    split = Split(names, np.array([5, 6, 7]), lambda i: names[i].encode(), weights)
    part = split.take(np.array([2, 0]))
    assert list(part.keys) == ["c", "a"] and list(part.labels) == [7, 5]
    assert part.weights is not None and part.weights.tolist() == [3, 1]
    assert [part.read(i) for i in range(2)] == [b"c", b"a"]
    again = part.take(np.array([1]))
    assert list(again.keys) == ["a"] and again.read(0) == b"a"


def test_names_can_be_sent_to_another_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(list, (Names.of(["a", "bc"]),)) == ["a", "bc"]
