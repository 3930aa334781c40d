"""What a room shows of itself: where its logs and traces begin, and the one door to metrics. Every metric stands here.

Logs go to stdout, one JSON object a line.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from services.common.config import RoomConfig
from services.common.lines import begin
from services.common.lines import log as log
from services.common.spans import Collector, Sink, SpanFile, Tracer, emptied

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Sight:
    """What a room shows of itself."""

    def __init__(self, tracer: Tracer, registry: CollectorRegistry) -> None:
        self.span = tracer.span
        self._calls(registry)
        self._turns(registry)
        self._models(registry)
        self._relay(registry)
        self._consumers(registry)
        self._archive(registry)
        self._trail(registry)
        self._slos(registry)
        self._reconcile(registry)
        self._trainer(registry)

    def _calls(self, registry: CollectorRegistry) -> None:
        self.rpc_seconds = Histogram(
            "soma_rpc_seconds", "Time of served calls.", ["method", "code"], buckets=SECONDS, registry=registry
        )
        self.rpcs_running = Gauge("soma_rpcs_running", "Calls being served.", ["method"], registry=registry)

    def _turns(self, registry: CollectorRegistry) -> None:
        self.turns_running = Gauge("soma_turns_running", "Turns being answered.", registry=registry)
        self.turns_ended = Counter("soma_turns_ended_total", "Turns by how they ended.", ["state"], registry=registry)

    def _models(self, registry: CollectorRegistry) -> None:
        self.first_token_seconds = Histogram(
            "soma_first_token_seconds", "Time to the first text.", ["provider"], buckets=SECONDS, registry=registry
        )
        self.tokens = Counter("soma_tokens_total", "Tokens by way.", ["provider", "model", "way"], registry=registry)
        self.cost = Counter("soma_cost_microusd_total", "Money spent on models.", ["provider"], registry=registry)
        self.overrun = Counter(
            "soma_overrun_microusd_total", "Money that providers billed and no budget had room for.", ["provider"],
            registry=registry,
        )  # fmt: skip
        self.fallbacks = Counter("soma_fallbacks_total", "Models left for others.", ["provider"], registry=registry)
        self.model_closed = Gauge(
            "soma_model_closed", "1 while a model rests, or its provider asked for a pause.", ["provider", "model"],
            registry=registry,
        )  # fmt: skip
        self.live_shared = Gauge(
            "soma_live_shared", "1 while this router hears how models do at the others.", registry=registry
        )
        self.policy_refused = Gauge(
            "soma_policy_refused", "1 while the policy that should hold is corrupt.", ["tenant"], registry=registry
        )

    def _relay(self, registry: CollectorRegistry) -> None:
        self.relay_lag_seconds = Gauge(
            "soma_relay_lag_seconds", "Age of the oldest event that is not in the log yet.", registry=registry
        )
        self.relay_events = Counter(
            "soma_relay_events_total", "Events that came into the log.", ["topic"], registry=registry
        )
        self.relay_aside = Counter(
            "soma_relay_aside_total", "Events that no log takes, set aside.", ["topic"], registry=registry
        )

    def _consumers(self, registry: CollectorRegistry) -> None:
        self.consumer_lag = Gauge(
            "soma_consumer_lag_events", "Events that a group has before it.", ["group", "topic"], registry=registry
        )
        self.consumer_events = Counter(
            "soma_consumer_events_total", "Events by what became of them.", ["group", "outcome"], registry=registry
        )
        self.consumer_retries = Gauge(
            "soma_consumer_retries", "Events that wait to be tried again.", ["group"], registry=registry
        )
        self.consumer_dead = Gauge("soma_consumer_dead", "Events that were given up.", ["group"], registry=registry)

    def _archive(self, registry: CollectorRegistry) -> None:
        self.archive_age = Gauge(
            "soma_archive_age_seconds", "Age of the oldest event read that is not in the archive.", registry=registry
        )
        self.archive_stopped = Gauge(
            "soma_archive_stopped", "Partitions that are archived no further.", registry=registry
        )
        self.archive_objects = Counter(
            "soma_archive_objects_total", "Objects written, read back and right.", ["topic"], registry=registry
        )

    def _trail(self, registry: CollectorRegistry) -> None:
        self.audit_sealed = Counter("soma_audit_sealed_total", "Audit events that got their leaf.", registry=registry)
        self.audit_head_size = Gauge(
            "soma_audit_head_size", "Leaves under the newest signed head.", ["tenant"], registry=registry
        )
        self.audit_head_time = Gauge(
            "soma_audit_head_time_seconds", "When it was signed, in Unix time.", ["tenant"], registry=registry
        )
        self.audit_seal_seconds = Histogram(
            "soma_audit_seal_seconds", "Age of a batch's oldest event when its head was signed.", buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.siem_sent = Counter("soma_siem_sent_total", "Audit events that the SIEM has taken.", registry=registry)

    def _slos(self, registry: CollectorRegistry) -> None:
        self.slo_met = Gauge("soma_slo_met", "1 when the mesh meets the SLO over 30 days.", ["slo"], registry=registry)
        self.slo_ratio = Gauge("soma_slo_ratio", "The share of 30 days that is good.", ["slo"], registry=registry)
        self.slo_burn = Gauge(
            "soma_slo_burn", "What is bad, in shares of what may be.", ["slo", "window"], registry=registry
        )
        self.slo_alerts = Gauge(
            "soma_slo_alerts", "Tenants for whom it is missed, or will be soon.", ["slo"], registry=registry
        )

    def _reconcile(self, registry: CollectorRegistry) -> None:
        self.reconcile_findings = Gauge(
            "soma_reconcile_findings", "What disagreed with the log when last compared.", ["kind"], registry=registry
        )
        self.reconcile_repaired = Counter(
            "soma_reconcile_repaired_total", "What of it was put right.", ["kind"], registry=registry
        )
        self.reconcile_time = Gauge(
            "soma_reconcile_time_seconds", "When it was last compared, in Unix time.", registry=registry
        )

    def _trainer(self, registry: CollectorRegistry) -> None:
        self.trainings = Counter(
            "soma_trainings_total", "Trainings by what came of them: activated, or why not.", ["outcome"],
            registry=registry,
        )  # fmt: skip


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


GRPC_WIRE, BAD_METADATA = "grpc._cython.cygrpc", "Invalid encoding on"
"""grpcio logs metadata that is no UTF-8 as it came: a token with a stray byte in it would stand in the log."""


def begin_logs(room: str) -> None:
    """Ours, and the standard library's warnings beside them, each line JSON with time, room and level."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format='{"level":"warning","event":%(message)r}')
    logging.getLogger(GRPC_WIRE).addFilter(lambda record: not str(record.msg).startswith(BAD_METADATA))
    begin(room=room)
