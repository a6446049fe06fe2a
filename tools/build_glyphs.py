"""Render the letters of Debian's fonts: the data set `glyphs`, or a large set as a folder tree.

    python tools/build_glyphs.py --scratch /tmp/fonts builtin
    python tools/build_glyphs.py --scratch /tmp/fonts --styles 9 tree OUT --classes 62 --jitter 4
    python tools/build_glyphs.py --scratch /tmp/fonts contact OUT
    python tools/build_glyphs.py --scratch /tmp/fonts salt

Needs Debian or a derivative with `apt-get` and `dpkg-deb`, up-to-date package lists, and no rights
of root: packages are unpacked into the scratch folder, nothing is installed. What is made
depends on the versions of the packages and on those of Pillow and FreeType, else on nothing.

Which fonts: those of `glyphs/catalogue.py` whose package states an OFL, Apache, public-domain, MIT
or BSD licence (`glyphs/licences.py`), with all letters, at most `--styles` styles a family, less
those a person refused, less faulty ones and copies (`glyphs/choose.py`, `glyphs/render.py`).
Which split: a function of the name of the group of designs that look alike (`glyphs/groups.py`).
"""

import argparse
import sys
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

from glyphs.catalogue import PACKAGES
from glyphs.choose import Chosen, Report, choose, read_all
from glyphs.groups import find_salt, similarity
from glyphs.packages import fetch
from glyphs.render import Picture, fit_letter
from glyphs.tree import Tree, write_tree
from glyphs.write import contact_sheets, write_builtin

ROOT = Path(__file__).resolve().parents[1]
ALPHABETS = {26: ascii_uppercase, 62: ascii_uppercase + ascii_lowercase + digits}
JUDGED_SIZE = 32  # pixels; faults and copies are judged at this size for every set


def capitals(path: Path) -> list[Picture]:
    """Render A to Z, by which fonts are judged, whatever set is made."""
    return [fit_letter(path, letter, JUDGED_SIZE) for letter in ascii_uppercase]


def select(args: argparse.Namespace, letters: str, styles: int) -> Chosen:
    """Fetch the packages, choose the fonts, and say on stderr what was left out."""
    packages = (*PACKAGES, *args.package)
    fetch(packages, args.scratch)
    report = Report()
    chosen = choose(read_all(packages, args.scratch, letters, report), styles, capitals, report)
    print(report.text(), file=sys.stderr)
    return chosen


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    top.add_argument("--scratch", type=Path, required=True, help="folder for packages, outside git")
    top.add_argument("--package", action="append", default=[], help="one more Debian package")
    top.add_argument("--styles", type=int, default=3, help="at most so many styles a family")
    jobs = top.add_subparsers(dest="job", required=True)
    builtin = jobs.add_parser("builtin", help="A to Z, 32 x 32, as shipped in the package")
    builtin.add_argument("--out", type=Path, default=ROOT / "src/vitrail/data/builtin")
    tree = jobs.add_parser("tree", help="OUT/<split>/<class>/<family>-<style>.png")
    tree.add_argument("out", type=Path)
    tree.add_argument("--classes", type=int, choices=sorted(ALPHABETS), default=62)
    tree.add_argument("--size", type=int, default=32, help="height and width in pixels")
    tree.add_argument("--images", type=int, default=100_000, help="at most so many")
    tree.add_argument(
        "--jitter", type=int, default=0, help="extra jittered pictures of each letter"
    )
    tree.add_argument("--seed", type=int, default=0, help="of the jitter")
    contact = jobs.add_parser("contact", help="pages with all fonts, to look at")
    contact.add_argument("out", type=Path)
    jobs.add_parser("salt", help="find SALT of glyphs/groups.py anew, after the fonts have changed")
    return top


def main() -> None:
    """Run one job."""
    args = parser().parse_args()
    if args.job == "builtin":
        chosen = select(args, ascii_uppercase, args.styles)
        print(write_builtin(chosen, ascii_uppercase, args.out))
    elif args.job == "contact":
        for page in contact_sheets(select(args, ascii_uppercase, args.styles), args.out):
            print(page)
    elif args.job == "salt":
        chosen = select(args, ascii_uppercase, args.styles)
        print(find_salt(similarity(chosen.alphabets), chosen.groups))
    else:
        tree = Tree(ALPHABETS[args.classes], args.size, args.images, args.jitter, args.seed)
        print(write_tree(select(args, tree.letters, args.styles), tree, args.out))


if __name__ == "__main__":
    main()
