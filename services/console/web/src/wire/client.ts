/** Every call of the API that the page makes, one method each. A 401 in mid-use renews the token once and repeats. */
import { refusalOf, unreachable } from "./refusal";
import { eventsOf } from "./sse";
import type { ChatEvent, ChatRequest, Conversation, ListConversationsResponse, ListTurnsResponse, Turn } from "./types";

/** Where tokens come from: the present one, or a new one when `refused` was the present one. */
export interface Bearer {
  token(refused?: string): Promise<string>;
}

const CALL_TIMEOUT_MS = 20_000;
/** A stream sends its headers at once; without them by then, the connection is dead. */
const OPENING_TIMEOUT_MS = 30_000;

export class Client {
  constructor(private readonly bearer: Bearer) {}

  conversations = (pageToken = ""): Promise<ListConversationsResponse> =>
    this.json("GET", `/v1/conversations?pageSize=50${pageToken && `&pageToken=${encodeURIComponent(pageToken)}`}`);

  conversation = (name: string): Promise<Conversation> => this.json("GET", `/v1/${name}`);

  /** Refuses with ETAG_STALE when the title was changed elsewhere since `conversation` was read. */
  rename = (conversation: Conversation, title: string): Promise<Conversation> =>
    this.json("PATCH", `/v1/${conversation.name}?updateMask=title`, {
      title,
      ...(conversation.etag && { etag: conversation.etag }),
    });

  delete = async (name: string): Promise<void> => {
    await this.json("DELETE", `/v1/${name}`);
  };

  turns = (conversation: string, pageToken = ""): Promise<ListTurnsResponse> =>
    this.json(
      "GET",
      `/v1/${conversation}/turns?pageSize=30${pageToken && `&pageToken=${encodeURIComponent(pageToken)}`}`,
    );

  cancel = (turn: string): Promise<Turn> => this.json("POST", `/v1/${turn}:cancel`, {});

  /** Asks a question. The same requestId again gives the same turn and its events from 1. */
  ask = (request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent[]> =>
    this.stream("POST", "/v1/chat:stream", signal, request);

  /** The events of a turn after a sequence, to its end. */
  watch = (turn: string, afterSequence: number, signal: AbortSignal): AsyncGenerator<ChatEvent[]> =>
    this.stream("GET", `/v1/${turn}:watch?afterSequence=${afterSequence}`, signal);

  /** Resolves when the mesh can answer a chat; refuses, naming the part, when it cannot. */
  health = async (): Promise<void> => {
    const answer = await reach("/healthz", { signal: AbortSignal.timeout(5_000) });
    if (!answer.ok) throw refusalOf(answer.status, await answer.text());
  };

  private async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const request = requestOf(method, body, AbortSignal.timeout(CALL_TIMEOUT_MS));
    const keepalive = method !== "GET"; // a change gets through although the page is left at once
    const answer = await this.authorised(path, { ...request, keepalive });
    return (await answer.json()) as T;
  }

  private async *stream(
    method: string,
    path: string,
    signal: AbortSignal,
    body?: unknown,
  ): AsyncGenerator<ChatEvent[]> {
    const opening = new AbortController();
    const deadline = setTimeout(
      () => opening.abort(new DOMException("No answer.", "TimeoutError")),
      OPENING_TIMEOUT_MS,
    );
    const request = requestOf(method, body, AbortSignal.any([signal, opening.signal]));
    const answer = await this.authorised(path, request).finally(() => clearTimeout(deadline));
    if (answer.body) yield* eventsOf(answer.body);
  }

  private async authorised(path: string, request: RequestInit): Promise<Response> {
    const token = await this.bearer.token();
    const answer = await reach(path, bearing(token, request));
    if (answer.status !== 401) return accepted(answer);
    return accepted(await reach(path, bearing(await this.bearer.token(token), request)));
  }
}

const requestOf = (method: string, body: unknown, signal: AbortSignal): RequestInit => ({
  method,
  signal,
  ...(body !== undefined && { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
});

const bearing = (token: string, request: RequestInit): RequestInit => ({
  ...request,
  headers: { ...request.headers, authorization: `Bearer ${token}` },
});

async function accepted(answer: Response): Promise<Response> {
  if (answer.ok) return answer;
  throw refusalOf(answer.status, await answer.text());
}

async function reach(path: string, request: RequestInit): Promise<Response> {
  try {
    return await fetch(path, { ...request, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (request.signal?.aborted && !timedOut(request.signal)) throw error;
    throw unreachable();
  }
}

const timedOut = (signal: AbortSignal): boolean => (signal.reason as Error | undefined)?.name === "TimeoutError";
