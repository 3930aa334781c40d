/** Every call of the API that the page makes, one method each. A 401 in mid-use renews the token once and repeats. */
import { refusalOf, unreachable } from "./refusal";
import { type Ends, eventsOf } from "./sse";
import type {
  CanvasEvent,
  ChatEvent,
  ChatRequest,
  Conversation,
  Layout,
  ListConversationsResponse,
  ListPanesResponse,
  ListPaneVersionsResponse,
  ListTurnsResponse,
  Pane,
  PaneVersion,
  Thumb,
  Turn,
} from "./types";

/** Where tokens come from: the present one, or a new one when `refused` was the present one. */
export interface Bearer {
  token(refused?: string): Promise<string>;
}

const CALL_TIMEOUT_MS = 20_000;
/** A stream sends its headers at once; without them by then, the connection is dead. */
const OPENING_TIMEOUT_MS = 30_000;

const KEPT_ALIVE_BYTES = 60_000;

export class Client {
  constructor(private readonly bearer: Bearer) {}

  conversations = (pageToken = ""): Promise<ListConversationsResponse> =>
    this.json("GET", `/v1/conversations?pageSize=50${nextPage(pageToken)}`);

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
    this.json("GET", `/v1/${conversation}/turns?pageSize=30${nextPage(pageToken)}`);

  cancel = (turn: string): Promise<Turn> => this.json("POST", `/v1/${turn}:cancel`, {});

  /** Says how good the turn's answer was. Said again it takes the earlier one's place. */
  giveFeedback = async (turn: string, thumb: Thumb): Promise<void> => {
    await this.json("POST", "/v1/feedback", { turn, thumb });
  };

  /** Asks a question. The same requestId again gives the same turn and its events from 1. */
  ask = (request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent[]> =>
    this.stream("POST", "/v1/chat:stream", signal, request);

  /** The events of a turn after a sequence, to its end. */
  watch = (turn: string, afterSequence: number, signal: AbortSignal): AsyncGenerator<ChatEvent[]> =>
    this.stream("GET", `/v1/${turn}:watch?afterSequence=${afterSequence}`, signal);

  panes = (conversation: string, pageToken = ""): Promise<ListPanesResponse> =>
    this.json("GET", `/v1/${conversation}/panes?pageSize=100${nextPage(pageToken)}`);

  pane = (name: string): Promise<Pane> => this.json("GET", `/v1/${name}`);

  /** The same requestId again gives the same pane. */
  createPane = (conversation: string, pane: Partial<Pane>, requestId: string): Promise<Pane> =>
    this.json("POST", `/v1/${conversation}/panes?requestId=${requestId}`, pane);

  /** Refuses with ETAG_STALE, and both versions in its metadata, when the text was changed since `etag`. */
  writePane = (name: string, text: string, etag: string): Promise<Pane> =>
    this.json("PATCH", `/v1/${name}?updateMask=text`, { text, etag });

  describePane = (name: string, pane: { title: string } | { language: string }): Promise<Pane> =>
    this.json("PATCH", `/v1/${name}?updateMask=${Object.keys(pane).join()}`, pane);

  deletePane = async (name: string): Promise<void> => {
    await this.json("DELETE", `/v1/${name}`);
  };

  versions = (pane: string, pageToken = ""): Promise<ListPaneVersionsResponse> =>
    this.json("GET", `/v1/${pane}/versions?pageSize=100${nextPage(pageToken)}`);

  version = (name: string): Promise<PaneVersion> => this.json("GET", `/v1/${name}`);

  /** Makes an old version the newest one. */
  restore = (version: string, etag: string): Promise<Pane> => this.json("POST", `/v1/${version}:restore`, { etag });

  layout = (conversation: string): Promise<Layout> => this.json("GET", `/v1/${conversation}/layout`);

  /** Refuses with ETAG_STALE when it was arranged elsewhere since `etag`. */
  arrange = (conversation: string, layout: Layout): Promise<Layout> =>
    this.json("PATCH", `/v1/${conversation}/layout?updateMask=panes,active,beside`, layout);

  /** The canvas after a revision, or a snapshot first when that is 0. */
  watchCanvas = (conversation: string, afterRevision: number, signal: AbortSignal): AsyncGenerator<CanvasEvent[]> =>
    this.stream("GET", `/v1/${conversation}/panes:watch?afterRevision=${afterRevision}`, signal);

  /** Resolves when the mesh can answer a chat; refuses, naming the part, when it cannot. */
  health = async (): Promise<void> => {
    const answer = await reach("/healthz", { signal: AbortSignal.timeout(5_000) });
    if (!answer.ok) throw refusalOf(answer.status, await answer.text());
  };

  private async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const request = requestOf(method, body, AbortSignal.timeout(CALL_TIMEOUT_MS));
    // A change gets through although the page is left at once; browsers refuse it for more than 64 KiB.
    const keepalive = method !== "GET" && String(request.body ?? "").length * 3 < KEPT_ALIVE_BYTES;
    const answer = await this.authorised(path, { ...request, keepalive });
    return (await answer.json()) as T;
  }

  private async *stream<Event extends Ends>(
    method: string,
    path: string,
    signal: AbortSignal,
    body?: unknown,
  ): AsyncGenerator<Event[]> {
    const opening = new AbortController();
    const deadline = setTimeout(
      () => opening.abort(new DOMException("No answer.", "TimeoutError")),
      OPENING_TIMEOUT_MS,
    );
    const request = requestOf(method, body, AbortSignal.any([signal, opening.signal]));
    const answer = await this.authorised(path, request).finally(() => clearTimeout(deadline));
    if (answer.body) yield* eventsOf<Event>(answer.body);
  }

  private async authorised(path: string, request: RequestInit): Promise<Response> {
    const token = await this.bearer.token();
    const answer = await reach(path, bearing(token, request));
    if (answer.status !== 401) return accepted(answer);
    return accepted(await reach(path, bearing(await this.bearer.token(token), request)));
  }
}

const nextPage = (pageToken: string): string => pageToken && `&pageToken=${encodeURIComponent(pageToken)}`;

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
