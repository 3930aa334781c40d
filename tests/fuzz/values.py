"""Requests that keep every rule of the contract: what a client may send, from the dull to the unkind."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import protovalidate
from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor as Types
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.front import bodies
from tests.fuzz.methods import Descriptor, FieldDescriptor, Method, rules_of
from tests.fuzz.text import IDS, MISSING, NO_NAMES, among, names_like, part, short
from tests.fuzz.words import EITHER, OTHERWISE, WORDS
from tests.fuzz.world import World

DEEP = 4
UNBOUND = 2**30
BYTES_AT_MOST = re.compile(r"bytes\(this\)\.size\(\) <= (\d+)")
ETAGS = (
    "",
    "0",
    "1",
    "1-1",
    "0-0",
    "-",
    "--",
    "1-",
    "-1",
    "1-1-1",
    "１-１",
    f"{2**31}-1",
    f"1-{2**63}",
    "9" * 999,
    "\0",
    "*",
    'W/"1"',
)
TOKENS = ("", "AAAA", "=", "===", "A" * 26, "A" * 27, "A" * 28, "A" * 5000, "-_-_", "é", "\0", MISSING)
PATHS = ("*", "", "name", "Title", "title.x", "pane.text", "etag", "nothing", "\0", "title,text", "updateTime")
NUMBERS = {
    Types.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Types.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Types.CPPTYPE_UINT32: (0, 2**32 - 1),
    Types.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def keeps_the_rules(request: Message) -> bool:
    return not protovalidate.collect_violations(request)


@dataclass(frozen=True, slots=True)
class Values:
    """Strategies for one method's requests. `mine` is the caller's, `theirs` somebody else's."""

    method: Method
    forms: dict[str, str]
    mine: World = field(default_factory=World)
    theirs: World = field(default_factory=World)

    def requests(self) -> SearchStrategy[Message]:
        return self.message(self.method.request.DESCRIPTOR).filter(keeps_the_rules)

    def message(self, kind: Descriptor, depth: int = 0) -> SearchStrategy[Message]:
        if kind.full_name == "google.protobuf.FieldMask":
            return self.mask()
        if kind.full_name == "google.protobuf.Timestamp":
            return moment()
        if kind.full_name == "google.api.HttpBody":
            return bodies(embeds="Embedding" in self.method.path)
        needed: dict[str, SearchStrategy[Any]] = {}
        free: dict[str, SearchStrategy[Any]] = {}
        for one in kind.fields:
            if one.message_type and depth >= DEEP:
                continue
            strategy = self.field(one, rules_of(one), depth)
            must = one.full_name in self.forms or one.name == "update_mask" or is_needed(one, rules_of(one))
            (needed if must else free)[one.name] = strategy
        return drawn_from(Fields(kind, needed, free))

    def field(self, one: FieldDescriptor, rules: validate_pb2.FieldRules, depth: int) -> SearchStrategy[Any]:
        if one.message_type and one.message_type.GetOptions().map_entry:
            key, value = one.message_type.fields
            return st.dictionaries(
                self.single(key, rules.map.keys, depth), self.single(value, rules.map.values, depth), max_size=3
            )
        if one.is_repeated:
            items, least = self.single(one, rules.repeated.items, depth), rules.repeated.min_items
            return st.lists(items, min_size=least, max_size=min(rules.repeated.max_items or 5, least + 4))
        return self.single(one, rules, depth)

    def single(self, one: FieldDescriptor, rules: validate_pb2.FieldRules, depth: int) -> SearchStrategy[Any]:
        if one.message_type:
            return self.message(one.message_type, depth + 1)
        if one.enum_type:
            known = [value.number for value in one.enum_type.values]
            return among(known if rules.enum.defined_only else [*known, -1, 2**31 - 1])
        if one.cpp_type in NUMBERS:
            return whole(one, rules)
        if one.cpp_type == Types.CPPTYPE_BOOL:
            return st.booleans()
        if one.cpp_type in (Types.CPPTYPE_FLOAT, Types.CPPTYPE_DOUBLE):
            return real(rules)
        return self.text(one, rules)

    def text(self, one: FieldDescriptor, rules: validate_pb2.FieldRules) -> SearchStrategy[Any]:
        if one.type == Types.TYPE_BYTES:
            return st.binary(max_size=100)
        if one.name in ("etag", "page_token", "request_id"):
            return {"etag": self.etag, "page_token": self.token, "request_id": request_id}[one.name]()
        form = self.forms.get(one.full_name) or OTHERWISE.get(one.name)
        if one.full_name in WORDS:
            return st.one_of(*often(4, among(WORDS[one.full_name])), plain(rules))
        return self.name(form) if form else plain(rules)

    def name(self, form: str) -> SearchStrategy[str]:
        """The caller's own for the most part; else a new one under the caller's own, somebody else's, another thing's,
        nothing's."""
        known, parents = self.mine.names.get(form), self.mine.names.get(form.rsplit("/", 2)[0])
        others = [name for world in (self.mine, self.theirs) for names in world.names.values() for name in names]
        found = often(5, among(known)) if known else []
        if parents:
            collection = form.split("/")[-2]
            found.append(st.tuples(among(parents), st.just(collection), new_id(collection)).map("/".join))
        return st.one_of(*found, *([among(others)] if others else []), names_like(form), among(NO_NAMES))

    def etag(self) -> SearchStrategy[str]:
        real = [among(self.mine.etags)] if self.mine.etags else []
        return st.one_of(*often(2, *real), among(ETAGS), short(20))

    def token(self) -> SearchStrategy[str]:
        real = [among(self.mine.tokens)] if self.mine.tokens else []
        wrong = [one.map(twisted) for one in real]
        return st.one_of(*often(3, st.just("")), *often(2, *real), *wrong, among(TOKENS), short(40))

    def mask(self) -> SearchStrategy[Message]:
        """Mostly fields that can be changed."""
        fields: list[FieldDescriptor] = list(self.method.request.DESCRIPTOR.fields)
        resource = next(field.message_type for field in fields if field.message_type)
        changing = [field.name for field in resource.fields if field.name != "etag" and not behaviour(field)]
        good = st.lists(among(changing), min_size=1, max_size=2, unique=True)
        odd = st.lists(among([*changing, *PATHS, *(field.name for field in resource.fields)]), max_size=3)
        long = st.just("title").map(lambda path: [path] * 9999)
        return st.one_of(*often(6, good), odd, long).map(lambda paths: FieldMask(paths=paths))


