/** The panes beside the open conversation: what they hold, how they are arranged, and what people do with them. */
import { Store } from "../store";
import { pause } from "../turn/pause";
import { openIdleTap } from "../turn/taps";
import type { Part, TurnView } from "../turn/turn";
import type { Client } from "../wire/client";
import { asRefusal, type Refusal } from "../wire/refusal";
import type { Layout, Pane, PaneVersion, PatchOperation } from "../wire/types";
import { Edits } from "./edits";
import { followCanvas } from "./follow";
import {
  type Arrangement,
  arrangementOf,
  closed,
  filtered,
  followed,
  merged,
  NOTHING_OPEN,
  opened,
  openedBehind,
  same,
} from "./layout";
import { patched } from "./patch";

export interface CanvasView {
  conversation?: string;
  /** By name, as the mesh knows them. */
  panes: ReadonlyMap<string, Pane>;
  arrangement: Arrangement;
  loaded: boolean;
  refusal?: Refusal;
}

/** What the mesh knows of a canvas, as WatchCanvas patches it. Panes by the last part of their name. */
interface CanvasDocument {
  panes?: Record<string, Pane>;
  layout?: Layout;
}

const EMPTY: CanvasView = { panes: new Map(), arrangement: NOTHING_OPEN, loaded: false };
const ARRANGE_MS = 600;
/** Where a tab keeps what it had not told yet when its page was left. */
const LEFT = "soma.arrangement";

interface Left {
  conversation: string | undefined;
  arrangement: Arrangement;
  base: Arrangement;
}
/** A pane lives only where the mesh has this room: without it the page has no panes, and says nothing of it. */
const ABSENT = new Set(["CONVERSATION_UNKNOWN", "PATH_UNKNOWN"]);

export class Canvas {
  readonly view = new Store<CanvasView>(EMPTY);
  readonly edits: Edits;
  /** Whether somebody wants panes in sight. Undefined: they have not said. */
  readonly wanted = new Store<boolean | undefined>(undefined);
  private document: CanvasDocument = {};
  private revision = 0;
  /** The layout as the mesh has it, and what was made of it here since. */
  private base: Arrangement = NOTHING_OPEN;
  /** The layout that the mesh was last heard to have. */
  private heardOf: Arrangement = NOTHING_OPEN;
  private etag = "";
  private unsaved = false;
  private telling = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private following: AbortController | undefined;
  /** Panes that were heard of or made here: there, although what the mesh says may not know them yet. */
  private heard = new Set<string>();
  /** Panes that were deleted here, though an answer told of them. */
  private removed = new Set<string>();

  constructor(
    private readonly client: Client,
    private readonly failed: (refusal: Refusal) => void,
    closing: AbortSignal,
  ) {
    this.edits = new Edits(closing);
    addEventListener("pagehide", () => this.part(), { signal: closing });
  }

  async open(conversation: string | undefined): Promise<void> {
    if (conversation === this.view.get().conversation) return this.refresh();
    this.leave();
    this.view.set(conversation ? { ...EMPTY, conversation } : { ...EMPTY, loaded: true });
    await this.read();
  }

  /** Reads what other tabs did meanwhile. Nothing to do while the canvas is being followed. */
  refresh = async (): Promise<void> => {
    if (!this.following) await this.read();
  };

  /** A stream is held only while somebody looks at panes and no answer comes. */
  follow(wanted: boolean): void {
    const { conversation } = this.view.get();
    if (!wanted || !conversation) {
      this.following?.abort();
      this.following = undefined;
      return;
    }
    if (this.following) return;
    const stop = new AbortController();
    this.following = stop;
    const doors = {
      watch: this.client.watchCanvas,
      openTap: openIdleTap,
      pause,
      look: () => this.read(),
      change: (operations: PatchOperation[], revision: number) => {
        if (this.following === stop) this.change(operations, revision);
      },
      failed: this.failed,
    };
    void followCanvas(conversation, this.revision, doors, stop.signal)
      .catch(() => undefined) // let go of
      .finally(() => {
        if (this.following === stop) this.following = undefined;
      });
  }

