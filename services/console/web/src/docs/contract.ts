/** The contract as the mesh serves it at /openapi.json: the parts of OpenAPI 3.1 that this page reads. */

export const ADDRESS = "/openapi.json";

export interface Contract {
  openapi: string;
  info: { title: string; version: string; summary?: string; description?: string };
  tags?: { name: string; description?: string }[];
  paths?: Record<string, Record<string, RawOperation>>;
  components?: { schemas?: Record<string, Schema>; responses?: Record<string, RawAnswer> };
  /** All reasons, those that only events tell too (status 0). */
  "x-reasons"?: Record<string, { status?: number; description?: string }>;
}

export interface RawOperation {
  operationId?: string;
  summary?: string;
  description?: string;
  tags?: string[];
  deprecated?: boolean;
  parameters?: Parameter[];
  requestBody?: { required?: boolean; content?: Content };
  responses?: Record<string, RawAnswer | { $ref: string }>;
  security?: Record<string, string[]>[];
  "x-roles"?: string[];
  "x-audit"?: string;
  /** The id of the operation that this is another path of. */
  "x-alias-of"?: string;
}

export interface Parameter {
  name: string;
  in: "path" | "query" | "header" | "cookie";
  required?: boolean;
  description?: string;
  schema?: Schema;
}

export interface RawAnswer {
  description?: string;
  content?: Content;
  "x-reasons"?: string[];
}

/** By media type. What the events of a stream are stands beside the schema of its text. */
export type Content = Record<string, { schema?: Schema; example?: unknown; "x-event-schema"?: Schema }>;

/** JSON Schema 2020-12, as far as the contract uses it. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  title?: string;
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  examples?: unknown[];
  example?: unknown;
  pattern?: string;
  contentEncoding?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  readOnly?: boolean;
  writeOnly?: boolean;
  deprecated?: boolean;
}

/** The contract, or a sentence that says why there is none and what to do. */
export async function fetchContract(): Promise<Contract> {
  const answer = await fetch(ADDRESS).catch(() => {
    throw new Error("The mesh cannot be reached. Is it up? Start it with: make up");
  });
  if (answer.status === 404)
    throw new Error(`This mesh serves no ${ADDRESS}. Make it with: make gen. Then start the mesh anew.`);
  if (!answer.ok) throw new Error(`The mesh answered ${ADDRESS} with status ${answer.status}. Try again in a moment.`);
  const contract = (await answer.json().catch(() => undefined)) as Contract | undefined;
  if (!contract?.openapi?.startsWith("3."))
    throw new Error(`What is at ${ADDRESS} is no OpenAPI 3. Make it anew with: make gen`);
  return contract;
}
