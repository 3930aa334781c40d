/** What an empty conversation shows. */
import type { ReactNode } from "react";
import type { Person } from "../session/person";
import { Mark } from "./icons";

/** Answered well by a model of 135 million parameters too. */
const EXAMPLES = [
  { title: "Understand the world", question: "Explain in a few sentences why the sky is blue." },
  { title: "Write some code", question: "Write a Python function that says whether a word is a palindrome." },
  { title: "Learn a term", question: "What is mutual TLS?" },
  { title: "Get a list", question: "Give me five tips for a good night's sleep." },
];

export function Welcome({ person, ask }: { person: Person; ask: (question: string) => void }): ReactNode {
  return (
    <section className="welcome" data-testid="welcome">
      <Mark />
      <h1>{[greeting(new Date().getHours()), ...firstName(person)].join(", ")}.</h1>
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

/** None when they are called by their role, as the demo accounts are. */
function firstName({ name, roles }: Person): string[] {
  const [first = ""] = name.split(" ");
  return !first || roles.includes(first.toLowerCase()) ? [] : [first];
}

function greeting(hour: number): string {
  if (hour < 5) return "Good evening";
  if (hour < 12) return "Good morning";
  return hour < 18 ? "Good afternoon" : "Good evening";
}
