"""The one door to traces (OpenTelemetry), metrics (Prometheus) and logs (structlog). Every metric stands here.

Logs go to stdout, one JSON object a line. Traces go to a collector by OTLP, or to a file of bounded size.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from services.common.config import RoomConfig

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
MOST_FILE_BYTES = 8 * 1024 * 1024

Log = structlog.stdlib.BoundLogger


class Sight:
    """What a room shows of itself."""

    def __init__(self, provider: TracerProvider, registry: CollectorRegistry, trace_ratio: float) -> None:
        self._tracer = provider.get_tracer("soma")
        self._ratio = trace_ratio
        self.rpc_seconds = Histogram(
            "soma_rpc_seconds", "Time of served calls.", ["method", "code"], buckets=SECONDS, registry=registry
        )
        self.rpcs_running = Gauge("soma_rpcs_running", "Calls being served.", ["method"], registry=registry)
        self.turns_running = Gauge("soma_turns_running", "Turns being answered.", registry=registry)
        self.turns_ended = Counter("soma_turns_ended_total", "Turns by how they ended.", ["state"], registry=registry)
        self.first_token_seconds = Histogram(
            "soma_first_token_seconds", "Time to the first text.", ["provider"], buckets=SECONDS, registry=registry
        )
        self.tokens = Counter("soma_tokens_total", "Tokens by way.", ["provider", "model", "way"], registry=registry)
        self.cost = Counter("soma_cost_microusd_total", "Money spent on models.", ["provider"], registry=registry)
        self.fallbacks = Counter("soma_fallbacks_total", "Models left for others.", ["provider"], registry=registry)

    @contextmanager
    def span(self, name: str, traceparent: str, *, outgoing: bool = False) -> Iterator[str]:
        """A span that goes on the caller's trace, of a call that is served or, outgoing, made. Yields the traceparent
        to pass along. Free when not sampled."""
        known = parse(traceparent)
        if not (known[2] if known else random.random() < self._ratio):  # noqa: S311 - chance, not a secret
            yield traceparent or format_traceparent(secrets.randbits(128), secrets.randbits(64), sampled=False)
            return
        kind = SpanKind.CLIENT if outgoing else SpanKind.SERVER
        span = self._tracer.start_span(name, context_of(known), kind)
        try:
            yield format_traceparent(span.get_span_context().trace_id, span.get_span_context().span_id, sampled=True)
        except BaseException as fault:
            span.set_status(StatusCode.ERROR, type(fault).__name__)
            raise
        finally:
            span.end()


def context_of(parent: tuple[int, int, bool] | None) -> Context:
    """What a span begins under: the caller's span, or nothing. Never what happens to be current in this task."""
    if parent is None:
        return Context()
    above = SpanContext(parent[0], parent[1], is_remote=True, trace_flags=TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(above), Context())


def parse(traceparent: str) -> tuple[int, int, bool] | None:
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
    return f"00-{trace_id:032x}-{span_id:016x}-{int(sampled):02x}"


@contextmanager
def open_telemetry(config: RoomConfig, room: str) -> Iterator[Sight]:
    """Logs to stdout, traces to where the configuration says, metrics on their own port if one is given."""
    begin_logs(room)
    provider = TracerProvider(resource=Resource({"service.name": f"soma-{room}"}))
    exporter = exporter_of(config, room)
    if exporter:
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4096))
    registry = CollectorRegistry()
    server = None
    if config.metrics_listen:
        host, _, port = config.metrics_listen.rpartition(":")
        server, _ = start_http_server(int(port), host, registry)
    try:
        yield Sight(provider, registry, config.trace_ratio if exporter else 0.0)
    finally:
        provider.shutdown()
        if server:
            server.shutdown()


def begin_logs(room: str) -> None:
    """structlog for ours, the standard library's warnings beside them, each line JSON with time, room and level."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format='{"level":"warning","event":%(message)r}')
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            lambda _, __, event: {"room": room, **event},
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )


def log() -> Log:
    logger: Log = structlog.get_logger()
    return logger


def exporter_of(config: RoomConfig, room: str) -> SpanExporter | None:
    if config.otlp_url:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=config.otlp_url, timeout=5)
    return SpanFile(config.telemetry_dir / f"{room}.traces.jsonl") if config.telemetry_dir else None


class SpanFile(SpanExporter):
    """Spans as JSON lines. At 8 MiB the file becomes `.1` and a new one begins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            if self._path.exists() and self._path.stat().st_size > MOST_FILE_BYTES:
                self._path.replace(self._path.with_suffix(".jsonl.1"))
            with self._path.open("a") as file:
                file.writelines(json.dumps(span_line(span)) + "\n" for span in spans)
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def span_line(span: ReadableSpan) -> dict[str, object]:
    return {
        "trace": f"{span.context.trace_id:032x}",
        "span": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else "",
        "name": span.name,
        "kind": span.kind.name,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
    }
