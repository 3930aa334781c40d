/** Where in an answer its panes stand, so that each is opened from there. Pure. */
import type { Token, Tokens } from "marked";
import type { Pane } from "../wire/types";

export interface Place {
  name: string;
  title: string;
  /** A place in the answer within the block; parts of an answer begin behind the first line of theirs. */
  from: number;
}

/** Whether the block that reaches from `from` to `to` holds the place. An image's place is behind its line. */
export const isIn = (place: Place, from: number, to: number): boolean => from < place.from - 1 && place.from - 1 <= to;

/** The panes that an ended answer made, at its blocks: by their text where it is as it was, else in their order. */
export function placesIn(blocks: Token[], panes: Pane[]): Place[] {
  const offsets = offsetsOf(blocks);
  const inOrder = panes.toSorted((a, b) => (a.name < b.name ? -1 : 1)); // names of answers' panes rise with time
  const taken = new Map<number, Pane>();
  const rest = inOrder.filter((pane) => !claim(taken, blocks, (block) => fits(block, pane) && says(block, pane), pane));
  for (const pane of rest) claim(taken, blocks, (block) => fits(block, pane), pane);
  return [...taken].map(([i, { name, title = "" }]) => ({ name, title, from: (offsets[i] ?? 0) + 2 }));
}

export function offsetsOf(blocks: Token[]): number[] {
  let at = 0;
  return blocks.map(({ raw }) => (at += raw.length) - raw.length);
}

function claim(taken: Map<number, Pane>, blocks: Token[], how: (block: Token) => boolean, pane: Pane): boolean {
  const at = blocks.findIndex((block, i) => !taken.has(i) && how(block));
  if (at >= 0) taken.set(at, pane);
  return at >= 0;
}

function fits(block: Token, { kind }: Pane): boolean {
  if (block.type === "code") return (block as Tokens.Code).codeBlockStyle !== "indented" && block.text !== "";
  if (block.type === "table") return kind === "table";
  return kind === "image" && block.type === "paragraph" && pictureIn(block) !== undefined;
}

const says = (block: Token, { text = "" }: Pane): boolean =>
  (block.type === "table"
    ? block.raw
    : block.type === "code"
      ? String(block.text)
      : (pictureIn(block) ?? "")
  ).trim() === text.trim();

function pictureIn(block: Token): string | undefined {
  const [only, ...more] = (block as Tokens.Paragraph).tokens ?? [];
  return only?.type === "image" && more.length === 0 ? (only as Tokens.Image).href : undefined;
}
