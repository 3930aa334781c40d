/** What is shown when there is no contract to read. */
import type { ReactNode } from "react";
import { Mark } from "../view/icons";

export function Missing({ why }: { why: string }): ReactNode {
  return (
    <main className="landing" data-testid="missing">
      <Mark />
      <h1>There is nothing to read here yet</h1>
      <p role="alert">{why}</p>
      <button type="button" className="primary" onClick={() => location.reload()}>
        Try again
      </button>
      <a className="link" href="/">
        To the chat
      </a>
    </main>
  );
}
