"""`make check` holds v1 to its promise: what clients were given stays. What is called alpha may still move."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.requests import DESCRIPTORS

ROOT = DESCRIPTORS.parents[1]


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=n", "-c", "user.email=n@example.invalid", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the contracts of now, committed on main."""
    for name in ("proto/soma", "proto/google", "proto/buf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("buf.yaml", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "proto", "buf.yaml")
    git(tmp_path, "commit", "-qm", "The contracts")
    return tmp_path


def breaking(project: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["make", "breaking"], cwd=project, capture_output=True, text=True, timeout=60, check=False, env=alone()
    )
    return done.returncode, done.stdout + done.stderr


def alone() -> dict[str, str]:
    """The surroundings of a make that no other make has started."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def rename(project: Path, file: str, old: str, new: str) -> None:
    path = project / "proto/soma" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_field_of_v1_that_was_renamed_is_refused(project: Path) -> None:
    rename(project, "agent/v1/conversation.proto", "string title = 2", "string headline = 2")
    code, said = breaking(project)
    assert code != 0
    assert 'Field "2" with name "headline"' in said


def test_a_field_of_v1_that_is_new_is_let_pass(project: Path) -> None:
    rename(
        project,
        "agent/v1/conversation.proto",
        "string running_turn = 6",
        "string more = 99;\n  string running_turn = 6",
    )
    assert breaking(project) == (0, "")


def test_v1alpha1_may_still_move(project: Path) -> None:
    rename(project, "delegation/v1alpha1/task.proto", "string peer = 3", "string doer = 3")
    assert breaking(project) == (0, "")


def test_a_branch_is_held_against_main_and_so_is_a_clone_without_branches(project: Path, tmp_path: Path) -> None:
    git(project, "checkout", "-qb", "mine")
    rename(project, "agent/v1/conversation.proto", "string title = 2", "string headline = 2")
    git(project, "commit", "-qam", "Renamed")
    assert breaking(project)[0] != 0
    clone = tmp_path / "clone"
    git(project, "clone", "-q", "--branch", "mine", str(project), str(clone))
    git(clone, "checkout", "-q", "--detach")
    git(clone, "branch", "-D", "mine")
    (clone / "Makefile").write_text((ROOT / "Makefile").read_text())
    (clone / ".venv").symlink_to(ROOT / ".venv")
    assert breaking(clone)[0] != 0


def test_without_git_history_it_is_skipped_and_says_so(project: Path) -> None:
    shutil.rmtree(project / ".git")
    rename(project, "agent/v1/conversation.proto", "string title = 2", "string headline = 2")
    code, said = breaking(project)
    assert (code, said.startswith("skipped: ")) == (0, True)
