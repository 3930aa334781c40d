/** Code beside the text that explains it. It is coloured when it comes near the screen: there may be hundreds. */
import { type ReactNode, useEffect, useRef, useState } from "react";
import { Code } from "../markdown/Code";
import { CopyButton } from "../view/CopyButton";

interface SampleProps {
  code: string;
  language: string;
  /** What it is: "Call it". */
  title: string;
  handle?: string;
}

export function Sample({ code, language, title, handle }: SampleProps): ReactNode {
  const place = useRef<HTMLDivElement>(null);
  const near = useNear(place);
  return (
    <div className="sample" ref={place} data-testid={handle}>
      <h4>{title}</h4>
      {near ? <Code code={code} language={language} growing={false} /> : <Plain code={code} language={language} />}
    </div>
  );
}

/** As high and wide as it is once coloured. */
function Plain({ code, language }: { code: string; language: string }): ReactNode {
  return (
    <figure className="code">
      <figcaption>
        <span>{language}</span>
        <CopyButton text={code} label="Copy code" />
      </figcaption>
      <pre>
        <code>{code}</code>
      </pre>
    </figure>
  );
}

function useNear(place: React.RefObject<HTMLElement | null>): boolean {
  const [near, setNear] = useState(false);
  useEffect(() => {
    const element = place.current;
    if (!element || near) return;
    const eye = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && setNear(true), {
      rootMargin: "600px",
    });
    eye.observe(element);
    return () => eye.disconnect();
  }, [place, near]);
  return near;
}
