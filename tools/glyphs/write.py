"""What is written: the shipped sheets with their fonts and licences, pictures, contact sheets."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glyphs.choose import Chosen
from glyphs.groups import split_of

SPLITS = ("train", "val", "test")
LEVELS = 16  # grey levels of the shipped sheets: 4 bits a pixel
LICENCE_NAMES = {
    "OFL": "SIL Open Font License (https://openfontlicense.org)",
    "Apache": "Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0)",
    "Public-Domain": "public domain, CC0 or Unlicense",
    "MIT": "MIT (Expat) License (https://spdx.org/licenses/MIT.html)",
    "BSD": "BSD License, 2 or 3 clauses (https://spdx.org/licenses/BSD-3-Clause.html)",
}


def sheet_png(alphabets: NDArray[np.uint8]) -> bytes:
    """Encode alphabets [fonts, letters, height, width] as one PNG: a column a font, a row a letter.

    Grey is rounded to 16 levels, 0, 17, ..., 255.
    """
    fonts, letters, height, width = alphabets.shape
    levels = np.rint(alphabets.astype(np.float32) / 255 * (LEVELS - 1)).astype(np.uint8)
    sheet = levels.transpose(1, 2, 0, 3).reshape(letters * height, fonts * width)
    image = Image.frombytes("P", (sheet.shape[1], sheet.shape[0]), sheet.tobytes())
    image.putpalette([level * 17 for level in range(LEVELS) for _ in range(3)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=4, optimize=True)
    return buffer.getvalue()


def write_builtin(chosen: Chosen, letters: str, folder: Path) -> dict[str, int]:
    """Write `glyphs-<split>.png`, `glyphs.json` and `GLYPHS-LICENSES.md`.

    Returns:
        Number of fonts by split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits: dict[str, object] = {}
    counts = {}
    for split in SPLITS:
        members = [i for i, group in enumerate(chosen.groups) if split_of(group) == split]
        data = sheet_png(chosen.alphabets[members])
        name = f"glyphs-{split}.png"
        (folder / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        splits[split] = {"sheet": name, "sha256": digest, "fonts": members}
        counts[split] = len(members)
    fonts = [
        {
            "family": face.family,
            "style": face.style,
            "title": face.title,
            "group": group,
            "package": face.package,
            "version": face.version,
            "licence": face.licence,
        }
        for face, group in zip(chosen.faces, chosen.groups, strict=True)
    ]
    size = chosen.alphabets.shape[-1]
    head = json.dumps({"format": 1, "size": size, "classes": list(letters), "splits": splits})
    body = ",\n".join(json.dumps(font, ensure_ascii=False) for font in fonts)
    text = f'{head[:-1]}, "fonts": [\n{body}\n]}}\n'
    (folder / "glyphs.json").write_text(text, encoding="utf-8")
    (folder / "GLYPHS-LICENSES.md").write_text(licences(chosen), encoding="utf-8")
    return counts


def licences(chosen: Chosen) -> str:
    """List every font with its package, licence and the copyright line of its own name table."""
    lines = [
        "# Fonts of the built-in letters",
        "",
        "The pictures in `glyphs-*.png` were rendered from these fonts of Debian's packages.",
        "No font file is part of Vitrail. The copyright line is the one in the font's name table.",
        "",
        *(f"- **{short}**: {name}" for short, name in LICENCE_NAMES.items()),
    ]
    seen: dict[tuple[str, str, str, str], list[str]] = {}
    for face in chosen.faces:
        notice = face.copyright[:160] or "no copyright line in the font"
        key = (face.title, f"{face.package} {face.version}", face.licence, notice)
        seen.setdefault(key, []).append(face.style)
    package = ""
    for (title, where, licence, notice), styles in sorted(
        seen.items(), key=lambda item: item[0][1]
    ):
        if where != package:
            package = where
            lines += ["", f"## {where}", ""]
        lines.append(f"- {title} ({', '.join(styles)}): {licence}. {notice}")
    return "\n".join(lines) + "\n"


def class_folder(letter: str) -> str:
    """Name the folder of a class so that no two differ by case alone."""
    kind = "digit" if letter.isdigit() else "upper" if letter.isupper() else "lower"
    return f"{kind}_{letter}"


def write_picture(picture: NDArray[np.uint8], path: Path) -> None:
    """Write one picture as an 8-bit grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, "PNG", compress_level=6)


def contact_sheets(chosen: Chosen, folder: Path, rows: int = 50) -> list[Path]:
    """Write all alphabets, named, for a person to look at: two columns of `rows` fonts a page."""
    folder.mkdir(parents=True, exist_ok=True)
    letters, size = chosen.alphabets.shape[1], chosen.alphabets.shape[2]
    column = 180 + letters * size
    pages = []
    for first in range(0, len(chosen.faces), 2 * rows):
        page = Image.new("L", (2 * column, rows * (size + 1)), 60)
        pen = ImageDraw.Draw(page)
        for place, index in enumerate(range(first, min(first + 2 * rows, len(chosen.faces)))):
            x, y = place // rows * column, place % rows * (size + 1)
            pen.text((x + 2, y + size // 3), chosen.faces[index].name[:30], fill=255)
            page.paste(Image.fromarray(np.hstack(list(chosen.alphabets[index]))), (x + 180, y))
        pages.append(folder / f"contact-{first // (2 * rows)}.png")
        page.save(pages[-1])
    return pages
