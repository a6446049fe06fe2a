"""Parts of `tools/build_glyphs.py`: from Debian's font packages to labelled pictures of letters."""
