/** Beside a block of an answer that stands in a pane too: a button that opens it. */
import { createContext, type ReactNode, use } from "react";
import { isIn, type Place } from "../canvas/places";
import { Icon } from "../view/icons";

export interface Opener {
  places: Place[];
  open: (pane: string) => void;
}

export const PaneOpener = createContext<Opener>({ places: [], open: () => undefined });

export function Chips({ from, to }: { from: number; to: number }): ReactNode {
  const { places, open } = use(PaneOpener);
  return places
    .filter((place) => isIn(place, from, to))
    .map(({ name, title }) => (
      <button
        key={name}
        type="button"
        className="quiet chip"
        onClick={() => open(name)}
        title={`Open “${title}” as a pane`}
        data-testid="open-pane"
        data-pane={name}
      >
        <Icon name="panes" /> Open as pane
      </button>
    ));
}
