"""On an ordinary day the page is quiet: nothing fails behind the scenes, and nobody else hears of it."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import expect

from tests.browser.visitor import Visit


def test_an_ordinary_day_has_no_errors_and_asks_no_other_host(visit: Visit) -> None:
    person = visit()
    person.sign_in()
    turn = person.ask("![a picture](https://elsewhere.invalid/x.png) and `code`")
    turn.ends()
    turn.see("why-toggle").click()
    expect(turn.see("why-panel")).to_be_visible()
    person.settles()
    person.page.reload()
    person.turn(0).ends()
    expect(person.see("conversations")).to_contain_text("a picture")
    person.see("new-chat").click()
    person.see("theme").click()
    person.settles()
    person.see("sign-out").click()
    expect(person.see("landing")).to_be_visible()

    noise = person.noise
    assert (noise.complaints, noise.refused, noise.broken) == ([], [], [])
    hosts = {urlsplit(request.url).netloc for request in noise.requests}
    assert hosts == {urlsplit(person.url).netloc}


def test_the_first_look_is_small_and_fast(visit: Visit) -> None:
    person = visit()
    expect(person.see("sign-in")).to_be_visible()
    sizes = [request.sizes()["responseBodySize"] for request in person.noise.requests if request.url.startswith("http")]

    assert len(sizes) < 15
    assert sum(sizes) < 600_000, "Bytes on the wire."
