/** The side: a search over everything, and below it every part of the page by name. On small screens it is a drawer. */
import { type KeyboardEvent, type ReactNode, type RefObject, useMemo, useState } from "react";
import { Icon, Mark } from "../view/icons";
import { ThemeButton } from "../view/ThemeButton";
import { ADDRESS } from "./contract";
import { CHAPTERS } from "./chapters";
import type { Service } from "./operations";
import { Verb } from "./OperationView";
import { type Entry, found } from "./search";

interface SideProps {
  services: Service[];
  entries: Entry[];
  /** The anchor of what is being read. */
  here: string;
  hidden: boolean;
  field: RefObject<HTMLInputElement | null>;
  close: () => void;
}

export function Side({ services, entries, here, hidden, field, close }: SideProps): ReactNode {
  const [query, setQuery] = useState("");
  const finds = useMemo(() => found(entries, query), [entries, query]);
  const press = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && query) {
      event.stopPropagation();
      setQuery("");
    }
    if (event.key === "Enter" && finds[0]) {
      location.hash = finds[0].entry.id;
      close();
    }
  };
  return (
    <aside className="sidebar" id="sidebar" inert={hidden} data-testid="sidebar">
      <header>
        <a className="brand" href="/" title="To the chat">
          <Mark /> SomaAgent <span className="tag">API</span>
        </a>
        <button type="button" className="quiet icon-only only-small" onClick={close} aria-label="Close the contents">
          <Icon name="close" />
        </button>
      </header>
      <search className="search">
        <input
          ref={field}
          type="search"
          value={query}
          onChange={(event) => setQuery(event.target.value)}
          onKeyDown={press}
          placeholder="Search"
          aria-label="Search methods, paths, fields and reasons"
          aria-keyshortcuts="/"
          aria-controls="contents"
          autoComplete="off"
          spellCheck={false}
          data-testid="search"
        />
        <kbd aria-hidden="true">/</kbd>
      </search>
      <nav className="contents" id="contents" aria-label="Contents" onClick={(event) => leads(event.target) && close()}>
        {query.trim() ? (
          <Finds finds={finds} query={query} />
        ) : (
          <>
            <h2>Start</h2>
            <ul>
              {CHAPTERS.map(({ id, title }) => (
                <Row key={id} id={id} here={here}>
                  {title}
                </Row>
              ))}
            </ul>
            {services.map(({ name, id, operations }) => (
              <section key={id}>
                <h2>{name}</h2>
                <ul>
                  {operations.map((operation) => (
                    <Row key={operation.id} id={operation.id} here={here}>
                      <span>{operation.name}</span> <Verb verb={operation.verb} />
                    </Row>
                  ))}
                </ul>
              </section>
            ))}
          </>
        )}
      </nav>
      <footer className="foot">
        <a className="quiet" href="/">
          Chat
        </a>
        <a className="quiet" href={ADDRESS} data-testid="raw">
          openapi.json
        </a>
        <ThemeButton />
      </footer>
    </aside>
  );
}

const leads = (target: EventTarget): boolean => target instanceof Element && target.closest("a") !== null;

function Finds({ finds, query }: { finds: ReturnType<typeof found>; query: string }): ReactNode {
  return (
    <>
      <p className="visually-hidden" role="status">
        {finds.length} found
      </p>
      {finds.length === 0 && <p className="hint">Nothing is called “{query.trim()}”.</p>}
      <ul data-testid="finds">
        {finds.map(({ entry, because }) => (
          <li key={entry.id}>
            <a href={`#${entry.id}`} data-testid="find">
              <span>{entry.title}</span>
              {because && <small>{because}</small>}
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}

function Row({ id, here, children }: { id: string; here: string; children: ReactNode }): ReactNode {
  return (
    <li>
      <a href={`#${id}`} aria-current={id === here ? "location" : undefined}>
        {children}
      </a>
    </li>
  );
}
