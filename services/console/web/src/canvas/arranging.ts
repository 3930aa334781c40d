/** How the panes of one conversation are arranged: here, in the mesh, and in other tabs that arrange them too. */
import { asRefusal, type Refusal } from "../wire/refusal";
import type { Layout } from "../wire/types";
import { type Arrangement, arrangementOf, filtered, followed, merged, NOTHING_OPEN, same } from "./layout";

export interface ArrangingDoors {
  /** Refuses with ETAG_STALE when another tab was faster. */
  tell(layout: Layout): Promise<Layout>;
  ask(): Promise<Layout>;
  show(arrangement: Arrangement): void;
  failed(refusal: Refusal): void;
}

/** What the mesh was not heard to know when a page was left. */
export interface Untold {
  arrangement: Arrangement;
  base: Arrangement;
}

const ARRANGE_MS = 600;

/** Tells the mesh of an arrangement a moment after it was changed, one telling at a time. */
export class Arranging {
  private now: Arrangement = NOTHING_OPEN;
  /** The layout that the mesh was last heard to have. */
  private base: Arrangement = NOTHING_OPEN;
  private etag = "";
  private unsaved = false;
  private telling = false;
  private tellings = 0;
  /** What the mesh said while it was being told: it may be of before or after that. */
  private meanwhile: Layout | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private known: ReadonlySet<string> = new Set();
  /** Panes that were heard of or made here: there, although what the mesh says may not know them yet. */
  private heard = new Set<string>();
  /** Panes that were deleted here, though an answer told of them. */
  private removed = new Set<string>();
  /** Panes that the mesh had and has no more: its last layout may still name them. */
  private gone = new Set<string>();

  constructor(private readonly doors: ArrangingDoors) {}

  change(how: (now: Arrangement) => Arrangement): void {
    const before = this.now;
    this.set(how(before));
    if (this.now !== before) this.plan();
  }

  /** Of a pane that the mesh need not know yet. False: it was heard of before. */
  expect(name: string): boolean {
    if (this.heard.has(name)) return false;
    this.heard.add(name);
    return true;
  }

  remove(name: string, how: (now: Arrangement) => Arrangement): void {
    this.removed.add(name);
    this.change(how);
  }

  /** The panes that the mesh has. What is gone is closed. */
  know(panes: ReadonlySet<string>): void {
    for (const name of this.known) if (!panes.has(name)) this.gone.add(name);
    this.known = panes;
    this.set(filtered(this.now, this.isThere));
    // the mesh could not keep a pane open before it knew it
    if (this.now.panes.some((name) => panes.has(name) && !this.base.panes.includes(name))) this.plan();
  }

  /** A layout that the mesh has. */
  hear(layout: Layout): void {
    if ((layout.etag ?? "") === this.etag) return;
    if (this.telling) this.meanwhile = layout;
    else this.join(layout);
  }

  /** Reads the layout anew. Undefined: the mesh was told of a newer one meanwhile. */
  async read(): Promise<Layout | undefined> {
    const before = this.tellings;
    const layout = await this.doors.ask();
    if (this.unsaved) this.plan(); // the mesh could not be told before
    return before === this.tellings && !this.telling ? layout : undefined;
  }

  /** Does to the layout what was done to it before the page was left. */
  takeUp({ base, arrangement }: Untold): void {
    this.change((now) => filtered(merged(base, arrangement, now), this.isThere));
  }

  get untold(): Untold | undefined {
    return this.unsaved || this.telling ? { arrangement: this.now, base: this.base } : undefined;
  }

  /** Tells the mesh at once. When another tab was faster, what was done here is done to what that one made. */
  tell = async (): Promise<void> => {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (!this.unsaved || this.telling || !this.etag) return;
    this.unsaved = false;
    const mine = filtered(this.now, this.isKept);
    if (same(mine, this.base)) return;
    this.telling = true;
    this.tellings++;
    try {
      this.isAt(await this.doors.tell({ ...mine, panes: [...mine.panes], etag: this.etag }));
    } catch (error) {
      this.unsaved = true;
      if (asRefusal(error).reason !== "ETAG_STALE") return this.doors.failed(asRefusal(error));
      this.meanwhile = await this.doors.ask().catch(() => this.meanwhile);
    } finally {
      this.telling = false;
      if (this.meanwhile) this.hear(this.meanwhile);
      this.meanwhile = undefined;
    }
    if (this.unsaved) this.plan();
  };

  private isAt(layout: Layout): void {
    this.base = arrangementOf(layout);
    this.etag = layout.etag ?? "";
  }

  private join(layout: Layout): void {
    const theirs = arrangementOf(layout);
    const joined = merged(this.base, this.now, theirs);
    const arrangement = this.etag ? followed(this.now, joined) : joined;
    this.isAt(layout);
    this.set(arrangement);
    if (this.unsaved) this.plan();
  }

  private set(arrangement: Arrangement): void {
    if (same(this.now, arrangement)) return;
    this.now = arrangement;
    this.doors.show(arrangement);
  }

  private plan(): void {
    this.unsaved = true;
    this.timer ??= setTimeout(() => void this.tell(), ARRANGE_MS);
  }

  private isThere = (name: string): boolean => this.isKept(name) || (this.heard.has(name) && !this.removed.has(name));

  /** Whether the mesh has it: it said so, or another tab opened it there, of which this one need not have heard more. */
  private isKept = (name: string): boolean =>
    this.known.has(name) || (this.base.panes.includes(name) && !this.gone.has(name) && !this.removed.has(name));
}
