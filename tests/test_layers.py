"""The import rule and the calls that are never used, checked on the source text itself.

A module imports only from a lower level of `LEVELS` or from its own package. A new top-level module
or package gets its place there.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "vitrail"
EXEMPT = ("__init__.py", "__main__.py")  # the public list and the way in see everything
LEVELS = {
    name: level
    for level, names in enumerate(
        [
            "errors version",
            "config device files memory",
            "data models metrics",
            "weights objectives scale",
            "checkpoints",
            "runs",
            "train evaluate explain export engines",
            "bench plan recipes studies serve report tune",
            "cli",
        ],
        start=1,
    )
    for name in names.split()
}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
UNSAFE_NAMES = {"eval", "exec", "print"}
UNSAFE_METHODS = {"extractall"}
UNSAFE_CALLS = {"torch.load", "yaml.load", "joblib.load", "pandas.read_pickle"}
READER = "weights/unpickle.py"  # runs fenced in, in a process of its own: `weights/pickles.py`


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Give line and full name of everything that is imported, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "vitrail":
                yield from ((node.lineno, f"vitrail.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def wrong_imports(where: str, text: str) -> list[str]:
    """List the imports of one file, named relative to the package, that break the rule."""
    own = where.split("/")[0].removesuffix(".py")
    if own not in LEVELS:
        return [f"{where}: {own} has no level yet; give it one in tests/test_layers.py"]
    wrong = []
    for line, name in imports(ast.parse(text)):
        if name.startswith("."):
            wrong.append(f"{where}:{line}: relative import {name}")
        if name.split(".")[0] != "vitrail":
            continue
        other = name.split(".")[1] if "." in name else ""
        if other != own and LEVELS.get(other, 99) >= LEVELS[own]:
            wrong.append(f"{where}:{line}: {own} (level {LEVELS[own]}) imports {name}")
    return wrong


def unsafe_calls(where: str, text: str) -> list[str]:
    """List what a file uses that could run code from data, or that prints past the console."""
    tree = ast.parse(text)
    found = [
        (line, f"import of {name}")
        for line, name in imports(tree)
        if name.split(".")[0] in UNSAFE_MODULES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not (where == READER and is_restricted_load(node)):
            found += ((node.lineno, what) for what in unsafe_call(node))
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found += ((node.lineno, name) for name in names if name in UNSAFE_CALLS)
    return [f"{where}:{line}: {what}" for line, what in found]


def unsafe_call(node: ast.Call) -> Iterator[str]:
    """Name what is unsafe about one call."""
    function = ast.unparse(node.func)
    if function in UNSAFE_CALLS or function in UNSAFE_NAMES:
        yield f"{function}()"
    if isinstance(node.func, ast.Attribute) and node.func.attr in UNSAFE_METHODS:
        yield f"{function}()"
    for keyword in node.keywords:
        if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
            yield "allow_pickle"


def is_restricted_load(node: ast.Call) -> bool:
    """Whether this is torch.load with `weights_only=True` written out, and with its own pickle."""
    names = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    restricted = names.get("weights_only") == "True" and not names.keys() & {"pickle_module", None}
    return ast.unparse(node.func) == "torch.load" and len(node.args) == 1 and restricted


def source_files() -> list[str]:
    """Name every source file relative to the package."""
    return sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


def test_there_are_files_to_check() -> None:
    assert "errors.py" in source_files() and "data/dataset.py" in source_files()


def test_every_import_goes_down() -> None:
    wrong = [
        line
        for where in source_files()
        if where not in EXEMPT
        for line in wrong_imports(where, (SOURCE / where).read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_no_unsafe_call() -> None:
    found = [
        line
        for where in source_files()
        for line in unsafe_calls(where, (SOURCE / where).read_text(encoding="utf-8"))
    ]
    assert found == []


def test_one_file_loads_pickles_and_nothing_imports_it() -> None:
    texts = {where: (SOURCE / where).read_text(encoding="utf-8") for where in source_files()}
    assert [where for where, text in texts.items() if unsafe_calls("a.py", text)] == [READER]
    names = {name for text in texts.values() for _, name in imports(ast.parse(text))}
    assert not [name for name in names if name.endswith("unpickle")]
    assert not [name for _, name in imports(ast.parse(texts[READER])) if name.startswith("vitrail")]


@pytest.mark.parametrize(
    ("where", "text", "line"),
    [
        ("data/a.py", "from vitrail.train.loop import run", 1),
        ("data/a.py", "import vitrail.models.vit", 1),  # a neighbour on the same level
        ("models/a.py", "x = 1\n\ndef f():\n    from vitrail import runs", 4),
        ("runs.py", "from vitrail import load_model", 1),  # the public list lies above everything
        ("runs.py", "import vitrail", 1),
        ("cli.py", "from .runs import x", 1),
        ("errors.py", "from vitrail.config import Config", 1),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(where: str, text: str, line: int) -> None:
    (found,) = wrong_imports(where, text)
    assert found.startswith(f"{where}:{line}: ")


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("data/a.py", "from vitrail.data.dataset import Data\nfrom vitrail import errors"),
        ("cli.py", "from vitrail.train import loop\nimport torch, os.path"),
        ("evaluate/a.py", "from vitrail import metrics\nimport vitrail.runs"),
    ],
)
def test_an_import_that_goes_down_is_allowed(where: str, text: str) -> None:
    assert wrong_imports(where, text) == []


def test_a_module_without_a_level_is_found() -> None:
    assert "has no level yet" in wrong_imports("novelty.py", "")[0]


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill as d",
        "torch.load(path, weights_only=True)",
        "from torch import load",
        "eval('1')",
        "exec(code)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "yaml.load(text, Loader=L)",
        "tarfile.open(p).extractall(q)",
        "print('done')",
    ],
)
def test_an_unsafe_call_is_found(text: str) -> None:
    assert len(unsafe_calls("a.py", text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "console.print('done')",
        "np.load(path, allow_pickle=False)",
        "safetensors.torch.load(data)",
        "pattern.exec(x)",
    ],
)
def test_a_safe_call_is_allowed(text: str) -> None:
    assert unsafe_calls("a.py", text) == []


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("torch.load(f, weights_only=True)", True),
        ("torch.load(f, map_location='cpu', weights_only=True)", True),
        ("torch.load(f)", False),
        ("torch.load(f, weights_only=False)", False),
        ("torch.load(f, weights_only=flag)", False),
        ("torch.load(f, 'cpu', pickle, weights_only=True)", False),
        ("torch.load(f, weights_only=True, pickle_module=p)", False),
        ("torch.load(f, weights_only=True, **more)", False),
        ("joblib.load(f, weights_only=True)", False),
    ],
)
def test_only_the_fenced_reader_loads_pickles_and_only_restricted(text: str, allowed: bool) -> None:
    assert len(unsafe_calls("weights/unpickle.py", text)) == (not allowed)
    assert len(unsafe_calls("weights/pickles.py", text)) == 1
