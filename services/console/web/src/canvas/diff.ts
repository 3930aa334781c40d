/**
 * What changed between two texts, line by line, and inside lines that were changed. Myers' O(ND), with a bound on the
 * work: texts that differ too much are told as one whole change, never by a page that stands still.
 */

export interface Mark {
  text: string;
  /** Only this side has it. */
  changed: boolean;
}

export interface Row {
  is: "same" | "out" | "in";
  /** Numbers from 1; absent on the side that does not have the line. */
  before?: number;
  after?: number;
  text: string;
  /** What of the line changed, when it stands for a line of the other side. */
  marks?: Mark[];
}

/** A run of rows near changes, or the number of lines between two of them that are the same. */
export type Stretch = { rows: Row[] } | { hidden: number };

/** So many insertions and deletions are looked for before everything between is called changed. */
const MOST_EDITS = 1_500;
const MOST_EDITS_IN_LINE = 120;
const LONGEST_MARKED_LINE = 600;
const CONTEXT_LINES = 3;

export function diffOf(before: string, after: string): Row[] {
  const [old, young] = [before.split("\n"), after.split("\n")];
  const rows: Row[] = [];
  let [a, b] = [0, 0];
  for (const [sameA, sameB] of [...pairs(old, young, MOST_EDITS), [old.length, young.length] as const]) {
    for (const row of changedRows(old, young, [a, sameA], [b, sameB])) rows.push(row);
    if (sameA < old.length || sameB < young.length)
      rows.push({ is: "same", before: sameA + 1, after: sameB + 1, text: old[sameA] ?? "" });
    [a, b] = [sameA + 1, sameB + 1];
  }
  return rows;
}

/** How many lines came and went. */
export function tally(rows: Row[]): { added: number; removed: number } {
  const of = (is: Row["is"]): number => rows.filter((row) => row.is === is).length;
  return { added: of("in"), removed: of("out") };
}

/** The changes with a few lines around them. */
export function stretches(rows: Row[], context = CONTEXT_LINES): Stretch[] {
  const near = new Uint8Array(rows.length);
  rows.forEach((row, i) => {
    if (row.is !== "same") near.fill(1, Math.max(0, i - context), Math.min(rows.length, i + context + 1));
  });
  const found: Stretch[] = [];
  for (let i = 0, end = 0; i < rows.length; i = end) {
    end = i + 1;
    while (end < rows.length && near[end] === near[i]) end++;
    found.push(near[i] ? { rows: rows.slice(i, end) } : { hidden: end - i });
  }
  return found;
}

/** Rows beside each other: what went on the left, what came on the right. */
export function sideBySide(rows: Row[]): [Row | undefined, Row | undefined][] {
  const sides: [Row | undefined, Row | undefined][] = [];
  for (let i = 0; i < rows.length;) {
    const row = rows[i];
    if (row?.is === "same") {
      sides.push([row, row]);
      i++;
      continue;
    }
    const change: Row[] = [];
    for (let next = row; next && next.is !== "same"; next = rows[i]) {
      change.push(next);
      i++;
    }
    const [out, come] = [change.filter(({ is }) => is === "out"), change.filter(({ is }) => is === "in")];
    for (let n = 0; n < Math.max(out.length, come.length); n++) sides.push([out[n], come[n]]);
  }
  return sides;
}

type Span = [from: number, to: number];

function changedRows(old: string[], young: string[], [a, aEnd]: Span, [b, bEnd]: Span): Row[] {
  const out = old.slice(a, aEnd).map((text, i): Row => ({ is: "out", before: a + i + 1, text }));
  const come = young.slice(b, bEnd).map((text, i): Row => ({ is: "in", after: b + i + 1, text }));
  for (let i = 0; i < Math.min(out.length, come.length); i++) mark(out[i], come[i]);
  return [...out, ...come];
}

/** Marks what differs in two lines that stand for each other, if enough of them is the same. */
function mark(out: Row | undefined, come: Row | undefined): void {
  if (!out || !come || out.text.length > LONGEST_MARKED_LINE || come.text.length > LONGEST_MARKED_LINE) return;
  const [old, young] = [wordsOf(out.text), wordsOf(come.text)];
  const kept = pairs(old, young, MOST_EDITS_IN_LINE);
  const shared = kept.reduce((sum, [a]) => sum + (old[a]?.trim().length ?? 0), 0);
  if (shared * 3 < Math.max(out.text.trim().length, come.text.trim().length)) return;
  out.marks = marksOf(old, new Set(kept.map(([a]) => a)));
  come.marks = marksOf(young, new Set(kept.map(([, b]) => b)));
}

