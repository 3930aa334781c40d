/** Hash routes: `#/` is a new conversation, `#/conversations/ID` an old one. */
import { Store } from "./store";

const NAME = /^#\/(conversations\/[0-9a-zA-Z-]+)$/;

export const conversationIn = (hash: string): string | undefined => NAME.exec(hash)?.[1];

export const hashOf = (conversation: string | undefined): string => `#/${conversation ?? ""}`;

export class Route {
  /** The name of the conversation that the address shows. Undefined: a new one. */
  readonly conversation = new Store(conversationIn(location.hash));

  constructor(signal: AbortSignal) {
    addEventListener("hashchange", () => this.conversation.set(conversationIn(location.hash)), { signal });
  }

  go(conversation: string | undefined): void {
    location.hash = hashOf(conversation);
  }

  /** Gives the present address a name without a new entry in the history. */
  name(conversation: string): void {
    history.replaceState(null, "", hashOf(conversation));
    this.conversation.set(conversation);
  }
}
