/** Says whether an answer was good: one click tells it, one on the other changes it. */
import type { ReactNode } from "react";
import type { Opinion, Thumbs } from "../chat/thumbs";
import { useStorePart } from "../store";
import type { Thumb } from "../wire/types";
import { Icon } from "./icons";
import { Problem } from "./Problem";
import { waitingSentence } from "./words";

const LABELS: [Thumb, string][] = [
  ["up", "Good answer"],
  ["down", "Bad answer"],
];

export const useOpinion = (thumbs: Thumbs, turn: string): Opinion | undefined =>
  useStorePart(thumbs.view, (opinions) => opinions.get(turn));

interface ThumbButtonsProps {
  opinion: Opinion | undefined;
  give: (thumb: Thumb) => void;
}

export function ThumbButtons({ opinion, give }: ThumbButtonsProps): ReactNode {
  return (
    <span className="thumbs" role="group" aria-label="How was this answer?">
      {LABELS.map(([thumb, label]) => (
        <button
          key={thumb}
          type="button"
          className="quiet icon-only"
          aria-pressed={opinion?.thumb === thumb}
          aria-label={label}
          title={label}
          onClick={() => give(thumb)}
          data-testid={`thumb-${thumb}`}
        >
          <Icon name={`thumb-${thumb}`} />
        </button>
      ))}
    </span>
  );
}

/** Why what was clicked is not known to the mesh: it waits, or was refused. */
export function ThumbTrouble({ opinion }: { opinion: Opinion | undefined }): ReactNode {
  if (!opinion?.failure) return null;
  if (opinion.thumb === opinion.told) return <Problem failure={opinion.failure} deeds={{}} />;
  return (
    <p className="note" role="status" data-testid="thumb-waits">
      {waitingSentence(opinion.failure)}
    </p>
  );
}
