"""The audit trail of a running mesh in an outsider's hands: exported, proven, tampered with, and a person forgotten."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.system.mesh import Mesh, wait_until

WANDA = "wanda@globex"


def export(mesh: Mesh, out: Path) -> bytes:
    """What the file holds; nothing while nothing is sealed."""
    if mesh.soma("audit", "export", "--tenant", "globex", "--out", str(out), check=False).returncode:
        return b""
    with zstandard.ZstdDecompressor().stream_reader(out.open("rb")) as packed:
        return packed.read()


def verified(mesh: Mesh, file: Path, *words: str) -> dict[str, Any]:
    done = mesh.soma("audit", "verify", str(file), "--json", *words, check=False)
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if verdict["ok"] else 1)
    return verdict


@pytest.fixture(scope="module")
def exported(scripted_mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trail that holds a chat of Wanda's."""
    said = scripted_mesh.soma("chat", "hello", "--tenant", "globex", "--person", "wanda").stderr.split()
    conversation = said[said.index("--conversation") + 1].encode()
    out = tmp_path_factory.mktemp("audit") / "globex.zst"
    wait_until(lambda: conversation in export(scripted_mesh, out))
    return out


def test_a_trail_proves_itself_and_a_changed_byte_is_named(scripted_mesh: Mesh, exported: Path, tmp_path: Path) -> None:
    assert verified(scripted_mesh, exported)["ok"]

    lines = export(scripted_mesh, exported).split(b"\n")
    at = next(at for at, line in enumerate(lines) if b'"chat.asked"' in line)
    lines[at] = lines[at].replace(b'"done"', b'"dome"')
    tampered = tmp_path / "tampered"
    tampered.write_bytes(b"\n".join(lines))
    finding = verified(scripted_mesh, tampered)["finding"]
    assert (finding["kind"], finding["index"]) == ("altered", int(lines[at].split(b" ")[1]))


def test_the_verdict_is_the_exit_code_though_nobody_reads_on(scripted_mesh: Mesh, exported: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = scripted_mesh.command("audit", "verify", str(exported))
    assert subprocess.run(words, stdout=writing, env=scripted_mesh.surroundings(), timeout=60).returncode == 0
    os.close(writing)


def test_a_forgotten_person_and_a_rotated_key_leave_every_proof_whole(
    scripted_mesh: Mesh, exported: Path, tmp_path: Path
) -> None:
    head, old = tmp_path / "head", scripted_mesh.soma("audit", "key", "--tenant", "globex").stdout.strip()
    head.write_text(scripted_mesh.soma("audit", "heads", "--tenant", "globex").stdout)
    asked = scripted_mesh.soma("audit", "forget", "--tenant", "globex", "--subject", WANDA, check=False)
    assert asked.returncode == 1 and "cannot be undone" in asked.stdout

    done = scripted_mesh.soma("audit", "forget", "--tenant", "globex", "--subject", WANDA, "--yes")
    assert WANDA in done.stdout and "p_" in done.stdout
    assert "vouches" in scripted_mesh.soma("audit", "rotate", "--tenant", "globex").stdout
    wait_until(lambda: b'"subject.forgotten"' in export(scripted_mesh, exported))
    new = scripted_mesh.soma("audit", "key", "--tenant", "globex").stdout.strip()

    verdict = verified(scripted_mesh, exported, "--head", str(head), "--key", old)
    assert verdict["ok"] and verdict["trusted"][-2:] == [old, new] and old != new
    again = scripted_mesh.soma("audit", "forget", "--tenant", "globex", "--subject", WANDA, "--yes", check=False)
    assert again.returncode == 1 and "nobody called" in again.stderr
