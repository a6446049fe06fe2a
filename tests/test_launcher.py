"""The launcher, on a tiny project of its own: no network, a build backend that fails when told to.

The backend stands in the project (PEP 517 `backend-path`), so real virtual environments and the
real pip are used. It appends a line to `installs.log` at each installation.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "vitrail"
version = "0"
"""
BACKEND = """
import os, time, zipfile

def get_requires_for_build_editable(config_settings=None):
    return []

def build_editable(directory, config_settings=None, metadata_directory=None):
    with open("installs.log", "a") as log:
        log.write("installed\\n")
    if os.path.exists("fail"):
        raise OSError(open("fail").read())
    while os.path.exists("hold"):
        time.sleep(0.02)
    name = "vitrail-0-py3-none-any.whl"
    info = "vitrail-0.dist-info/"
    extras = "".join(f"Provides-Extra: {extra}\\n" for extra in ("track", "test", "peer"))
    about = "Metadata-Version: 2.1\\nName: vitrail\\nVersion: 0\\n" + extras
    tags = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("vitrail.pth", os.path.abspath("src"))
        wheel.writestr(info + "METADATA", about)
        wheel.writestr(info + "WHEEL", tags)
        wheel.writestr(info + "RECORD", "")
    return name
"""
COMMAND = """
import os, sys
print("ran", *sys.argv[1:])
print(sys.prefix)
if sys.argv[1:2] == ["exit"]:
    sys.exit(int(sys.argv[2]))
if sys.argv[1:2] == ["kill"]:
    os.kill(os.getpid(), int(sys.argv[2]))
"""


class Project:
    """A tiny project with a copy of the launcher."""

    def __init__(self, root: Path) -> None:
        """Write it to the folder `root`, which need not exist."""
        self.root = root
        (root / "src" / "vitrail").mkdir(parents=True)
        (root / "src" / "vitrail" / "__init__.py").write_text("")
        (root / "src" / "vitrail" / "__main__.py").write_text(COMMAND)
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "constraints.txt").write_text("# no packages\n")
        (root / "backend.py").write_text(BACKEND)
        shutil.copy(ROOT / "vitrail", root / "vitrail")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "VITRAIL_"))}
        self.env |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
        self.env.pop("PYTHONPATH", None)

    @property
    def stamp(self) -> Path:
        """Where the launcher notes what is installed."""
        return self.root / ".venv" / "vitrail.stamp"

    @property
    def installs(self) -> int:
        """How often pip has installed the project."""
        log = self.root / "installs.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def start(self, *args: str, **env: str) -> "subprocess.Popen[str]":
        """Start the launcher in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, str(self.root / "vitrail"), *args],
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, code: int = 0, **env: str) -> tuple[str, str]:
        """Run the launcher, check its exit code, give its stdout and stderr."""
        process = self.start(*args, **env)
        out, err = process.communicate()
        assert process.returncode == code, err
        assert "Traceback" not in err or "backend.py" in err, err
        return out, err

    def wait_for_installs(self, count: int) -> None:
        """Wait until pip has begun its installation number `count`."""
        while self.installs < count:
            time.sleep(0.02)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is set up; copies of it spare the other tests the making of .venv."""
    project = Project(tmp_path_factory.mktemp("launcher") / "a place with spaces")
    out, err = project.run("hello", "two words")
    assert out.splitlines()[0] == "ran hello two words"
    assert "making .venv" in err and "installing the packages (track)" in err
    assert project.installs == 1
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the project, set up where it stands."""
    copy = Project(tmp_path / "other place")
    shutil.copytree(made.root / ".venv", copy.root / ".venv", symlinks=True)
    text = made.stamp.read_text()
    assert text.endswith("\ntrack")
    copy.run("hello")  # the place differs: installed again, .venv kept
    assert copy.installs == 1
    yield copy
    shutil.rmtree(copy.root)


def broken_python(folder: Path, name: str, text: str) -> None:
    """Write an executable shell script."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)


