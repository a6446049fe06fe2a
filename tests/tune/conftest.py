import pytest

from tests.train.helpers import paint, tiny_config
from vitrail.train.config import RunConfig
from vitrail.tune.search import Search, begin
from vitrail.tune.space import SearchConfig

SEARCH = SearchConfig(trials=5, halvings=1, epochs_each=1.5)  # 42 images, 8 a step: 8 steps


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    photos = paint(tmp_path_factory.mktemp("data") / "photos", each=20)
    return tiny_config(photos, train__epochs=3, log_every=3)


@pytest.fixture(scope="session")
def unbroken(base: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Search:
    search = begin(base, SEARCH, tmp_path_factory.mktemp("searches") / "unbroken")
    for _ in search.run():
        pass
    return search
