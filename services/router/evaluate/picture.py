"""The evaluation as an SVG: what is recovered along the strong calls, or what is won along the cost."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from services.router.evaluate.report import Report

WIDE, HIGH, EDGE = 640, 420, 60
Point = tuple[float, float]


def picture(report: Report) -> str:
    if report.curve:
        ours = [(i / 100, won) for i, won in enumerate(report.curve)]
        title = f"Recovered gap over strong calls: APGR {report.apgr:.3f}, random 0.500"
        return drawn(title, "share of strong calls", "recovered gap", ours, [("random", (0, 0), (1, 1))])
    points = [(one.cost_usd or 0.0, one.accuracy) for _, one in report.along]
    others = [*report.models.items(), ("random", report.random), ("oracle", report.oracle)]
    marks = [(name, at, at) for name, one in others if (at := (one.cost_usd or 0.0, one.accuracy))]
    return drawn("Accuracy over cost, along the dial", "cost, USD", "accuracy", points, marks)


def drawn(title: str, across: str, up: str, ours: Sequence[Point], marks: Sequence[tuple[str, Point, Point]]) -> str:
    """`marks` are named lines; one whose ends are the same is a dot."""
    all_of = [*ours, *(end for _, a, b in marks for end in (a, b))]
    left, right = bounds([x for x, _ in all_of])
    low, high = bounds([y for _, y in all_of])

    def at(point: Point) -> tuple[float, float]:
        x = EDGE + (point[0] - left) / (right - left) * (WIDE - 2 * EDGE)
        return round(x, 1), round(HIGH - EDGE - (point[1] - low) / (high - low) * (HIGH - 2 * EDGE), 1)

    parts = [text(WIDE / 2, 28, title, "middle"), text(WIDE / 2, HIGH - 14, across, "middle"), text(8, EDGE - 14, up)]
    parts += [text(EDGE, HIGH - EDGE + 18, f"{left:g}", "middle"), text(EDGE - 6, HIGH - EDGE, f"{low:.3g}", "end")]
    parts += [text(WIDE - EDGE, HIGH - EDGE + 18, f"{right:.3g}", "middle"), text(EDGE - 6, EDGE, f"{high:.3g}", "end")]
    parts.append(f'<path d="M{EDGE} {EDGE}V{HIGH - EDGE}H{WIDE - EDGE}" fill="none" stroke="#999"/>')
    for name, a, b in marks:
        (x1, y1), (x2, y2) = at(a), at(b)
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#999" stroke-dasharray="4"/>')
        parts.append(f'<circle cx="{x2}" cy="{y2}" r="3" fill="#999"/>' + label(x2, y2, name))
    line = " ".join(f"{x},{y}" for x, y in map(at, ours))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>')
    parts.append(label(*at(ours[len(ours) // 2]), "ours"))
    style = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" {style}>'
    return head + '<rect width="100%" height="100%" fill="#fff"/>' + "".join(parts) + "</svg>\n"


def bounds(numbers: Sequence[float]) -> tuple[float, float]:
    low, high = min(numbers), max(numbers)
    return (low, high) if high > low else (low, low + 1)


def label(x: float, y: float, name: str) -> str:
    """Beside a point, on the side where there is room."""
    return text(x + 6, y - 8, name) if x < WIDE / 2 else text(x - 6, y - 8, name, "end")


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'
