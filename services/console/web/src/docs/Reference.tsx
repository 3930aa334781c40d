/** The page: the side, and everything there is to read from top to bottom. */
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { Icon } from "../view/icons";
import { useSmall } from "../view/page";
import type { Contract } from "./contract";
import { entriesOf } from "./entries";
import { Guides } from "./Guides";
import { linksOf, reasonsOf, servicesOf } from "./operations";
import { OperationView } from "./OperationView";
import { Line, Links, Prose } from "./Prose";
import { useHere } from "./reading";
import { Side } from "./Side";

export function Reference({ contract }: { contract: Contract }): ReactNode {
  const services = useMemo(() => servicesOf(contract), [contract]);
  const reasons = useMemo(() => reasonsOf(contract, services), [contract, services]);
  const links = useMemo(() => linksOf(services, reasons), [services, reasons]);
  const entries = useMemo(() => entriesOf(contract, services, reasons), [contract, services, reasons]);
  const small = useSmall();
  const [drawer, setDrawer] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const here = useHere();
  useKeys(
    () => {
      setDrawer(true);
      requestAnimationFrame(() => field.current?.focus());
    },
    () => setDrawer(false),
  );

  return (
    <Links value={links}>
      <div className={drawer ? "reference drawer-open" : "reference"}>
        <a className="skip" href="#begin">
          To the text
        </a>
        <Side
          services={services}
          entries={entries}
          here={here}
          hidden={small && !drawer}
          field={field}
          close={() => setDrawer(false)}
        />
        {small && drawer && (
          <button type="button" className="veil" aria-label="Close the contents" onClick={() => setDrawer(false)} />
        )}
        <main inert={small && drawer} data-testid="reading">
          <header className="head">
            <button
              type="button"
              className="quiet icon-only only-small"
              onClick={() => setDrawer(true)}
              aria-label="Contents"
              aria-controls="sidebar"
              aria-expanded={drawer}
              data-testid="open-drawer"
            >
              <Icon name="menu" />
            </button>
            <h1>{contract.info.title} API</h1>
            <span className="version">{contract.info.version}</span>
          </header>
          <Guides reasons={reasons} />
          {services.map(({ id, name, description, operations }) => (
            <section key={id} id={id} className="service" aria-labelledby={`${id}.name`}>
              <header>
                <h2 id={`${id}.name`}>{name}</h2>
                <div className="says">
                  <Prose text={description} />
                </div>
              </header>
              {operations.map((operation) => (
                <OperationView key={operation.id} contract={contract} operation={operation} />
              ))}
            </section>
          ))}
          {services.length === 0 && (
            <p className="none">
              <Line text="The contract binds no operation to HTTP." />
            </p>
          )}
        </main>
      </div>
    </Links>
  );
}

/** `/` goes to the search, Esc closes the drawer. */
function useKeys(search: () => void, close: () => void): void {
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const writing = event.target instanceof HTMLInputElement;
      if (event.key === "Escape") close();
      if (event.key !== "/" || writing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      search();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
}
