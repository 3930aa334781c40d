/** Why this model answered: what was asked for, what was looked at, what it cost. */
import { type ReactNode, useRef, useState } from "react";
import type { TurnView } from "../turn/turn";
import type { Candidate, Decision } from "../wire/types";
import { count, dollars, duration, percent, tierName } from "./format";
import { Icon } from "./icons";
import { useReveal } from "./scroll";
import { spoken } from "./words";

const BUILT_IN = "policies/0";

export function WhyModel({ turn, decision }: { turn: TurnView; decision: Decision }): ReactNode {
  const versions = versionsOf(decision);
  return (
    <section className="why" aria-label="Why this model" data-testid="why-panel">
      {decision.why && <p className="why-sentence">{spoken(decision.why)}</p>}
      <dl>
        {facts(turn, decision).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {versions.length > 0 && <p className="prices">{versions.join(" · ")}</p>}
      {decision.candidates?.length ? <Candidates candidates={decision.candidates} chosen={decision} /> : null}
    </section>
  );
}

/** By what it was decided. */
function versionsOf({ prices, policy }: Decision): string[] {
  const said: string[] = [];
  if (prices) said.push(`Prices: ${prices}`);
  if (policy) said.push(`Policy: ${policy}${policy === BUILT_IN ? " (built in)" : ""}`);
  return said;
}

function facts(turn: TurnView, decision: Decision): [string, ReactNode][] {
  const { usage } = turn;
  const asked = tierName(decision.requestedTier ?? turn.tier);
  const answered = tierName(decision.tier);
  const spent =
    turn.phase === "running" ? `about ${dollars(decision.estimatedCostMicrousd)}` : dollars(turn.costMicrousd);
  const all: [string, ReactNode][] = [
    ["Model", decision.model],
    ["Provider", decision.provider],
    ["Tier", asked === answered ? answered : `${asked} asked, ${answered} answered`],
    ["Cost", spent],
    ["First token", turn.firstTokenMs ? duration(turn.firstTokenMs) : ""],
    ["Whole answer", turn.endedAt && turn.askedAt ? duration(Date.parse(turn.endedAt) - Date.parse(turn.askedAt)) : ""],
    [
      "Tokens",
      usage &&
        `${count(usage.inputTokens)} in, ${count(usage.outputTokens)} out${usage.estimated ? " (estimated)" : ""}`,
    ],
    ["Context window", decision.windowTokens ? `${count(decision.windowTokens)} tokens` : ""],
  ];
  return all.filter(([, value]) => value);
}

function Candidates({ candidates, chosen }: { candidates: Candidate[]; chosen: Decision }): ReactNode {
  const [all, setAll] = useState(false);
  const table = useRef<HTMLDivElement>(null);
  useReveal(table, all);
  const open = candidates.filter(({ closed }) => !closed);
  const closed = candidates.filter(({ closed }) => closed);
  const row = (candidate: Candidate): ReactNode => (
    <Row key={`${candidate.provider}/${candidate.model}`} candidate={candidate} chosen={isChosen(candidate, chosen)} />
  );
  return (
    <div ref={table} className="table" tabIndex={0} role="region" aria-label="Models that were looked at">
      <table data-testid="candidates">
        <thead>
          <tr>
            <th>Model</th>
            <th>Score</th>
            <th className="to-right">Cost</th>
            <th className="to-right">Latency</th>
            <th className="to-right">Quality</th>
          </tr>
        </thead>
        <tbody>
          {open.map(row)}
          {closed.length > 0 && (
            <tr>
              <td colSpan={5} className="fold">
                <button
                  type="button"
                  className="quiet"
                  aria-expanded={all}
                  onClick={() => setAll(!all)}
                  data-testid="closed-toggle"
                >
                  {closed.length === 1 ? "1 other was" : `${closed.length} others were`} closed <Icon name="chevron" />
                </button>
              </td>
            </tr>
          )}
          {all && closed.map(row)}
        </tbody>
      </table>
    </div>
  );
}

function Row({ candidate, chosen }: { candidate: Candidate; chosen: boolean }): ReactNode {
  const { model, provider, tier, closed, score = 0, quality = 0, probability = 1 } = candidate;
  return (
    <tr className={closed ? "closed" : chosen ? "chosen" : undefined}>
      <td>
        <span className="model">{model}</span>
        <span className="provider">
          {provider} · {tierName(tier)}
        </span>
        {chosen && <span className="visually-hidden"> (chosen)</span>}
      </td>
      {closed ? (
        <td colSpan={4} className="reason">
          {spoken(closed)}
        </td>
      ) : (
        <>
          <td className="score">
            <meter min={0} max={1} value={score} aria-label="Score" />
            {score.toFixed(2)}
            {probability > 0 && probability < 1 && <span className="chance">{percent(probability)} chance</span>}
          </td>
          <td className="to-right">{dollars(candidate.costMicrousd)}</td>
          <td className="to-right">{duration(candidate.latencyMs ?? 0)}</td>
          <td className="to-right">{quality > 0 && percent(quality)}</td>
        </>
      )}
    </tr>
  );
}

const isChosen = (candidate: Candidate, decision: Decision): boolean =>
  candidate.model === decision.model && candidate.provider === decision.provider;
