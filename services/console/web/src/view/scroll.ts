/** Keeps the newest text in sight until the reader scrolls up; takes hold again when they come back to the end. */
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

const NEAR_PX = 48;

export interface Follower {
  /** Whether the end is in sight. */
  atEnd: boolean;
  jump: (smooth?: boolean) => void;
  /** Say this before something is put before the first part: what is read then stays where it is. */
  keepPlace: () => void;
}

/** `content` is what grows inside `frame`; `first` names its first part, undefined when there is none. */
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
    let unfolding = false;
    /** How high the content was once a reader at its end had unfolded a part: that is no newer text. */
    let unfoldedTo = 0;
    const isNear = (): boolean => box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    const scrolled = (): void => {
      const near = isNear();
      const up = box.scrollTop < top - 1;
      if (up && !near) held.current = false;
      if (near) held.current = true;
      if (up || near) unfoldedTo = 0;
      top = box.scrollTop;
      setAtEnd(near || box.scrollHeight <= unfoldedTo);
    };
    const resized = new ResizeObserver(() => {
      if (held.current && filled.current) box.scrollTop = box.scrollHeight;
      if (unfolding) unfoldedTo = box.scrollHeight;
      unfolding = false;
      scrolled();
    });
    /** What a reader unfolds, they want to read from its beginning. */
    const unfolded = ({ target }: Event): void => {
      if (!(target instanceof Element && target.closest("[aria-expanded]"))) return;
      unfolding = isNear() || box.scrollHeight <= unfoldedTo;
      held.current = false;
    };
    box.addEventListener("click", unfolded);
    box.addEventListener("scroll", scrolled, { passive: true });
    resized.observe(content.current);
    resized.observe(box);
    return () => {
      box.removeEventListener("click", unfolded);
      box.removeEventListener("scroll", scrolled);
      resized.disconnect();
    };
  }, [frame, content]);

  const fromEnd = useRef<number>(undefined);
  const keepPlace = useCallback(() => {
    if (frame.current) fromEnd.current = frame.current.scrollHeight - frame.current.scrollTop;
  }, [frame]);
  useLayoutEffect(() => {
    const box = frame.current;
    if (box && fromEnd.current !== undefined) box.scrollTop = box.scrollHeight - fromEnd.current;
    fromEnd.current = undefined;
  }, [frame, first]);

  return { atEnd, jump, keepPlace };
}

const MARGIN_PX = 12;

/**
 * Brings what was unfolded into sight, as far as its turn stays there too: the answer's beginning if that is seen, or
 * else enough of its end to fill half of the frame.
 */
export function useReveal(part: RefObject<HTMLElement | null>, open: boolean): void {
  useEffect(() => {
    const frame = part.current?.closest(".thread");
    const turn = part.current?.closest(".turn");
    const [answer, foot] = [turn?.querySelector(".answer"), turn?.querySelector("footer")];
    if (!open || !frame || !part.current || !answer || !foot) return;
    const { top, bottom, height } = frame.getBoundingClientRect();
    const needed = part.current.getBoundingClientRect().bottom + MARGIN_PX - bottom;
    const toAnswer = answer.getBoundingClientRect().top - MARGIN_PX - top;
    const toMiddle = foot.getBoundingClientRect().top - top - height / 2;
    const by = Math.min(needed, Math.max(toAnswer, toMiddle));
    if (by > 0) frame.scrollTop += by;
  }, [part, open]);
}
