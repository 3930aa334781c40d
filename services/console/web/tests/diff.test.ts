import { describe, expect, test } from "vitest";
import { diffOf, type Row, sideBySide, stretches, tally } from "../src/canvas/diff";

const side = (rows: Row[], left: boolean): string =>
  rows
    .filter(({ is }) => is === "same" || is === (left ? "out" : "in"))
    .map(({ text }) => text)
    .join("\n");

/** Numbers that look like chance and are the same each time. */
function* chance(seed: number): Generator<number> {
  for (;;) yield (seed = (seed * 1103515245 + 12345) & 0x7fffffff);
}

function someText(random: Generator<number>, lines: number, words: number): string {
  const one = (): number => random.next().value as number;
  return Array.from({ length: one() % lines }, () => `w${(one() >> 8) % words}`).join("\n");
}

describe("a diff", () => {
  test("gives both texts back, whatever they are", () => {
    const random = chance(7);
    for (let i = 0; i < 400; i++) {
      const [before, after] = [someText(random, 30, 6), someText(random, 30, 6)];
      const rows = diffOf(before, after);
      expect(side(rows, true)).toBe(before);
      expect(side(rows, false)).toBe(after);
    }
  });

  test("is as short as can be", () => {
    const random = chance(11);
    for (let i = 0; i < 200; i++) {
      const [before, after] = [someText(random, 12, 3), someText(random, 12, 3)];
      const same = diffOf(before, after).filter(({ is }) => is === "same").length;
      expect(same).toBe(longestShared(before.split("\n"), after.split("\n")));
    }
  });

  test("of the same text is no change", () => {
    expect(tally(diffOf("a\nb", "a\nb"))).toEqual({ added: 0, removed: 0 });
    expect(stretches(diffOf("a\nb", "a\nb"))).toEqual([{ hidden: 2 }]);
  });

  test("marks what changed inside a line", () => {
    const [out, come] = diffOf("let size = 12;", "let size = 13;");
    expect(out?.marks?.filter(({ changed }) => changed).map(({ text }) => text)).toEqual(["12"]);
    expect(come?.marks?.map(({ text }) => text).join("")).toBe("let size = 13;");
  });

  test("does not mark lines that have nothing in common", () => {
    expect(diffOf("alpha beta gamma", "one two three four").every(({ marks }) => marks === undefined)).toBe(true);
  });

  test("of two large texts without a common line is quick, and one whole change", () => {
    const text = (word: string): string => Array.from({ length: 20_000 }, (_, i) => `${word} ${i}`).join("\n");
    const began = performance.now();
    expect(tally(diffOf(text("a"), text("b")))).toEqual({ added: 20_000, removed: 20_000 });
    expect(performance.now() - began).toBeLessThan(1_500);
  });

  test("of two large texts that differ in every third line is quick and finds what is kept", () => {
    const lines = (word: string): string[] =>
      Array.from({ length: 12_000 }, (_, i) => (i % 3 ? `${i}` : `${word}${i}`));
    const began = performance.now();
    const rows = diffOf(lines("a").join("\n"), lines("b").join("\n"));
    expect(performance.now() - began).toBeLessThan(1_500);
    expect(tally(rows)).toEqual({ added: 4_000, removed: 4_000 });
  });

  test("of 256 KiB of empty lines does not break", () => {
    expect(tally(diffOf("\n".repeat(262_144), "x"))).toEqual({ added: 1, removed: 262_145 });
  });

  test("shows a few lines around each change and says how many are hidden", () => {
    const before = Array.from({ length: 40 }, (_, i) => `${i}`);
    const after = before.with(20, "new");
    const shown = stretches(diffOf(before.join("\n"), after.join("\n")));
    expect(shown.map((each) => ("hidden" in each ? each.hidden : each.rows.length))).toEqual([17, 8, 16]);
  });

  test("side by side puts what came beside what went", () => {
    const sides = sideBySide(diffOf("a\nb\nc", "a\nB\nB2\nc"));
    expect(sides.map(([left, right]) => [left?.text, right?.text])).toEqual([
      ["a", "a"],
      ["b", "B"],
      [undefined, "B2"],
      ["c", "c"],
    ]);
  });
});

function longestShared(a: string[], b: string[]): number {
  const best = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++)
      best[i]![j] = a[i - 1] === b[j - 1] ? best[i - 1]![j - 1]! + 1 : Math.max(best[i - 1]![j]!, best[i]![j - 1]!);
  return best[a.length]![b.length]!;
}
