"""Traces: W3C trace context, and spans so light that every call may have one.

A span is a few numbers in a bounded queue. A thread takes them to a file of bounded size, or by OTLP to a collector;
OpenTelemetry's SDK is loaded for the latter only. A full queue drops the oldest.
"""

from __future__ import annotations

import json
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

MOST_QUEUED = 8192
EVERY_S = 1.0
MOST_FILE_BYTES = 8 * 1024 * 1024
Parent = tuple[int, int, bool]
"""Trace ID, span ID, whether it is sampled."""


class Span:
    """One call, served or made, from __enter__ to __exit__. Entering gives the traceparent to pass along."""

    __slots__ = ("_kept", "end_ns", "fault", "name", "outgoing", "parent_id", "span_id", "start_ns", "trace_id")

    def __init__(self, kept: deque[Span], name: str, trace_id: int, parent_id: int, outgoing: bool) -> None:
        self._kept, self.name, self.trace_id, self.parent_id, self.outgoing = kept, name, trace_id, parent_id, outgoing
        self.span_id = random.getrandbits(64) or 1
        self.start_ns, self.end_ns, self.fault = time.time_ns(), 0, ""

    def __enter__(self) -> str:
        return format_traceparent(self.trace_id, self.span_id, sampled=True)

    def __exit__(self, kind: type[BaseException] | None, fault: object, trace: object) -> None:
        self.end_ns, self.fault = time.time_ns(), kind.__name__ if kind else ""
        self._kept.append(self)


class Unsampled:
    """A call of which nothing is kept."""

    __slots__ = ("_traceparent",)

    def __init__(self, traceparent: str) -> None:
        self._traceparent = traceparent

    def __enter__(self) -> str:
        return self._traceparent

    def __exit__(self, *_: object) -> None:
        pass


class Tracer:
    """Makes spans. `ratio` is the share of traces that begin here and are kept; those of others keep their mark."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self.kept: deque[Span] = deque(maxlen=MOST_QUEUED)

    def span(self, name: str, traceparent: str, *, outgoing: bool = False) -> Span | Unsampled:
        """A span under the caller's, of a call that is served or, outgoing, made. Free when not sampled."""
        parent = parse(traceparent)
        if parent is None:
            trace_id = secrets.randbits(128) or 1
            if random.random() < self._ratio:  # noqa: S311 - chance, not a secret
                return Span(self.kept, name, trace_id, 0, outgoing)
            return Unsampled(format_traceparent(trace_id, secrets.randbits(64) or 1, sampled=False))
        if parent[2] and self._ratio:
            return Span(self.kept, name, parent[0], parent[1], outgoing)
        return Unsampled(traceparent)


def parse(traceparent: str) -> Parent | None:
    """The parts of a W3C traceparent; None when it is none."""
    parts = traceparent.split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    try:
        trace_id, span_id, flags = int(parts[1], 16), int(parts[2], 16), int(parts[3], 16)
    except ValueError:
        return None
    return (trace_id, span_id, bool(flags & 1)) if trace_id and span_id else None


def format_traceparent(trace_id: int, span_id: int, *, sampled: bool) -> str:
    return f"00-{trace_id:032x}-{span_id:016x}-{'01' if sampled else '00'}"


class Sink(Protocol):
    """Where spans go. Called from a thread of its own; may raise OSError."""

    def write(self, spans: Sequence[Span]) -> None: ...


@contextmanager
def emptied(tracer: Tracer, sink: Sink) -> Iterator[None]:
    """Take the spans to the sink once a second, and the last ones at the end."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(EVERY_S):
            empty(tracer, sink)
        empty(tracer, sink)

    thread = threading.Thread(target=run, name="spans", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def empty(tracer: Tracer, sink: Sink) -> None:
    spans = [tracer.kept.popleft() for _ in range(len(tracer.kept))]
    if spans:
        with suppress(OSError):  # a full disk or an absent collector costs spans, never calls
            sink.write(spans)


class SpanFile:
    """Spans as JSON lines. At 8 MiB the file becomes `.1` and a new one begins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, spans: Sequence[Span]) -> None:
        if self._path.exists() and self._path.stat().st_size > MOST_FILE_BYTES:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        with self._path.open("a") as file:
            file.writelines(json.dumps(line(span)) + "\n" for span in spans)


def line(span: Span) -> dict[str, object]:
    return {
        "trace": f"{span.trace_id:032x}",
        "span": f"{span.span_id:016x}",
        "parent": f"{span.parent_id:016x}" if span.parent_id else "",
        "name": span.name,
        "kind": "CLIENT" if span.outgoing else "SERVER",
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "fault": span.fault,
    }


class Collector:
    """Spans by OTLP over HTTP."""

    def __init__(self, url: str, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource

        self._exporter = OTLPSpanExporter(endpoint=url, timeout=5)
        self._resource = Resource({"service.name": service})

    def write(self, spans: Sequence[Span]) -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        def context(trace_id: int, span_id: int) -> SpanContext:
            return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(1))

        self._exporter.export(
            [
                ReadableSpan(
                    name=span.name,
                    context=context(span.trace_id, span.span_id),
                    parent=context(span.trace_id, span.parent_id) if span.parent_id else None,
                    resource=self._resource,
                    kind=SpanKind.CLIENT if span.outgoing else SpanKind.SERVER,
                    status=Status(StatusCode.ERROR, span.fault) if span.fault else Status(StatusCode.OK),
                    start_time=span.start_ns,
                    end_time=span.end_ns,
                )
                for span in spans
            ]
        )
