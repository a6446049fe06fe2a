from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.images import MODES
from tests.data.samples import samples
from tests.helpers import tiny_model
from tests.train.helpers import named, png
from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import Data, Split
from vitrail.data.loader import FileImages, open_images
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError, ImageError, WeightsError
from vitrail.evaluate.measure import predict_split
from vitrail.models import Backbone
from vitrail.serve import explaining
from vitrail.serve.explaining import explain_image, safe_stem
from vitrail.serve.predictor import Predictor
from vitrail.weights.load import save_model

CLASSES = ("ant", "bee", "cat", "dog", "emu")
CONTRACTS = {
    "crop": {},
    "squash grey": {"resize": "squash", "channels": 1, "mean": (0.4,), "std": (0.3,)},
    "pad": {"resize": "pad", "interpolation": "bilinear"},
    "centre": {"crop_fraction": 0.8, "mean": (0.1, 0.2, 0.3)},
}


def save_tiny(folder: Path, contract: dict[str, Any]) -> Backbone:
    model = named(tiny_model(in_channels=contract.get("channels", 3)), CLASSES)
    model.preprocess = Preprocess(size=(32, 48), **contract)
    save_model(model, folder)
    return model.eval()


@pytest.fixture(scope="module", params=list(CONTRACTS))
def predictor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Predictor:
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder, CONTRACTS[request.param])
    return Predictor(folder, device="cpu")


@pytest.fixture
def plain(tmp_path: Path) -> Predictor:
    save_tiny(tmp_path / "model", {})
    return Predictor(tmp_path / "model", device="cpu")


def split_of(files: list[bytes]) -> Split:
    keys = tuple(f"{i}" for i in range(len(files)))
    return Split(keys, np.zeros(len(files), np.int64), files.__getitem__)


def require_one_path(predictor: Predictor, files: list[bytes], folder: Path) -> None:
    """Compare what train, evaluate and predict make of the same files."""
    split = split_of(files)
    by_evaluate = FileImages(split, predictor.preprocess)
    by_train = open_images(split, predictor.preprocess, AugmentConfig(), 0)
    pixels = []
    for i, data in enumerate(files):
        path = folder / f"{i}.image"
        path.write_bytes(data)
        expected = predictor.load(data)
        assert expected.shape == (predictor.preprocess.channels, 32, 48)
        assert expected.dtype == torch.uint8
        pixels.append(expected)
        for other in (predictor.load(path), predictor.load(str(path))):
            assert torch.equal(other, expected)
        assert torch.equal(by_evaluate.load(i, None), expected)
        assert torch.equal(by_train.load(i, None), expected)
    data = Data("x", CLASSES, {"test": split})
    evaluated = predict_split(predictor.model, data, "test")
    assert evaluated.preprocess_hash == predictor.preprocess.hash
    assert torch.equal(evaluated.logits, predictor.logits(pixels))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_d3_one_path_for_every_mode_and_orientation(
    orientation: int, predictor: Predictor, tmp_path: Path
) -> None:
    require_one_path(predictor, [make(orientation)[0] for make in MODES.values()], tmp_path)


def test_one_path_for_every_format(predictor: Predictor, tmp_path: Path) -> None:
    require_one_path(predictor, list(samples().values()), tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_d3_explain_sees_what_predict_sees_in_every_mode_and_orientation(
    orientation: int, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    heat = torch.zeros(1, 32, 48)
    monkeypatch.setattr(
        explaining, "explain", lambda model, images, **_: seen.append(images) or heat
    )
    for drawing in ("strip", "attention_panel", "save_png"):  # only what goes in is looked at here
        monkeypatch.setattr(explaining, drawing, lambda *_, **__: None)
    for i, make in enumerate(MODES.values()):
        path = tmp_path / f"{i}.image"
        path.write_bytes(make(orientation)[0])
        explain_image(predictor, path, tmp_path / "out")
        expected = predictor.inputs([predictor.load(path.read_bytes())])
        assert len(seen) == 2 and all(torch.equal(each, expected) for each in seen)
        seen.clear()


def test_explain_sees_what_predict_sees(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    real = explaining.attention_panel

    def watch(model: Backbone, images: Tensor, picture: Any, *, title: str) -> Any:
        seen.append(images)
        return real(model, images, picture, title=title)

    monkeypatch.setattr(explaining, "attention_panel", watch)
    for name, data in samples().items():
        path = tmp_path / name
        path.write_bytes(data)
        explain_image(predictor, path, tmp_path / "out")
        assert torch.equal(seen.pop(), predictor.inputs([predictor.load(data)]))
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(samples())


def test_predict_gives_what_the_model_says(plain: Predictor) -> None:
    images = [png((200, 30, 40), 1), png((20, 30, 240), 2)]
    guesses = plain.predict(images, top_k=5)
    chances = plain.logits([plain.load(image) for image in images]).softmax(dim=1)
    for row, chance in zip(guesses, chances, strict=True):
        assert [guess.probability for guess in row] == sorted(chance.tolist(), reverse=True)
        assert [guess.label for guess in row] == [
            CLASSES[i] for i in chance.argsort(descending=True)
        ]
        assert sum(guess.probability for guess in row) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (5, 5), (6, 5), (1000, 5)])
def test_top_k_is_bounded_by_the_classes(top_k: int, count: int, plain: Predictor) -> None:
    full = plain.predict([png((200, 30, 40), 1)], top_k=5)[0]
    assert plain.predict([png((200, 30, 40), 1)], top_k=top_k) == [full[:count]]


def test_paths_and_bytes_give_the_same(plain: Predictor, tmp_path: Path) -> None:
    data = png((200, 30, 40), 1)
    path = tmp_path / "ü :smile: 1.png"
    path.write_bytes(data)
    assert plain.predict([data, path, str(path)]) == plain.predict([data] * 3)
    assert plain.predict([]) == []


def test_what_cannot_be_read_is_named(plain: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nothing.png: No such file"):
        plain.predict([tmp_path / "nothing.png"])
    with pytest.raises(ImageError, match=r"model: Is a directory"):
        plain.predict([tmp_path / "model"])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match=r"broken.png: "):
        plain.predict([tmp_path / "broken.png"])
    with pytest.raises(ImageError, match=r"^image: "):
        plain.predict([b"nothing"])
    with pytest.raises(ImageError, match=r"^upload 3: "):
        plain.load(b"nothing", "upload 3")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not a trained model"):
        Predictor(tmp_path)
    save_tiny(tmp_path, {})
    with pytest.raises(ConfigError, match=r"device='gpu' is not one of"):
        Predictor(tmp_path, device="gpu")


def test_names_of_pictures_are_harmless_and_different() -> None:
    names = [
        "a.png",
        "b/a.png",
        "a b.png",
        "../x.png",
        "\x1b[31m.png",
        "é\n.png",
        "....png",
        "a.jpg",
    ]
    names.append(b"\xff.png".decode("utf-8", "surrogateescape"))
    stems = [safe_stem(Path(name)) for name in [*names, "x" * 200 + ".png"]]
    assert len(set(stems)) == len(stems)
    for stem in stems:
        assert stem.isascii() and stem.isprintable() and len(stem) < 80
        assert "/" not in stem and not stem.startswith((".", "-"))
