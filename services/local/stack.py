"""One mesh on one machine: its folder, its ports, its passwords. Made on the first start, the same ever after."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.modes import Mode
from services.local import event_log
from services.local.event_log import Choice
from services.local.fault import Fault, of_disk
from services.local.files import write_whole
from services.local.https import Https, Wish, load, settle
from services.local.ports import free_port, is_free
from services.local.process import listener

FORMAT = "1"
TRUST_DOMAIN, NAMESPACE = "soma.local", "soma"
EDGE_PORT, GRPC_PORT = 8080, 8443
GRPC = "edge_grpc"
"""The name of the port at which the edge serves gRPC."""
ROOMS = ("router", "agent", "canvas", "console", "workers")
PARTS = ("edge", "local", "supervisor", "postgres", "valkey", "kafka", "issuer", "model", *ROOMS)
"""Names that no program from outside is given."""
INNER = (
    "postgres", "valkey", "kafka", "kafka_controller", "issuer", "model", "embeddings", *ROOMS,
    *(f"{room}_metrics" for room in ROOMS), "edge_admin", GRPC,
)  # fmt: skip
SECRETS = ("postgres", "valkey", "kafka", *(f"soma_{room}" for room in ROOMS))
FOLDERS = ("run", "logs", "telemetry", "secrets", "keys", "archive", "authority", "issuer", "peers", "https")
OURS = (
    "postgres", "postgres.half", "valkey", "kafka", "log.json", "passwords.json", "providers.toml", "sdk", *FOLDERS,
    "version",
)  # fmt: skip
HELD = 3
"""The exit code of a second supervisor of one folder."""
LEAST_FREE_BYTES = 200 * 1024 * 1024
ASKING_S = 0.1
SOCKET_BYTES = 100
"""A unix socket's path may have 107; the longest name of ours fits into the rest."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where everything of one mesh is. `ports` and `passwords` go by the name of the part."""

    home: Path
    ports: Mapping[str, int]
    passwords: Mapping[str, str]
    mode: Mode = Mode.DEVELOPER
    https: Https | None = None
    log: Choice = Choice()  # noqa: RUF009 - it is frozen

    @property
    def url(self) -> str:
        scheme, name, usual = ("https", self.https.host, 443) if self.https else ("http", "localhost", 80)
        port, host = self.ports["edge"], f"[{name}]" if ":" in name else name
        return f"{scheme}://{host}" if port == usual else f"{scheme}://{host}:{port}"

    @property
    def grpc(self) -> str:
        """Where programs with an SVID call by gRPC."""
        return f"localhost:{self.ports[GRPC]}"

    @property
    def https_ca(self) -> str:
        """The CA of this machine, when the edge's certificate is its; else empty."""
        return str(self.https.trust) if self.https and self.https.trust.parent == self.home / "https" else ""

    @property
    def issuer(self) -> str:
        """`iss` of people's tokens: the edge serves it."""
        return f"{self.url}/oidc"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def workload_socket(self) -> Path:
        return sockets_of(self.home) / "workload.sock"

    @property
    def control_socket(self) -> Path:
        return control_socket_of(self.home)

    @property
    def edge_file(self) -> Path:
        return self.run / "envoy.yaml"

    @property
    def valkey_file(self) -> Path:
        return self.run / "valkey.conf"

    @property
    def secrets_for_edge(self) -> Path:
        return self.run / "sds"

    @property
    def peers(self) -> Path:
        """Bundles of other trust domains, a file each."""
        return self.home / "peers"

    @property
    def keys_url(self) -> str:
        """Where tenants' keys are."""
        return f"file://{self.home / 'keys' / 'tenants'}"

    def address(self, part: str) -> str:
        return f"127.0.0.1:{self.ports[part]}"


