/** The page around the content: its title in the tab, and whether the screen is small. */
import { useCallback, useEffect, useRef, useSyncExternalStore } from "react";

const SMALL = matchMedia("(max-width: 820px)");
/** Chat and panes have no room beside the list of conversations. */
const TIGHT = matchMedia("(max-width: 1240px)");

export const useSmall = (): boolean => useMatch(SMALL);
export const useTight = (): boolean => useMatch(TIGHT);

function useMatch(query: MediaQueryList): boolean {
  const watch = useCallback(
    (changed: () => void) => {
      query.addEventListener("change", changed);
      return () => query.removeEventListener("change", changed);
    },
    [query],
  );
  return useSyncExternalStore(watch, () => query.matches);
}

/** The tab says which conversation it shows, that it is answering, and that it has answered while nobody looked. */
export function usePageTitle(title: string | undefined, running: boolean): void {
  const ran = useRef(false);
  useEffect(() => {
    const name = title ? `${title} · SomaAgent` : "SomaAgent";
    const answered = ran.current && !running && document.visibilityState === "hidden";
    ran.current = running;
    document.title = running ? `… ${name}` : answered ? `✓ ${name}` : name;
    if (!answered) return;
    const seen = (): void => {
      document.title = name;
    };
    document.addEventListener("visibilitychange", seen, { once: true });
    return () => document.removeEventListener("visibilitychange", seen);
  }, [title, running]);
}
