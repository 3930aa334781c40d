/**
 * Follows a canvas: watches from the last revision, as often as the stream ends. Without a stream it looks now and then.
 * A snapshot of several parts is one change.
 */
import { backoffMs } from "../turn/pause";
import type { Tap } from "../turn/taps";
import { asRefusal, cut, type Refusal, refusalIn } from "../wire/refusal";
import type { CanvasEvent, PatchOperation } from "../wire/types";

export interface CanvasDoors {
  watch(conversation: string, afterRevision: number, signal: AbortSignal): AsyncGenerator<CanvasEvent[]>;
  /** Undefined: no stream may be held just now. */
  openTap(): Promise<Tap | undefined>;
  pause(ms: number, signal: AbortSignal): Promise<void>;
  /** Reads the canvas as it stands. */
  look(): Promise<void>;
  change(operations: PatchOperation[], revision: number): void;
  failed(refusal: Refusal): void;
}

/** How often a tab without a stream looks. */
const LOOK_MS = 20_000;
const GONE = new Set(["CONVERSATION_UNKNOWN", "PATH_UNKNOWN", "SIGNED_OUT", "TOKEN_REFUSED"]);

/** Returns when the canvas is gone. Throws the abort. */
export async function followCanvas(
  conversation: string,
  revision: number,
  doors: CanvasDoors,
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 0; ;) {
    const tap = await doors.openTap();
    signal.throwIfAborted();
    if (!tap) {
      await doors.look();
      await doors.pause(LOOK_MS, signal);
      continue;
    }
    const round = await listen(conversation, revision, doors, AbortSignal.any([signal, tap.signal])).finally(tap.close);
    signal.throwIfAborted();
    if (round.gone) return;
    if (round.revision !== revision || round.over || tap.signal.aborted) attempt = 0;
    revision = round.cause?.reason === "REVISION_UNKNOWN" ? 0 : round.revision;
    if (round.over) continue;
    if (tap.signal.aborted) {
      await doors.pause(tap.restMs(), signal);
      continue;
    }
    const cause = round.cause ?? cut();
    if (GONE.has(cause.reason)) return;
    if (attempt > 0) doors.failed(cause); // the first cut is mended without a word
    await doors.pause(Math.max(cause.facts.retryAfterMs ?? 0, backoffMs(attempt++, Math.random())), signal);
  }
}

interface Round {
  revision: number;
  cause?: Refusal;
  /** It was long enough. */
  over?: true;
  gone?: true;
}

/** One connection: how far it led, and why it ended. */
async function listen(conversation: string, revision: number, doors: CanvasDoors, signal: AbortSignal): Promise<Round> {
  let waiting: PatchOperation[] = [];
  try {
    for await (const events of doors.watch(conversation, revision, signal))
      for (const event of events) {
        if (event.done) return { revision, ...(event.done.deleted ? { gone: true } : { over: true }) };
        if (event.error) return { revision, cause: refusalIn(event.error) };
        waiting = [...waiting, ...(event.patch?.operations ?? [])];
        if (event.revision === undefined || !event.patch) continue;
        revision = event.revision;
        doors.change(waiting, revision);
        waiting = [];
      }
    return { revision };
  } catch (error) {
    return { revision, cause: asRefusal(error) };
  }
}
