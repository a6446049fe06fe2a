"""The child process of a rehearsal: settings as JSON in, what was measured as JSON out."""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

from vitrail.errors import VitrailError
from vitrail.plan.rehearsal import rehearse
from vitrail.train.config import RunConfig


def main() -> None:
    """Answer with one line on stdout; whatever else is said goes to stderr."""
    started = time.monotonic() - time.process_time()  # the imports are part of every training
    with suppress(OSError):  # should memory run out, this process goes, and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    config = RunConfig.parse(json.load(sys.stdin), "rehearsal")
    try:
        answer = rehearse(config, started).to_json()
    except VitrailError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
