import { describe, expect, test } from "vitest";
import { follow, type FollowDoors } from "../src/turn/follow";
import { asked, type TurnView } from "../src/turn/turn";
import { Refusal, unreachable } from "../src/wire/refusal";
import type { ChatEvent } from "../src/wire/types";

const TURN = "conversations/c/turns/t";
const EVENTS: ChatEvent[] = [
  { sequence: 1, accepted: { turn: TURN, conversation: "conversations/c" } },
  { sequence: 2, decision: { model: "m" } },
  { sequence: 3, text: { delta: "Hel" } },
  { sequence: 4, text: { delta: "lo" } },
  { sequence: 5, done: { finishReason: "stop" } },
];

/** What one connection brings; a Refusal at its end is thrown. */
type Script = (ChatEvent | Refusal)[];

/** A mesh that plays one script a connection, and writes down what was asked of it. */
class Played implements FollowDoors {
  readonly calls: string[] = [];
  readonly troubles: (string | undefined)[] = [];
  readonly waits: number[] = [];
  shown: TurnView | undefined;
  openTap = async () => ({ signal: new AbortController().signal, restMs: () => 1, close: () => undefined });
  backoffMs = (attempt: number): number => attempt;
  now = (): string => "now";

  constructor(private readonly scripts: Script[]) {}

  ask = (turn: TurnView) => this.play(`ask ${turn.key}`);
  watch = (turn: string, after: number) => this.play(`watch ${turn} ${after}`);
  show = (turn: TurnView): void => void (this.shown = turn);
  trouble = (cause: Refusal | undefined): void => void this.troubles.push(cause?.reason);
  pause = async (ms: number, signal: AbortSignal): Promise<void> => {
    this.waits.push(ms);
    if (this.waits.length > 50) throw new Error("waited fifty times");
    signal.throwIfAborted();
  };

  private async *play(call: string): AsyncGenerator<ChatEvent[]> {
    this.calls.push(call);
    const script = this.scripts.shift();
    if (!script) throw new Error(`nothing is left to play for ${call}`);
    for (const step of script) {
      if (step instanceof Refusal) throw step;
      yield [step];
    }
  }
}

const question = (): TurnView => asked("id", "Hello?", "standard", "then");
const following = (mesh: Played, signal = new AbortController().signal) => follow(question(), mesh, signal);
const refused = (reason: string, status: number): Refusal => new Refusal(reason, "No.", { status });

describe("following a turn", () => {
  test("one good stream is one call", async () => {
    const mesh = new Played([EVENTS]);
    expect(await following(mesh)).toMatchObject({ phase: "done", answer: "Hello" });
    expect(mesh.calls).toEqual(["ask id"]);
  });

  test("a stream that ends without done or error was cut: it goes on after the last event", async () => {
    const mesh = new Played([EVENTS.slice(0, 3), [], EVENTS.slice(3)]);
    expect(await following(mesh)).toMatchObject({ phase: "done", answer: "Hello" });
    expect(mesh.calls).toEqual(["ask id", `watch ${TURN} 3`, `watch ${TURN} 3`]);
  });

  test("a gap is read again from the last event before it", async () => {
    const mesh = new Played([[EVENTS[0]!, EVENTS[1]!, EVENTS[3]!, EVENTS[4]!], EVENTS.slice(2)]);
    expect(await following(mesh)).toMatchObject({ phase: "done", answer: "Hello" });
    expect(mesh.calls).toEqual(["ask id", `watch ${TURN} 2`]);
  });

  test("what broke before it was accepted is asked again under the same id", async () => {
    const mesh = new Played([[unreachable()], [], EVENTS]);
    expect(await following(mesh)).toMatchObject({ phase: "done" });
    expect(mesh.calls).toEqual(["ask id", "ask id", "ask id"]);
    expect(mesh.troubles).toContain("UNREACHABLE");
    expect(mesh.troubles.at(-1)).toBeUndefined();
  });

  test("while a room is down it tries again by itself, not before the mesh says", async () => {
    const down = new Refusal("ROOM_UNAVAILABLE", "The router is down.", { status: 503, retryAfterMs: 700 });
    const mesh = new Played([[down], [down], EVENTS]);
    await following(mesh);
    expect(mesh.waits).toEqual([700, 700]);
  });

  test("a refusal that will not pass by itself is thrown, once", async () => {
    for (const cause of [refused("TURN_RUNNING", 409), refused("MODEL_BUSY", 429), refused("TEXT_TOO_LONG", 400)]) {
      const mesh = new Played([[cause]]);
      await expect(following(mesh)).rejects.toBe(cause);
      expect(mesh.calls).toHaveLength(1);
    }
  });

  test("an unknown sequence makes it read the turn from the beginning", async () => {
    const mesh = new Played([EVENTS.slice(0, 3), [refused("SEQUENCE_UNKNOWN", 400)], EVENTS]);
    expect(await following(mesh)).toMatchObject({ phase: "done", answer: "Hello" });
    expect(mesh.calls.at(-1)).toBe(`watch ${TURN} 0`);
  });

  test("a deleted conversation ends the matter", async () => {
    const gone = refused("TURN_UNKNOWN", 404);
    await expect(following(new Played([EVENTS.slice(0, 2), [gone]]))).rejects.toBe(gone);
  });

  test("an in-band error is an end, not a cut", async () => {
    const error = { reason: "PROVIDER_CUT", message: "It hung up.", retryable: true };
    const mesh = new Played([[...EVENTS.slice(0, 3), { sequence: 4, error }]]);
    expect(await following(mesh)).toMatchObject({ phase: "failed", answer: "Hel", failure: error });
    expect(mesh.calls).toHaveLength(1);
  });

  test("an abort ends it without a further call", async () => {
    const stop = new AbortController();
    const mesh = new Played([EVENTS.slice(0, 2)]);
    mesh.pause = async () => stop.abort();
    await expect(following(mesh, stop.signal)).rejects.toThrow();
    expect(mesh.calls).toHaveLength(2);
  });

  test("a stream that is let go of is taken up again without a word", async () => {
    const mesh = new Played([
      EVENTS.slice(0, 3),
      EVENTS.slice(1, 3),
      EVENTS.slice(2, 4),
      EVENTS.slice(3),
      EVENTS.slice(4),
    ]);
    mesh.openTap = async () => ({ signal: AbortSignal.abort(), restMs: () => 9, close: () => undefined });
    expect(await following(mesh)).toMatchObject({ phase: "done", answer: "Hello" });
    expect(mesh.waits).toEqual([9, 9, 9, 9]);
    expect(mesh.troubles.every((trouble) => trouble === undefined)).toBe(true);
  });

  test("a fault of the mesh is tried again a few times, not for ever", async () => {
    const fault = refused("UNEXPECTED", 500);
    const mesh = new Played([EVENTS.slice(0, 2), ...Array<Script>(20).fill([fault])]);
    await expect(following(mesh)).rejects.toBe(fault);
    expect(mesh.calls.length).toBeLessThan(10);
  });
});
