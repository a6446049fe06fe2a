"""Advice follows from the images; flips are asked."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.data.check.pictures import encode, picture
from tests.data.check.readers import data_of
from tests.data.images import noise, save
from vitrail.data.check.advice import GRIDS, SIZES, advise, input_size, patches
from vitrail.data.check.record import examine
from vitrail.data.check.survey import Survey
from vitrail.data.included import load_digits


def survey_of(files: list[bytes], labels: list[int] | None = None, classes: str = "xy") -> Survey:
    pairs = list(zip(files, labels or [i % 2 for i in range(len(files))], strict=True))
    survey = Survey(data_of(tuple(classes), train=pairs))
    for i, file in enumerate(files):
        survey.add(0, i, examine(file, "x", 10**8))
    return survey


def flags(survey: Survey) -> str:
    return " ".join(each.flags for each in advise(survey))


def sized(height: int, width: int) -> bytes:
    return encode(picture(1).resize((width, height)))


@pytest.mark.parametrize(
    ("shapes", "side"),
    [
        ([(375, 500)] * 3, 224),
        ([(70, 50)] * 3, 48),
        ([(32, 32)] * 3, 32),
        ([(40, 90), (100, 120), (300, 200)], 96),
        ([(5, 9)] * 3, 8),
    ],
)
def test_half_of_the_images_are_at_least_as_large_as_the_input(
    shapes: list[tuple[int, int]], side: int
) -> None:
    survey = survey_of([sized(*shape) for shape in shapes])
    assert input_size(survey) == side
    assert flags(survey).startswith(f"--image-size {side} {side} --patch-size ")


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_a_patch_that_divides_it(size: int) -> None:
    found = patches(size)
    assert found and all(size % each == 0 for each in found)
    assert all(GRIDS[0] <= size // each <= GRIDS[1] for each in found)


def test_known_pairs() -> None:
    assert (patches(224)[0], patches(96)[0], patches(32)[0]) == (16, 8, 4)


def test_grey_images_need_one_channel() -> None:
    grey = [encode(picture(i).convert("L").convert("RGB")) for i in range(4)]
    assert "--input.channels 1" in flags(survey_of(grey))
    assert "--input.channels" not in flags(survey_of([*grey, encode(picture(5))]))


def test_bands_and_depth() -> None:
    def array(values: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, values)
        return file.getvalue()

    assert "--input.channels 6" in flags(survey_of([array(noise(20, 30, 6))] * 2))
    deep = save(Image.fromarray(noise(20, 30).astype(np.uint16) * 200), "PNG")
    assert "--input.channels 1 --input.depth 16" in flags(survey_of([deep, deep]))
    assert "--input.depth" not in flags(survey_of([encode(picture(1))] * 2))


def test_long_images_are_padded_and_not_cut() -> None:
    assert "--input.resize pad --augment.crop-area None" in flags(survey_of([sized(50, 90)] * 2))
    assert "--input.resize" not in flags(survey_of([sized(60, 80)] * 2))


def test_uneven_classes_are_balanced() -> None:
    files = [encode(picture(i)) for i in range(12)]
    assert "--data.sampling.balance sqrt" in flags(survey_of(files, [0] * 11 + [1]))
    assert "--data.sampling.balance" not in flags(survey_of(files, [0] * 10 + [1] * 2))


def test_few_images_are_varied_more_than_many() -> None:
    table = survey_of([encode(picture(i)) for i in range(4)]).table
    erase = []
    for count in (40, 400, 4000):
        survey = Survey(data_of("ab", train=[(b"", i % 2) for i in range(count)]))
        survey.table[:] = table[np.arange(count) % 4]
        erase.append(float(flags(survey).split("--augment.erase ")[1].split()[0]))
    assert erase == sorted(erase, reverse=True) and len(set(erase)) == 3


@pytest.mark.parametrize(
    ("classes", "hint"),
    [
        (("left turn", "right turn"), "there are classes of 'left' and 'right'"),
        (("hand_l", "hand_r"), "there are classes of 'l' and 'r'"),
        (("b", "d"), "letters or digits"),
        (("10", "11"), "letters or digits"),
        (("cat", "dog"), ""),
    ],
)
def test_flips_are_asked(classes: tuple[str, ...], hint: str) -> None:
    survey = Survey(data_of(classes, train=[(b"", 0), (b"", 1)]))
    survey.table[:] = examine(encode(picture(1)), "x", 10**8)
    question = advise(survey)[-1]
    assert question.flags == "" and "--augment.no-flip" in question.why
    assert (hint in question.why) if hint else question.why.endswith("--augment.no-flip")


def test_data_that_knows_of_itself_says_so() -> None:
    survey = Survey(load_digits())
    survey.table[:] = examine(encode(picture(1)), "x", 10**8)
    assert "probably not" in advise(survey)[-1].why
