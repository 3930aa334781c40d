import { expect, test } from "vitest";
import { type Blocks, blocksOf, grown } from "../src/markdown/blocks";
import { mended } from "../src/markdown/mended";

const TEXT = `# Title

Some **bold** text with \`code\` and a [link](https://example.org).

- one
- two

  with a paragraph
- three

1. first
2. second

| a | b |
| --- | --: |
| 1 | 2 |

\`\`\`python
def f():

    return "**not bold"
\`\`\`

> quoted
> twice

The end & nothing <b>more</b>.
`;

test("a text that grew letter by letter has the blocks of the whole", () => {
  let blocks: Blocks = { text: "", tokens: [] };
  for (let end = 1; end <= TEXT.length; end++) {
    blocks = grown(blocks, TEXT.slice(0, end));
    const whole = blocksOf(mended(TEXT.slice(0, end)));
    expect(blocks.tokens.map(({ type, raw }) => [type, raw])).toEqual(whole.tokens.map(({ type, raw }) => [type, raw]));
  }
});

test("blocks that cannot change are kept as they are", () => {
  const before = grown({ text: "", tokens: [] }, "One.\n\nTwo.\n\nThr");
  const after = grown(before, "One.\n\nTwo.\n\nThree.");
  expect(after.tokens[0]).toBe(before.tokens[0]);
  expect(after.tokens[2]).toBe(before.tokens[2]);
});

test("what is still open is shown closed", () => {
  expect(mended("so **bol")).toBe("so **bol**");
  expect(mended("so **")).toBe("so ");
  expect(mended("so **bold** and `co")).toBe("so **bold** and `co`");
  expect(mended("`a ** b` is")).toBe("`a ** b` is");
  expect(mended("```\n**x")).toBe("```\n**x");
});
