"""The whole mesh on this machine, started by `soma up` in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.mesh import Mesh, running_mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """In mode DEVELOPER: with the small model of this machine. Shared: leave it as you found it."""
    with running_mesh(tmp_path_factory.mktemp("mesh") / "soma", "DEVELOPER") as mesh:
        yield mesh


@pytest.fixture
def own_mesh(tmp_path: Path) -> Iterator[Callable[[], Mesh]]:
    """Starts meshes in mode TEST for one test, which may do to them what it likes."""
    with ExitStack() as meshes:
        yield lambda: meshes.enter_context(running_mesh(tmp_path / "soma", "TEST"))
