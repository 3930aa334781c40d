/** The open conversation: its turns, the question being answered, and what people do with it. */
import { Store } from "../store";
import { follow, type FollowDoors } from "../turn/follow";
import { backoffMs, pause } from "../turn/pause";
import { openTap } from "../turn/taps";
import { asked, askedAgain, ended, failed, listed, type TurnView } from "../turn/turn";
import type { Client } from "../wire/client";
import { asRefusal, type Refusal, refusalIn } from "../wire/refusal";
import type { Tier } from "../wire/types";
import { Frames } from "./frames";
import { dropPending, keepDraft, keepPending, pendingIn } from "./pending";

export interface ChatView {
  /** The conversation's name. Absent: a new one that has no question yet. */
  conversation?: string;
  /** Oldest first. */
  turns: TurnView[];
  loaded: boolean;
  /** The token of the page before the first turn. Empty: nothing is before it. */
  older: string;
  /** Why the turns could not be read. */
  refusal?: Refusal;
  /** Why nothing comes just now. */
  trouble?: { cause: Refusal; againAtMs: number };
  stopping: boolean;
}

export interface ChatEars {
  /** The open conversation has got its name. */
  named(conversation: string): void;
  /** A question was accepted in this conversation, or its answer has ended. */
  changed(conversation: string): void;
  failed(refusal: Refusal): void;
}

const EMPTY: ChatView = { turns: [], loaded: true, older: "", stopping: false };

export class Chat {
  readonly view = new Store<ChatView>(EMPTY);
  private readonly frames = new Frames();
  /** Ends the following of the turn that is being answered. */
  private following: AbortController | undefined;

  constructor(
    private readonly client: Client,
    private readonly ears: ChatEars,
  ) {}

  /** The turn that is being answered. */
  get running(): TurnView | undefined {
    return this.view.get().turns.find((turn) => !ended(turn));
  }

  async open(conversation: string | undefined): Promise<void> {
    if (conversation && conversation === this.view.get().conversation) return this.refresh();
    this.leave();
    this.view.set(conversation ? { ...EMPTY, conversation, loaded: false } : EMPTY);
    if (conversation) await this.read(conversation);
    else this.goOn(undefined);
  }

  /** Reads the newest turns again, for what other tabs did meanwhile. Nothing to do while this one follows a turn. */
  async refresh(): Promise<void> {
    const { conversation } = this.view.get();
    if (conversation && !this.following) await this.read(conversation);
  }

  send(question: string, tier: Tier): void {
    const { conversation } = this.view.get();
    this.start(asked(crypto.randomUUID(), question, tier, new Date().toISOString(), conversation));
  }

  /** Asks again what was not answered: the same question if it was never accepted, else a new one. */
  retry(turn: TurnView, tier: Tier = turn.tier): void {
    if (turn.name || turn.failure?.reason === "REQUEST_ID_REUSED" || tier !== turn.tier) {
      if (!turn.name) this.forget(turn);
      return this.send(turn.question, tier);
    }
    this.start(askedAgain(turn));
  }

  /** Stops the answer. A question that cannot get through is taken back: it is returned. */
  async stop(): Promise<string | undefined> {
    const turn = this.running;
    if (!turn) return undefined;
    if (!turn.name && this.view.get().trouble) {
      this.leave();
      dropPending();
      this.forget(turn);
      this.view.change(calmed);
      return turn.question;
    }
    this.view.change((view) => ({ ...view, stopping: true }));
    if (turn.name) await this.cancel(turn.name);
    return undefined; // without a name: cancelled as soon as it is accepted
  }

  /** Stops the turn because of which a question was refused, and asks again. */
  async stopAndRetry(turn: TurnView): Promise<void> {
    try {
      if (turn.blockedBy) await this.client.cancel(turn.blockedBy);
      this.retry(turn);
    } catch (error) {
      this.replace(failed(turn, asRefusal(error).failure(), turn.blockedBy));
    }
  }

  /** Takes an unanswered question off the screen; it was never accepted. */
  forget(turn: TurnView): void {
    this.view.change((view) => ({ ...view, turns: view.turns.filter(({ key }) => key !== turn.key) }));
  }

  /** Reads the page before the first turn. `beforeShown` is called just before it is put on the screen. */
  older = async (beforeShown: () => void): Promise<void> => {
    const { conversation, older } = this.view.get();
    if (!conversation || !older) return;
    try {
      const page = await this.client.turns(conversation, older);
      const before = (page.turns ?? []).map(listed).reverse();
      beforeShown();
      this.view.change((view) =>
        view.conversation === conversation
          ? { ...view, turns: [...before, ...view.turns], older: page.nextPageToken ?? "" }
          : view,
      );
    } catch (error) {
      this.ears.failed(asRefusal(error));
    }
  };

  /** Lets go of the stream; the turn goes on in the mesh. A question on its way is let go once it is accepted. */
  leave(): void {
    const { following } = this;
    this.following = undefined;
    if (this.running?.name || this.view.get().trouble) following?.abort();
  }

