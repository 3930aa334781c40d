"""`soma provider`: whose models the router may call, besides those it knows. It sees a change within seconds."""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.local.commands.edge import Edge
from services.local.commands.token import mint
from services.local.fault import Fault
from services.local.files import write_whole
from services.local.stack import Stack, load_stack

if TYPE_CHECKING:
    from services.router.offers import Price

HEADER = "# Written by `soma provider`. The router reads it anew when it changes.\n\n"

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
SEEN_S, LOOK_S = 4.0, 0.1


@dataclass(frozen=True, slots=True)
class Asked:
    """What `soma provider add` was told."""

    name: str
    base_url: str
    key_env: str
    model: str
    tier: str
    price_in: int | None
    price_out: int | None
    window: int | None
    kind: str = "openai"
    litellm: str = ""


def add(home: Path, asked: Asked) -> str:
    """Write the provider down and keep its key; returns what is now true. Fault when the router could not use it."""
    from services.router.entries import OURS, built_in

    stack = load_stack(home)
    if not NAME.fullmatch(asked.name):
        raise Fault(f"{asked.name!r} cannot be a provider: use 1 to 40 of a-z, 0-9 and -, not beginning with -.")
    if asked.name in OURS:
        raise Fault(f"The name {asked.name} is taken by the mesh itself. Choose another.")
    key = key_of(asked.key_env)
    known = next((entry for entry in built_in() if entry.name == asked.name), None)
    if known and not asked.base_url and not asked.model:
        if not key:
            raise Fault(f"{asked.name} is known already; it wants a key: --key-env VARIABLE")
        keep_key(home, asked.name, key)
        return f"{asked.name} has its key. {seen(stack, asked.name, known.model[0].name, known.model[0].tier)}"
    if not asked.model or not (asked.base_url or known or asked.kind == "litellm"):
        raise Fault("A provider that is not known yet wants --base-url and --model.")
    entry = {"name": asked.name, "base_url": asked.base_url or (known.base_url if known else "")}
    entry |= {"kind": known.kind if known and asked.kind == "openai" else asked.kind}
    entry |= {"litellm": asked.litellm} if asked.litellm else {}
    write(home, merged(read(home), entry | ({} if key else {"needs_key": False}), model_entry(asked)))
    if key:
        keep_key(home, asked.name, key)
    return (
        f"{asked.name}'s {asked.model} is in the tier {asked.tier}. {seen(stack, asked.name, asked.model, asked.tier)}"
    )


def seen(stack: Stack, provider: str, model: str, tier: str) -> str:
    """What the router says of the model, once it has read the change."""
    edge = Edge(stack.ports["edge"], mint(stack, "acme", "member"), stack.https)
    deadline = time.monotonic() + SEEN_S
    while time.monotonic() < deadline:
        try:
            with closing(edge.send("POST", "/v1/decide", {"text": "Hello", "tier": tier})) as answer:
                candidates = json.load(answer).get("candidates", [])
        except (OSError, Fault):
            return "The router will read it when the mesh is up."
        for candidate in candidates:
            if (candidate["provider"], candidate["model"]) == (provider, model):
                closed = candidate.get("closed", "")
                return f"It is closed: {closed}" if closed else "The router calls it from now on."
        time.sleep(LOOK_S)
    return "The router has not read it yet. See: soma logs router"


def remove(home: Path, name: str) -> str:
    """Forget a provider and its key. Fault when there is none."""
    load_stack(home)
    entries = read(home)
    left = [entry for entry in entries if entry["name"] != name]
    secret = home / "secrets" / Path(name).name
    if len(left) == len(entries) and not secret.is_file():
        raise Fault(f"There is no provider {name} here. See: soma provider list")
    write(home, left)
    secret.unlink(missing_ok=True)
    return f"{name} is forgotten, and its key."


