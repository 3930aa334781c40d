"""Nothing that spends money goes round the admission: who calls providers, and what stands before each call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICES = Path(__file__).resolve().parents[2] / "services"
ROUTER = SERVICES / "router"
SPENDS = {"stream", "vectors_from", "embed"}
"""What sends a request to a provider, by whichever door it is held."""
CALLERS = {("router/generate.py", "_speak", "stream"), ("router/embed.py", "_ask", "vectors_from")}
OTHERS = {
    ("router/front/service.py", "CreateEmbedding", "embed"),
    ("router/evaluate/report.py", "timed", "embed"),
}
"""`Vectorizer.embed`, which admits its calls; and a function of this machine, of which an evaluation is told."""


def calls(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str]]:
    """Each call of something that spends, with the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        here = node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else inside
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in SPENDS:
                yield here, name
        yield from calls(node, here)


def router_calls() -> Iterator[tuple[str, str, str]]:
    """Those of all the router but its models, whatever a file imports."""
    for file in ROUTER.rglob("*.py"):
        if not file.is_relative_to(ROUTER / "models"):
            yield from ((str(file.relative_to(SERVICES)), *call) for call in calls(ast.parse(file.read_text())))


@pytest.mark.parametrize("code", ["adapter.stream(p)", "self.adapters[k].stream(p)", "vectors_from(s)", "x.embed(t)"])
def test_whatever_holds_the_door_the_call_is_seen(code: str) -> None:
    assert len(list(calls(ast.parse(f"async def f():\n    return {code}")))) == 1


def test_those_who_call_providers_are_two_and_both_hold_an_admitted_call() -> None:
    assert set(router_calls()) == CALLERS | OTHERS


def test_nobody_but_the_router_holds_what_calls_providers() -> None:
    others = [file for file in SERVICES.rglob("*.py") if not file.is_relative_to(ROUTER)]
    assert not [str(file) for file in others if "services.router.models" in file.read_text()]


def test_whoever_calls_a_provider_is_handed_what_only_admission_makes() -> None:
    for name, function, _ in CALLERS:
        tree = ast.parse((SERVICES / name).read_text())
        found = next(n for n in ast.walk(tree) if isinstance(n, ast.AsyncFunctionDef) and n.name == function)
        handed = {ast.unparse(arg.annotation) for arg in found.args.args if arg.annotation}
        assert handed & {"Admitted", "Running"}, f"{name}: {function} calls a provider without an admitted call"


def test_an_admitted_call_is_made_by_admission_alone() -> None:
    makers = [
        str(file.relative_to(SERVICES))
        for file in SERVICES.rglob("*.py")
        if any(
            isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Admitted"
            for node in ast.walk(ast.parse(file.read_text()))
        )
    ]
    assert makers == ["router/admit.py"]
