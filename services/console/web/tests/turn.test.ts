import { describe, expect, test } from "vitest";
import { asked, ended, listed, rewound, taken, takenAll, textOf, type TurnView } from "../src/turn/turn";
import type { ChatEvent } from "../src/wire/types";

const NOW = "2026-01-02T03:04:05Z";
const TURN = "conversations/c/turns/t";
const ACCEPTED: ChatEvent = { sequence: 1, accepted: { turn: TURN, conversation: "conversations/c" } };
const DECISION: ChatEvent = { sequence: 2, decision: { model: "m", provider: "p", tier: "slm" } };
const text = (sequence: number, delta: string): ChatEvent => ({ sequence, text: { delta } });
const DONE: ChatEvent = {
  sequence: 5,
  done: { usage: { inputTokens: 3, outputTokens: 2 }, costMicrousd: "123", finishReason: "stop", firstTokenMs: 80 },
};
const WHOLE = [ACCEPTED, DECISION, text(3, "Hel"), text(4, "lo"), DONE];

const fresh = (): TurnView => asked("id", "Hello?", "standard", NOW);
const after = (...events: ChatEvent[]): TurnView => takenAll(fresh(), events, NOW)[0];

describe("a turn and the events of its stream", () => {
  test("goes from asking over running to done, with its text, price and figures", () => {
    const turn = after(...WHOLE);
    expect(turn).toMatchObject({
      key: "id",
      name: TURN,
      conversation: "conversations/c",
      phase: "done",
      answer: "Hello",
      costMicrousd: 123,
      firstTokenMs: 80,
      finishReason: "stop",
      sequence: 5,
      endedAt: NOW,
    });
    expect(ended(turn)).toBe(true);
  });

  test("a duplicate changes nothing", () => {
    const turn = after(ACCEPTED, DECISION, text(3, "Hel"));
    expect(taken(turn, text(3, "Hel"), NOW)).toEqual([turn, "duplicate"]);
    expect(taken(turn, ACCEPTED, NOW)).toEqual([turn, "duplicate"]);
  });

  test("a gap changes nothing and stops the run there", () => {
    const turn = after(ACCEPTED, DECISION);
    expect(takenAll(turn, [text(4, "lo"), DONE], NOW)).toEqual([turn, "gap"]);
    expect(takenAll(fresh(), [DECISION], NOW)[1]).toBe("gap");
  });

  test("a heartbeat changes nothing", () => {
    const turn = after(ACCEPTED);
    expect(taken(turn, { heartbeat: {} }, NOW)).toEqual([turn, "heartbeat"]);
  });

  test("a replay from any point gives the same turn", () => {
    for (let cut = 1; cut < WHOLE.length; cut++)
      for (let from = 0; from <= cut; from++) {
        const [turn] = takenAll(after(...WHOLE.slice(0, cut)), WHOLE.slice(from), NOW);
        expect(turn).toEqual(after(...WHOLE));
      }
  });

  test("an error keeps the text and ends the turn", () => {
    const error = { reason: "PROVIDER_CUT", message: "It hung up.", retryable: true };
    const turn = after(ACCEPTED, DECISION, text(3, "Hel"), { sequence: 4, error });
    expect(turn).toMatchObject({ phase: "failed", answer: "Hel", failure: error });
    expect(ended(turn)).toBe(true);
  });

  test("a cancelled turn is done, as cancelled, and free when no price is told", () => {
    const turn = after(ACCEPTED, { sequence: 2, done: { finishReason: "cancelled" } });
    expect(turn).toMatchObject({ phase: "cancelled", costMicrousd: 0, firstTokenMs: 0 });
  });

  test("a second decision replaces the first", () => {
    const turn = after(ACCEPTED, DECISION, { sequence: 3, decision: { model: "other" } });
    expect(turn.decision).toEqual({ model: "other" });
  });

  test("an event of a kind that is not known yet counts and does no harm", () => {
    const unknown = { sequence: 2, canvas: {} } as ChatEvent;
    expect(after(ACCEPTED, unknown)).toMatchObject({ sequence: 2, phase: "running" });
  });
});

describe("a turn from a list", () => {
  test("shows its checkpoint while running, until the events have caught up", () => {
    const turn = listed({ name: TURN, state: "STATE_RUNNING", text: "Hello?", answer: "Hel", lastSequence: 3 });
    expect(turn).toMatchObject({ phase: "running", sequence: 0, conversation: "conversations/c" });
    expect(textOf(turn)).toBe("Hel");
    expect(textOf(takenAll(turn, WHOLE.slice(0, 3), NOW)[0])).toBe("Hel");
    expect(textOf(takenAll(turn, WHOLE, NOW)[0])).toBe("Hello");
  });

  test("is whole when it has ended", () => {
    const turn = listed({
      name: TURN,
      state: "STATE_DONE",
      text: "Hello?",
      answer: "Hello",
      lastSequence: 5,
      costMicrousd: "7",
    });
    expect(turn).toMatchObject({ phase: "done", answer: "Hello", sequence: 5, costMicrousd: 7 });
  });

  test("read anew keeps its text on the screen", () => {
    const turn = rewound(after(ACCEPTED, DECISION, text(3, "Hel")));
    expect(turn.sequence).toBe(0);
    expect(textOf(turn)).toBe("Hel");
  });
});
