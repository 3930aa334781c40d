/** A log: it follows its end, and shows the lines that hold a word. */
import { type ReactNode, useDeferredValue, useMemo, useRef, useState } from "react";
import { Coloured } from "../../markdown/Coloured";
import { count } from "../format";
import { Icon } from "../icons";
import { useFollow } from "../scroll";

interface LogProps {
  text: string;
  wrap: boolean;
  writing: boolean;
  label: string;
}

export function LogView({ text, wrap, writing, label }: LogProps): ReactNode {
  const frame = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLPreElement>(null);
  const [word, setWord] = useState("");
  const wanted = useDeferredValue(word.toLowerCase());
  const found = useMemo(() => matching(text, wanted), [text, wanted]);
  useFollow(frame, content, "log");
  return (
    <div className="log">
      <label className="filter">
        <Icon name="search" />
        <input
          type="search"
          value={word}
          onChange={(event) => setWord(event.target.value)}
          placeholder="Only lines with…"
          aria-label="Only lines with"
          data-testid="log-filter"
        />
        <span role="status">{wanted ? `${count(found.lines)} of ${count(found.all)} lines` : ""}</span>
      </label>
      <div className={wrap ? "sheet wrapped" : "sheet"} ref={frame} tabIndex={0} role="region" aria-label={label}>
        <pre ref={content} data-testid="pane-text" aria-busy={writing}>
          <code>
            <Coloured code={found.text} language="" growing={writing} numbered={!wrap && !wanted} />
          </code>
        </pre>
        {wanted && found.lines === 0 && <p className="hint">No line has “{word}”.</p>}
      </div>
    </div>
  );
}

function matching(text: string, wanted: string): { text: string; lines: number; all: number } {
  if (!wanted) return { text, lines: 0, all: 0 };
  const lines = text.replace(/\n$/, "").split("\n");
  const some = lines.filter((line) => line.toLowerCase().includes(wanted));
  return { text: some.join("\n"), lines: some.length, all: lines.length };
}
