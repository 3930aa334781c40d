"""What every room is told by its environment. Rooms add their own fields to RoomConfig."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.modes import Mode


class RoomConfig(BaseSettings):
    """Read from the environment: field `listen` is SOMA_LISTEN, and so on. Wrong or missing values end the start."""

    model_config = SettingsConfigDict(env_prefix="SOMA_", frozen=True)

    mode: Mode = Field(validation_alias="SOMAGENT_MODE")
    listen: str = "127.0.0.1:0"
    """host:port of the gRPC server."""
    metrics_listen: str = ""
    """host:port of Prometheus' /metrics; empty for none."""
    spiffe_socket: str = Field(validation_alias="SPIFFE_ENDPOINT_SOCKET")
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
    keys_url: str = Field(pattern=r"^(file:///|vault\+https?://).")
    """Where tenants' keys are: file:///folder, or vault+https://host:port/mount (`vault`)."""
    log_url: str = ""
    """kafka://host:port,… for the event log; empty: Postgres is the log."""
    cache_url: str = ""
    """redis://:password@host:port/0; empty for none."""
    otlp_url: str = ""
    """Where traces go by OTLP over HTTP; empty writes files under telemetry_dir."""
    telemetry_dir: Path | None = None
    trace_ratio: float = Field(default=1.0, ge=0, le=1)
    """The share of traces that is kept."""
    drain_s: float = 8.0
    """How long running calls get after SIGTERM."""
    longest_call_s: float = 330.0
    """No call runs longer: what an old connection gets to end in after a rotation."""
