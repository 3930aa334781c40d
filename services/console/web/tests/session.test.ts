import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Session } from "../src/session/session";

const ORIGIN = "https://mesh.example";
const DISCOVERY = {
  issuer: ORIGIN,
  authorization_endpoint: `${ORIGIN}/oidc/authorize`,
  token_endpoint: `${ORIGIN}/oidc/token`,
};

class Storage {
  private readonly kept = new Map<string, string>();
  getItem = (key: string): string | null => this.kept.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.kept.set(key, value);
  removeItem = (key: string): void => void this.kept.delete(key);
  clear = (): void => this.kept.clear();
}

class Channel {
  postMessage(): void {}
}

describe("a sign-out", () => {
  const assign = vi.fn();
  let window: EventTarget;
  let answer: (response: Response) => void;

  beforeEach(() => {
    window = new EventTarget();
    vi.useFakeTimers();
    vi.stubGlobal("sessionStorage", new Storage());
    vi.stubGlobal("BroadcastChannel", Channel);
    vi.stubGlobal("addEventListener", window.addEventListener.bind(window));
    vi.stubGlobal("location", { origin: ORIGIN, hostname: "mesh.example", port: "", search: "", hash: "", assign });
    vi.stubGlobal("fetch", () => new Promise<Response>((resolve) => (answer = resolve)));
  });
  afterEach(() => {
    assign.mockReset();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  async function signedIn(): Promise<Session> {
    const tokens = { access: "a.b.c", refresh: "r", expiresAtMs: Date.now() + 300_000, lifeMs: 300_000 };
    sessionStorage.setItem("soma.tokens", JSON.stringify(tokens));
    const session = new Session();
    await session.begin();
    expect(session.view.get().is).toBe("signed-in");
    return session;
  }

  test("offers no sign-in until the page is left", async () => {
    const session = await signedIn();
    const shown: string[] = [];
    session.view.watch(() => shown.push(session.view.get().is));
    const done = session.signOut();
    expect(sessionStorage.getItem("soma.tokens")).toBeNull();
    answer(Response.json({ ...DISCOVERY, end_session_endpoint: `${ORIGIN}/oidc/logout` }));
    await done;
    expect(assign).toHaveBeenCalledOnce();
    expect(shown).toEqual(["leaving"]);
  });

  test("that somebody comes back from by the browser's button offers a sign-in", async () => {
    const session = await signedIn();
    const done = session.signOut();
    answer(Response.json({ ...DISCOVERY, end_session_endpoint: `${ORIGIN}/oidc/logout` }));
    await done;
    window.dispatchEvent(new Event("pageshow"));
    expect(session.view.get()).toEqual({ is: "signed-out" });
  });

  test.each([
    ["an issuer without a session", () => Response.json(DISCOVERY)],
    ["an issuer that is down", () => new Response("", { status: 503 })],
  ])("from %s stays, and offers a sign-in", async (_, response) => {
    const session = await signedIn();
    const done = session.signOut();
    answer(response());
    await done;
    expect(assign).not.toHaveBeenCalled();
    expect(session.view.get()).toEqual({ is: "signed-out" });
  });
});
