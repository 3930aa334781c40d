/** Which tier is tried first. */
import type { ReactNode } from "react";
import type { Tier } from "../wire/types";
import { tierName } from "./format";

const TIERS: { tier: Tier; hint: string }[] = [
  { tier: "premium", hint: "The strongest models, at the highest price" },
  { tier: "standard", hint: "Good models at a fair price" },
  { tier: "slm", hint: "Small language models: fast, cheap, often on this machine" },
];

export function TierPicker({ tier, choose }: { tier: Tier; choose: (tier: Tier) => void }): ReactNode {
  return (
    <fieldset className="tiers" data-testid="tiers">
      <legend className="visually-hidden">Model tier</legend>
      {TIERS.map(({ tier: each, hint }) => (
        <label key={each} title={hint}>
          <input type="radio" name="tier" value={each} checked={tier === each} onChange={() => choose(each)} />
          <span>{tierName(each)}</span>
        </label>
      ))}
    </fieldset>
  );
}
