/** A value that a schema allows, made from what the contract says of it: the same each time. */
import type { Contract, Schema } from "./contract";
import { choicesOf, shapeOf } from "./schema";

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

/** A request leaves out what the mesh alone writes; an answer has it all. */
export type Side = "request" | "answer";

export const UUID = "0195f3c2-7a10-7cc3-98c4-dc0c0c07398f";
/** An object deeper than this is shown with what it must have alone. */
const DEEPEST = 5;
/** Fields of a request that a first call does better without. */
const LEFT_OUT = new Set(["etag", "requestId", "pageToken", "pageSize"]);

const FORMATS: Record<string, string> = {
  uuid: UUID,
  "date-time": "2026-01-31T09:30:00Z",
  byte: "c29tYQ==",
  uri: "https://example.org",
  int64: "1200",
  uint64: "1200",
};

/** Words that say more than a field's name, of one type's field or of every field of the name. */
const WORDS: Record<string, string> = {
  "Turn.state": "STATE_DONE",
  "Pane.kind": "code",
  "Pane.text": "print(6 * 7)",
  "PaneVersion.text": "print(6 * 7)",
  title: "Where the boats lie",
  text: "What is a turn?",
  answer: "A turn is one question and its answer.",
  delta: "A turn is ",
  message: "What happened, and what to do.",
  language: "python",
  etag: "3-7",
  parent: `conversations/${UUID}`,
  conversation: `conversations/${UUID}`,
  turn: `conversations/${UUID}/turns/${UUID}`,
  runningTurn: "",
  pane: `conversations/${UUID}/panes/${UUID}`,
  active: `conversations/${UUID}/panes/${UUID}`,
  beside: "",
  nextPageToken: "",
  path: `/panes/${UUID}/title`,
  provider: "local",
  tier: "slm",
  requestedTier: "slm",
  closed: "",
  id: UUID,
  why: "The cheapest model of the tier that is open.",
  prices: "2026-01",
  pageToken: "",
  model: "smollm2",
};

const FIGURES: Record<string, number> = {
  windowTokens: 8192,
  inputTokens: 12,
  outputTokens: 9,
  latencyMs: 800,
  firstTokenMs: 240,
  sizeBytes: 13,
};

export function exampleOf(contract: Contract, schema: Schema | undefined, side: Side, only?: string[]): Json {
  return valueOf({ contract, side, only }, schema, "", []);
}

interface Task {
  contract: Contract;
  side: Side;
  /** Of the outermost object: these fields, and no others. */
  only: string[] | undefined;
}

function valueOf(task: Task, given: Schema | undefined, field: string, above: string[]): Json {
  const { schema, name } = shapeOf(task.contract, given);
  const ready = schema.examples?.[0] ?? schema.example ?? schema.const;
  if (ready !== undefined) return ready as Json;
  if (name && above.includes(name)) return {};
  const path = name ? [...above, name] : above;
  const kind = Array.isArray(schema.type) ? schema.type.find((each) => each !== "null") : schema.type;
  if (schema.properties) return objectOf(task, schema, path);
  if (kind === "array") return listOf(task, schema, field, path);
  if (kind === "boolean") return false;
  if (kind === "integer" || kind === "number") return numberOf(schema, field);
  if (kind === "string")
    return stringOf(
      schema,
      field,
      above
        .at(-1)
        ?.split(".")
        .filter((word) => word !== "Input")
        .at(-1) ?? "",
    );
  return kind === "object" ? {} : field === "value" ? "a value" : null;
}

function objectOf(task: Task, schema: Schema, path: string[]): Json {
  const fields = Object.entries(schema.properties ?? {}).filter(([name, each]) =>
    isShown(task, schema, name, each, path),
  );
  const value: Record<string, Json> = {};
  const deep = path.length >= DEEPEST;
  for (const [name, each] of fields)
    if (!deep || schema.required?.includes(name)) value[name] = valueOf(task, each, name, path);
  return value;
}

/** Of fields that exclude each other the first is shown. */
function isShown(task: Task, schema: Schema, name: string, each: Schema, path: string[]): boolean {
  if (task.only && path.length <= 1) return task.only.includes(name);
  if (choicesOf(schema).some((names) => names.includes(name) && names[0] !== name)) return false;
  if (task.side === "answer") return !shapeOf(task.contract, each).schema.writeOnly;
  if (shapeOf(task.contract, each).schema.readOnly) return false;
  return schema.required?.length ? schema.required.includes(name) : !LEFT_OUT.has(name);
}

function listOf(task: Task, schema: Schema, field: string, path: string[]): Json {
  const one = valueOf(task, schema.items, field.replace(/s$/, ""), path);
  const empty = typeof one === "object" && one !== null && Object.keys(one).length === 0;
  return empty && !schema.minItems ? [] : [one];
}

function numberOf({ minimum, maximum, default: usual, type }: Schema, field: string): number {
  if (typeof usual === "number") return usual;
  const wanted = Math.max(minimum ?? 0, FIGURES[field] ?? (type === "number" ? 0.5 : 1));
  return maximum === undefined ? wanted : Math.min(wanted, maximum);
}

function stringOf(schema: Schema, field: string, type: string): string {
  const named = schema.enum?.filter((each): each is string => typeof each === "string" && isSent(each));
  const word =
    WORDS[`${type}.${field}`] ??
    FORMATS[schema.format ?? ""] ??
    named?.[0] ??
    nameIn(schema.description ?? "") ??
    WORDS[field] ??
    /"([^"\s<>*]+)"/.exec(schema.description ?? "")?.[1] ??
    field;
  return schema.maxLength === undefined ? word : word.slice(0, schema.maxLength);
}

/** Neither the empty choice nor the one that stands for none. */
const isSent = (choice: string): boolean => choice !== "" && !choice.endsWith("_UNSPECIFIED");

/** A resource name from the words that describe it: `"conversations/{id}/panes/" and a UUID`. */
function nameIn(description: string): string | undefined {
  const found = /"([a-z]+\/[^"]*)"(?: and (a UUID|the number))?/.exec(description);
  if (!found?.[1]) return undefined;
  return found[1].replaceAll("*", UUID) + (found[2] === "a UUID" ? UUID : found[2] ? "3" : "");
}
