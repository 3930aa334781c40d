/** A question that was not answered, or not to its end: what happened, and what to do next. */
import type { ReactNode } from "react";
import type { Failure } from "../wire/types";
import { Icon } from "./icons";
import { type Deed, spoken, wordsFor } from "./words";

const LABELS: Record<Deed, string> = {
  retry: "Try again",
  "go-to-running": "Show the running answer",
  "stop-running": "Stop it and ask mine",
  "sign-in": "Sign in",
  edit: "Edit the question",
  "new-chat": "Begin a new chat",
};

interface ProblemProps {
  failure: Failure;
  /** What can be done here; a deed that is not in it is not offered. */
  deeds: Partial<Record<Deed, () => void>>;
}

export function Problem({ failure, deeds }: ProblemProps): ReactNode {
  const words = wordsFor(failure);
  const offered = words.deeds.filter((deed) => deeds[deed]);
  return (
    <div
      className={words.mild ? "problem mild" : "problem"}
      role="alert"
      data-testid="problem"
      data-reason={failure.reason}
    >
      <Icon name="warning" />
      <div>
        <strong>{words.title}</strong>
        <p>{spoken(failure.message || words.otherwise)}</p>
        {offered.length > 0 && (
          <div className="deeds">
            {offered.map((deed, i) => (
              <button
                key={deed}
                type="button"
                className={i === 0 ? "soft" : "quiet"}
                onClick={deeds[deed]}
                data-testid={deed}
              >
                {LABELS[deed]}
              </button>
            ))}
          </div>
        )}
      </div>
    </div>
  );
}