def open_stack(
    home: Path,
    edge_port: int | None,
    mode: Mode,
    grpc_port: int | None = None,
    https: Wish = None,
    log: str | None = None,
) -> Stack:
    """The mesh of a folder, made when there is none. Ports that someone else took in the meantime are chosen anew."""
    try:
        for folder in (home, *(home / name for name in FOLDERS)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_sockets(home)
        if shutil.disk_usage(home).free < LEAST_FREE_BYTES:
            raise Fault(f"The disk that holds {home} is full. Free some space, or choose another folder with --data.")
        check_version(home)
        ports = choose_ports(_read(home / "run/ports.json"), edge_port, grpc_port)
        old = _read(home / "passwords.json")
        secured, choice = settle(home, https), event_log.settle(home, log)
        passwords = {name: str(old.get(name) or secrets.token_urlsafe(24)) for name in SECRETS}
        write_whole(home / "run/ports.json", json.dumps(ports, indent=1).encode())
        write_whole(home / "passwords.json", json.dumps(passwords, indent=1).encode())
    except OSError as error:
        raise of_disk(error, home) from error
    return Stack(home, ports, passwords, mode, secured, choice)


def load_stack(home: Path) -> Stack:
    """The mesh of a folder as it was started last."""
    if not (home / "version").exists():
        raise Fault(f"There is no mesh in {home}. Start one with: soma up")
    check_version(home)
    ports, passwords = _read(home / "run/ports.json"), _read(home / "passwords.json")
    if not ports or not passwords:
        raise Fault(f"The mesh in {home} has not been started yet. Run: soma up")
    ports_by_name = {name: int(str(port)) for name, port in ports.items()}
    return Stack(
        home, ports_by_name, {k: str(v) for k, v in passwords.items()}, https=load(home), log=event_log.load(home)
    )


def check_version(home: Path) -> None:
    """Refuse a folder that another release wrote; mark a new one."""
    version = home / "version"
    if not version.exists():
        version.write_text(f"{FORMAT}\n")
    found = version.read_text().strip()
    if found != FORMAT:
        raise Fault(
            f"{home} has format {found[:20]!r}; this release reads {FORMAT}. "
            "Use the release that made it, or choose another folder with --data."
        )


def choose_ports(old: Mapping[str, object], edge_port: int | None, grpc_port: int | None = None) -> dict[str, int]:
    """The ports of last time as far as they are free. What the caller says must be free, and so must the edge's be."""
    edge = edge_port or int(str(old.get("edge", EDGE_PORT)))
    demand_free(edge, "--port")
    if grpc_port == edge:
        raise Fault(f"Port {edge} cannot be for both --port and --grpc-port. Choose two.")
    if grpc_port:
        demand_free(grpc_port, "--grpc-port")
    ports = {"edge": edge}
    wanted = {name: old.get(name, 0) for name in INNER} | {GRPC: grpc_port or old.get(GRPC, GRPC_PORT)}
    for name, last in wanted.items():
        port = int(str(last))
        while not port or port in ports.values() or not is_free(port):
            port = free_port()
        ports[name] = port
    return ports


def demand_free(port: int, option: str) -> None:
    if not is_free(port):
        raise Fault(
            f"Port {port} is taken by {listener(port)}. Choose another one: soma up {option} {_next_free(port)}"
        )


def sockets_of(home: Path) -> Path:
    """The folder for unix sockets. A deep home has one of its own among the system's folders for such things."""
    near = home / "run"
    if len(os.fsencode(near)) + len("/supervisor.sock") <= SOCKET_BYTES:
        return near
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"soma-{os.getuid()}-{name}"


def make_sockets(home: Path) -> None:
    """Make that folder for us alone. Fault when someone else was there first."""
    folder = sockets_of(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Fault(f"{folder} belongs to someone else. Choose a folder with a shorter path with --data.")


def drop_sockets(home: Path) -> None:
    """Leave nothing among the system's folders."""
    if sockets_of(home) != home / "run":
        with contextlib.suppress(OSError):
            sockets_of(home).rmdir()


def control_socket_of(home: Path) -> Path:
    return sockets_of(home) / "supervisor.sock"


def tenants_file(home: Path) -> Path:
    """Names of tenants, one a line: whose demo accounts the sign-in page offers."""
    return home / "issuer/tenants"


@contextmanager
def held(home: Path) -> Iterator[bool]:
    """Be the one supervisor of a folder for as long as the block; yields False when there is one already."""
    (home / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "run/supervisor.lock").open("w") as lock:
        yield _locked(lock.fileno())


def is_supervised(home: Path) -> bool:
    """Whether a supervisor lives there."""
    try:
        with (home / "run/supervisor.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _read(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _locked(file: int) -> bool:
    """Take the lock; one who only asks holds it for a moment, which is waited for."""
    deadline = time.monotonic() + ASKING_S
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)


def _next_free(port: int) -> int:
    return next((p for p in range(port + 1, 65536) if is_free(p)), free_port())
