/** What the search knows: the guides, every operation with its paths, fields and reasons, and the reasons themselves. */
import type { Contract, Schema } from "./contract";
import { CHAPTERS } from "./chapters";
import type { Operation, Reason, Service } from "./operations";
import { fieldsOf, shapeOf } from "./schema";
import type { Entry } from "./search";

/** Fields within fields are found as far down as this. */
const DEEPEST = 3;

export function entriesOf(contract: Contract, services: Service[], reasons: Reason[]): Entry[] {
  return [
    ...services.flatMap(({ operations }) => operations.map((operation) => ofOperation(contract, operation))),
    ...reasons.map(ofReason),
    ...CHAPTERS.map(({ id, title, words }) => ({
      id,
      title,
      words: [
        { text: title, what: "", rank: 1 },
        ...words.split(" ").map((text) => ({ text, what: "about", rank: 4 })),
      ],
    })),
  ];
}

function ofOperation(contract: Contract, operation: Operation): Entry {
  const { id, name, service, verb, path, aliases, parameters, body, answer, refusals, description } = operation;
  const fields = new Set([
    ...parameters.map((each) => each.name),
    ...names(contract, body),
    ...names(contract, answer?.schema),
  ]);
  return {
    id,
    title: name,
    words: [
      { text: name, what: "", rank: 1 },
      { text: service, what: "of", rank: 2 },
      ...[`${verb} ${path}`, ...aliases].map((text) => ({ text, what: "at", rank: 2 })),
      ...[...fields].map((text) => ({ text, what: "field", rank: 4 })),
      ...refusals.flatMap(({ reasons }) => reasons.map((text) => ({ text, what: "refuses with", rank: 5 }))),
      { text: description, what: "says", rank: 6 },
    ],
  };
}

const ofReason = ({ name, status, says }: Reason): Entry => ({
  id: name,
  title: name,
  words: [
    { text: name, what: "", rank: 1 },
    { text: status, what: "status", rank: 3 },
    { text: says, what: "says", rank: 6 },
  ],
});

function names(contract: Contract, schema: Schema | undefined, above: string[] = []): string[] {
  const shape = shapeOf(contract, schema);
  const path = [...above, shape.name ?? ""];
  if (path.length > DEEPEST || (shape.name && above.includes(shape.name))) return [];
  return fieldsOf(contract, shape.schema).flatMap(({ name, inside }) => [
    name,
    ...(inside
      ? names(contract, inside.name ? { $ref: `#/components/schemas/${inside.name}` } : inside.schema, path)
      : []),
  ]);
}
