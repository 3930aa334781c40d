"""Nothing that is written in a chat runs. The browser is told to ignore the page's policy, so that it saves nobody."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.hostile import BLOCKS, LINES
from tests.browser.visitor import Visit, Visitor

FOUND = """() => {
  const chat = [...document.querySelectorAll(".markdown, [data-testid=question], [data-testid=conversations]")];
  const all = chat.flatMap((place) => [...place.querySelectorAll("*")]);
  const own = (element) => element.closest("button");
  const strange = "script,img,iframe,object,embed,form,base,meta,link,style,svg,math,video,audio,details,animate";
  const links = all.filter((element) => element.href !== undefined || element.hasAttribute("src"));
  const outside = (address) => !/^(https?:|mailto:)/i.test(address);
  return [
    ...all.filter((e) => !own(e) && e.matches(strange)).map((e) => e.outerHTML),
    ...all.filter((e) => [...e.attributes].some(({name}) => /^on|^style$/.test(name))).map((e) => e.outerHTML),
    ...links.filter((e) => outside(String(e.href ?? e.src))).map((e) => e.outerHTML),
    ...links.filter((e) => e.target === "_blank" && !/noopener/.test(e.rel)).map((e) => e.outerHTML),
  ];
}"""


INSTEAD = """(text) => {
  const fetched = window.fetch;
  window.fetch = async (address, request) => {
    const answer = await fetched(address, request);
    if (!String(address).endsWith(":stream")) return answer;
    const events = (await answer.text()).split("\\n\\n").filter(Boolean).map((line) => JSON.parse(line.slice(6)));
    const pieces = text.match(/[^]{1,24}/g).map((delta) => ({ text: { delta } }));
    const told = [...events.filter(({ accepted }) => accepted), ...pieces, events.at(-1)];
    const lines = told.map((event, n) => `data: ${JSON.stringify({ ...event, sequence: n + 1 })}\\n\\n`);
    const pull = async (stream) => {
      await new Promise(requestAnimationFrame);
      if (lines.length) stream.enqueue(new TextEncoder().encode(lines.shift()));
      else stream.close();
    };
    return new Response(new ReadableStream({ pull }), { headers: answer.headers });
  };
}"""
"""The stream of the mesh, but the model says this text, a piece a frame."""


@pytest.fixture
def target(visit: Visit) -> Visitor:
    """A member whose browser would run what got through."""
    return visit("member@acme", bypass_csp=True)


def test_the_looking_itself_finds_what_runs(target: Visitor) -> None:
    target.ask("x").is_answered("You said: x")
    target.page.evaluate("""() => {
        document.querySelector(".markdown").innerHTML =
            "<img src=x onerror=window.__ran=1><a href=javascript:1>x</a><svg></svg>";
    }""")
    target.page.wait_for_function("window.__ran === 1")

    assert len(target.read(FOUND)) == 4


def test_hostile_words_are_shown_as_words_and_never_run(target: Visitor) -> None:
    lines = "\n".join(LINES)
    turn = target.ask(lines)
    turn.ends()

    expect(turn.see("question")).to_contain_text(LINES[0])
    expect(turn.text).to_contain_text("<script>window.__ran = 1; alert(1)</script>")
    is_harmless(target)
    target.page.reload()
    expect(target.turn(0).text).to_contain_text("<svg onload=window.__ran=1>")
    is_harmless(target)


def test_hostile_markdown_of_many_lines_never_runs_while_it_grows_nor_after(target: Visitor) -> None:
    """The model of this mesh cannot be made to say line breaks: its words are replaced on their way."""
    target.page.evaluate(INSTEAD, "\n\n".join([*LINES, BLOCKS]))
    turn = target.ask("anything")
    turn.ends()

    expect(turn.text.locator("table")).to_be_visible()
    expect(turn.see("code-block").first).to_contain_text("<script>window.__ran=1</script>")
    is_harmless(target)


def test_a_hostile_title_never_runs(target: Visitor) -> None:
    for title in ("<img src=x onerror=window.__ran=1>", "{{constructor.constructor('window.__ran=1')()}}"):
        target.see("new-chat").click()
        target.ask(title).ends()
        expect(target.see("conversations")).to_contain_text(title)
        expect(target.see("title")).to_have_text(title)
    is_harmless(target)


def test_a_hostile_address_never_runs(target: Visitor) -> None:
    for fragment in ("/conversations/<img src=x onerror=window.__ran=1>", "javascript:window.__ran=1", "/.."):
        target.page.goto(f"{target.url}/#{fragment}")
        target.page.reload()
        expect(target.see("welcome")).to_be_visible()
    is_harmless(target)


def is_harmless(person: Visitor) -> None:
    hover_links(person.page)
    assert person.read("window.__ran") is None
    assert person.read(FOUND) == []
    assert person.noise.complaints == []
    assert len(person.page.context.pages) == 1
    strangers = [request.url for request in person.noise.requests if not request.url.startswith(f"{person.url}/")]
    assert strangers == []


def hover_links(page: Page) -> None:
    page.evaluate("""() => document.querySelectorAll(".markdown a").forEach((link) => {
        for (const name of ["mouseover", "focus", "pointerenter"]) link.dispatchEvent(new Event(name, {bubbles: true}));
    })""")
