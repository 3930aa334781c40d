/** Numbers and times as people read them. */

/** Integer micro-USD: "free", "$0.000123", "$1.25". */
export function dollars(microusd: number | string | undefined): string {
  const amount = Number(microusd ?? 0);
  if (amount === 0) return "free";
  const [whole, part = ""] = (amount / 1e6).toFixed(6).split(".");
  return `$${whole}.${part.replace(/0+$/, "").padEnd(2, "0")}`;
}

/** Milliseconds: "85 ms", "1.2 s", "2 min 5 s". */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`;
}

/** Of 0 to 1: "93 %". Only all is "100 %", and only nothing "0 %". */
export function percent(share: number): string {
  const whole = Math.round(share * 100);
  if (whole === 0 && share > 0) return "<1 %";
  return whole === 100 && share < 1 ? ">99 %" : `${whole} %`;
}

export const count = (n: number | undefined): string => (n ?? 0).toLocaleString("en-US");

const TIER_NAMES: Record<string, string> = { premium: "Premium", standard: "Standard", slm: "Small" };

export const tierName = (tier: string | undefined): string => TIER_NAMES[tier ?? "standard"] ?? tier ?? "";

export function clockTime(iso: string): string {
  return iso ? new Date(iso).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "";
}

export function fullTime(iso: string): string {
  return iso ? new Date(iso).toLocaleString([], { dateStyle: "full", timeStyle: "short" }) : "";
}

/** Where a time stands in a list: "Today", "Yesterday", "Previous 7 days", or its month. */
export function era(iso: string | undefined, now: Date): string {
  if (!iso) return "Today";
  const then = new Date(iso);
  const days = Math.round((midnight(now) - midnight(then)) / 86_400_000);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days <= 7) return "Previous 7 days";
  const sameYear = then.getFullYear() === now.getFullYear();
  return then.toLocaleDateString([], sameYear ? { month: "long" } : { month: "long", year: "numeric" });
}

const midnight = (date: Date): number => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();

const LONG_RUN = 1_000;

/**
 * Whether the text has a very long run without a space. Where each pair of its letters is kerned, the browser shapes
 * the whole rest of it again for each line that it breaks: seconds for 128 KiB. Such a run is shown without kerning.
 */
export function hasLongRun(text: string): boolean {
  if (text.length < LONG_RUN) return false;
  for (const [run] of text.matchAll(/\S+/g)) if (run.length >= LONG_RUN) return true;
  return false;
}
