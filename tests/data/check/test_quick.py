"""The quick check looks at some images in this process, the same ones each time."""

import pytest
from PIL import Image

from tests.data.check.pictures import encode, picture
from tests.data.check.readers import data_of
from vitrail.data.check.quick import quick_check
from vitrail.data.dataset import Data, Split
from vitrail.data.preprocess import Preprocess

PREPROCESS = Preprocess(size=(16, 24))
GOOD = [(encode(picture(i)), i % 2) for i in range(40)]


def kinds(data: Data, images: int = 256) -> list[str]:
    return [each.kind for each in quick_check(data, PREPROCESS, images=images)]


def test_nothing_is_found_in_good_data() -> None:
    assert kinds(data_of(train=GOOD[:30], val=GOOD[30:])) == []


def test_everything_is_looked_at_where_there_is_little() -> None:
    blank = encode(Image.new("RGB", (50, 40), "red"))
    data = data_of(
        train=[*GOOD[:30], (b"broken", 0), (blank, 1)], val=[*GOOD[30:], GOOD[3], (b"", 1)]
    )
    found = {each.kind: each for each in quick_check(data, PREPROCESS)}
    assert list(found) == ["broken", "leak", "blank"]
    assert found["broken"].summary == "2 of 44 images looked at: cannot be used"
    assert [image.key for item in found["broken"].items for image in item.images] == [
        "train/30.jpg",
        "val/11.jpg",
    ]
    assert [image.key for image in found["leak"].items[0].images] == ["train/3.jpg", "val/10.jpg"]


def test_counts_are_looked_at_without_an_image() -> None:
    data = data_of(("a", "b", "New Folder"), train=GOOD, val=GOOD[:1])
    assert set(kinds(data, 0)) == {"missing_class", "strange_class"}


class Counting:
    """Counts what is read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, i: int) -> bytes:
        self.read.append(i)
        return GOOD[i % 40][0]


@pytest.mark.parametrize("images", [7, 100])
def test_so_many_images_are_read_spread_over_the_split(images: int) -> None:
    reads = []
    for _ in range(2):
        reader = Counting()
        labels = data_of(train=GOOD * 25).splits["train"].labels
        split = Split(tuple(f"{i}.jpg" for i in range(1000)), labels, reader)
        quick_check(Data("made", ("a", "b"), {"train": split}), PREPROCESS, images=images)
        reads.append(reader.read)
    assert reads[0] == reads[1]
    assert len(set(reads[0])) == images
    assert [i * images // 1000 for i in reads[0]] == list(range(images))
