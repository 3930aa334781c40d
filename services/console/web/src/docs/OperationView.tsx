/** One operation: what it promises, takes, answers and refuses, and beside it the line that calls it. */
import { memo, type ReactNode } from "react";
import type { Contract, Schema } from "./contract";
import { curlOf, variablesOf } from "./curl";
import { exampleOf, type Json } from "./example";
import { FieldRow, Fields } from "./Fields";
import type { Operation, Refusal } from "./operations";
import { Line, Prose, Self } from "./Prose";
import { Sample } from "./Sample";
import { choicesOf, fieldOf, fieldsOf, shapeOf, typeOf } from "./schema";

interface OperationProps {
  contract: Contract;
  operation: Operation;
}

export const OperationView = memo(function OperationView({ contract, operation }: OperationProps): ReactNode {
  const { id, name, verb, path, aliases, description, summary } = operation;
  return (
    <Self value={id}>
      <article className="operation" id={id} aria-labelledby={`${id}.name`} data-testid="operation">
        <div className="tells">
          <h3 id={`${id}.name`}>
            <a href={`#${id}`}>{name}</a>
            {operation.deprecated && <span className="tag">deprecated</span>}
          </h3>
          <p className="address" data-testid="address">
            <Verb verb={verb} />
            <code className="path">
              <Path path={path} />
            </code>
          </p>
          {aliases.length > 0 && (
            <p className="aliases">
              Also{" "}
              {aliases.map((alias) => (
                <code key={alias}>{alias}</code>
              ))}
            </p>
          )}
          <div className="says">
            <Prose text={description || summary} />
          </div>
          <Callers operation={operation} />
          <Takes contract={contract} operation={operation} />
          <Answers contract={contract} operation={operation} />
          <Refusals refusals={operation.refusals} />
        </div>
        <Samples contract={contract} operation={operation} />
      </article>
    </Self>
  );
});

export function Verb({ verb }: { verb: string }): ReactNode {
  return <span className={`verb ${verb.toLowerCase()}`}>{verb}</span>;
}

/** A path may break before a slash, and its variables stand out. */
function Path({ path }: { path: string }): ReactNode {
  return path.split(/(?=\/)|(\{[^}]+\})/).map((piece, i) =>
    piece === undefined ? null : piece.startsWith("{") ? (
      <var key={i}>{piece}</var>
    ) : (
      <span key={i}>
        {i > 0 && piece.startsWith("/") && <wbr />}
        {piece}
      </span>
    ),
  );
}

function Callers({ operation: { open, roles } }: { operation: Operation }): ReactNode {
  if (open) return <p className="callers">Anyone may call it: no token is asked for.</p>;
  if (roles.length === 0) return null;
  return (
    <p className="callers" data-testid="callers">
      For people with the role{" "}
      {roles.map((role, i) => (
        <span key={role}>
          {i > 0 && (i === roles.length - 1 ? " or " : ", ")}
          <code>{role}</code>
        </span>
      ))}
      .
    </p>
  );
}

function Takes({ contract, operation }: OperationProps): ReactNode {
  const { parameters, body, bodyRequired } = operation;
  const places = [
    ["path", "In the path"],
    ["query", "In the query"],
    ["header", "In the headers"],
  ] as const;
  return (
    <>
      {places.map(([place, title]) => {
        const here = parameters.filter((each) => each.in === place);
        return here.length === 0 ? null : (
          <section key={place}>
            <h4>{title}</h4>
            <ul className="fields">
              {here.map((each) => (
                <FieldRow
                  key={each.name}
                  contract={contract}
                  side="request"
                  above={[]}
                  field={{
                    ...fieldOf(contract, each.name, { description: each.description ?? "", ...each.schema }),
                    required: each.required ?? false,
                    ...(place === "path" && { rules: [] }), // every id is such a word
                  }}
                />
              ))}
            </ul>
          </section>
        );
      })}
      {body && (
        <section>
          <h4>
            Body <Named contract={contract} schema={body} />
            {!bodyRequired && <span className="tag">may be left out</span>}
          </h4>
          <Fields contract={contract} schema={body} side="request" above={named(contract, body)} />
        </section>
      )}
    </>
  );
}

function Answers({ contract, operation: { answer, streams } }: OperationProps): ReactNode {
  if (!answer) return null;
  return (
    <section>
      <h4>
        <span className="status ok">{answer.status}</span> {streams ? "A stream of" : "Answer"}{" "}
        <Named contract={contract} schema={answer.schema} />
      </h4>
      {answer.description && (
        <p className="says">
          <Line text={streams ? answer.description.replace(/^A stream of \w+\.\s*/, "") : answer.description} />
        </p>
      )}
      {streams && (
        <p className="says">
          Each message is a line <code>data: …</code> with one of these. <a href="#streams">How streams end</a>.
        </p>
      )}
      {answer.schema && (
        <Fields contract={contract} schema={answer.schema} side="answer" above={named(contract, answer.schema)} />
      )}
    </section>
  );
}

function Named({ contract, schema }: { contract: Contract; schema: Operation["body"] }): ReactNode {
  const type = typeOf(contract, schema);
  return type === "object" ? null : <code>{type}</code>;
}

const named = (contract: Contract, schema: Operation["body"]): string[] => {
  const { name } = shapeOf(contract, schema);
  return name ? [name] : [];
};

function Refusals({ refusals }: { refusals: Refusal[] }): ReactNode {
  if (refusals.length === 0) return null;
  return (
    <section>
      <h4>Refusals</h4>
      <ul className="refusals">
        {refusals.map(({ status, reasons }) => (
          <li key={status}>
            <span className="status">{status}</span>
            <span>
              {reasons.map((reason) => (
                <a key={reason} href={`#${reason}`} data-testid="refusal">
                  {reason}
                </a>
              ))}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Samples({ contract, operation }: OperationProps): ReactNode {
  const variables = variablesOf(contract, operation);
  const { answer, streams } = operation;
  return (
    <div className="samples">
      <Sample title="Call it" code={curlOf(contract, operation, location.origin)} language="bash" handle="curl" />
      {variables.length > 0 && (
        <p className="hint">
          {variables.map((name) => (
            <span key={name}>
              <code>{name}</code>{" "}
            </span>
          ))}
          {variables.length > 1 ? "are ids" : "is an id"} out of the <code>name</code> of an earlier answer.
        </p>
      )}
      {answer?.schema && !streams && (
        <Sample title="What it answers" code={inLines(exampleOf(contract, answer.schema, "answer"))} language="json" />
      )}
      {answer?.schema && streams && (
        <Sample title="What may come, a line each" code={eventsOf(contract, answer.schema)} language="json" />
      )}
    </div>
  );
}

const inLines = (value: Json): string => JSON.stringify(value, null, 2);

/** An event of each kind, as a stream sends it: numbered as they come, but for the sign of life. */
function eventsOf(contract: Contract, schema: Schema): string {
  const kinds = choicesOf(shapeOf(contract, schema).schema).flat();
  const number = fieldsOf(contract, schema).find(({ name, type }) => type === "integer" && !kinds.includes(name))?.name;
  const events = kinds.map((kind) => exampleOf(contract, schema, "answer", [kind]) as Record<string, Json>);
  let last = 0;
  return events
    .map((event) => (number && !("heartbeat" in event) ? { [number]: ++last, ...event } : event))
    .map((event) => `data: ${JSON.stringify(event)}`)
    .join("\n\n");
}
