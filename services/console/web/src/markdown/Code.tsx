/** A block of code: coloured once its language is loaded, with a button that copies it. */
import type { ElementContent, Root } from "hast";
import { memo, type ReactNode, useEffect, useMemo, useState } from "react";
import { CopyButton } from "../view/CopyButton";

type Colour = (code: string, language: string) => Root | undefined;

/** Code longer than this is not coloured while it still grows. */
const GROWING_LIMIT = 12_000;

interface CodeProps {
  code: string;
  language: string;
  growing: boolean;
}

export const Code = memo(function Code({ code, language, growing }: CodeProps) {
  const colour = useColour(language);
  const tree = useMemo(
    () => (growing && code.length > GROWING_LIMIT ? undefined : colour?.(code, language)),
    [colour, code, language, growing],
  );
  return (
    <figure className="code" data-testid="code-block">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={code} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{tree ? tree.children.map((node, i) => rendered(node as ElementContent, i)) : code}</code>
      </pre>
    </figure>
  );
});

function useColour(language: string): Colour | undefined {
  const [colour, setColour] = useState<Colour>();
  useEffect(() => {
    let here = true;
    if (language) {
      const loaded = import("./languages");
      loaded.then(
        ({ coloured }) => here && setColour(() => coloured),
        () => undefined,
      );
    }
    return () => {
      here = false;
    };
  }, [language]);
  return colour;
}

function rendered(node: ElementContent, key: number): ReactNode {
  if (node.type === "text") return node.value;
  if (node.type !== "element") return null;
  const classes = node.properties["className"];
  return (
    <span key={key} className={Array.isArray(classes) ? classes.join(" ") : ""}>
      {node.children.map(rendered)}
    </span>
  );
}