const wordsOf = (line: string): string[] => line.match(/[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu) ?? [];

function marksOf(words: string[], kept: Set<number>): Mark[] {
  const marks: Mark[] = [];
  words.forEach((text, i) => {
    const last = marks.at(-1);
    const changed = !kept.has(i);
    if (last?.changed === changed) last.text += text;
    else marks.push({ text, changed });
  });
  return marks;
}

/** The places that are the same on both sides, in order. */
function pairs(old: string[], young: string[], most: number): [number, number][] {
  let head = 0;
  while (head < old.length && head < young.length && old[head] === young[head]) head++;
  let tail = 0;
  while (tail < Math.min(old.length, young.length) - head && old.at(-1 - tail) === young.at(-1 - tail)) tail++;
  const [a, b] = numbered(old.slice(head, old.length - tail), young.slice(head, young.length - tail));
  const middle = shortest(a, b, most) ?? byUnique(a, b, most);
  return [
    ...Array.from({ length: head }, (_, i): [number, number] => [i, i]),
    ...middle.map(([x, y]): [number, number] => [x + head, y + head]),
    ...Array.from({ length: tail }, (_, i): [number, number] => [old.length - tail + i, young.length - tail + i]),
  ];
}

/** Equal parts as equal numbers: quicker to compare. */
function numbered(old: string[], young: string[]): [Int32Array, Int32Array] {
  const numbers = new Map<string, number>();
  const of = (text: string): number => {
    const known = numbers.get(text) ?? numbers.size;
    numbers.set(text, known);
    return known;
  };
  return [Int32Array.from(old, of), Int32Array.from(young, of)];
}

/** Myers: the pairs of a shortest edit. Undefined when it has more than `most` edits. */
function shortest(a: Int32Array, b: Int32Array, most: number): [number, number][] | undefined {
  const [n, m] = [a.length, b.length];
  const bound = Math.min(n + m, most);
  const furthest = new Int32Array(2 * bound + 3);
  const zero = bound + 1;
  const trail: Int32Array[] = [];
  for (let d = 0; d <= bound; d++) {
    trail.push(furthest.slice(zero - d - 1, zero + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && at(furthest, zero + k - 1) < at(furthest, zero + k + 1));
      let x = down ? at(furthest, zero + k + 1) : at(furthest, zero + k - 1) + 1;
      while (x < n && x - k < m && a[x] === b[x - k]) x++;
      furthest[zero + k] = x;
      if (x >= n && x - k >= m) return walked(trail, n, m);
    }
  }
  return undefined;
}

const at = (list: Int32Array, place: number): number => list[place] ?? 0;

/** Back from the end along the trail. Row d of it holds diagonals -d-1 to d+1 as they were before step d. */
function walked(trail: Int32Array[], n: number, m: number): [number, number][] {
  const found: [number, number][] = [];
  let [x, y] = [n, m];
  for (let d = trail.length - 1; d >= 0; d--) {
    const row = trail[d] ?? new Int32Array();
    const middle = d + 1;
    const k = x - y;
    const down = k === -d || (k !== d && at(row, middle + k - 1) < at(row, middle + k + 1));
    const fromX = d === 0 ? 0 : at(row, middle + (down ? k + 1 : k - 1));
    const fromY = d === 0 ? 0 : fromX - (down ? k + 1 : k - 1);
    const [startX, startY] = d === 0 ? [0, 0] : down ? [fromX, fromY + 1] : [fromX + 1, fromY];
    while (x > startX && y > startY) found.push([--x, --y]);
    [x, y] = [fromX, fromY];
  }
  return found.reverse();
}

/** Too different for Myers: lines that stand once on both sides are taken as the same, as far as they keep their order. */
function byUnique(a: Int32Array, b: Int32Array, most: number): [number, number][] {
  const anchors = rising(uniquePairs(a, b));
  if (anchors.length === 0) return [];
  const found: [number, number][] = [];
  let [fromA, fromB] = [0, 0];
  const share = Math.max(8, Math.floor(most / Math.sqrt(anchors.length + 1)));
  for (const [toA, toB] of [...anchors, [a.length, b.length] as const]) {
    const between = shortest(a.subarray(fromA, toA), b.subarray(fromB, toB), share) ?? [];
    for (const [x, y] of between) found.push([x + fromA, y + fromB]);
    if (toA < a.length && toB < b.length) found.push([toA, toB]);
    [fromA, fromB] = [toA + 1, toB + 1];
  }
  return found;
}

function uniquePairs(a: Int32Array, b: Int32Array): [number, number][] {
  const [once, there] = [places(a), places(b)];
  const found: [number, number][] = [];
  for (const [number, place] of once) {
    const other = there.get(number);
    if (place >= 0 && other !== undefined && other >= 0) found.push([place, other]);
  }
  return found;
}

/** Where each number stands; -1 when more than once. */
function places(list: Int32Array): Map<number, number> {
  const found = new Map<number, number>();
  list.forEach((number, i) => found.set(number, found.has(number) ? -1 : i));
  return found;
}

/** The longest run of pairs that rises on both sides. They come in the order of the first. */
function rising(pairs: [number, number][]): [number, number][] {
  const ends: number[] = [];
  const before: number[] = [];
  pairs.forEach(([, place], i) => {
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((pairs[ends[middle] ?? 0]?.[1] ?? 0) < place) low = middle + 1;
      else high = middle;
    }
    before[i] = low > 0 ? (ends[low - 1] ?? -1) : -1;
    ends[low] = i;
  });
  const found: [number, number][] = [];
  for (let i = ends.at(-1) ?? -1; i >= 0; i = before[i] ?? -1) found.push(pairs[i] as [number, number]);
  return found.reverse();
}
