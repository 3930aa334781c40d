/** Light, dark, or as the system says; remembered in this browser. */
export type Theme = "system" | "light" | "dark";

const KEY = "soma.theme";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

export function rememberedTheme(): Theme {
  const theme = localStorage.getItem(KEY);
  return theme === "light" || theme === "dark" ? theme : "system";
}

export function applyTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  localStorage.setItem(KEY, theme);
}

export const nextTheme = (theme: Theme): Theme => NEXT[theme];
