"""Where words go: answers to stdout, everything else to stderr; nothing in them is markup."""

from rich.console import Console

OUT = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
NOTE = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
