/** The panes beside the open conversation: what they hold, how they are arranged, and what people do with them. */
import { Store } from "../store";
import { pause } from "../turn/pause";
import { openIdleTap } from "../turn/taps";
import type { Part, TurnView } from "../turn/turn";
import type { Client } from "../wire/client";
import { asRefusal, type Refusal } from "../wire/refusal";
import type { Layout, Pane, PaneVersion, PatchOperation } from "../wire/types";
import { Arranging, type Untold } from "./arranging";
import { Edits } from "./edits";
import { followCanvas } from "./follow";
import { type Arrangement, closed, NOTHING_OPEN, opened, openedBehind } from "./layout";
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
  layout?: Layout | undefined;
}

const EMPTY: CanvasView = { panes: new Map(), arrangement: NOTHING_OPEN, loaded: false };
/** Where a tab keeps what it had not told yet when its page was left. */
const LEFT = "soma.arrangement";

interface Left extends Untold {
  conversation: string;
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
  private arranging = this.arrangingOf("");
  private following: AbortController | undefined;
  /** What this tab had not told when its page was left. */
  private left = JSON.parse(sessionStorage.getItem(LEFT) ?? "null") as Left | null;

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
    this.arranging = this.arrangingOf(conversation ?? "");
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
    if (!turn || turn.conversation !== this.view.get().conversation) return;
    const busy = this.edits.of(this.view.get().arrangement.active) !== undefined;
    for (const part of turn.parts.filter(({ name }) => this.arranging.expect(name)))
      this.arrange((now) =>
        now.panes.includes(part.name) ? now : (part === turn.parts[0] && !busy ? opened : openedBehind)(now, part.name),
      );
  }

  arrange(how: (now: Arrangement) => Arrangement): void {
    this.arranging.change(how);
  }

  async create(pane: Partial<Pane>): Promise<Pane> {
    const { conversation = "" } = this.view.get();
    const made = await this.client.createPane(conversation, pane, crypto.randomUUID());
    this.arranging.expect(made.name); // a snapshot from before it may still be on its way
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
    this.arranging.remove(name, (now) => closed(now, name));
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
    void this.arranging.tell();
    this.document = {};
    this.revision = 0;
    this.wanted.set(undefined);
  }

  private async read(): Promise<void> {
    const { conversation } = this.view.get();
    if (!conversation) return;
    const current = (): boolean => this.view.get().conversation === conversation;
    try {
      const [panes, layout] = await Promise.all([this.allPanes(conversation), this.arranging.read()]);
      if (!current()) return;
      this.learn({
        panes: Object.fromEntries(panes.map((pane) => [idOf(pane.name), pane])),
        layout: layout ?? this.document.layout,
      });
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

  private learn(document: CanvasDocument): void {
    const before = this.document.layout;
    this.document = document ?? {};
    const { conversation } = this.view.get();
    const entries = Object.entries(this.document.panes ?? {});
    const panes = new Map(entries.map(([id, pane]) => [`${conversation}/panes/${id}`, pane]));
    this.view.change(({ refusal: _, ...view }) => ({ ...view, panes, loaded: true }));
    const { layout } = this.document;
    if (layout && layout.etag !== before?.etag) this.arranging.hear(layout);
    this.arranging.know(new Set(panes.keys()));
  }

  private arrangingOf(conversation: string): Arranging {
    const current = (): boolean => this.view.get().conversation === conversation;
    return new Arranging({
      tell: (layout) => this.client.arrange(conversation, layout),
      ask: () => this.client.layout(conversation),
      show: (arrangement) => {
        if (current()) this.view.change((view) => ({ ...view, arrangement }));
      },
      failed: this.failed,
    });
  }

  /** The page is left: the mesh is told, and a reload need not wait for that. */
  private part(): void {
    const { conversation } = this.view.get();
    const { untold } = this.arranging;
    if (conversation && untold) sessionStorage.setItem(LEFT, JSON.stringify({ ...untold, conversation }));
    else sessionStorage.removeItem(LEFT);
    void this.arranging.tell();
  }

  private takeUp(conversation: string): void {
    if (this.left?.conversation === conversation) this.arranging.takeUp(this.left);
    this.left = null;
  }
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
