import { afterEach, describe, expect, test, vi } from "vitest";
import type { Edit } from "../src/canvas/edits";
import { type CanvasDoors, followCanvas } from "../src/canvas/follow";
import { isIn, placesIn } from "../src/canvas/places";
import { save, type Saver } from "../src/canvas/save";
import { type Shown, shownOf } from "../src/canvas/shown";
import { takeOver } from "../src/canvas/takeover";
import { blocksOf } from "../src/markdown/blocks";
import { asked, takenAll, textOfPart } from "../src/turn/turn";
import { Refusal } from "../src/wire/refusal";
import type { CanvasEvent, ChatEvent, Pane, PatchOperation } from "../src/wire/types";

const NAME = "conversations/c/panes/p";
const pane = (more: Partial<Pane>): Pane => ({ name: NAME, kind: "code", text: "", etag: "1-1", ...more });

describe("the panes of an answer", () => {
  const EVENTS: ChatEvent[] = [
    { sequence: 1, accepted: { turn: "conversations/c/turns/t", conversation: "conversations/c" } },
    { sequence: 2, text: { delta: "Look:\n```python\n" } },
    { sequence: 3, pane: { name: NAME, kind: "code", title: "Python", language: "python" } },
    { sequence: 4, text: { delta: "a = 1\n" } },
    { sequence: 5, text: { delta: "b = 2\n" } },
    { sequence: 6, pane: { name: NAME, closed: true } },
    { sequence: 7, text: { delta: "```\n| a |\n| - |\n" } },
    { sequence: 8, pane: { name: `${NAME}2`, kind: "table", title: "Table", text: "| a |\n| - |\n" } },
    { sequence: 9, text: { delta: "| 1 |\n" } },
    { sequence: 10, pane: { name: `${NAME}3`, kind: "image", text: "https://example.org/x.png", closed: true } },
  ];
  const turnAfter = (n: number) => takenAll(asked("id", "?", "standard", "then"), EVENTS.slice(0, n), "now")[0];

  test("hold the texts between their opening and their end, and what they opened with", () => {
    const texts = (n: number): string[] => turnAfter(n).parts.map((part) => textOfPart(turnAfter(n), part));
    expect(texts(3)).toEqual([""]);
    expect(texts(4)).toEqual(["a = 1\n"]);
    expect(texts(7)).toEqual(["a = 1\nb = 2\n"]);
    expect(texts(10)).toEqual(["a = 1\nb = 2\n", "| a |\n| - |\n| 1 |\n", "https://example.org/x.png"]);
  });

  test("take nothing from the answer", () => {
    expect(turnAfter(10).answer).toBe("Look:\n```python\na = 1\nb = 2\n```\n| a |\n| - |\n| 1 |\n");
  });

  test("are shown as far as either the answer or the mesh has come", () => {
    const [part] = turnAfter(5).parts;
    const shown = (kept: Pane | undefined, said: string, running = true) => shownOf(kept, part, said, running);
    expect(shown(undefined, "ab")).toMatchObject({ text: "ab", writing: true, kept: false });
    expect(shown(pane({ text: "a", state: "STATE_WRITING", author: "agent" }), "ab")?.text).toBe("ab");
    expect(shown(pane({ text: "abc", state: "STATE_WRITING", author: "agent" }), "ab")?.text).toBe("abc");
    expect(shown(pane({ text: "a", author: "agent", state: "STATE_READY" }), "ab", false)?.text).toBe("a");
    expect(shownOf(undefined, undefined, "", false)).toBeUndefined();
  });

  test("are the person's once a person has saved them", () => {
    const [part] = turnAfter(5).parts;
    expect(shownOf(pane({ text: "mine", author: "person" }), part, "much longer", true)).toMatchObject({
      text: "mine",
      writing: false,
    });
  });
});

