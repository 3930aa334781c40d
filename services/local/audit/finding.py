"""What a verifier can find wrong with a trail. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    ALTERED = "altered"
    MISSING = "missing"
    REORDERED = "reordered"
    FORKED = "forked"
    WRONG_KEY = "wrong key"
    CUT_TAIL = "cut tail"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    index: int | None
    """The first event that is wrong, or may be. None: it is not about an event."""
    through: int | None
    """The last event that may be wrong too."""
    text: str
    """What it means, and what to do."""

    @classmethod
    def at(cls, kind: Kind, index: int, text: str) -> Finding:
        return cls(kind, index, index, text)

    @classmethod
    def between(cls, kind: Kind, first: int, end: int, text: str) -> Finding:
        """Somewhere among the events from `first` to the one before `end`; about none when there are none."""
        return cls(kind, first, end - 1, text) if first < end else cls(kind, None, None, text)


class Wrong(Exception):  # noqa: N818 - what a trail is
    """Nothing that comes later makes it right."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


class Misfit(Wrong):
    """What stands at the index does not continue the chain."""

    def __init__(self, index: int, chain: bytes, stated: bytes) -> None:
        text = (
            f"Event {index} is not what was sealed: its text or its chain value was changed. "
            "Do not rely on it or on what follows."
        )
        super().__init__(Finding.at(Kind.ALTERED, index, text))
        self.index, self.chain, self.stated = index, chain, stated


class Gap(Wrong):
    """What should stand at the index does not; what stands there belongs after `end`."""

    def __init__(self, index: int, end: int) -> None:
        verb = "is" if end - index == 1 else "are"
        text = f"{events(index, end)} {verb} missing. Get the trail anew; what is missing there too was taken out."
        super().__init__(Finding.between(Kind.MISSING, index, end, text))
        self.index = index


def events(first: int, end: int) -> str:
    """Event 7; Events 7 to 9."""
    return f"Event {first}" if end - first == 1 else f"Events {first} to {end - 1}"
