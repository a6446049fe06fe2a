"""The order in which people count, and which names are images."""

import pytest

from vitrail.data.naming import is_image_name, natural_order


def test_natural_order() -> None:
    names = ["b", "a10", "A2", "a1b", "a1", "10", "9", "a02"]
    assert natural_order(names) == ["9", "10", "a1", "a1b", "A2", "a02", "a10", "b"]
    assert natural_order(names[::-1]) == natural_order(names)


@pytest.mark.parametrize("name", ["a.jpg", "b.JPEG", "c.tar.png", "d.npy", "é.TIFF"])
def test_image_names(name: str) -> None:
    assert is_image_name(name)


@pytest.mark.parametrize("name", [".a.jpg", "jpg", "a.txt", "a.jpg.part", ""])
def test_other_names(name: str) -> None:
    assert not is_image_name(name)
