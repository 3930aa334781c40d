/** The line between two parts of the page: drawn with the pointer, or moved by the arrow keys. */
import { type KeyboardEvent, type PointerEvent, type ReactNode, useRef } from "react";

interface SplitterProps {
  /** How much of the whole the first part has, in per cent. */
  share: number;
  least: number;
  most: number;
  set: (share: number) => void;
  label: string;
  controls: string;
  handle: string;
  /** It lies: the parts are above each other. */
  lying?: boolean;
}

const STEP = 4;

export function Splitter({
  share,
  least,
  most,
  set,
  label,
  controls,
  handle,
  lying = false,
}: SplitterProps): ReactNode {
  const line = useRef<HTMLDivElement>(null);
  const to = (next: number): void => set(Math.round(Math.max(least, Math.min(most, next)) * 10) / 10);
  const drag = (event: PointerEvent): void => {
    const [before, after] = [line.current?.previousElementSibling, line.current?.nextElementSibling];
    if (!event.currentTarget.hasPointerCapture(event.pointerId) || !before || !after) return;
    const [one, other] = [before.getBoundingClientRect(), after.getBoundingClientRect()];
    to(
      lying
        ? ((event.clientY - one.top) / (other.bottom - one.top)) * 100
        : ((event.clientX - one.left) / (other.right - one.left)) * 100,
    );
  };
  const press = (event: KeyboardEvent): void => {
    const [less, more] = lying ? ["ArrowUp", "ArrowDown"] : ["ArrowLeft", "ArrowRight"];
    const next = { [less ?? ""]: share - STEP, [more ?? ""]: share + STEP, Home: least, End: most }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    to(next);
  };
  return (
    <div
      ref={line}
      className={lying ? "splitter lying" : "splitter"}
      role="separator"
      tabIndex={0}
      aria-orientation={lying ? "horizontal" : "vertical"}
      aria-label={label}
      aria-controls={controls}
      aria-valuenow={Math.round(share)}
      aria-valuemin={least}
      aria-valuemax={most}
      title="Drag, or use the arrow keys"
      onPointerDown={(event) => {
        event.preventDefault();
        event.currentTarget.focus();
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={drag}
      onDoubleClick={() => to(50)}
      onKeyDown={press}
      data-testid={handle}
    />
  );
}
