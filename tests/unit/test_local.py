"""The pure parts of `soma`: ports, sockets, logs, figures."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from services.common.modes import Mode
from services.local import leftovers
from services.local.commands.chat import dollars
from services.local.commands.logs import news, timed
from services.local.commands.progress import ago
from services.local.fault import Fault
from services.local.logs import MOST_BYTES, cut_large, last_words, open_log, tail
from services.local.ports import free_port, is_free
from services.local.process import Process
from services.local.stack import INNER, SOCKET_BYTES, choose_ports, control_socket_of, open_stack


def test_ports_stay_the_same_until_someone_else_has_one() -> None:
    first = choose_ports({}, free_port())
    assert choose_ports(first, None) == first
    assert len(set(first.values())) == len(INNER) + 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["agent"]))
        taken.listen()
        second = choose_ports(first, None)
    assert second["agent"] != first["agent"]
    assert {**second, "agent": 0} == {**first, "agent": 0}


def test_no_port_is_given_twice_before_all_others_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_PORTS", "31000-31039")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 31007))
        free = set(filter(is_free, range(31000, 31040)))
        assert {free_port() for _ in free} == free


def test_where_every_port_is_taken_the_person_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port := free_port()))
        monkeypatch.setenv("SOMA_PORTS", f"{port}-{port}")
        with pytest.raises(Fault, match=f"Every port of {port}-{port} is taken. Name others"):
            free_port()


@pytest.mark.parametrize("said", ["", "31000", "31007-31000", "0-99", "a-b", "65000-65536"])
def test_ports_that_are_none_are_refused_in_words(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("SOMA_PORTS", said)
    with pytest.raises(Fault, match="SOMA_PORTS is a first and a last port"):
        free_port()


def test_passwords_are_made_once_and_differ(tmp_path: Path) -> None:
    port = free_port()
    first = open_stack(tmp_path / "soma", port, Mode.TEST)
    assert open_stack(tmp_path / "soma", port, Mode.TEST) == first
    assert len(set(first.passwords.values())) == len(first.passwords)
    assert open_stack(tmp_path / "other", port, Mode.TEST).passwords != first.passwords


@pytest.mark.parametrize("depth", [1, 30, 200])
def test_a_socket_is_never_longer_than_the_kernel_allows(tmp_path: Path, depth: int) -> None:
    home = tmp_path / ("x" * depth)
    found = control_socket_of(home)
    assert len(os.fsencode(found)) <= SOCKET_BYTES
    assert found == control_socket_of(home)
    assert found != control_socket_of(tmp_path / "y")


def test_a_pid_that_was_given_to_another_process_is_not_the_same_process() -> None:
    me = Process.of(os.getpid())
    assert me is not None
    assert me.is_alive
    assert not Process(me.pid, f"{me.born}0").is_alive
    assert Process.of(2**22 + 1) is None


def test_what_a_supervisor_wrote_down_is_read_back_without_the_dead_and_without_rubbish(tmp_path: Path) -> None:
    me = Process.of(os.getpid())
    assert me is not None
    leftovers.write(tmp_path, [me, Process(me.pid, "another time")])
    assert leftovers.read(tmp_path) == [me]
    (tmp_path / leftovers.FILE).write_text("[[1")
    assert leftovers.read(tmp_path) == []


def test_a_log_that_grew_too_large_is_cut_under_its_writer(tmp_path: Path) -> None:
    file = open_log(tmp_path, "agent")
    try:
        os.write(file, b"x" * (MOST_BYTES + 1))
        cut_large(tmp_path)
        os.write(file, b"after\n")
    finally:
        os.close(file)
    assert (tmp_path / "agent.log").read_bytes() == b"after\n"
    assert (tmp_path / "agent.log.1").stat().st_size == MOST_BYTES + 1


def test_the_last_words_are_those_of_the_last_life(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text("an old life\n")
    assert last_words(log, log.stat().st_size) == ""
    assert last_words(tmp_path / "none.log", 0) == ""
    with log.open("a") as file:
        file.write("ValueError: no\n\n")
    assert last_words(log, 12) == "ValueError: no"
    assert tail(log, 2) == ["ValueError: no", ""]


def test_following_a_log_gives_whole_lines_once_and_survives_a_cut(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text("one\ntw")
    seen, lines = news(log, 0)
    assert lines == ["one"]
    log.write_text("one\ntwo\n")
    seen, lines = news(log, seen)
    assert lines == ["two"]
    assert news(log, seen) == (seen, [])
    log.write_text("new\n")
    assert news(log, seen)[1] == ["new"]


def test_lines_without_a_time_stay_with_the_line_before_them() -> None:
    lines = ['{"timestamp": "2026-11-22T15:20:34.899Z"}', "Traceback", "[2026-11-22 16:00:00.000][1] envoy"]
    assert [moment for moment, _, _ in timed("x", lines)] == [
        "2026-11-22T15:20:34.899", "2026-11-22T15:20:34.899", "2026-11-22T16:00:00.000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("microusd", "shown"), [(0, "$0"), (1, "$0.000001"), (45, "$0.000045"), (1_250_000, "$1.25"), (2_000_000, "$2")]
)
def test_money_is_shown_with_as_many_digits_as_it_needs(microusd: int, shown: str) -> None:
    assert dollars(microusd) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(4, "4 s"), (200, "3 min"), (7200, "2 h"), (5 * 86400, "5 d"), (-5, "0 s")]
)
def test_time_is_shown_in_the_largest_unit_that_says_something(seconds: int, shown: str) -> None:
    assert ago(time.time() - seconds) == shown


def test_an_edge_port_in_use_is_a_sentence_with_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Fault, match=rf"Port {port} is taken by .*--port \d+$"):
            choose_ports({}, port)
