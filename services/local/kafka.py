"""A real Kafka on one machine: its jars by Maven, its folder, its command."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from string import Template

from services.local.fault import Fault
from services.local.files import write_whole
from services.local.ready import Listens

MESH = Path(__file__).resolve().parents[2] / "mesh/kafka"
JAVA = 17
USER = "soma"
QUIET = "-Dorg.apache.logging.log4j.level=WARN"
"""At INFO a start writes 370 kB of settings."""
SERVER = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")
FETCH_S, FORMAT_S = 600.0, 60.0


def fetch(folder: Path, say: Callable[[str], None]) -> None:
    """Bring the broker's jars into the folder, once. Fault when Java or Maven is missing or the jars do not come. Who
    else wants them there at the same time waits for the first."""
    java()
    jars = jars_of(folder)
    for place in (folder.parent, folder):  # of what it makes above, mkdir gives the mode to none
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with jars.with_name(f"{jars.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            bring(jars, say)


def bring(jars: Path, say: Callable[[str], None]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Fault(f"Maven brings Kafka's jars and is missing. {advice('maven')}")
    say("Fetching Kafka's jars by Maven, once: 44 MB.")
    half = jars.with_name(f"{jars.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o700)
    wish = ["dependency:copy-dependencies", f"-DoutputDirectory={half}"]
    words = [maven, "-q", "-B", "-f", str(MESH / "pom.xml"), *wish]
    result = subprocess.run(words, capture_output=True, text=True, timeout=FETCH_S, check=False)  # noqa: S603
    if result.returncode != 0:
        said = next((line for line in result.stdout.splitlines() if "ERROR" in line), "it gave no reason")
        raise Fault(f"Maven could not bring Kafka's jars: {said.removeprefix('[ERROR] ')[:300]}")
    half.rename(jars)


def prepare(folder: Path, port: int, controller: int, password: str) -> None:
    """Write the settings, which hold the password, and on the first start make the data folder."""
    data = folder / "data"
    told = {"port": port, "controller": controller, "password": password, "data": data.absolute()}
    settings = Template((MESH / "server.properties").read_text()).substitute(told)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(settings_of(folder), settings.encode())
    if not (data / "meta.properties").exists():
        make(folder)


def make(folder: Path) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    words = [
        java(), "-Xmx64m", "-XX:TieredStopAtLevel=1", QUIET, "-cp", class_path(folder), "kafka.tools.StorageTool",
        "format", "--ignore-formatted", f"--cluster-id={cluster}", "-c", str(settings_of(folder)),
    ]  # fmt: skip
    result = subprocess.run(words, capture_output=True, text=True, timeout=FORMAT_S, check=False)  # noqa: S603
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip().splitlines() or ["it gave no reason"]
        raise Fault(f"Kafka cannot use the folder {folder}: {said[-1][:300]}")


def command(folder: Path) -> tuple[str, ...]:
    """The broker in the foreground; it writes its log to stdout. SIGTERM stops it in order."""
    return (
        shutil.which("java") or "java",
        *SERVER,
        QUIET,
        "-cp",
        class_path(folder),
        "kafka.Kafka",
        str(settings_of(folder)),
    )


def ready(port: int) -> Listens:
    """The broker opens its port when it can be used."""
    return Listens(port)


def url(port: int, password: str) -> str:
    return f"kafka://{USER}:{password}@127.0.0.1:{port}"


def java() -> str:
    """The program. Fault when there is none, or an old one."""
    found = shutil.which("java")
    if found is None:
        raise Fault(f"Kafka needs Java {JAVA} or newer, which is missing. {advice(f'openjdk-{JAVA}-jre-headless')}")
    said = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr  # noqa: S603
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) < JAVA:
        words = version[0] if version else "no version"
        raise Fault(f"Kafka needs Java {JAVA} or newer; {found} says {words}. {advice(f'openjdk-{JAVA}-jre-headless')}")
    return found


def advice(package: str) -> str:
    return f"Install it (apt-get install {package}), or keep the log in Postgres: soma up --log postgres"


def class_path(folder: Path) -> str:
    return f"{jars_of(folder)}/*"


def jars_of(folder: Path) -> Path:
    """Named by the pom, so that another one brings its own."""
    return folder / f"jars-{hashlib.sha256((MESH / 'pom.xml').read_bytes()).hexdigest()[:8]}"


def settings_of(folder: Path) -> Path:
    return folder / "server.properties"
