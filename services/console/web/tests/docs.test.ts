import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Contract, Schema } from "../src/docs/contract";
import { curlOf, inQuotes, variablesOf } from "../src/docs/curl";
import { entriesOf } from "../src/docs/entries";
import { exampleOf, type Json, UUID } from "../src/docs/example";
import { CHAPTERS } from "../src/docs/chapters";
import { linksOf, type Operation, reasonsOf, servicesOf } from "../src/docs/operations";
import { choicesOf, fieldsOf, insideOf, rulesOf, shapeOf, typeOf } from "../src/docs/schema";
import { found } from "../src/docs/search";

const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });

const SMALL: Contract = {
  openapi: "3.1.0",
  info: { title: "Notes", version: "1" },
  tags: [{ name: "NotesService", description: "NotesService keeps notes." }],
  paths: {
    "/v1/notes/{note}": {
      patch: {
        operationId: "NotesService_UpdateNote",
        tags: ["NotesService"],
        description: "UpdateNote changes a note. Refuses with NOTE_UNKNOWN.",
        "x-roles": ["member"],
        parameters: [
          { name: "note", in: "path", required: true, schema: { type: "string" } },
          { name: "updateMask", in: "query", required: true, description: 'What changes: "text", "title".' },
          { name: "requestId", in: "query", schema: { type: "string", format: "uuid" } },
        ],
        requestBody: { required: true, content: { "application/json": { schema: ref("notes.Note.Input") } } },
        responses: {
          "200": { content: { "application/json": { schema: ref("notes.Note") } } },
          "404": { description: "- `NOTE_UNKNOWN`: Also for another person's.", "x-reasons": ["NOTE_UNKNOWN"] },
        },
      },
    },
    "/notes/{note}": { patch: { operationId: "NotesService_UpdateNote_2", "x-alias-of": "NotesService_UpdateNote" } },
    "/v1/notes:watch": {
      get: {
        operationId: "NotesService_WatchNotes",
        tags: ["NotesService"],
        security: [],
        responses: {
          "200": { content: { "text/event-stream": { schema: {}, "x-event-schema": ref("notes.Event") } } },
        },
      },
    },
  },
  components: {
    schemas: {
      "notes.Note": {
        type: "object",
        title: "Note",
        properties: {
          name: { type: "string", readOnly: true, description: 'name is "notes/" and a UUID.' },
          text: { type: "string", maxLength: 4000, description: "text it's." },
          answers: { type: "array", items: ref("notes.Note"), description: "answers to it." },
          state: { ...ref("notes.State"), description: "state of it." },
        },
        required: ["name"],
      },
      "notes.Note.Input": {
        type: "object",
        title: "Note",
        properties: {
          text: { type: "string", examples: ["it's"] },
          title: { type: "string" },
          etag: { type: "string" },
        },
      },
      "notes.State": {
        type: "string",
        enum: ["STATE_UNSPECIFIED", "STATE_OPEN"],
        description: "State.\n\n- `STATE_OPEN`.",
      },
      "notes.Event": {
        type: "object",
        properties: { note: ref("notes.Note"), heartbeat: { type: "object" } },
        oneOf: [{ required: ["note"] }, { required: ["heartbeat"] }],
      },
      "notes.A": ref("notes.B"),
      "notes.B": ref("notes.A"),
    },
  },
};

const REAL = JSON.parse(readFileSync("../../../gen/openapi.json", "utf8")) as Contract;

const operationsOf = (contract: Contract): Operation[] => servicesOf(contract).flatMap(({ operations }) => operations);

function one(contract: Contract, name: string): Operation {
  const operation = operationsOf(contract).find((each) => each.name === name);
  if (!operation) throw new Error(`There is no ${name}.`);
  return operation;
}

test("a reference is what it refers to, and what stands beside it wins", () => {
  const { schema, name } = shapeOf(SMALL, { ...ref("notes.State"), description: "Mine." });
  expect([name, schema.description, schema.enum?.length]).toEqual(["notes.State", "Mine.", 2]);
});

test("references in a circle, and to nothing, are anything at all", () => {
  expect(shapeOf(SMALL, ref("notes.A")).schema).toEqual({});
  expect(typeOf(SMALL, ref("notes.Nowhere"))).toBe("Nowhere");
});

test("an object within itself has fields and an example, and both come to an end", () => {
  expect(insideOf(SMALL, SMALL.components?.schemas?.["notes.Note"]?.properties?.["answers"])?.name).toBe("notes.Note");
  expect(exampleOf(SMALL, ref("notes.Note"), "answer")).toEqual({
    name: `notes/${UUID}`,
    text: "What is a turn?",
    answers: [],
    state: "STATE_OPEN",
  });
});

test("rules are said in words, without those that every number has", () => {
  expect(rulesOf(SMALL, { type: "integer", minimum: 0, maximum: 2 ** 32 - 1 })).toEqual([]);
  expect(rulesOf(SMALL, { type: "integer", minimum: 1, maximum: 100 })).toEqual(["1 to 100"]);
  expect(rulesOf(SMALL, { type: "array", maxItems: 200, items: { type: "string", maxLength: 9 } })).toEqual([
    "at most 200 items",
    "each at most 9 characters",
  ]);
});

test("named values are told with what they mean instead of as a rule", () => {
  const state = fieldsOf(SMALL, ref("notes.Note")).find(({ name }) => name === "state");
  expect([state?.rules, state?.meanings]).toEqual([[], "- `STATE_OPEN`."]);
});

test("fields that exclude each other are known, and an example has one of them", () => {
  expect(choicesOf(shapeOf(SMALL, ref("notes.Event")).schema)).toEqual([["note", "heartbeat"]]);
  expect(Object.keys(exampleOf(SMALL, ref("notes.Event"), "answer") as object)).toEqual(["note"]);
});

