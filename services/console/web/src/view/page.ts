/** The page around the content: its title in the tab, and whether the screen is small. */
import { useEffect, useRef, useSyncExternalStore } from "react";

const SMALL = "(max-width: 820px)";

export function useSmall(): boolean {
  return useSyncExternalStore(watchSmall, () => matchMedia(SMALL).matches);
}

function watchSmall(changed: () => void): () => void {
  const query = matchMedia(SMALL);
  query.addEventListener("change", changed);
  return () => query.removeEventListener("change", changed);
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
