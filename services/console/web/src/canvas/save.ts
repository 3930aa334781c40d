/** Saves what somebody wrote, and tells when somebody else was faster. */
import { asRefusal } from "../wire/refusal";
import type { Pane } from "../wire/types";
import type { Edit } from "./edits";

export interface Saver {
  write(name: string, text: string, etag: string): Promise<Pane>;
  look(name: string): Promise<Pane>;
}

/** `newest` is what stands there now, and differs: a person must choose. */
export type Saved = { saved: Pane } | { newest: Pane };

/** While an answer writes, the etag changes each second. */
const TRIES = 5;

export async function save(canvas: Saver, name: string, edit: Edit): Promise<Saved> {
  let { etag } = edit;
  for (let tries = 1; ; tries++) {
    try {
      return { saved: await canvas.write(name, edit.text, etag) };
    } catch (error) {
      if (asRefusal(error).reason !== "ETAG_STALE") throw error;
      const newest = await canvas.look(name);
      if ((newest.text ?? "") === edit.text) return { saved: newest };
      if (tries === TRIES || !mayReplace(newest, edit)) return { newest };
      etag = newest.etag ?? "";
    }
  }
}

/** Only the title changed, or it is an answer's text that this person has taken over. */
const mayReplace = ({ text = "", author }: Pane, edit: Edit): boolean =>
  text === edit.base || (edit.takenOver === true && author === "agent");
