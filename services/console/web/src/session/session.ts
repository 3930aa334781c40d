/** The session: signs in and out, keeps tokens for this tab, and renews them before they expire. */
import { Store } from "../store";
import { asRefusal, signedOut } from "../wire/refusal";
import { authorizeUrl, discover, type Login, logoutUrl, newLogin, redeem, refresh, type Tokens } from "./oidc";
import { type Person, personOf } from "./person";
import { Tabs } from "./tabs";

export type SessionView =
  | { is: "starting" }
  | { is: "signed-out"; note?: string }
  /** Has signed out, and is on the way to the issuer to end its session too. */
  | { is: "leaving" }
  | { is: "signed-in"; person: Person }
  /** Was signed in: what is on the screen stays until they sign in again. */
  | { is: "expired"; person: Person };

const TOKENS = "soma.tokens";
const SUBJECT = "soma.subject";
const LOGIN = "soma.login";
/** Set by a sign-out: this tab does not join another tab's session until somebody signs in. */
const LEFT = "soma.left";
/** Renew when this much of a token's life is left. */
const marginMs = (tokens: Tokens): number => Math.min(60_000, 0.3 * tokens.lifeMs);

export class Session {
  readonly view = new Store<SessionView>({ is: "starting" });
  private tokens: Tokens | undefined = kept<Tokens>(TOKENS);
  private renewing: Promise<Tokens> | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly tabs = new Tabs(
    () => this.tokens,
    (tokens) => this.hear(tokens),
    (subject) => this.tokens && personOf(this.tokens.access).subject === subject && this.forget(),
  );

  /** Comes back from the sign-in page, goes on with this tab's session, or joins that of another tab. */
  async begin(): Promise<void> {
    try {
      if (await this.returned()) return;
    } catch (error) {
      return this.view.set({ is: "signed-out", note: (error as Error).message });
    }
    if (!this.tokens && !sessionStorage.getItem(LEFT)) await this.tabs.ask();
    if (this.tokens) this.adopt(this.tokens);
    else this.view.set({ is: "signed-out" });
  }

  async signIn(): Promise<void> {
    const discovery = await discover();
    const login = newLogin(location.hash);
    keep(LOGIN, login);
    location.assign(await authorizeUrl(discovery, login));
  }

  async signOut(): Promise<void> {
    const { tokens } = this;
    if (tokens) this.tabs.tellSignedOut(personOf(tokens.access).subject);
    this.forget({ is: "leaving" });
    const landed = (): void => {
      if (!this.tokens) this.view.set({ is: "signed-out" });
    };
    const url = await discover()
      .then(logoutUrl)
      .catch(() => undefined);
    if (!url) return landed();
    addEventListener("pageshow", landed, { once: true }); // they came back by the browser's button
    location.assign(url);
  }

  /** A token that is good now. `refused` is one that the mesh did not take: it is not returned again. */
  async token(refused?: string): Promise<string> {
    if (!this.tokens) throw signedOut();
    const { access } = this.tokens;
    if (access !== refused && leftMs(this.tokens) > 5_000) return access;
    return (await this.renew(access)).access;
  }

  private renew(spent: string): Promise<Tokens> {
    this.renewing ??= this.tabs
      .alone(() => this.renewAlone(spent))
      .finally(() => {
        this.renewing = undefined;
      });
    return this.renewing;
  }

  private async renewAlone(spent: string): Promise<Tokens> {
    await this.tabs.ask(); // another tab may have renewed while this one waited
    const tokens = this.tokens;
    if (!tokens) throw signedOut();
    if (tokens.access !== spent && leftMs(tokens) > marginMs(tokens)) return tokens;
    try {
      const renewed = await refresh(await discover(), tokens);
      this.adopt(renewed);
      this.tabs.tell(renewed);
      return renewed;
    } catch (error) {
      if (asRefusal(error).signedOut) this.expire();
      throw error;
    }
  }

  private async returned(): Promise<boolean> {
    const query = new URLSearchParams(location.search);
    const login = kept<Login>(LOGIN);
    if (!query.has("state")) return false;
    sessionStorage.removeItem(LOGIN);
    history.replaceState(null, "", location.pathname + (login?.hash ?? ""));
    if (login?.state !== query.get("state")) return false;
    const code = query.get("code");
    if (!code) throw new Error(query.get("error_description") ?? "The sign-in was not finished.");
    const tokens = await redeem(await discover(), code, login);
    this.adopt(tokens);
    this.tabs.tell(tokens);
    return true;
  }

  /** Another tab's tokens: newer ones of the same person, or anyone's when nobody is signed in here. */
  private hear(tokens: Tokens): void {
    const mine = this.tokens;
    const same = mine && personOf(mine.access).subject === personOf(tokens.access).subject;
    if (!mine || (same && tokens.expiresAtMs > mine.expiresAtMs)) this.adopt(tokens);
  }

  private adopt(tokens: Tokens): void {
    const before = this.view.get();
    const person = personOf(tokens.access);
    if (kept<string>(SUBJECT) !== person.subject) sessionStorage.clear(); // somebody else's drafts
    this.tokens = tokens;
    keep(TOKENS, tokens);
    keep(SUBJECT, person.subject);
    sessionStorage.removeItem(LEFT);
    this.planRenewal(tokens);
    if (before.is === "expired" && before.person.subject !== person.subject) return location.reload();
    if (before.is !== "signed-in" || before.person.subject !== person.subject)
      this.view.set({ is: "signed-in", person });
  }

  private planRenewal(tokens: Tokens): void {
    clearTimeout(this.timer);
    const wait = Math.max(leftMs(tokens) - marginMs(tokens), 0) + Math.random() * 2_000; // tabs do not all ask at once
    this.timer = setTimeout(() => void this.renew(tokens.access).catch(() => this.tokens && this.retryLater()), wait);
  }

  private retryLater(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tokens && this.planRenewal(this.tokens), 10_000);
  }

  private expire(): void {
    const view = this.view.get();
    this.drop();
    this.view.set(view.is === "signed-in" ? { is: "expired", person: view.person } : { is: "signed-out" });
  }

  private forget(view: SessionView = { is: "signed-out" }): void {
    this.drop();
    sessionStorage.clear(); // drafts too: whoever comes next is someone else
    keep(LEFT, true);
    this.view.set(view);
  }

  private drop(): void {
    clearTimeout(this.timer);
    this.tokens = undefined;
    sessionStorage.removeItem(TOKENS);
  }
}

const leftMs = (tokens: Tokens): number => tokens.expiresAtMs - Date.now();

const keep = (key: string, value: unknown): void => sessionStorage.setItem(key, JSON.stringify(value));

function kept<T>(key: string): T | undefined {
  const text = sessionStorage.getItem(key);
  return text === null ? undefined : (JSON.parse(text) as T);
}
