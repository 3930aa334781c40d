/** One conversation in the list: open it, rename it in place, delete it. */
import { type KeyboardEvent, type ReactNode, useRef, useState } from "react";
import { hashOf } from "../route";
import type { Conversation } from "../wire/types";
import { fullTime } from "./format";
import { Icon } from "./icons";

interface RowProps {
  conversation: Conversation;
  current: boolean;
  rename: (conversation: Conversation, title: string) => void;
  remove: (conversation: Conversation) => void;
}

export const titleOf = ({ title }: Conversation): string => title || "Untitled";

export function ConversationRow({ conversation, current, rename, remove }: RowProps): ReactNode {
  const [editing, setEditing] = useState(false);
  const link = useRef<HTMLAnchorElement>(null);
  const title = titleOf(conversation);
  const close = (next: string): void => {
    setEditing(false);
    if (next.trim() && next.trim() !== title) rename(conversation, next.trim());
    requestAnimationFrame(() => link.current?.focus());
  };
  if (editing)
    return (
      <li>
        <TitleField title={title} close={close} />
      </li>
    );
  return (
    <li className={current ? "row current" : "row"} data-testid="conversation">
      <a
        ref={link}
        href={hashOf(conversation.name)}
        aria-current={current ? "page" : undefined}
        title={`${title}\n${fullTime(conversation.updateTime ?? conversation.createTime ?? "")}`}
        onDoubleClick={() => setEditing(true)}
      >
        {conversation.runningTurn && <i className="beat" role="img" aria-label="Being answered" />}
        <span>{title}</span>
      </a>
      <button
        type="button"
        className="quiet icon-only"
        onClick={() => setEditing(true)}
        aria-label={`Rename “${title}”`}
        title="Rename"
        data-testid="rename"
      >
        <Icon name="pen" />
      </button>
      <button
        type="button"
        className="quiet icon-only"
        onClick={() => remove(conversation)}
        aria-label={`Delete “${title}”`}
        title="Delete"
        data-testid="delete"
      >
        <Icon name="bin" />
      </button>
    </li>
  );
}

function TitleField({ title, close }: { title: string; close: (title: string) => void }): ReactNode {
  const left = useRef(false);
  const leave = (next: string): void => {
    if (left.current) return;
    left.current = true;
    close(next);
  };
  const press = (event: KeyboardEvent<HTMLInputElement>): void => {
    if (event.key === "Enter") leave(event.currentTarget.value);
    if (event.key === "Escape") leave(title);
    event.stopPropagation();
  };
  return (
    <input
      className="title-field"
      defaultValue={title}
      maxLength={200}
      autoFocus
      onFocus={(event) => event.target.select()}
      onBlur={(event) => leave(event.target.value)}
      onKeyDown={press}
      aria-label="Title"
      data-testid="title-field"
    />
  );
}
