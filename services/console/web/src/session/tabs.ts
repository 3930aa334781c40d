/** One session for several tabs: refresh tokens rotate, so tabs must share them and never spend one twice. */
import type { Tokens } from "./oidc";

type Message = { kind: "wanted" } | { kind: "tokens"; tokens: Tokens } | { kind: "signed-out"; subject: string };

/** How long siblings have to answer. They are in the same browser: milliseconds, unless asleep. */
const ANSWER_MS = 150;

export class Tabs {
  private readonly channel = new BroadcastChannel("soma-session");

  /** `mine` are this tab's tokens, `heard` takes those of another tab, `ended` its sign-out. */
  constructor(mine: () => Tokens | undefined, heard: (tokens: Tokens) => void, ended: (subject: string) => void) {
    this.channel.onmessage = ({ data }: MessageEvent<Message>) => {
      const tokens = mine();
      if (data.kind === "tokens") heard(data.tokens);
      if (data.kind === "signed-out") ended(data.subject);
      if (data.kind === "wanted" && tokens) this.tell(tokens);
    };
  }

  tell(tokens: Tokens): void {
    this.post({ kind: "tokens", tokens });
  }

  tellSignedOut(subject: string): void {
    this.post({ kind: "signed-out", subject });
  }

  /** Asks the other tabs for their tokens; what they have has reached `heard` when this resolves. */
  async ask(): Promise<void> {
    this.post({ kind: "wanted" });
    await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
  }

  /** Does the work while no other tab does it. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    return navigator.locks ? navigator.locks.request("soma-renew", work) : work();
  }

  private post(message: Message): void {
    this.channel.postMessage(message);
  }
}
