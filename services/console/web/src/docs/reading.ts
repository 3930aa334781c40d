/** Where on the page somebody reads: the address once it is drawn, and which part is at the top of the screen. */
import { useEffect, useState } from "react";

const PARTS = ".guide, .operation";

/** The anchor of the part that is being read. */
export function useHere(): string {
  const [here, setHere] = useState("");
  useEffect(() => {
    goTo(location.hash);
    const closing = new AbortController();
    addEventListener("hashchange", () => goTo(location.hash), { signal: closing.signal });
    const eye = new IntersectionObserver(
      (seen) => {
        const top = seen.find(({ isIntersecting }) => isIntersecting);
        if (top) setHere(top.target.id);
      },
      { rootMargin: "-15% 0px -84% 0px" }, // a line below the top of the screen
    );
    for (const part of document.querySelectorAll(PARTS)) eye.observe(part);
    return () => {
      closing.abort();
      eye.disconnect();
    };
  }, []);
  useEffect(() => {
    document.querySelector(`.contents [aria-current]`)?.scrollIntoView({ block: "nearest" });
  }, [here]);
  return here;
}

/** Frames until what was drawn on the way has its height. */
const FRAMES = 8;

/** Parts above that were not drawn yet have a guessed height, and letters may still change: it is looked at again. */
function goTo(hash: string): void {
  const part = document.getElementById(decodeURIComponent(hash.slice(1)));
  if (!part) return;
  const leaving = new AbortController();
  for (const sign of ["wheel", "touchmove", "keydown"]) {
    addEventListener(sign, () => leaving.abort(), { signal: leaving.signal, passive: true });
  }
  const look = (left: number): void => {
    if (leaving.signal.aborted) return;
    part.scrollIntoView();
    if (left > 0) requestAnimationFrame(() => look(left - 1));
  };
  look(FRAMES);
  void document.fonts.ready.then(() => look(FRAMES));
}
