"""A method that is written into a contract shows up in every surface by `make gen` alone, or says what it lacks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from buf.validate.validate_pb2 import FieldRules, StringRules

from proto.generate import compare
from proto.surfaces.rules import keywords
from tests.contract.requests import DESCRIPTORS

ROOT = DESCRIPTORS.parents[1]
PANES = "soma/canvas/v1/canvas_service.proto"
WEIGH = """
  // WeighPanes returns what the panes of a conversation weigh. Refuses with CONVERSATION_UNKNOWN.
  rpc WeighPanes(WeighPanesRequest) returns (WeighPanesResponse) {
    option (google.api.http) = {get: "/v1/{parent=conversations/*}/panes:weigh"};
    option (soma.common.v1.access) = {
      workloads: ["edge"]
      roles: ["member"]
    };
  }
}

// WeighPanesRequest names a canvas.
message WeighPanesRequest {
  // parent is the conversation's name.
  string parent = 1;
  // kind weighs those of one kind alone.
  string kind = 2 [(buf.validate.field).string.max_len = 20];
}

// WeighPanesResponse is the answer.
message WeighPanesResponse {
  // bytes of their texts.
  uint32 bytes = 1;
}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The contracts, and the rooms by name."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for room in (ROOT / "services").glob("*/__main__.py"):
        (tmp_path / "services" / room.parent.name).mkdir(parents=True)
        (tmp_path / "services" / room.parent.name / "__main__.py").touch()
    return tmp_path


def generate(project: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "proto/generate.py"]
    return subprocess.run(program, cwd=project, capture_output=True, text=True, timeout=60, check=False)


def write(project: Path, method: str) -> None:
    """The method as the last of its service."""
    file = project / "proto" / PANES
    text = file.read_text()
    end = text.index("\n}\n")
    file.write_text(text[:end] + method + text[end + 3 :])


def test_a_method_that_is_new_is_in_every_surface(project: Path) -> None:
    write(project, WEIGH)
    done = generate(project)
    assert done.returncode == 0, done.stderr
    gen, path = project / "gen", "/soma.canvas.v1.CanvasService/WeighPanes"

    assert path in (gen / "soma/canvas/v1/canvas_service_pb2_grpc.py").read_text()
    assert b"WeighPanes" in (gen / "soma.binpb").read_bytes()
    assert "async def weigh_panes(" in "".join(file.read_text() for file in (gen / "sdk").rglob("*.py"))
    assert path in (gen / "istio/canvas.yaml").read_text()
    rows = [
        line.split(",")[1:] for line in (gen / "access.csv").read_text().splitlines() if line.startswith(f"{path},")
    ]
    assert ["edge", "member", "another tenant's", "CONVERSATION_UNKNOWN"] in rows
    assert ["edge", "admin", "*", "ROLE_REFUSED"] in rows
    document = json.loads((gen / "openapi.json").read_text())
    weigh = document["paths"]["/v1/conversations/{conversation}/panes:weigh"]["get"]
    assert [p["name"] for p in weigh["parameters"]] == ["conversation", "kind"]
    assert "CONVERSATION_UNKNOWN" in weigh["responses"]["404"]["x-reasons"]


def test_a_method_that_does_not_say_who_may_call_it_does_not_build(project: Path) -> None:
    write(project, WEIGH.replace('workloads: ["edge"]', "workloads: []"))
    done = generate(project)
    assert "WeighPanes: no workload may call it" in done.stderr and done.returncode


def test_a_method_whose_comment_does_not_promise_how_it_refuses_does_not_build(project: Path) -> None:
    write(project, WEIGH.replace("Refuses with CONVERSATION_UNKNOWN.", ""))
    done = generate(project)
    assert "WeighPanes: say in its comment that it refuses with CONVERSATION_UNKNOWN" in done.stderr and done.returncode


def test_no_rule_gets_lost_on_the_way_into_a_schema() -> None:
    with pytest.raises(SystemExit, match=r"The rule string\.len has no JSON Schema yet"):
        keywords(FieldRules(string=StringRules(len=20)))


def test_what_is_stale_is_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "gen", tmp_path / "gen", ignore=shutil.ignore_patterns("__pycache__", "web"))
    compare(tmp_path / "gen", ROOT / "gen")
    (tmp_path / "gen/istio/canvas.yaml").write_text("")
    (tmp_path / "gen/schemas/more.json").touch()
    (tmp_path / "gen/access.csv").unlink()
    with pytest.raises(SystemExit, match=r": access\.csv, schemas/more\.json, istio/canvas\.yaml$"):
        compare(tmp_path / "gen", ROOT / "gen")
