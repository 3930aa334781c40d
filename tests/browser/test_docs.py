"""The API's page: all of the contract is on it, it finds its way on every screen, and what it says to type works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitor import Visit, Visitor
from tests.system.edge import Client
from tests.system.mesh import Mesh

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
VERBS = ("get", "post", "put", "patch", "delete")
LINES = """() => Object.fromEntries([...document.querySelectorAll("[data-testid=operation]")].map(
  (each) => [each.id, each.querySelector("[data-testid=curl] pre").textContent]))"""
FIRST = (
    "ChatService_Chat", "ConversationService_CreateConversation", "CanvasService_CreatePane",
    "BudgetService_CreateBudget",
)  # fmt: skip
LAST = ("CanvasService_DeletePane", "BudgetService_DeleteBudget", "ConversationService_DeleteConversation")
ENDLESS = "CanvasService_WatchCanvas"
"""The one stream that goes on when all has been said."""
WATCHED_S = (2, 10)
"""How long it is read; longer when nothing came."""
PATIENCE_S = 20
"""How long any other answer may take."""
TIMED_OUT = 28
"""What curl ends with then."""
Contract = dict[str, Any]


@pytest.fixture
def reader(visit: Visit) -> Visitor:
    """Nobody in particular, before the API's page."""
    return reading(visit())


@pytest.fixture(scope="module")
def contract(scripted_mesh: Mesh) -> Contract:
    answer: Contract = Client(scripted_mesh.port).call("GET", "/openapi.json").json
    return answer


def test_every_operation_of_the_contract_is_on_the_page_with_its_paths_and_refusals(
    reader: Visitor, contract: Contract
) -> None:
    shown = reader.see("operation").evaluate_all(
        "all => Object.fromEntries(all.map((each) => [each.id, each.textContent]))"
    )
    told = operations(contract)

    assert set(shown) == {each["operationId"] for _, _, each in told if "x-alias-of" not in each}
    for verb, path, each in told:
        text = shown[each.get("x-alias-of", each["operationId"])]
        assert verb.upper() in text and path in text
        for answer in each["responses"].values():
            assert all(reason in text for reason in answer.get("x-reasons", []))


def test_every_reason_of_the_contract_is_explained(reader: Visitor, contract: Contract) -> None:
    listed = reader.see("reason").evaluate_all("all => all.map((each) => each.id)")

    assert set(listed) == set(contract["x-reasons"])
    assert len(listed) == len(set(listed))


def test_the_page_names_the_mesh_that_serves_it(reader: Visitor) -> None:
    expect(reader.see("base")).to_have_text(reader.url)


def test_a_deep_link_opens_at_its_operation_or_reason(reader: Visitor) -> None:
    for anchor in ("CanvasService_UpdatePane", "TURN_RUNNING", "streams", "ChatService_WatchTurn"):
        tab = reader.page.context.new_page()
        tab.goto(f"{reader.url}/docs#{anchor}")
        is_at(tab, anchor)
        tab.close()

    reader.see("refusal").get_by_text("ETAG_STALE", exact=True).first.click()
    is_at(reader.page, "ETAG_STALE")
    reader.page.go_back()
    reader.page.go_forward()
    is_at(reader.page, "ETAG_STALE")


def test_the_search_finds_methods_paths_fields_and_reasons(reader: Visitor) -> None:
    go_to_search(reader)
    finds = {
        "watchturn": "WatchTurn",
        "/v1/chat:stream": "Chat",
        "/canvas/": "CreatePane",
        "after_sequence": "WatchTurn",
        "turn_running": "TURN_RUNNING",
        "idempotency": "Writes that may be repeated",
    }
    for words, title in finds.items():
        reader.see("search").fill(words)
        expect(reader.see("find").filter(has_text=title).first).to_be_visible()
    reader.see("search").fill("of no kind whatever")
    expect(reader.see("find")).to_have_count(0)

    reader.see("search").fill("TURN_RUNNING")
    reader.page.keyboard.press("Enter")
    is_at(reader.page, "TURN_RUNNING")
    reader.see("search").press("Escape")
    expect(reader.see("search")).to_have_value("")


