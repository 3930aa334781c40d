/** Says that a part is down and when it is tried again, and for a moment that all is well again. */
import { type ReactNode, useEffect, useState } from "react";
import type { ChatView } from "../chat/chat";
import type { MeshView } from "../chat/mesh";
import { downSentence } from "./words";

interface BannerProps {
  mesh: MeshView;
  trouble: ChatView["trouble"];
}

export function Banner({ mesh, trouble }: BannerProps): ReactNode {
  const down = mesh.is === "down" ? mesh : undefined;
  const cause = down?.cause ?? trouble?.cause;
  const againAtMs = trouble?.againAtMs ?? down?.againAtMs ?? 0;
  if (cause)
    return (
      <div className="banner" role="status" data-testid="banner" data-reason={cause.reason}>
        <i className="beat" />
        <span>
          <strong>{downSentence(cause)}</strong>
          <Countdown key={againAtMs} toMs={againAtMs} />
        </span>
      </div>
    );
  if (mesh.is !== "back") return null;
  return (
    <div className="banner back" role="status" data-testid="back">
      <i className="beat" />
      <span>All parts of the mesh are up again.</span>
    </div>
  );
}

/** Hidden from people who listen: it would be read to them every second. */
function Countdown({ toMs }: { toMs: number }): ReactNode {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.ceil((toMs - now) / 1000);
  return <span aria-hidden="true">; trying again {seconds > 0 ? `in ${seconds} s` : "now"}.</span>;
}
