/** Applies a JSON Patch (RFC 6902) as the mesh sends it: add, replace and remove. Pure: what is not touched is shared. */
import type { PatchOperation } from "../wire/types";

/** Objects and lists, as JSON has them. */
export type Json = unknown;

/** The document after the operations. What names no place that there is changes nothing. */
export const patched = (document: Json, operations: PatchOperation[]): Json =>
  operations.reduce((before, { op, path = "", value }) => changed(before, keysOf(path), op, value), document);

function keysOf(path: string): string[] {
  return path
    .split("/")
    .slice(1)
    .map((key) => key.replace(/~1/g, "/").replace(/~0/g, "~"));
}

function changed(place: Json, keys: string[], op: string, value: Json): Json {
  const [key, ...rest] = keys;
  if (key === undefined) return op === "remove" ? undefined : value;
  if (Array.isArray(place)) return changedList(place, key, rest, op, value);
  if (typeof place !== "object" || place === null) return place;
  const entries = new Map<string, Json>(Object.entries(place));
  if (rest.length > 0 && !entries.has(key)) return place;
  if (rest.length === 0 && op === "remove") entries.delete(key);
  else entries.set(key, changed(entries.get(key), rest, op, value));
  return Object.fromEntries(entries); // its keys are its own, "__proto__" too
}

function changedList(list: Json[], key: string, rest: string[], op: string, value: Json): Json[] {
  const at = key === "-" ? list.length : Number(key);
  if (!Number.isInteger(at) || at < 0 || at > list.length) return list;
  if (rest.length > 0) return list.map((item, i) => (i === at ? changed(item, rest, op, value) : item));
  if (op === "remove") return list.filter((_, i) => i !== at);
  return op === "add"
    ? [...list.slice(0, at), value, ...list.slice(at)]
    : list.map((item, i) => (i === at ? value : item));
}
