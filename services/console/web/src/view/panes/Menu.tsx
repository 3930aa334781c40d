/** A button with a list of deeds under it. */
import { type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { Icon, type IconName } from "../icons";

export interface Item {
  label: string;
  icon?: IconName;
  act: () => void;
  handle?: string;
  /** For what is on or off. */
  on?: boolean;
  grave?: boolean;
}

interface MenuProps {
  label: string;
  icon: IconName;
  items: Item[];
  handle: string;
}

export function Menu({ label, icon, items, handle }: MenuProps): ReactNode {
  const [open, setOpen] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    place.current?.querySelector<HTMLElement>("[role^=menuitem]")?.focus();
    const outside = (event: Event): void => {
      if (!place.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);
  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  const press = (event: KeyboardEvent): void => {
    const all = [...(place.current?.querySelectorAll<HTMLElement>("[role^=menuitem]") ?? [])];
    const here = all.indexOf(document.activeElement as HTMLElement);
    const step: Record<string, number> = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: all.length - 1 };
    if (event.key === "Escape" || event.key === "Tab") {
      if (event.key === "Escape") event.preventDefault();
      return close();
    }
    const next = step[event.key];
    if (next === undefined) return;
    event.preventDefault();
    all.at(next % all.length)?.focus();
  };
  return (
    <div className="menu-place" ref={place}>
      <button
        ref={button}
        type="button"
        className="quiet icon-only"
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={label}
        title={label}
        onClick={() => setOpen(!open)}
        data-testid={handle}
      >
        <Icon name={icon} />
      </button>
      {open && (
        <div className="menu" role="menu" aria-label={label} onKeyDown={press}>
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role={item.on === undefined ? "menuitem" : "menuitemcheckbox"}
              aria-checked={item.on}
              className={item.grave ? "grave" : undefined}
              tabIndex={-1}
              onClick={() => {
                close();
                item.act();
              }}
              data-testid={item.handle}
            >
              <Icon name={item.on ? "check" : (item.icon ?? "chevron")} />
              {item.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
