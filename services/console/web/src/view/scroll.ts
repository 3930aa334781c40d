/** Keeps the newest text in sight until the reader scrolls up; takes hold again when they come back to the end. */
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

const NEAR_PX = 48;

export interface Follower {
  /** Whether the end is in sight. */
  atEnd: boolean;
  jump: (smooth?: boolean) => void;
}

/** `content` is what grows inside `frame`; `first` names its first part, so that what is put before it moves nothing. */
export function useFollow(
  frame: RefObject<HTMLElement | null>,
  content: RefObject<HTMLElement | null>,
  first: string | undefined,
): Follower {
  const held = useRef(true);
  const filled = useRef(false);
  filled.current = first !== undefined;
  const [atEnd, setAtEnd] = useState(true);

  const jump = useCallback(
    (smooth = false) => {
      held.current = true;
      const calm = smooth && !matchMedia("(prefers-reduced-motion: reduce)").matches;
      frame.current?.scrollTo({ top: frame.current.scrollHeight, behavior: calm ? "smooth" : "instant" });
    },
    [frame],
  );

  useEffect(() => {
    const box = frame.current;
    if (!box || !content.current) return;
    let top = box.scrollTop;
    const scrolled = (): void => {
      const near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
      if (box.scrollTop < top - 1 && !near) held.current = false;
      if (near) held.current = true;
      top = box.scrollTop;
      setAtEnd(near);
    };
    const resized = new ResizeObserver(() => {
      if (held.current && filled.current) box.scrollTop = box.scrollHeight;
      scrolled();
    });
    box.addEventListener("scroll", scrolled, { passive: true });
    resized.observe(content.current);
    resized.observe(box);
    return () => {
      box.removeEventListener("scroll", scrolled);
      resized.disconnect();
    };
  }, [frame, content]);

  useKeepPlace(frame, first);
  return { atEnd, jump };
}

/** Earlier turns put before the first one must not move what is being read. */
function useKeepPlace(frame: RefObject<HTMLElement | null>, first: string | undefined): void {
  const before = useRef({ first, height: 0 });
  useLayoutEffect(() => {
    const box = frame.current;
    if (!box) return;
    const grew = box.scrollHeight - before.current.height;
    if (before.current.first !== first && before.current.height > 0 && box.scrollTop < NEAR_PX) box.scrollTop += grew;
    before.current = { first, height: box.scrollHeight };
  });
}
