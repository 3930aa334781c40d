/**
 * Follows a turn to its end. Asks until the question is accepted (always with the same requestId), then watches from
 * the last event seen, as often as the stream is cut. A stream that ends without `done` or `error` was cut.
 */
import { asRefusal, CUT, cut, type Refusal } from "../wire/refusal";
import type { ChatEvent } from "../wire/types";
import type { Tap } from "./taps";
import { ended, rewound, takenAll, type TurnView } from "./turn";

export interface FollowDoors {
  ask(turn: TurnView, signal: AbortSignal): AsyncGenerator<ChatEvent[]>;
  watch(turn: string, afterSequence: number, signal: AbortSignal): AsyncGenerator<ChatEvent[]>;
  openTap(): Promise<Tap>;
  pause(ms: number, signal: AbortSignal): Promise<void>;
  backoffMs(attempt: number): number;
  now(): string;
  /** The turn as it stands now. */
  show(turn: TurnView): void;
  /** Why nothing comes just now, and when it is tried again. Undefined: all is well. */
  trouble(cause: Refusal | undefined, againInMs?: number): void;
}

/** How often in a row a running turn is watched anew after a refusal that need not pass. */
const FAULTS = 5;

type Round = { turn: TurnView; cause?: Refusal };

/** Returns the ended turn. Throws the refusal that ends the matter, or the abort. */
export async function follow(turn: TurnView, doors: FollowDoors, signal: AbortSignal): Promise<TurnView> {
  let attempt = 0;
  while (!ended(turn)) {
    const tap = await doors.openTap();
    const before = turn.sequence;
    const round = await listen(turn, doors, signal, tap).finally(tap.close);
    signal.throwIfAborted();
    turn = round.turn;
    if (turn.sequence > before) attempt = 0;
    if (ended(turn)) break;
    if (tap.signal.aborted && !round.cause) {
      await doors.pause(tap.restMs(), signal);
      continue;
    }
    if (round.cause && !mayPass(round.cause, turn, attempt)) throw round.cause;
    if (round.cause?.reason === "SEQUENCE_UNKNOWN") turn = rewound(turn);
    const wait = Math.max(round.cause?.facts.retryAfterMs ?? 0, doors.backoffMs(attempt++));
    const cause = round.cause ?? cut();
    if (attempt > 1 || cause.reason !== CUT) doors.trouble(cause, wait); // the first cut is mended without a word
    await doors.pause(wait, signal);
  }
  doors.trouble(undefined);
  return turn;
}

/** One connection: what came over it, and why it ended if that was not as it should be. */
async function listen(turn: TurnView, doors: FollowDoors, signal: AbortSignal, tap: Tap): Promise<Round> {
  const round = new AbortController();
  const stop = AbortSignal.any([signal, round.signal]);
  // A question must be accepted before the stream may be let go of.
  const letGo = (): void => (turn.name ? round.abort() : undefined);
  tap.signal.addEventListener("abort", letGo);
  try {
    const stream = turn.name ? doors.watch(turn.name, turn.sequence, stop) : doors.ask(turn, stop);
    for await (const events of stream) {
      const [next, how] = takenAll(turn, events, doors.now());
      if (next !== turn) doors.show((turn = next));
      doors.trouble(undefined);
      if (how === "gap" || ended(turn) || (turn.name && tap.signal.aborted)) break;
    }
    return { turn };
  } catch (error) {
    return round.signal.aborted ? { turn } : { turn, cause: asRefusal(error) };
  } finally {
    tap.signal.removeEventListener("abort", letGo);
    if (!ended(turn)) round.abort(); // the stream of an ended turn is read to its end
  }
}

/** Whether to go on by itself: while a part is down, and for whatever befalls a turn that is known to run. */
function mayPass(cause: Refusal, turn: TurnView, attempt: number): boolean {
  if (cause.passing) return true;
  if (!turn.name) return false;
  if (cause.reason === "SEQUENCE_UNKNOWN") return turn.sequence > 0;
  return (cause.retryable || cause.reason === "UNEXPECTED") && attempt < FAULTS;
}
