/** Asks before a conversation is deleted for good. */
import { type ReactNode, useEffect, useRef } from "react";
import type { Conversation } from "../wire/types";
import { titleOf } from "./ConversationRow";

interface ConfirmProps {
  conversation: Conversation;
  confirm: () => void;
  close: () => void;
}

export function ConfirmDelete({ conversation, confirm, close }: ConfirmProps): ReactNode {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={close} aria-labelledby="delete-title" data-testid="confirm-delete">
      <h2 id="delete-title">Delete this conversation?</h2>
      <p>“{titleOf(conversation)}” and all its answers will be gone for good.</p>
      <form method="dialog">
        <button className="soft" autoFocus>
          Keep it
        </button>
        <button type="button" className="danger" onClick={confirm} data-testid="confirm">
          Delete
        </button>
      </form>
    </dialog>
  );
}
