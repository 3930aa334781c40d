/** Somebody else saved first: both texts, and what to do. Nothing is lost before the person chooses. */
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { Pane } from "../../wire/types";
import { Diff } from "./Diff";
import { ago } from "./words";

interface ConflictProps {
  mine: string;
  newest: Pane;
  keepMine: () => void;
  takeTheirs: () => void;
  goOn: () => void;
}

export function Conflict({ mine, newest, keepMine, takeTheirs, goOn }: ConflictProps): ReactNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const [shown, setShown] = useState<"changes" | "mine" | "theirs">("changes");
  useEffect(() => dialog.current?.showModal(), []);
  const who = newest.author === "agent" ? "the agent" : "you, in another tab or device";
  const theirs = newest.text ?? "";
  return (
    <dialog ref={dialog} className="conflict" onClose={goOn} aria-labelledby="conflict-title" data-testid="conflict">
      <h2 id="conflict-title">This pane was changed while you wrote</h2>
      <p>
        Version {newest.version} was saved by {who}, {ago(newest.updateTime, new Date())}. Yours is not saved yet; both
        are kept until you choose.
      </p>
      <div className="switch" role="group" aria-label="What to show">
        {(["changes", "theirs", "mine"] as const).map((each) => (
          <button
            key={each}
            type="button"
            aria-pressed={shown === each}
            onClick={() => setShown(each)}
            data-testid={`conflict-${each}`}
          >
            {{ changes: "What differs", theirs: "The newest", mine: "Yours" }[each]}
          </button>
        ))}
      </div>
      <div className="conflict-texts">
        {shown === "changes" ? (
          <Diff before={theirs} after={mine} beforeName={`Version ${newest.version}`} afterName="Yours" />
        ) : (
          <pre tabIndex={0} data-testid="conflict-text">
            {shown === "mine" ? mine : theirs}
          </pre>
        )}
      </div>
      <form method="dialog">
        <button className="soft" autoFocus data-testid="go-on">
          Go on editing
        </button>
        <button type="button" className="soft" onClick={takeTheirs} data-testid="take-theirs">
          Take the newest
        </button>
        <button type="button" className="go" onClick={keepMine} data-testid="keep-mine">
          Save mine on top
        </button>
      </form>
    </dialog>
  );
}
