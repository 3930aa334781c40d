/** Where questions are written. Enter sends, Shift+Enter begins a line. */
import { type FormEvent, type KeyboardEvent, type ReactNode, type RefObject, useLayoutEffect } from "react";
import type { Tier } from "../wire/types";
import { Icon } from "./icons";
import { TierPicker } from "./TierPicker";

const LIMIT_BYTES = 128 * 1024;
/** More than this is surely higher than the field may get, so it is not measured. */
const TALL_CHARS = 8_000;

interface ComposerProps {
  field: RefObject<HTMLTextAreaElement | null>;
  text: string;
  write: (text: string) => void;
  tier: Tier;
  choose: (tier: Tier) => void;
  /** An answer is coming: it can be stopped, and nothing can be sent. */
  running: boolean;
  stopping: boolean;
  send: () => void;
  stop: () => void;
}

export function Composer({
  field,
  text,
  write,
  tier,
  choose,
  running,
  stopping,
  send,
  stop,
}: ComposerProps): ReactNode {
  const bytes = text.length * 3 > LIMIT_BYTES ? new TextEncoder().encode(text).length : 0;
  const tooLong = bytes > LIMIT_BYTES;
  const ready = !running && !tooLong && text.trim() !== "";
  useHeight(field, text);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (ready) send();
  };
  const press = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    if (ready) send();
  };
  return (
    <form className="composer" onSubmit={submit} data-testid="composer">
      <textarea
        ref={field}
        className="unkerned" // before a long run is pasted: the browser lays it out before it tells
        value={text}
        rows={1}
        onChange={(event) => write(event.target.value)}
        onKeyDown={press}
        placeholder="Ask anything"
        aria-label="Your question"
        aria-invalid={tooLong}
        enterKeyHint="send"
        data-testid="question-field"
      />
      <div className="composer-foot">
        <TierPicker tier={tier} choose={choose} />
        {tooLong && (
          <span className="too-long" role="status">
            {Math.ceil(bytes / 1024)} of 128 KiB
          </span>
        )}
        {/* Two buttons, not one that changes: a click on "stop" must not end as one on "send". */}
        {running ? (
          <button
            key="stop"
            type="button"
            className="send stop"
            onClick={stop}
            disabled={stopping}
            aria-label="Stop"
            title="Stop (Esc)"
            data-testid="stop"
          >
            <i />
          </button>
        ) : (
          <button
            key="send"
            type="submit"
            className="send"
            disabled={!ready}
            aria-label="Send"
            title="Send (Enter)"
            data-testid="send"
          >
            <Icon name="up" />
          </button>
        )}
      </div>
    </form>
  );
}

/** As high as its text; the style sheet says where that ends. */
function useHeight(field: RefObject<HTMLTextAreaElement | null>, text: string): void {
  useLayoutEffect(() => {
    const box = field.current;
    if (!box) return;
    box.style.height = text.length > TALL_CHARS ? "100dvh" : "auto";
    if (text.length <= TALL_CHARS) box.style.height = `${box.scrollHeight}px`;
  }, [field, text]);
}
