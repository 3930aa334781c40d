"""Signing in by the mesh's own issuer, staying signed in, and leaving."""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Request, Route, expect

from tests.browser.visitor import Visit, Visitor, words

SPOIL = """(parts) => {
  const tokens = JSON.parse(sessionStorage.getItem("soma.tokens"));
  for (const part of parts) tokens[part] = tokens[part].slice(0, -8) + "AAAAAAAA";
  sessionStorage.setItem("soma.tokens", JSON.stringify(tokens));
}"""


def test_a_person_signs_in_with_code_and_pkce_is_greeted_and_signs_out(visit: Visit) -> None:
    person = visit().sign_in()

    expect(person.see("welcome")).to_contain_text("Good ")
    expect(person.see("person")).to_contain_text("Member")
    expect(person.see("person")).to_contain_text("acme")
    asked = query(person.noise.sent("GET", "/oidc/authorize")[0])
    redeemed = form(person.noise.sent("POST", "/oidc/token")[0])
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["code_challenge"] == challenge(redeemed["code_verifier"])
    assert "code=" not in person.page.url, "The code is not left in the address."

    with person.page.expect_navigation():  # to the issuer, and back
        person.see("sign-out").click()
    expect(person.see("landing")).to_be_visible()
    person.page.reload()
    expect(person.see("landing")).to_be_visible()
    assert person.read("sessionStorage.getItem('soma.tokens')") is None


def test_a_sign_in_that_was_asked_for_by_nobody_is_not_taken(visit: Visit) -> None:
    person = visit()
    person.page.goto(f"{person.url}/?code=stolen&state=foreign")

    expect(person.see("landing")).to_be_visible()
    assert not person.noise.sent("POST", "/oidc/token")


def test_another_tenant_sees_nothing_of_the_first(visit: Visit) -> None:
    ours, theirs = visit("member@acme"), visit("member@globex")
    ours.ask("the colour of our new logo").is_answered("You said: the colour of our new logo")
    expect(ours.see("conversations")).to_contain_text("the colour of our new logo")

    theirs.page.goto(f"{theirs.url}/#{urlsplit(ours.page.url).fragment}")
    expect(theirs.see("problem")).to_have_attribute("data-reason", "CONVERSATION_UNKNOWN")
    theirs.page.reload()
    expect(theirs.see("problem")).to_be_visible()
    expect(theirs.page.locator("body")).not_to_contain_text("logo")

    theirs.see("problem").get_by_test_id("new-chat").click()
    expect(theirs.see("welcome")).to_be_visible()


def test_who_signs_in_after_another_finds_nothing_of_theirs_in_the_tab(visit: Visit) -> None:
    person = visit("member@acme")
    person.see("question-field").fill("a half-written secret")
    person.see("sign-out").click()
    person.sign_in("admin@globex")

    expect(person.see("person")).to_contain_text("globex")
    expect(person.see("question-field")).to_have_value("")
    assert "secret" not in person.read("JSON.stringify(sessionStorage)")


def test_a_page_left_open_renews_its_token_before_it_expires(visit: Visit) -> None:
    person = visit()
    person.page.clock.install()
    person.sign_in()
    first = token(person)
    with person.page.expect_request(lambda request: is_renewal(request)):
        person.page.clock.fast_forward("04:30")
    person.page.wait_for_function("old => JSON.parse(sessionStorage.getItem('soma.tokens')).access !== old", arg=first)

    person.ask("still here").is_answered("You said: still here")
    assert len(person.noise.sent("GET", "/oidc/authorize")) == 1


def test_a_question_with_a_spent_token_renews_it_first(visit: Visit) -> None:
    person = visit()
    person.page.route("**/oidc/token", short_lived)
    person.sign_in()
    person.ask("after a while").is_answered("You said: after a while")

    assert [r for r in person.noise.sent("POST", "/oidc/token") if is_renewal(r)]
    assert not person.noise.refused


def test_a_token_that_the_mesh_refuses_is_renewed_and_the_call_repeated(member: Visitor) -> None:
    member.page.evaluate(SPOIL, ["access"])
    member.page.reload()
    member.ask("once more").is_answered("You said: once more")

    assert any(answer.startswith("401") for answer in member.noise.refused)
    assert not member.noise.sent("GET", "/oidc/authorize")


def test_a_session_that_is_over_keeps_the_question_and_asks_it_after_the_next_sign_in(member: Visitor) -> None:
    member.page.evaluate(SPOIL, ["access", "refresh"])
    member.page.reload()
    expect(member.see("expired")).to_contain_text("Your session has ended")

    member.see("question-field").fill("script:words=3")
    member.see("question-field").press("Enter")
    expect(member.see("problem")).to_contain_text("Sign in")
    member.see("problem").get_by_test_id("sign-in").click()
    member.page.locator('button[value="member@acme"]').click()

    member.turn(0).is_answered(words(3))


def short_lived(route: Route) -> None:
    """The issuer's answer, but the token of a sign-in is good for a second only."""
    answer = route.fetch()
    said = answer.json()
    if not is_renewal(route.request):
        said["expires_in"] = 1
    route.fulfill(response=answer, body=json.dumps(said))


def is_renewal(request: Request) -> bool:
    return request.url.endswith("/oidc/token") and form(request)["grant_type"] == "refresh_token"


def token(person: Visitor) -> str:
    access: str = person.read("JSON.parse(sessionStorage.getItem('soma.tokens')).access")
    return access


def query(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}


def form(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.post_data or "").items()}


def challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