  /** What the newest answer says of its panes. Each is opened once; the first comes to the front unless somebody
   *  edits the one that is there. */
  hear(turn: TurnView | undefined): void {
    const fresh = (turn?.parts ?? []).filter(({ name }) => !this.heard.has(name));
    if (!turn || fresh.length === 0 || turn.conversation !== this.view.get().conversation) return;
    const busy = this.edits.of(this.view.get().arrangement.active) !== undefined;
    const first = turn.parts[0];
    for (const part of fresh) {
      this.heard.add(part.name);
      this.arrange((now) =>
        now.panes.includes(part.name) ? now : (part === first && !busy ? opened : openedBehind)(now, part.name),
      );
    }
  }

  arrange(how: (now: Arrangement) => Arrangement): void {
    const before = this.view.get().arrangement;
    const arrangement = how(before);
    if (same(before, arrangement)) return;
    this.view.change((view) => ({ ...view, arrangement }));
    this.unsaved = true;
    this.planArranging();
  }

  async create(pane: Partial<Pane>): Promise<Pane> {
    const { conversation = "" } = this.view.get();
    const made = await this.client.createPane(conversation, pane, crypto.randomUUID());
    this.heard.add(made.name); // a snapshot from before it may still be on its way
    this.put(made);
    this.show(made.name);
    return made;
  }

  /** Refuses with ETAG_STALE when the text was changed elsewhere since `etag`. */
  async write(name: string, text: string, etag: string): Promise<Pane> {
    return this.put(await this.client.writePane(name, text, etag));
  }

  async describe(name: string, how: { title: string } | { language: string }): Promise<Pane> {
    return this.put(await this.client.describePane(name, how));
  }

  async restore(version: PaneVersion, etag: string): Promise<Pane> {
    return this.put(await this.client.restore(version.name, etag));
  }

  /** Reads the pane as it stands now. */
  async look(name: string): Promise<Pane> {
    return this.put(await this.client.pane(name));
  }

  async remove(name: string): Promise<void> {
    try {
      await this.client.deletePane(name);
    } catch (error) {
      if (asRefusal(error).reason !== "PANE_UNKNOWN") throw error;
    }
    this.edits.drop(name);
    this.removed.add(name);
    this.arrange((now) => closed(now, name));
    const { [idOf(name)]: _, ...panes } = this.document.panes ?? {};
    this.learn({ ...this.document, panes });
  }

  /** Opens the pane and brings the panes in sight. */
  show = (name: string): void => {
    this.arrange((now) => opened(now, name));
    this.wanted.set(true);
  };

  /** What was kept of a pane, newest first. */
  async versions(pane: string): Promise<PaneVersion[]> {
    return (await this.client.versions(pane)).versions ?? [];
  }

  version = (name: string): Promise<PaneVersion> => this.client.version(name);

  /** Lets go of the stream; what was arranged is told to the mesh at once. */
  leave(): void {
    this.follow(false);
    if (this.unsaved) void this.tellArrangement();
    clearTimeout(this.timer);
    this.document = {};
    this.revision = 0;
    this.base = NOTHING_OPEN;
    this.heardOf = NOTHING_OPEN;
    this.etag = "";
    this.unsaved = false;
    this.heard = new Set();
    this.removed = new Set();
    this.wanted.set(undefined);
  }

  private async read(): Promise<void> {
    const { conversation } = this.view.get();
    if (!conversation) return;
    const current = (): boolean => this.view.get().conversation === conversation;
    try {
      const [panes, layout] = await Promise.all([this.allPanes(conversation), this.client.layout(conversation)]);
      if (!current()) return;
      this.learn({ panes: Object.fromEntries(panes.map((pane) => [idOf(pane.name), pane])), layout });
      this.takeUp(conversation);
    } catch (error) {
      const refusal = asRefusal(error);
      if (!current()) return;
      if (ABSENT.has(refusal.reason)) return this.view.change((view) => ({ ...view, loaded: true }));
      this.view.change((view) => ({ ...view, refusal }));
      this.failed(refusal);
    }
  }

  private async allPanes(conversation: string): Promise<Pane[]> {
    const all: Pane[] = [];
    for (let token = ""; ;) {
      const page = await this.client.panes(conversation, token);
      all.push(...(page.panes ?? []));
      token = page.nextPageToken ?? "";
      if (!token) return all;
    }
  }