  private async cancel(turn: string): Promise<void> {
    try {
      await this.client.cancel(turn);
    } catch (error) {
      this.view.change((view) => ({ ...view, stopping: false }));
      this.ears.failed(asRefusal(error));
    }
  }

  private async read(conversation: string): Promise<void> {
    const current = (): boolean => this.view.get().conversation === conversation && !this.following;
    try {
      const page = await this.client.turns(conversation);
      if (!current()) return;
      const newest = (page.turns ?? []).map(listed).reverse();
      this.view.change((view) => ({ ...calmed(view), ...joined(view, newest, page.nextPageToken ?? "") }));
      this.goOn(conversation);
    } catch (error) {
      const refusal = asRefusal(error);
      if (current()) this.view.change((view) => ({ ...view, loaded: true, refusal }));
      this.ears.failed(refusal);
    }
  }

  /** Goes on with what is being answered, or with the question that was on its way when the page was left. */
  private goOn(conversation: string | undefined): void {
    const turn = this.running ?? pendingIn(conversation);
    if (turn) this.start(turn);
  }

  private start(turn: TurnView): void {
    this.leave();
    this.replace(turn);
    if (!turn.name) keepPending(turn);
    const stop = new AbortController();
    this.following = stop;
    void this.follow(turn, stop);
  }

  private async follow(turn: TurnView, stop: AbortController): Promise<void> {
    let latest = turn;
    const here = (): boolean => this.following === stop;
    const show = (next: TurnView): void => {
      if (!latest.name && next.name) this.accepted(next, here());
      latest = next;
      if (here()) this.frames.next(() => here() && this.replace(latest));
      else if (next.name) stop.abort();
    };
    try {
      latest = await follow(turn, this.doors(show, here), stop.signal);
      if (latest.failure) this.ears.failed(refusalIn(latest.failure));
    } catch (error) {
      if (stop.signal.aborted) return;
      const refusal = asRefusal(error);
      if (!latest.name && !refusal.signedOut) dropPending(); // after signing in again it is asked by itself
      if (!latest.name && !here()) keepDraft(latest.conversation, latest.question);
      latest = failed(latest, refusal.failure(), refusal.facts.metadata?.["turn"]);
      this.ears.failed(refusal);
    }
    if (here()) {
      this.following = undefined;
      this.replace(latest);
      this.view.change(calmed);
    }
    if (latest.conversation && latest.name) this.ears.changed(latest.conversation);
  }

  private doors(show: (turn: TurnView) => void, here: () => boolean): FollowDoors {
    return {
      ask: ({ key, question, tier, conversation }, signal) =>
        this.client.ask({ text: question, requestId: key, tier, ...(conversation && { conversation }) }, signal),
      watch: this.client.watch,
      openTap,
      pause,
      backoffMs: (attempt) => backoffMs(attempt, Math.random()),
      now: () => new Date().toISOString(),
      show,
      trouble: (cause, againInMs = 0) => {
        if (here()) this.trouble(cause && { cause, againAtMs: Date.now() + againInMs });
      },
    };
  }

  private trouble(trouble: ChatView["trouble"]): void {
    if (!trouble && !this.view.get().trouble) return;
    this.view.change(({ trouble: _, ...view }) => (trouble ? { ...view, trouble } : view));
    if (trouble) this.ears.failed(trouble.cause);
  }

  private accepted(turn: TurnView, here: boolean): void {
    const { name, conversation } = turn;
    dropPending();
    if (!name || !conversation) return;
    if (here) {
      this.view.change((view) => ({ ...view, conversation }));
      this.replace(turn);
      this.ears.named(conversation);
      if (this.view.get().stopping) void this.cancel(name);
    }
    this.ears.changed(conversation);
  }

  /** Puts the turn where it was, or last. */
  private replace(turn: TurnView): void {
    this.view.change((view) => {
      const at = view.turns.findIndex(({ key }) => key === turn.key);
      const turns = view.turns.filter(({ key, name }) => key === turn.key || !name || name !== turn.name);
      return { ...view, turns: at < 0 ? [...turns, turn] : turns.map((old) => (old.key === turn.key ? turn : old)) };
    });
  }
}

/** Read, with no refusal, no trouble and nothing being stopped. */
function calmed({ refusal: _, trouble: __, ...view }: ChatView): ChatView {
  return { ...view, loaded: true, stopping: false };
}

/** The newest page joined to what was read before it: turns keep their keys, so that nothing on the screen jumps. */
function joined(view: ChatView, newest: TurnView[], older: string): Pick<ChatView, "turns" | "older"> {
  const known = new Map(view.turns.map((turn) => [turn.name, turn]));
  const names = new Set(newest.map(({ name }) => name));
  const before = view.turns.filter((turn) => turn.name && !names.has(turn.name));
  const unsent = view.turns.filter((turn) => !turn.name);
  const met = newest.some(({ name }) => known.has(name));
  const fresh = newest.map((turn) => {
    const old = known.get(turn.name);
    if (!old) return turn;
    return ended(old) && ended(turn) ? old : { ...turn, key: old.key };
  });
  return met ? { turns: [...before, ...fresh, ...unsent], older: view.older } : { turns: [...fresh, ...unsent], older };
}
