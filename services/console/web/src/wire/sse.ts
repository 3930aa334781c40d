/** Reads a text/event-stream as the edge writes it: one `data: {json}` and an empty line a message. */
import { cut, refusalOf } from "./refusal";

/** The edge sends a heartbeat every 15 s. After three missed ones the connection is dead. */
export const SILENCE_MS = 45_000;
/** How long the end of a stream is waited for after its last event. */
export const CLOSING_MS = 2_000;

/** What the last event of every stream has one of. */
export interface Ends {
  done?: unknown;
  error?: unknown;
}

/** What each read brought, in order. Ends when the stream ends; refuses with CUT when it breaks or falls silent. */
export async function* eventsOf<Event extends Ends>(
  body: ReadableStream<Uint8Array>,
  silenceMs = SILENCE_MS,
): AsyncGenerator<Event[]> {
  const reader = body.getReader();
  const utf8 = new TextDecoder();
  let rest = "";
  let over = false;
  try {
    for (;;) {
      const { done, value } = await within(silenceMs, reader.read()).catch(() => Promise.reject(cut()));
      rest += done ? utf8.decode() : utf8.decode(value, { stream: true });
      const end = rest.lastIndexOf("\n\n");
      if (end >= 0) {
        const events = parse<Event>(rest.slice(0, end));
        rest = rest.slice(end + 2);
        over ||= events.some(({ done, error }) => done ?? error);
        if (events.length > 0) yield events;
      }
      if (done) return refuseBareStatus(rest);
    }
  } finally {
    const letGo = (): Promise<void> => reader.cancel().catch(() => undefined);
    if (over) void within(CLOSING_MS, toTheEnd(reader)).catch(letGo);
    else await letGo();
  }
}

/** Hanging up after the last event but before the end would look to the mesh as if the reader had gone in mid-answer. */
async function toTheEnd(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  while (!(await reader.read()).done);
}

function parse<Event>(messages: string): Event[] {
  return messages
    .split("\n\n")
    .filter((message) => message.startsWith("data:"))
    .map((message) => JSON.parse(message.slice(5)) as Event);
}

/** A room that fails after its headers leaves a bare Status in the body instead of an event. */
function refuseBareStatus(rest: string): void {
  if (rest.trimStart().startsWith("{") && rest.includes('"code"')) throw refusalOf(503, rest);
}

async function within<T>(limitMs: number, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(cut()), limitMs);
  });
  try {
    return await Promise.race([work, silence]);
  } finally {
    clearTimeout(timer);
  }
}
