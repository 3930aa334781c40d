/** JSON Schema as the contract uses it, in words: what a reference means, what a type is, which rules a value keeps. */
import type { Contract, Schema } from "./contract";

/** A schema without its reference, and the full name of what it referred to. */
export interface Shape {
  schema: Schema;
  name: string | undefined;
}

export interface Field {
  name: string;
  type: string;
  required: boolean;
  readOnly: boolean;
  deprecated: boolean;
  description: string;
  /** Of named values: what each means. */
  meanings: string;
  rules: string[];
  /** Only one of the fields with the same number here is ever there. */
  choice: number | undefined;
  /** What can be opened below it: the object itself, or that of which it is a list or a map. */
  inside: Shape | undefined;
}

const LOCAL = /^#\/components\/schemas\/(.+)$/;
/** A chain of references longer than this is a circle. */
const CHAIN = 16;

/** Follows references; what stands beside one goes before what it refers to. */
export function shapeOf(contract: Contract, schema: Schema | undefined): Shape {
  let shape: Shape = { schema: schema ?? {}, name: undefined };
  for (let step = 0; step < CHAIN; step++) {
    const { $ref, ...beside } = shape.schema;
    if ($ref === undefined) return { schema: joined(contract, shape.schema), name: shape.name };
    const name = nameIn($ref);
    shape = { schema: { ...contract.components?.schemas?.[name], ...beside }, name };
  }
  return { schema: {}, name: shape.name };
}

/** `allOf` as one object; null as an alternative is left out. */
function joined(contract: Contract, schema: Schema): Schema {
  const other = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].filter(({ type }) => type !== "null");
  if (other.length === 1 && !schema.properties) return { ...shapeOf(contract, other[0]).schema, ...schema };
  const parts = (schema.allOf ?? []).map((part) => shapeOf(contract, part).schema);
  if (!parts.some(({ properties }) => properties)) return schema;
  return [...parts, schema].reduce((all, part) => ({
    ...all,
    ...part,
    properties: { ...all.properties, ...part.properties },
    required: [...(all.required ?? []), ...(part.required ?? [])],
  }));
}

export function fieldsOf(contract: Contract, schema: Schema | undefined): Field[] {
  const whole = shapeOf(contract, schema).schema;
  const choices = choicesOf(whole);
  return Object.entries(whole.properties ?? {}).map(([name, each]) => {
    const number = choices.findIndex((names) => names.includes(name));
    return {
      ...fieldOf(contract, name, each),
      required: whole.required?.includes(name) ?? false,
      choice: number < 0 ? undefined : number,
    };
  });
}

export function fieldOf(contract: Contract, name: string, given: Schema | undefined): Field {
  const shape = shapeOf(contract, given);
  const meanings = shape.schema.enum && shape.name ? meaningsIn(contract.components?.schemas?.[shape.name]) : "";
  return {
    name,
    type: typeOf(contract, given),
    required: false,
    readOnly: shape.schema.readOnly ?? false,
    deprecated: shape.schema.deprecated ?? false,
    description: given?.description ?? shape.schema.description ?? "",
    meanings,
    rules: rulesOf(contract, given).filter((rule) => !(meanings && rule.startsWith("one of"))),
    choice: undefined,
    inside: insideOf(contract, given),
  };
}

/** The groups of fields of which at most one is there. */
export function choicesOf(schema: Schema): string[][] {
  return [schema, ...(schema.allOf ?? [])]
    .map(({ oneOf }) => (oneOf ?? []).flatMap(({ required, properties }) => (properties ? [] : (required ?? []))))
    .filter((names) => names.length > 0);
}

/** The list that follows the first paragraph of an enum's description. */
const meaningsIn = (schema: Schema | undefined): string => /\n\n(- [^]*)$/.exec(schema?.description ?? "")?.[1] ?? "";

/** The object that a field is, or that it is a list or a map of. */
export function insideOf(contract: Contract, schema: Schema | undefined): Shape | undefined {
  const shape = shapeOf(contract, schema);
  if (Object.keys(shape.schema.properties ?? {}).length > 0) return shape;
  if (shape.schema.items) return insideOf(contract, shape.schema.items);
  const { additionalProperties: more } = shape.schema;
  return typeof more === "object" ? insideOf(contract, more) : undefined;
}

export function typeOf(contract: Contract, schema: Schema | undefined): string {
  const shape = shapeOf(contract, schema);
  const { type, format, items, properties, additionalProperties: more, contentEncoding } = shape.schema;
  const kind = Array.isArray(type) ? type.filter((each) => each !== "null").join(" or ") : type;
  if (kind === "array") return `list of ${typeOf(contract, items)}`;
  if (typeof more === "object" && !properties) return `map of ${typeOf(contract, more)}`;
  if (kind === "object" || properties) return shape.name ? titleOf(shape) : "object";
  if (!kind) return shape.name ? titleOf(shape) : "any value";
  if (kind === "integer") return kind;
  const detail = format ?? contentEncoding;
  return detail ? `${kind} (${detail})` : kind;
}

/** What a value must keep to, a phrase a rule. What its type says already is left out. */
export function rulesOf(contract: Contract, given: Schema | undefined): string[] {
  const { schema } = shapeOf(contract, given);
  const rules = [
    schema.enum && `one of ${schema.enum.map((each) => JSON.stringify(each)).join(", ")}`,
    schema.const !== undefined && `always ${JSON.stringify(schema.const)}`,
    span(unless(schema.minimum, LEAST), unless(schema.maximum, MOST), ""),
    span(schema.minLength, schema.maxLength, "characters"),
    span(schema.minItems, schema.maxItems, "items"),
    schema.pattern && !/int64$/.test(schema.format ?? "") && `matches ${schema.pattern}`,
    schema.default !== undefined && schema.default !== "" && `default ${JSON.stringify(schema.default)}`,
  ];
  const inner = schema.items && !shapeOf(contract, schema.items).schema.properties;
  const each = inner ? rulesOf(contract, schema.items).map((rule) => `each ${rule}`) : [];
  return [...rules.filter((rule) => typeof rule === "string"), ...each];
}

/** The bounds that a type has by itself. */
const LEAST = new Set([-(2 ** 31), 0]);
const MOST = new Set([2 ** 31 - 1, 2 ** 32 - 1]);

const unless = (figure: number | undefined, known: Set<number>): number | undefined =>
  figure !== undefined && known.has(figure) ? undefined : figure;

function span(least: number | undefined, most: number | undefined, unit: string): string | undefined {
  const said = (figure: number): string => figure.toLocaleString("en");
  const tail = unit && ` ${unit}`;
  if (least !== undefined && most !== undefined) return `${said(least)} to ${said(most)}${tail}`;
  if (most !== undefined) return `at most ${said(most)}${tail}`;
  return least !== undefined ? `at least ${said(least)}${tail}` : undefined;
}

/** `soma.canvas.v1.Pane`, as an answer or as a request takes it, is a Pane. */
export const titleOf = ({ schema, name }: Shape): string => schema.title ?? name?.split(".").at(-1) ?? "object";

const nameIn = ($ref: string): string => decodeURIComponent(LOCAL.exec($ref)?.[1] ?? $ref);
