"""Pictures of what a model looks at in one image file."""

import hashlib
from pathlib import Path

from vitrail.explain import explain
from vitrail.explain.heads import attention_panel
from vitrail.explain.panels import caption_of, strip
from vitrail.explain.render import save_png, to_picture
from vitrail.files import plain_name
from vitrail.serve.predictor import Predictor

METHODS = ("rollout", "attention")


def explain_image(predictor: Predictor, path: Path, out: Path) -> list[Path]:
    """Write two PNGs for an image: heat over it, and the attention of every layer and head.

    Raises:
        ImageError: the image cannot be used.
        StorageError: `out` cannot be written.
    """
    pixels = predictor.load(path)
    images = predictor.inputs([pixels])
    guess = predictor.guesses(predictor.logits([pixels]), 1)[0][0]
    heats = {
        name: explain(predictor.model, images, method=name)[0].cpu().numpy() for name in METHODS
    }
    picture = to_picture(pixels)
    pictures = {
        "heat": strip(picture, heats, caption=caption_of(guess.label, guess.probability)),
        "heads": attention_panel(
            predictor.model, images, picture, title=f"class token to patches, {path.name}"
        ),
    }
    stem = safe_stem(path)
    written = []
    for name, drawn in pictures.items():
        written.append(out / f"{stem}.{name}.png")
        save_png(written[-1], drawn)
    return written


def safe_stem(path: Path) -> str:
    """Name the pictures of a file: harmless on every disk, and different for different paths."""
    mark = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"{plain_name(path.stem)}-{mark}"
