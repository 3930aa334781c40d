/** What an empty conversation shows. */
import type { ReactNode } from "react";
import { Mark } from "./icons";

const EXAMPLES = [
  { title: "Explain an idea", question: "Explain what mutual TLS is, as if to a new colleague, in five sentences." },
  {
    title: "Compare in a table",
    question: "Compare TCP, UDP and QUIC in a table: ordering, handshake, where each is used.",
  },
  { title: "Write some code", question: "Write a Python function that merges overlapping intervals, with two tests." },
  { title: "Think it over", question: "What should I check before I move a Postgres database to a new machine?" },
];

export function Welcome({ person, ask }: { person: string; ask: (question: string) => void }): ReactNode {
  return (
    <section className="welcome" data-testid="welcome">
      <Mark />
      <h1>
        {greeting(new Date().getHours())}, {person.split(" ")[0]}.
      </h1>
      <p>Ask anything. Under each answer you can see which model gave it, why, and what it cost.</p>
      <ul>
        {EXAMPLES.map(({ title, question }) => (
          <li key={title}>
            <button type="button" onClick={() => ask(question)} data-testid="example">
              <strong>{title}</strong>
              <span>{question}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function greeting(hour: number): string {
  if (hour < 5) return "Good evening";
  if (hour < 12) return "Good morning";
  return hour < 18 ? "Good afternoon" : "Good evening";
}
