"""A person in front of the page: what they do and what they see, by the page's own handles."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Error, Locator, Page, Request, Response, expect

READY_MS = 30_000
"""Within which whatever is waited for must be seen."""
ANSWERED_MS = 60_000
"""Within which an answer must end: many are slow on purpose."""
SETTLED_MS = 500
"""So long nothing must be on its way."""
STREAMS = (":stream", ":watch")


@dataclass
class Noise:
    """What a page did that a person does not see."""  # without slots: Playwright marks its listeners

    requests: list[Request] = field(default_factory=list)
    underway: set[Request] = field(default_factory=set)
    """Those without an end yet, but for streams."""
    refused: list[str] = field(default_factory=list)
    """Answers of 400 and above."""
    broken: list[str] = field(default_factory=list)
    """Requests without a whole answer, but for streams that the page itself let go of."""
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings on the console, uncaught errors, and dialogs."""

    def listen(self, page: Page) -> None:
        page.on("request", self._asked)
        page.on("response", self._answered)
        page.on("requestfinished", self._finished)
        page.on("requestfailed", self._broke)
        page.on("console", self._spoke)
        page.on("pageerror", self._threw)
        page.on("dialog", self._opened)

    def sent(self, method: str, end: str) -> list[Request]:
        """The requests to a path that ends so."""
        return [r for r in self.requests if r.method == method and r.url.partition("?")[0].endswith(end)]

    def _asked(self, request: Request) -> None:
        self.requests.append(request)
        if not is_stream(request):
            self.underway.add(request)

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.append(f"{response.status} {response.url}")

    def _finished(self, request: Request) -> None:
        self.underway.discard(request)

    def _broke(self, request: Request) -> None:
        self.underway.discard(request)
        let_go = request.failure == "net::ERR_ABORTED" and is_stream(request)
        if not let_go:
            self.broken.append(f"{request.url} {request.failure}")

    def _threw(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _opened(self, dialog: Dialog) -> None:
        self.complaints.append(f"A dialog: {dialog.message}")
        dialog.dismiss()

    def _spoke(self, message: ConsoleMessage) -> None:
        wants_icon = message.location["url"].endswith("/favicon.ico")  # of what is no page: the browser's own wish
        if message.type in ("error", "warning") and not wants_icon:
            self.complaints.append(message.text)


@dataclass(frozen=True, slots=True)
class Visitor:
    """One tab of one browser."""

    page: Page
    url: str
    noise: Noise = field(default_factory=Noise)

    @classmethod
    def arrive(cls, context: BrowserContext, url: str, seat: Mapping[str, str] | None = None) -> Visitor:
        """Open the page in a new tab. With a seat they are signed in from the first look on."""
        visitor = cls(context.new_page(), url)
        if seat:
            visitor.page.goto(f"{url}/oidc/jwks")  # the same origin, and no page
            visitor.page.evaluate("seat => Object.assign(sessionStorage, seat)", dict(seat))
        visitor.noise.listen(visitor.page)
        visitor.page.goto(f"{url}/")
        if seat:
            expect(visitor.see("composer")).to_be_visible()
        return visitor

    def another_tab(self) -> Visitor:
        """Of the same browser: signed in by the tab that is there."""
        tab = Visitor.arrive(self.page.context, self.url)
        expect(tab.see("composer")).to_be_visible()
        return tab

    def sign_in(self, account: str = "member@acme") -> Visitor:
        """By the issuer's page."""
        self.see("sign-in").click()
        self.page.locator(f'button[value="{account}"]').click()
        expect(self.see("composer")).to_be_visible()
        return self

    def see(self, handle: str) -> Locator:
        return self.page.get_by_test_id(handle)

    def ask(self, question: str) -> Turn:
        """Write a question and press Enter."""
        before = self.see("turn").count()
        self.see("question-field").fill(question)
        self.see("question-field").press("Enter")
        return self.turn(before)

    def turn(self, number: int) -> Turn:
        """A turn of the open conversation, from 0."""
        return Turn(self.see("turn").nth(number))

    def settles(self) -> None:
        """Wait until nothing is on its way but streams: leaving the page would break it off."""
        began = quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < SETTLED_MS / 1000:
            self.page.wait_for_timeout(50)
            if self.noise.underway:
                quiet_since = time.monotonic()
            late = quiet_since - began > READY_MS / 1000
            assert not late, f"Still on their way: {[request.url for request in self.noise.underway]}"

    def read(self, script: str) -> Any:
        """What JavaScript says of the page."""
        return self.page.evaluate(script)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with its answer."""

    place: Locator

    def see(self, handle: str) -> Locator:
        return self.place.get_by_test_id(handle)

    @property
    def text(self) -> Locator:
        """The answer's words alone."""
        return self.see("answer").locator(".markdown")

    def has_begun(self, words: str) -> None:
        """These words are there, and more are to come."""
        expect(self.text).to_contain_text(words)
        assert self.phase == "running", f"The answer was {self.phase} before it was looked at."

    def ends(self, phase: str = "done") -> None:
        expect(self.place).to_have_attribute("data-phase", phase, timeout=ANSWERED_MS)

    def is_answered(self, text: str) -> None:
        self.ends()
        expect(self.text).to_have_text(text)

    @property
    def phase(self) -> str | None:
        return self.place.get_attribute("data-phase")


Visit = Callable[..., Visitor]
"""Opens a browser of its own for a person: `visit("member@acme")`; options are the browser's."""


def is_stream(request: Request) -> bool:
    return request.url.partition("?")[0].endswith(STREAMS)


def words(number: int) -> str:
    """What the scripted model answers to script:words=N."""
    return " ".join(f"word{n}" for n in range(1, number + 1))
