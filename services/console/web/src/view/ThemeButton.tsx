/** Goes round: system, light, dark. */
import { type ReactNode, useState } from "react";
import { applyTheme, nextTheme, rememberedTheme } from "../theme";
import { Icon } from "./icons";

const ICONS = { system: "screen", light: "sun", dark: "moon" } as const;

export function ThemeButton(): ReactNode {
  const [theme, setTheme] = useState(rememberedTheme);
  const turn = (): void => {
    const next = nextTheme(theme);
    applyTheme(next);
    setTheme(next);
  };
  return (
    <button
      type="button"
      className="quiet icon-only"
      onClick={turn}
      aria-label={`Theme: ${theme}`}
      title={`Theme: ${theme}`}
      data-testid="theme"
    >
      <Icon name={ICONS[theme]} />
    </button>
  );
}
