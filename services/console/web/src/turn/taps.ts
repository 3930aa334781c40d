/** How long this tab may hold a stream open. A browser has six connections a host; all its tabs share them. */

/** Streams held at once by all tabs together. Two connections stay free for short calls. */
const SLOTS = 4;
/** Of them, those that may be held while nothing is being answered: a question always finds the others. */
const IDLE_SLOTS = 2;
/** A tab without a slot looks in for this long … */
const SIP_MS = 500;
/** … and comes again after this long, hidden or not. */
const REST_MS = 1_000;
const HIDDEN_REST_MS = 8_000;
/** A hidden tab gives its slot back after this long. */
const HIDDEN_HOLD_MS = 5_000;

export interface Tap {
  /** Aborts when the stream should be let go of, although nothing is wrong with it. */
  signal: AbortSignal;
  /** How long to wait then before the next tap. */
  restMs: () => number;
  close: () => void;
}

export async function openTap(): Promise<Tap> {
  const release = document.visibilityState === "visible" ? await claimSlot(0) : undefined;
  return tapOf(release);
}

/** For a stream that can wait. Undefined when no slot is free for it, or nobody looks. */
export async function openIdleTap(): Promise<Tap | undefined> {
  if (document.visibilityState !== "visible") return undefined;
  const release = await claimSlot(SLOTS - IDLE_SLOTS);
  return release && tapOf(release);
}

function tapOf(release: (() => void) | undefined): Tap {
  const letGo = new AbortController();
  let timer = release ? undefined : setTimeout(() => letGo.abort(), SIP_MS);
  const watch = (): void => {
    clearTimeout(timer);
    if (document.visibilityState === "hidden") timer = setTimeout(() => letGo.abort(), HIDDEN_HOLD_MS);
  };
  if (release) document.addEventListener("visibilitychange", watch);
  return {
    signal: letGo.signal,
    restMs: () => (document.visibilityState === "hidden" ? HIDDEN_REST_MS : REST_MS),
    close: () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", watch);
      release?.();
    },
  };
}

/** Takes one of the slots from `first` on if one is free; the browser frees it when the tab dies. */
async function claimSlot(first: number): Promise<(() => void) | undefined> {
  if (!navigator.locks) return () => undefined;
  for (let slot = first; slot < SLOTS; slot++) {
    const release = await claim(`soma-stream-${slot}`);
    if (release) return release;
  }
  return undefined;
}

function claim(name: string): Promise<(() => void) | undefined> {
  return new Promise((resolve) => {
    void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(undefined);
      return new Promise<void>((free) => resolve(() => free()));
    });
  });
}
