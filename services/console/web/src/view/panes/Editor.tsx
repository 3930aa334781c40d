/** Where a pane's text is changed: a plain field over the same text in colours. Tab indents; Esc, then Tab leaves. */
import { type KeyboardEvent, type ReactNode, useEffect, useRef } from "react";
import { Coloured } from "../../markdown/Coloured";

interface EditorProps {
  text: string;
  language: string;
  wrap: boolean;
  label: string;
  write: (text: string) => void;
  save: () => void;
  leave: () => void;
}

export function Editor({ text, language, wrap, label, write, save, leave }: EditorProps): ReactNode {
  const field = useRef<HTMLTextAreaElement>(null);
  const free = useRef(false);
  useEffect(() => {
    field.current?.focus({ preventScroll: true });
    field.current?.setSelectionRange(0, 0);
  }, []);
  const press = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (event.key === "Escape") {
      event.preventDefault();
      if (free.current) leave();
      free.current = true;
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
      event.preventDefault();
      save();
    }
    if (event.key === "Tab" && !free.current && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      indent(event.currentTarget, language, event.shiftKey);
    }
    if (event.key.length === 1) free.current = false;
  };
  return (
    <div className={wrap ? "sheet wrapped" : "sheet"}>
      <div className="sheet-ground">
        <pre aria-hidden="true">
          <code>
            <Coloured code={`${text}\n`} language={language} numbered={!wrap} />
          </code>
        </pre>
        <textarea
          ref={field}
          value={text}
          onChange={(event) => write(event.target.value)}
          onKeyDown={press}
          onBlur={() => (free.current = false)}
          wrap={wrap ? "soft" : "off"}
          spellCheck={false}
          autoCapitalize="off"
          autoCorrect="off"
          aria-label={label}
          aria-description="Tab indents. Press Escape, then Tab, to leave."
          data-testid="pane-editor"
        />
      </div>
    </div>
  );
}

const FOUR = new Set(["python", "py", "java", "rust", "rs", "c", "cpp", "php"]);

function unitOf(text: string, language: string): string {
  if (/^\t/m.test(text) || language === "go" || language === "makefile") return "\t";
  return FOUR.has(language) ? "    " : "  ";
}

/** Moves the chosen lines in or out, in a way that the browser's own undo knows. */
function indent(field: HTMLTextAreaElement, language: string, out: boolean): void {
  const { value, selectionStart: from, selectionEnd: to } = field;
  const unit = unitOf(value, language);
  if (from === to && !out) return put(field, unit);
  const begin = value.lastIndexOf("\n", from - 1) + 1;
  const end = value[to - 1] === "\n" && to > from ? to - 1 : to;
  const lines = value.slice(begin, end).split("\n");
  const moved = lines.map((line) =>
    out ? line.replace(new RegExp(`^(\t| {1,${unit === "\t" ? 4 : unit.length}})`), "") : line && unit + line,
  );
  field.setSelectionRange(begin, end);
  put(field, moved.join("\n"));
  const shift = (moved[0]?.length ?? 0) - (lines[0]?.length ?? 0);
  const after = begin + moved.join("\n").length;
  if (from === to) field.setSelectionRange(Math.max(begin, from + shift), Math.max(begin, from + shift));
  else field.setSelectionRange(begin, after);
}

/** Old, but the one way in which Ctrl+Z still works. */
function put(field: HTMLTextAreaElement, text: string): void {
  if (text === "") return void document.execCommand("delete");
  if (!document.execCommand("insertText", false, text)) {
    field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
}
