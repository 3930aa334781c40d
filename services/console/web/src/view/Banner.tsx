/** Says that a part is down, and when it is tried again. Gone when all is well. */
import { type ReactNode, useEffect, useState } from "react";
import type { ChatView } from "../chat/chat";
import type { Refusal } from "../wire/refusal";
import { downTitle } from "./words";

interface BannerProps {
  down: Refusal | undefined;
  trouble: ChatView["trouble"];
}

export function Banner({ down, trouble }: BannerProps): ReactNode {
  const cause = down ?? trouble?.cause;
  if (!cause) return null;
  return (
    <div className="banner" role="status" data-testid="banner" data-reason={cause.reason}>
      <i className="beat" />
      <span>
        <strong>{downTitle(cause.reason)}.</strong> {cause.message}{" "}
        {trouble ? <Countdown toMs={trouble.againAtMs} /> : "Looking again every few seconds."}
      </span>
    </div>
  );
}

function Countdown({ toMs }: { toMs: number }): ReactNode {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.ceil((toMs - now) / 1000);
  return seconds > 0 ? `Trying again in ${seconds} s.` : "Trying again now.";
}
