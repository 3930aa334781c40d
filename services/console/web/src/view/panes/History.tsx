/** What a pane was: its versions, each to read, to compare and to bring back. */
import { type ReactNode, useEffect, useState } from "react";
import { size } from "../../canvas/files";
import type { House } from "../../house";
import { asRefusal, type Refusal } from "../../wire/refusal";
import type { Pane, PaneVersion } from "../../wire/types";
import { fullTime } from "../format";
import { Icon } from "../icons";
import { Problem } from "../Problem";
import { Diff } from "./Diff";
import { Sheet } from "./Sheet";
import { ago } from "./words";

interface HistoryProps {
  house: House;
  pane: Pane;
  text: string;
  restore: (version: PaneVersion) => void;
}

export function History({ house: { canvas }, pane, text, restore }: HistoryProps): ReactNode {
  const [versions, setVersions] = useState<PaneVersion[]>();
  const [chosen, setChosen] = useState<PaneVersion>();
  const [refusal, setRefusal] = useState<Refusal>();
  useEffect(() => {
    let here = true;
    canvas.versions(pane.name).then(
      (found) => here && setVersions(found),
      (error: unknown) => here && setRefusal(asRefusal(error)),
    );
    return () => {
      here = false;
    };
  }, [canvas, pane.name, pane.version]);
  const choose = (version: PaneVersion): void => {
    setRefusal(undefined);
    canvas.version(version.name).then(setChosen, (error: unknown) => setRefusal(asRefusal(error)));
  };
  if (chosen)
    return <One pane={pane} text={text} version={chosen} restore={restore} back={() => setChosen(undefined)} />;
  return (
    <div className="history" data-testid="history">
      {refusal && <Problem failure={refusal.failure()} deeds={{}} />}
      {!versions && !refusal && <p className="hint">Loading…</p>}
      <ul>
        {versions?.map((version) => (
          <li key={version.name}>
            <button type="button" onClick={() => choose(version)} data-testid="version" data-version={version.version}>
              <strong>Version {version.version}</strong>
              {version.version === pane.version && <span className="now">now</span>}
              <span className="by">
                {version.author === "agent" ? "by the agent" : "by you"} · {size(version.sizeBytes ?? 0)}
              </span>
              <time dateTime={version.createTime} title={fullTime(version.createTime ?? "")}>
                {ago(version.createTime, new Date())}
              </time>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

interface OneProps {
  pane: Pane;
  text: string;
  version: PaneVersion;
  restore: (version: PaneVersion) => void;
  back: () => void;
}

function One({ pane, text, version, restore, back }: OneProps): ReactNode {
  const [compare, setCompare] = useState(false);
  const old = version.text ?? "";
  const newest = version.version === pane.version;
  return (
    <div className="history one" data-testid="history">
      <div className="history-head">
        <button type="button" className="quiet" onClick={back} data-testid="history-back">
          <Icon name="back" /> All versions
        </button>
        <strong>Version {version.version}</strong>
        {!newest && (
          <>
            <button
              type="button"
              className="quiet"
              aria-pressed={compare}
              onClick={() => setCompare(!compare)}
              data-testid="version-diff"
            >
              <Icon name="differ" /> Compare
            </button>
            <button type="button" className="soft" onClick={() => restore(version)} data-testid="restore">
              Restore
            </button>
          </>
        )}
      </div>
      {compare && !newest ? (
        <Diff before={old} after={text} beforeName={`Version ${version.version}`} afterName="Now" />
      ) : (
        <Sheet
          text={old}
          language={version.language ?? ""}
          wrap={false}
          writing={false}
          label={`Version ${version.version}`}
        />
      )}
    </div>
  );
}
