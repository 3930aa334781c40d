import { expect, test } from "vitest";
import { fromCsv, fromPipes, numberIn, sorted, tableOf, toCsv } from "../src/canvas/table";

test("pipes become cells; escaped ones belong to theirs", () => {
  expect(fromPipes("| a | b |\n| --- | --: |\n| 1 \\| 2 | x |\n| only |\n")).toEqual({
    head: ["a", "b"],
    rows: [
      ["1 | 2", "x"],
      ["only", ""],
    ],
  });
  expect(fromPipes("a | b\n--|--\n1 | 2").rows).toEqual([["1", "2"]]);
});

test("CSV is read with quotes, line breaks in them, and other marks than the comma", () => {
  expect(fromCsv('a,b\r\n"x, ""y""","two\nlines"\n3')).toEqual({
    head: ["a", "b"],
    rows: [
      ['x, "y"', "two\nlines"],
      ["3", ""],
    ],
  });
  expect(fromCsv("a;b\n1;2").rows).toEqual([["1", "2"]]);
  expect(fromCsv("a\tb\n1\t2").rows).toEqual([["1", "2"]]);
});

test("what a table is follows its text when the language does not say", () => {
  expect(tableOf("| a |\n| - |\n| 1 |", "").rows).toEqual([["1"]]);
  expect(tableOf("a,b\n1,2", "").head).toEqual(["a", "b"]);
  expect(tableOf("", "csv")).toEqual({ head: [], rows: [] });
});

test("a table goes to CSV and back", () => {
  const table = { head: ["a,b", 'c"d'], rows: [["1\n2", " x "]] };
  expect(fromCsv(toCsv(table))).toEqual(table);
});

test("no cell of the CSV is taken for a formula", () => {
  const csv = toCsv({ head: ["a"], rows: [["=1+1"], ["@x"], ["-2"], ["-cmd|x"], ["+4.5"]] });
  expect(csv.split("\r\n")).toEqual(["a", "'=1+1", "'@x", "-2", "'-cmd|x", "+4.5", ""]);
});

test("columns are sorted as numbers when they are numbers, as words when not; empty cells come last", () => {
  const table = { head: ["n"], rows: [["$1,200"], ["9"], [""], ["30%"]] };
  expect(sorted(table, { column: 0, down: false }).flat()).toEqual(["9", "30%", "$1,200", ""]);
  expect(sorted(table, { column: 0, down: true }).flat()).toEqual(["$1,200", "30%", "9", ""]);
  const words = { head: ["w"], rows: [["b"], ["A"], ["a10"], ["a2"]] };
  expect(sorted(words, { column: 0, down: false }).flat()).toEqual(["A", "a2", "a10", "b"]);
  expect(sorted(words, undefined)).toBe(words.rows);
});

test("numbers are known in the dress of tables", () => {
  expect(["1,234.5", "€ 3", "12 %", "1e3", "-.5"].map(numberIn)).toEqual([1234.5, 3, 12, 1000, -0.5]);
  expect(["1,2", "x1", "", "--1"].every((cell) => Number.isNaN(numberIn(cell)))).toBe(true);
});
