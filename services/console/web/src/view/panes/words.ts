/** Times as the panes say them. */
import { clockTime } from "../format";

/** "just now", "5 min ago", "14:02", "3 Mar, 14:02". */
export function ago(iso: string | undefined, now: Date): string {
  if (!iso) return "";
  const then = new Date(iso);
  const minutes = Math.floor((now.getTime() - then.getTime()) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (then.toDateString() === now.toDateString()) return clockTime(iso);
  return `${then.toLocaleDateString([], { day: "numeric", month: "short" })}, ${clockTime(iso)}`;
}
