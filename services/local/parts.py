"""The parts of the mesh as they are started here: what each is, its command, its environment, when it is ready."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from services.common.modes import ALLOWS
from services.local import kafka, postgres, valkey
from services.local.event_log import KAFKA
from services.local.fault import Fault
from services.local.ready import Answers, Listens, Ready, Runs, Serves
from services.local.stack import Stack, tenants_file
from services.local.wheels import envoy_program

ENGINES = {
    "OPENBLAS_NUM_THREADS": "1",  # numpy's threads spin while they wait, and all rooms share the cores
    "MALLOC_ARENA_MAX": "2",  # threads that wait for the GIL anyway need no memory each of their own
    "MALLOC_MMAP_THRESHOLD_": "131072",  # fixed: else one large file read raises it, and holes stay in the heap
}
SCHEMA, IDENTITIES = "schema", "identities"
"""What rooms wait for besides parts: the database is brought up to date, and the Workload API serves."""


@dataclass(frozen=True, slots=True)
class Part:
    """One program of the mesh."""

    name: str
    says: str
    """What it is, for a person."""
    command: tuple[str, ...]
    port: int
    ready: Ready
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    """What must be ready before it is started."""
    stop_signal: int = signal.SIGTERM
    grace_s: float = 10.0

    @property
    def is_room(self) -> bool:
        """Rooms have an identity of their own."""
        return isinstance(self.ready, Serves)


def parts_of(stack: Stack) -> tuple[Part, ...]:
    """All parts, in the order in which a person would name them."""
    if not ALLOWS[stack.mode].dev_issuer:
        raise Fault(
            f"In mode {stack.mode} people sign in at an issuer of their own: one machine serves DEVELOPER and TEST."
        )
    log = (kafka_part(stack),) if stack.log.with_kafka else ()
    return (
        postgres_part(stack), valkey_part(stack), *log, issuer_part(stack), model_part(stack), router_part(stack),
        canvas_part(stack), agent_part(stack), console_part(stack), workers_part(stack), edge_part(stack),
    )  # fmt: skip


def postgres_part(stack: Stack) -> Part:
    port = stack.ports["postgres"]
    return Part(
        "postgres", "what must not be lost", postgres.command(stack.home / "postgres", port), port,
        Runs(postgres.ready_command(port)), stop_signal=signal.SIGINT,
    )  # fmt: skip


def valkey_part(stack: Stack) -> Part:
    port, password = stack.ports["valkey"], stack.passwords["valkey"]
    return Part("valkey", "what is live", valkey.command(stack.valkey_file), port, valkey.ready(port, password))


def kafka_part(stack: Stack) -> Part:
    port, says = stack.ports["kafka"], "the event log" if stack.log.engine == KAFKA else "what is left of the event log"
    return Part("kafka", says, kafka.command(stack.home / "kafka"), port, Listens(port))


def issuer_part(stack: Stack) -> Part:
    port = stack.ports["issuer"]
    environment = {
        "SOMAGENT_MODE": stack.mode,
        "SOMA_LISTEN": stack.address("issuer"),
        "SOMA_ISSUER": stack.issuer,
        "SOMA_AUDIENCE": "soma",
        "SOMA_ISSUER_DIR": str(stack.home / "issuer"),
        "SOMA_TENANTS": str(tenants_file(stack.home)),
    }
    ready = Answers(port, "/oidc/.well-known/openid-configuration")
    return Part("issuer", "sign-in for developers", module("services.local.issuer"), port, ready, environment)


def model_part(stack: Stack) -> Part:
    """Where the scripted model answers, this one makes vectors alone."""
    speaks = not ALLOWS[stack.mode].scripted_model
    environment = {
        "SOMA_LISTEN": stack.address("model") if speaks else "",
        "SOMA_EMBEDDINGS_LISTEN": stack.address("embeddings"),
    }
    port = stack.ports["model" if speaks else "embeddings"]
    return Part(
        "model", "small models of its own", module("services.local.model"), port, Answers(port, "/health"), environment
    )


def router_part(stack: Stack) -> Part:
    environment = room_environment(stack, "router") | {
        "SOMA_PROVIDERS_FILE": str(stack.home / "providers.toml"),
        "SOMA_SECRETS_DIR": str(stack.home / "secrets"),
        "SOMA_EMBEDDINGS_URL": f"http://{stack.address('embeddings')}/v1",
    }
    if not ALLOWS[stack.mode].scripted_model:
        environment["SOMA_LOCAL_MODEL_URL"] = f"http://{stack.address('model')}/v1"
    return room_part(stack, "router", "chooses the model, holds the keys", environment)


def agent_part(stack: Stack) -> Part:
    environment = room_environment(stack, "agent") | {
        "SOMA_ROUTER": stack.address("router"),
        "SOMA_CANVAS": stack.address("canvas"),
    }
    return room_part(stack, "agent", "turns and conversations", environment)


def canvas_part(stack: Stack) -> Part:
    environment = room_environment(stack, "canvas") | {"SOMA_AGENT": stack.address("agent")}
    return room_part(stack, "canvas", "panes beside conversations", environment)


def console_part(stack: Stack) -> Part:
    return room_part(stack, "console", "the audit trail and its proofs", room_environment(stack, "console"))


def workers_part(stack: Stack) -> Part:
    environment = room_environment(stack, "workers") | archive_environment(stack)
    log = ("kafka",) if stack.log.engine == KAFKA else ()
    return room_part(stack, "workers", "what follows the event log", environment, *log)


def archive_environment(stack: Stack) -> dict[str, str]:
    """A folder, unless the caller names a bucket: then the workers alone get the credentials too."""
    if url := os.environ.get("SOMA_ARCHIVE_URL"):
        return {"SOMA_ARCHIVE_URL": url, **{name: os.environ[name] for name in os.environ if name.startswith("AWS_")}}
    return {"SOMA_ARCHIVE_URL": f"file://{quote(str(stack.home / 'archive'))}"}


def room_part(stack: Stack, room: str, says: str, environment: Mapping[str, str], *after: str) -> Part:
    port = stack.ports[room]
    return Part(
        room,
        says,
        module(f"services.{room}"),
        port,
        Serves(room),
        environment,
        (SCHEMA, IDENTITIES, "valkey", *after),
        grace_s=12,
    )


def edge_part(stack: Stack) -> Part:
    port = stack.ports["edge"]
    command = (
        str(envoy_program()), "--config-path", str(stack.edge_file), "--concurrency", "1",
        "--disable-hot-restart", "--log-level", "warning",
    )  # fmt: skip
    ready = Answers(stack.ports["edge_admin"], "/ready")
    return Part("edge", "the way in", command, port, ready, after=(IDENTITIES, "agent", "canvas", "console"), grace_s=5)


def room_environment(stack: Stack, room: str) -> dict[str, str]:
    """What services/common/config.py reads."""
    return {
        "SOMAGENT_MODE": stack.mode,
        "SOMA_LISTEN": stack.address(room),
        "SOMA_METRICS_LISTEN": stack.address(f"{room}_metrics"),
        "SPIFFE_ENDPOINT_SOCKET": f"unix://{stack.workload_socket}",
        "SOMA_ISSUER": stack.issuer,
        "SOMA_JWKS_URL": f"http://{stack.address('issuer')}/oidc/jwks",
        "SOMA_DATABASE_URL": database_url(stack, room),
        "SOMA_KEYS_URL": stack.keys_url,
        "SOMA_LOG_URL": log_url(stack, stack.log.engine),
        "SOMA_CACHE_URL": valkey.url(stack.ports["valkey"], stack.passwords["valkey"]),
        "SOMA_TELEMETRY_DIR": str(stack.home / "telemetry"),
        **ENGINES,
    }


def database_url(stack: Stack, room: str) -> str:
    """As the room itself."""
    return postgres.url(stack.ports["postgres"], stack.passwords[f"soma_{room}"], f"soma_{room}")


def log_url(stack: Stack, engine: str) -> str:
    return kafka.url(stack.ports["kafka"], stack.passwords["kafka"]) if engine == KAFKA else ""


def module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", name)
