/** A title that is being changed in its place: Enter keeps it, Esc does not. */
import { type KeyboardEvent, type ReactNode, useRef } from "react";

export function TitleField({ title, close }: { title: string; close: (title: string) => void }): ReactNode {
  const left = useRef(false);
  const leave = (next: string): void => {
    if (left.current) return;
    left.current = true;
    close(next.trim() || title);
  };
  const press = (event: KeyboardEvent<HTMLInputElement>): void => {
    if (event.key === "Enter") leave(event.currentTarget.value);
    if (event.key === "Escape") {
      event.preventDefault();
      leave(title);
    }
    event.stopPropagation();
  };
  return (
    <input
      className="title-field"
      defaultValue={title}
      maxLength={200}
      autoFocus
      onFocus={(event) => event.target.select()}
      onBlur={(event) => leave(event.target.value)}
      onKeyDown={press}
      aria-label="Title"
      data-testid="pane-title-field"
    />
  );
}
