"""What a room is told by its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.config import Misconfigured, RoomConfig
from services.common.modes import Mode

LEAST = {
    "SOMAGENT_MODE": "PRODUCTION-ENTERPRISE",
    "SPIFFE_ENDPOINT_SOCKET": "unix:///somewhere/spiffe.sock",
    "SOMA_ISSUER": "https://issuer",
    "SOMA_JWKS_URL": "https://issuer/jwks",
    "SOMA_DATABASE_URL": "postgresql://host/soma",
    "SOMA_KEYS_URL": "file:///keys",
}


def test_what_is_not_said_is_as_usual_and_what_belongs_to_others_is_passed_over() -> None:
    config = RoomConfig.told({**LEAST, "PATH": "/bin", "SOMA_OF_ANOTHER": "x"})
    assert (config.mode, config.listen, config.trace_ratio) == (Mode.PRODUCTION_ENTERPRISE, "127.0.0.1:0", 1.0)
    assert (config.spiffe_socket, config.telemetry_dir) == ("unix:///somewhere/spiffe.sock", None)


def test_numbers_and_paths_are_read_from_texts_and_a_text_of_digits_stays_one() -> None:
    more = {"SOMA_TRACE_RATIO": "0.25", "SOMA_TELEMETRY_DIR": "/var/soma", "SOMA_AUDIENCE": "42", "SOMA_DRAIN_S": "3"}
    config = RoomConfig.told(LEAST | more)
    assert (config.trace_ratio, config.telemetry_dir, config.audience) == (0.25, Path("/var/soma"), "42")
    assert (config.drain_s, type(config.drain_s)) == (3.0, float)


@pytest.mark.parametrize("name", LEAST)
def test_a_variable_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        RoomConfig.told({other: value for other, value in LEAST.items() if other != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOMAGENT_MODE", "HOLIDAY"),
        ("SOMA_KEYS_URL", "ftp://keys"),
        ("SOMA_TRACE_RATIO", "1.5"),
        ("SOMA_TRACE_RATIO", "often"),
        ("SOMA_DRAIN_S", ""),
    ],
)
def test_a_variable_that_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"^{name}: "):
        RoomConfig.told({**LEAST, name: value})
