/** A table as text: Markdown's pipes or CSV, into cells and back. */
export interface Table {
  head: string[];
  rows: string[][];
}

export interface Order {
  column: number;
  down: boolean;
}

export const tableOf = (text: string, language: string): Table =>
  language === "csv" ? fromCsv(text) : looksPiped(text) ? fromPipes(text) : fromCsv(text);

const looksPiped = (text: string): boolean =>
  /^[^\S\n]*\|?.*\|.*\n[^\S\n]*\|?[\s:|-]*-[\s:|-]*(\n|$)/.test(text.trimStart());

/** GitHub's tables. Escaped pipes belong to their cell; rows get as many cells as the head. */
export function fromPipes(text: string): Table {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const [head = [], ...rest] = lines.map(cellsOf);
  const rows = rest.filter((cells, i) => !(i === 0 && cells.every((cell) => /^:?-+:?$/.test(cell))));
  return { head, rows: rows.map((cells) => head.map((_, i) => cells[i] ?? "")) };
}

function cellsOf(line: string): string[] {
  const bare = line.trim().replace(/^\|/, "");
  const cells = bare.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, "|"));
  return cells.at(-1) === "" && cells.length > 1 ? cells.slice(0, -1) : cells;
}

/** RFC 4180, with a semicolon or tab instead of the comma if the first line has those alone. */
export function fromCsv(text: string): Table {
  const mark = markOf(text);
  const rows: string[][] = [[]];
  let cell = "";
  let quoted = false;
  const close = (): void => {
    rows.at(-1)?.push(cell);
    cell = "";
  };
  for (let i = 0; i < text.length; i++) {
    const sign = text[i] ?? "";
    if (quoted && sign === '"' && text[i + 1] === '"') cell += text[++i];
    else if (sign === '"' && (quoted || cell === "")) quoted = !quoted;
    else if (!quoted && sign === mark) close();
    else if (!quoted && (sign === "\n" || sign === "\r")) {
      if (sign === "\r" && text[i + 1] === "\n") i++;
      close();
      rows.push([]);
    } else cell += sign;
  }
  close();
  const [head = [], ...rest] = rows.filter((cells) => cells.some((each) => each !== ""));
  const width = rest.reduce((most, cells) => Math.max(most, cells.length), head.length);
  const filled = (cells: string[]): string[] => Array.from({ length: width }, (_, i) => cells[i] ?? "");
  return { head: filled(head), rows: rest.map(filled) };
}

function markOf(text: string): string {
  const first = text.slice(0, text.search(/\n|$/));
  if (first.includes(",")) return ",";
  return first.includes("\t") ? "\t" : first.includes(";") ? ";" : ",";
}

/** The rows by one column: as numbers if all of it are, else as people read words. Equal ones keep their order. */
export function sorted({ rows }: Table, order: Order | undefined): string[][] {
  if (!order) return rows;
  const { column, down } = order;
  const cell = (row: string[]): string => row[column] ?? "";
  const numeric = rows.every((row) => cell(row) === "" || !Number.isNaN(numberIn(cell(row))));
  const words = new Intl.Collator([], { numeric: true, sensitivity: "base" });
  const compare = (a: string[], b: string[]): number =>
    numeric ? numberIn(cell(a)) - numberIn(cell(b)) : words.compare(cell(a), cell(b));
  const [full, empty] = [rows.filter((row) => cell(row) !== ""), rows.filter((row) => cell(row) === "")];
  return [...full.sort((a, b) => (down ? compare(b, a) : compare(a, b))), ...empty];
}

/** A number as tables write it: with a thousands comma, a currency or a per cent sign. */
export function numberIn(cell: string): number {
  const bare = cell.trim().replace(/^[$€£¥]\s?|\s?[%€]$|,(?=\d{3}(\D|$))/g, "");
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(bare) ? Number(bare) : Number.NaN;
}

/** CSV that no spreadsheet takes for a formula. */
export function toCsv({ head, rows }: Table): string {
  return [head, ...rows].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function csvCell(cell: string): string {
  const calm = /^[=@+\-\t\r]/.test(cell) && Number.isNaN(numberIn(cell)) ? `'${cell}` : cell;
  return /[",\r\n]/.test(calm) ? `"${calm.replace(/"/g, '""')}"` : calm;
}
