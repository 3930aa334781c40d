import { expect, test } from "vitest";
import { type ThumbDoors, Thumbs } from "../src/chat/thumbs";
import { Refusal, signedOut, unreachable } from "../src/wire/refusal";

const TURN = "conversations/c/turns/t";
const EXPIRED = new Refusal("DECISION_EXPIRED", "The answer is older than 30 days.", { status: 400 });

/** A mesh that takes what it is told, after it has refused so often. */
function mesh(...refusals: Refusal[]) {
  const kept = new Map<string, string>();
  const told: string[] = [];
  const doors: ThumbDoors = {
    tell: async (turn, thumb) => {
      const refusal = refusals.shift();
      if (refusal) throw refusal;
      told.push(`${turn} ${thumb}`);
    },
    pause: async () => undefined,
    failed: () => undefined,
    memory: { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => void kept.set(key, text) },
  };
  return { doors, told };
}

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

test("a thumb stands at once and is told once", async () => {
  const { doors, told } = mesh();
  const thumbs = new Thumbs(doors);
  thumbs.give(TURN, "up");
  expect(thumbs.view.get().get(TURN)).toEqual({ thumb: "up" });
  await settled();
  thumbs.give(TURN, "up");
  await settled();
  expect(told).toEqual([`${TURN} up`]);
  expect(thumbs.view.get().get(TURN)).toEqual({ thumb: "up", told: "up" });
});

test("of many clicks the mesh is told the first and, after it, the last", async () => {
  const { doors, told } = mesh();
  let arrive = (): void => undefined;
  const slow = new Promise<void>((resolve) => (arrive = resolve));
  const tell: ThumbDoors["tell"] = (turn, thumb) =>
    (thumb === "up" ? slow : Promise.resolve()).then(() => doors.tell(turn, thumb));
  const thumbs = new Thumbs({ ...doors, tell });
  for (const thumb of ["up", "down", "up", "down"] as const) thumbs.give(TURN, thumb);
  await settled().then(arrive);
  await settled();
  expect(told).toEqual([`${TURN} up`, `${TURN} down`]);
  expect(thumbs.view.get().get(TURN)).toEqual({ thumb: "down", told: "down" });
});

test("what cannot be told waits, says why, and is told by itself", async () => {
  const { doors, told } = mesh(unreachable(), unreachable());
  let goOn = (): void => undefined;
  const thumbs = new Thumbs({ ...doors, pause: () => new Promise((resolve) => (goOn = resolve)) });
  thumbs.give(TURN, "down");
  await settled();
  expect(thumbs.view.get().get(TURN)).toMatchObject({ thumb: "down", failure: { reason: "UNREACHABLE" } });
  for (let tries = 0; tries < 2; tries++) await settled().then(() => goOn());
  await settled();
  expect(told).toEqual([`${TURN} down`]);
  expect(thumbs.view.get().get(TURN)).toEqual({ thumb: "down", told: "down" });
});

test("what is refused for good gives way to what was told before, with the reason", async () => {
  const { doors, told } = mesh();
  const thumbs = new Thumbs(doors);
  thumbs.give(TURN, "up");
  await settled();
  doors.tell = () => Promise.reject(EXPIRED);
  thumbs.give(TURN, "down");
  thumbs.give("conversations/c/turns/other", "down");
  await settled();
  expect(thumbs.view.get().get(TURN)).toMatchObject({ thumb: "up", told: "up", failure: { reason: EXPIRED.reason } });
  expect(thumbs.view.get().get("conversations/c/turns/other")?.thumb).toBeUndefined();
  expect(told).toEqual([`${TURN} up`]);
});

test("a reload and a new sign-in lose nothing, and tell nothing twice", async () => {
  const { doors, told } = mesh(signedOut());
  new Thumbs(doors).give(TURN, "up");
  await settled();
  expect(told).toEqual([]);
  const after = new Thumbs(doors);
  await settled();
  new Thumbs(doors);
  await settled();
  expect(told).toEqual([`${TURN} up`]);
  expect(after.view.get().get(TURN)).toEqual({ thumb: "up", told: "up" });
});

test("the newest two hundred are remembered", async () => {
  const { doors } = mesh();
  const thumbs = new Thumbs(doors);
  for (let n = 0; n < 250; n++) thumbs.give(`turn ${n}`, "up");
  await settled();
  const { size } = new Thumbs(doors).view.get();
  expect([size, thumbs.view.get().size, thumbs.view.get().has("turn 249")]).toEqual([200, 200, true]);
});
