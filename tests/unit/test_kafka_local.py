"""Which engine keeps the log is remembered, and what Kafka lacks on this machine is said in one sentence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.local import event_log, kafka
from services.local.event_log import KAFKA, POSTGRES, Choice, settle
from services.local.fault import Fault

JAVA_17 = "#!/bin/sh\necho 'openjdk version \"17.0.15\" 2025-04-15' >&2\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs that there is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin/nowhere")
    return folder


def program(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)


def test_postgres_keeps_the_log_until_another_is_wished_for_and_the_wish_is_remembered(tmp_path: Path) -> None:
    assert settle(tmp_path, None) == Choice(POSTGRES)
    assert not (tmp_path / "log.json").exists()
    assert settle(tmp_path, KAFKA) == settle(tmp_path, None) == settle(tmp_path, KAFKA) == Choice(KAFKA, POSTGRES)


def test_the_log_that_was_left_is_remembered_until_it_was_carried_over(tmp_path: Path) -> None:
    settle(tmp_path, KAFKA)
    event_log.keep(tmp_path, Choice(KAFKA))
    assert settle(tmp_path, POSTGRES) == settle(tmp_path, None) == Choice(POSTGRES, KAFKA)
    assert event_log.load(tmp_path).with_kafka, "it has to be read once more"


def test_a_change_that_was_not_carried_out_may_be_taken_back(tmp_path: Path) -> None:
    settle(tmp_path, KAFKA)
    assert settle(tmp_path, POSTGRES) == Choice(POSTGRES)


def test_without_java_it_is_said_what_to_install(tmp_path: Path, programs: Path) -> None:
    with pytest.raises(Fault, match=r"Java 17 or newer, which is missing. Install it \(apt-get install openjdk-17"):
        kafka.fetch(tmp_path / "kafka", print)


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_292"])
def test_an_old_java_is_refused_with_its_version(tmp_path: Path, programs: Path, version: str) -> None:
    program(programs / "java", JAVA_17.replace("17.0.15", version))
    with pytest.raises(Fault, match=r"needs Java 17 or newer; .*java says version"):
        kafka.fetch(tmp_path / "kafka", print)


def test_without_maven_it_is_said_what_to_install(tmp_path: Path, programs: Path) -> None:
    program(programs / "java", JAVA_17)
    with pytest.raises(Fault, match=r"Maven .* missing. Install it \(apt-get install maven\)"):
        kafka.fetch(tmp_path / "kafka", print)


def test_jars_that_do_not_come_leave_nothing_behind_that_looks_like_jars(tmp_path: Path, programs: Path) -> None:
    program(programs / "java", JAVA_17)
    program(programs / "mvn", "#!/bin/sh\necho '[ERROR] Could not resolve dependencies'; exit 1\n")
    said: list[str] = []
    with pytest.raises(Fault, match="Maven could not bring Kafka's jars: Could not resolve dependencies"):
        kafka.fetch(tmp_path / "kafka", said.append)
    assert said == ["Fetching Kafka's jars by Maven, once: 44 MB."]
    assert not kafka.jars_of(tmp_path / "kafka").exists()


def test_the_folder_that_is_made_on_the_way_is_for_its_owner_alone(tmp_path: Path, programs: Path) -> None:
    program(programs / "java", JAVA_17)
    program(programs / "mvn", "#!/bin/sh\n")
    kafka.fetch(tmp_path / "data/soma/kafka", print)
    assert {(tmp_path / "data/soma" / name).stat().st_mode & 0o077 for name in (".", "kafka")} == {0}


def test_jars_that_are_there_are_not_fetched_again(tmp_path: Path, programs: Path) -> None:
    program(programs / "java", JAVA_17)
    kafka.jars_of(tmp_path / "kafka").mkdir(parents=True)
    kafka.fetch(tmp_path / "kafka", pytest.fail)


def test_jars_that_several_want_at_once_are_fetched_once(tmp_path: Path, programs: Path) -> None:
    program(programs / "java", JAVA_17)
    program(programs / "mvn", f"#!/bin/sh\necho asked >> {tmp_path / 'asked'}\n")
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda _: kafka.fetch(tmp_path / "kafka", print), range(4), timeout=20))
    assert (tmp_path / "asked").read_text() == "asked\n"
