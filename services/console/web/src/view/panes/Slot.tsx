/** One pane: its head with what can be done, what it holds, and its foot. */
import { type KeyboardEvent, type ReactNode, useState } from "react";
import { changed } from "../../canvas/edits";
import { fileName } from "../../canvas/files";
import { besideClosed, setBeside } from "../../canvas/layout";
import { tableOf, toCsv } from "../../canvas/table";
import type { House } from "../../house";
import { CopyButton } from "../CopyButton";
import { Icon } from "../icons";
import { Problem } from "../Problem";
import { Ask } from "./Ask";
import { Body, hasFace, sourceLanguage } from "./Body";
import { Changes } from "./Changes";
import { Conflict } from "./Conflict";
import { Editor } from "./Editor";
import { download } from "./files";
import { Foot } from "./Foot";
import { History } from "./History";
import { kindOf } from "./kinds";
import { type Item, Menu } from "./Menu";
import { titleOf, useShown } from "./shown";
import { panelId, tabId } from "./Tabs";
import { TitleField } from "./TitleField";
import { type Mode, useSlot } from "./useSlot";
import { rememberedWrap, rememberWrap } from "./remembered";

interface SlotProps {
  house: House;
  name: string;
  /** It is the second pane of a split. */
  beside: boolean;
  /** Another pane could stand beside it. */
  canSplit: boolean;
  remove: () => void;
}

type Question = "take-over" | "drop";

