import { expect, test } from "vitest";
import { percent } from "../src/view/format";
import { openTier, spoken, waitingSentence, wordsFor } from "../src/view/words";
import { refusalOf, unreachable } from "../src/wire/refusal";

const SPENT =
  'big: It could cost $0.02, and $0.01 is left of your budget of a day. The tier "slm" is open: ask for that.';

test("only all is a hundred percent, and only nothing none", () => {
  expect([0, 0.001, 0.926, 0.999, 1].map(percent)).toEqual(["0 %", "<1 %", "93 %", ">99 %", "100 %"]);
});

test("a spent budget offers the tier that is open, told by metadata or by its sentence alone", () => {
  expect(openTier({ reason: "BUDGET_SPENT", message: SPENT })).toBe("slm");
  expect(openTier({ reason: "BUDGET_SPENT", message: "", metadata: { cheaper_tier: "standard" } })).toBe("standard");
  expect(
    openTier({ reason: "BUDGET_SPENT", message: "Ask an admin.", metadata: { cheaper_tier: "" } }),
  ).toBeUndefined();
  expect(openTier({ reason: "MODEL_BUSY", message: SPENT })).toBeUndefined();
  expect(wordsFor({ reason: "BUDGET_SPENT" }).deeds).toEqual(["other-tier", "retry"]);
  expect(spoken(SPENT)).toContain("The Small tier is open");
});

test("the metadata of a refused call stay with its failure", () => {
  const info = { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "BUDGET_SPENT" };
  const details = [{ ...info, metadata: { cheaper_tier: "slm" } }];
  const failure = refusalOf(429, JSON.stringify({ code: 8, message: "Spent.", details })).failure();
  expect(openTier(failure)).toBe("slm");
});

test("a thumb that waits says why and that it is kept", () => {
  expect(waitingSentence(unreachable().failure())).toBe(
    "Not sent yet: the mesh cannot be reached. It is kept, and sent as soon as it can be.",
  );
});