describe("the blocks of an old answer", () => {
  const ANSWER = "One:\n\n```py\na\n```\n\nTwo:\n\n```py\nb\n```\n\n| a |\n| - |\n| 1 |\n\n![x](https://e.org/x.png)\n";
  const tokens = blocksOf(ANSWER).tokens;
  const names = (panes: Pane[]): (string | undefined)[] => {
    const places = placesIn(tokens, panes);
    let at = 0;
    return tokens.map(({ raw }) => {
      const [from, to] = [at, (at += raw.length)];
      return places.find((place) => isIn(place, from, to))?.name;
    });
  };
  const some = (name: string, kind: Pane["kind"], text: string): Pane => ({ name, text, ...(kind && { kind }) });

  test("each lead to their pane", () => {
    const panes = [
      some("4", "image", "https://e.org/x.png"),
      some("1", "code", "a\n"),
      some("2", "code", "b\n"),
      some("3", "table", "| a |\n| - |\n| 1 |\n"),
    ];
    expect(names(panes).filter(Boolean)).toEqual(["1", "2", "3", "4"]);
  });

  test("lead to panes that were changed since by their order, and to none that is gone", () => {
    expect(names([some("1", "code", "changed"), some("2", "code", "b\n")]).filter(Boolean)).toEqual(["1", "2"]);
    expect(names([some("2", "code", "b\n")]).filter(Boolean)).toEqual(["2"]);
    expect(names([])).not.toContain("1");
  });
});

describe("saving", () => {
  const EDIT: Edit = { text: "mine", etag: "1-1", base: "old" };

  /** A mesh whose pane holds a text under an etag; it changes after each look if it is being written. */
  class Shelf implements Saver {
    saved: string[] = [];
    constructor(private now: Pane[]) {}
    async write(_: string, text: string, etag: string): Promise<Pane> {
      if (etag !== this.now[0]?.etag) throw new Refusal("ETAG_STALE", "Changed.", { status: 409 });
      this.saved.push(text);
      return pane({ text, etag: "9-9" });
    }
    async look(): Promise<Pane> {
      const seen = this.now[0]!;
      if (this.now.length > 1) this.now.shift();
      return seen;
    }
  }

  test("of what nobody changed is one call", async () => {
    const shelf = new Shelf([pane({ text: "old" })]);
    expect(await save(shelf, NAME, EDIT)).toMatchObject({ saved: { text: "mine" } });
  });

  test("is refused nowhere because of a new title alone", async () => {
    const shelf = new Shelf([pane({ text: "old", etag: "1-2" })]);
    expect(await save(shelf, NAME, EDIT)).toMatchObject({ saved: { text: "mine" } });
  });

  test("over somebody's change saves nothing and gives what stands there", async () => {
    const shelf = new Shelf([pane({ text: "theirs", etag: "2-1", author: "person" })]);
    expect(await save(shelf, NAME, EDIT)).toMatchObject({ newest: { text: "theirs", etag: "2-1" } });
    expect(shelf.saved).toEqual([]);
  });

  test("what is there already is done", async () => {
    const shelf = new Shelf([pane({ text: "mine", etag: "2-1" })]);
    expect(await save(shelf, NAME, EDIT)).toMatchObject({ saved: { etag: "2-1" } });
  });

  test("of a pane that was taken over wins against the agent that writes on, not against a person", async () => {
    const writing = ["1-2", "1-3", "1-4"].map((etag) => pane({ text: `o${etag}`, etag, author: "agent" }));
    expect(await save(new Shelf(writing), NAME, { ...EDIT, takenOver: true })).toMatchObject({
      saved: { text: "mine" },
    });
    const person = new Shelf([pane({ text: "theirs", etag: "2-1", author: "person" })]);
    expect(await save(person, NAME, { ...EDIT, takenOver: true })).toMatchObject({ newest: { text: "theirs" } });
  });
});

