"""The keys of one file, what each signed, and whom somebody trusts who trusts one of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.trail.checkpoint import Malformed, Note
from services.common.trail.signing import VerifierKey
from services.local.audit.form import Key


class Unsigned(Exception):  # noqa: N818 - what a head is
    """No signature on it counts. The text says why."""


@dataclass(slots=True)
class Ring:
    origin: str
    keys: dict[bytes, Key] = field(default_factory=dict)
    """By id, in the order in which they came into use."""
    reach: dict[bytes, int] = field(default_factory=dict)
    """The size of the largest head that each signed."""
    together: list[frozenset[bytes]] = field(default_factory=list)
    """Ids of keys that signed one head together: so an old key hands over to the next."""

    def add(self, key: Key) -> None:
        """Raises Malformed when it cannot follow the ones before."""
        if key.key.name != self.origin:
            raise Malformed(f"A key of this trail is called {self.origin}, not {key.key.name[:80]!r}.")
        if key.key.id in self.keys:
            raise Malformed(f"The key {key.key.id.hex()} is listed twice.")
        before = next(reversed(self.keys.values()), None)
        if before and (before.last is None or before.last > key.first):
            raise Malformed(f"The key {key.key.id.hex()} begins before the one before it ends.")
        self.keys[key.key.id] = key

    def check(self, note: Note, size: int) -> None:
        """Every signature under a key of ours must hold, and there must be one. Others say nothing. Raises Unsigned."""
        ours = [each for each in note.signatures if each.name == self.origin and each.key_id in self.keys]
        if not ours:
            raise Unsigned("no key of the file signed it")
        for each in ours:
            key = self.keys[each.key_id]
            if not key.key.signed(note.text, each):
                raise Unsigned(f"the signature of key {each.key_id.hex()} is not of this head")
            if not key.covers(size):
                last = "now" if key.last is None else key.last
                raise Unsigned(f"key {each.key_id.hex()} was in use from size {key.first} to {last} only")
        signers = frozenset(each.key_id for each in ours)
        self.reach |= dict.fromkeys(signers, size)
        if len(signers) > 1:
            self.together.append(signers)

    def trusted(self, pins: Sequence[VerifierKey]) -> list[VerifierKey]:
        """The keys of the file that the pins vouch for: they themselves, and all that are linked to them by heads that
        were signed together. Without pins all of them."""
        if not pins:
            return [each.key for each in self.keys.values()]
        found = {pin.id for pin in pins if pin.id in self.keys and self.keys[pin.id].key == pin}
        while more := [link for link in self.together if link & found and not link <= found]:
            found.update(*more)
        return [each.key for id_, each in self.keys.items() if id_ in found]

    def vouched(self, pins: Sequence[VerifierKey]) -> int:
        """Up to which size they vouch for the trail: a head covers all that is before it."""
        return max((self.reach.get(key.id, 0) for key in self.trusted(pins)), default=0)
