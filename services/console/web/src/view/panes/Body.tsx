/** What a pane holds, as its kind is best seen. */
import { type ReactNode, useRef } from "react";
import { Markdown } from "../../markdown/Markdown";
import { hasLongRun } from "../format";
import { useFollow } from "../scroll";
import { ImageView } from "./ImageView";
import { LogView } from "./LogView";
import { Preview } from "./Preview";
import { Sheet } from "./Sheet";
import { TableView } from "./TableView";

interface BodyProps {
  /** Its name. */
  pane: string;
  kind: string;
  title: string;
  language: string;
  text: string;
  writing: boolean;
  wrap: boolean;
  /** Its source, not what it is meant to look like. */
  source: boolean;
}

/** Kinds that look different from their source. */
export const hasFace = (kind: string): boolean => kind !== "code" && kind !== "log";

/** The language in which a kind's source is coloured. */
export const sourceLanguage = (kind: string, language: string): string =>
  kind === "html" || language === "svg" ? "xml" : kind === "chat" || kind === "table" ? "markdown" : language;

export function Body({ pane, kind, title, language, text, writing, wrap, source }: BodyProps): ReactNode {
  if (text === "" && !writing) return <p className="hint">This pane is empty.</p>;
  if (kind === "log") return <LogView text={text} wrap={wrap} writing={writing} label={title} />;
  if (source || !hasFace(kind) || (kind === "html" && writing))
    return <Sheet text={text} language={sourceLanguage(kind, language)} wrap={wrap} writing={writing} label={title} />;
  if (kind === "html") return <Preview pane={pane} text={text} title={title} />;
  if (kind === "image") return <ImageView text={text} language={language} title={title} writing={writing} />;
  if (kind === "table") return <TableView text={text} language={language} title={title} />;
  return <Prose text={text} writing={writing} label={title} />;
}

function Prose({ text, writing, label }: { text: string; writing: boolean; label: string }): ReactNode {
  const frame = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  useFollow(frame, content, writing ? "written" : undefined);
  return (
    <div
      className={hasLongRun(text) ? "prose unkerned" : "prose"}
      ref={frame}
      tabIndex={0}
      role="region"
      aria-label={label}
    >
      <div ref={content} data-testid="pane-text">
        <Markdown text={text} growing={writing} />
      </div>
    </div>
  );
}
