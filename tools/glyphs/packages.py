"""Debian packages: fetched and unpacked into a scratch folder, nothing installed."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from glyphs.faces import Face, read_face
from glyphs.licences import classify


def fetch(packages: tuple[str, ...], scratch: Path) -> None:
    """Download and unpack the packages that are not in the scratch folder yet.

    Needs `apt-get` and `dpkg-deb`, and package lists that are up to date (`apt-get update`).
    """
    archives, trees = scratch / "deb", scratch / "tree"
    archives.mkdir(parents=True, exist_ok=True)
    missing = [name for name in packages if not (trees / name).is_dir()]
    wanted = [name for name in missing if not list(archives.glob(f"{name}_*.deb"))]
    if wanted:
        subprocess.run(["apt-get", "download", "-q", *wanted], cwd=archives, check=True)
    for name in missing:
        (archive,) = archives.glob(f"{name}_*.deb")
        (trees / name).mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", str(archive), str(trees / name)], check=True)


def version_of(package: str, scratch: Path) -> str:
    """Give the version in the archive's file name; `%3a` stands for a colon there."""
    (archive,) = (scratch / "deb").glob(f"{package}_*.deb")
    return archive.name.split("_")[1].replace("%3a", ":")


def font_files(tree: Path) -> list[Path]:
    """List the TrueType and OpenType files of an unpacked package, in order, links left out."""
    files = (path for path in tree.rglob("*") if path.suffix.lower() in (".ttf", ".otf"))
    return sorted(path for path in files if path.is_file() and not path.is_symlink())


def read_package(package: str, scratch: Path, letters: str) -> Iterator[tuple[Path, Face | str]]:
    """Yield each font file with its face, or with the reason why it cannot be used."""
    tree = scratch / "tree" / package
    notice = tree / "usr/share/doc" / package / "copyright"
    text = notice.read_text(encoding="utf-8", errors="replace") if notice.is_file() else ""
    version = version_of(package, scratch)
    for path in font_files(tree):
        licence = classify(text, path.name)
        if not licence:
            yield path, "licence"
            continue
        yield path, read_face(path, Face(path, package, version, licence), letters)
