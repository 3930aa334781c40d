/** One turn: the question, its answer as it comes, and what is known about it. */
import { memo, type ReactNode, useRef, useState } from "react";
import { Markdown } from "../markdown/Markdown";
import { ended, textOf, type TurnView } from "../turn/turn";
import { CopyButton } from "./CopyButton";
import { clockTime, dollars, duration, fullTime, hasLongRun, tierName } from "./format";
import { Icon } from "./icons";
import { Problem } from "./Problem";
import { useReveal } from "./scroll";
import type { Deed } from "./words";
import { WhyModel } from "./WhyModel";

export interface TurnDeeds {
  act(deed: Deed, turn: TurnView): void;
}

interface TurnItemProps extends TurnDeeds {
  turn: TurnView;
}

export const TurnItem = memo(function TurnItem({ turn, act }: TurnItemProps) {
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
        {text ? <Markdown text={text} growing={running} /> : running && <Waiting turn={turn} />}
        {turn.phase === "cancelled" && (
          <p className="note">{text ? "Stopped here." : "Stopped before the first word."}</p>
        )}
        {turn.finishReason === "length" && <p className="note">The answer reached the model’s limit and ends here.</p>}
        {turn.finishReason === "content_filter" && <p className="note">The provider’s filter ended the answer here.</p>}
        {turn.failure && <Problem failure={turn.failure} deeds={deedsOf(turn, act)} />}
      </div>
      {!running && turn.name && <Foot turn={turn} text={text} />}
    </article>
  );
});

function Waiting({ turn }: { turn: TurnView }): ReactNode {
  const word = turn.decision ? `${turn.decision.model} is thinking` : turn.name ? "Choosing a model" : "Sending";
  return (
    <p className="waiting" data-testid="waiting">
      {word}
    </p>
  );
}

function Foot({ turn, text }: { turn: TurnView; text: string }): ReactNode {
  const [open, setOpen] = useState(false);
  const foot = useRef<HTMLElement>(null);
  useReveal(foot, open);
  const { decision } = turn;
  return (
    <footer ref={foot}>
      <div className="foot">
        {text && <CopyButton text={text} label="Copy answer" />}
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
      {open && decision && <WhyModel turn={turn} decision={decision} />}
    </footer>
  );
}

function deedsOf(turn: TurnView, act: TurnDeeds["act"]): Partial<Record<Deed, () => void>> {
  const deeds: Partial<Record<Deed, () => void>> = {};
  for (const deed of ["retry", "sign-in", "new-chat"] as const) deeds[deed] = () => act(deed, turn);
  if (!turn.name) deeds.edit = () => act("edit", turn);
  if (turn.failure?.reason === "TURN_RUNNING") {
    deeds["go-to-running"] = () => act("go-to-running", turn);
    if (turn.blockedBy) deeds["stop-running"] = () => act("stop-running", turn);
  }
  return deeds;
}