def test_objects_open_within_objects_by_keyboard(reader: Visitor) -> None:
    turn = reader.page.locator("#ChatService_GetTurn")
    for name in ("Decision", "Candidate"):
        button = turn.get_by_role("button", name=f"Show {name}")
        button.focus()
        reader.page.keyboard.press("Enter")
        expect(turn.get_by_role("button", name=f"Hide {name}")).to_be_focused()

    expect(turn.get_by_test_id("field").filter(has_text="latencyMs").last).to_be_visible()


def test_reading_is_quiet_and_stays_with_its_origin_under_a_policy_without_exceptions(visit: Visit) -> None:
    person = reading(visit())
    for handle in ("ChatService_Chat", "CanvasService_WatchCanvas"):
        person.page.goto(f"{person.url}/docs#{handle}")
        is_at(person.page, handle)
    person.see("theme").click()

    noise = person.noise
    assert (noise.complaints, noise.refused, noise.broken) == ([], [], [])
    assert {urlsplit(request.url).netloc for request in noise.requests} == {urlsplit(person.url).netloc}
    assert {request.method for request in noise.requests} == {"GET"}
    policy = Client(urlsplit(person.url).port or 0).call("GET", "/docs").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert person.read("document.querySelectorAll('style, script:not([src])').length") == 0


def test_a_phone_has_the_contents_in_a_drawer_and_nothing_scrolls_sideways(visit: Visit) -> None:
    person = reading(visit(**PHONE))
    fits(person)
    expect(person.see("search")).not_to_be_in_viewport()
    person.see("open-drawer").tap()
    expect(person.see("search")).to_be_in_viewport()
    person.see("sidebar").get_by_role("link", name="UpdatePane").tap()
    expect(person.see("search")).not_to_be_in_viewport()
    is_at(person.page, "CanvasService_UpdatePane")
    fits(person)

    person.page.locator("#ChatService_GetTurn").get_by_role("button", name="Show Decision").tap()
    person.page.locator("#ChatService_GetTurn").get_by_role("button", name="Show Candidate").tap()
    fits(person)


