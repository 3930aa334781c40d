/** The turns of the open conversation, oldest first. */
import { type ReactNode, useEffect, useMemo, useRef } from "react";
import type { CanvasView } from "../canvas/canvas";
import type { ChatView } from "../chat/chat";
import type { Thumbs } from "../chat/thumbs";
import type { Person } from "../session/person";
import type { Pane } from "../wire/types";
import { Icon } from "./icons";
import { Problem } from "./Problem";
import { useFollow } from "./scroll";
import { type TurnDeeds, TurnItem } from "./TurnItem";
import { Welcome } from "./Welcome";

interface ThreadProps extends TurnDeeds {
  view: ChatView;
  panes: CanvasView["panes"];
  thumbs: Thumbs;
  person: Person;
  ask: (question: string) => void;
  older: (beforeShown: () => void) => Promise<void>;
  reload: () => void;
  newChat: () => void;
}

export function Thread({
  view,
  panes,
  thumbs,
  person,
  ask,
  older,
  reload,
  newChat,
  act,
  openPane,
}: ThreadProps): ReactNode {
  const frame = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const { atEnd, jump, keepPlace } = useFollow(frame, content, view.turns[0]?.key);
  const newest = view.turns.at(-1)?.key;
  useEffect(() => {
    if (newest) jump();
  }, [newest, jump]);
  const made = useMemo(() => byTurn(panes), [panes]);
  const empty = view.loaded && view.turns.length === 0 && !view.refusal;
  return (
    <div className="thread-place">
      <div className="thread" ref={frame} data-testid="thread">
        <div className="column" ref={content}>
          {view.older && (
            <button type="button" className="soft older" onClick={() => void older(keepPlace)}>
              Earlier turns
            </button>
          )}
          {!view.loaded && <Skeleton />}
          {view.refusal && view.turns.length === 0 && (
            <Problem failure={view.refusal.failure()} deeds={{ retry: reload, "new-chat": newChat }} />
          )}
          {empty && <Welcome person={person} ask={ask} />}
          {view.turns.map((turn) => (
            <TurnItem
              key={turn.key}
              turn={turn}
              panes={made.get(turn.name ?? "") ?? NONE}
              thumbs={thumbs}
              act={act}
              openPane={openPane}
            />
          ))}
        </div>
      </div>
      {!atEnd && !empty && (
        <button
          type="button"
          className="jump"
          onClick={() => jump(true)}
          aria-label="Jump to the newest"
          data-testid="jump"
        >
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}

const NONE: Pane[] = [];

function byTurn(panes: CanvasView["panes"]): Map<string, Pane[]> {
  const made = new Map<string, Pane[]>();
  for (const [name, pane] of panes) {
    if (pane.turn) made.set(pane.turn, [...(made.get(pane.turn) ?? []), { ...pane, name }]);
  }
  return made;
}

function Skeleton(): ReactNode {
  return (
    <div className="skeleton" role="status" aria-label="Loading">
      <i /> <i /> <i />
    </div>
  );
}
