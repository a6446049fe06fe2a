"""Every example of README.md and docs/*.md is run, in the order in which it stands.

The blocks of one file share a temporary folder, which holds generated images in `photos/circle`,
`photos/square` and `photos/triangle`, about twenty in each:

    ```python             all blocks of a file run in one namespace
    ```bash, ```console   each line is a command and must start with `vitrail` or `./vitrail`;
                          both mean this copy of the project. In a console block only lines with
                          `$ ` are commands; the others show output and are not compared.

A block below the comment `<!-- not run: REASON -->` is skipped; the reason must be there. Blocks in
any other language, or in none, are text.
"""

import os
import random
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")] if path.exists())
SHELL = ("bash", "console", "sh", "shell")
FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>```+|~~~+)\s*(?P<language>\w*)")
NOT_RUN = re.compile(r"^\s*<!--\s*not run\b:?(?P<reason>.*?)-->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its text starts at `line`; it is run unless there is a reason not to."""

    language: str
    text: str
    line: int
    reason: str | None


def blocks(page: str) -> list[Block]:
    """Read the python and shell blocks of a page in Markdown."""
    found, above = [], ""  # above: the last line that is not blank
    lines = iter(enumerate(page.splitlines(), start=1))
    for number, line in lines:
        match = FENCE.match(line)
        if not match:
            above = line if line.strip() else above
            continue
        body: list[str] = []
        for _, inner in lines:
            if inner.strip() == match["fence"]:
                break
            body.append(inner)
        else:
            raise AssertionError(f"line {number}: the block has no end")
        if match["language"] in ("python", *SHELL):
            excuse = NOT_RUN.match(above)
            reason = excuse["reason"].strip() if excuse else None
            assert reason != "", f"line {number}: 'not run' needs a reason"
            text = textwrap.dedent("\n".join(body))
            found.append(Block(match["language"], text, number + 1, reason))
        above = line
    return found


def commands(block: Block) -> list[str]:
    """List the commands of a shell block; only `vitrail` can be run here."""
    text = block.text
    if block.language == "console":
        kept = re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, flags=re.MULTILINE)
        text = "\n".join(kept)
    lines = text.replace("\\\n", " ").splitlines()
    found = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    for line in found:
        words = [word for word in shlex.split(line, comments=True) if not re.match(r"\w+=", word)]
        assert words[:1] in (["vitrail"], ["./vitrail"]) and words[1:2] != ["test"], (
            f"line {block.line}: {line!r} cannot be run here; put <!-- not run: REASON --> above"
        )
    return found


def run_page(page: str, name: str, folder: Path) -> None:
    """Run the blocks of a page in a folder, which must be the current one."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.reason is not None:
            continue
        if block.language == "python":
            padded = "\n" * (block.line - 1) + block.text  # errors then show the line of the page
            exec(compile(padded, name, "exec"), namespace)
            continue
        for line in commands(block):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", line],
                cwd=folder,
                env=environment(folder),
                capture_output=True,
                text=True,
            )
            report = f"{name}:{block.line}: {line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            assert done.returncode == 0, report


def environment(folder: Path) -> dict[str, str]:
    """Give the environment in which the word `vitrail` is this copy of the project."""
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def draw(kind: str, seed: int) -> Image.Image:
    """Draw one coloured shape on a pale ground, 48 pixels wide and 40 high."""
    rng = random.Random(f"{kind} {seed}")
    ground = tuple(rng.randrange(190, 256) for _ in range(3))
    colour = tuple(rng.randrange(0, 130) for _ in range(3))
    image = Image.new("RGB", (48, 40), ground)
    x, y, r = rng.randrange(14, 34), rng.randrange(14, 26), rng.randrange(8, 13)
    pen = ImageDraw.Draw(image)
    if kind == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif kind == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    else:
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
    return image


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder in which a page runs, and go there."""
    for kind, ending in (("circle", "png"), ("square", "png"), ("triangle", "jpg")):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for seed in range(20):
            draw(kind, seed).save(tmp_path / "photos" / kind / f"{kind}-{seed:02d}.{ending}")
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m vitrail "$@"\n'
    (tmp_path / "vitrail").write_text(script)
    (tmp_path / "vitrail").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_example_runs(path: Path, folder: Path) -> None:
    run_page(path.read_text(encoding="utf-8"), str(path), folder)


LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_linked_file_and_picture_is_there(path: Path) -> None:
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    assert [each for each in targets if not (path.parent / each).exists()] == []


def test_the_photos_are_there(folder: Path) -> None:
    images = sorted((folder / "photos").rglob("*.*"))
    assert len(images) == 60
    for path in images:
        with Image.open(path) as image:
            assert image.size == (48, 40)


def test_python_blocks_share_a_namespace_and_shell_blocks_run(folder: Path) -> None:
    folder.joinpath("vitrail").write_text('#!/bin/sh\necho "$0: $@" >> called\n')
    page = textwrap.dedent(
        """
        ```python
        count = 1
        ```
        ```text
        not code
        ```
        - in a list
            ```python
            count += 1
            from pathlib import Path
            Path("count").write_text(str(count))
            ```
        ```bash
        # a comment
        vitrail check photos --json > out.json  # and another
        A=1 ./vitrail predict \\
            photos/circle/circle-0[01].png
        ```
        ```console
        $ vitrail models
        vit_tiny: an output line
        ```
        <!-- not run: downloads -->

        ```bash
        pip install vitrail
        ```
        """
    )
    run_page(page, "page.md", folder)
    assert Path("count").read_text() == "2"
    calls = [line.partition(": ")[2] for line in Path("called").read_text().splitlines()]
    images = "photos/circle/circle-00.png photos/circle/circle-01.png"
    assert calls == ["check photos --json", f"predict {images}", "models"]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```bash\npip install x\n```", "cannot be run here"),
        ("```bash\n./vitrail test\n```", "cannot be run here"),
        ("<!-- not run: -->\n```python\nx\n```", "needs a reason"),
        ("<!-- not run -->\n```python\nx\n```", "needs a reason"),
        ("```python\nassert 1 == 2, 'one is not two'\n```", "one is not two"),
        ("text\n```python\nx = 1", "line 2: the block has no end"),
        ("```bash\nvitrail fails\n```", "page.md:2: vitrail fails"),
    ],
)
def test_a_wrong_page_fails(page: str, message: str, folder: Path) -> None:
    folder.joinpath("vitrail").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(AssertionError, match=message):
        run_page(page, "page.md", folder)
