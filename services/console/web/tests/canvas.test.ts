import { describe, expect, test } from "vitest";
import {
  type Arrangement,
  closed,
  filtered,
  followed,
  merged,
  moved,
  NOTHING_OPEN,
  opened,
  openedBehind,
  setBeside,
} from "../src/canvas/layout";
import { patched } from "../src/canvas/patch";
import { chunksOf, grownChunks } from "../src/canvas/chunks";
import { fileName, size } from "../src/canvas/files";
import { pictureOf } from "../src/canvas/image";

describe("a JSON patch", () => {
  test("adds, replaces and removes, and leaves the old document as it was", () => {
    const before = { panes: { a: { text: "1" } }, layout: { panes: ["x", "y"] } };
    const after = patched(before, [
      { op: "add", path: "/panes/b", value: { text: "2" } },
      { op: "replace", path: "/panes/a/text", value: "3" },
      { op: "remove", path: "/layout/panes/0" },
      { op: "add", path: "/layout/panes/-", value: "z" },
      { op: "add", path: "/layout/panes/0", value: "w" },
    ]);
    expect(after).toEqual({ panes: { a: { text: "3" }, b: { text: "2" } }, layout: { panes: ["w", "y", "z"] } });
    expect(before.panes.a.text).toBe("1");
  });

  test("of the whole document replaces it", () => {
    expect(patched({ old: 1 }, [{ op: "replace", path: "", value: { fresh: 1 } }])).toEqual({ fresh: 1 });
    expect(patched({ old: 1 }, [{ op: "add", value: { fresh: 1 } }])).toEqual({ fresh: 1 });
  });

  test("reads escaped keys, and takes __proto__ for a key like others", () => {
    expect(patched({}, [{ op: "add", path: "/a~1b~0c", value: 1 }])).toEqual({ "a/b~c": 1 });
    const after = patched({}, [{ op: "add", path: "/__proto__", value: { bad: 1 } }]) as Record<string, unknown>;
    expect(after["bad"]).toBeUndefined();
    expect(({} as Record<string, unknown>)["bad"]).toBeUndefined();
  });

  test("that names no place changes nothing", () => {
    const document = { panes: {}, list: [1] };
    for (const path of ["/panes/x/text", "/list/9", "/list/x", "/nothing/at/all"])
      expect(patched(document, [{ op: "replace", path, value: 1 }])).toEqual(document);
  });
});

describe("an arrangement", () => {
  const abc: Arrangement = { panes: ["a", "b", "c"], active: "b", beside: "" };

  test("an opened pane is in front, one opened behind is not", () => {
    expect(opened(abc, "d")).toEqual({ panes: ["a", "b", "c", "d"], active: "d", beside: "" });
    expect(openedBehind(abc, "d").active).toBe("b");
    expect(openedBehind(NOTHING_OPEN, "d").active).toBe("d");
  });

  test("when the front one is closed its neighbour comes to the front", () => {
    expect(closed(abc, "b")).toEqual({ panes: ["a", "c"], active: "c", beside: "" });
    expect(closed({ ...abc, active: "c" }, "c").active).toBe("b");
    expect(closed({ panes: ["a"], active: "a", beside: "" }, "a")).toEqual(NOTHING_OPEN);
    expect(closed({ panes: ["a", "b"], active: "a", beside: "b" }, "a")).toEqual({
      panes: ["b"],
      active: "b",
      beside: "",
    });
  });

  test("a pane stands in front or beside, never both", () => {
    expect(setBeside(abc, "a")).toEqual({ ...abc, beside: "a" });
    expect(setBeside(abc, "b")).toEqual({ ...abc, active: "c", beside: "b" });
    expect(setBeside({ panes: ["a"], active: "a", beside: "" }, "a").beside).toBe("");
  });

  test("panes move and stay within the row", () => {
    expect(moved(abc, "a", 1).panes).toEqual(["b", "a", "c"]);
    expect(moved(abc, "a", -1).panes).toEqual(["a", "b", "c"]);
    expect(moved(abc, "a", 9).panes).toEqual(["b", "c", "a"]);
  });

  test("what another tab arranged meanwhile is kept, and what was done here is done to it", () => {
    const mine = closed(opened(abc, "d"), "a");
    const theirs: Arrangement = { panes: ["a", "c", "e"], active: "e", beside: "c" };
    expect(merged(abc, mine, theirs)).toEqual({ panes: ["c", "e", "d"], active: "d", beside: "c" });
    expect(merged(abc, moved(abc, "c", -2), theirs).panes).toEqual(["c", "a", "e"]);
    expect(merged(abc, abc, theirs)).toEqual(theirs);
  });

  test("another tab's arrangement leaves what is in front here if it is still open", () => {
    const theirs: Arrangement = { panes: ["b", "x"], active: "x", beside: "" };
    expect(followed(abc, theirs)).toEqual({ panes: ["b", "x"], active: "b", beside: "" });
    expect(followed({ ...abc, active: "a" }, theirs).active).toBe("x");
  });

  test("what is gone is not open", () => {
    expect(filtered(abc, (name) => name !== "b")).toEqual({ panes: ["a", "c"], active: "a", beside: "" });
  });
});

