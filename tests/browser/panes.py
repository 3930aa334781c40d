"""Panes as a person sees and uses them, by the page's own handles; and what a model is made to say to have some."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Request, expect

from tests.browser.visitor import Turn, Visitor

CODE = """\
def greet(name):
    return f"Hello, {name}"


print(greet("Ada"))
"""
TABLE = """\
| word | letters |
| --- | --: |
| ten | 10 |
| nine | 9 |
| eight | 80 |
"""


def fenced(text: str, language: str = "python", title: str = "greet.py") -> str:
    return f'```{language} title="{title}"\n{text}```\n'


ANSWER = f"Here it is.\n\n{fenced(CODE)}\nAnd a table:\n\n{TABLE}\nThat is all."
"""With two panes."""


def say(markdown: str, pace_ms: int = 0) -> str:
    """The question that makes the scripted model say this."""
    return f"script:pace={pace_ms} script:say\n{markdown}" if pace_ms else f"script:say\n{markdown}"


@dataclass(frozen=True, slots=True)
class Panes:
    """The panes beside the chat."""

    person: Visitor

    def see(self, handle: str) -> Locator:
        return self.person.see(handle)

    def asked(self, markdown: str) -> Turn:
        """An answer with panes, to its end; the mesh has them, and knows that they are open."""
        with self.person.page.expect_response(lambda answer: is_arranging(answer.request)):
            turn = self.person.ask(say(markdown))
            turn.ends()
        expect(self.see("pane-version").first).to_be_visible()
        return turn

    @property
    def text(self) -> Locator:
        """Of the pane in front."""
        return self.see("pane").first.get_by_test_id("pane-text").locator(".piece-text")

    def tab(self, title: str) -> Locator:
        return self.see("pane-tab").filter(has_text=title)

    def are(self, *titles: str) -> None:
        """The tabs have these titles, in this order."""
        expect(self.see("pane-tab")).to_have_text(titles, use_inner_text=True)

    def edit(self, text: str) -> None:
        """Begin to edit the pane in front, and write this instead of all that it holds."""
        self.see("edit-pane").click()
        self.see("pane-editor").fill(text)

    def save(self, version: int) -> None:
        self.see("save-pane").click()
        self.is_at(version)

    def done(self) -> None:
        self.see("done-editing").click()
        expect(self.see("pane-editor")).to_have_count(0)

    def is_at(self, version: int) -> None:
        expect(self.see("pane-version").first).to_contain_text(f"version {version}")

    def holds(self, text: str) -> None:
        """The pane in front shows just this."""
        self.person.page.wait_for_function(HOLDS, arg=text)

    def create(self, kind: str, text: str, language: str = "") -> None:
        """Make a pane and save a text in it."""
        self.see("new-pane").click()
        self.see(f"new-pane-{kind}").click()
        expect(self.see("pane-editor")).to_be_focused()
        self.see("pane-editor").fill(text)
        if language:
            self.see("pane-language").select_option(language)
        self.save(2)
        self.done()

    def downloaded(self, handle: str = "download-pane") -> tuple[str, bytes]:
        """The name and the bytes of what the browser was given."""
        with self.person.page.expect_download() as download:
            self.see(handle).click()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def is_arranging(request: Request) -> bool:
    return request.method == "PATCH" and "/layout" in request.url


HOLDS = """text => [...document.querySelectorAll("[data-testid=pane] [data-testid=pane-text] .piece-text")]
  .map(piece => piece.textContent).join("") === text"""
