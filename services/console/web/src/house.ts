/** Everything that lives while one person is signed in, and how its parts hear of each other. */
import { Canvas } from "./canvas/canvas";
import { Chat } from "./chat/chat";
import { Conversations } from "./chat/conversations";
import { Mesh } from "./chat/mesh";
import { Thumbs } from "./chat/thumbs";
import { Route } from "./route";
import type { Session } from "./session/session";
import { backoffMs, pause } from "./turn/pause";
import { Client } from "./wire/client";

export interface House {
  route: Route;
  chat: Chat;
  thumbs: Thumbs;
  canvas: Canvas;
  conversations: Conversations;
  mesh: Mesh;
  close: () => void;
}

export function openHouse(session: Session): House {
  const closing = new AbortController();
  const client = new Client(session);
  const route = new Route(closing.signal);
  const recovered = (): void => void conversations.load().then(() => refresh());
  const mesh: Mesh = new Mesh(client.health, recovered, closing.signal);
  const conversations = new Conversations(client, (refusal) => mesh.suspect(refusal));
  const chat: Chat = new Chat(client, {
    named: (conversation) => route.name(conversation),
    changed: (conversation) => {
      void conversations.look(conversation);
      if (!chat.running) void canvas.refresh(); // the panes that the answer left
    },
    failed: (refusal) => mesh.suspect(refusal),
  });
  const thumbs = new Thumbs({
    tell: client.giveFeedback,
    pause: (attempt) => pause(backoffMs(attempt, Math.random()), closing.signal),
    failed: (refusal) => mesh.suspect(refusal),
    memory: sessionStorage,
  });
  const canvas = new Canvas(client, (refusal) => mesh.suspect(refusal), closing.signal);
  const refresh = (): void => void Promise.all([chat.refresh(), canvas.refresh()]);
  const open = (): void => {
    void chat.open(route.conversation.get());
    void canvas.open(route.conversation.get());
  };
  const unwatch = route.conversation.watch(open);
  const unhear = chat.view.watch(() => canvas.hear(chat.view.get().turns.at(-1)));
  const shown = (): void => {
    if (document.visibilityState === "visible") void conversations.load().then(refresh);
  };
  document.addEventListener("visibilitychange", shown, { signal: closing.signal });
  void conversations.load();
  open();
  const close = (): void => {
    closing.abort();
    unwatch();
    unhear();
    chat.leave();
    canvas.leave();
  };
  return { route, chat, thumbs, canvas, conversations, mesh, close };
}
