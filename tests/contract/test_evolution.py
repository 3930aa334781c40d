"""`make check` refuses a change of an event's schema by which one that was written before could not be read."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from proto.evolution import breaks
from services.common.generated import GENERATED
from tests.contract.test_breaking import ROOT, alone, git

STRING = {"type": "string"}
FIELDS: dict[str, Any] = {"id": STRING, "kind": {"type": "string", "enum": ["a", "b"]}, "size": {"type": "integer"}}


def schema(*, without: str = "", required: tuple[str, ...] = ("id",), **fields: Any) -> dict[str, Any]:
    properties = {name: rule for name, rule in (FIELDS | fields).items() if name != without}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


REFUSED = [
    ("a field that is gone", schema(), schema(without="size"), {"id": "x", "size": 1}),
    ("a field that is required now", schema(), schema(required=("id", "size")), {"id": "x"}),
    ("a new field that is required", schema(), schema(more=STRING, required=("id", "more")), {"id": "x"}),
    ("a value that is gone", schema(), schema(kind={"type": "string", "enum": ["a"]}), {"id": "x", "kind": "b"}),
    ("values that are bound", schema(), schema(id={"type": "string", "enum": ["a"]}), {"id": "x"}),
    ("another version", schema(size={"type": "integer", "const": 1}), schema(size={"type": "integer", "const": 2}),
     {"id": "x", "size": 1}),
    ("another type", schema(), schema(size=STRING), {"id": "x", "size": 1}),
    ("a narrower type", schema(size={"type": "number"}), schema(), {"id": "x", "size": 1.5}),
    ("a pattern", schema(), schema(id=STRING | {"pattern": "^a"}), {"id": "x"}),
    ("another pattern", schema(id=STRING | {"pattern": "^x"}), schema(id=STRING | {"pattern": "^y"}), {"id": "x"}),
    ("a format", schema(), schema(id=STRING | {"format": "uuid"}), {"id": "x"}),
    ("a longer least length", schema(id=STRING | {"minLength": 1}), schema(id=STRING | {"minLength": 2}), {"id": "x"}),
    ("a shorter most length", schema(), schema(id=STRING | {"maxLength": 1}), {"id": "xy"}),
    ("a higher minimum", schema(), schema(size={"type": "integer", "minimum": 2}), {"id": "x", "size": 1}),
    ("a lower maximum", schema(size={"type": "integer", "maximum": 9}), schema(size={"type": "integer", "maximum": 8}),
     {"id": "x", "size": 9}),
    ("a rule that nobody here knows", schema(), schema(size={"type": "integer", "multipleOf": 2}),
     {"id": "x", "size": 1}),
]  # fmt: skip
LET_PASS = [
    ("nothing", schema(), schema()),
    ("a new field", schema(), schema(more=STRING)),
    ("a field that is required no more", schema(required=("id", "size")), schema()),
    ("a new value", schema(), schema(kind={"type": "string", "enum": ["a", "b", "c"]})),
    ("values that are free", schema(), schema(kind=STRING)),
    ("a further version", schema(size={"const": 1}), schema(size={"enum": [1, 2]})),
    ("a wider type", schema(), schema(size={"type": "number"})),
    ("no pattern any more", schema(id=STRING | {"pattern": "^x"}), schema()),
    ("a shorter least length", schema(id=STRING | {"minLength": 2}), schema(id=STRING | {"minLength": 1})),
    ("a higher maximum", schema(size={"maximum": 8}), schema(size={"maximum": 9})),
    ("a field that is gone, where any may be", schema(), schema(without="size") | {"additionalProperties": True}),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "event"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_change_that_breaks_a_reader_is_refused(old: Any, new: Any, event: Any) -> None:
    assert jsonschema_rs.is_valid(old, event)
    assert not jsonschema_rs.is_valid(new, event, validate_formats=True), "the table is right"
    assert len(list(breaks(old, new))) == 1


@pytest.mark.parametrize(("old", "new"), [case[1:] for case in LET_PASS], ids=[case[0] for case in LET_PASS])
def test_a_change_that_breaks_none_is_let_pass(old: Any, new: Any) -> None:
    assert list(breaks(old, new)) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the schemas of now, committed on main."""
    shutil.copytree(GENERATED / "schemas", tmp_path / "gen/schemas")
    (tmp_path / "proto").mkdir()
    shutil.copy(ROOT / "proto/evolution.py", tmp_path / "proto")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "gen")
    git(tmp_path, "commit", "-qm", "The schemas")
    return tmp_path


def evolution(project: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["make", "evolution"], cwd=project, capture_output=True, text=True, timeout=60, check=False, env=alone()
    )
    return done.returncode, done.stdout + done.stderr


def test_make_check_holds_the_schemas_of_now_against_main(project: Path) -> None:
    assert evolution(project) == (0, "")
    file = project / "gen/schemas/soma.events.v1alpha1.AuditEvent.json"
    schema = json.loads(file.read_text())
    schema["required"].append("trace")
    file.write_text(json.dumps(schema))
    code, said = evolution(project)
    assert code != 0
    assert "soma.events.v1alpha1.AuditEvent: trace is required, and was not" in said
    file.unlink()
    assert "it is no more" in evolution(project)[1]


def test_what_has_no_schemas_to_compare_with_is_skipped_and_says_so(project: Path) -> None:
    shutil.rmtree(project / ".git")
    code, said = evolution(project)
    assert (code, said.startswith("skipped: ")) == (0, True)