test("a curl line has variables for what differs, and the fields that the mask names alone", () => {
  const line = curlOf(SMALL, one(SMALL, "UpdateNote"), "http://here");
  expect(line).toBe(
    `curl -X PATCH "http://here/v1/notes/\${NOTE}?updateMask=text" \\
  -H "authorization: Bearer \${TOKEN}" \\
  -H "content-type: application/json" \\
  -d '{ "text": "it'\\''s" }'`,
  );
  expect(variablesOf(SMALL, one(SMALL, "UpdateNote"))).toEqual(["NOTE"]);
});

test("an example of the contract's own is sent as it stands, with variables for the ids in its names", () => {
  const line = curlOf(REAL, one(REAL, "GiveFeedback"), "http://here");
  expect(line).toContain(`"conversations/'"\${CONVERSATION}"'/turns/'"\${TURN}"'"`);
  expect(line).not.toContain(UUID);
  expect(variablesOf(REAL, one(REAL, "GiveFeedback"))).toEqual(["CONVERSATION", "TURN"]);
});

test("a stream is read unbuffered, and who needs no token shows none", () => {
  expect(curlOf(SMALL, one(SMALL, "WatchNotes"), "http://here")).toBe('curl -N "http://here/v1/notes:watch"');
});

test("a quote within quotes stays a word of the shell", () => {
  expect(inQuotes("it's $HOME `x`")).toBe("'it'\\''s $HOME `x`'");
});

test("another path of an operation is no operation of its own", () => {
  expect(operationsOf(SMALL).map(({ name, aliases }) => [name, aliases])).toEqual([
    ["UpdateNote", ["PATCH /notes/{note}"]],
    ["WatchNotes", []],
  ]);
});

test("reasons come with what is said of them and with who refuses so", () => {
  const [reason] = reasonsOf(SMALL, servicesOf(SMALL));
  expect([reason?.name, reason?.status, reason?.says]).toEqual(["NOTE_UNKNOWN", "404", "Also for another person's."]);
  expect(reason?.operations.map(({ name }) => name)).toEqual(["UpdateNote"]);
});

test("methods, paths, fields and reasons are found however they are written, the nearest first", () => {
  const services = servicesOf(SMALL);
  const entries = entriesOf(SMALL, services, reasonsOf(SMALL, services));
  const titles = (query: string): string[] => found(entries, query).map(({ entry }) => entry.title);
  expect(titles("watchnotes")).toEqual(["WatchNotes"]);
  expect(titles("/v1/notes/")).toEqual(["UpdateNote"]);
  expect(titles("update_mask")).toContain("UpdateNote");
  expect(titles("note_unknown")).toEqual(["NOTE_UNKNOWN", "UpdateNote"]);
  expect(titles("patch notes text")).toEqual(["UpdateNote"]);
  expect(titles("nothing of the kind")).toEqual([]);
  expect(titles("  ")).toEqual([]);
});

test("every operation of the real contract has an answer, roles or none asked for, and reasons that are listed", () => {
  const services = servicesOf(REAL);
  const reasons = new Set(reasonsOf(REAL, services).map(({ name }) => name));
  for (const operation of operationsOf(REAL)) {
    expect(operation.answer?.schema, operation.id).toBeDefined();
    expect(operation.open || operation.roles.length > 0, operation.id).toBe(true);
    expect(operation.description, operation.id).not.toBe("");
    expect(operation.refusals.flatMap((refusal) => refusal.reasons).filter((name) => !reasons.has(name))).toEqual([]);
  }
});

test("no two parts of the real page have one anchor", () => {
  const services = servicesOf(REAL);
  const reasons = reasonsOf(REAL, services);
  const ids = entriesOf(REAL, services, reasons).map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  expect([...linksOf(services, reasons).values()].length).toBe(ids.length - CHAPTERS.length + services.length);
});

test("an example of the real contract keeps the rules that its schema gives", () => {
  for (const { id, body, bodyExample, answer } of operationsOf(REAL)) {
    if (bodyExample) expect(faults(REAL, body ?? {}, bodyExample as Json), id).toEqual([]);
    if (body) expect(faults(REAL, body, exampleOf(REAL, body, "request")), id).toEqual([]);
    if (answer?.schema) expect(faults(REAL, answer.schema, exampleOf(REAL, answer.schema, "answer")), id).toEqual([]);
  }
});

/** What a schema would not allow: types, lengths, choices and what is required. */
function faults(contract: Contract, given: Schema, value: Json, at = ""): string[] {
  const { schema } = shapeOf(contract, given);
  const wrong = (what: string): string[] => [`${at}: ${what}`];
  if (schema.enum && !schema.enum.includes(value)) return wrong("not one of the choices");
  if (schema.pattern && !new RegExp(schema.pattern).test(String(value))) return wrong("does not match");
  if (schema.type === "string" && typeof value !== "string") return wrong("no string");
  if (typeof value === "string" && value.length < (schema.minLength ?? 0)) return wrong("too short");
  if (typeof value === "number" && value < (schema.minimum ?? value)) return wrong("too small");
  if (Array.isArray(value)) return value.flatMap((each, i) => faults(contract, schema.items ?? {}, each, `${at}/${i}`));
  if (typeof value !== "object" || value === null) return [];
  const missing = (schema.required ?? []).filter((name) => !(name in value)).flatMap((name) => wrong(`no ${name}`));
  const inside = Object.entries(value).flatMap(([name, each]) =>
    schema.properties?.[name] ? faults(contract, schema.properties[name], each, `${at}/${name}`) : wrong(`${name}?`),
  );
  return [...missing, ...(schema.properties ? inside : [])];
}
