/** The contract's own sentences: code in backticks, and names of operations and reasons as links to them. */
import { createContext, type ReactNode, useContext } from "react";

/** Name to anchor. */
export const Links = createContext<ReadonlyMap<string, string>>(new Map());

/** The anchor of what is being told of: no link leads to itself. */
export const Self = createContext("");

const PIECES = /(`[^`]+`|\b[A-Z][A-Za-z]+[a-z]\b|\b[A-Z]+(?:_[A-Z]+)+\b)/;

/** Paragraphs, and lists whose lines begin with "- ". */
export function Prose({ text }: { text: string }): ReactNode {
  return text
    .split(/\n\s*\n/)
    .filter((each) => each.trim())
    .map((each, i) =>
      each.startsWith("- ") ? (
        <ul key={i} className="list">
          {each
            .split(/^- /m)
            .slice(1)
            .map((line) => (
              <li key={line}>
                <Line text={line} />
              </li>
            ))}
        </ul>
      ) : (
        <p key={i}>
          <Line text={each} />
        </p>
      ),
    );
}

export function Line({ text }: { text: string }): ReactNode {
  return text.split(PIECES).map((piece, i) => (i % 2 === 0 ? piece : <Piece key={i} text={piece} />));
}

function Piece({ text }: { text: string }): ReactNode {
  const links = useContext(Links);
  const self = useContext(Self);
  const code = text.startsWith("`");
  const name = code ? text.slice(1, -1) : text;
  const anchor = links.get(name);
  const shown = code || name.includes("_") ? <code>{name}</code> : name;
  if (!anchor || anchor === self) return shown;
  return (
    <a href={`#${anchor}`} className={name.includes("_") ? "reason" : undefined}>
      {shown}
    </a>
  );
}
