/** The open conversation with its composer: what people write, send, stop and try again. */
import { type ReactNode, useCallback, useEffect, useRef, useState } from "react";
import { draftOf, keepDraft, rememberedTier, rememberTier } from "../chat/pending";
import type { House } from "../house";
import type { Person } from "../session/person";
import { useStore, useStorePart } from "../store";
import { ended, type TurnView } from "../turn/turn";
import type { Tier } from "../wire/types";
import { Composer } from "./Composer";
import { Thread } from "./Thread";
import type { Deed } from "./words";

/** What another tier may mend: asked again, the question takes the one that is chosen now. */
const DEPENDS_ON_TIER = new Set(["MODEL_UNAVAILABLE", "BUDGET_SPENT"]);

interface ChatPaneProps {
  house: House;
  person: Person;
  newChat: () => void;
  signIn: () => void;
}

export function ChatPane({
  house: { chat, thumbs, canvas, route },
  person,
  newChat,
  signIn,
}: ChatPaneProps): ReactNode {
  const view = useStore(chat.view);
  const panes = useStorePart(canvas.view, (all) => all.panes);
  const conversation = useStore(route.conversation);
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(() => draftOf(conversation));
  const [tier, setTier] = useState<Tier>(rememberedTier);
  const running = view.turns.some((turn) => !ended(turn));

  const write = useCallback(
    (next: string) => {
      setText(next);
      keepDraft(route.conversation.get(), next);
    },
    [route],
  );
  const ask = useCallback((question: string) => chat.send(question, rememberedTier()), [chat]);
  const send = (): void => {
    const question = text;
    write("");
    ask(question);
  };
  const stop = useCallback(async () => {
    const question = await chat.stop();
    if (question) write(question);
  }, [chat, write]);
  const choose = (next: Tier): void => {
    rememberTier(next);
    setTier(next);
  };
  const act = useCallback(
    (deed: Deed, turn: TurnView) => {
      if (deed === "retry")
        chat.retry(turn, DEPENDS_ON_TIER.has(turn.failure?.reason ?? "") ? rememberedTier() : turn.tier);
      if (deed === "sign-in") signIn();
      if (deed === "new-chat") newChat();
      if (deed === "stop-running") void chat.stopAndRetry(turn);
      if (deed === "edit" || deed === "go-to-running") {
        chat.forget(turn);
        write(turn.question);
        field.current?.focus();
      }
      if (deed === "go-to-running") void chat.refresh();
    },
    [chat, signIn, newChat, write],
  );

  useEffect(() => {
    setText(draftOf(conversation));
    if (matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, [conversation]);
  useEscape(running, stop);

  return (
    <>
      <Thread
        view={view}
        panes={panes}
        thumbs={thumbs}
        person={person}
        ask={ask}
        older={chat.older}
        reload={() => void chat.refresh()}
        newChat={newChat}
        act={act}
        openPane={canvas.show}
      />
      <div className="composer-place">
        <Composer
          field={field}
          text={text}
          write={write}
          tier={tier}
          choose={choose}
          running={running}
          stopping={view.stopping}
          send={send}
          stop={() => void stop()}
        />
        <p className="small-print">Models make mistakes. Check what matters.</p>
      </div>
      <Announcer turn={view.turns.at(-1)} />
    </>
  );
}

function useEscape(running: boolean, stop: () => Promise<void>): void {
  useEffect(() => {
    if (!running) return;
    const press = (event: KeyboardEvent): void => {
      if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]")) void stop();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [running, stop]);
}

/** Tells people who listen how the newest turn goes: that it began and that it ended, not each word. */
function Announcer({ turn }: { turn: TurnView | undefined }): ReactNode {
  const here = useRef<string>(undefined);
  if (turn && !ended(turn)) here.current = turn.key;
  const said = turn && here.current === turn.key ? sentence(turn) : "";
  return (
    <div className="visually-hidden" role="status" aria-live="polite" data-testid="announcer">
      {said}
    </div>
  );
}

function sentence(turn: TurnView): string {
  switch (turn.phase) {
    case "asking":
    case "running":
      return "Answering.";
    case "done":
      return "The answer is complete.";
    case "cancelled":
      return "Stopped.";
    case "failed":
      return "";
  }
}
