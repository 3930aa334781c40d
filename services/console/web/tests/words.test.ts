import { expect, test } from "vitest";
import { percent } from "../src/view/format";
import { spoken, waitingSentence } from "../src/view/words";
import { unreachable } from "../src/wire/refusal";

test("only all is a hundred percent, and only nothing none", () => {
  expect([0, 0.001, 0.926, 0.999, 1].map(percent)).toEqual(["0 %", "<1 %", "93 %", ">99 %", "100 %"]);
});

test("tiers in a sentence of the mesh are called what the page calls them", () => {
  expect(spoken('The tier "slm" is open: ask for that.')).toBe("The Small tier is open: ask for that.");
});

test("a thumb that waits says why and that it is kept", () => {
  expect(waitingSentence(unreachable().failure())).toBe(
    "Not sent yet: the mesh cannot be reached. It is kept, and sent as soon as it can be.",
  );
});
