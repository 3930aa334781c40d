/** How this browser likes its panes. */
const WRAP = "soma.wrap";
const SPLIT = "soma.split";

export const rememberedWrap = (): boolean => localStorage.getItem(WRAP) === "yes";
export const rememberWrap = (wrap: boolean): void => localStorage.setItem(WRAP, wrap ? "yes" : "no");

/** How much the first part of each split has, in per cent: the chat beside the panes, one pane beside another. */
export type Split = "chat" | "panes";

export function rememberedSplit(split: Split): number {
  const share = Number(localStorage.getItem(`${SPLIT}.${split}`));
  return share >= 10 && share <= 90 ? share : split === "chat" ? 46 : 50;
}

export const rememberSplit = (split: Split, share: number): void =>
  localStorage.setItem(`${SPLIT}.${split}`, String(share));
