/** What this tab must not lose in a reload: the question on its way, and half-written ones. */
import { asked, type TurnView } from "../turn/turn";
import type { Tier } from "../wire/types";

const PENDING = "soma.pending";
const TIER = "soma.tier";
const TIERS: readonly string[] = ["premium", "standard", "slm"];

/** A question is pending from the click until it is accepted. */
export function keepPending(turn: TurnView): void {
  sessionStorage.setItem(PENDING, JSON.stringify(turn));
}

export function dropPending(): void {
  sessionStorage.removeItem(PENDING);
}

/** The question that was on its way in this conversation when the page was left. */
export function pendingIn(conversation: string | undefined): TurnView | undefined {
  const text = sessionStorage.getItem(PENDING);
  if (text === null) return undefined;
  const turn = JSON.parse(text) as TurnView;
  if (turn.conversation !== conversation) return undefined;
  return asked(turn.key, turn.question, turn.tier, turn.askedAt, turn.conversation);
}

const draftKey = (conversation: string | undefined): string => `soma.draft.${conversation ?? "new"}`;

export const draftOf = (conversation: string | undefined): string =>
  sessionStorage.getItem(draftKey(conversation)) ?? "";

export function keepDraft(conversation: string | undefined, text: string): void {
  if (text) sessionStorage.setItem(draftKey(conversation), text);
  else sessionStorage.removeItem(draftKey(conversation));
}

export function rememberedTier(): Tier {
  const tier = localStorage.getItem(TIER) ?? "";
  return TIERS.includes(tier) ? (tier as Tier) : "standard";
}

export function rememberTier(tier: Tier): void {
  localStorage.setItem(TIER, tier);
}