def test_the_theme_that_was_chosen_in_the_chat_is_the_page_s_too(visit: Visit) -> None:
    person = visit(color_scheme="dark")
    person.read("localStorage.setItem('soma.theme', 'light')")
    person = reading(person)
    expect(person.see("theme")).to_have_attribute("aria-label", "Theme: light")
    assert person.read("getComputedStyle(document.documentElement).colorScheme") == "light"
    person.see("theme").click()
    assert person.read("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_a_mesh_without_a_contract_says_what_to_do(visit: Visit) -> None:
    person = visit()
    person.page.route("**/openapi.json", lambda route: route.fulfill(status=404, body="{}"))
    person.page.goto(f"{person.url}/docs")
    expect(person.see("missing")).to_contain_text("make gen")

    person.page.unroute("**/openapi.json")
    person.page.get_by_role("button", name="Try again").click()
    expect(person.see("operation").first).to_be_visible()


def test_the_chat_leads_to_the_api_and_back(member: Visitor) -> None:
    member.see("docs").click()
    expect(member.see("operation").first).to_be_visible()
    member.see("sidebar").get_by_role("link", name="Chat", exact=True).last.click()
    expect(member.see("composer")).to_be_visible()


def test_every_curl_line_of_the_page_works_as_it_stands(
    reader: Visitor, scripted_mesh: Mesh, contract: Contract
) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is missing: apt-get install curl")
    lines: dict[str, str] = reader.page.evaluate(LINES)
    token = scripted_mesh.token("acme", "member", "member", "auditor", "admin")
    surroundings = {**os.environ, "TOKEN": token, "VERSION": "1", "EVENT": "0"}
    surroundings |= {"PROVIDER": "openai", "POLICY": "0", "MODEL": "soma%2Fauto"}
    answers = {
        each["operationId"]: each["responses"]["200"]["content"]
        for _, _, each in operations(contract)
        if "x-alias-of" not in each
    }
    between = sorted(set(lines) - set(FIRST) - set(LAST), key=lambda name: ("Update" not in name, name))

    for name in (*FIRST, *between, *LAST):
        status, said = watched(lines[name], surroundings) if name == ENDLESS else typed(lines[name], surroundings)
        assert status == 200, f"{name}: {lines[name]}\n{status} {said}"
        kept = [checked(contract, answers[name], each) for each in read(said, answers[name])]
        assert kept, name
        for each in kept:
            surroundings |= ids_in(name, each)


def operations(contract: Contract) -> list[tuple[str, str, Contract]]:
    return [(verb, path, verbs[verb]) for path, verbs in contract["paths"].items() for verb in VERBS if verb in verbs]


def reading(person: Visitor) -> Visitor:
    """The same person in a tab that has never shown anything else."""
    tab = Visitor(person.page.context.new_page(), person.url)
    tab.noise.listen(tab.page)
    tab.page.goto(f"{tab.url}/docs")
    expect(tab.see("operation").first).to_be_visible()
    return tab


def go_to_search(reader: Visitor) -> None:
    """By its key, as soon as the page listens: it is drawn a moment before."""
    while reader.see("search").evaluate("search => search !== document.activeElement"):
        reader.page.keyboard.press("/")
        reader.page.wait_for_timeout(20)


def is_at(page: Page, anchor: str) -> None:
    """Its first line stands in the upper half of the screen."""
    page.wait_for_function(
        "anchor => { const top = document.getElementById(anchor)?.getBoundingClientRect().top;"
        " return top > -2 && top < innerHeight / 2 }",
        arg=anchor,
    )
    assert urlsplit(page.url).fragment == anchor


def fits(person: Visitor) -> None:
    assert person.page.viewport_size
    assert person.read("document.documentElement.scrollWidth") <= person.page.viewport_size["width"]


def watched(line: str, surroundings: Mapping[str, str]) -> tuple[int, str]:
    """The line of a stream without an end: HTTP status, and what came of the body."""
    status, said = 0, ""
    for patience_s in WATCHED_S:
        status, said = typed(line, surroundings, patience_s, ends=(0, TIMED_OUT))
        if said.strip():
            break
    return status, said


def typed(
    line: str, surroundings: Mapping[str, str], patience_s: int = PATIENCE_S, ends: Collection[int] = (0,)
) -> tuple[int, str]:
    """The line in a shell: HTTP status and body."""
    done = subprocess.run(
        ["sh", "-c", f"{line} -sS --max-time {patience_s} -w '\\n%{{http_code}}'"],
        capture_output=True, text=True, env=dict(surroundings), timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode in ends, f"{line}\n{done.stderr}"
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def read(said: str, content: Contract) -> list[Any]:
    """The answer, or the events of a stream that have come."""
    if "text/event-stream" not in content or said.startswith("{"):
        return [json.loads(said)]
    return [json.loads(line.removeprefix("data: ")) for line in said.splitlines() if line.startswith("data: ")]


def checked(contract: Contract, content: Contract, answer: Any) -> Any:
    """The answer, which is what the contract says."""
    kind = content.get("application/json", {}).get("schema") or content["text/event-stream"]["x-event-schema"]
    jsonschema_rs.validator_for({**kind, "components": contract["components"]}).validate(answer)
    return answer


def ids_in(name: str, answer: Any) -> dict[str, str]:
    """The shell variables that a first answer, or an event of it, gives to the later lines."""
    if "accepted" in answer and name == "ChatService_Chat":
        _, conversation, _, turn = answer["accepted"]["turn"].split("/")
        return {"CONVERSATION": conversation, "TURN": turn}
    if "decision" in answer and name == "ChatService_Chat":
        return {"DECISION": answer["decision"]["id"]}
    made = re.fullmatch(r"\w+_Create(Pane|Key|Budget)", name)
    return {made[1].upper(): answer["name"].split("/")[-1]} if made else {}
