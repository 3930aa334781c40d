/** What an image pane may show by itself, and what it must not load: an address could tell its host what was said. */
export type Picture = { is: "shown"; src: string } | { is: "address"; url: string; host: string } | { is: "text" };

const RASTER = /^data:image\/(png|jpe?g|gif|webp|avif|bmp|x-icon|svg\+xml)[;,]/i;

export function pictureOf(text: string, language: string): Picture {
  const bare = text.trim();
  if (language === "svg" || /^(<\?xml[^>]*>\s*)?<svg[\s>]/i.test(bare)) return { is: "shown", src: svgAddress(bare) };
  if (RASTER.test(bare)) return { is: "shown", src: bare };
  const url = /^https?:\/\/\S+$/i.test(bare) && URL.canParse(bare) ? new URL(bare) : undefined;
  return url ? { is: "address", url: url.href, host: url.host } : { is: "text" };
}

/** As an image a drawing has no script, no links and no way out, whatever it says. */
const svgAddress = (source: string): string =>
  `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source.replace(/\p{Cs}/gu, "\ufffd"))}`;
