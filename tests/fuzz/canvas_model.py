"""What a canvas should be after each deed, as plain dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from soma.canvas.v1.canvas_pb2 import Pane

Content = tuple[str, str, str]
"""Title, language and text."""


@dataclass
class PaneModel:
    kind: str
    etag: str
    content: Content
    version: int = 1
    versions: dict[int, Content] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)

    def name_etag(self, etag: str) -> None:
        """The etag of each change is a new one."""
        assert etag not in (self.etag, *self.stale)
        self.stale.append(self.etag)
        self.etag = etag

    def rewrite(self, content: Content) -> None:
        """Another text: another version."""
        self.versions[self.version] = self.content
        self.version, self.content = self.version + 1, content

    def rename(self, content: Content) -> None:
        """The same version under another title, or, by the turn that writes it, with more text."""
        self.content = content

    def all_versions(self) -> dict[int, Content]:
        return self.versions | {self.version: self.content}


@dataclass
class CanvasModel:
    panes: dict[str, PaneModel] = field(default_factory=dict)
    """By resource name."""
    opened: list[str] = field(default_factory=list)
    active: str = ""
    beside: str = ""

    def arrange(self, opened: list[str], active: str, beside: str) -> None:
        """What is no pane is left out, and a pane that is named twice is open once."""
        self.opened = [name for name in dict.fromkeys(opened) if name in self.panes]
        self.active = active if active in self.panes else ""
        self.beside = beside if beside in self.panes else ""

    def delete(self, name: str) -> None:
        del self.panes[name]
        self.arrange(self.opened, self.active, self.beside)

    def shown(self) -> dict[str, tuple[str, str, int, Content]]:
        return {name: (pane.kind, pane.etag, pane.version, pane.content) for name, pane in self.panes.items()}


def told(pane: Pane) -> tuple[str, str, int, Content]:
    """A pane as the model tells it."""
    return pane.kind, pane.etag, pane.version, content_of(pane)


def content_of(pane: Any) -> Content:
    return pane.title, pane.language, pane.text
