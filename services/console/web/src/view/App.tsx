/** The door: nobody, somebody, or somebody whose session has ended. */
import { type ReactNode, useEffect, useState } from "react";
import { type House, openHouse } from "../house";
import type { Person } from "../session/person";
import type { Session } from "../session/session";
import { useStore } from "../store";
import { Landing, Leaving } from "./Landing";
import { Rooms } from "./Rooms";

export function App({ session }: { session: Session }): ReactNode {
  const view = useStore(session.view);
  switch (view.is) {
    case "starting":
      return null;
    case "signed-out":
      return <Landing note={view.note} signIn={() => session.signIn()} />;
    case "leaving":
      return <Leaving />;
    default:
      return (
        <Inside key={view.person.subject} session={session} person={view.person} expired={view.is === "expired"} />
      );
  }
}

interface InsideProps {
  session: Session;
  person: Person;
  expired: boolean;
}

/** Opens a house for the person, and closes it when they leave. */
function Inside({ session, person, expired }: InsideProps): ReactNode {
  const [house, setHouse] = useState<House>();
  useEffect(() => {
    const opened = openHouse(session);
    setHouse(opened);
    return opened.close;
  }, [session]);
  if (!house) return null;
  const signIn = (): void => void session.signIn().catch(() => undefined);
  return (
    <Rooms house={house} person={person} expired={expired} signIn={signIn} signOut={() => void session.signOut()} />
  );
}
