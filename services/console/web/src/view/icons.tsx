/** The pictures on buttons: strokes in the colour of the text. */
import type { ReactNode } from "react";

const PATHS = {
  plus: "M12 5v14M5 12h14",
  pen: "M4 20h4L19 9l-4-4L4 16v4M13.5 6.5l4 4",
  bin: "M4 7h16M10 11v6M14 11v6M6 7l1 12a1 1 0 0 0 1 1h8a1 1 0 0 0 1-1l1-12M9 7V4h6v3",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  up: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  chevron: "M7 10l5 5 5-5",
  menu: "M4 7h16M4 12h16M4 17h10",
  close: "M6 6l12 12M18 6L6 18",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z",
  screen: "M4 5h16v11H4zM9 20h6M12 16v4",
  leave: "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
  warning: "M12 4l9 16H3zM12 10v4M12 17.2v.1",
  again: "M19 12a7 7 0 1 1-2-4.9L19 9M19 4v5h-5",
  panes: "M4 5h16v14H4zM13 5v14",
  code: "M9 8l-4 4 4 4M15 8l4 4-4 4",
  globe: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M4 12h16M12 4c-5 5-5 11 0 16M12 4c5 5 5 11 0 16",
  log: "M5 7h14M5 12h9M5 17h12",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 4M15.5 9v.1",
  table: "M4 5h16v14H4zM4 10h16M4 14.5h16M10 5v14",
  chat: "M5 5h14v11h-8l-4 4v-4H5z",
  save: "M5 5h11l3 3v11H5zM8 5v5h7V5M8 19v-5h8v5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  history: "M5 12a7 7 0 1 0 2-4.9L5 9M5 4v5h5M12 8v4l3 2",
  differ: "M7 5v14M4 8h6M14 16h6M17 5v8",
  more: "M5.4 12h.2M11.9 12h.2M18.4 12h.2",
  back: "M14 6l-6 6 6 6",
  wrap: "M4 7h16M4 12h13a3 3 0 0 1 0 6h-4M15 16l-2 2 2 2M4 17h5",
  search: "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12M15.5 15.5L20 20",
  "thumb-up": "M7 11v9H4v-9zM7 11l4-7a2.2 2.2 0 0 1 2.2 2.6L12.5 10H18a2 2 0 0 1 2 2.3l-1 6A2 2 0 0 1 17 20H7",
  "thumb-down": "M7 13V4H4v9zM7 13l4 7a2.2 2.2 0 0 0 2.2-2.6L12.5 14H18a2 2 0 0 0 2-2.3l-1-6A2 2 0 0 0 17 4H7",
  sort: "M8 10l4-4 4 4M8 14l4 4 4-4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): ReactNode {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** A cell with its nucleus: soma. */
export function Mark(): ReactNode {
  return (
    <svg className="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path
        className="cell"
        d="M16 2.5c8 0 13.5 5.2 13.5 13 0 8.2-5.7 14-13.9 14C7.6 29.5 2.5 24 2.5 16.2 2.5 8.2 8 2.5 16 2.5z"
      />
      <circle className="nucleus" cx="18.5" cy="14" r="5" />
    </svg>
  );
}
