"""Thumbnails of a data set for its page, within a budget of bytes."""

import base64
import io
from typing import NamedTuple

from PIL import Image

from vitrail.data.check.finding import Image as Named
from vitrail.data.check.record import load_picture
from vitrail.data.check.survey import Survey
from vitrail.errors import ImageError
from vitrail.report.text import visible

EDGE = 112  # pixels of the longer side of a thumbnail
SHARP = 40  # pixels up to which it is kept exactly, and shown in squares
BUDGET = 2_200_000  # characters of all thumbnails together
MAX_PIXELS = 40_000_000  # height * width of an image that is shown


class Thumbnail(NamedTuple):
    """One image as the page shows it; without `uri` there was no room, or it cannot be read."""

    uri: str
    sharp: bool
    alt: str
    split: str
    label: str
    key: str


class Thumbnails:
    """Makes thumbnails until the budget is used up."""

    def __init__(self, survey: Survey, budget: int = BUDGET) -> None:
        """`budget` is in characters of the page."""
        self.survey = survey
        self.left = budget

    def make(self, image: Named) -> Thumbnail:
        """Read an image and make its thumbnail."""
        uri, sharp = self._encode(image)
        self.left -= len(uri)
        label, split = visible(image.label, 60), visible(image.split, 20)
        key = visible(image.key, 80, keep_end=True)
        return Thumbnail(uri, sharp, f"image of {label}, {split}", split, label, key)

    def _encode(self, image: Named) -> tuple[str, bool]:
        """Give a data: address and whether it shows each pixel; an empty one where it cannot."""
        part, i = self.survey.place(image.row)
        if self.left <= 0 or not self.survey.good[image.row]:
            return "", False
        try:
            data = self.survey.splits[part].read(i)
            small = Image.fromarray(load_picture(data, image.key, MAX_PIXELS, EDGE))
        except ImageError:  # it could be read before: the files have changed
            return "", False
        sharp = max(small.size) <= SHARP
        small.thumbnail((EDGE, EDGE), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        if sharp:
            small.save(file, "PNG", optimize=True)
        else:
            small.save(file, "JPEG", quality=80, optimize=True)
        kind = "png" if sharp else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}", sharp
