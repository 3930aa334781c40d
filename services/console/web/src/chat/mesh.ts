/** Whether the mesh is up. Asked only after something failed, until it can answer again. */
import { Store } from "../store";
import { asRefusal, type Refusal } from "../wire/refusal";

const POLL_MS = 4_000;

export class Mesh {
  /** What is down. Undefined: nothing that the page knows of. */
  readonly down = new Store<Refusal | undefined>(undefined);
  private polling = false;

  /** `recovered` is called each time that it can answer again. */
  constructor(
    private readonly health: () => Promise<void>,
    private readonly recovered: () => void,
  ) {}

  /** Something failed: find out whether a part is down, and follow that until it is not. */
  suspect(cause: Refusal): void {
    if (!cause.passing || this.polling) return;
    this.polling = true;
    void this.poll();
  }

  private async poll(): Promise<void> {
    for (;;) {
      try {
        await this.health();
        break;
      } catch (error) {
        this.down.set(asRefusal(error));
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    this.polling = false;
    if (this.down.get() === undefined) return;
    this.down.set(undefined);
    this.recovered();
  }
}
