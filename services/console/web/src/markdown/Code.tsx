/** A block of code, with a button that copies it. */
import { memo, type ReactNode } from "react";
import { CopyButton } from "../view/CopyButton";
import { Coloured } from "./Coloured";

interface CodeProps {
  code: string;
  language: string;
  growing: boolean;
  /** What else stands in its head. */
  children?: ReactNode;
}

export const Code = memo(function Code({ code, language, growing, children }: CodeProps) {
  return (
    <figure className="code" data-testid="code-block">
      <figcaption>
        <span>{language || "text"}</span>
        {children}
        <CopyButton text={code} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>
          <Coloured code={code} language={language} growing={growing} />
        </code>
      </pre>
    </figure>
  );
});
