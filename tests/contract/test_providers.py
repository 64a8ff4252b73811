"""OpenFeature's own OFREP providers, as published, against a running check server.

Each is skipped, loudly, where it is not installed: the Python one with the test requirements, the
JavaScript ones with node and npm (packages are installed on demand, from `package-lock.json`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huidu import reasons
from tests.edge.running import CLIENT, SERVER, Running, Store, flags
from tests.waiting import PATIENCE

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Store, Running]]:
    store = Store()
    store.fill()
    running = Running(store)
    yield store, running
    running.stop()
    store.close()


def skip(reason: str) -> None:
    warnings.warn(f"contract not checked: {reason}", stacklevel=2)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the JavaScript providers and our scripts in it."""
    if not shutil.which("node") or not shutil.which("npm"):
        skip("no node and npm on PATH")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "server.mjs", "web.mjs"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
    if installed.returncode:
        skip(f"npm could not install the providers: {installed.stderr.strip()[-300:]}")
    return folder


def test_the_python_provider_understands_us(world: tuple[Store, Running]) -> None:
    ofrep = pytest.importorskip("openfeature.contrib.provider.ofrep")
    from openfeature.evaluation_context import EvaluationContext

    _, edge = world
    provider = ofrep.OFREPProvider(
        f"http://127.0.0.1:{edge.port}",
        headers_factory=lambda: {"Authorization": f"Bearer {SERVER}"},
        timeout=PATIENCE,
    )
    shown = provider.resolve_boolean_details("weilidai", False, EvaluationContext("ada"))
    assert (shown.value, shown.variant) == (True, "on")
    assert shown.flag_metadata["why"] == reasons.SHOWN
    hidden = provider.resolve_boolean_details("weilidai", True, EvaluationContext("eve"))
    assert hidden.value is False
    rate = provider.resolve_float_details("rate", 1.0, EvaluationContext("ada"))
    assert rate.value == 4.0
    with pytest.raises(Exception, match="nope"):
        provider.resolve_boolean_details("nope", True, EvaluationContext("ada"))
    with pytest.raises(Exception, match="targetingKey"):
        provider.resolve_boolean_details("weilidai", True, EvaluationContext())


def test_the_node_provider_understands_us(world: tuple[Store, Running], node: Path) -> None:
    _, edge = world
    command = ["node", "server.mjs", f"http://127.0.0.1:{edge.port}", SERVER]
    said = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=5 * PATIENCE)
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert (told["shown"]["value"], told["shown"]["variant"]) == (True, "on")
    assert told["shown"]["flagMetadata"]["why"] == reasons.SHOWN
    assert told["hidden"]["value"] is False
    assert told["rate"]["value"] == 4
    errors = {name: told[name].get("errorCode") for name in ("unknown", "nobody", "mistyped")}
    assert errors == {
        "unknown": reasons.FLAG_NOT_FOUND,
        "nobody": reasons.TARGETING_KEY_MISSING,
        "mistyped": reasons.INVALID_CONTEXT,
    }
    assert all(told[name]["value"] is True for name in errors)  # the caller's own default


def test_the_web_provider_hears_of_a_change(world: tuple[Store, Running], node: Path) -> None:
    store, edge = world
    command = ["node", "web.mjs", f"http://127.0.0.1:{edge.port}", CLIENT]
    with subprocess.Popen(
        command,
        cwd=node,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as page:
        assert page.stdout is not None
        assert page.stdin is not None
        ready = _line(page)
        assert ready["what"] == "ready"
        assert ready["weilidai"]["value"] is True
        assert ready["staff"]["errorCode"] == reasons.FLAG_NOT_FOUND
        store.publish([flag for flag in flags() if flag.key != "weilidai"])
        changed = _line(page)
        assert changed["what"] == "changed"
        assert changed["weilidai"]["errorCode"] == reasons.FLAG_NOT_FOUND
        page.stdin.write("enough\n")
        page.stdin.flush()
        page.wait(PATIENCE)
    store.publish(flags())


def _line(page: subprocess.Popen[str]) -> dict[str, Any]:
    assert page.stdout is not None
    line = page.stdout.readline()
    assert line, page.stderr and page.stderr.read()
    told: dict[str, Any] = json.loads(line)
    return told
