"""What every room is told by its environment. Rooms add their own fields to RoomConfig."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, field

from services.common.modes import Mode

S = TypeVar("S", bound="Settings")


class Misconfigured(ValueError):  # noqa: N818 - it is an answer
    """What is wrong with the environment, in one sentence."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename=lambda name: f"SOMA_{name.upper()}"):
    """Read from the environment: field `listen` is SOMA_LISTEN, and so on."""

    @classmethod
    def told(cls: type[S], environment: Mapping[str, str] = os.environ) -> S:
        """Raise Misconfigured for the first variable that is missing or wrong."""
        try:
            return msgspec.convert(dict(environment), cls, strict=False, dec_hook=lambda kind, text: kind(text))
        except msgspec.ValidationError as fault:
            what, _, where = str(fault).partition(" - at ")
            raise Misconfigured(f"{where.strip('`$.')}: {what}" if where else what) from fault


class RoomConfig(Settings, frozen=True, kw_only=True):
    """Wrong or missing values end the start."""

    mode: Mode = field(name="SOMAGENT_MODE")
    listen: str = "127.0.0.1:0"
    """host:port of the gRPC server."""
    metrics_listen: str = ""
    """host:port of Prometheus' /metrics; empty for none."""
    spiffe_socket: str = field(name="SPIFFE_ENDPOINT_SOCKET")
    """unix:///path of the Workload API."""
    trust_domain: str = "soma.local"
    namespace: str = "soma"
    issuer: str
    """`iss` of people's tokens."""
    audience: str = "soma"
    jwks_url: str
    """Where the issuer's keys are."""
    database_url: str
    """postgresql://room-role:password@host:port/database"""
    keys_url: Annotated[str, Meta(pattern=r"^(file:///|vault\+https?://).")]
    """Where tenants' keys are: file:///folder, or vault+https://host:port/mount (`vault`)."""
    log_url: str = ""
    """kafka://host:port,… for the event log; empty: Postgres is the log."""
    cache_url: str = ""
    """redis://:password@host:port/0; empty for none."""
    otlp_url: str = ""
    """Where traces go by OTLP over HTTP; empty writes files under telemetry_dir."""
    telemetry_dir: Path | None = None
    trace_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of traces that is kept."""
    drain_s: float = 8.0
    """How long running calls get after SIGTERM."""
    longest_call_s: float = 330.0
    """No call runs longer: what an old connection gets to end in after a rotation."""