def lie(folder: Path, code: str) -> str:
    """Give a PYTHONPATH under which the interpreter runs `code` first, but not its children."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import os, sys\nos.environ.pop('PYTHONPATH')\n{code}"
    )
    return str(folder)


def test_a_second_call_installs_nothing(made: Project) -> None:
    before = made.installs
    out, err = made.run("again")
    assert out.splitlines() == ["ran again", str(made.root / ".venv")]
    assert err == ""
    assert made.installs == before


def test_stdout_and_exit_code_are_those_of_the_command(made: Project) -> None:
    assert made.run("exit", "7", code=7)[1] == ""
    made.run("kill", str(signal.SIGKILL), code=-signal.SIGKILL)


def test_an_empty_call_explains_and_installs_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path / "new")
    out, err = project.run("--help")
    assert "./vitrail demo" in err and out == ""
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_a_changed_file_installs_again(project: Project, name: str) -> None:
    with (project.root / name).open("a") as file:
        file.write("\n# another line\n")
    _, err = project.run("hello")
    assert "making .venv" not in err
    assert project.installs == 2
    project.run("hello")
    assert project.installs == 2


def test_the_tests_add_their_extras_and_keep_them(project: Project) -> None:
    project.run("test", "--version", code=1)  # the tiny project has no pytest
    assert project.stamp.read_text().endswith("\npeer test track")
    project.run("hello")
    assert project.installs == 2
    with (project.root / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert "(peer,test,track)" in project.run("hello")[1]


def test_a_missing_file_is_named(project: Project) -> None:
    (project.root / "constraints.txt").unlink()
    assert "constraints.txt: No such file" in project.run("hello", code=2)[1]


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_installation_is_finished_the_next_time(
    project: Project, stop: signal.Signals
) -> None:
    project.stamp.unlink()
    (project.root / "hold").touch()
    process = project.start("hello")
    project.wait_for_installs(2)
    os.killpg(process.pid, stop)
    _, err = process.communicate()
    assert process.returncode == {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}[stop.name], err
    (project.root / "hold").unlink()
    assert project.run("hello")[0].startswith("ran hello\n")
    assert project.installs == 3


def test_half_written_packages_are_thrown_away(project: Project) -> None:
    debris = project.root / ".venv" / "debris"
    debris.touch()
    project.stamp.write_text("pip is writing\ntrack")
    assert "making .venv anew" in project.run("hello")[1]
    assert not debris.exists()


def test_a_venv_whose_python_is_gone_is_made_anew(project: Project) -> None:
    python = project.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/removed/python3.11")
    assert "making .venv anew" in project.run("hello")[1]
    assert project.installs == 2


def test_a_venv_without_pip_is_made_anew(project: Project) -> None:
    project.stamp.unlink()
    (pip,) = (project.root / ".venv").glob("lib/python*/site-packages/pip")
    shutil.rmtree(pip)
    assert "making .venv anew" in project.run("hello")[1]


def test_a_half_made_venv_is_made_anew(project: Project) -> None:
    shutil.rmtree(project.root / ".venv")
    (project.root / ".venv" / "bin").mkdir(parents=True)
    assert "making .venv" in project.run("hello")[1]


def test_a_folder_that_is_no_venv_is_left_alone(project: Project) -> None:
    shutil.rmtree(project.root / ".venv")
    (project.root / ".venv").mkdir()
    (project.root / ".venv" / "thesis.tex").touch()
    assert "is not a virtual environment; move it away" in project.run("hello", code=2)[1]
    assert (project.root / ".venv" / "thesis.tex").exists()


def test_of_two_calls_one_installs_and_the_other_waits(project: Project) -> None:
    project.stamp.unlink()
    (project.root / "hold").touch()
    first = project.start("first")
    project.wait_for_installs(2)
    second = project.start("second")
    assert second.stderr is not None
    assert "waiting for another" in second.stderr.readline()
    (project.root / "hold").unlink()
    assert first.communicate()[0].startswith("ran first\n")
    assert second.communicate()[0].startswith("ran second\n")
    assert project.installs == 2


def test_pip_keeps_the_lock_when_the_launcher_is_killed(project: Project) -> None:
    project.stamp.unlink()
    (project.root / "hold").touch()
    first = project.start("first")
    project.wait_for_installs(2)
    first.kill()  # the launcher alone; its pip goes on
    second = project.start("second")
    assert second.stderr is not None
    assert "waiting for another" in second.stderr.readline()
    (project.root / "hold").unlink()
    assert second.communicate()[0].startswith("ran second\n")
    first.communicate()


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("[Errno 28] No space left on device", r"the disk is full: .* GB free in .* 2 GB .* 8 GB"),
        ("[Errno 122] Disk quota exceeded", "the disk is full"),
        ("[Errno 30] Read-only file system", "cannot be written; copy the project"),
        ("something else", "the set-up failed: .*; check the network"),
    ],
)
def test_a_failure_of_pip_is_one_line_after_its_last_words(
    project: Project, problem: str, message: str
) -> None:
    project.stamp.unlink()
    (project.root / "fail").write_text(problem)
    _, err = project.run("hello", code=2)
    *before, last = err.splitlines()
    assert any(problem in line for line in before)
    assert last.startswith("error: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(last)


def test_a_package_that_cannot_be_fetched_is_named(project: Project) -> None:
    with (project.root / "pyproject.toml").open("a") as file:
        file.write('dependencies = ["vitrail-no-such-package"]\n')
    backend = (project.root / "backend.py").read_text()
    backend = backend.replace("+ extras", '+ extras + "Requires-Dist: vitrail-no-such-package\\n"')
    (project.root / "backend.py").write_text(backend)
    _, err = project.run("hello", code=2)
    assert "No matching distribution found for vitrail-no-such-package; check the network" in err


def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    project = Project(tmp_path / "new")
    (project.root / ".venv.lock").mkdir()  # cannot be opened, whoever the user is
    assert "error: the set-up failed" in project.run("hello", code=2)[1]
    (project.root / ".venv.lock").rmdir()
    if os.geteuid() == 0:
        return  # root may write everywhere
    project.root.chmod(0o555)
    assert "cannot be written; copy the project" in project.run("hello", code=2)[1]
    project.root.chmod(0o755)


def test_a_python_without_ensurepip_names_the_debian_package(tmp_path: Path) -> None:
    project = Project(tmp_path / "new")
    path = lie(tmp_path / "lie", "sys.modules['ensurepip'] = None")
    _, err = project.run("hello", code=2, PYTHONPATH=path)
    assert f"apt install python3.{sys.version_info[1]}-venv" in err


def test_an_old_python_says_what_is_needed(tmp_path: Path) -> None:
    project = Project(tmp_path / "new")
    path = lie(tmp_path / "lie", "sys.version_info = (3, 9, 1, 'final', 0)")
    _, err = project.run("hello", code=2, PYTHONPATH=path, PATH=str(tmp_path))
    assert "Python 3.11 or newer is needed; this one is 3.9" in err


def test_an_old_python_hands_over_to_a_new_one(made: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "new")
    programs = tmp_path / "bin"
    broken_python(programs, "python3.14", "exit 127\n")  # such as a shim without its Python
    broken_python(programs, "python3.12", "echo 3 10\n")
    broken_python(programs, "python3.11", f'echo handed over >&2; exec "{sys.executable}" "$@"\n')
    path = lie(tmp_path / "lie", "sys.version_info = (3, 9, 1, 'final', 0)")
    out, err = project.run("hello", PYTHONPATH=path, PATH=str(programs))
    assert out.startswith("ran hello\n")
    assert "handed over" in err and project.installs == 1


def test_vitrail_python_is_used_as_it_is(tmp_path: Path) -> None:
    project = Project(tmp_path / "new")
    out, err = project.run("hello", VITRAIL_PYTHON=sys.executable)
    assert out.splitlines() == ["ran hello", sys.prefix]
    assert err == "" and project.installs == 0
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 1\n", "is not a Python that starts"),
        ("echo 3 9\n", "is Python 3.9; 3.11 or newer is needed"),
        ('case "$*" in *version_info*) echo 3 12;; *) echo torch;; esac\n', "has no torch"),
    ],
)
def test_vitrail_python_is_checked(tmp_path: Path, script: str, message: str) -> None:
    project = Project(tmp_path / "new")
    broken_python(tmp_path / "bin", "mine", script)
    _, err = project.run("hello", code=2, VITRAIL_PYTHON=str(tmp_path / "bin" / "mine"))
    assert message in err


def test_the_tests_run_in_two_groups_and_both_always_run(tmp_path: Path) -> None:
    project = Project(tmp_path / "new")
    (project.root / "test_here.py").write_text(
        "import pytest\ndef test_fails(): assert False\n"
        "@pytest.mark.compile\ndef test_compile(): pass\n"
    )
    with (project.root / "pyproject.toml").open("a") as file:
        file.write('[tool.pytest.ini_options]\nmarkers = ["compile", "slow", "gpu"]\n')
    python = {"VITRAIL_PYTHON": sys.executable}
    out, _ = project.run("test", code=1, **python)
    assert "1 failed" in out and "1 passed" in out
    (project.root / "test_here.py").write_text("def test_passes(): pass\n")
    project.run("test", **python)  # no test of the second group is no failure
    out, _ = project.run("test", "-k", "nothing", code=5, **python)
    assert "1 deselected" in out


def test_a_module_in_the_current_folder_is_not_imported(made: Project, tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('imported')")
    command = [sys.executable, str(made.root / "vitrail"), "hello"]
    subprocess.run(command, cwd=tmp_path, env=made.env, check=True, capture_output=True)
