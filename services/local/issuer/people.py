"""Who the demo accounts are, with their roles. Who audits may ask questions too."""

from __future__ import annotations

from collections.abc import Mapping

PEOPLE: Mapping[str, tuple[str, ...]] = {
    "admin": ("admin",),
    "auditor": ("auditor", "member"),
    "member": ("member",),
}
