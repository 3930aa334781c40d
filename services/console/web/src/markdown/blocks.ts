/** Markdown as a list of blocks. A text that grows is read again from its last block only. */
import { lexer, type Token } from "marked";
import { mended } from "./mended";

export interface Blocks {
  text: string;
  tokens: Token[];
}

export function blocksOf(text: string): Blocks {
  return { text, tokens: [...lexer(text, { gfm: true })] };
}

/** The blocks of a text that is not finished. */
const writing = (text: string): Blocks => ({ text, tokens: blocksOf(mended(text)).tokens });

/** The blocks of `text`, keeping those of `before` that can no longer change. */
export function grown(before: Blocks, text: string): Blocks {
  if (text === before.text) return before;
  const settled = settledTokens(before.tokens);
  const length = settled.reduce((sum, token) => sum + token.raw.length, 0);
  if (!text.startsWith(before.text) || before.text.slice(0, length) !== settled.map(({ raw }) => raw).join(""))
    return writing(text);
  return { text, tokens: [...settled, ...writing(text.slice(length)).tokens] };
}

/** All but the last block that says something, which may still grow, and the empty lines after it. */
function settledTokens(tokens: Token[]): Token[] {
  const last = tokens.findLastIndex(({ type }) => type !== "space");
  return tokens.slice(0, Math.max(last, 0));
}
