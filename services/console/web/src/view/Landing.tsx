/** What a person sees before they sign in. */
import { type ReactNode, useState } from "react";
import { Mark } from "./icons";

interface LandingProps {
  note: string | undefined;
  signIn: () => Promise<void>;
}

export function Landing({ note, signIn }: LandingProps): ReactNode {
  const [said, setSaid] = useState(note);
  const [leaving, setLeaving] = useState(false);
  const go = (): void => {
    setLeaving(true);
    signIn().catch((error: Error) => {
      setSaid(error.message);
      setLeaving(false);
    });
  };
  return (
    <main className="landing" data-testid="landing">
      <Mark />
      <h1>SomaAgent</h1>
      <p>Ask, and see which model answers, why, and at what price.</p>
      <button type="button" className="primary" onClick={go} disabled={leaving} data-testid="sign-in">
        Sign in
      </button>
      {said && (
        <p className="note" role="alert">
          {said}
        </p>
      )}
    </main>
  );
}

export function Leaving(): ReactNode {
  return (
    <main className="landing">
      <Mark />
      <p role="status">Signing out</p>
    </main>
  );
}
