/** What somebody has written into panes and not saved: it survives a reload of this tab. */
import { Store } from "../store";

export interface Edit {
  text: string;
  /** What it was made from: the pane's etag, and its text then. */
  etag: string;
  base: string;
  /** Written while an answer wrote too: saving it ends what the answer does to the pane. */
  takenOver?: true;
}

const PREFIX = "soma.edit.";
const KEEP_MS = 300;

export class Edits {
  /** By the pane's name. */
  readonly view = new Store<ReadonlyMap<string, Edit>>(kept());
  private unkept = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(closing: AbortSignal) {
    addEventListener("pagehide", this.keep, { signal: closing });
  }

  of = (pane: string): Edit | undefined => this.view.get().get(pane);

  /** Whether something in it would be lost. */
  isChanged = (pane: string): boolean => changed(this.of(pane));

  put(pane: string, edit: Edit): void {
    this.view.change((edits) => new Map(edits).set(pane, edit));
    this.plan(pane);
  }

  drop(pane: string): void {
    this.view.change((edits) => new Map([...edits].filter(([name]) => name !== pane)));
    this.plan(pane);
  }

  private plan(pane: string): void {
    this.unkept.add(pane);
    clearTimeout(this.timer);
    this.timer = setTimeout(this.keep, KEEP_MS);
  }

  private keep = (): void => {
    for (const pane of this.unkept) {
      const edit = this.of(pane);
      sessionStorage.removeItem(PREFIX + pane);
      if (edit) tryToKeep(PREFIX + pane, JSON.stringify(edit));
    }
    this.unkept.clear();
  };
}

export const changed = (edit: Edit | undefined): boolean => edit !== undefined && edit.text !== edit.base;

/** A browser without room for it keeps it in the page alone. */
function tryToKeep(key: string, value: string): void {
  try {
    sessionStorage.setItem(key, value);
  } catch {
    // the page itself still has it
  }
}

function kept(): Map<string, Edit> {
  const keys = Object.keys(sessionStorage).filter((key) => key.startsWith(PREFIX));
  return new Map(keys.map((key) => [key.slice(PREFIX.length), JSON.parse(sessionStorage.getItem(key) ?? "") as Edit]));
}
