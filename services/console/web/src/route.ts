/** Hash routes: `#/` is a new conversation, `#/conversations/ID` an old one. */
import { Store } from "./store";

const NAME = /^#\/(conversations\/[0-9a-zA-Z-]+)$/;

export const conversationIn = (hash: string): string | undefined => NAME.exec(hash)?.[1];

export const hashOf = (conversation: string | undefined): string => `#/${conversation ?? ""}`;

/** A reload goes to the address that the browser last heard of, which may be the one before a name was given. */
const NAMED = "soma.named";

export class Route {
  /** The name of the conversation that the address shows. Undefined: a new one. */
  readonly conversation = new Store(conversationIn(location.hash));

  constructor(signal: AbortSignal) {
    const heard = (): void => {
      sessionStorage.removeItem(NAMED);
      this.conversation.set(conversationIn(location.hash));
    };
    addEventListener("hashchange", heard, { signal });
    const named = sessionStorage.getItem(NAMED);
    if (named && !this.conversation.get() && isReload()) this.name(named);
  }

  go(conversation: string | undefined): void {
    location.hash = hashOf(conversation);
  }

  /** Gives the present address a name without a new entry in the history. */
  name(conversation: string): void {
    sessionStorage.setItem(NAMED, conversation);
    history.replaceState(null, "", hashOf(conversation));
    this.conversation.set(conversation);
  }
}

function isReload(): boolean {
  const [entry] = performance.getEntriesByType("navigation");
  return entry instanceof PerformanceNavigationTiming && entry.type === "reload";
}