describe("following a canvas", () => {
  type Script = (CanvasEvent | Refusal)[];
  const patch = (path: string, revision?: number): CanvasEvent => ({
    patch: { operations: [{ op: "add", path, value: 1 }] },
    ...(revision !== undefined && { revision }),
  });

  function followed(scripts: Script[], without = 0): Promise<{ calls: number[]; changes: string[]; looks: number }> {
    const told = { calls: [] as number[], changes: [] as string[], looks: 0 };
    const doors: CanvasDoors = {
      watch: async function* (_, after) {
        told.calls.push(after);
        for (const step of scripts.shift() ?? [{ done: { deleted: true } }]) {
          if (step instanceof Refusal) throw step;
          yield [step];
        }
      },
      openTap: async () =>
        without-- > 0 ? undefined : { signal: new AbortController().signal, restMs: () => 1, close: () => undefined },
      pause: async () => undefined,
      look: async () => void told.looks++,
      change: (operations: PatchOperation[], revision) =>
        void told.changes.push(`${revision}: ${operations.map(({ path }) => path).join(" ")}`),
      failed: () => undefined,
    };
    return followCanvas("conversations/c", 0, doors, new AbortController().signal).then(() => told);
  }

  test("a snapshot of several parts is one change", async () => {
    const told = await followed([[patch(""), patch("/panes/a"), patch("/panes/b", 7)]]);
    expect(told.changes).toEqual(["7:  /panes/a /panes/b"]);
  });

  test("half a snapshot changes nothing, and is asked for again", async () => {
    const told = await followed([[patch(""), patch("/panes/a")], [patch("", 3)]]);
    expect(told.changes).toEqual(["3: "]);
    expect(told.calls.slice(0, 2)).toEqual([0, 0]);
  });

  test("it goes on after the last revision, when it was long enough and when it was cut", async () => {
    const told = await followed([[patch("/a", 4), { done: {} }], [patch("/b", 5)], [{ heartbeat: {} }]]);
    expect(told.calls).toEqual([0, 4, 5, 5]);
  });

  test("an unknown revision is answered with a snapshot", async () => {
    const unknown = new Refusal("REVISION_UNKNOWN", "No.", { status: 400 });
    expect((await followed([[patch("/a", 9)], [unknown], [patch("", 2)]])).calls).toEqual([0, 9, 0, 2]);
  });

  test("without a stream it looks", async () => {
    const told = await followed([[patch("", 1)]], 3);
    expect(told.looks).toBe(3);
    expect(told.changes).toEqual(["1: "]);
  });

  test("it ends when the conversation is gone", async () => {
    const gone = new Refusal("CONVERSATION_UNKNOWN", "Gone.", { status: 404 });
    expect((await followed([[gone]])).calls).toEqual([0]);
  });
});

describe("taking over from an answer", () => {
  const UNKNOWN = new Refusal("PANE_UNKNOWN", "There is no such pane.", { status: 404 });
  const shown = (text: string, kept: boolean): Shown => ({ pane: pane({}), text, writing: true, kept });
  afterEach(() => vi.useRealTimers());

  /** A mesh that hears of the pane at the last of so many looks. */
  const shelf = (looks: number) => ({
    looks: 0,
    async look() {
      if (++this.looks < looks) throw UNKNOWN;
      return pane({ etag: "2-2" });
    },
  });

  test("waits for the mesh to hear of the pane, and takes what was written by then", async () => {
    vi.useFakeTimers();
    const mesh = shelf(4);
    const edit = takeOver(mesh, NAME, () => shown("line\n".repeat(mesh.looks), false));
    await vi.advanceTimersByTimeAsync(3_000);
    const text = "line\n".repeat(4);
    expect(await edit).toEqual({ text, base: text, etag: "2-2", takenOver: true });
  });

  test("gives up when the mesh never hears of it", async () => {
    vi.useFakeTimers();
    const edit = takeOver(shelf(Infinity), NAME, () => shown("", false)).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(await edit).toBe(UNKNOWN);
  });

  test.each([
    ["is gone", shown("", true)],
    ["nobody looks at any more", undefined],
  ])("of a pane that %s is refused at once", async (_, now) => {
    const mesh = shelf(2);
    await expect(takeOver(mesh, NAME, () => now)).rejects.toBe(UNKNOWN);
    expect(mesh.looks).toBe(1);
  });
});
