"""Parameters that are spread over ranks learn what whole ones learn."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.optim import sharded
from tests.train.ranks import environment

Found = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    out = tmp_path_factory.mktemp("sharded") / "found.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", sharded.__name__, str(out)]
    root = Path(sharded.__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=root)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", sharded.RATES)
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_spread_parameters_learn_the_same(kind: str, name: str, found: Found) -> None:
    apart = found[f"{kind}/{name}"]
    assert apart["moved"] > 1e-3
    assert max(apart[what] for what in ("weights", "averages", "state")) < 2e-6
