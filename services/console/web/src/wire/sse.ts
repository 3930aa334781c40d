/** Reads a text/event-stream as the edge writes it: one `data: {json}` and an empty line a message. */
import { cut, refusalOf } from "./refusal";
import type { ChatEvent } from "./types";

/** The edge sends a heartbeat every 15 s. After three missed ones the connection is dead. */
export const SILENCE_MS = 45_000;

/** What each read brought, in order. Ends when the stream ends; refuses with CUT when it breaks or falls silent. */
export async function* eventsOf(body: ReadableStream<Uint8Array>, silenceMs = SILENCE_MS): AsyncGenerator<ChatEvent[]> {
  const reader = body.getReader();
  const utf8 = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await within(silenceMs, reader.read()).catch(() => Promise.reject(cut()));
      rest += done ? utf8.decode() : utf8.decode(value, { stream: true });
      const end = rest.lastIndexOf("\n\n");
      if (end >= 0) {
        const events = parse(rest.slice(0, end));
        rest = rest.slice(end + 2);
        if (events.length > 0) yield events;
      }
      if (done) return refuseBareStatus(rest);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function parse(messages: string): ChatEvent[] {
  return messages
    .split("\n\n")
    .filter((message) => message.startsWith("data:"))
    .map((message) => JSON.parse(message.slice(5)) as ChatEvent);
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
