/** Everything that lives while one person is signed in, and how its parts hear of each other. */
import { Chat } from "./chat/chat";
import { Conversations } from "./chat/conversations";
import { Mesh } from "./chat/mesh";
import { Route } from "./route";
import type { Session } from "./session/session";
import { Client } from "./wire/client";

export interface House {
  route: Route;
  chat: Chat;
  conversations: Conversations;
  mesh: Mesh;
  close: () => void;
}

export function openHouse(session: Session): House {
  const closing = new AbortController();
  const client = new Client(session);
  const route = new Route(closing.signal);
  const recovered = (): void => void conversations.load().then(() => chat.refresh());
  const mesh: Mesh = new Mesh(client.health, recovered, closing.signal);
  const conversations = new Conversations(client, (refusal) => mesh.suspect(refusal));
  const chat: Chat = new Chat(client, {
    named: (conversation) => route.name(conversation),
    changed: (conversation) => void conversations.look(conversation),
    failed: (refusal) => mesh.suspect(refusal),
  });
  const unwatch = route.conversation.watch(() => void chat.open(route.conversation.get()));
  const shown = (): void => {
    if (document.visibilityState === "visible") void conversations.load().then(() => chat.refresh());
  };
  document.addEventListener("visibilitychange", shown, { signal: closing.signal });
  void conversations.load();
  void chat.open(route.conversation.get());
  const close = (): void => {
    closing.abort();
    unwatch();
    chat.leave();
  };
  return { route, chat, conversations, mesh, close };
}
