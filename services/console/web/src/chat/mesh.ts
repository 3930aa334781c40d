/** Whether the mesh is up. Asked only after something failed, until it can answer again. */
import { Store } from "../store";
import { backoffMs, pause } from "../turn/pause";
import { asRefusal, type Refusal } from "../wire/refusal";

/** How long it is told that all is well again. */
const RELIEF_MS = 6_000;

export type MeshView =
  /** As far as the page knows. */
  | { is: "well" }
  | { is: "down"; cause: Refusal; againAtMs: number }
  /** Was down until just now. */
  | { is: "back" };

export class Mesh {
  readonly view = new Store<MeshView>({ is: "well" });
  private polling = false;

  /** `recovered` is called each time that it can answer again. */
  constructor(
    private readonly health: () => Promise<void>,
    private readonly recovered: () => void,
    private readonly closing: AbortSignal,
  ) {}

  /** Something failed: find out whether a part is down, and follow that until it is not. */
  suspect(cause: Refusal): void {
    if (!cause.blamesMesh || this.polling) return;
    this.polling = true;
    void this.poll()
      .catch(() => undefined) // closing
      .finally(() => {
        this.polling = false;
      });
  }

  private async poll(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const cause = await this.health().then(() => undefined, asRefusal);
      if (!cause) break;
      const wait = backoffMs(attempt, Math.random());
      this.view.set({ is: "down", cause, againAtMs: Date.now() + wait });
      await pause(wait, this.closing);
    }
    if (this.view.get().is === "down") this.relieve();
  }

  private relieve(): void {
    const back: MeshView = { is: "back" };
    this.view.set(back);
    setTimeout(() => this.view.change((view) => (view === back ? { is: "well" } : view)), RELIEF_MS);
    this.recovered();
  }
}
