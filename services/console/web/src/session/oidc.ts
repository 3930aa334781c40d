/** OpenID Connect as this page speaks it: code with PKCE, and refresh tokens that rotate. */
import { Refusal, signedOut, unreachable } from "../wire/refusal";

export const CLIENT_ID = "soma-web";

export interface Tokens {
  access: string;
  refresh: string;
  /** When the access token expires, by this machine's clock. */
  expiresAtMs: number;
  lifeMs: number;
}

/** What is kept from the way out to the way back. */
export interface Login {
  state: string;
  verifier: string;
  /** The route to return to. */
  hash: string;
}

interface Discovery {
  issuer: string;
  authorization_endpoint: string;
  token_endpoint: string;
  end_session_endpoint?: string;
}

interface TokenAnswer {
  access_token: string;
  refresh_token?: string;
  expires_in?: number;
}

export async function discover(): Promise<Discovery> {
  const answer = await reach("/oidc/.well-known/openid-configuration");
  if (!answer.ok)
    throw new Refusal("ROOM_UNAVAILABLE", "The sign-in service does not answer.", { status: answer.status });
  return (await answer.json()) as Discovery;
}

export function newLogin(hash: string): Login {
  return { state: randomText(16), verifier: randomText(32), hash };
}

export async function authorizeUrl(discovery: Discovery, login: Login): Promise<string> {
  const url = new URL(here(discovery.authorization_endpoint), location.origin);
  url.search = new URLSearchParams({
    response_type: "code",
    client_id: CLIENT_ID,
    redirect_uri: redirectUri(),
    scope: "openid",
    state: login.state,
    code_challenge: await challenge(login.verifier),
    code_challenge_method: "S256",
  }).toString();
  return url.href;
}

export function redeem(discovery: Discovery, code: string, login: Login): Promise<Tokens> {
  return grant(discovery, {
    grant_type: "authorization_code",
    code,
    redirect_uri: redirectUri(),
    code_verifier: login.verifier,
  });
}

/** New tokens for old. Refuses with SIGNED_OUT when the session is over. */
export function refresh(discovery: Discovery, tokens: Tokens): Promise<Tokens> {
  return grant(discovery, { grant_type: "refresh_token", refresh_token: tokens.refresh });
}

/** Where the issuer ends its own session and sends the person back here. Undefined: it keeps none. */
export function logoutUrl(discovery: Discovery): string | undefined {
  if (!discovery.end_session_endpoint) return undefined;
  const url = new URL(here(discovery.end_session_endpoint), location.origin);
  url.search = new URLSearchParams({ client_id: CLIENT_ID, post_logout_redirect_uri: redirectUri() }).toString();
  return url.href;
}

async function grant(discovery: Discovery, fields: Record<string, string>): Promise<Tokens> {
  const body = new URLSearchParams({ client_id: CLIENT_ID, ...fields });
  const answer = await reach(here(discovery.token_endpoint), { method: "POST", body });
  if (answer.status === 400 || answer.status === 401) throw signedOut();
  if (!answer.ok)
    throw new Refusal("ROOM_UNAVAILABLE", "The sign-in service does not answer.", { status: answer.status });
  const tokens = (await answer.json()) as TokenAnswer;
  const lifeMs = (tokens.expires_in ?? 300) * 1000;
  return {
    access: tokens.access_token,
    refresh: tokens.refresh_token ?? fields["refresh_token"] ?? "",
    expiresAtMs: Date.now() + lifeMs,
    lifeMs,
  };
}

async function reach(path: string, request: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(path, { ...request, cache: "no-store", signal: AbortSignal.timeout(10_000) });
  } catch {
    throw unreachable();
  }
}

/** An address of the issuer; by the page's own name for this machine when the issuer goes by another of its names. */
function here(address: string): string {
  const url = new URL(address);
  const alias = LOOPBACK.has(url.hostname) && LOOPBACK.has(location.hostname) && url.port === location.port;
  return alias ? url.pathname + url.search : address;
}

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

const redirectUri = (): string => `${location.origin}/`;

function randomText(bytes: number): string {
  return base64url(crypto.getRandomValues(new Uint8Array(bytes)));
}

async function challenge(verifier: string): Promise<string> {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}
