/** Code in its colours. Long code is coloured piece by piece, and only where somebody looks. */
import type { ElementContent, Root } from "hast";
import { memo, type ReactNode, type RefObject, useEffect, useMemo, useRef, useState } from "react";
import { type Chunk, grownChunks } from "../canvas/chunks";

type Colour = (code: string, language: string) => Root | undefined;

/** A piece longer than this is not coloured while it still grows. */
const GROWING_LIMIT = 6_000;
/** A piece longer than this, which is one of very long lines, is not coloured at all. */
const PIECE_LIMIT = 60_000;
const NEAR = "600px";

interface ColouredProps {
  code: string;
  language: string;
  growing?: boolean;
  /** Numbers before the lines. */
  numbered?: boolean;
}

export const Coloured = memo(function Coloured({ code, language, growing = false, numbered = false }: ColouredProps) {
  const colour = useColour(language);
  const chunks = useChunks(code, growing);
  return chunks.map((chunk, i) => (
    <Piece
      key={i}
      chunk={chunk}
      first={i === 0}
      many={chunks.length > 1}
      plain={growing && i === chunks.length - 1 && chunk.text.length > GROWING_LIMIT}
      colour={colour}
      language={language}
      numbered={numbered}
    />
  ));
});

function useChunks(code: string, growing: boolean): Chunk[] {
  const before = useRef<{ code: string; chunks: Chunk[] }>({ code: "", chunks: [] });
  return useMemo(() => {
    const chunks = grownChunks(before.current.chunks, before.current.code, code, growing);
    before.current = { code, chunks };
    return chunks;
  }, [code, growing]);
}

interface PieceProps {
  chunk: Chunk;
  first: boolean;
  many: boolean;
  plain: boolean;
  colour: Colour | undefined;
  language: string;
  numbered: boolean;
}

const Piece = memo(
  function Piece({ chunk: { text, line, lines }, first, many, plain, colour, language, numbered }: PieceProps) {
    const box = useRef<HTMLSpanElement>(null);
    const near = useNear(box, first);
    const coloured = near && !plain && text.length < PIECE_LIMIT;
    const tree = useMemo(() => (coloured ? colour?.(text, language) : undefined), [coloured, colour, text, language]);
    return (
      <span
        className="piece"
        ref={box}
        style={many && numbered ? { containIntrinsicHeight: `auto ${lines}lh` } : undefined}
      >
        {numbered && (
          <span className="line-numbers" aria-hidden="true">
            {Array.from({ length: lines }, (_, i) => line + i).join("\n")}
          </span>
        )}
        <span className="piece-text">
          {tree ? tree.children.map((node, i) => rendered(node as ElementContent, i)) : text}
        </span>
      </span>
    );
  },
  (before, after) =>
    before.chunk.text === after.chunk.text &&
    before.chunk.line === after.chunk.line &&
    before.many === after.many &&
    before.plain === after.plain &&
    before.colour === after.colour &&
    before.language === after.language &&
    before.numbered === after.numbered,
);

/** Whether it has come near to what is seen. Once it has, it stays so. */
function useNear(box: RefObject<HTMLElement | null>, already: boolean): boolean {
  const [near, setNear] = useState(already);
  useEffect(() => {
    if (near || !box.current) return;
    const look = new IntersectionObserver(([entry]) => entry?.isIntersecting && setNear(true), { rootMargin: NEAR });
    look.observe(box.current);
    return () => look.disconnect();
  }, [near, box]);
  return near;
}

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
