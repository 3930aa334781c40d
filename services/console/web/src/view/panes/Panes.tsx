/** The panes beside the chat: tabs, and one or two of them in front. */
import { type ReactNode, type RefObject, useEffect, useLayoutEffect, useRef, useState } from "react";
import { closed, filtered } from "../../canvas/layout";
import type { House } from "../../house";
import { useStore, useStorePart } from "../../store";
import { ended } from "../../turn/turn";
import { asRefusal } from "../../wire/refusal";
import type { Failure, Pane, PaneKind } from "../../wire/types";
import { Icon } from "../icons";
import { Problem } from "../Problem";
import { Ask } from "./Ask";
import { KIND_NAMES, kindOf } from "./kinds";
import { Menu } from "./Menu";
import { PaneList } from "./PaneList";
import { rememberedSplit, rememberSplit } from "./remembered";
import { titleOf, useTag } from "./shown";
import { Slot } from "./Slot";
import { Splitter } from "./Splitter";
import { panelId, Tabs } from "./Tabs";

interface PanesProps {
  house: House;
  small: boolean;
  hide: () => void;
}

/** Two panes are above each other where there is less room than this. */
const NARROW_PX = 680;

export default function Panes({ house, small, hide }: PanesProps): ReactNode {
  const { canvas, chat } = house;
  const { arrangement, loaded, conversation } = useStore(canvas.view);
  const running = useStorePart(chat.view, ({ turns }) => turns.some((turn) => !ended(turn)));
  const [list, setList] = useState(false);
  const [doomed, setDoomed] = useState<{ name: string; title: string }>();
  const [leaving, setLeaving] = useState<string>();
  const [failure, setFailure] = useState<Failure>();
  const [split, setSplit] = useState(() => rememberedSplit("panes"));
  const place = useRef<HTMLElement>(null);
  const back = useRef<HTMLButtonElement>(null);
  const narrow = useNarrow(place);
  const { panes, active } = arrangement;
  const beside = small ? "" : arrangement.beside;
  const listed = list || (panes.length === 0 && loaded);

  useEffect(() => {
    canvas.follow(!running);
    return () => canvas.follow(false);
  }, [canvas, running, conversation]);
  useEffect(() => setList(false), [active, conversation]);
  useEffect(() => {
    if (small) back.current?.focus();
  }, [small]);

  const guarded = (work: Promise<unknown>): void => {
    setFailure(undefined);
    work.catch((error: unknown) => setFailure(asRefusal(error).failure()));
  };
  const create = (kind: PaneKind): void => {
    setList(false);
    guarded(
      canvas.create({ kind, title: `New ${kindOf(kind).label.toLowerCase()}`, ...NEW[kind] }).then((made) => {
        canvas.edits.put(made.name, { text: "", base: "", etag: made.etag ?? "" });
      }),
    );
  };
  const remove = (name: string): void => {
    setDoomed(undefined);
    guarded(canvas.remove(name));
  };
  const close = (name: string): void => {
    if (canvas.edits.isChanged(name)) return setLeaving(name);
    canvas.edits.drop(name);
    canvas.arrange((now) => closed(now, name));
  };
  const doom = (pane: Pane): void => setDoomed({ name: pane.name, title: titleOf(pane) });
  const slot = (name: string, second: boolean): ReactNode => (
    <Slot
      key={name}
      house={house}
      name={name}
      beside={second}
      canSplit={!small && panes.length > 1}
      remove={() => doom(canvas.view.get().panes.get(name) ?? { name })}
    />
  );

  return (
    <aside className="panes" aria-label="Panes" ref={place} data-testid="panes">
      <header className="panes-head">
        {small && (
          <button ref={back} type="button" className="quiet back" onClick={hide} data-testid="back-to-chat">
            <Icon name="back" /> Chat
          </button>
        )}
        <Tabs house={house} arrangement={arrangement} close={close} />
        <div className="panes-deeds">
          <button
            type="button"
            className="quiet icon-only"
            aria-pressed={listed}
            onClick={() => setList(!list)}
            disabled={panes.length === 0}
            aria-label="All panes"
            title="All panes"
            data-testid="all-panes"
          >
            <Icon name="menu" />
          </button>
          <Menu
            label="New pane"
            icon="plus"
            handle="new-pane"
            items={KIND_NAMES.map((kind) => ({
              label: kindOf(kind).label,
              icon: kindOf(kind).icon,
              act: () => create(kind),
              handle: `new-pane-${kind}`,
            }))}
          />
          {!small && (
            <button
              type="button"
              className="quiet icon-only"
              onClick={hide}
              aria-label="Hide the panes"
              title="Hide the panes"
              data-testid="hide-panes"
            >
              <Icon name="close" />
            </button>
          )}
        </div>
      </header>
      {failure && (
        <div className="pane-problem">
          <Problem failure={failure} deeds={{}} />
          <button type="button" className="quiet" onClick={() => setFailure(undefined)}>
            Close
          </button>
        </div>
      )}
      {listed ? (
        <PaneList
          house={house}
          create={create}
          rename={(pane, title) => guarded(canvas.describe(pane.name, { title }))}
          remove={doom}
          show={(name) => {
            setList(false);
            canvas.show(name);
          }}
        />
      ) : (
        <div
          className={narrow ? "slots above" : "slots"}
          style={beside ? { [narrow ? "gridTemplateRows" : "gridTemplateColumns"]: rows(split) } : undefined}
        >
          {active && slot(active, false)}
          {beside && (
            <Splitter
              share={split}
              least={20}
              most={80}
              lying={narrow}
              set={(share) => {
                rememberSplit("panes", share);
                setSplit(share);
              }}
              label="Room of the first pane"
              controls={panelId(active)}
              handle="pane-splitter"
            />
          )}
          {beside && slot(beside, true)}
        </div>
      )}
      <Teller house={house} active={active} />
      {doomed && (
        <Ask
          title="Delete this pane?"
          no="Keep it"
          yes="Delete"
          grave
          handle="confirm-delete-pane"
          close={() => setDoomed(undefined)}
          confirm={() => remove(doomed.name)}
        >
          “{doomed.title}” and all its versions will be gone for good.
        </Ask>
      )}
      {leaving && (
        <Ask
          title="Close without saving?"
          no="Keep it open"
          yes="Discard and close"
          grave
          handle="confirm-close"
          close={() => setLeaving(undefined)}
          confirm={() => {
            setLeaving(undefined);
            canvas.edits.drop(leaving);
            canvas.arrange((now) => filtered(now, (each) => each !== leaving));
          }}
        >
          What you wrote in this pane is not saved.
        </Ask>
      )}
    </aside>
  );
}

/** What a new pane is in before anybody says so. */
const NEW: Partial<Record<PaneKind, Partial<Pane>>> = {
  chat: { language: "markdown" },
  html: { language: "html" },
  table: { language: "markdown" },
  image: { language: "svg" },
};

const rows = (share: number): string => `minmax(0, ${share}fr) auto minmax(0, ${100 - share}fr)`;

/** Tells people who listen which pane came to the front. */
function Teller({ house, active }: { house: House; active: string }): ReactNode {
  const { title, writing } = useTag(house, active);
  return (
    <div className="visually-hidden" role="status" aria-live="polite" data-testid="pane-announcer">
      {active && `Pane opened: ${title}${writing ? ", being written" : ""}.`}
    </div>
  );
}

function useNarrow(place: RefObject<HTMLElement | null>): boolean {
  const [narrow, setNarrow] = useState(false);
  useLayoutEffect(() => {
    if (!place.current) return;
    const measured = new ResizeObserver(([entry]) => setNarrow((entry?.contentRect.width ?? 0) < NARROW_PX));
    measured.observe(place.current);
    return () => measured.disconnect();
  }, [place]);
  return narrow;
}
