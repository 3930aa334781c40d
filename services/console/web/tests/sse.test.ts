import { expect, test, vi } from "vitest";
import { refusalOf } from "../src/wire/refusal";
import { CLOSING_MS, eventsOf } from "../src/wire/sse";
import type { ChatEvent } from "../src/wire/types";

const utf8 = new TextEncoder();

function body(...parts: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const part of parts) controller.enqueue(part);
      controller.close();
    },
  });
}

async function all(stream: ReadableStream<Uint8Array>): Promise<ChatEvent[]> {
  const events: ChatEvent[] = [];
  for await (const some of eventsOf(stream)) events.push(...some);
  return events;
}

test("events come out whole however the bytes were cut, inside a character too", async () => {
  const bytes = utf8.encode('data: {"sequence":1,"text":{"delta":"größer 🙂"}}\n\ndata: {"heartbeat":{}}\n\n');
  for (let at = 0; at <= bytes.length; at++)
    expect(await all(body(bytes.slice(0, at), bytes.slice(at)))).toEqual([
      { sequence: 1, text: { delta: "größer 🙂" } },
      { heartbeat: {} },
    ]);
});

test("half an event at the end is not an event", async () => {
  expect(await all(body(utf8.encode('data: {"sequence":1}\n\ndata: {"sequ')))).toEqual([{ sequence: 1 }]);
});

test("after its last event a stream is read to its end, not hung up on", async () => {
  let hungUp = false;
  let feed!: ReadableStreamDefaultController<Uint8Array>;
  const stream = new ReadableStream<Uint8Array>({
    start: (controller) => void (feed = controller),
    cancel: () => void (hungUp = true),
  });
  feed.enqueue(utf8.encode('data: {"sequence":1,"done":{}}\n\n'));
  for await (const _ of eventsOf(stream)) break;
  feed.enqueue(utf8.encode(": the rest\n\n"));
  feed.close();
  await vi.waitFor(() => expect(feed.desiredSize).toBe(0)); // closed, and all of it read
  expect(hungUp).toBe(false);
});

test("a stream that is not at its last event is hung up on", async () => {
  let hungUp = false;
  const stream = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(utf8.encode('data: {"sequence":1,"text":{"delta":"a"}}\n\n')),
    cancel: () => void (hungUp = true),
  });
  for await (const _ of eventsOf(stream)) break;
  expect(hungUp).toBe(true);
});

test("a stream that does not end after its last event is hung up on at last", async () => {
  vi.useFakeTimers();
  let hungUp = false;
  const stream = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(utf8.encode('data: {"sequence":1,"error":{}}\n\n')),
    cancel: () => void (hungUp = true),
  });
  for await (const _ of eventsOf(stream)) break;
  expect(hungUp).toBe(false);
  await vi.advanceTimersByTimeAsync(CLOSING_MS);
  expect(hungUp).toBe(true);
  vi.useRealTimers();
});

test("a bare Status instead of events is a refusal", async () => {
  const status =
    '{"code":14,"message":"Gone.","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"STORE_UNAVAILABLE"}]}';
  await expect(all(body(utf8.encode(status)))).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE", message: "Gone." });
});

test("a silent stream is a dead one", async () => {
  const silent = new ReadableStream<Uint8Array>({ start: () => undefined });
  await expect(eventsOf(silent, 5).next()).rejects.toMatchObject({ reason: "CUT" });
});

test("a Status tells its reason, its facts and when to come again", () => {
  const refusal = refusalOf(
    409,
    JSON.stringify({
      code: 10,
      message: "Wait.",
      details: [
        { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "TURN_RUNNING", metadata: { turn: "t" } },
        { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "1.500s" },
      ],
    }),
  );
  expect(refusal).toMatchObject({
    reason: "TURN_RUNNING",
    message: "Wait.",
    facts: { metadata: { turn: "t" }, retryAfterMs: 1500 },
  });
  expect(refusalOf(503, "upstream connect error").reason).toBe("ROOM_UNAVAILABLE");
});
