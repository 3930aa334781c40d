/** Waits that end early when there is a reason to. */

/** Milliseconds before try `attempt` (from 0): doubling to 10 s, a quarter of it by chance so that tabs spread out. */
export function backoffMs(attempt: number, chance: number): number {
  return Math.min(10_000, 500 * 2 ** attempt) * (0.75 + 0.25 * chance);
}

/** Resolves after a while, or as soon as the page is shown or the network is back. Rejects when aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(finish, ms);
    function finish(): void {
      clearTimeout(timer);
      removeEventListener("online", finish);
      document.removeEventListener("visibilitychange", shown);
      signal.removeEventListener("abort", finish);
      if (signal.aborted) reject(signal.reason as Error);
      else resolve();
    }
    const shown = (): void => {
      if (document.visibilityState === "visible") finish();
    };
    if (signal.aborted) return finish();
    addEventListener("online", finish);
    document.addEventListener("visibilitychange", shown);
    signal.addEventListener("abort", finish);
  });
}
