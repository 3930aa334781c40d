"""The whole mesh with its event log in Kafka, and what becomes of that when it changes over to Postgres."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.local.event_log import KAFKA, POSTGRES
from services.local.stack import load_stack
from tests.system.mesh import Mesh, running_mesh, told_to_kafka, wait_until


def sealed(mesh: Mesh) -> list[str]:
    """The kinds of events in a tenant's trail."""
    return [row["action"] for row in mesh.query("SELECT action FROM soma.audit WHERE tenant = 'acme' ORDER BY index")]


@pytest.mark.timeout(240)
def test_a_mesh_on_kafka_tells_it_everything_and_takes_that_along_to_postgres(tmp_path: Path) -> None:
    with running_mesh(tmp_path / "soma", "TEST", "--log", KAFKA) as mesh:
        mesh.soma("chat", "hello")
        wait_until(lambda: "turn.answered" in sealed(mesh), what="the trail has the answer")
        told, before = {row["id"]: row["type"] for row in told_to_kafka(mesh.home)}, sealed(mesh)
        assert {"turn.asked", "turn.answered", "chat.asked"} <= set(told.values())
        assert "kept by kafka" in mesh.soma("topics").stdout

        mesh.down()
        mesh.up("--log", POSTGRES)
        assert load_stack(mesh.home).log.left == ""
        wait_until(lambda: told.keys() <= {row["id"] for row in mesh.query("SELECT id FROM soma.log")}, what="carried")
        mesh.soma("chat", "and again")
        wait_until(lambda: sealed(mesh).count("turn.answered") == 2, what="the trail has both answers")
        assert sealed(mesh)[: len(before)] == before, "nothing is sealed twice"
        mesh.soma("audit", "export", "--tenant", "acme", "--out", str(tmp_path / "acme.zst"))
        mesh.soma("audit", "verify", str(tmp_path / "acme.zst"))
