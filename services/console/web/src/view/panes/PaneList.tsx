/** All panes of the conversation, closed ones too: open, rename, delete, or make one. */
import { type ReactNode, useState } from "react";
import { bytesOf, size } from "../../canvas/files";
import type { House } from "../../house";
import { useStore } from "../../store";
import type { Pane, PaneKind } from "../../wire/types";
import { Icon } from "../icons";
import { Problem } from "../Problem";
import { KIND_NAMES, kindOf } from "./kinds";
import { titleOf } from "./shown";
import { TitleField } from "./TitleField";
import { ago } from "./words";

interface ListProps {
  house: House;
  create: (kind: PaneKind) => void;
  rename: (pane: Pane, title: string) => void;
  remove: (pane: Pane) => void;
  show: (name: string) => void;
}

export function PaneList({ house: { canvas }, create, rename, remove, show }: ListProps): ReactNode {
  const { panes, arrangement, loaded, refusal } = useStore(canvas.view);
  const all = [...panes].sort(([, a], [, b]) => ((a.createTime ?? "") < (b.createTime ?? "") ? 1 : -1));
  return (
    <div className="pane-list" data-testid="pane-list">
      <h2>Panes of this conversation</h2>
      {refusal && all.length === 0 && (
        <Problem failure={refusal.failure()} deeds={{ retry: () => void canvas.refresh() }} />
      )}
      {!loaded && !refusal && (
        <div className="skeleton" role="status" aria-label="Loading">
          <i /> <i /> <i />
        </div>
      )}
      {loaded && all.length === 0 && (
        <p className="hint" data-testid="no-panes">
          Code, tables, images and pages of an answer stand here, to be edited, compared and kept. You can also begin
          one yourself.
        </p>
      )}
      <ul>
        {all.map(([name, pane]) => (
          <Row
            key={name}
            pane={pane}
            open={arrangement.panes.includes(name)}
            show={() => show(name)}
            rename={(title) => rename(pane, title)}
            remove={() => remove(pane)}
          />
        ))}
      </ul>
      <h3>New pane</h3>
      <div className="new-kinds">
        {KIND_NAMES.map((kind) => (
          <button
            key={kind}
            type="button"
            className="soft"
            onClick={() => create(kind)}
            data-testid="new-kind"
            data-kind={kind}
          >
            <Icon name={kindOf(kind).icon} /> {kindOf(kind).label}
          </button>
        ))}
      </div>
    </div>
  );
}

interface RowProps {
  pane: Pane;
  open: boolean;
  show: () => void;
  rename: (title: string) => void;
  remove: () => void;
}

function Row({ pane, open, show, rename, remove }: RowProps): ReactNode {
  const [naming, setNaming] = useState(false);
  const title = titleOf(pane);
  const close = (next: string): void => {
    setNaming(false);
    if (next !== title) rename(next);
  };
  if (naming)
    return (
      <li>
        <TitleField title={title} close={close} />
      </li>
    );
  return (
    <li data-testid="pane-row" data-pane={pane.name} data-open={open}>
      <button type="button" className="pane-row" onClick={show} data-testid="show-pane">
        <Icon name={kindOf(pane.kind).icon} />
        <span className="pane-row-text">
          <strong>{title}</strong>
          <span>
            {[
              kindOf(pane.kind).label,
              size(bytesOf(pane.text ?? "")),
              pane.author === "agent" ? "by the agent" : "by you",
              ago(pane.updateTime, new Date()),
              open ? "open" : "",
            ]
              .filter(Boolean)
              .join(" · ")}
          </span>
        </span>
      </button>
      <button
        type="button"
        className="quiet icon-only"
        onClick={() => setNaming(true)}
        aria-label={`Rename “${title}”`}
        title="Rename"
        data-testid="row-rename"
      >
        <Icon name="pen" />
      </button>
      <button
        type="button"
        className="quiet icon-only"
        onClick={remove}
        aria-label={`Delete “${title}”`}
        title="Delete"
        data-testid="row-delete"
      >
        <Icon name="bin" />
      </button>
    </li>
  );
}