  private change(operations: PatchOperation[], revision: number): void {
    this.revision = revision;
    this.learn(patched(this.document, operations) as CanvasDocument);
  }

  private put(pane: Pane): Pane {
    this.learn({ ...this.document, panes: { ...this.document.panes, [idOf(pane.name)]: pane } });
    return pane;
  }

  /** Shows a newer document. Panes that are gone are closed. */
  private learn(document: CanvasDocument): void {
    this.document = document ?? {};
    const { conversation } = this.view.get();
    const entries = Object.entries(this.document.panes ?? {});
    const panes = new Map(entries.map(([id, pane]) => [`${conversation}/panes/${id}`, pane]));
    this.view.change(({ refusal: _, ...view }) => ({ ...view, panes, loaded: true }));
    this.hearLayout(this.document.layout ?? {});
    this.view.change((view) => ({ ...view, arrangement: filtered(view.arrangement, this.isThere) }));
    const { arrangement } = this.view.get();
    const waiting = arrangement.panes.some((name) => panes.has(name) && !this.base.panes.includes(name));
    if (!waiting) return;
    this.unsaved = true; // the mesh could not keep it open before it knew it
    this.planArranging();
  }

  private isThere = (name: string): boolean =>
    this.view.get().panes.has(name) || (this.heard.has(name) && !this.removed.has(name));

  private hearLayout(layout: Layout): void {
    if ((layout.etag ?? "") === this.etag) return;
    const mine = this.view.get().arrangement;
    const theirs = arrangementOf(layout);
    const joined = merged(this.base, mine, theirs);
    const arrangement = this.etag ? followed(mine, joined) : joined;
    this.base = theirs;
    this.heardOf = theirs;
    this.etag = layout.etag ?? "";
    this.view.change((view) => ({ ...view, arrangement }));
  }

  /** The page is left: the mesh is told, and a reload need not wait for that. */
  private part(): void {
    const { conversation, arrangement } = this.view.get();
    const left: Left = { conversation, arrangement, base: this.heardOf };
    if (conversation && (this.unsaved || this.telling)) sessionStorage.setItem(LEFT, JSON.stringify(left));
    void this.tellArrangement();
  }

  /** Does to the layout what was done before the page was left, as far as the mesh was not heard to know it. */
  private takeUp(conversation: string): void {
    const left = JSON.parse(sessionStorage.getItem(LEFT) ?? "null") as Left | null;
    sessionStorage.removeItem(LEFT);
    if (left?.conversation !== conversation) return;
    this.arrange((now) => filtered(merged(left.base, left.arrangement, now), this.isThere));
  }

  private planArranging(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.tellArrangement(), ARRANGE_MS);
  }

  /** When another tab was faster, what was done here is done to what it made. */
  tellArrangement = async (): Promise<void> => {
    clearTimeout(this.timer);
    const { conversation, arrangement, panes } = this.view.get();
    if (!conversation || !this.unsaved || !this.view.get().loaded) return;
    this.unsaved = false;
    const mine = filtered(arrangement, (name) => panes.has(name));
    if (same(mine, this.base)) return;
    const current = (): boolean => this.view.get().conversation === conversation;
    const before = this.base;
    this.base = mine; // the stream may tell of it before the answer does
    this.telling = true;
    try {
      const told = await this.client.arrange(conversation, { ...mine, panes: [...mine.panes], etag: this.etag });
      if (!current()) return;
      this.base = arrangementOf(told);
      this.heardOf = this.base;
      this.etag = told.etag ?? "";
      this.document = { ...this.document, layout: told };
    } catch (error) {
      if (!current()) return;
      this.unsaved = true;
      this.base = before;
      if (asRefusal(error).reason !== "ETAG_STALE") return this.failed(asRefusal(error));
      this.hearLayout(await this.client.layout(conversation));
      this.planArranging();
    } finally {
      this.telling = false;
    }
  };
}

export const idOf = (name: string): string => name.slice(name.lastIndexOf("/") + 1);

/** A pane as far as an answer has told of it: the mesh may not know it yet. */
export const paneOfPart = (part: Part, text: string, writing: boolean): Pane => ({
  name: part.name,
  kind: part.kind,
  title: part.title,
  language: part.language,
  text,
  author: "agent",
  ...(writing && { state: "STATE_WRITING" }),
});
