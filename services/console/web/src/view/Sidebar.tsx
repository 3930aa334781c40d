/** The side of the page: a new chat, the conversations, the person. On small screens it is a drawer. */
import type { ReactNode } from "react";
import type { House } from "../house";
import type { Person } from "../session/person";
import { useStore } from "../store";
import type { Conversation } from "../wire/types";
import { ConversationList } from "./ConversationList";
import { Icon, Mark } from "./icons";
import { ThemeButton } from "./ThemeButton";

interface SidebarProps {
  house: House;
  person: Person;
  hidden: boolean;
  newChat: () => void;
  close: () => void;
  rename: (conversation: Conversation, title: string) => void;
  remove: (conversation: Conversation) => void;
  signOut: () => void;
}

export function Sidebar({ house, person, hidden, newChat, close, rename, remove, signOut }: SidebarProps): ReactNode {
  const view = useStore(house.conversations.view);
  const current = useStore(house.route.conversation);
  return (
    <aside className="sidebar" id="sidebar" inert={hidden} data-testid="sidebar">
      <header>
        <span className="brand">
          <Mark /> SomaAgent
        </span>
        <button type="button" className="quiet icon-only only-small" onClick={close} aria-label="Close the list">
          <Icon name="close" />
        </button>
      </header>
      <button
        type="button"
        className="new-chat"
        onClick={newChat}
        title={`New chat (${modifier()}K)`}
        data-testid="new-chat"
      >
        <Icon name="plus" /> New chat <kbd>{modifier()}K</kbd>
      </button>
      <ConversationList
        view={view}
        current={current}
        more={() => void house.conversations.more()}
        reload={() => void house.conversations.load()}
        rename={rename}
        remove={remove}
      />
      <footer className="person" data-testid="person">
        <span className="initial" aria-hidden="true">
          {person.name.slice(0, 1).toUpperCase()}
        </span>
        <span className="who">
          <strong title={person.subject}>{person.name}</strong>
          <span>{[person.tenant, ...person.roles].filter((word) => word && word !== person.name).join(" · ")}</span>
        </span>
        <a className="quiet" href="/docs" title="How programs use this mesh" data-testid="docs">
          API
        </a>
        <ThemeButton />
        <button
          type="button"
          className="quiet icon-only"
          onClick={signOut}
          aria-label="Sign out"
          title="Sign out"
          data-testid="sign-out"
        >
          <Icon name="leave" />
        </button>
      </footer>
    </aside>
  );
}

const modifier = (): string => (/Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘" : "Ctrl ");
