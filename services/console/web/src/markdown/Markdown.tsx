/** Markdown, block by block: while a text grows only its last block is rendered again. */
import type { Token, Tokens } from "marked";
import { memo, type ReactNode, useMemo, useRef } from "react";
import { type Blocks, blocksOf, grown } from "./blocks";
import { Chips } from "./Chips";
import { Code } from "./Code";
import { Inline } from "./Inline";
import { offsetsOf } from "../canvas/places";

interface MarkdownProps {
  text: string;
  growing: boolean;
}

export const Markdown = memo(function Markdown({ text, growing }: MarkdownProps) {
  const written = useRef<Blocks>({ text: "", tokens: [] });
  const tokens = useMemo(() => {
    if (!growing) return blocksOf(text).tokens;
    written.current = grown(written.current, text);
    return written.current.tokens;
  }, [text, growing]);
  const offsets = offsetsOf(tokens);
  return (
    <div className="markdown">
      {tokens.map((token, i) => (
        <Block key={i} token={token} growing={growing && i === tokens.length - 1} at={offsets[i] ?? 0} />
      ))}
    </div>
  );
});

interface BlockProps {
  token: Token;
  growing: boolean;
  /** Where in the whole text it begins. Undefined within another block. */
  at?: number;
}

const Block = memo(
  function Block({ token, growing, at }: BlockProps): ReactNode {
    const chips = at === undefined ? null : <Chips from={at} to={at + token.raw.length} />;
    switch (token.type) {
      case "heading":
        return <Heading token={token as Tokens.Heading} />;
      case "paragraph":
        return (
          <p>
            <Inline tokens={token.tokens} />
            {chips}
          </p>
        );
      case "code":
        return (
          <Code code={token.text as string} language={languageOf(token as Tokens.Code)} growing={growing}>
            {chips}
          </Code>
        );
      case "blockquote":
        return (
          <blockquote>
            <Nested tokens={token.tokens} />
          </blockquote>
        );
      case "list":
        return (
          <>
            <List token={token as Tokens.List} />
            {chips}
          </>
        );
      case "table":
        return (
          <>
            <Table token={token as Tokens.Table} />
            {chips}
          </>
        );
      case "hr":
        return <hr />;
      case "html":
        return token.raw.trim() ? <p>{token.raw}</p> : null;
      case "space":
      case "def":
      case "checkbox":
        return null;
      default:
        return <Inline tokens={[token]} />;
    }
  },
  (before, after) =>
    before.token.raw === after.token.raw &&
    before.token.type === after.token.type &&
    before.growing === after.growing &&
    before.at === after.at,
);

function Nested({ tokens }: { tokens: Token[] | undefined }): ReactNode {
  return tokens?.map((token, i) => <Block key={i} token={token} growing={false} />);
}

/** An answer's headings stand below the page's own. */
function Heading({ token }: { token: Tokens.Heading }): ReactNode {
  const Tag = `h${Math.min(token.depth + 2, 6)}` as "h3" | "h4" | "h5" | "h6";
  return (
    <Tag className={`depth-${token.depth}`}>
      <Inline tokens={token.tokens} />
    </Tag>
  );
}

function List({ token }: { token: Tokens.List }): ReactNode {
  const items = token.items.map((item, i) => (
    <li key={i} className={item.task ? "task" : undefined}>
      {item.task && <input type="checkbox" checked={item.checked ?? false} readOnly disabled />}
      <Nested tokens={item.tokens} />
    </li>
  ));
  return token.ordered ? <ol start={Number(token.start) || 1}>{items}</ol> : <ul>{items}</ul>;
}

function Table({ token }: { token: Tokens.Table }): ReactNode {
  const side = (i: number): string | undefined => (token.align[i] ? `to-${token.align[i]}` : undefined);
  return (
    <div className="table" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>
            {token.header.map((cell, i) => (
              <th key={i} className={side(i)}>
                <Inline tokens={cell.tokens} />
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {token.rows.map((row, n) => (
            <tr key={n}>
              {row.map((cell, i) => (
                <td key={i} className={side(i)}>
                  <Inline tokens={cell.tokens} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const languageOf = (token: Tokens.Code): string => (token.lang ?? "").split(/[\s,{]/)[0]?.toLowerCase() ?? "";
