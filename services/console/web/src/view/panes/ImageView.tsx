/** An image from its own bytes. One that stands elsewhere is not asked for: its host would learn of it. */
import { type ReactNode, useEffect, useState } from "react";
import { pictureOf } from "../../canvas/image";
import { Sheet } from "./Sheet";

interface ImageProps {
  text: string;
  language: string;
  title: string;
  writing: boolean;
}

export function ImageView({ text, language, title, writing }: ImageProps): ReactNode {
  const picture = pictureOf(text, language);
  const [broken, setBroken] = useState(false);
  useEffect(() => setBroken(false), [text]);
  if (picture.is === "address")
    return (
      <div className="picture" data-testid="image-address">
        <p className="picture-note">
          This image stands on <strong>{picture.host}</strong>. It is not loaded here, so that {picture.host} does not
          learn that you read this.
        </p>
        <a className="soft" href={picture.url} target="_blank" rel="noopener noreferrer">
          Open it on {picture.host}
        </a>
        <code>{picture.url}</code>
      </div>
    );
  if (picture.is === "text" || writing || broken)
    return (
      <div className="stack">
        {!writing && <p className="picture-note">This is no image that can be shown. Its text:</p>}
        <Sheet text={text} language={language === "svg" ? "xml" : ""} wrap writing={writing} label={title} />
      </div>
    );
  return (
    <div className="picture">
      <img src={picture.src} alt={title} onError={() => setBroken(true)} data-testid="pane-image" />
    </div>
  );
}
