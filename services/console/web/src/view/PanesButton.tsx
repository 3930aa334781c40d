/** In the head of the chat: how many panes there are, whether one is being written; brings them in sight. */
import type { ReactNode } from "react";
import type { House } from "../house";
import { useStorePart } from "../store";
import { ended } from "../turn/turn";
import { Icon } from "./icons";

interface ButtonProps {
  house: House;
  on: boolean;
  toggle: () => void;
}

export function PanesButton({ house: { canvas, chat }, on, toggle }: ButtonProps): ReactNode {
  const kept = useStorePart(canvas.view, ({ panes }) => panes.size);
  const open = useStorePart(canvas.view, ({ arrangement }) => arrangement.panes.length);
  const writing = useStorePart(chat.view, ({ turns }) =>
    turns.some((turn) => !ended(turn) && turn.parts.some(({ to }) => to === undefined)),
  );
  const number = Math.max(kept, open);
  return (
    <button
      type="button"
      className="quiet panes-button"
      aria-pressed={on}
      onClick={toggle}
      title={on ? "Hide the panes" : "Show the panes"}
      data-testid="panes-button"
    >
      <Icon name="panes" />
      <span className="word">Panes</span>
      {number > 0 && <span className="number">{number}</span>}
      {writing && !on && <i className="beat" role="img" aria-label="One is being written" />}
    </button>
  );
}
