/** The open panes as tabs: chosen, moved and closed with the pointer or by keys. */
import { type DragEvent, type KeyboardEvent, type ReactNode, useEffect, useRef } from "react";
import { changed } from "../../canvas/edits";
import { type Arrangement, moved, movedTo, opened } from "../../canvas/layout";
import type { House } from "../../house";
import { useStorePart } from "../../store";
import { Icon } from "../icons";
import { kindOf } from "./kinds";
import { useTag } from "./shown";

interface TabsProps {
  house: House;
  arrangement: Arrangement;
  /** Closes the tab; asks first when something would be lost. */
  close: (name: string) => void;
}

export const tabId = (name: string): string => `tab-${name.slice(name.lastIndexOf("/") + 1)}`;
export const panelId = (name: string): string => `pane-${name.slice(name.lastIndexOf("/") + 1)}`;

export function Tabs({ house, arrangement, close }: TabsProps): ReactNode {
  const row = useRef<HTMLDivElement>(null);
  const dragged = useRef("");
  const { panes, active, beside } = arrangement;
  const arrange = house.canvas.arrange.bind(house.canvas);
  const focus = (name: string | undefined): void => {
    if (!name) return;
    arrange((now) => opened(now, name));
    requestAnimationFrame(() => document.getElementById(tabId(name))?.focus());
  };
  const press = (event: KeyboardEvent, name: string): void => {
    const at = panes.indexOf(name);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: panes.length - 1 }[event.key];
    if (to !== undefined && (event.altKey || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      arrange((now) => moved(now, name, to - at));
      requestAnimationFrame(() => document.getElementById(tabId(name))?.focus());
    } else if (to !== undefined) {
      event.preventDefault();
      focus(panes.at(to % panes.length));
    } else if (event.key === "Delete") {
      event.preventDefault();
      close(name);
      requestAnimationFrame(() => row.current?.querySelector<HTMLElement>("[role=tab][tabindex='0']")?.focus());
    }
  };
  const drop = (event: DragEvent, name: string): void => {
    event.preventDefault();
    const moving = dragged.current;
    if (moving) arrange((now) => movedTo(now, moving, now.panes.indexOf(name)));
  };
  useEffect(() => {
    document.getElementById(tabId(active))?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [active, panes.length]);
  return (
    <div className="tabs" role="tablist" aria-label="Open panes" ref={row} data-testid="pane-tabs">
      {panes.map((name) => (
        <Tab
          key={name}
          house={house}
          name={name}
          front={name === active}
          beside={name === beside}
          show={() => arrange((now) => opened(now, name))}
          close={() => close(name)}
          press={(event) => press(event, name)}
          drag={() => (dragged.current = name)}
          drop={(event) => drop(event, name)}
        />
      ))}
    </div>
  );
}

interface TabProps {
  house: House;
  name: string;
  front: boolean;
  beside: boolean;
  show: () => void;
  close: () => void;
  press: (event: KeyboardEvent) => void;
  drag: () => void;
  drop: (event: DragEvent) => void;
}

function Tab({ house, name, front, beside, show, close, press, drag, drop }: TabProps): ReactNode {
  const { title, kind, writing } = useTag(house, name);
  const unsaved = useStorePart(house.canvas.edits.view, (edits) => changed(edits.get(name)));
  return (
    <div
      className={front || beside ? "tab shown" : "tab"}
      onDragOver={(event) => event.preventDefault()}
      onDrop={drop}
      onAuxClick={(event) => event.button === 1 && close()}
    >
      <button
        type="button"
        role="tab"
        id={tabId(name)}
        aria-selected={front || beside}
        aria-controls={front || beside ? panelId(name) : undefined}
        aria-keyshortcuts="Delete Alt+ArrowLeft Alt+ArrowRight"
        tabIndex={front ? 0 : -1}
        draggable
        onDragStart={(event) => {
          event.dataTransfer.effectAllowed = "move";
          event.dataTransfer.setData("text/plain", title);
          drag();
        }}
        onClick={show}
        onKeyDown={press}
        title={`${title} · ${kindOf(kind).label}`}
        data-testid="pane-tab"
        data-pane={name}
        data-writing={writing}
        data-unsaved={unsaved}
      >
        <Icon name={kindOf(kind).icon} />
        <span className="tab-title">{title}</span>
        {writing && <i className="beat" role="img" aria-label="Being written" />}
        {unsaved && <i className="unsaved" role="img" aria-label="Not saved" title="Not saved" />}
      </button>
      <button
        type="button"
        className="quiet tab-close"
        tabIndex={-1}
        onClick={close}
        aria-label={`Close “${title}”`}
        title="Close (Delete)"
        data-testid="close-pane"
      >
        <Icon name="close" />
      </button>
    </div>
  );
}
