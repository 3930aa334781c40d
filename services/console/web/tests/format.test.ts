import { expect, test } from "vitest";
import { decoded } from "../src/markdown/entities";
import { backoffMs } from "../src/turn/pause";
import { dollars, duration, era, hasLongRun } from "../src/view/format";
import { downSentence } from "../src/view/words";
import { Refusal } from "../src/wire/refusal";

test("micro-USD become dollars to the last digit, or free", () => {
  expect(["0", undefined, "123", "1000000", "1250000", "10", 412].map(dollars)).toEqual([
    "free",
    "free",
    "$0.000123",
    "$1.00",
    "$1.25",
    "$0.00001",
    "$0.000412",
  ]);
});

test("durations are said in the unit that fits", () => {
  expect([85, 1_240, 125_000].map(duration)).toEqual(["85 ms", "1.2 s", "2 min 5 s"]);
});

test("eras go by midnights, not by hours", () => {
  const now = new Date(2026, 5, 15, 0, 30);
  const at = (day: number, hour: number): string => new Date(2026, 5, day, hour).toISOString();
  expect([at(15, 0), at(14, 23), at(13, 12), at(8, 12), at(2, 1)].map((time) => era(time, now)).slice(0, 4)).toEqual([
    "Today",
    "Yesterday",
    "Previous 7 days",
    "Previous 7 days",
  ]);
});

test("backoff doubles to ten seconds", () => {
  expect([0, 1, 2, 10].map((attempt) => backoffMs(attempt, 1))).toEqual([500, 1_000, 2_000, 10_000]);
  expect(backoffMs(0, 0)).toBe(375);
});

test("character references become characters, and never markup", () => {
  expect(decoded("a &amp; b &lt;i&gt; &#65;&#x42; &unknown; &")).toBe("a & b <i> AB &unknown; &");
});

test("a long run is one without a space, however long the text", () => {
  expect(hasLongRun("word ".repeat(10_000))).toBe(false);
  expect(hasLongRun(`word ${"a".repeat(1_000)}`)).toBe(true);
});

test("a banner says the mesh's first sentence, which names the part", () => {
  const said = (reason: string, message: string): string => downSentence(new Refusal(reason, message));
  const down = "The router is not answering. Try again in a moment.";
  expect(said("ROOM_UNAVAILABLE", down)).toBe("The router is not answering");
  expect(said("UNREACHABLE", "Nothing answers.")).toBe("The mesh cannot be reached");
  expect(said("MODEL_UNAVAILABLE", "No model of the slm tier or below is open.")).toContain("the Small tier");
  expect(said("ROOM_UNAVAILABLE", "")).toBe("A part of the mesh is down");
});
