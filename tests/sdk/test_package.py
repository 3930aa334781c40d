"""What the SDK is as a package: its README, its wheel, what it holds of the contract, and what it leaves alone."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import betterproto
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from soma.common.v1.access_pb2 import access
from soma_sdk.calls import READS
from tests.system.mesh import Mesh

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {"soma_sdk", "soma_api", "betterproto", "grpclib", "h2"}


def test_the_examples_run_as_the_readme_says(scripted_mesh: Mesh, tmp_path: Path) -> None:
    readme = (ROOT / "sdk/README.md").read_text()
    block = re.search(r"((?:^    (?:soma|python) .*\n)+)", readme, re.MULTILINE)
    assert block
    lines = block[1].replace("DIR", str(tmp_path / "svid")).replace("localhost:8443", scripted_mesh.status()["grpc"])
    path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"

    done = subprocess.run(
        ["bash", "-euc", lines], cwd=ROOT, env=scripted_mesh.surroundings({"PATH": path}), capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "You said: What is a turn?\n" in done.stdout
    assert "hello.py, version 1: print('hello')\nhello.py, version 2: print('hello, world')\n" in done.stdout
    assert done.stdout.endswith("send it again.\ngone\n")


def test_the_wheel_holds_both_packages_and_works_alone(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT / "sdk", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = ZipFile(wheel).namelist()

    assert {"soma_sdk/py.typed", "soma_api/py.typed", "soma_api/soma/agent/v1/__init__.py"} <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"soma_sdk", "soma_api"}
    look = "import soma_sdk, soma_api, sys; print(soma_sdk.__file__, soma_api.__file__, *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", look], env=os.environ | {"PYTHONPATH": str(wheel)}, cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sdk, api, *modules = done.stdout.split()
    assert sdk.startswith(str(wheel))
    assert api.startswith(str(wheel))
    assert {module.partition(".")[0] for module in modules} & {"services", "soma", "grpc", "google"} == set()


@pytest.mark.parametrize("file", [*(ROOT / "sdk").rglob("*.py")], ids=lambda file: file.stem)
def test_the_sdk_imports_the_contract_and_nothing_of_the_mesh(file: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")

    assert {name.partition(".")[0] for name in found} <= MAY_IMPORT | set(sys.stdlib_module_names)


def methods() -> list[tuple[str, str, str]]:
    """Package, service and method of the whole contract, but for what OpenAI's clients speak."""
    files = FileDescriptorSet.FromString((ROOT / "gen/soma.binpb").read_bytes()).file
    return [
        (file.package, service.name, method.name)
        for file in files
        if file.package.startswith("soma.") and "google/api/httpbody.proto" not in file.dependency
        for service in file.service
        for method in service.method
    ]


@pytest.mark.parametrize(("package", "service", "method"), methods())
def test_every_method_of_the_contract_has_a_stub(package: str, service: str, method: str) -> None:
    stub = getattr(import_module(f"soma_api.{package}"), f"{service}Stub")

    assert callable(getattr(stub, betterproto.casing.snake_case(method)))


def test_what_the_sdk_takes_for_a_read_is_what_the_contract_does_not_audit() -> None:
    files = FileDescriptorSet.FromString((ROOT / "gen/soma.binpb").read_bytes()).file
    for method in (method for file in files for service in file.service for method in service.method):
        assert method.name.startswith(READS) != bool(method.options.Extensions[access].audit), method.name
