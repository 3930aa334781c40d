"""Rows of known outcomes, from JSONL: {"prompt", "task"?, "outcomes": {model: {"score", "cost_usd"?, "latency_s"?}}},
or {"prompt", "weak": bool, "strong": bool}. Any other field is not looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Unreadable(ValueError):  # noqa: N818 - it is told to a person
    """Its text names file, line and field."""


@dataclass(frozen=True, slots=True)
class Outcome:
    score: float
    cost_usd: float | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    prompt: str
    task: str
    outcomes: Mapping[str, Outcome]


def rows_of(lines: Iterable[str], file: str) -> list[Row]:
    """Every line's row; empty lines are none. Unreadable for the first that is wrong."""
    return [row_of(line, f"{file}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]


def row_of(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise Unreadable(f"{where}: this is no JSON: {error}.") from error
    if not isinstance(row, dict):
        raise Unreadable(f"{where}: a row is an object with prompt and outcomes.")
    return Row(text(row, "prompt", where), text(row, "task", where, needed=False), outcomes_of(row, where))


def text(row: Mapping[str, Any], field: str, where: str, needed: bool = True) -> str:
    value = row.get(field)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value.strip()):
        raise Unreadable(f"{where}: {field} must be a text.")
    return value


def outcomes_of(row: Mapping[str, Any], where: str) -> dict[str, Outcome]:
    if "outcomes" not in row:
        return {name: Outcome(float(boolean(row, name, where))) for name in ("weak", "strong")}
    outcomes = row["outcomes"]
    if not isinstance(outcomes, dict) or not outcomes:
        raise Unreadable(f"{where}: outcomes must be an object with a model or more.")
    return {model: outcome_of(found, f"{where}: outcomes.{model}") for model, found in outcomes.items()}


def boolean(row: Mapping[str, Any], field: str, where: str) -> bool:
    if field not in row:
        raise Unreadable(f"{where}: outcomes is missing; or else weak and strong, true or false.")
    value = row[field]
    if not isinstance(value, bool):
        raise Unreadable(f"{where}: {field} must be true or false.")
    return value


def outcome_of(found: object, where: str) -> Outcome:
    if not isinstance(found, dict):
        raise Unreadable(f"{where} must be an object with a score.")
    score = number(found, "score", where)
    if score is None:
        raise Unreadable(f"{where}.score is missing.")
    if score > 1:
        raise Unreadable(f"{where}.score must lie between 0 and 1, not {score:g}.")
    return Outcome(score, number(found, "cost_usd", where), number(found, "latency_s", where))


def number(found: Mapping[str, Any], field: str, where: str) -> float | None:
    """Finite and not below 0; None when it is not there."""
    value = found.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Unreadable(f"{where}.{field} must be a number, 0 or more.")
    return float(value)


def unseen(train: Sequence[Row], test: Sequence[Row]) -> list[Row]:
    """The rows of the test whose prompt no row of the training has."""
    seen = {sameness(row.prompt) for row in train}
    return [row for row in test if sameness(row.prompt) not in seen]


def sameness(prompt: str) -> str:
    """Prompts that differ only in white space and case are the same."""
    return " ".join(prompt.split()).casefold()
