"""The page for every hand and eye: by keyboard alone, on a phone, by day and by night."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser.visitor import Visit, Visitor

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
MOST_TABS = 40
FOCUS = """() => {
  const here = document.activeElement;
  const around = here.closest("form");
  const marked = (style) => style.outlineStyle !== "none" || style.boxShadow !== "none";
  const shown = marked(getComputedStyle(here)) || (around !== null && marked(getComputedStyle(around)));
  const box = here.getBoundingClientRect();
  return shown && box.width > 0 && box.bottom > 0 && box.top < innerHeight;
}"""
BRIGHTNESS = """() => {
  const colours = [document.body, document.documentElement].map((e) => getComputedStyle(e).backgroundColor);
  const [red, green, blue] = colours.find((c) => c !== "rgba(0, 0, 0, 0)").match(/[0-9.]+/g).map(Number);
  return (red + green + blue) / 3;
}"""


def test_everything_can_be_done_by_keyboard_and_the_focus_is_seen(visit: Visit) -> None:
    person = visit()
    press = person.page.keyboard.press
    walk_to(person.page, person.see("sign-in"))
    press("Enter")
    walk_to(person.page, person.page.locator('button[value="member@acme"]'))
    press("Enter")
    expect(person.see("question-field")).to_be_focused()

    person.page.keyboard.type("script:words=500 script:pace=50")
    press("Enter")
    person.turn(0).has_begun("word3")
    press("Escape")
    person.turn(0).ends("cancelled")
    expect(person.see("question-field")).to_be_focused()

    walk_to(person.page, person.turn(0).see("why-toggle"), "Shift+Tab")
    press("Enter")
    expect(person.turn(0).see("why-panel")).to_be_visible()

    press("Control+k")
    expect(person.see("welcome")).to_be_visible()
    expect(person.see("question-field")).to_be_focused()
    person.page.keyboard.type("one line")
    press("Shift+Enter")
    person.page.keyboard.type("and another")
    press("Enter")
    expect(person.turn(0).see("question")).to_have_text("one line\nand another")


def test_what_is_answered_is_told_to_people_who_listen(member: Visitor) -> None:
    turn = member.ask("script:words=200 script:pace=50")
    expect(member.see("announcer")).to_have_text("Answering.")
    turn.ends()
    expect(member.see("announcer")).not_to_have_text("Answering.")
    expect(member.see("announcer")).not_to_be_empty()


def test_a_phone_has_the_list_in_a_drawer_and_nothing_scrolls_sideways(visit: Visit) -> None:
    person = visit("member@acme", **PHONE)
    fits(person)
    turn = person.ask("script:words=3 script:bytes=300")
    turn.ends()
    fits(person)
    turn.see("why-toggle").tap()
    expect(turn.see("candidates")).to_be_visible()
    fits(person)

    expect(person.see("new-chat")).not_to_be_in_viewport()
    person.see("open-drawer").tap()
    expect(person.see("new-chat")).to_be_in_viewport()
    fits(person)
    person.see("new-chat").tap()
    expect(person.see("new-chat")).not_to_be_in_viewport()
    expect(person.see("welcome")).to_be_visible()
    expect(person.see("question-field")).to_be_in_viewport()


def test_dark_and_light_follow_the_system_until_somebody_chooses(visit: Visit) -> None:
    person = visit(color_scheme="dark")
    is_dark(person)
    person.see("sign-in").click()
    expect(person.page.locator('button[value="member@acme"]')).to_be_visible()
    is_dark(person)  # the issuer's page too
    person.page.locator('button[value="member@acme"]').click()
    expect(person.see("welcome")).to_be_visible()
    is_dark(person)

    person.page.emulate_media(color_scheme="light")
    is_light(person)
    person.see("theme").click()  # light, whatever the system says
    person.page.emulate_media(color_scheme="dark")
    is_light(person)
    person.page.reload()
    expect(person.see("welcome")).to_be_visible()
    is_light(person)


def walk_to(page: Page, goal: Locator, key: str = "Tab") -> None:
    """Press Tab until it is there; at each step the focus can be seen."""
    goal.wait_for()
    for _ in range(MOST_TABS):
        page.keyboard.press(key)
        assert page.evaluate(FOCUS), f"The focus is not seen on {page.evaluate('document.activeElement.outerHTML')}"
        if goal.evaluate("goal => goal === document.activeElement"):
            return
    raise AssertionError(f"{goal} is not reached by {key}.")


def is_dark(person: Visitor) -> None:
    person.page.wait_for_function(f"() => ({BRIGHTNESS})() < 60")


def is_light(person: Visitor) -> None:
    person.page.wait_for_function(f"() => ({BRIGHTNESS})() > 200")


def fits(person: Visitor) -> None:
    """Nothing is wider than the screen. (innerWidth would not tell: on phones it grows with the page.)"""
    assert person.page.viewport_size
    widths = person.read("['html', 'main', '.thread'].map((each) => document.querySelector(each).scrollWidth)")
    assert max(widths) <= person.page.viewport_size["width"]
