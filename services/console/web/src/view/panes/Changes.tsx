/** What was changed last: what is not saved yet, or else what the newest version made of the one before it. */
import { type ReactNode, useEffect, useState } from "react";
import type { Edit } from "../../canvas/edits";
import type { House } from "../../house";
import { asRefusal, type Refusal } from "../../wire/refusal";
import type { Pane } from "../../wire/types";
import { Problem } from "../Problem";
import { Diff } from "./Diff";

interface ChangesProps {
  house: House;
  pane: Pane;
  text: string;
  edit: Edit | undefined;
}

export function Changes({ house: { canvas }, pane, text, edit }: ChangesProps): ReactNode {
  const [before, setBefore] = useState<string>();
  const [refusal, setRefusal] = useState<Refusal>();
  const version = pane.version ?? 1;
  const needed = !edit && version > 1;
  useEffect(() => {
    if (!needed) return;
    let here = true;
    setRefusal(undefined);
    canvas.version(`${pane.name}/versions/${version - 1}`).then(
      (found) => here && setBefore(found.text ?? ""),
      (error: unknown) => here && setRefusal(asRefusal(error)),
    );
    return () => {
      here = false;
    };
  }, [canvas, pane.name, version, needed]);
  if (edit)
    return <Diff before={text} after={edit.text} beforeName={`Version ${version}`} afterName="What you wrote" />;
  if (!needed) return <p className="hint">This is the first version: there is nothing to compare it with.</p>;
  if (refusal) return <Problem failure={refusal.failure()} deeds={{}} />;
  if (before === undefined) return <p className="hint">Loading…</p>;
  return <Diff before={before} after={text} beforeName={`Version ${version - 1}`} afterName={`Version ${version}`} />;
}
