import importlib
import inspect
from pathlib import Path

import numpy as np
import torch

import vitrail
from tests.train.helpers import TINY, named, png
from vitrail.explain.render import overlay
from vitrail.models import MODELS


def test_the_public_names() -> None:
    exported = {
        name
        for name, value in vars(vitrail).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert exported | {"__version__"} == set(vitrail.__all__)
    assert vitrail.__all__ == sorted(vitrail.__all__)
    assert all(getattr(vitrail, name).__doc__ for name in exported)


def test_the_version_is_the_one_of_the_package() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'version = "{vitrail.__version__}"' in text or 'dynamic = ["version"]' in text


def test_explain_is_the_function_and_its_package_still_opens() -> None:
    assert inspect.isfunction(vitrail.explain)
    render = importlib.import_module("vitrail.explain.render")
    assert render.overlay is overlay and inspect.isfunction(vitrail.explain)


def test_models_by_name() -> None:
    names = vitrail.list_models()
    assert names == list(MODELS) and len(names) == len(set(names)) > 10
    names.clear()
    assert vitrail.list_models()


def test_the_whole_way_by_public_names(tmp_path: Path) -> None:
    model = vitrail.create_model("ViT-Ti/16", num_classes=3, **TINY)
    named(model, ("blue", "green", "red"))
    torch.nn.init.normal_(model.head.weight)
    vitrail.save_model(model, tmp_path / "model")
    back = vitrail.load_model(tmp_path / "model")
    predictor = vitrail.Predictor(tmp_path / "model", device="cpu")
    guesses = predictor.predict([png((200, 30, 40), 1)], top_k=1)
    images = predictor.inputs([predictor.load(png((200, 30, 40), 1))])
    assert guesses[0][0].label == back.classes[int(back(images).argmax())]
    assert torch.equal(back(images), model.eval()(images))
    heat = vitrail.explain(back, images)
    assert heat.shape == (1, 16, 24) and 0 <= heat.min() and heat.max() <= 1
    assert overlay(np.zeros((16, 24, 3), np.uint8), heat[0].numpy()).dtype == np.uint8
