/** Why this model answered: what was asked for, what was looked at, what it cost. */
import type { ReactNode } from "react";
import type { TurnView } from "../turn/turn";
import type { Candidate, Decision } from "../wire/types";
import { count, dollars, duration, tierName } from "./format";

export function WhyModel({ turn, decision }: { turn: TurnView; decision: Decision }): ReactNode {
  return (
    <section className="why" aria-label="Why this model" data-testid="why-panel">
      {decision.why && <p className="why-sentence">{decision.why}</p>}
      <dl>
        {facts(turn, decision).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {decision.candidates?.length ? <Candidates candidates={decision.candidates} chosen={decision} /> : null}
    </section>
  );
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
    ["Prices", decision.prices],
  ];
  return all.filter(([, value]) => value);
}

function Candidates({ candidates, chosen }: { candidates: Candidate[]; chosen: Decision }): ReactNode {
  return (
    <div className="table" tabIndex={0} role="region" aria-label="Models that were looked at">
      <table data-testid="candidates">
        <thead>
          <tr>
            <th>Model</th>
            <th>Score</th>
            <th className="to-right">Cost</th>
            <th className="to-right">Latency</th>
          </tr>
        </thead>
        <tbody>
          {candidates.map((candidate) => (
            <Row
              key={`${candidate.provider}/${candidate.model}`}
              candidate={candidate}
              chosen={isChosen(candidate, chosen)}
            />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ candidate, chosen }: { candidate: Candidate; chosen: boolean }): ReactNode {
  const { model, provider, tier, closed, score = 0 } = candidate;
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
        <td colSpan={3} className="reason">
          {closed}
        </td>
      ) : (
        <>
          <td className="score">
            <meter min={0} max={1} value={score} aria-label="Score" />
            {score.toFixed(2)}
          </td>
          <td className="to-right">{dollars(candidate.costMicrousd)}</td>
          <td className="to-right">{duration(candidate.latencyMs ?? 0)}</td>
        </>
      )}
    </tr>
  );
}

const isChosen = (candidate: Candidate, decision: Decision): boolean =>
  candidate.model === decision.model && candidate.provider === decision.provider;
