/** A table: sorted by the column that is pressed, its head always in sight. */
import { Lexer } from "marked";
import { memo, type ReactNode, useDeferredValue, useMemo, useState } from "react";
import { type Order, sorted, tableOf } from "../../canvas/table";
import { Inline } from "../../markdown/Inline";
import { count } from "../format";
import { Icon } from "../icons";

/** So many rows are drawn at first, and with each press of the button. */
const PAGE_ROWS = 500;

interface TableProps {
  text: string;
  language: string;
  title: string;
}

export const TableView = memo(function TableView({ text, language, title }: TableProps) {
  const calm = useDeferredValue(text);
  const table = useMemo(() => tableOf(calm, language), [calm, language]);
  const [order, setOrder] = useState<Order>();
  const [most, setMost] = useState(PAGE_ROWS);
  const rows = useMemo(() => sorted(table, order), [table, order]);
  const plain = language === "csv";
  if (table.head.length === 0) return <p className="hint">This table is empty.</p>;
  const next = (column: number): void =>
    setOrder((now) =>
      now?.column !== column ? { column, down: false } : now.down ? undefined : { column, down: true },
    );
  return (
    <div className="grid" tabIndex={0} role="region" aria-label={title} data-testid="pane-table">
      <table>
        <thead>
          <tr>
            {table.head.map((cell, i) => (
              <th key={i} scope="col" aria-sort={sortOf(order, i)}>
                <button type="button" onClick={() => next(i)} data-testid="sort-column">
                  <Cell text={cell} plain={plain} />
                  <Icon name={order?.column === i ? (order.down ? "down" : "up") : "sort"} />
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, most).map((row, n) => (
            <Line key={n} row={row} plain={plain} />
          ))}
        </tbody>
      </table>
      {rows.length > most && (
        <button type="button" className="soft grid-more" onClick={() => setMost(most + PAGE_ROWS)}>
          {count(rows.length - most)} more rows
        </button>
      )}
    </div>
  );
});

const Line = memo(
  function Line({ row, plain }: { row: string[]; plain: boolean }) {
    return (
      <tr>
        {row.map((cell, i) => (
          <td key={i}>
            <Cell text={cell} plain={plain} />
          </td>
        ))}
      </tr>
    );
  },
  (before, after) => before.row.join("\n") === after.row.join("\n") && before.plain === after.plain,
);

/** Cells of Markdown may be bold, or links; links and images are as harmless as in the chat. */
function Cell({ text, plain }: { text: string; plain: boolean }): ReactNode {
  if (plain || !/[*_`[<&~\\]|:\/\/|www\./.test(text)) return text;
  return <Inline tokens={Lexer.lexInline(text, { gfm: true })} />;
}

function sortOf(order: Order | undefined, column: number): "ascending" | "descending" | "none" {
  if (order?.column !== column) return "none";
  return order.down ? "descending" : "ascending";
}
