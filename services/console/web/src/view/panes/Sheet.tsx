/** A pane's text to read: in its colours, with numbered lines; it follows the end while it grows. */
import { type ReactNode, useRef } from "react";
import { Coloured } from "../../markdown/Coloured";
import { useFollow } from "../scroll";

interface SheetProps {
  text: string;
  language: string;
  wrap: boolean;
  writing: boolean;
  label: string;
}

export function Sheet({ text, language, wrap, writing, label }: SheetProps): ReactNode {
  const frame = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLPreElement>(null);
  useFollow(frame, content, writing ? "written" : undefined);
  return (
    <div className={wrap ? "sheet wrapped" : "sheet"} ref={frame} tabIndex={0} role="region" aria-label={label}>
      <pre ref={content} aria-busy={writing} data-testid="pane-text">
        <code>
          <Coloured code={text} language={language} growing={writing} numbered={!wrap} />
        </code>
      </pre>
    </div>
  );
}
