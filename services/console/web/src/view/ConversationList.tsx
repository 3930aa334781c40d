/** The list of conversations, newest first, under the days they belong to. */
import type { ReactNode } from "react";
import type { ConversationsView } from "../chat/conversations";
import type { Conversation } from "../wire/types";
import { ConversationRow } from "./ConversationRow";
import { era } from "./format";

interface ListProps {
  view: ConversationsView;
  current: string | undefined;
  more: () => void;
  reload: () => void;
  rename: (conversation: Conversation, title: string) => void;
  remove: (conversation: Conversation) => void;
}

export function ConversationList({ view, current, more, reload, rename, remove }: ListProps): ReactNode {
  const { rows, loaded, next, refusal } = view;
  return (
    <nav className="list" aria-label="Conversations" data-testid="conversations">
      {eras(rows).map(([name, members]) => (
        <section key={name}>
          <h2>{name}</h2>
          <ul>
            {members.map((row) => (
              <ConversationRow
                key={row.name}
                conversation={row}
                current={row.name === current}
                rename={rename}
                remove={remove}
              />
            ))}
          </ul>
        </section>
      ))}
      {loaded && rows.length === 0 && <p className="hint">Your conversations will stand here.</p>}
      {!loaded && !refusal && (
        <div className="skeleton">
          <i />
          <i />
          <i />
        </div>
      )}
      {refusal && !loaded && (
        <p className="hint">
          The list could not be read.{" "}
          <button type="button" className="link" onClick={reload}>
            Try again
          </button>
        </p>
      )}
      {next && (
        <button type="button" className="quiet more" onClick={more} data-testid="more">
          Show older
        </button>
      )}
    </nav>
  );
}

/** The rows under the eras that they belong to, both in the order of the rows. */
function eras(rows: Conversation[]): [string, Conversation[]][] {
  const now = new Date();
  const groups = new Map<string, Conversation[]>();
  for (const row of rows) {
    const name = era(row.updateTime ?? row.createTime, now);
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  return [...groups];
}
