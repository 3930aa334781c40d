/** Under a pane: its version, its length, and how its lines are shown. */
import { type ReactNode, useDeferredValue, useMemo } from "react";
import { bytesOf, LIMIT_BYTES, size, wordsIn } from "../../canvas/files";
import type { Pane } from "../../wire/types";
import { count, fullTime } from "../format";
import { Icon } from "../icons";
import { ago } from "./words";

interface FootProps {
  pane: Pane;
  text: string;
  writing: boolean;
  wrap: boolean;
  setWrap: ((wrap: boolean) => void) | undefined;
  setLanguage: ((language: string) => void) | undefined;
}

const LANGUAGES =
  "bash c cpp css diff dockerfile go html ini java javascript json markdown protobuf python rust sql typescript xml yaml".split(
    " ",
  );

export function Foot({ pane, text, writing, wrap, setWrap, setLanguage }: FootProps): ReactNode {
  const calm = useDeferredValue(text);
  const { words, bytes } = useMemo(() => ({ words: wordsIn(calm), bytes: bytesOf(calm) }), [calm]);
  const { language = "" } = pane;
  const languages = LANGUAGES.includes(language) || !language ? LANGUAGES : [language, ...LANGUAGES];
  return (
    <footer className="pane-foot" data-testid="pane-foot">
      {setLanguage ? (
        <select
          value={language}
          onChange={(event) => setLanguage(event.target.value)}
          aria-label="Language"
          data-testid="pane-language"
        >
          <option value="">plain text</option>
          {languages.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      ) : (
        language && <span>{language}</span>
      )}
      {writing ? (
        <span className="writing">
          <i className="beat" /> being written
        </span>
      ) : (
        pane.version !== undefined && (
          <span title={fullTime(pane.updateTime ?? "")} data-testid="pane-version">
            version {pane.version}
            <span className="when">
              {" "}
              by {pane.author === "agent" ? "the agent" : "you"}, {ago(pane.updateTime, new Date())}
            </span>
          </span>
        )
      )}
      <span className={bytes > LIMIT_BYTES ? "length too-long" : "length"} data-testid="pane-length">
        {count(words)} {words === 1 ? "word" : "words"} · {size(bytes)}
        {bytes > LIMIT_BYTES && " of 256 KiB"}
      </span>
      {setWrap && (
        <button
          type="button"
          className="quiet icon-only"
          aria-pressed={wrap}
          onClick={() => setWrap(!wrap)}
          aria-label="Wrap long lines"
          title="Wrap long lines"
          data-testid="wrap"
        >
          <Icon name="wrap" />
        </button>
      )}
    </footer>
  );
}
