"""Names of the hub: the local cache first, nothing fetched unasked, one line when it fails."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.weights.references import assert_same_model, ready_model
from vitrail.errors import WeightsError
from vitrail.weights.hub import FILES, fetch
from vitrail.weights.load import load_model, save_model

hub = pytest.importorskip("huggingface_hub")


class Store:
    """Stands in for the hub: what is in the local cache, and what could be fetched."""

    def __init__(self, local: Path | None = None, remote: Path | None = None) -> None:
        self.local, self.remote = local, remote
        self.calls: list[dict[str, Any]] = []

    def __call__(self, name: str, **options: Any) -> str:
        self.calls.append({"name": name, **options})
        folder = self.local if options["local_files_only"] else self.remote
        if folder is None:
            raise OSError(f"{name}: nothing here\nand a second line")
        return str(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(ready_model(), tmp_path / "snapshot")
    return tmp_path / "snapshot"


def test_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    monkeypatch.setattr(hub, "snapshot_download", store)
    assert fetch(tmp_path) == tmp_path
    assert fetch("~/x") == Path.home() / "x"
    assert store.calls == []


def test_the_local_cache_is_asked_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(local=folder, remote=folder)
    monkeypatch.setattr(hub, "snapshot_download", store)
    assert_same_model(load_model("hf://somebody/some.model-1@v1.0"), ready_model())
    (call,) = store.calls
    assert (call["name"], call["revision"]) == ("somebody/some.model-1", "v1.0")
    assert call["local_files_only"] is True
    assert tuple(call["allow_patterns"]) == FILES and "*.bin" not in FILES


def test_what_is_not_there_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = folder.parent / "empty"
    empty.mkdir()
    for local in (None, empty):  # never seen, or seen without its weights
        store = Store(local=local, remote=folder)
        monkeypatch.setattr(hub, "snapshot_download", store)
        assert fetch("hf://somebody/model") == folder
        assert [call["local_files_only"] for call in store.calls] == [True, False]


def test_what_cannot_be_had_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "snapshot_download", Store())
    with pytest.raises(WeightsError) as caught:
        load_model("hf://somebody/model")
    assert str(caught.value) == (
        "hf://somebody/model: cannot be fetched: somebody/model: nothing here; "
        "give a local folder instead"
    )


def test_a_repository_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "snapshot_download", Store(local=tmp_path, remote=tmp_path))
    with pytest.raises(WeightsError, match=r"holds no .safetensors and no .npz file"):
        fetch("hf://somebody/model")


@pytest.mark.parametrize("repository", ["model", "a/b/c", "../b", "a/b@", "a b/c"])
def test_a_malformed_name_is_refused(repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    monkeypatch.setattr(hub, "snapshot_download", store)
    with pytest.raises(WeightsError, match=r"must be hf://owner/name"):
        fetch(f"hf://{repository}")
    assert store.calls == []


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"needs the extra hub: pip install 'vitrail\[hub\]'"):
        fetch("hf://somebody/model")
