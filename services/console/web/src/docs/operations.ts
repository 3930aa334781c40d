/** The contract in the order in which it is read: services, their operations, and every reason to refuse. */
import type { Contract, Parameter, RawAnswer, RawOperation, Schema } from "./contract";

export interface Service {
  id: string;
  name: string;
  description: string;
  operations: Operation[];
}

export interface Operation {
  /** Its anchor: the contract's operationId. */
  id: string;
  /** As the contract calls the method: CreatePane. */
  name: string;
  service: string;
  verb: string;
  path: string;
  /** Verbs and paths under which it is served too. */
  aliases: string[];
  summary: string;
  description: string;
  deprecated: boolean;
  /** No token is asked for. */
  open: boolean;
  roles: string[];
  /** What a call is called in the audit trail. */
  audit: string;
  parameters: Parameter[];
  body: Schema | undefined;
  /** A body that can be sent as it stands, where the schema alone tells none. */
  bodyExample: unknown;
  bodyRequired: boolean;
  answer: Answer | undefined;
  streams: boolean;
  refusals: Refusal[];
}

/** What comes when all is well: of a stream, one event. */
export interface Answer {
  status: string;
  description: string;
  schema: Schema | undefined;
}

export interface Refusal {
  status: string;
  reasons: string[];
}

export interface Reason {
  name: string;
  /** Empty for one that only the events of a stream tell. */
  status: string;
  says: string;
  /** Which operations refuse so, unless most do. */
  operations: Operation[];
}

const VERBS = ["get", "post", "put", "patch", "delete"];
const JSON_TYPE = "application/json";
const STREAM_TYPE = "text/event-stream";

export function servicesOf(contract: Contract): Service[] {
  const found = operationsIn(contract);
  const tags = contract.tags ?? [];
  const names = new Set([...tags.map(({ name }) => name), ...found.map(({ service }) => service)]);
  return [...names]
    .map((name) => ({
      id: name,
      name,
      description: tags.find((tag) => tag.name === name)?.description ?? "",
      operations: found.filter(({ service }) => service === name),
    }))
    .filter(({ operations }) => operations.length > 0);
}

function operationsIn(contract: Contract): Operation[] {
  const all = Object.entries(contract.paths ?? {}).flatMap(([path, verbs]) =>
    VERBS.flatMap((verb) => (verbs[verb] ? [{ path, verb: verb.toUpperCase(), raw: verbs[verb] }] : [])),
  );
  const aliases = all.filter(({ raw }) => raw["x-alias-of"]);
  return all
    .filter(({ raw }) => !raw["x-alias-of"])
    .map(({ path, verb, raw }) => {
      const id = raw.operationId ?? `${verb} ${path}`;
      const others = aliases.filter((alias) => alias.raw["x-alias-of"] === id);
      return {
        ...operationOf(contract, raw),
        id,
        name: id.split("_").at(-1) ?? id,
        verb,
        path,
        aliases: others.map((alias) => `${alias.verb} ${alias.path}`),
      };
    });
}

function operationOf(
  contract: Contract,
  raw: RawOperation,
): Omit<Operation, "id" | "name" | "verb" | "path" | "aliases"> {
  const answers = Object.entries(raw.responses ?? {}).map(([status, answer]) => ({
    status,
    ...resolved(contract, answer),
  }));
  const well = answers.find(({ status }) => status.startsWith("2"));
  const stream = well?.content?.[STREAM_TYPE];
  return {
    service: raw.tags?.[0] ?? "Operations",
    summary: raw.summary ?? "",
    description: raw.description ?? "",
    deprecated: raw.deprecated ?? false,
    open: raw.security?.length === 0,
    roles: raw["x-roles"] ?? [],
    audit: raw["x-audit"] ?? "",
    parameters: raw.parameters ?? [],
    body: raw.requestBody?.content?.[JSON_TYPE]?.schema,
    bodyExample: raw.requestBody?.content?.[JSON_TYPE]?.example,
    bodyRequired: raw.requestBody?.required ?? false,
    answer: well && {
      status: well.status,
      description: well.description ?? "",
      schema: stream ? (stream["x-event-schema"] ?? stream.schema) : well.content?.[JSON_TYPE]?.schema,
    },
    streams: stream !== undefined,
    refusals: answers
      .filter(({ status }) => /^[45]/.test(status))
      .map((answer) => ({ status: answer.status, reasons: answer["x-reasons"] ?? [] })),
  };
}

function resolved(contract: Contract, answer: RawAnswer | { $ref: string }): RawAnswer {
  if (!("$ref" in answer)) return answer;
  return contract.components?.responses?.[answer.$ref.split("/").at(-1) ?? ""] ?? {};
}

/** The catalogue: what the contract says of each reason, and who refuses so. */
export function reasonsOf(contract: Contract, services: Service[]): Reason[] {
  const operations = services.flatMap((service) => service.operations);
  const said = saidIn(contract);
  return [...said].map(([name, { status, says }]) => {
    const refusing = operations.filter(({ refusals }) => refusals.some(({ reasons }) => reasons.includes(name)));
    return { name, status, says, operations: refusing.length > operations.length / 2 ? [] : refusing };
  });
}

/** By status, then as they come. Where the contract has no catalogue, what the answers say of their reasons. */
function saidIn(contract: Contract): Map<string, { status: string; says: string }> {
  const listed = Object.entries(contract["x-reasons"] ?? {}).map(
    ([name, { status, description }]) =>
      [name, { status: status ? String(status) : "", says: description ?? "" }] as const,
  );
  const told = Object.values(contract.paths ?? {})
    .flatMap((verbs) => VERBS.flatMap((verb) => Object.entries(verbs[verb]?.responses ?? {})))
    .flatMap(([status, answer]) => {
      const { description, "x-reasons": names } = resolved(contract, answer);
      return (names ?? []).map((name) => [name, { status, says: lineOf(description ?? "", name) }] as const);
    });
  const entries = listed.length > 0 ? listed : told;
  return new Map(entries.toSorted(([, a], [, b]) => (a.status || "9").localeCompare(b.status || "9")));
}

/** What a list says of a name: "- `NAME`: this." */
function lineOf(list: string, name: string): string {
  const head = `- \`${name}\`: `;
  return (
    list
      .split("\n")
      .find((line) => line.startsWith(head))
      ?.slice(head.length) ?? ""
  );
}

/** The anchors that words in descriptions lead to: operations, services and reasons. */
export function linksOf(services: Service[], reasons: Reason[]): Map<string, string> {
  return new Map([
    ...services.map(({ name, id }) => [name, id] as const),
    ...services.flatMap(({ operations }) => operations.map(({ name, id }) => [name, id] as const)),
    ...reasons.map(({ name }) => [name, name] as const),
  ]);
}
