/** A text that is still being written, with what it has opened closed: `**bol` is shown bold, not with its stars. */

/** Closes code, then strong, in the last line; leaves text inside a fenced block alone. */
export function mended(text: string): string {
  const line = text.slice(text.lastIndexOf("\n") + 1);
  if (fenceOpen(text) || /^\s*\|/.test(line)) return text;
  if (odd(line, "`")) return closed(text, "`");
  const prose = line.replace(/`[^`]*`/g, "");
  return odd(prose, "**") ? closed(text, "**") : text;
}

function closed(text: string, mark: string): string {
  const bare = text.trimEnd();
  return bare.endsWith(mark) ? bare.slice(0, -mark.length) : bare + mark;
}

const odd = (line: string, mark: string): boolean => line.split(mark).length % 2 === 0;

const fenceOpen = (text: string): boolean => (text.match(/^ {0,3}(```|~~~)/gm)?.length ?? 0) % 2 === 1;
