/** What each reason means to a person, and what they can do. The mesh's own sentence is shown beneath the title. */
import { type Refusal, refusalIn } from "../wire/refusal";
import type { Failure } from "../wire/types";
import { tierName } from "./format";

export type Deed = "retry" | "go-to-running" | "stop-running" | "sign-in" | "edit" | "new-chat";

export interface Words {
  title: string;
  /** Nothing broke: it is someone else's turn, or the person's. */
  mild?: true;
  /** Said when the mesh says nothing itself. */
  otherwise: string;
  deeds: Deed[];
}

export function wordsFor({ reason = "", retryable = false }: Failure): Words {
  const known = WORDS[reason];
  if (known) return known;
  return {
    title: "Something went wrong",
    otherwise: "The answer could not be given.",
    deeds: retryable ? ["retry"] : [],
  };
}

/** What is down, for the banner: the mesh's own first sentence, which names the part if it knows it. No full stop. */
export function downSentence({ reason, message }: Refusal): string {
  if (reason === "CUT") return "The connection was lost";
  if (reason === "UNREACHABLE") return "The mesh cannot be reached";
  const [first = ""] = spoken(message).split(/(?<=[.!?])\s/);
  return first.replace(/\.$/, "") || "A part of the mesh is down";
}

/** A sentence of the mesh with the tiers' names as the page writes them. */
export const spoken = (sentence: string): string =>
  sentence
    .replace(/\btier "(premium|standard|slm)"/g, "$1 tier")
    .replace(/\b(premium|standard|slm)(?= tier\b)/g, (tier) => tierName(tier));

/** That what a person thinks of an answer is not told yet. */
export const waitingSentence = (failure: Failure): string =>
  `Not sent yet: ${lowered(downSentence(refusalIn(failure)))}. It is kept, and sent as soon as it can be.`;

const lowered = (sentence: string): string => sentence.charAt(0).toLowerCase() + sentence.slice(1);

const WORDS: Record<string, Words> = {
  TURN_RUNNING: {
    title: "This conversation is already answering",
    mild: true,
    otherwise: "Another question is being answered here.",
    deeds: ["go-to-running", "stop-running"],
  },
  MODEL_BUSY: {
    title: "The model is busy",
    mild: true,
    otherwise: "Its queue is full. Try again in a moment.",
    deeds: ["retry"],
  },
  ROOM_BUSY: {
    title: "The mesh is busy",
    mild: true,
    otherwise: "It has as many answers in work as it takes.",
    deeds: ["retry"],
  },
  BUDGET_SPENT: {
    title: "The budget has too little left",
    mild: true,
    otherwise: "Wait until it renews, or ask an admin of your tenant for more.",
    deeds: ["retry"],
  },
  MODEL_UNAVAILABLE: {
    title: "No model is open",
    otherwise: "No model of this tier or below can answer now. Try again, or choose another tier.",
    deeds: ["retry"],
  },
  ROOM_UNAVAILABLE: { title: "A part of the mesh is down", otherwise: "It should be back shortly.", deeds: ["retry"] },
  STORE_UNAVAILABLE: { title: "The store is down", otherwise: "Nothing can be written down now.", deeds: ["retry"] },
  DEADLINE_EXCEEDED: { title: "That took too long", otherwise: "The mesh did not answer in time.", deeds: ["retry"] },
  UNREACHABLE: { title: "The mesh cannot be reached", otherwise: "Is it up?", deeds: ["retry"] },
  PROVIDER_FAILED: {
    title: "The model could not answer",
    otherwise: "Its provider refused the call.",
    deeds: ["retry"],
  },
  PROVIDER_CUT: {
    title: "The answer was cut off",
    otherwise: "The provider hung up. What it wrote is kept.",
    deeds: ["retry"],
  },
  INTERRUPTED: {
    title: "The answer was interrupted",
    otherwise: "The part that was answering was restarted. What it wrote is kept.",
    deeds: ["retry"],
  },
  TURN_TIMEOUT: { title: "The answer took too long", otherwise: "What was written is kept.", deeds: ["retry"] },
  REQUEST_ID_REUSED: { title: "That was sent twice", otherwise: "Send it again as a new question.", deeds: ["retry"] },
  TEXT_EMPTY: { title: "There is no question", otherwise: "Write one.", deeds: ["edit"] },
  TEXT_TOO_LONG: { title: "That is too long", otherwise: "Send at most 128 KiB at once.", deeds: ["edit"] },
  BODY_TOO_LARGE: { title: "That is too long", otherwise: "Send at most 128 KiB at once.", deeds: ["edit"] },
  CONTEXT_TOO_LONG: { title: "That is too long for every open model", otherwise: "Shorten it.", deeds: ["edit"] },
  CONVERSATION_UNKNOWN: {
    title: "This conversation is gone",
    otherwise: "It was deleted, or is not yours.",
    deeds: ["new-chat"],
  },
  PANE_UNKNOWN: { title: "This pane is gone", otherwise: "It was deleted elsewhere.", deeds: [] },
  VERSION_UNKNOWN: { title: "This version is gone", otherwise: "Only the newest versions are kept.", deeds: [] },
  TASK_UNKNOWN: { title: "This task is gone", otherwise: "It was deleted, or is not yours.", deeds: [] },
  PANE_TOO_LARGE: { title: "That is too long for a pane", otherwise: "A pane holds at most 256 KiB.", deeds: [] },
  CANVAS_FULL: {
    title: "This conversation has no room for more",
    otherwise: "Delete panes that you no longer need.",
    deeds: [],
  },
  ETAG_MISSING: { title: "That could not be saved", otherwise: "Load the pane again, then save.", deeds: ["retry"] },
  ETAG_STALE: {
    title: "It was changed elsewhere meanwhile",
    mild: true,
    otherwise: "Look at what is there now, then try again.",
    deeds: ["retry"],
  },
  REVISION_UNKNOWN: { title: "The panes must be read again", mild: true, otherwise: "Try again.", deeds: ["retry"] },
  DECISION_UNKNOWN: { title: "Your opinion was not taken", otherwise: "Which model answered is not known.", deeds: [] },
  DECISION_EXPIRED: { title: "Your opinion was not taken", otherwise: "The answer is too old.", deeds: [] },
  TURN_UNKNOWN: { title: "This answer is gone", otherwise: "Its conversation was deleted.", deeds: ["new-chat"] },
  SIGNED_OUT: { title: "Your session has ended", mild: true, otherwise: "Sign in to go on.", deeds: ["sign-in"] },
  TOKEN_REFUSED: { title: "Your session has ended", mild: true, otherwise: "Sign in to go on.", deeds: ["sign-in"] },
  ROLE_REFUSED: { title: "You may not do that", otherwise: "Your role does not include it.", deeds: [] },
  TENANT_UNKNOWN: {
    title: "Your tenant is not served here",
    otherwise: "Sign in with another account.",
    deeds: ["sign-in"],
  },
};
