"""The functions of `tools/build_glyphs.py`, with a font that matplotlib ships; no network."""

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import build_glyphs  # noqa: E402
from glyphs import choose, faces, groups, licences, render, tree, write  # noqa: E402
from glyphs.faces import Face  # noqa: E402

FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"
SANS, BOLD, SERIF = (FONTS / f"DejaVu{name}.ttf" for name in ("Sans", "Sans-Bold", "Serif"))
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"


def face(path: Path) -> Face:
    found = faces.read_face(path, Face(path, "fonts-test", "1.0", "OFL"), CAPITALS)
    assert isinstance(found, Face)
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("OFL-1.1", "OFL"),
        ("SIL-OFL-1.1", "OFL"),
        ("Apache-2.0", "Apache"),
        ("Expat", "MIT"),
        ("BSD-3-clause", "BSD"),
        ("public-domain", "Public-Domain"),
        ("CC0-1.0", "Public-Domain"),
        ("OFL-1.1 or GPL-2+", "OFL"),
        ("GPL-3+ or OFL-1.1", "OFL"),
        ("OFL-1.1 and EPL-2.0", ""),
        ("GPL-2+ with Font exception", ""),
        ("LGPL-2.1+", ""),
        ("bitstream-vera", ""),
        ("CC-BY-SA-4.0", ""),
        ("GUST-Font-License", ""),
    ],
)
def test_licence_expressions(expression: str, expected: str) -> None:
    assert licences.simplify_expression(expression) == expected


def test_the_licence_of_the_packaging_does_not_count() -> None:
    text = FORMAT + "Files: *\nLicense: OFL-1.1\n\nFiles: debian/*\nLicense: GPL-2+\n"
    assert licences.classify(text, "Lato-Bold.ttf") == "OFL"


def test_a_paragraph_that_may_hold_the_font_counts() -> None:
    text = FORMAT + "Files: *\nLicense: OFL-1.1\n\nFiles: extra/*\nLicense: GPL-2+\n"
    assert licences.classify(text, "Lato-Bold.ttf") == ""


def test_a_paragraph_that_names_the_font_decides() -> None:
    text = FORMAT + "Files: *\nLicense: GPL-3+\n\nFiles: fonts/Lato-*.ttf\nLicense: OFL-1.1\n"
    assert licences.classify(text, "Lato-Bold.ttf") == "OFL"
    assert licences.classify(text, "Other.ttf") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The fonts are licensed under the SIL Open Font License, Version 1.1.", "OFL"),
        ("SIL Open Font License. The Debian packaging is under the GPL, version 2.", "OFL"),
        ("SIL Open Font License, or the GNU General Public License.", ""),
        ("GUST Font License; some files are in the public domain.", ""),
        ("All rights reserved.", ""),
        ("", ""),
    ],
)
def test_free_text_licences(text: str, expected: str) -> None:
    assert licences.classify(text, "x.ttf") == expected


def test_a_font_that_says_gpl_itself_is_refused() -> None:
    assert licences.contradicts("GNU General Public License with font exception")
    assert not licences.contradicts("OFL 1.1 or GPL")
    assert not licences.contradicts("")


@pytest.mark.parametrize(
    ("title", "style", "stem", "expected"),
    [
        ("Lato Black", "Italic", "Lato-BlackItalic", ("lato", "black-italic")),
        ("RobotoBold", "Bold", "Roboto-Bold", ("roboto", "bold")),
        ("Courier Prime", "Light", "Courier Prime Bold Italic", ("courier-prime", "bold-italic")),
        ("CMU Serif", "Roman", "cmunrm", ("cmu-serif", "regular")),
        (".", "", "Go-Mono", ("go-mono", "regular")),
    ],
)
def test_names_are_parted(title: str, style: str, stem: str, expected: tuple[str, str]) -> None:
    assert faces.split_name(title, style, stem) == expected


def test_a_font_file_says_its_family() -> None:
    assert (face(SANS).name, face(BOLD).name) == ("deja-vu-sans-regular", "deja-vu-sans-bold")
    assert "Bitstream" in face(SANS).copyright


def test_a_font_without_the_letters_is_refused() -> None:
    path = FONTS / "STIXSizOneSymReg.ttf"
    assert faces.read_face(path, Face(path, "p", "1", "OFL"), CAPITALS) == "letters missing"


def test_a_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.ttf"
    path.write_bytes(b"no font")
    reason = faces.read_face(path, Face(path, "p", "1", "OFL"), CAPITALS)
    assert isinstance(reason, str) and reason.startswith("cannot be read")


def test_styles_of_a_family_are_limited_in_order() -> None:
    names = ("thin", "italic", "bold", "regular")
    given = [Face(Path(name), "p", "1", "OFL", "lato", name) for name in names]
    assert [f.style for f in faces.choose_styles(given, 3)] == ["regular", "bold", "italic"]
    assert [f.style for f in faces.choose_styles(given[::-1], 1)] == ["regular"]