@dataclass(frozen=True, slots=True, repr=False)
class Fields:
    """A message's strategies, without a text of them all: hypothesis asks for that often, and it is long."""

    kind: Descriptor
    needed: dict[str, SearchStrategy[Any]]
    free: dict[str, SearchStrategy[Any]]


@st.composite
def drawn_from(draw: st.DrawFn, fields: Fields) -> Message:
    """Each free field is there every other time."""
    values = {name: draw(strategy) for name, strategy in fields.needed.items()}
    for name, strategy in fields.free.items():
        if draw(st.booleans()):
            values[name] = draw(strategy)
    return GetMessageClass(fields.kind)(**one_of_each(fields.kind.full_name, values))


def one_of_each(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """Where a message takes one thing or another, seldom both."""
    for one, other in EITHER.get(kind, ()):
        if one in values and other in values and len(repr(values)) % 4:
            del values[other]
    return values


def is_needed(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> bool:
    """Whether its absence breaks a rule."""
    if field.is_repeated:
        return bool(rules.repeated.min_items)
    if field.has_presence or field.type != Types.TYPE_STRING:
        return rules.required
    own, choices = rules.string, getattr(rules.string, "in")
    misses = bool(own.pattern) and not re.search(own.pattern, "")
    return bool(bounds(rules)[0]) or misses or (bool(choices) and "" not in choices)


def moment() -> SearchStrategy[Message]:
    """Mostly of this century, else whatever 96 bits hold."""
    odd = st.builds(Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1))
    usual = st.builds(Timestamp, seconds=st.integers(946_684_800, 4_102_444_800), nanos=st.integers(0, 999_999_999))
    return st.one_of(*often(4, usual), odd)


def often(times: int, *strategies: SearchStrategy[Any]) -> list[SearchStrategy[Any]]:
    """The same so many times for one_of, which takes what is identical once."""
    return [strategy.map(lambda value: value) for strategy in strategies for _ in range(times)]


def behaviour(field: FieldDescriptor) -> bool:
    """Whether something is said of how a field behaves: that it is output only, or never changes."""
    return bool(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def whole(one: FieldDescriptor, rules: validate_pb2.FieldRules) -> SearchStrategy[int]:
    """A number between its bounds, the bounds themselves more often than not."""
    least, most = NUMBERS[one.cpp_type]
    kind = rules.WhichOneof("type")
    own = getattr(rules, kind) if kind else None
    if own is not None:
        least = own.gte if own.HasField("gte") else own.gt + 1 if own.HasField("gt") else least
        most = own.lte if own.HasField("lte") else own.lt - 1 if own.HasField("lt") else most
        if own.HasField("const"):
            least = most = own.const
    return st.one_of(among([least, most]), st.integers(least, most), st.integers(max(least, -9), min(most, 9)))


def real(rules: validate_pb2.FieldRules) -> SearchStrategy[float]:
    """The same of numbers with a fraction. Without bounds they may be none at all."""
    own = rules.double
    if not (own.HasField("gte") and own.HasField("lte")):
        return st.floats()
    return st.one_of(among([own.gte, own.lte]), st.floats(own.gte, own.lte))


def plain(rules: validate_pb2.FieldRules) -> SearchStrategy[str]:
    own = rules.string
    if getattr(own, "in"):
        return among(list(getattr(own, "in")))
    if own.pattern:
        return st.from_regex(own.pattern, fullmatch=True)
    if own.uuid:
        return st.uuids().map(str)
    least, most, most_bytes = bounds(rules)
    usual = short(min(most, most_bytes)).filter(lambda said: len(said) >= least)
    edge = among(edges(least, most, most_bytes)).map(lambda drawn: drawn[0] * drawn[1])
    return st.one_of(*often(12, usual), edge)


def bounds(rules: validate_pb2.FieldRules) -> tuple[int, int, int]:
    """The least and most characters, the most bytes."""
    told = " ".join(rule.expression for rule in rules.cel)
    sizes = BYTES_AT_MOST.findall(told)
    own = rules.string
    return (
        own.min_len or int("this != ''" in told),
        own.max_len or UNBOUND,
        int(sizes[0]) if sizes else own.max_bytes or UNBOUND,
    )


def edges(least: int, most: int, most_bytes: int) -> list[tuple[str, int]]:
    """As short and as long as may be, in characters of one, two and four bytes. Without a bound: 64 KiB."""
    longest = UNBOUND if min(most, most_bytes) < UNBOUND else 65_536
    return [("a", least), *((c, min(most, most_bytes // len(c.encode()), longest)) for c in ("a", "é", "😀", "\u0301"))]


def new_id(collection: str) -> SearchStrategy[str]:
    return st.one_of(st.uuids().map(str), part(collection))


def request_id() -> SearchStrategy[str]:
    """New for the most part, else one of a few: they are used again, mostly for something else."""
    return st.one_of(st.uuids().map(str), among(IDS), among(IDS).map(str.upper))


def twisted(token: str) -> str:
    middle = len(token) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
