"""Whether what reads events by their new schemas can read those that were written by the old ones. Archives are never
rewritten, and an audit trail is checked for years.

Run by `make check`: `evolution.py OLD_FOLDER NEW_FOLDER` fails with one line for each change that breaks a reader.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]

LOWER = ("minimum", "exclusiveMinimum", "minLength")
UPPER = ("maximum", "exclusiveMaximum", "maxLength")
FIXED = ("pattern", "format")
KNOWN = {"type", "enum", "const", *LOWER, *UPPER, *FIXED}


def breaks(old: Schema, new: Schema) -> Iterator[str]:
    """What an event that the old schema let pass may have, and the new one refuses. Both are flat objects."""
    before, after = old["properties"], new["properties"]
    for name in before:
        if name in after:
            yield from (f"{name} {why}" for why in narrowed(before[name], after[name]))
        elif not new.get("additionalProperties", True):
            yield f"{name} was there, and is no more"
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield f"{name} is required, and was not"


def narrowed(old: Schema, new: Schema) -> Iterator[str]:
    """How the values of one field became fewer. A rule that is none of ours is held to be another when it changed."""
    if gone := types(old) - types(new):
        yield f"may no longer be {' or '.join(sorted(gone))}"
    if (allowed := values(new)) is not None:
        if (known := values(old)) is None:
            yield f"may only be {allowed} now"
        elif gone_values := [value for value in known if value not in allowed]:
            yield f"may no longer be {gone_values}"
    for words, is_narrower in ((LOWER, float.__gt__), (UPPER, float.__lt__)):
        for word in words:
            if word in new and (word not in old or is_narrower(float(new[word]), float(old[word]))):
                yield f"has {word} {new[word]}, and had {old.get(word, 'none')}"
    for word in (*FIXED, *sorted((old.keys() | new.keys()) - KNOWN)):
        if word in new and new[word] != old.get(word):
            yield f"has another {word}"


def types(field: Schema) -> set[str]:
    named = field.get("type", [])
    found = {named} if isinstance(named, str) else set(named)
    return found | {"integer"} if "number" in found else found


def values(field: Schema) -> list[Any] | None:
    """Those that a field is bound to. None: it is not."""
    if "const" in field:
        return [field["const"]]
    return list(field["enum"]) if "enum" in field else None


def compare(old: Path, new: Path) -> list[str]:
    """A line for each change in any file that breaks a reader."""
    faults = []
    for file in sorted(old.glob("*.json")):
        if not (new / file.name).exists():
            faults.append(f"{file.stem}: it is no more, and events of it are")
            continue
        schemas = (json.loads(path.read_text()) for path in (file, new / file.name))
        faults.extend(f"{file.stem}: {why}" for why in breaks(*schemas))
    return faults


if __name__ == "__main__":
    if found := compare(Path(sys.argv[1]), Path(sys.argv[2])):
        lines = "\n".join(f"  {fault}" for fault in found)
        sys.exit(f"Events that are written already could not be read by their new schemas:\n{lines}")
