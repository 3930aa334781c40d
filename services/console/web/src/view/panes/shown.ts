/** What components see of panes: the canvas and the answer that comes, joined. */
import { useMemo } from "react";
import { type Shown, shownOf } from "../../canvas/shown";
import type { ChatView } from "../../chat/chat";
import type { House } from "../../house";
import { useStorePart } from "../../store";
import { ended, type Part, textOfPart, type TurnView } from "../../turn/turn";
import type { Pane } from "../../wire/types";

/** A pane as it stands now; it changes with each word while an answer is written into it. */
export function useShown({ canvas, chat }: House, name: string): Shown | undefined {
  const pane = useStorePart(canvas.view, ({ panes }) => panes.get(name));
  const part = useStorePart(chat.view, (view) => partIn(view, name)?.[1]);
  const running = useStorePart(chat.view, (view) => isRunning(partIn(view, name)?.[0]));
  const said = useStorePart(chat.view, (view) => {
    const found = partIn(view, name);
    return found ? textOfPart(...found) : "";
  });
  return useMemo(() => shownOf(pane, part, said, running), [pane, part, said, running]);
}

/** A pane without its text, for its tab. */
export interface Tag {
  name: string;
  title: string;
  kind: string;
  writing: boolean;
}

export function useTag({ canvas, chat }: House, name: string): Tag {
  const pane = useStorePart(canvas.view, ({ panes }) => panes.get(name));
  const part = useStorePart(chat.view, (view) => partIn(view, name)?.[1]);
  const running = useStorePart(chat.view, (view) => isRunning(partIn(view, name)?.[0]));
  const shown = shownOf(pane, part, "", running);
  return { name, title: titleOf(shown?.pane), kind: shown?.pane.kind ?? "code", writing: shown?.writing ?? false };
}

export const titleOf = (pane: Pane | undefined): string => pane?.title?.trim() || "Untitled";

function partIn({ turns }: ChatView, name: string): [TurnView, Part] | undefined {
  for (const turn of turns) {
    const part = turn.parts.find((each) => each.name === name);
    if (part) return [turn, part];
  }
  return undefined;
}

const isRunning = (turn: TurnView | undefined): boolean => turn !== undefined && !ended(turn);
