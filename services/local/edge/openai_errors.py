"""The filter that gives refusals OpenAI's shape: openai_errors.lua, with what each reason is called there."""

from __future__ import annotations

import json
from pathlib import Path

from services.common.openai import every


def openai_errors(program: Path) -> str:
    """The Lua source."""
    rows = (f"  {reason} = {{{json.dumps(kind)}, {json.dumps(code)}}},\n" for reason, (kind, code) in every().items())
    return f"local KNOWN = {{\n{''.join(rows)}}}\n{program.read_text()}"
