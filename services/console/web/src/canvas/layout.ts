/** Which panes are open, in which order, and which are in front. Pure: what each deed makes of an arrangement. */
import type { Layout } from "../wire/types";

export interface Arrangement {
  /** The names of the open panes, in order. */
  panes: readonly string[];
  /** The one in front; empty for none. */
  active: string;
  /** The second one of a split; empty for none. */
  beside: string;
}

export const NOTHING_OPEN: Arrangement = { panes: [], active: "", beside: "" };

export const arrangementOf = ({ panes = [], active = "", beside = "" }: Layout): Arrangement =>
  sound({ panes, active, beside });

/** The pane is open, at the end if it was not, and in front unless it already stands beside the front one. */
export const opened = (now: Arrangement, name: string): Arrangement => {
  const panes = now.panes.includes(name) ? now.panes : [...now.panes, name];
  return now.beside === name ? { ...now, panes } : { ...now, panes, active: name };
};

/** As a tab that nobody looks at yet, unless it is the first. */
export const openedBehind = (now: Arrangement, name: string): Arrangement =>
  now.active ? { ...opened(now, name), active: now.active } : opened(now, name);

/** Without the pane. Its neighbour comes to the front. */
export function closed(now: Arrangement, name: string): Arrangement {
  const at = now.panes.indexOf(name);
  if (at < 0) return now;
  const panes = now.panes.filter((each) => each !== name);
  const others = panes.filter((each) => each !== now.beside);
  const next = others[Math.min(at, others.length - 1)] ?? now.beside;
  return sound({
    panes,
    active: now.active === name ? next : now.active,
    beside: now.beside === name ? "" : now.beside,
  });
}

/** The pane moved by so many places. */
export function moved(now: Arrangement, name: string, by: number): Arrangement {
  const at = now.panes.indexOf(name);
  return at < 0 ? now : movedTo(now, name, at + by);
}

export function movedTo(now: Arrangement, name: string, place: number): Arrangement {
  if (!now.panes.includes(name)) return now;
  const others = now.panes.filter((each) => each !== name);
  const to = Math.max(0, Math.min(place, others.length));
  return { ...now, panes: [...others.slice(0, to), name, ...others.slice(to)] };
}

/** The pane stands beside the front one. If it was the front one, its neighbour comes to the front. */
export function setBeside(now: Arrangement, name: string): Arrangement {
  if (name !== now.active) return sound({ ...opened(now, name), active: now.active, beside: name });
  const others = now.panes.filter((each) => each !== name);
  const next = others[Math.min(now.panes.indexOf(name), others.length - 1)];
  return next ? sound({ ...now, active: next, beside: name }) : now;
}

export const besideClosed = (now: Arrangement): Arrangement => ({ ...now, beside: "" });

/** Only panes of which `there` is true. */
export const filtered = (now: Arrangement, there: (name: string) => boolean): Arrangement =>
  now.panes.every(there) ? now : sound({ ...now, panes: now.panes.filter(there) });

/**
 * What was changed here since `base`, done to what another tab made of it: what either opened is open, what either
 * closed is closed; what is in front, and the order if it was changed here, is as it is here.
 */
export function merged(base: Arrangement, mine: Arrangement, theirs: Arrangement): Arrangement {
  const closedHere = base.panes.filter((name) => !mine.panes.includes(name));
  const openedHere = mine.panes.filter((name) => !base.panes.includes(name) && !theirs.panes.includes(name));
  const kept = theirs.panes.filter((name) => !closedHere.includes(name));
  const panes = reordered(base, mine) ? sortedLike([...kept, ...openedHere], mine.panes) : [...kept, ...openedHere];
  return sound({
    panes,
    active: mine.active === base.active ? theirs.active : mine.active,
    beside: mine.beside === base.beside ? theirs.beside : mine.beside,
  });
}

/** What another tab arranged, with what is in front here kept there if it is still open. */
export const followed = (mine: Arrangement, theirs: Arrangement): Arrangement => {
  const open = (name: string): boolean => theirs.panes.includes(name);
  return sound({
    panes: theirs.panes,
    active: open(mine.active) ? mine.active : theirs.active,
    beside: mine.beside === "" || open(mine.beside) ? mine.beside : theirs.beside,
  });
};

export const same = (one: Arrangement, other: Arrangement): boolean =>
  one.active === other.active && one.beside === other.beside && one.panes.join() === other.panes.join();

/** What is in front is open, and not twice. */
function sound({ panes, active, beside }: Arrangement): Arrangement {
  const open = [...new Set(panes)];
  const front = open.includes(active) ? active : (open.find((name) => name !== beside) ?? open[0] ?? "");
  return { panes: open, active: front, beside: open.includes(beside) && beside !== front ? beside : "" };
}

function reordered(base: Arrangement, mine: Arrangement): boolean {
  const both = (list: readonly string[], other: readonly string[]): string =>
    list.filter((name) => other.includes(name)).join();
  return both(base.panes, mine.panes) !== both(mine.panes, base.panes);
}

function sortedLike(names: string[], order: readonly string[]): string[] {
  const place = (name: string): number => (order.includes(name) ? order.indexOf(name) : order.length);
  return names.sort((a, b) => place(a) - place(b));
}
