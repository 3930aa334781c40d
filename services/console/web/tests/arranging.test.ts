import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Arranging } from "../src/canvas/arranging";
import { type Arrangement, closed, NOTHING_OPEN, opened } from "../src/canvas/layout";
import { Refusal } from "../src/wire/refusal";
import type { Layout } from "../src/wire/types";

const ALL = new Set(["a", "b", "c", "d"]);

/** Keeps one layout as the mesh does; an answer can be held back. */
class Mesh {
  layout: Layout = { panes: ["a"], active: "a", beside: "", etag: "1" };
  told = 0;
  held: Promise<unknown> = Promise.resolve();
  refusal: Refusal | undefined;

  arrange(panes: string[]): Layout {
    this.layout = { panes, active: panes[0] ?? "", beside: "", etag: String(Number(this.layout.etag) + 1) };
    return this.layout;
  }

  tell = async ({ etag, ...layout }: Layout): Promise<Layout> => {
    this.told++;
    await this.held;
    if (this.refusal) throw this.refusal;
    if (etag !== this.layout.etag) throw refused("ETAG_STALE");
    return (this.layout = { ...layout, etag: String(Number(etag) + 1) });
  };
}

const refused = (reason: string): Refusal => new Refusal(reason, "refused");

function tab(mesh: Mesh): { arranging: Arranging; shown: () => Arrangement } {
  let shown = NOTHING_OPEN;
  const arranging = new Arranging({
    tell: mesh.tell,
    ask: async () => mesh.layout,
    show: (arrangement) => (shown = arrangement),
    failed: () => undefined,
  });
  arranging.know(ALL);
  arranging.hear(mesh.layout);
  return { arranging, shown: () => shown };
}

function holding(mesh: Mesh): () => void {
  let release = (): void => undefined;
  mesh.held = new Promise<void>((resolve) => (release = resolve));
  return () => release();
}

describe("an arrangement that the mesh is told of", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const settled = (): Promise<unknown> => vi.runAllTimersAsync();

  test("is joined with what another tab did, though that is heard while the refusal is on its way", async () => {
    const mesh = new Mesh();
    const { arranging, shown } = tab(mesh);
    const release = holding(mesh);
    arranging.change((now) => opened(now, "b"));
    void arranging.tell();
    arranging.hear(mesh.arrange(["a", "c"]));
    release();
    await settled();
    expect(shown().panes).toEqual(["a", "c", "b"]);
    expect(mesh.layout.panes).toEqual(["a", "c", "b"]);
  });

  test("is told once more when it was changed meanwhile, and never twice at a time", async () => {
    const mesh = new Mesh();
    const { arranging } = tab(mesh);
    const release = holding(mesh);
    arranging.change((now) => opened(now, "b"));
    void arranging.tell();
    arranging.change((now) => opened(now, "c"));
    await arranging.tell();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(mesh.told).toBe(1);
    release();
    await settled();
    expect(mesh.layout.panes).toEqual(["a", "b", "c"]);
    expect(mesh.told).toBe(2);
  });

  test("keeps what was told though an older layout is heard meanwhile", async () => {
    const mesh = new Mesh();
    const { arranging, shown } = tab(mesh);
    const [before, release] = [mesh.layout, holding(mesh)];
    arranging.change((now) => opened(now, "b"));
    const told = arranging.tell();
    const read = arranging.read();
    arranging.hear(before);
    release();
    await told;
    expect(await read).toBeUndefined();
    expect(shown().panes).toEqual(["a", "b"]);
  });

  test("takes over what another tab did right after it", async () => {
    const mesh = new Mesh();
    const { arranging, shown } = tab(mesh);
    arranging.change((now) => opened(now, "b"));
    const told = arranging.tell();
    await Promise.resolve();
    arranging.hear({ ...mesh.layout, panes: ["a", "b", "c"], etag: "3" });
    await told;
    expect(shown().panes).toEqual(["a", "b", "c"]);
  });

  test("waits for a mesh that fails until the layout is read again", async () => {
    const mesh = new Mesh();
    const { arranging } = tab(mesh);
    mesh.refusal = refused("UNAVAILABLE");
    arranging.change((now) => opened(now, "b"));
    await settled();
    expect(mesh.told).toBe(1);
    mesh.refusal = undefined;
    await arranging.read();
    await settled();
    expect(mesh.layout.panes).toEqual(["a", "b"]);
  });

  test("is done again after a reload, as far as the mesh had not heard it", async () => {
    const mesh = new Mesh();
    const before = tab(mesh);
    before.arranging.change((now) => closed(opened(now, "b"), "a"));
    const left = before.arranging.untold;
    mesh.arrange(["a", "c"]);
    const after = tab(mesh);
    after.arranging.takeUp(left!);
    await settled();
    expect(mesh.layout.panes).toEqual(["c", "b"]);
    expect(after.arranging.untold).toBeUndefined();
  });

  test("names no pane that the mesh does not know yet", async () => {
    const mesh = new Mesh();
    const { arranging, shown } = tab(mesh);
    expect(arranging.expect("e")).toBe(true);
    expect(arranging.expect("e")).toBe(false);
    arranging.change((now) => opened(now, "e"));
    await settled();
    expect(shown().panes).toEqual(["a", "e"]);
    expect(mesh.layout.panes).toEqual(["a"]);
    arranging.know(new Set([...ALL, "e"]));
    await settled();
    expect(mesh.layout.panes).toEqual(["a", "e"]);
  });

  test("keeps a pane open that another tab opened and this one has not heard of yet", async () => {
    const mesh = new Mesh();
    const { arranging } = tab(mesh);
    mesh.arrange(["a", "new"]);
    arranging.change((now) => opened(now, "b"));
    await settled();
    arranging.know(new Set([...ALL]));
    arranging.change((now) => opened(now, "c"));
    await settled();
    expect(mesh.layout.panes).toEqual(["a", "new", "b", "c"]);
  });

  test("closes a pane that is gone from the mesh", async () => {
    const mesh = new Mesh();
    const { arranging, shown } = tab(mesh);
    mesh.arrange(["a", "b"]);
    arranging.hear(mesh.layout);
    arranging.know(new Set(["a", "c", "d"]));
    expect(shown().panes).toEqual(["a"]);
    arranging.change((now) => opened(now, "c"));
    await settled();
    expect(mesh.layout.panes).toEqual(["a", "c"]);
  });
});
