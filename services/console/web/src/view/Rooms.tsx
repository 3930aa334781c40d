/** The page of a person who is signed in: side, head and the open conversation. */
import { lazy, type ReactNode, Suspense, useCallback, useEffect, useState } from "react";
import type { House } from "../house";
import type { Person } from "../session/person";
import { useStore, useStorePart } from "../store";
import { ended } from "../turn/turn";
import { asRefusal } from "../wire/refusal";
import type { Conversation } from "../wire/types";
import { Banner } from "./Banner";
import { ChatPane } from "./ChatPane";
import { ConfirmDelete } from "./ConfirmDelete";
import { titleOf } from "./ConversationRow";
import { Icon } from "./icons";
import { usePageTitle, useSmall, useTight } from "./page";
import { PanesButton } from "./PanesButton";
import { rememberedSplit, rememberSplit } from "./panes/remembered";
import { Splitter } from "./panes/Splitter";
import { Sidebar } from "./Sidebar";

const Panes = lazy(() => import("./panes/Panes"));

interface RoomsProps {
  house: House;
  person: Person;
  expired: boolean;
  signIn: () => void;
  signOut: () => void;
}

export function Rooms({ house, person, expired, signIn, signOut }: RoomsProps): ReactNode {
  const { chat, canvas, conversations, route, mesh } = house;
  const trouble = useStorePart(chat.view, (view) => view.trouble);
  const running = useStorePart(chat.view, ({ turns }) => turns.some((turn) => !ended(turn)));
  const { rows } = useStore(conversations.view);
  const current = useStore(route.conversation);
  const meshView = useStore(mesh.view);
  const small = useSmall();
  const { arrangement } = useStore(canvas.view);
  const wanted = useStore(canvas.wanted);
  const withPanes = current !== undefined && (wanted ?? (!small && arrangement.panes.length > 0));
  const narrow = useTight() && (small || withPanes);
  const [share, setShare] = useState(() => rememberedSplit("chat"));
  const [drawer, setDrawer] = useState(false);
  const [doomed, setDoomed] = useState<Conversation>();
  const [note, setNote] = useState("");
  const open = rows.find(({ name }) => name === current);
  const title = open ? titleOf(open) : "New chat";

  const newChat = useCallback(() => {
    setDrawer(false);
    if (route.conversation.get() || chat.view.get().turns.length === 0) route.go(undefined);
    else void chat.open(undefined);
    document.querySelector<HTMLTextAreaElement>(".composer textarea")?.focus();
  }, [chat, route]);
  const rename = (conversation: Conversation, next: string): void => {
    conversations.rename(conversation, next).catch((error: unknown) => {
      const refusal = asRefusal(error);
      setNote(
        refusal.reason === "ETAG_STALE" ? "It was renamed elsewhere meanwhile: that title is shown." : refusal.message,
      );
    });
  };
  const remove = (conversation: Conversation): void => {
    setDoomed(undefined);
    if (conversation.name === current) newChat();
    conversations.delete(conversation.name).catch((error: unknown) => setNote(asRefusal(error).message));
  };

  useEffect(() => setDrawer(false), [current]);
  useKeys(newChat, () => setDrawer(false));
  usePageTitle(current ? title : undefined, running);

  return (
    <div className={["rooms", narrow && "narrow", drawer && "drawer-open"].filter(Boolean).join(" ")}>
      <Sidebar
        house={house}
        person={person}
        hidden={narrow && !drawer}
        newChat={newChat}
        close={() => setDrawer(false)}
        rename={rename}
        remove={setDoomed}
        signOut={signOut}
      />
      {narrow && drawer && (
        <button type="button" className="veil" aria-label="Close the list" onClick={() => setDrawer(false)} />
      )}
      <div
        className={withPanes ? "desk with-panes" : "desk"}
        style={
          withPanes && !small ? { gridTemplateColumns: `minmax(0, ${share}fr) auto minmax(0, ${100 - share}fr)` } : {}
        }
      >
        <main inert={(narrow && drawer) || (small && withPanes)} id="chat">
          <header className="head">
            <button
              type="button"
              className="quiet icon-only only-small"
              onClick={() => setDrawer(true)}
              aria-label="Conversations"
              aria-controls="sidebar"
              aria-expanded={drawer}
              data-testid="open-drawer"
            >
              <Icon name="menu" />
            </button>
            <span className="head-title" data-testid="title">
              {title}
            </span>
            {current && <PanesButton house={house} on={withPanes} toggle={() => canvas.wanted.set(!withPanes)} />}
            <button type="button" className="quiet icon-only only-small" onClick={newChat} aria-label="New chat">
              <Icon name="plus" />
            </button>
          </header>
          {expired && (
            <div className="banner" role="alert" data-testid="expired">
              <span>
                <strong>Your session has ended.</strong> What you wrote is kept.
              </span>
              <button type="button" className="soft" onClick={signIn}>
                Sign in
              </button>
            </div>
          )}
          {!expired && <Banner mesh={meshView} trouble={trouble} />}
          {note && (
            <div className="banner" role="alert">
              <span>{note}</span>
              <button type="button" className="soft" onClick={() => setNote("")}>
                Well
              </button>
            </div>
          )}
          <ChatPane house={house} person={person} newChat={newChat} signIn={signIn} />
        </main>
        {withPanes && !small && (
          <Splitter
            share={share}
            least={25}
            most={75}
            set={(next) => {
              rememberSplit("chat", next);
              setShare(next);
            }}
            label="Room of the chat"
            controls="chat"
            handle="splitter"
          />
        )}
        {withPanes && (
          <Suspense fallback={<aside className="panes" />}>
            <Panes key={current} house={house} small={small} hide={() => canvas.wanted.set(false)} />
          </Suspense>
        )}
      </div>
      {doomed && (
        <ConfirmDelete conversation={doomed} confirm={() => remove(doomed)} close={() => setDoomed(undefined)} />
      )}
    </div>
  );
}

/** Ctrl/Cmd+K: a new chat. Esc: the drawer closes. */
function useKeys(newChat: () => void, closeDrawer: () => void): void {
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
        event.preventDefault();
        newChat();
      }
      if (event.key === "Escape") closeDrawer();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
}
