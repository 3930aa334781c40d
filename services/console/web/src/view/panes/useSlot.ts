/** One pane in front of a person: how they look at it, what they write into it, and what came of it. */
import { useEffect, useRef, useState } from "react";
import { changed, type Edit } from "../../canvas/edits";
import { save } from "../../canvas/save";
import type { Shown } from "../../canvas/shown";
import { takeOver } from "../../canvas/takeover";
import type { House } from "../../house";
import { useStorePart } from "../../store";
import { asRefusal } from "../../wire/refusal";
import type { Failure, Pane, PaneVersion } from "../../wire/types";

export type Mode = "view" | "edit" | "changes" | "history";

export interface SlotDeeds {
  mode: Mode;
  setMode: (mode: Mode) => void;
  edit: Edit | undefined;
  saving: boolean;
  problem: Failure | undefined;
  /** What stands there now, when somebody else was faster. */
  newest: Pane | undefined;
  /** Somebody else saved while this person wrote. */
  overtaken: boolean;
  begin: () => void;
  /** Begins although an answer is being written here. */
  takeOver: () => void;
  write: (text: string) => void;
  save: () => void;
  drop: () => void;
  keepMine: () => void;
  goOn: () => void;
  compare: () => void;
  rescue: () => void;
  restore: (version: PaneVersion) => void;
  describe: (how: { title: string } | { language: string }) => void;
  forget: () => void;
}

export function useSlot({ canvas }: House, name: string, shown: Shown | undefined): SlotDeeds {
  const { edits } = canvas;
  const edit = useStorePart(edits.view, (all) => all.get(name));
  const [mode, setMode] = useState<Mode>(edit ? "edit" : "view");
  const [saving, setSaving] = useState(false);
  const [problem, setProblem] = useState<Failure>();
  const [newest, setNewest] = useState<Pane>();
  const latest = useRef(shown);
  const pane = shown?.pane;
  const overtaken =
    changed(edit) && !saving && pane?.etag !== edit?.etag && pane?.text !== edit?.base && !edit?.takenOver;

  useEffect(() => {
    if (!edit || !pane?.etag || pane.etag === edit.etag) return;
    const text = pane.text ?? "";
    if (text === edit.base) edits.put(name, { ...edit, etag: pane.etag });
    else if (!changed(edit) || text === edit.text) edits.put(name, { text, base: text, etag: pane.etag });
  }, [edits, name, edit, pane]);

  useEffect(() => {
    latest.current = shown;
    return () => {
      latest.current = undefined;
    };
  }, [shown]);

  const editing = edit !== undefined;
  useEffect(() => {
    if (editing) setMode((now) => (now === "view" ? "edit" : now));
  }, [editing]);

  const guarded = async (work: () => Promise<void>): Promise<void> => {
    setProblem(undefined);
    setSaving(true);
    await work().catch((error: unknown) => setProblem(asRefusal(error).failure()));
    setSaving(false);
  };
  const put = (now: Edit): void =>
    void guarded(async () => {
      const done = await save(canvas, name, now);
      if ("newest" in done) return setNewest(done.newest);
      const { text = "", etag = "" } = done.saved;
      const since = edits.of(name);
      if (since) edits.put(name, { text: since.text === now.text ? text : since.text, base: text, etag });
    });
  const open = (): void => {
    if (edit) put(edit);
  };
  return {
    mode,
    setMode,
    edit,
    saving,
    problem,
    newest,
    overtaken,
    begin: () => {
      const text = shown?.text ?? "";
      if (!edit) edits.put(name, { text, base: text, etag: pane?.etag ?? "" });
      setMode("edit");
    },
    takeOver: () =>
      void guarded(async () => {
        const taken = await takeOver(canvas, name, () => latest.current);
        if (!edits.of(name)) edits.put(name, taken);
      }),
    write: (text) => {
      const now = edits.of(name);
      if (now) edits.put(name, { ...now, text });
    },
    save: open,
    drop: () => {
      edits.drop(name);
      setNewest(undefined);
      setProblem(undefined);
      setMode("view");
    },
    keepMine: () => {
      setNewest(undefined);
      if (edit) put({ ...edit, etag: newest?.etag ?? "", base: newest?.text ?? "" });
    },
    goOn: () => setNewest(undefined),
    compare: () => setNewest(pane),
    rescue: () =>
      void guarded(async () => {
        const { kind, title, language } = pane ?? {};
        await canvas.create({
          text: edit?.text ?? "",
          ...(kind && { kind }),
          ...(title && { title }),
          ...(language && { language }),
        });
        edits.drop(name);
      }),
    restore: (version) =>
      void guarded(async () => {
        await canvas.restore(version, pane?.etag ?? "");
        setMode("view");
      }),
    describe: (how) =>
      void guarded(async () => {
        await canvas.describe(name, how);
      }),
    forget: () => setProblem(undefined),
  };
}
