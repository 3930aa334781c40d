/**
 * A web page in a frame that has neither this page's origin nor a network. A new text gets a frame of its own, which
 * takes the old one's place once it has drawn it: nothing flickers.
 */
import { memo, type ReactNode, useEffect, useRef, useState } from "react";

interface PreviewProps {
  /** The pane's name. */
  pane: string;
  text: string;
  title: string;
}

/** Holds the panes that run in this tab. One that is still in it when the page begins has brought the page down. */
const RUNNING = "soma.running.";

/** How long a text that still changes is waited for, and how long a frame may take to say that it has drawn. */
const CALM_MS = 400;
const DRAWN_MS = 4_000;

interface Frame {
  number: number;
  text: string;
}

export function Preview(props: PreviewProps): ReactNode {
  const [held, setHeld] = useState(() => sessionStorage.getItem(RUNNING + props.pane) !== null);
  if (!held) return <Running key={props.pane} {...props} />;
  return (
    <div className="picture" data-testid="preview-held">
      <p className="picture-note">
        This page is not run by itself: the last time, SomaAgent was ended while it ran. Its source can be read and
        changed without running it.
      </p>
      <button type="button" className="soft" onClick={() => setHeld(false)}>
        Run it again
      </button>
    </div>
  );
}

const Running = memo(function Running({ pane, text, title }: PreviewProps) {
  useEffect(() => {
    const over = (): void => sessionStorage.removeItem(RUNNING + pane);
    sessionStorage.setItem(RUNNING + pane, "");
    addEventListener("pagehide", over);
    return () => {
      removeEventListener("pagehide", over);
      over();
    };
  }, [pane]);
  const [frames, setFrames] = useState<Frame[]>([{ number: 0, text }]);
  const newest = frames.at(-1);
  useEffect(() => {
    if (newest?.text === text) return;
    const timer = setTimeout(
      () => setFrames((now) => [...now.slice(-1), { number: (now.at(-1)?.number ?? 0) + 1, text }]),
      CALM_MS,
    );
    return () => clearTimeout(timer);
  }, [text, newest]);
  const again = (): void => setFrames(([last]) => [{ number: (last?.number ?? 0) + 1, text }]);
  return (
    <div className="preview">
      <div className="preview-frames">
        {frames.map((frame) => (
          <Sandbox
            key={frame.number}
            text={frame.text}
            title={title}
            front={frame === newest || frames.length === 1}
            drawn={() => setFrames((now) => now.filter(({ number }) => number >= frame.number))}
          />
        ))}
      </div>
      <p className="preview-note" data-testid="preview-note">
        The preview cannot reach the network or this page.
        <button type="button" className="link" onClick={again} data-testid="preview-again">
          Run again
        </button>
      </p>
    </div>
  );
});

interface SandboxProps {
  text: string;
  title: string;
  front: boolean;
  drawn: () => void;
}

function Sandbox({ text, title, front, drawn }: SandboxProps): ReactNode {
  const frame = useRef<HTMLIFrameElement>(null);
  const told = useRef(drawn);
  told.current = drawn;
  const [ready, setReady] = useState(false);
  useEffect(() => {
    let asked = false;
    const finish = (): void => {
      setReady(true);
      told.current();
    };
    const hear = ({ source, data }: MessageEvent<unknown>): void => {
      if (source === null || source !== frame.current?.contentWindow || !isWord(data)) return;
      if (data.soma === "drawn") return finish();
      // The frame's origin is opaque, so none can be named; it gets nothing but its own text, and that once.
      if (!asked) frame.current.contentWindow?.postMessage({ soma: "pane", text }, "*");
      asked = true;
    };
    addEventListener("message", hear);
    const timer = setTimeout(finish, DRAWN_MS);
    return () => {
      removeEventListener("message", hear);
      clearTimeout(timer);
    };
  }, [text]);
  return (
    <iframe
      ref={frame}
      src="/pane.html"
      sandbox="allow-scripts"
      allow=""
      referrerPolicy="no-referrer"
      title={`Preview of ${title}`}
      className={front && ready ? "ready" : undefined}
      data-testid="preview"
      data-ready={ready}
    />
  );
}

/** The two things that a frame may say. */
function isWord(data: unknown): data is { soma: "ready" | "drawn" } {
  if (typeof data !== "object" || data === null || !("soma" in data)) return false;
  return data.soma === "ready" || data.soma === "drawn";
}
