/** The list of conversations: pages of it, and what people do to its rows. */
import { Store } from "../store";
import type { Client } from "../wire/client";
import { asRefusal, type Refusal } from "../wire/refusal";
import type { Conversation } from "../wire/types";

export interface ConversationsView {
  rows: Conversation[];
  loaded: boolean;
  /** The token of the next page. Empty: that was all. */
  next: string;
  refusal?: Refusal;
}

/** How often a conversation that is being answered elsewhere is looked at. */
const RUNNING_POLL_MS = 5_000;

export class Conversations {
  readonly view = new Store<ConversationsView>({ rows: [], loaded: false, next: "" });
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly client: Client,
    private readonly failed: (refusal: Refusal) => void,
  ) {}

  /** Reads the first page; rows of further pages stay as they are. */
  async load(): Promise<void> {
    await this.guarded(async () => {
      const page = await this.client.conversations();
      const { rows, loaded, next } = this.view.get();
      const fresh = page.conversations ?? [];
      const oldest = fresh.at(-1);
      const kept = page.nextPageToken && oldest ? rows.filter((row) => row.name < oldest.name) : [];
      this.view.set({
        rows: merged(kept, fresh),
        loaded: true,
        next: loaded && kept.length ? next : (page.nextPageToken ?? ""),
      });
    });
    this.planLook();
  }

  async more(): Promise<void> {
    const { next } = this.view.get();
    if (!next) return;
    await this.guarded(async () => {
      const page = await this.client.conversations(next);
      this.view.change((view) => ({
        rows: merged(view.rows, page.conversations ?? []),
        loaded: true,
        next: page.nextPageToken ?? "",
      }));
    });
  }

  /** Reads one conversation again: its title, its place, whether it is being answered. */
  async look(name: string): Promise<void> {
    try {
      this.put(await this.client.conversation(name));
    } catch (error) {
      if (asRefusal(error).reason === "CONVERSATION_UNKNOWN") this.drop(name);
    }
    this.planLook();
  }

  /** Renames it. When someone else was faster, their title is shown and the refusal thrown. */
  async rename(conversation: Conversation, title: string): Promise<void> {
    this.put({ ...conversation, title });
    try {
      this.put(await this.client.rename(conversation, title));
    } catch (error) {
      this.put(conversation);
      await this.look(conversation.name);
      throw error;
    }
  }

  async delete(name: string): Promise<void> {
    try {
      await this.client.delete(name);
    } catch (error) {
      if (asRefusal(error).reason !== "CONVERSATION_UNKNOWN") throw error;
    }
    this.drop(name);
  }

  put(conversation: Conversation): void {
    this.view.change((view) => ({ ...view, rows: merged(view.rows, [conversation]) }));
  }

  private drop(name: string): void {
    this.view.change((view) => ({ ...view, rows: view.rows.filter((row) => row.name !== name) }));
  }

  private async guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const refusal = asRefusal(error);
      this.view.change((view) => ({ ...view, refusal }));
      this.failed(refusal);
    }
  }

  /** While some conversation is being answered, looks at it now and then, so that its mark goes out. */
  private planLook(): void {
    clearTimeout(this.timer);
    const running = this.view.get().rows.find((row) => row.runningTurn);
    if (running) this.timer = setTimeout(() => void this.lookWhenSeen(running.name), RUNNING_POLL_MS);
  }

  private async lookWhenSeen(name: string): Promise<void> {
    if (document.visibilityState === "visible") await this.look(name);
    else this.planLook();
  }
}

const when = (row: Conversation): string => row.updateTime ?? row.createTime ?? "";

/** Rows of both, the newer reading of each, newest first. */
function merged(rows: Conversation[], fresh: Conversation[]): Conversation[] {
  const byName = new Map([...rows, ...fresh].map((row) => [row.name, row]));
  return [...byName.values()].sort((a, b) => (when(a) < when(b) ? 1 : when(a) > when(b) ? -1 : 0));
}
