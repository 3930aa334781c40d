/** The fields of an object, a row each. What is an object itself opens below its row, as deep as it goes. */
import { type ReactNode, useId, useState } from "react";
import { Icon } from "../view/icons";
import type { Contract, Schema } from "./contract";
import { Prose } from "./Prose";
import { type Field, fieldsOf, type Shape, titleOf } from "./schema";

interface FieldsProps {
  contract: Contract;
  schema: Schema | undefined;
  /** Names that the mesh alone writes are marked, or left out where one writes oneself. */
  side: "request" | "answer";
  /** The objects that this one stands in. */
  above?: string[];
}

export function Fields({ contract, schema, side, above = [] }: FieldsProps): ReactNode {
  const fields = fieldsOf(contract, schema).filter((field) => side === "answer" || !field.readOnly);
  if (fields.length === 0) return <p className="none">No fields.</p>;
  return (
    <ul className="fields">
      {fields.map((field) => (
        <FieldRow key={field.name} contract={contract} field={field} side={side} above={above} />
      ))}
    </ul>
  );
}

interface FieldRowProps {
  contract: Contract;
  field: Field;
  side: "request" | "answer";
  above: string[];
}

export function FieldRow({ contract, field, side, above }: FieldRowProps): ReactNode {
  return (
    <li className="field" data-testid="field">
      <p className="field-head">
        <code className="field-name">{field.name}</code>
        <span className="type">{field.type}</span>
        {field.choice !== undefined && <span className="tag">one of these</span>}
        {field.required && side === "request" && <span className="tag must">required</span>}
        {side === "answer" && field.readOnly && <span className="tag">read only</span>}
        {field.deprecated && <span className="tag">deprecated</span>}
      </p>
      {field.description && (
        <div className="says">
          <Prose text={field.description} />
          {field.meanings && <Prose text={field.meanings} />}
        </div>
      )}
      {field.rules.length > 0 && (
        <ul className="rules" aria-label="Rules">
          {field.rules.map((rule) => (
            <li key={rule}>{rule}</li>
          ))}
        </ul>
      )}
      {field.inside && <Inside contract={contract} shape={field.inside} side={side} above={above} />}
    </li>
  );
}

interface InsideProps {
  contract: Contract;
  shape: Shape;
  side: "request" | "answer";
  above: string[];
}

/** Drawn only once it is open, so an object within itself goes as deep as somebody asks. */
function Inside({ contract, shape, side, above }: InsideProps): ReactNode {
  const [open, setOpen] = useState(false);
  const id = useId();
  const name = shape.name ? titleOf(shape) : "its fields";
  const again = shape.name !== undefined && above.includes(shape.name);
  return (
    <div className="inside">
      <button
        type="button"
        className="quiet unfold"
        aria-expanded={open}
        aria-controls={id}
        onClick={() => setOpen(!open)}
        data-testid="unfold"
      >
        <Icon name="chevron" /> {open ? "Hide" : "Show"} {name}
        {again && " again"}
      </button>
      <div id={id} hidden={!open}>
        {open && (
          <Fields
            contract={contract}
            schema={shape.schema}
            side={side}
            above={shape.name ? [...above, shape.name] : above}
          />
        )}
      </div>
    </div>
  );
}
