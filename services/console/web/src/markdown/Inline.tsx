/** What stands inside a line of markdown. Raw HTML is shown as text, images as links. */
import type { Token, Tokens } from "marked";
import type { ReactNode } from "react";
import { decoded } from "./entities";

const SAFE = /^(https?:|mailto:)/i;

export function Inline({ tokens }: { tokens: Token[] | undefined }): ReactNode {
  return tokens?.map((token, i) => <One key={i} token={token} />);
}

function One({ token }: { token: Token }): ReactNode {
  switch (token.type) {
    case "strong":
      return (
        <strong>
          <Inline tokens={token.tokens} />
        </strong>
      );
    case "em":
      return (
        <em>
          <Inline tokens={token.tokens} />
        </em>
      );
    case "del":
      return (
        <del>
          <Inline tokens={token.tokens} />
        </del>
      );
    case "codespan":
      return <code>{(token as Tokens.Codespan).text}</code>;
    case "br":
      return <br />;
    case "link":
      return <Anchor href={(token as Tokens.Link).href} label={<Inline tokens={token.tokens} />} />;
    case "image":
      return (
        <Anchor
          href={(token as Tokens.Image).href}
          label={`Image: ${(token as Tokens.Image).text || "without a name"}`}
        />
      );
    case "checkbox":
      return null; // its list item draws it
    case "html":
      return token.raw;
    default:
      return token.type === "text" && "tokens" in token && token.tokens ? (
        <Inline tokens={token.tokens} />
      ) : (
        decoded("text" in token ? String(token.text) : token.raw)
      );
  }
}

function Anchor({ href, label }: { href: string; label: ReactNode }): ReactNode {
  if (!SAFE.test(href)) return label;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {label}
    </a>
  );
}