@pytest.mark.parametrize("size", [16, 32, 48])
@pytest.mark.parametrize("letter", ["A", "I", "W"])
def test_a_letter_fills_the_square_but_for_the_margin(letter: str, size: int) -> None:
    picture = render.fit_letter(SANS, letter, size)
    assert picture.shape == (size, size) and picture.dtype == np.uint8
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    assert max(height, width) == size - 2 * (size // 16)
    assert abs(rows[0] + rows[-1] + 1 - size) <= 1 and abs(columns[0] + columns[-1] + 1 - size) <= 1


def test_mixed_case_keeps_the_sizes_of_a_font() -> None:
    small, large, deep = render.fit_font(SANS, "oOg", 32)
    assert np.flatnonzero(small.any(1))[0] > np.flatnonzero(large.any(1))[0]
    assert np.flatnonzero(deep.any(1))[-1] > np.flatnonzero(large.any(1))[-1]


def test_faults_are_named() -> None:
    blank, full = np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)
    sound = [render.fit_letter(SANS, letter, 32) for letter in "AB"]
    assert render.fault(sound) == ""
    assert render.fault([*sound, blank]) == "blank"
    assert render.fault([*sound, full]) == "full"
    assert render.fault([*sound, sound[0]]) == "repeated"
    assert render.fault([picture // 4 for picture in sound]) == "faint"


def alphabets(*paths: Path) -> np.ndarray:
    return np.stack([np.stack(build_glyphs.capitals(path)) for path in paths])


def test_the_same_design_is_a_copy_and_another_is_not() -> None:
    alike = groups.similarity(alphabets(SANS, SERIF, SANS))
    np.testing.assert_allclose(np.diag(alike), 1, atol=1e-5)
    np.testing.assert_allclose(alike, alike.T, atol=1e-6)
    assert groups.copies(alike) == {2: 0}


def test_families_that_look_alike_share_a_group() -> None:
    alike = np.eye(4, dtype=np.float32)
    alike[0, 2] = alike[2, 0] = 0.99
    assert groups.group(["b", "c", "a", "c"], alike) == ["a", "c", "a", "c"]


def test_the_split_is_a_function_of_the_name_with_the_stated_shares() -> None:
    names = [f"family-{number}" for number in range(4000)]
    splits = [groups.split_of(name) for name in names]
    assert splits == [groups.split_of(name) for name in names]
    for split, share in groups.SHARES:
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.02)


def test_the_salt_balances_sizes_and_unusual_designs() -> None:
    names = [f"family-{number}" for number in range(400)]
    alike = np.full((400, 400), 0.8, np.float32)
    alike[:100] = 0.4  # the first hundred are like nothing else
    salt = groups.find_salt(alike, names, within=0.02)
    usual = groups.familiarity(alike, names)
    for split, share in groups.SHARES:
        part = np.asarray([groups.split_of(name, salt) == split for name in names])
        assert abs(part.mean() - share) <= 0.02 and abs(usual[part].mean() - usual.mean()) <= 0.02
    with pytest.raises(ValueError, match="no salt keeps"):
        groups.find_salt(alike[:1, :1], names[:1])


def test_vendor_words_do_not_tie_families() -> None:
    assert choose.stem_of("gfs-didot") != choose.stem_of("gfs-artemisia")
    assert choose.stem_of("averia-sans") == choose.stem_of("averia-serif")
    assert choose.refused("dseg7-classic-bold") and not choose.refused("lato-regular")


def chosen() -> choose.Chosen:
    report = choose.Report()
    found = choose.choose([face(SANS), face(BOLD), face(SERIF)], 3, build_glyphs.capitals, report)
    assert len(found.faces) == 3 and report.text() == ""
    return found


def test_the_sheet_holds_the_pictures_in_16_levels(tmp_path: Path) -> None:
    names = {groups.split_of(name): name for name in map(str, range(99))}  # one of each split
    found = replace(chosen(), groups=[names["train"], names["val"], names["test"]])
    counts = write.write_builtin(found, CAPITALS, tmp_path)
    assert counts == {"train": 1, "val": 1, "test": 1}
    with Image.open(tmp_path / "glyphs-test.png") as image:
        sheet = np.asarray(image.convert("L"))
    assert sheet.shape == (26 * 32, 32)
    tile = sheet[32:64].astype(int)  # letter B of the third font
    assert np.abs(tile - found.alphabets[2, 1]).max() <= 9
    assert "DejaVu Sans" in (tmp_path / "GLYPHS-LICENSES.md").read_text(encoding="utf-8")


def test_class_folders_differ_without_case() -> None:
    names = [write.class_folder(letter) for letter in build_glyphs.ALPHABETS[62]]
    assert len({name.lower() for name in names}) == 62
    assert {"upper_A", "lower_a", "digit_0"} <= set(names)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


def test_a_tree_is_balanced_limited_and_repeatable(tmp_path: Path) -> None:
    job = tree.Tree("Aa0", size=24, images=13, jitter=3, seed=5)
    counts = tree.write_tree(chosen(), job, tmp_path / "one")
    tree.write_tree(chosen(), job, tmp_path / "two")
    written = files_of(tmp_path / "one")
    assert sum(counts.values()) == len(written) == 12
    assert written == files_of(tmp_path / "two")
    assert sorted({Path(name).parts[1] for name in written}) == ["digit_0", "lower_a", "upper_A"]
    assert sum("-j1.png" in name for name in written) == 3
    sizes = {Image.open(io.BytesIO(data)).size for data in written.values()}
    assert sizes == {(24, 24)}


def test_jitter_stays_within_its_bounds() -> None:
    drawn = [tree.jitter_of(face(SANS), copy, 0) for copy in range(1, 50)]
    assert len(set(drawn)) == 49
    assert all(abs(j.degrees) <= tree.DEGREES and tree.SCALE <= j.scale <= 1 for j in drawn)


def test_contact_sheets_show_every_font(tmp_path: Path) -> None:
    pages = write.contact_sheets(chosen(), tmp_path, rows=1)
    assert len(pages) == 2 and all(page.is_file() for page in pages)


def test_the_command_line_knows_its_jobs() -> None:
    args = build_glyphs.parser().parse_args(["--scratch", "x", "tree", "out", "--classes", "26"])
    assert isinstance(args, argparse.Namespace) and (args.classes, args.size) == (26, 32)
    with pytest.raises(SystemExit):
        build_glyphs.parser().parse_args(["tree", "out"])
