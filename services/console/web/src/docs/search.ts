/** What is found by which words. Each word of the query must be found; where it is found decides the order. */

/** Something that the page can go to. */
export interface Entry {
  /** Its anchor. */
  id: string;
  title: string;
  words: Word[];
}

interface Word {
  text: string;
  /** What the text is, as it is shown beside a find: "path", "field". Empty for the title. */
  what: string;
  /** 1 (most) and up. */
  rank: number;
}

export interface Find {
  entry: Entry;
  /** Where it was found when that is not the title: "field afterSequence". */
  because: string;
}

export function found(entries: Entry[], query: string): Find[] {
  const terms = query.split(/\s+/).map(plain).filter(Boolean);
  if (terms.length === 0) return [];
  return entries
    .map((entry) => look(entry, terms))
    .filter((find) => find !== undefined)
    .sort((a, b) => a.score - b.score)
    .map(({ entry, because }) => ({ entry, because }));
}

function look(entry: Entry, terms: string[]): (Find & { score: number }) | undefined {
  let score = 0;
  let because = "";
  for (const term of terms) {
    const best = bestOf(entry.words, term);
    if (!best) return undefined;
    score += best.score;
    if (best.word.what && !because) because = `${best.word.what} ${shown(best.word.text, term)}`;
  }
  return { entry, because, score };
}

function bestOf(words: Word[], term: string): { word: Word; score: number } | undefined {
  let best: { word: Word; score: number } | undefined;
  for (const word of words) {
    const at = plain(word.text).indexOf(term);
    if (at < 0) continue;
    const score = word.rank * 10 + (at === 0 ? 0 : 5) + (plain(word.text) === term ? -3 : 0);
    if (!best || score < best.score) best = { word, score };
  }
  return best;
}

/** `after_sequence`, `afterSequence` and `AFTERSEQUENCE` are one word. */
const plain = (text: string): string => text.toLowerCase().replace(/[_\s]/g, "");

/** A long text is shown around what was found. */
function shown(text: string, term: string): string {
  if (text.length <= 48) return text;
  const at = Math.max(text.toLowerCase().indexOf(term), 0);
  const from = Math.max(at - 16, 0);
  return `${from > 0 ? "…" : ""}${text.slice(from, from + 44).trim()}…`;
}
