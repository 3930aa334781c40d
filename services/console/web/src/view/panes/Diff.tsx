/** Two texts and what is different: in one column, or beside each other where there is room. */
import { Fragment, memo, type ReactNode, type RefObject, useLayoutEffect, useMemo, useRef, useState } from "react";
import { diffOf, type Row, sideBySide, type Stretch, stretches, tally } from "../../canvas/diff";
import { count } from "../format";

interface DiffProps {
  before: string;
  after: string;
  beforeName: string;
  afterName: string;
}

/** Two columns need so much room. */
const WIDE_PX = 720;
/** So many rows are drawn; more would make a page that stands still. */
const MOST_ROWS = 1_200;

export const Diff = memo(function Diff({ before, after, beforeName, afterName }: DiffProps) {
  const box = useRef<HTMLDivElement>(null);
  const wide = useWide(box);
  const rows = useMemo(() => diffOf(before, after), [before, after]);
  const { added, removed } = useMemo(() => tally(rows), [rows]);
  const [all, setAll] = useState(false);
  const shown = useMemo(() => cutTo(all ? [{ rows }] : stretches(rows), MOST_ROWS), [rows, all]);
  return (
    <div className="diff" ref={box} data-testid="diff" data-wide={wide}>
      <p className="diff-head">
        <span>
          {beforeName} → {afterName}
        </span>
        <span className="tally" data-testid="diff-tally">
          <ins>+{count(added)}</ins> <del>−{count(removed)}</del>
        </span>
      </p>
      {added + removed === 0 ? (
        <p className="hint">The two are the same.</p>
      ) : (
        <div
          className="diff-rows"
          tabIndex={0}
          role="region"
          aria-label={`What changed: ${beforeName} to ${afterName}`}
        >
          {shown.stretches.map((stretch, i) => (
            <Fragment key={i}>
              {"hidden" in stretch ? (
                <button type="button" className="unchanged" onClick={() => setAll(true)}>
                  {stretch.hidden === 1 ? "1 line is" : `${count(stretch.hidden)} lines are`} the same
                </button>
              ) : wide ? (
                <Sides rows={stretch.rows} />
              ) : (
                <Column rows={stretch.rows} />
              )}
            </Fragment>
          ))}
          {shown.left > 0 && <p className="hint">{count(shown.left)} more lines are not shown.</p>}
        </div>
      )}
    </div>
  );
});

function Column({ rows }: { rows: Row[] }): ReactNode {
  return (
    <table className="diff-table">
      <tbody>
        {rows.map((row, i) => (
          <tr key={i} className={row.is}>
            <td className="number">{row.before}</td>
            <td className="number">{row.after}</td>
            <td className="line">
              <Line row={row} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Sides({ rows }: { rows: Row[] }): ReactNode {
  return (
    <table className="diff-table sides">
      <tbody>
        {sideBySide(rows).map(([left, right], i) => (
          <tr key={i}>
            <td className={`number ${left?.is ?? "none"}`}>{left?.before}</td>
            <td className={`line ${left?.is ?? "none"}`}>{left && <Line row={left} />}</td>
            <td className={`number ${right?.is ?? "none"}`}>{right?.after}</td>
            <td className={`line ${right?.is ?? "none"}`}>{right && <Line row={right} />}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const SAID = { in: "Added: ", out: "Removed: ", same: "" };

function Line({ row: { is, text, marks } }: { row: Row }): ReactNode {
  return (
    <>
      {SAID[is] && <span className="visually-hidden">{SAID[is]}</span>}
      {marks ? marks.map((mark, i) => (mark.changed ? <mark key={i}>{mark.text}</mark> : mark.text)) : text}
    </>
  );
}

function useWide(box: RefObject<HTMLElement | null>): boolean {
  const [wide, setWide] = useState(false);
  useLayoutEffect(() => {
    if (!box.current) return;
    const measured = new ResizeObserver(([entry]) => setWide((entry?.contentRect.width ?? 0) >= WIDE_PX));
    measured.observe(box.current);
    return () => measured.disconnect();
  }, [box]);
  return wide;
}

function cutTo(found: Stretch[], most: number): { stretches: Stretch[]; left: number } {
  let room = most;
  let left = 0;
  const kept: Stretch[] = [];
  for (const stretch of found) {
    const rows = "rows" in stretch ? stretch.rows : [];
    if (room > 0) kept.push("rows" in stretch ? { rows: rows.slice(0, room) } : stretch);
    left += Math.max(0, rows.length - room);
    room = Math.max(0, room - rows.length);
  }
  return { stretches: kept, left };
}
