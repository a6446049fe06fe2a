import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from tests.weights.reading import Zygote
from vitrail.weights import pickles

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@linux
@pytest.mark.parametrize(
    ("expression", "event"),
    [
        ("open('/etc/hostname')", "open"),
        ("open('made', 'w')", "open"),
        ("os.open('made', os.O_WRONLY | os.O_CREAT)", "open"),
        ("os.system('touch made')", "os.system"),
        ("os.fork()", "os.fork"),
        ("os.execv('/bin/true', ['true'])", "os.exec"),
        ("os.posix_spawn('/bin/true', ['true'], {})", "os.posix_spawn"),
        ("os.kill(os.getppid(), 0)", "os.kill"),
        ("os.remove('/nothing')", "os.remove"),
        ("os.rename('a', 'b')", "os.rename"),
        ("os.mkdir('made')", "os.mkdir"),
        ("os.listdir('/')", "os.listdir"),
        ("os.putenv('a', 'b')", "os.putenv"),
        ("__import__('antigravity')", "import"),
        ("eval('1')", "compile"),
        ("reader.ctypes.CDLL(None)", "ctypes.dlopen"),
        ("reader.resource.setrlimit(reader.resource.RLIMIT_NOFILE, (9, 9))", "resource.setrlimit"),
        ("sys.addaudithook(print)", "sys.addaudithook"),
        ("reader.signal.pthread_kill(1, 9)", "signal.pthread_kill"),
        ("sys.modules['socket'].socket()", "socket.__new__"),
        ("sys.modules['subprocess'].Popen('true')", "subprocess.Popen"),
        ("sys.modules['pickle'].loads(b'cos\\nsystem\\n.')", "pickle.find_class"),
    ],
)
def test_behind_the_fence_python_can_only_compute(
    expression: str, event: str, tmp_path: Path, zygote: Zygote
) -> None:
    code, answer = zygote.run([expression], str(tmp_path), 60)
    assert (code, f"tried more than to be read ({event})" in answer) == (3, True), answer


@linux
@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("os.open('/etc/hostname', 0)", "OSError"),
        ("open('/proc/self/status')", "OSError"),
        ("sys.modules['socket'].socket()", "OSError"),
        ("os.pipe()", "OSError"),
        ("bytearray(1 << 32)", "MemoryError"),
        ("reader.torch.zeros(1 << 32)", "RuntimeError"),
        ("reader.resource.setrlimit(reader.resource.RLIMIT_NOFILE, (9, 9))", "ValueError"),
        ("reader.resource.setrlimit(reader.resource.RLIMIT_AS, (-1, -1))", "ValueError"),
    ],
)
def test_the_system_refuses_too_should_the_hook_be_passed(
    expression: str, kind: str, tmp_path: Path, zygote: Zygote
) -> None:
    code, answer = zygote.run([expression, "without the hook"], str(tmp_path), 60)
    assert (code, answer.startswith(f'["{kind}", ')) == (3, True), answer
    if kind == "OSError":
        assert "Too many open files" in answer


def test_more_tensors_than_any_model_has() -> None:
    spec = importlib.util.spec_from_file_location("unpickle", pickles.SCRIPT)
    assert spec and spec.loader
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    names = [str(number) for number in range(reader.TENSORS + 1)]
    assert len(reader.flatten(dict.fromkeys(names[1:], torch.zeros(1)))) == reader.TENSORS
    with pytest.raises(reader.RefusedError, match="more than 100000 tensors"):
        reader.flatten(dict.fromkeys(names, torch.zeros(1)))
    with pytest.raises(reader.RefusedError, match=r"more than .* 1000000 values"):
        reader.flatten({"a": [0] * reader.ITEMS})
