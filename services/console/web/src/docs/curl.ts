/** The line that calls an operation from a shell. What differs from call to call stands in shell variables. */
import type { Contract, Parameter } from "./contract";
import { exampleOf, type Json, UUID } from "./example";
import type { Operation } from "./operations";

/** Bodies up to this length stay on one line. */
const ONE_LINE = 64;

export function curlOf(contract: Contract, operation: Operation, origin: string): string {
  const parts = [`curl${operation.streams ? " -N" : ""}${verbOption(operation)} "${urlOf(operation, origin)}"`];
  if (!operation.open) parts.push('-H "authorization: Bearer ${TOKEN}"');
  if (operation.body) {
    parts.push('-H "content-type: application/json"', `-d ${withIds(inQuotes(bodyOf(contract, operation)))}`);
  }
  return parts.join(" \\\n  ");
}

/** The shell variables that the line uses, but for the token. */
export function variablesOf(contract: Contract, operation: Operation): string[] {
  const line = curlOf(contract, operation, "");
  const used = [...line.matchAll(/\$\{(\w+)\}/g)].map(([, name = ""]) => name);
  return [...new Set(used)].filter((name) => name !== "TOKEN");
}

export function urlOf({ path, parameters }: Operation, origin: string): string {
  const filled = path.replace(/\{([^}]+)\}/g, (_, name: string) => `\${${variable(name)}}`);
  const query = parameters.filter(isShown).map((each) => `${each.name}=${encodeURIComponent(valueOf(each))}`);
  return `${origin}${filled}${query.length > 0 ? `?${query.join("&")}` : ""}`;
}

/** A body that the operation takes as it stands. Of an update it has the fields that its mask names. */
export function bodyOf(contract: Contract, operation: Operation): string {
  const mask = operation.parameters.find(isMask);
  const value = (operation.bodyExample ??
    exampleOf(contract, operation.body, "request", mask && [valueOf(mask)])) as Json;
  const lines = JSON.stringify(value, null, 2);
  const line = lines.replace(/\n */g, " "); // a break within a text is written \\n
  return line.length <= ONE_LINE ? line : lines;
}

function verbOption({ verb, body }: Operation): string {
  return verb === (body ? "POST" : "GET") ? "" : ` -X ${verb}`;
}

const isShown = (parameter: Parameter): boolean =>
  parameter.in === "query" && ((parameter.required ?? false) || isMask(parameter));

const isMask = ({ name }: Parameter): boolean => /^update_?mask$/i.test(name);

/** The first thing that its description quotes, which for a mask is a field's name. */
function valueOf({ schema, description, name }: Parameter): string {
  const quoted = /"([^"\s<>*]+)"/.exec(description ?? schema?.description ?? "")?.[1];
  return String(schema?.examples?.[0] ?? schema?.default ?? quoted ?? name);
}

/** `pageToken` is PAGE_TOKEN. */
const variable = (name: string): string =>
  name
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replace(/[^A-Za-z0-9]+/g, "_")
    .toUpperCase();

/** Quoted names of resources, with variables of the shell for their ids. */
const withIds = (quoted: string): string =>
  quoted.replace(ID_IN_NAME, (_, collection: string) => `${collection}s/'"\${${variable(collection)}}"'`);

const ID_IN_NAME = new RegExp(`\\b([a-z]+)s/${UUID}`, "g");

/** As one word of a shell, whatever is in it. */
export const inQuotes = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
