/** What kinds of panes are called, and their pictures. */
import type { PaneKind } from "../../wire/types";
import type { IconName } from "../icons";

interface Kind {
  label: string;
  icon: IconName;
}

const KINDS: Record<string, Kind> = {
  code: { label: "Code", icon: "code" },
  html: { label: "Web page", icon: "globe" },
  chat: { label: "Text", icon: "chat" },
  table: { label: "Table", icon: "table" },
  image: { label: "Image", icon: "image" },
  log: { label: "Log", icon: "log" },
};

export const KIND_NAMES = Object.keys(KINDS) as PaneKind[];

export const kindOf = (kind: string | undefined): Kind => KINDS[kind ?? "code"] ?? { label: "Code", icon: "code" };
