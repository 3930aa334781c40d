/** What a pane is called as a file, and how large it is. */
import type { Pane } from "../wire/types";

const EXTENSIONS: Record<string, string> = {
  bash: "sh",
  shell: "sh",
  sh: "sh",
  c: "c",
  cpp: "cpp",
  "c++": "cpp",
  css: "css",
  csv: "csv",
  diff: "diff",
  dockerfile: "Dockerfile",
  go: "go",
  html: "html",
  ini: "ini",
  toml: "toml",
  java: "java",
  javascript: "js",
  js: "js",
  jsx: "jsx",
  json: "json",
  markdown: "md",
  md: "md",
  protobuf: "proto",
  proto: "proto",
  python: "py",
  py: "py",
  rust: "rs",
  rs: "rs",
  ruby: "rb",
  rb: "rb",
  sql: "sql",
  svg: "svg",
  tsx: "tsx",
  typescript: "ts",
  ts: "ts",
  xml: "xml",
  yaml: "yaml",
  yml: "yml",
};
const BY_KIND: Record<string, string> = {
  chat: "md",
  html: "html",
  log: "log",
  table: "md",
  code: "txt",
  image: "txt",
};
/** Names that some systems give to devices. */
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)$/i;

/** A name that every system takes: the title, and the extension of the language unless the title has it already. */
export function fileName({ title = "", kind = "code", language = "" }: Pane): string {
  const extension = EXTENSIONS[language.toLowerCase()] ?? BY_KIND[kind] ?? "txt";
  const bare = cleaned(title) || kind;
  if (extension === "Dockerfile") return "Dockerfile";
  const named = bare.toLowerCase().endsWith(`.${extension}`) ? bare.slice(0, -extension.length - 1) : bare;
  return `${RESERVED.test(named) ? `${named}_` : named}.${extension}`;
}

/** Without what paths, shells and eyes could take for something else. */
function cleaned(title: string): string {
  return title
    .normalize("NFC")
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, "")
    .replace(/[\\/:*?"<>|%$`'&;#{}]+/g, " ")
    .replace(/\s+/g, " ")
    .replace(/^[\s.~-]+|[\s.]+$/g, "")
    .slice(0, 80)
    .trim();
}

const utf8 = new TextEncoder();

export const bytesOf = (text: string): number => utf8.encode(text).length;

/** The limit of the contract. */
export const LIMIT_BYTES = 256 * 1024;

export const wordsIn = (text: string): number => text.match(/\S+/g)?.length ?? 0;

export function size(bytes: number): string {
  if (bytes < 1024) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  const kib = bytes / 1024;
  return `${kib < 10 ? kib.toFixed(1) : Math.round(kib)} KiB`;
}
