/** Takes a pane over from the answer that writes it. The mesh may hear of the pane later than the page. */
import { asRefusal } from "../wire/refusal";
import type { Pane } from "../wire/types";
import type { Edit } from "./edits";
import type { Shown } from "./shown";

const LOOKS = 40;
const LOOK_MS = 250;

/** `now` is what a person sees of the pane; undefined when they see it no more. */
export async function takeOver(
  canvas: { look(name: string): Promise<Pane> },
  name: string,
  now: () => Shown | undefined,
): Promise<Edit> {
  let seen = now();
  for (let looks = 1; ; looks++) {
    const awaited = now()?.kept === false;
    try {
      const { etag = "" } = await canvas.look(name);
      seen = now() ?? seen;
      const text = seen?.text ?? "";
      return { text, base: text, etag, takenOver: true };
    } catch (error) {
      if (asRefusal(error).reason !== "PANE_UNKNOWN" || !awaited || looks === LOOKS) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
