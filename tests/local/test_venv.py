"""The virtual environment, made by real pip from a wheel of our own; no network."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Checkout:
    """A folder like a checkout, whose requirements are one package `tiny`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "local").mkdir(parents=True)
        shutil.copy(ROOT / "local" / "venv.py", folder / "local")
        self.require("1.0")

    @property
    def python(self) -> Path:
        return self.folder / ".venv" / "bin" / "python"

    @property
    def command(self) -> list[str]:
        python = getattr(sys, "_base_executable", sys.executable)
        return [python, str(self.folder / "local" / "venv.py"), "requirements.txt", "tiny"]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.folder.as_uri()}

    def require(self, version: str, *, files: int = 1) -> None:
        digest = make_wheel(self.folder, version, files)
        pin = f"tiny=={version} --hash=sha256:{digest}\n"
        (self.folder / "requirements.txt").write_text(pin)

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command, env=self.environment, capture_output=True, text=True, timeout=600
        )


def make_wheel(folder: Path, version: str, files: int) -> str:
    """A wheel whose module prints its version; returns its SHA-256."""
    info = f"tiny-{version}.dist-info"
    contents = {f"tiny_parts/part{n}.py": "x = 1\n" * 50 for n in range(files)} | {
        "tiny.py": f"print('tiny {version}')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for name, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        record.append(f"{name},sha256={digest.decode().rstrip('=')},{len(text)}")
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    wheel = folder / f"tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("a checkout") / "with blanks")
    done = checkout.run()
    assert done.stdout.splitlines()[-1] == "tiny 1.0", done
    return checkout


def test_a_start_with_nothing_to_install_only_runs(made: Checkout) -> None:
    assert made.run().stdout == "tiny 1.0\n"


def test_a_changed_pin_is_installed(made: Checkout) -> None:
    made.require("2.0")
    assert made.run().stdout.splitlines()[-1] == "tiny 2.0"
    made.require("1.0")
    assert made.run().stdout.splitlines()[-1] == "tiny 1.0"


def test_a_package_with_a_wrong_hash_is_refused_and_tried_again(made: Checkout) -> None:
    good = (made.folder / "requirements.txt").read_text()
    (made.folder / "requirements.txt").write_text("tiny==3.0 --hash=sha256:" + "0" * 64 + "\n")
    make_wheel(made.folder, "3.0", 1)
    refused = made.run()
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    (made.folder / "requirements.txt").write_text(good)
    assert made.run().stdout.splitlines()[-1] == "tiny 1.0"


def test_a_broken_environment_is_made_again(made: Checkout) -> None:
    made.python.unlink()
    made.python.symlink_to("/nowhere/python3")
    done = made.run()
    assert "making .venv" in done.stdout
    assert done.stdout.splitlines()[-1] == "tiny 1.0"


def test_an_environment_that_was_moved_is_made_again(made: Checkout) -> None:
    (made.folder / ".venv").rename(made.folder / "elsewhere")
    (made.folder / ".venv").symlink_to(made.folder / "elsewhere")
    assert "making .venv" in made.run().stdout
    assert not (made.folder / ".venv").is_symlink()


def test_a_package_cut_off_while_unpacking_is_unpacked_again(made: Checkout) -> None:
    [info] = (made.folder / ".venv").glob("lib/python*/site-packages/tiny-*.dist-info")
    (info / "INSTALLER").unlink()
    (info / "RECORD").unlink()
    (info.parent / "tiny.py").unlink()
    (made.folder / ".venv" / "huidu-installed.json").unlink()
    assert made.run().stdout.splitlines()[-1] == "tiny 1.0"


def test_two_starts_at_once_install_once(made: Checkout) -> None:
    made.require("4.0", files=300)
    starts = [
        subprocess.Popen(made.command, env=made.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [start.communicate(timeout=600)[0] for start in starts]
    assert [output.splitlines()[-1] for output in outputs] == ["tiny 4.0", "tiny 4.0"]
    assert sum("packages ready" in output for output in outputs) == 1


def test_kill_9_while_installing_is_made_good_by_the_next_start(made: Checkout) -> None:
    made.require("5.0", files=3000)
    start = subprocess.Popen(
        made.command, env=made.environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    parts = made.folder / ".venv" / "lib"
    deadline = time.monotonic() + 300
    while not list(parts.glob("python*/site-packages/tiny_parts/part1500.py")):
        assert time.monotonic() < deadline
    os.killpg(start.pid, signal.SIGKILL)
    start.wait()
    assert made.run().stdout.splitlines()[-1] == "tiny 5.0"
    assert len(list(parts.glob("python*/site-packages/tiny_parts/*.py"))) == 3000


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if line[:1].isalnum())  # type: ignore[misc]


def test_the_test_requirements_hold_every_pin_of_the_platform() -> None:
    platform, everything = pins("requirements.txt"), pins("requirements-test.txt")
    assert len(platform) > 50
    assert platform.items() <= everything.items()


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        pytest.param({}, "Huidu needs Python 3.11 or newer.", id="no Python"),
        pytest.param({"python3": "3.9"}, "Found: python3 is 3.9;", id="an old Python"),
        pytest.param(
            {"python3": "2.7", "python3.13": "3.13"}, "chose python3.13", id="a later one"
        ),
        pytest.param(
            {"python3": "3.12", "python3.11": "3.11"}, "chose python3.11", id="3.11 first"
        ),
    ],
)
def test_the_python_that_runs_huidu(tmp_path: Path, found: dict[str, str], sentence: str) -> None:
    for name, version in found.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n")
        (tmp_path / name).chmod(0o755)
    script = f'. "{ROOT}/local/find_python.sh"; echo "chose $python"'
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert sentence in done.stdout + done.stderr
    assert done.returncode == (0 if "chose" in sentence else 1)