def model_entry(asked: Asked) -> dict[str, Any]:
    """The model with its price. Fault when nobody knows what it costs."""
    from services.router.entries import is_here
    from services.router.prices import known_price

    if (asked.price_in is None) != (asked.price_out is None):
        raise Fault("Give both prices, --price-in and --price-out, in micro-USD per million tokens, or none.")
    entry: dict[str, Any] = {"name": asked.model, "tier": asked.tier}
    if asked.price_in is not None:
        entry |= {"price_in": asked.price_in, "price_out": asked.price_out}
    elif known_price(asked.model, asked.litellm or asked.name, is_ours=is_here(asked.base_url)) is None:
        raise Fault(
            f"Nobody knows what {asked.model} costs at {asked.name}. "
            "Say it in micro-USD per million tokens: --price-in 150000 --price-out 600000"
        )
    return entry | ({"window": asked.window} if asked.window else {})


def merged(entries: list[dict[str, Any]], provider: Mapping[str, Any], model: dict[str, Any]) -> list[dict[str, Any]]:
    """The providers with this one: a model of the same name is replaced, others of the provider stay."""
    old = next((entry for entry in entries if entry["name"] == provider["name"]), {})
    models = [entry for entry in old.get("model", []) if entry["name"] != model["name"]]
    kept = {name: value for name, value in old.items() if name != "needs_key"}
    new = {**kept, **provider, "model": [*models, model]}
    return [*(entry for entry in entries if entry["name"] != provider["name"]), new]


def key_of(variable: str) -> str:
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise Fault(f"{variable} is not set in this terminal, or is empty.")
    return key


def keep_key(home: Path, name: str, key: str) -> None:
    """Write the key where the router looks for it. No other file ever stands there."""
    fresh = home / "run" / f"{name}.key"
    write_whole(fresh, key.encode())
    fresh.replace(home / "secrets" / name)


def read(home: Path) -> list[dict[str, Any]]:
    file = home / "providers.toml"
    try:
        return list(tomllib.loads(file.read_text()).get("provider", []))
    except FileNotFoundError:
        return []
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Fault(f"{file} is no TOML: {error}. Correct it by hand.") from error


def write(home: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the file, after the router's own reading of it. Fault with the router's words."""
    import tomli_w

    from services.router.entries import Unreadable, parse

    half = home / "run" / "providers.toml"
    half.touch(mode=0o600)
    half.write_text(HEADER + tomli_w.dumps({"provider": entries}))
    try:
        parse(half)
    except Unreadable as error:
        half.unlink()
        raise Fault(str(error).replace(str(half), "This provider")) from error
    half.replace(home / "providers.toml")


def listed(home: Path) -> list[tuple[str, str, str, str, str]]:
    """Provider, model, tier, price, and whether it can be called, of the user's and the known ones."""
    from services.router.catalog import listing, price_of
    from services.router.entries import Unreadable, built_in, merge, parse
    from services.router.prices import price_table

    load_stack(home)
    file, prices = home / "providers.toml", price_table()
    try:
        entries = merge(built_in(), parse(file) if file.exists() else ())
    except Unreadable as error:
        raise Fault(str(error)) from error
    rows: list[tuple[str, str, str, str, str]] = []
    for entry in entries:
        has_key = (home / "secrets" / entry.name).exists() or bool(entry.key_env or entry.key_vault)
        for model in entry.model if entry.kind != "scripted" else ():
            price = price_of(model, listing(model, entry, prices), is_ours=entry.is_self_hosted)
            state = "open" if has_key or not entry.needs_key else "no key"
            rows.append((entry.name, model.name, model.tier, _price(price), state))
    return rows


def show(home: Path) -> None:
    """Print the list as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("provider", "model", "tier", "$ a million in / out", ""):
        table.add_column(column, no_wrap=True)
    for *facts, state in listed(home):
        table.add_row(*facts, state, style="" if state == "open" else "dim")
    Console(highlight=False).print(table)


def _price(price: Price | None) -> str:
    if price is None:
        return "unknown"
    told = f"${price.price_in / 1_000_000:g} / ${price.price_out / 1_000_000:g}"
    return told if price.price_in or price.price_out else "free"
