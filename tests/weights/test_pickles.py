import argparse
import errno
import os
import signal
import sys
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.weights.hostile_pickles import Call, dumped, zipped
from tests.weights.hostile_tensors import folded, tensor
from tests.weights.reading import Zygote, check_refused, same
from vitrail.errors import StorageError, WeightsError
from vitrail.weights import pickles
from vitrail.weights.pickles import explain, read_pickle, refuse

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, in which nothing stays."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def fast(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> Zygote:
    monkeypatch.setattr(pickles, "run", zygote.run)
    return zygote


def state() -> dict[str, Tensor]:
    """Every type that is read, in every layout that a state_dict has them in."""
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    return {
        "blocks.0.norm1.weight": noise[0],
        "turned": noise.T,
        "part": noise[1:3, ::2],
        "half": noise.half(),
        "brain": noise.bfloat16(),
        "double": noise.double(),
        "whole": torch.tensor([-(2**63), 2**63 - 1]),
        "short": torch.arange(-3, 4, dtype=torch.int16),
        "byte": torch.arange(5, dtype=torch.uint8),
        "mask": torch.tensor([True, False, True]),
        "scalar": torch.tensor(3, dtype=torch.int32),
        "none": torch.zeros(0, 3),
        "expanded": torch.ones(1).expand(3, 5),
        "empty of numpy": torch.from_numpy(np.zeros(0, np.float32)),
        "one, strided": torch.ones(1).as_strided((1, 1), (7, 0)),
        "odd": torch.tensor([float("nan"), -0.0, float("inf"), -float("inf")]),
        "learned": nn.Parameter(noise + 1),
        "grows": (noise.clone().requires_grad_() * 1).detach(),
        "Käse/π\n": noise[0, :1],
    }


def prefixed(**parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}.{name}": value for part, own in parts.items() for name, value in own.items()}


LAYOUTS: dict[str, tuple[Any, dict[str, Tensor]]] = {
    "bare": (state(), state()),
    "ordered": (OrderedDict(state()), state()),
    "MAE, DeiT": ({"model": OrderedDict(state())}, prefixed(model=state())),
    "DINO": (
        {
            "student": OrderedDict(state()),
            "teacher": state(),
            "optimizer": {"state": {0: {"step": 7}}, "param_groups": [{"lr": 0.1}]},
            "epoch": 100,
            "args": argparse.Namespace(arch="vit_small", drop_path=0.1, crops=[0.05, 0.4]),
        },
        prefixed(student=state(), teacher=state()),
    ),
    "timm": (
        {
            "state_dict": state(),
            "args": argparse.Namespace(path=Path("/data"), inner=argparse.Namespace(a=(1, None))),
            "metric": np.float64(81.5),
            "arch": "vit",
            "version": 2,
        },
        prefixed(state_dict=state()),
    ),
    "training": (
        {
            "model": {"w": torch.ones(2)},
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}, 1: {}}},
            "history": [torch.ones(1), (torch.zeros(1), "text")],
            "counts": Counter(a=3),
            "size": torch.Size([3]),
            "type": torch.float16,
            "bytes": b"\x00\xff",
            "set": {1, 2},
        },
        {
            "model.w": torch.ones(2),
            "optimizer.state.0.exp_avg": torch.zeros(2),
            "history.0": torch.ones(1),
            "history.1.0": torch.zeros(1),
        },
    ),
}


@linux
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts_come_back_bit_for_bit(
    name: str, new: bool, tmp_path: Path, fast: Zygote
) -> None:
    value, tensors = LAYOUTS[name]
    torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    assert same(read_pickle(tmp_path / "x.pth"), tensors)


