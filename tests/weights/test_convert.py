"""Conversion proves what it writes, and leaves nothing behind where it cannot."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers import TINY, images_for
from tests.weights.references import assert_same_model, ready_model
from vitrail.cli import main
from vitrail.errors import StorageError, UsageError, WeightsError
from vitrail.models import Backbone
from vitrail.weights import convert as converting
from vitrail.weights.adapt import Wanted
from vitrail.weights.convert import convert
from vitrail.weights.formats import FORMATS
from vitrail.weights.load import load_model, save_model

Captured = pytest.CaptureFixture[str]
WRITERS = ["vitrail", *(name for name, format in FORMATS.items() if format.write)]
ENDINGS = {"google": ".npz", "torchvision": ".safetensors"}
SIZES = {"torchvision": (32, 32)}  # whose ViTs take square images only


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model = ready_model()
    save_model(model, tmp_path / "source")
    return tmp_path / "source"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("to", WRITERS)
def test_there_and_back_is_the_same_to_the_bit(to: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    save_model(ready_model(image_size=SIZES.get(to, (32, 48))), source)
    target = tmp_path / f"target{ENDINGS.get(to, '')}"
    proof = convert(source, target, to)
    assert (proof.largest_difference, proof.tensors_equal) == (0.0, True)
    back = convert(target, tmp_path / "back", "vitrail")
    assert back.format == to and back.tensors_equal
    assert_same_model(load_model(tmp_path / "back", quiet=True), load_model(source, quiet=True))
    assert not [name for name in left(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("to", WRITERS)
def test_several_labels_are_remembered(to: str, tmp_path: Path) -> None:
    model = ready_model(image_size=SIZES.get(to, (32, 48)))
    target = tmp_path / f"target{ENDINGS.get(to, '')}"
    for several in (False, True):
        model.multi_label = several
        save_model(model, target, format=to, quiet=True)
        assert load_model(target, quiet=True).multi_label is several


@pytest.mark.parametrize("kind", TINY)
def test_every_kind_goes_through_its_own_format(kind: str, tmp_path: Path) -> None:
    save_model(ready_model(kind), tmp_path / "source")
    proof = convert(tmp_path / "source", tmp_path / "target", "vitrail")
    assert proof.largest_difference == 0 and proof.tensors_equal


def test_pytorch_files_are_taken_here(source: Path, tmp_path: Path) -> None:
    model = load_model(source, quiet=True)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x.pth: this kind of file can hold code; make it safe"):
        load_model(tmp_path / "x.pth")
    proof = convert(tmp_path / "x.pth", tmp_path / "y", "vitrail", trained_size=(32, 48))
    assert proof.largest_difference == 0
    back = load_model(tmp_path / "y", quiet=True)
    state = back.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_other_sizes_on_the_way(source: Path, tmp_path: Path) -> None:
    wanted = Wanted(classes=("class 4", "class 2"), sizes={"image_size": (48, 32)})
    proof = convert(source, tmp_path / "x", "timm", wanted)
    assert proof.model.loaded is not None
    assert {row.fate for row in proof.model.loaded.rows} == {"loaded", "resized", "cut"}
    back = load_model(tmp_path / "x", quiet=True)
    assert back.classes == ("class 4", "class 2") and back.config.image_size == (48, 32)


def test_a_target_that_exists_is_kept(source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(WeightsError, match="there: exists already; choose another name"):
        convert(source, tmp_path / "there", "vitrail")
    assert left(tmp_path / "there") == []


def test_a_result_that_differs_is_not_left(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: Backbone, path: Path, **_: object) -> tuple[str, ...]:
        with torch.no_grad():
            model.state_dict()["norm.bias"] += 1
        notes = save_model(model, path, format="vitrail", quiet=True)
        with torch.no_grad():
            model.state_dict()["norm.bias"] -= 1
        return notes

    monkeypatch.setattr(converting, "save_model", spoil)
    with pytest.raises(WeightsError, match=r"gives other logits than .*, by up to \d"):
        convert(source, tmp_path / "x", "timm")
    assert left(tmp_path) == ["source"]


def test_a_full_disk_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.train.helpers import disk_is_full
    from vitrail import files

    monkeypatch.setattr(files, "write_synced", disk_is_full)
    with pytest.raises(StorageError, match="no space left"):
        convert(source, tmp_path / "x", "timm")
    assert left(tmp_path) == ["source"]


def test_formats_that_are_none_or_only_read(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format='onnxx' is not a format"):
        convert(source, tmp_path / "x", "onnxx")
    for name, format in FORMATS.items():
        if format.write is None:
            with pytest.raises(UsageError, match=f"format='{name}' is only read"):
                convert(source, tmp_path / "x", name)


def test_a_new_head_does_not_hide_a_difference(source: Path) -> None:
    one = load_model(source, num_classes=3, quiet=True)
    other = load_model(source, num_classes=3, quiet=True)
    assert not one(images_for(one)).any()
    assert converting.largest_difference(one, other) == 0
    with torch.no_grad():
        other.state_dict()["norm.bias"][0] += 0.5
    assert converting.largest_difference(one, other) == pytest.approx(0.5)


# --- the command --------------------------------------------------------------


def test_the_command(source: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["convert", str(source), str(tmp_path / "t"), "--to", "timm"]) == 0
    said = capsys.readouterr()
    assert "loaded again; largest difference of a logit 0; every tensor is equal" in said.out
    assert "tensors: 32 loaded" in said.err
    args = ["convert", str(tmp_path / "t"), str(tmp_path / "n"), "--image-size", "48", "32"]
    assert main([*args, "--classes", "class 1", "class 0", "--json"]) == 0
    said = capsys.readouterr()
    about = json.loads(said.out)
    assert (about["from"], about["to"], about["largest_difference"]) == ("timm", "vitrail", 0)
    assert "grid 4x6 to 6x4" in said.err
    assert load_model(tmp_path / "n", quiet=True).classes == ("class 1", "class 0")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("nothing x", "error: nothing: no such file or folder"),
        ("SOURCE x --to tim", "format='tim' is not a format; there is vitrail"),
        ("SOURCE x --classes cat", "class 'cat' is not one of its 5 classes"),
        ("SOURCE x --image-size 30 30", "image_size=30x30 must be a multiple of patch_size=8"),
        ("SOURCE x --tow timm", "--tow: unknown setting; did you mean '--to'?"),
        ("SOURCE x --fron timm", "--fron: unknown setting; did you mean '--from'"),
        ("SOURCE x --from timm", "is of format vitrail (model.json); leave format out"),
        ("SOURCE", "is missing; see --help"),
    ],
)
def test_what_is_refused(
    args: str, message: str, source: Path, tmp_path: Path, capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *args.replace("SOURCE", str(source)).split()]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert left(tmp_path) == ["source"]
