from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.weights.reading import Zygote


@pytest.fixture(scope="module")
def zygote() -> "Iterator[Zygote]":
    """A process that has torch and reads pickles for the tests; see `reading.Zygote`."""
    from tests.weights.reading import Zygote  # it imports vitrail, which the shape checker awaits

    zygote = Zygote()
    yield zygote
    zygote.close()
