"""The files under docs/launch and the commands of docs/scale.md start what they say."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from vitrail.cli.settings import take, take_switch
from vitrail.cli.training import TRAIN_ONLY, compose
from vitrail.train.config import RunConfig

DOCS = Path(__file__).parent.parent / "docs"
SBATCH = DOCS / "launch" / "slurm.sbatch"
KUBERNETES = DOCS / "launch" / "kubernetes.yaml"


def started(words: list[str]) -> tuple[Any, dict[str, str], RunConfig]:
    """Read a torchrun command as torchrun and vitrail do: its flags, vitrail's, the settings."""
    flags = get_args_parser().parse_args(words)
    assert flags.module and (flags.training_script, flags.training_script_args[0]) == (
        "vitrail",
        "train",
    )
    again, rest = take_switch(flags.training_script_args[1:], "--continue")
    assert again
    special, rest = take(rest, TRAIN_ONLY, "train")
    return flags, special, compose(special, rest, "train", RunConfig)


def slurm_options() -> dict[str, str]:
    """Read the #SBATCH lines."""
    lines = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", SBATCH.read_text(), re.MULTILINE)
    return dict(lines)


def slurm_command() -> list[str]:
    """Give what srun runs, with the variables that Slurm sets filled in."""
    text = SBATCH.read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^srun .* torchrun (.*) &$", text, re.MULTILINE)
    given = {"$SLURM_JOB_NUM_NODES": "8", "${SLURM_RESTART_COUNT:-0}": "0", "$SLURM_JOB_ID": "7"}
    for name, value in (given | {"$first": "node1", "$data": "DATA", "$run": "RUN"}).items():
        command = command.replace(name, value)
    assert "$" not in command
    return shlex.split(command)


def job() -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the Service and the Job."""
    service, what = yaml.safe_load_all(KUBERNETES.read_text())
    assert (service["kind"], what["kind"]) == ("Service", "Job")
    return service, what


def test_the_slurm_script_is_bash() -> None:
    assert SBATCH.read_text().startswith("#!/bin/bash\n")
    done = subprocess.run(["bash", "-n", str(SBATCH)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_slurm_warns_and_requeues() -> None:
    options = slurm_options()
    assert options["signal"] == "B:USR1@120" and "requeue" in options
    assert (options["open-mode"], options["ntasks-per-node"]) == ("append", "1")
    assert re.fullmatch(r"\d+:\d\d:\d\d", options["time"])
    # Slurm stops reading options at the first line that is no comment
    text = SBATCH.read_text()
    assert text.rindex("#SBATCH") < text.index("set -euo")


def test_slurm_starts_the_training() -> None:
    flags, special, config = started(slurm_command())
    options = slurm_options()
    assert (flags.nnodes, flags.nproc_per_node) == (options["nodes"], options["gpus-per-node"])
    assert "SIGUSR1" in flags.signals_to_handle.split(",")
    assert 30 <= flags.shutdown_timeout < int(options["signal"].partition("@")[2])
    assert special["--out"] == "RUN" and config.data.source == "DATA"
    ranks = int(flags.nnodes) * int(flags.nproc_per_node)
    assert config.train.batch_size % ranks == 0


def test_kubernetes_objects_agree() -> None:
    service, what = job()
    spec, template = what["spec"], what["spec"]["template"]
    pod = template["spec"]
    assert (service["apiVersion"], what["apiVersion"]) == ("v1", "batch/v1")
    assert service["spec"]["clusterIP"] == "None"  # a name for each pod
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert pod["subdomain"] == service["metadata"]["name"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    (container,) = pod["containers"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert "/dev/shm" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_kubernetes_starts_the_training() -> None:
    service, what = job()
    pod = what["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["torchrun"]
    flags, special, config = started(container["args"])
    assert int(flags.nnodes) == what["spec"]["completions"]
    assert int(flags.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    host, port = flags.rdzv_endpoint.split(":")
    assert host == f"{what['metadata']['name']}-0.{pod['subdomain']}"
    assert int(port) in [each["port"] for each in service["spec"]["ports"]]
    assert "SIGTERM" in flags.signals_to_handle.split(",")
    assert flags.shutdown_timeout < pod["terminationGracePeriodSeconds"]
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in (special["--out"], config.data.source):
        assert any(path.startswith(f"{folder}/") for folder in mounted)


def test_the_commands_of_the_page_are_real() -> None:
    text = (DOCS / "scale.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^torchrun (.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        _, special, config = started(shlex.split(command))
        assert (special["--out"], config.data.source) == ("RUN", "DATA")


FAKE = {
    "srun": '#!/bin/bash\ntrap "touch $LOG/signalled; exit 1" USR1\necho begun > "$LOG/begun"\n'
    "if [[ $FINISHES == yes ]]; then exit 0; fi\nwhile :; do sleep 0.05; done\n",
    "scontrol": '#!/bin/bash\necho "$*" >> "$LOG/scontrol"\necho node1\n',
}


@pytest.mark.parametrize("finished", [False, True])
def test_the_slurm_script_requeues_what_is_not_finished(finished: bool, tmp_path: Path) -> None:
    process = pretend(tmp_path, finishes="no")
    with open(tmp_path / "begun") as begun:  # waits for srun
        assert begun.read() == "begun\n"
    (tmp_path / "run").mkdir()
    if finished:
        (tmp_path / "run" / "finished.json").touch()
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 1
    assert (tmp_path / "signalled").exists()
    asked = (tmp_path / "scontrol").read_text().splitlines()
    assert asked == ["show hostnames node[1-8]", "requeue 7"][: 1 if finished else 2]


def test_the_slurm_script_ends_with_the_training(tmp_path: Path) -> None:
    process = pretend(tmp_path, finishes="yes")
    with open(tmp_path / "begun") as begun:
        assert begun.read() == "begun\n"
    assert process.wait() == 0
    assert (tmp_path / "scontrol").read_text() == "show hostnames node[1-8]\n"


def pretend(folder: Path, finishes: str) -> subprocess.Popen[bytes]:
    """Run the script with commands that stand for Slurm's; `begun` is a pipe."""
    os.mkfifo(folder / "begun")
    (folder / "bin").mkdir()
    for name, text in FAKE.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    environment = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LOG": str(folder),
        "FINISHES": finishes,
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-8]",
        "SLURM_JOB_NUM_NODES": "8",
        "SLURM_CPUS_PER_TASK": "96",
    }
    return subprocess.Popen(["bash", str(SBATCH), "data", str(folder / "run")], env=environment)