@pytest.mark.parametrize("new", [True, False])
def test_the_whole_way(
    new: bool, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    value, tensors = LAYOUTS["DINO"]
    torch.save(value, "-x\ny é.pth.tar", _use_new_zipfile_serialization=new)
    (tmp_path / "torch.py").write_text("raise SystemExit('a file of the user was imported')")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    back = read_pickle(Path("-x\ny é.pth.tar"))
    assert same(back, tensors) and list(back) == sorted(back)
    back["student.turned"].add_(1)  # it can be written to, although its file is gone


@linux
def test_shared_tensors_are_each_read_whole(tmp_path: Path, fast: Zygote) -> None:
    weight = torch.arange(12.0)
    tensors = {"a": weight, "b": weight, "c": weight.view(3, 4).T, "d": weight[6:]}
    torch.save(tensors, tmp_path / "x.pth")
    assert same(read_pickle(tmp_path / "x.pth"), tensors)
    huge = torch.zeros(1 << 20)  # two million values lie in the file once
    torch.save({"one": huge[:1], "two": huge[1:2]}, tmp_path / "x.pth")
    assert read_pickle(tmp_path / "x.pth")["one"].shape == (1,)


@linux
def test_yacs_configuration_of_swin(tmp_path: Path, fast: Zygote) -> None:
    config = b"cyacs.config\nCfgNode\n)\x81(X\x04\0\0\0SIZEK\x07u}X\x06\0\0\0__imm_\x88sb"
    model = dumped({"w": tensor(4, (4,), (1,))})[2:-1]
    pickled = b"\x80\x02}(X\x06\0\0\0config" + config + b"X\x05\0\0\0model" + model + b"u."
    zipped(tmp_path / "x.pth", pickled)
    assert same(read_pickle(tmp_path / "x.pth"), {"model.w": torch.zeros(4)})


@linux
def test_what_a_pickle_hangs_on_its_values_does_nothing(tmp_path: Path, fast: Zygote) -> None:
    """Methods put into instances, hooks on tensors, states of whatever kind: all of it is inert."""
    weight = tensor(4, (4,), (1,))
    methods = dict.fromkeys(("items", "numel", "untyped_storage", "contiguous"), bytearray)
    own = Call(OrderedDict)
    own.parts = (OrderedDict, (), methods, None, iter([("w", weight)]))
    hung = Call(torch._tensor._rebuild_from_type_v2, *weight.parts[:1], Tensor, weight.parts[1])
    hung.parts = (hung.parts[0], (*hung.parts[1], methods))
    hooks = Call(OrderedDict)
    hooks.parts = (OrderedDict, (), None, None, iter([(0, bytearray)]))
    hooked = Call(torch._utils._rebuild_parameter, weight, True, hooks)
    args = argparse.Namespace(__setstate__=bytearray)
    value = {"own": own, "args": args, "hung": hung, "hooked": hooked}
    zipped(tmp_path / "x.pth", dumped(value))
    names = ("own.w", "hung", "hooked")
    assert same(read_pickle(tmp_path / "x.pth"), dict.fromkeys(names, torch.zeros(4)))


@linux
def test_a_file_that_takes_for_ever(
    tmp_path: Path, fast: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "SECONDS", 1)
    zipped(tmp_path / "x.pth", folded(60))
    check_refused(read_pickle, tmp_path / "x.pth", "takes far too long to read; it was not run")


def script(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put another script in the place of the reader; give a file for it to read."""
    monkeypatch.setattr(pickles, "SCRIPT", tmp_path / "script.py")
    (tmp_path / "script.py").write_text(text)
    (tmp_path / "x.pth").write_bytes(b"x")
    return tmp_path / "x.pth"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torsch", "did not start .ModuleNotFoundError: No module named 'torsch'"),
        ("raise SystemExit(3)", r"did not start \(\)"),
        ("print('[' * 100_000); raise SystemExit(3)", r"did not start \(\[\["),
        ("print('[1, 2, 3]'); raise SystemExit(3)", r"did not start \(\[1, 2, 3\]"),
        ("print('{\"a\": 1}'); raise SystemExit(3)", r"did not start"),
        (
            r"print('[\"RefusedError\", \"\\n\\u001b[31m\"]'); raise SystemExit(3)",
            r"\\n\\x1b\[31m$",
        ),
        ("import os; os.kill(os.getpid(), 11)", r"made its reader crash \(signal 11\); it was not"),
        ("pass", "its copy is not what was agreed on .*no such file"),
        ("import sys; open(sys.argv[2], 'w').write('x')", "its copy is not what was agreed on"),
        ("import os, sys; os.mkfifo(sys.argv[2])", "its copy is not what was agreed on .*pipe"),
        ("import os, sys; os.symlink('/dev/zero', sys.argv[2])", "its copy is not what .*device"),
    ],
)
def test_a_reader_that_does_not_answer_as_agreed(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(text, tmp_path, monkeypatch)
    with pytest.raises(WeightsError, match=message) as caught:
        read_pickle(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 2 * len(str(path)) + 400


def test_a_reader_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "SECONDS", 0)
    path = script("import time; time.sleep(1000)", tmp_path, monkeypatch)
    check_refused(read_pickle, path, "takes far too long to read")


@linux
def test_an_interruption_ends_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)  # opening it waits for the other side
    text = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    path = script(text, tmp_path, monkeypatch)
    pids: list[int] = []

    def interrupt() -> None:
        pids.append(int(started.read_text()))
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # xdist ignores it
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            read_pickle(path)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_copy_is_for_our_eyes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os, sys; print([oct(os.stat('.').st_mode), sys.argv[1:], sorted(os.environ)])"
    monkeypatch.setenv("SECRET_TOKEN", "x")
    path = script(f"{text}; sys.exit(3)", tmp_path, monkeypatch)
    seen: list[str] = []
    monkeypatch.setattr(pickles, "refuse", lambda path, code, answer: seen.append(answer))
    with pytest.raises(WeightsError, match="no such file"):
        read_pickle(path)
    assert "0o40700" in seen[0] and "SECRET_TOKEN" not in seen[0] and str(path) in seen[0]


def test_a_full_disk_is_a_matter_of_storage() -> None:
    answer = f'["OSError", "[Errno {errno.ENOSPC}] No space left on device: \'/tmp/x\'"]'
    with pytest.raises(StorageError, match=r"^x.pth: no space left in .* for a copy; free some or"):
        refuse(Path("x.pth"), 3, answer)


def test_a_file_that_may_not_be_opened() -> None:
    assert explain("PermissionError", "[Errno 13] Permission denied: '/a'") == (
        "cannot be read (Permission denied)"
    )
