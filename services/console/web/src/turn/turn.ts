/** What is known of a turn, and how each event of its stream changes that. Pure: the same events, the same turn. */
import type { AnswerPane, ChatEvent, Decision, Failure, PaneKind, Tier, Turn, Usage } from "../wire/types";

export type Phase = "asking" | "running" | "done" | "cancelled" | "failed";

/** A part of an answer that stands in a pane too: `head`, and what the answer says from `from` to `to`. */
export interface Part {
  /** The pane's name. */
  name: string;
  kind: PaneKind;
  title: string;
  language: string;
  head: string;
  from: number;
  /** Absent while it is being written. */
  to?: number;
}

export interface TurnView {
  /** Steady for as long as it is on the screen: the request's id, or the turn's name when it came from a list. */
  key: string;
  /** Absent until the turn is accepted. */
  name?: string;
  conversation?: string;
  question: string;
  tier: Tier;
  phase: Phase;
  answer: string;
  /** As far as events told of them: those of a turn that was read from a list are not known. */
  parts: Part[];
  /** What the list said of a running turn's answer: shown until the events have caught up. */
  checkpoint: string;
  /** The last event seen. 0: none. */
  sequence: number;
  decision?: Decision;
  usage?: Usage;
  costMicrousd: number;
  finishReason?: string;
  firstTokenMs: number;
  failure?: Failure;
  /** The running turn because of which the question was refused. */
  blockedBy?: string;
  askedAt: string;
  endedAt?: string;
}

/** How an event was taken: a `gap` means that events are missing, so the turn is unchanged and must be watched anew. */
export type Taken = "applied" | "duplicate" | "heartbeat" | "gap";

export function asked(requestId: string, question: string, tier: Tier, now: string, conversation?: string): TurnView {
  return {
    key: requestId,
    question,
    tier,
    phase: "asking",
    answer: "",
    parts: [],
    checkpoint: "",
    sequence: 0,
    costMicrousd: 0,
    firstTokenMs: 0,
    askedAt: now,
    ...(conversation && { conversation }),
  };
}

/** A turn as the list tells it. A running one begins before its first event, to be watched from there. */
export function listed(turn: Turn): TurnView {
  const phase = PHASES[turn.state ?? "STATE_UNSPECIFIED"] ?? "running";
  const running = phase === "running";
  return {
    key: turn.name,
    name: turn.name,
    conversation: turn.name.split("/turns/")[0] ?? "",
    question: turn.text ?? "",
    tier: turn.tier ?? "standard",
    phase,
    answer: running ? "" : (turn.answer ?? ""),
    parts: [],
    checkpoint: running ? (turn.answer ?? "") : "",
    sequence: running ? 0 : (turn.lastSequence ?? 0),
    costMicrousd: Number(turn.costMicrousd ?? 0),
    firstTokenMs: turn.firstTokenMs ?? 0,
    askedAt: turn.createTime ?? "",
    ...(turn.decision && { decision: turn.decision }),
    ...(turn.usage && { usage: turn.usage }),
    ...(turn.finishReason && { finishReason: turn.finishReason }),
    ...(turn.error && { failure: turn.error }),
    ...(turn.endTime && { endedAt: turn.endTime }),
  };
}

export function taken(turn: TurnView, event: ChatEvent, now: string): [TurnView, Taken] {
  if (event.sequence === undefined) return [turn, "heartbeat"];
  if (event.sequence <= turn.sequence) return [turn, "duplicate"];
  if (event.sequence > turn.sequence + 1) return [turn, "gap"];
  return [{ ...turn, ...changes(turn, event, now), sequence: event.sequence }, "applied"];
}

/** The turn with a run of events; stops at a gap. */
export function takenAll(turn: TurnView, events: ChatEvent[], now: string): [TurnView, Taken] {
  let last: Taken = "heartbeat";
  for (const event of events) {
    [turn, last] = taken(turn, event, now);
    if (last === "gap") break;
  }
  return [turn, last];
}

export const ended = (turn: TurnView): boolean => turn.phase !== "asking" && turn.phase !== "running";

/** The answer as far as it is known. */
export const textOf = (turn: TurnView): string =>
  turn.answer.length < turn.checkpoint.length ? turn.checkpoint : turn.answer;

export const textOfPart = ({ answer }: TurnView, { head, from, to }: Part): string => head + answer.slice(from, to);

/** A turn whose events must be read from the beginning. */
export const rewound = (turn: TurnView): TurnView => ({
  ...turn,
  sequence: 0,
  answer: "",
  parts: [],
  checkpoint: textOf(turn),
});

/** A turn that was never accepted, or can no longer be watched. */
export const failed = (turn: TurnView, failure: Failure, blockedBy?: string): TurnView => ({
  ...turn,
  phase: "failed",
  failure,
  ...(blockedBy && { blockedBy }),
});

/** The same question once more under the same id: harmless if it had got through after all. */
export const askedAgain = (turn: TurnView): TurnView =>
  asked(turn.key, turn.question, turn.tier, turn.askedAt, turn.conversation);

const PHASES: Record<string, Phase> = {
  STATE_RUNNING: "running",
  STATE_DONE: "done",
  STATE_FAILED: "failed",
  STATE_CANCELLED: "cancelled",
};

function changes(turn: TurnView, event: ChatEvent, now: string): Partial<TurnView> {
  if (event.accepted) return { name: event.accepted.turn, conversation: event.accepted.conversation, phase: "running" };
  if (event.decision) return { decision: event.decision };
  if (event.text) return { answer: turn.answer + (event.text.delta ?? "") };
  if (event.pane) return { parts: withPane(turn, event.pane) };
  if (event.error) return { failure: event.error, phase: "failed", checkpoint: "", endedAt: now };
  if (event.done) {
    const { usage, costMicrousd, finishReason, firstTokenMs } = event.done;
    return {
      phase: finishReason === "cancelled" ? "cancelled" : "done",
      costMicrousd: Number(costMicrousd ?? 0),
      firstTokenMs: firstTokenMs ?? 0,
      checkpoint: "",
      endedAt: now,
      ...(usage && { usage }),
      ...(finishReason && { finishReason }),
    };
  }
  return {};
}

/** The parts with this one opened, closed, or both. */
function withPane({ parts, answer }: TurnView, { name, kind = "code", closed, ...pane }: AnswerPane): Part[] {
  const here = answer.length;
  const open = parts.find((part) => part.name === name);
  if (open) return parts.map((part) => (part === open && closed ? { ...part, to: part.to ?? here } : part));
  const { title = "", language = "", text: head = "" } = pane;
  return [...parts, { name, kind, title, language, head, from: here, ...(closed && { to: here }) }];
}
