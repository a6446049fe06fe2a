"""Weights by the name of a repository on the Hugging Face hub."""

import os
import re
from pathlib import Path

from vitrail.errors import WeightsError

SCHEME = "hf://"
FILES = ("*.json", "*.safetensors", "*.npz")  # nothing that could hold code


def fetch(path: str | Path) -> Path:
    """Give a local path as it is; of `hf://owner/name[@revision]` the folder it was stored in.

    The local cache is asked first; only what is not there is fetched, and never with
    HF_HUB_OFFLINE=1.

    Raises:
        WeightsError: the name is malformed, the hub cannot be reached or has no such repository, or
            the extra `hub` is not installed.
    """
    text = str(path)
    if not text.startswith(SCHEME):
        return Path(os.path.expanduser(path))
    match = re.fullmatch(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?", text)
    if match is None:
        raise WeightsError(f"{text}: must be hf://owner/name or hf://owner/name@revision")
    try:
        import huggingface_hub
    except ImportError:
        raise WeightsError(f"{text}: needs the extra hub: pip install 'vitrail[hub]'") from None
    name, revision = match.groups()
    reason: Exception | None = None
    for local in (True, False):
        try:
            folder = huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=list(FILES), local_files_only=local
            )
        except Exception as error:  # its errors have many types, of three libraries
            reason = error
            continue
        if any(any(Path(folder).glob(pattern)) for pattern in ("*.safetensors", "*.npz")):
            return Path(folder)
    lines = str(reason).strip().splitlines() if reason else []
    why = lines[0] if lines else "it holds no .safetensors and no .npz file"
    raise WeightsError(f"{text}: cannot be fetched: {why}; give a local folder instead")
