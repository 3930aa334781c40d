"""What a room shows of itself: where its logs and traces begin, and the one door to metrics. Every metric stands here.

Logs go to stdout, one JSON object a line.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from services.common.config import RoomConfig
from services.common.spans import Collector, Sink, SpanFile, Tracer, emptied

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

Log = structlog.stdlib.BoundLogger


class Sight:
    """What a room shows of itself."""

    def __init__(self, tracer: Tracer, registry: CollectorRegistry) -> None:
        self.span = tracer.span
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
def open_telemetry(config: RoomConfig, room: str) -> Iterator[Sight]:
    """Logs to stdout, traces to where the configuration says, metrics on their own port if one is given."""
    begin_logs(room)
    registry = CollectorRegistry()
    sink = sink_of(config, room)
    tracer = Tracer(config.trace_ratio if sink else 0.0)
    with ExitStack() as doors:
        if sink:
            doors.enter_context(emptied(tracer, sink))
        if config.metrics_listen:
            host, _, port = config.metrics_listen.rpartition(":")
            server, _ = start_http_server(int(port), host, registry)
            doors.callback(server.shutdown)
        yield Sight(tracer, registry)


def sink_of(config: RoomConfig, room: str) -> Sink | None:
    if config.otlp_url:
        return Collector(config.otlp_url, f"soma-{room}")
    return SpanFile(config.telemetry_dir / f"{room}.traces.jsonl") if config.telemetry_dir else None


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
