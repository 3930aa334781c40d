/** A dialog with one question: its choices, and Esc for none of them. */
import { type ReactNode, useEffect, useId, useRef } from "react";

interface AskProps {
  title: string;
  children: ReactNode;
  /** What happens if one goes no further. */
  no: string;
  yes: string;
  grave?: boolean;
  confirm: () => void;
  close: () => void;
  handle: string;
}

export function Ask({ title, children, no, yes, grave = false, confirm, close, handle }: AskProps): ReactNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={close} aria-labelledby={id} data-testid={handle}>
      <h2 id={id}>{title}</h2>
      <p>{children}</p>
      <form method="dialog">
        <button className="soft" autoFocus>
          {no}
        </button>
        <button type="button" className={grave ? "danger" : "go"} onClick={confirm} data-testid="confirm">
          {yes}
        </button>
      </form>
    </dialog>
  );
}
