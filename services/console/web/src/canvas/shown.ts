/** A pane as a person sees it: what the mesh keeps of it, and what the answer that comes says already. Pure. */
import type { Part } from "../turn/turn";
import type { Pane } from "../wire/types";

export interface Shown {
  pane: Pane;
  text: string;
  /** An answer is being written into it. */
  writing: boolean;
  /** The mesh has it: it can be changed. */
  kept: boolean;
}

/** `part` and `said` are what the answer tells, `running` whether it still comes. Undefined: nothing is known. */
export function shownOf(
  pane: Pane | undefined,
  part: Part | undefined,
  said: string,
  running: boolean,
): Shown | undefined {
  if (!pane) return part && { pane: asPane(part), text: said, writing: running && part.to === undefined, kept: false };
  const kept = pane.text ?? "";
  if (pane.author === "person" || !part)
    return { pane, text: kept, writing: pane.state === "STATE_WRITING", kept: true };
  const open = running && part.to === undefined;
  const behind = said.length > kept.length && (running || pane.state === "STATE_WRITING");
  return { pane, text: behind ? said : kept, writing: open || pane.state === "STATE_WRITING", kept: true };
}

const asPane = ({ name, kind, title, language }: Part): Pane => ({ name, kind, title, language, author: "agent" });
