/** A long text cut into pieces of whole lines, so that each is coloured and laid out on its own. Pure. */

/** A text as long as this is one piece: its colours are exact. */
const ONE_PIECE = 16_000;
const FEWEST_LINES = 24;
const MOST_LINES = 80;

export interface Chunk {
  text: string;
  /** The number of its first line, from 1. */
  line: number;
  lines: number;
}

/**
 * The pieces joined are the text. One that grows is cut from the beginning, since its last piece is drawn again and again. A piece ends where something new seems to begin (an empty line before one that is not
 * indented), so that a change moves few of them.
 */
export function chunksOf(text: string, growing = false): Chunk[] {
  if (text.length <= ONE_PIECE && !growing) return [{ text, line: 1, lines: linesIn(text) }];
  if (text === "") return [{ text, line: 1, lines: 1 }];
  const chunks: Chunk[] = [];
  for (let from = 0, line = 1; from < text.length;) {
    const [to, lines] = endOf(text, from);
    chunks.push({ text: text.slice(from, to), line, lines });
    [from, line] = [to, line + lines];
  }
  return chunks;
}

/** Those of `before` that `text` only adds to stay as they are; its last one is cut anew. */
export function grownChunks(before: Chunk[], known: string, text: string, growing = false): Chunk[] {
  const last = before.at(-1);
  if (!last || before.length < 2 || text.length < known.length || !text.startsWith(known))
    return chunksOf(text, growing);
  if (!growing && text.length <= ONE_PIECE) return chunksOf(text);
  const from = known.length - last.text.length;
  const rest: Chunk[] = [];
  for (let at = from, line = last.line; at < text.length;) {
    const [to, lines] = endOf(text, at);
    rest.push({ text: text.slice(at, to), line, lines });
    [at, line] = [to, line + lines];
  }
  return [...before.slice(0, -1), ...rest];
}

function endOf(text: string, from: number): [end: number, lines: number] {
  let at = from;
  for (let lines = 1; ; lines++) {
    const next = text.indexOf("\n", at) + 1;
    if (next === 0) return [text.length, lines];
    if (next === text.length) return [next, lines];
    const fresh = next - at === 1 && !/\s/.test(text[next] ?? "");
    at = next;
    if (lines >= MOST_LINES || (lines >= FEWEST_LINES && fresh)) return [next, lines];
  }
}

/** A line break at the end begins no line. */
const linesIn = (text: string): number => Math.max(1, text.split("\n").length - (text.endsWith("\n") ? 1 : 0));
