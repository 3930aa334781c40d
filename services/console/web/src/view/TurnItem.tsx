/** One turn: the question, its answer as it comes, and what is known about it. */
import { memo, type ReactNode, useMemo, useRef, useState } from "react";
import { placesIn } from "../canvas/places";
import type { Thumbs } from "../chat/thumbs";
import { blocksOf } from "../markdown/blocks";
import { type Opener, PaneOpener } from "../markdown/Chips";
import { Markdown } from "../markdown/Markdown";
import { ended, textOf, type TurnView } from "../turn/turn";
import { CopyButton } from "./CopyButton";
import { clockTime, dollars, duration, fullTime, hasLongRun, tierName } from "./format";
import { Icon } from "./icons";
import { Problem } from "./Problem";
import { useReveal } from "./scroll";
import { ThumbButtons, ThumbTrouble, useOpinion } from "./ThumbButtons";
import type { Pane } from "../wire/types";
import type { Deed } from "./words";
import { WhyModel } from "./WhyModel";

export interface TurnDeeds {
  act(deed: Deed, turn: TurnView): void;
  openPane(name: string): void;
}

interface TurnItemProps extends TurnDeeds {
  turn: TurnView;
  /** Those that the answer made. */
  panes: Pane[];
  thumbs: Thumbs;
}

export const TurnItem = memo(function TurnItem({ turn, panes, thumbs, act, openPane }: TurnItemProps) {
  const opener = useOpener(turn, panes, openPane);
  const text = textOf(turn);
  const running = !ended(turn);
  return (
    <article className="turn" data-testid="turn" data-phase={turn.phase}>
      <h2 className="visually-hidden">You asked</h2>
      <div
        className={hasLongRun(turn.question) ? "question unkerned" : "question"}
        data-testid="question"
        title={fullTime(turn.askedAt)}
      >
        {turn.question}
      </div>
      <h2 className="visually-hidden">Answer</h2>
      <div
        className={`answer${running ? " running" : ""}${hasLongRun(text) ? " unkerned" : ""}`}
        data-testid="answer"
        aria-busy={running}
      >
        {text ? (
          <PaneOpener value={opener}>
            <Markdown text={text} growing={running} />
          </PaneOpener>
        ) : (
          running && <Waiting turn={turn} />
        )}
        {turn.phase === "cancelled" && (
          <p className="note">{text ? "Stopped here." : "Stopped before the first word."}</p>
        )}
        {turn.finishReason === "length" && <p className="note">The answer reached the model’s limit and ends here.</p>}
        {turn.finishReason === "content_filter" && <p className="note">The provider’s filter ended the answer here.</p>}
        {turn.failure && <Problem failure={turn.failure} deeds={deedsOf(turn, act)} />}
      </div>
      {!running && turn.name && <Foot turn={turn} name={turn.name} text={text} thumbs={thumbs} />}
    </article>
  );
});

/** Which blocks of the answer are panes: its events say so, or else the panes do. */
function useOpener({ parts, answer }: TurnView, panes: Pane[], open: (name: string) => void): Opener {
  const found = useMemo(
    () => (parts.length > 0 || panes.length === 0 ? [] : placesIn(blocksOf(answer).tokens, panes)),
    [parts.length, answer, panes],
  );
  return useMemo(() => ({ places: parts.length > 0 ? parts : found, open }), [parts, found, open]);
}

function Waiting({ turn }: { turn: TurnView }): ReactNode {
  const word = turn.decision ? `${turn.decision.model} is thinking` : turn.name ? "Choosing a model" : "Sending";
  return (
    <p className="waiting" data-testid="waiting">
      {word}
    </p>
  );
}

interface FootProps {
  turn: TurnView;
  name: string;
  text: string;
  thumbs: Thumbs;
}

function Foot({ turn, name, text, thumbs }: FootProps): ReactNode {
  const [open, setOpen] = useState(false);
  const foot = useRef<HTMLElement>(null);
  useReveal(foot, open);
  const opinion = useOpinion(thumbs, name);
  const { decision } = turn;
  return (
    <footer ref={foot}>
      <div className="foot">
        {text && <CopyButton text={text} label="Copy answer" />}
        {turn.phase === "done" && <ThumbButtons opinion={opinion} give={(thumb) => thumbs.give(name, thumb)} />}
        {decision && (
          <button
            type="button"
            className="quiet why-toggle"
            aria-expanded={open}
            onClick={() => setOpen(!open)}
            data-testid="why-toggle"
          >
            Why {decision.model}? <Icon name="chevron" />
          </button>
        )}
        {decision && (
          <span className="figures">
            <span data-testid="tier">{tierName(decision.tier)}</span>
            {(turn.phase !== "failed" || turn.costMicrousd > 0) && (
              <span data-testid="cost">{dollars(turn.costMicrousd)}</span>
            )}
            {turn.firstTokenMs > 0 && <span>{duration(turn.firstTokenMs)} to the first word</span>}
          </span>
        )}
        <time dateTime={turn.endedAt ?? turn.askedAt} title={fullTime(turn.endedAt ?? turn.askedAt)}>
          {clockTime(turn.endedAt ?? turn.askedAt)}
        </time>
      </div>
      <ThumbTrouble opinion={opinion} />
      {open && decision && <WhyModel turn={turn} decision={decision} />}
    </footer>
  );
}

function deedsOf(turn: TurnView, act: TurnDeeds["act"]): Partial<Record<Deed, () => void>> {
  const deeds: Partial<Record<Deed, () => void>> = {};
  const { failure } = turn;
  for (const deed of ["retry", "sign-in", "new-chat"] as const) deeds[deed] = () => act(deed, turn);
  if (!turn.name) deeds.edit = () => act("edit", turn);
  if (failure?.reason === "TURN_RUNNING") {
    deeds["go-to-running"] = () => act("go-to-running", turn);
    if (turn.blockedBy) deeds["stop-running"] = () => act("stop-running", turn);
  }
  return deeds;
}
