from pathlib import Path

import pytest

from tests.train.helpers import paint, tiny_config
from vitrail.train.loop import train


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_config(photos), tmp_path_factory.mktemp("runs") / "run").path