describe("the pieces of a long text", () => {
  const LONG = Array.from({ length: 900 }, (_, i) =>
    i % 7 === 6 ? "" : `${i % 3 ? "  " : ""}line ${i} of a long program`,
  ).join("\n");

  test("joined are the text, and their lines are counted", () => {
    const chunks = chunksOf(LONG);
    expect(chunks.length).toBeGreaterThan(4);
    expect(chunks.map(({ text }) => text).join("")).toBe(LONG);
    expect(chunks.reduce((sum, { lines }) => sum + lines, 0)).toBe(900);
    for (const { text, line } of chunks) expect(LONG.split("\n")[line - 1]).toBe(text.split("\n")[0]);
  });

  test("of a text that grew are those of the whole, and all but the last are the same objects", () => {
    let known = "";
    let chunks = chunksOf(known);
    for (let end = 0; end <= LONG.length; end += 137) {
      const text = LONG.slice(0, end);
      const next = grownChunks(chunks, known, text, true);
      expect(next).toEqual(chunksOf(text, true));
      if (chunks.length > 1) expect(next[0]).toBe(chunks[0]);
      [chunks, known] = [next, text];
    }
  });

  test("a long text without a line break is one piece", () => {
    expect(chunksOf("x".repeat(100_000))).toHaveLength(1);
  });
});

describe("a file's name", () => {
  const named = (title: string, language = "python", kind = "code" as const): string =>
    fileName({ name: "n", title, language, kind });

  test("is the title with the extension of the language, once", () => {
    expect(named("Palindrome")).toBe("Palindrome.py");
    expect(named("main.py")).toBe("main.py");
    expect(named("", "")).toBe("code.txt");
    expect(fileName({ name: "n", title: "Sales", kind: "table", language: "csv" })).toBe("Sales.csv");
    expect(fileName({ name: "n", title: "A page", kind: "html" })).toBe("A page.html");
    expect(fileName({ name: "n", title: "Face", kind: "image", language: "svg" })).toBe("Face.svg");
  });

  test("leads out of no folder and hides nothing", () => {
    for (const title of [
      "../../etc/passwd",
      "..\\x",
      "a\u202egnp.exe",
      ".hidden",
      "con",
      "a\u0000b",
      "$(rm -rf)",
      "`x`",
      "<img src=x>",
    ]) {
      const name = named(title);
      expect(name).toMatch(/^[^\\/:*?"<>|\p{Cc}\p{Cf}]+\.py$/u);
      expect(name).not.toMatch(/^[.-]|^con\./);
    }
    expect(named("x".repeat(500)).length).toBeLessThan(100);
  });

  test("sizes are said in bytes and KiB", () => {
    expect([0, 1, 1023, 1024, 200_000].map(size)).toEqual(["0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "195 KiB"]);
  });
});

describe("an image", () => {
  test("is shown from its own bytes alone; an address is only named", () => {
    expect(pictureOf("data:image/png;base64,AAAA", "").is).toBe("shown");
    expect(pictureOf(" https://example.org/a.png ", "")).toEqual({
      is: "address",
      url: "https://example.org/a.png",
      host: "example.org",
    });
    for (const text of [
      "javascript:alert(1)",
      "data:text/html,<script>1</script>",
      "file:///x",
      "//example.org/x",
      "https://",
    ])
      expect(pictureOf(text, "").is).toBe("text");
  });

  test("a drawing's source is an image, never markup of the page", () => {
    const picture = pictureOf('<svg xmlns="http://www.w3.org/2000/svg" onload="x()"></svg>', "svg");
    expect(picture).toMatchObject({ is: "shown" });
    expect(picture.is === "shown" && picture.src).toMatch(/^data:image\/svg\+xml;charset=utf-8,%3Csvg/);
    expect(() => pictureOf("<svg>\ud800", "svg")).not.toThrow();
  });
});