export function Slot({ house, name, beside, canSplit, remove }: SlotProps): ReactNode {
  const { canvas } = house;
  const shown = useShown(house, name);
  const slot = useSlot(house, name, shown);
  const [source, setSource] = useState(false);
  const [wrap, setWrap] = useState(rememberedWrap);
  const [asking, setAsking] = useState<Question>();
  const [naming, setNaming] = useState(false);
  if (!shown) return <section className="pane" role="tabpanel" id={panelId(name)} aria-labelledby={tabId(name)} />;

  const { pane, text, writing, kept } = shown;
  const { edit, mode } = slot;
  const { kind = "code", language = "" } = pane;
  const title = titleOf(pane);
  const now = edit?.text ?? text;
  const unsaved = changed(edit);
  const begin = (): void => (writing ? setAsking("take-over") : slot.begin());
  const leave = (): void => {
    if (unsaved) return setAsking("drop");
    slot.drop();
  };
  const look = (next: Mode): void => slot.setMode(mode === next ? (edit ? "edit" : "view") : next);
  const press = (event: KeyboardEvent): void => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== "s") return;
    event.preventDefault();
    if (unsaved) slot.save();
  };
  const items: Item[] = [
    { label: "Rename", icon: "pen", act: () => setNaming(true), handle: "rename-pane" },
    ...(kind === "table"
      ? [
          {
            label: "Download as CSV",
            icon: "download" as const,
            act: () => download(csvName(), toCsv(tableOf(now, language)), "text/csv"),
            handle: "download-csv",
          },
        ]
      : []),
    ...(beside
      ? [
          {
            label: "Close the second pane",
            icon: "panes" as const,
            act: () => canvas.arrange(besideClosed),
            handle: "beside-close",
          },
        ]
      : canSplit
        ? [
            {
              label: "Show beside",
              icon: "panes" as const,
              act: () => canvas.arrange((all) => setBeside(all, name)),
              handle: "beside",
            },
          ]
        : []),
    { label: "Delete", icon: "bin", act: remove, handle: "delete-pane", grave: true },
  ];
  const csvName = (): string => fileName({ ...pane, language: "csv" });

  return (
    <section
      className="pane"
      role="tabpanel"
      id={panelId(name)}
      aria-labelledby={tabId(name)}
      onKeyDown={press}
      data-testid="pane"
      data-pane={name}
      data-kind={kind}
      data-mode={mode}
      data-writing={writing}
      data-unsaved={unsaved}
    >
      <header className="pane-head">
        {naming ? (
          <TitleField
            title={title}
            close={(next) => {
              setNaming(false);
              if (next !== title) slot.describe({ title: next });
            }}
          />
        ) : (
          <h2
            className="pane-title"
            title={title}
            onDoubleClick={() => kept && setNaming(true)}
            data-testid="pane-title"
          >
            {title}
          </h2>
        )}
        {hasFace(kind) && mode === "view" && !(kind === "html" && writing) && (
          <div className="switch" role="group" aria-label="How it is shown">
            {[false, true].map((each) => (
              <button
                key={String(each)}
                type="button"
                aria-pressed={source === each}
                onClick={() => setSource(each)}
                data-testid={each ? "show-source" : "show-preview"}
              >
                {each ? "Source" : kind === "html" ? "Preview" : kindOf(kind).label}
              </button>
            ))}
          </div>
        )}
        <div className="pane-deeds">
          {edit ? (
            <>
              <button
                type="button"
                className="go small"
                disabled={!unsaved || slot.saving}
                onClick={slot.save}
                title="Save (Ctrl+S)"
                data-testid="save-pane"
              >
                {slot.saving ? "Saving" : "Save"}
              </button>
              <button type="button" className="quiet" onClick={leave} data-testid="done-editing">
                {unsaved ? "Discard" : "Done"}
              </button>
            </>
          ) : (
            (kept || writing) && (
              <button
                type="button"
                className="quiet icon-only"
                onClick={begin}
                aria-label="Edit"
                title="Edit"
                data-testid="edit-pane"
              >
                <Icon name="pen" />
              </button>
            )
          )}
          {kept && (
            <>
              <Toggle
                on={mode === "changes"}
                act={() => look("changes")}
                label="Changes"
                icon="differ"
                handle="show-changes"
              />
              <Toggle
                on={mode === "history"}
                act={() => look("history")}
                label="History"
                icon="history"
                handle="show-history"
              />
            </>
          )}
          <CopyButton text={now} label="Copy" />
          <button
            type="button"
            className="quiet icon-only"
            onClick={() => download(fileName(pane), now)}
            aria-label={`Download ${fileName(pane)}`}
            title={`Download ${fileName(pane)}`}
            data-testid="download-pane"
          >
            <Icon name="download" />
          </button>
          {kept && <Menu label="More" icon="more" items={items} handle="pane-menu" />}
        </div>
      </header>
      {slot.problem && (
        <div className="pane-problem">
          <Problem failure={slot.problem} deeds={unsaved && slot.problem.retryable ? { retry: slot.save } : {}} />
          {slot.problem.reason === "PANE_UNKNOWN" && edit && (
            <button type="button" className="soft" onClick={slot.rescue} data-testid="rescue">
              Save mine as a new pane
            </button>
          )}
          <button type="button" className="quiet" onClick={slot.forget}>
            Close
          </button>
        </div>
      )}
      {slot.overtaken && !slot.problem && (
        <p className="overtaken" role="status" data-testid="overtaken">
          A newer version was saved elsewhere.
          <button type="button" className="link" onClick={slot.compare}>
            See both
          </button>
        </p>
      )}
      <div className="pane-body">
        {mode === "edit" && edit ? (
          <Editor
            text={edit.text}
            language={sourceLanguage(kind, language)}
            wrap={wrap || kind === "chat"}
            label={`Text of ${title}`}
            write={slot.write}
            save={() => unsaved && slot.save()}
            leave={() => document.getElementById(tabId(name))?.focus()}
          />
        ) : mode === "changes" ? (
          <Changes house={house} pane={pane} text={text} edit={unsaved ? edit : undefined} />
        ) : mode === "history" ? (
          <History house={house} pane={pane} text={text} restore={slot.restore} />
        ) : (
          <Body
            pane={name}
            kind={kind}
            title={title}
            language={language}
            text={text}
            writing={writing}
            wrap={wrap}
            source={source}
          />
        )}
      </div>
      <Foot
        pane={pane}
        text={now}
        writing={writing}
        wrap={wrap}
        setWrap={
          mode === "edit" || (mode === "view" && (source || kind === "code" || kind === "log"))
            ? (next) => {
                rememberWrap(next);
                setWrap(next);
              }
            : undefined
        }
        setLanguage={kept && kind === "code" && !writing ? (next) => slot.describe({ language: next }) : undefined}
      />
      {asking === "take-over" && (
        <Ask
          title="Take over?"
          no="Let it write"
          yes="Take over"
          handle="take-over"
          close={() => setAsking(undefined)}
          confirm={() => {
            setAsking(undefined);
            slot.takeOver();
          }}
        >
          The agent is still writing into “{title}”. When you save, it stops writing here; its whole answer still stands
          in the chat.
        </Ask>
      )}
      {asking === "drop" && (
        <Ask
          title="Discard what you wrote?"
          no="Go on editing"
          yes="Discard"
          grave
          handle="confirm-drop"
          close={() => setAsking(undefined)}
          confirm={() => {
            setAsking(undefined);
            slot.drop();
          }}
        >
          What you wrote into “{title}” is not saved.
        </Ask>
      )}
      {slot.newest && edit && (
        <Conflict
          mine={edit.text}
          newest={slot.newest}
          keepMine={slot.keepMine}
          takeTheirs={slot.drop}
          goOn={slot.goOn}
        />
      )}
    </section>
  );
}

interface ToggleProps {
  on: boolean;
  act: () => void;
  label: string;
  icon: "differ" | "history";
  handle: string;
}

function Toggle({ on, act, label, icon, handle }: ToggleProps): ReactNode {
  return (
    <button
      type="button"
      className="quiet icon-only"
      aria-pressed={on}
      onClick={act}
      aria-label={label}
      title={label}
      data-testid={handle}
    >
      <Icon name={icon} />
    </button>
  );
}
