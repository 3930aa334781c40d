/**
 * What a person thinks of answers. A click stands at once and is told after it, one call at a time; what cannot be told
 * yet waits, through a reload too. The mesh tells nobody what it was told: what is shown is what this tab did.
 */
import { Store } from "../store";
import { asRefusal, type Refusal } from "../wire/refusal";
import type { Failure, Thumb } from "../wire/types";

const KEY = "soma.thumbs";
/** So many answers are remembered, newest clicks last. */
const MOST = 200;

export interface Opinion {
  /** As the person has it. Absent: they have none, or it was refused. */
  thumb?: Thumb;
  /** As the mesh has it. */
  told?: Thumb;
  /** Why the last try did not get through. */
  failure?: Failure;
}

export interface ThumbDoors {
  tell(turn: string, thumb: Thumb): Promise<void>;
  /** Rejects when nobody waits any more. */
  pause(attempt: number): Promise<void>;
  failed(refusal: Refusal): void;
  memory: Pick<Storage, "getItem" | "setItem">;
}

export class Thumbs {
  /** By the turn's name. */
  readonly view: Store<ReadonlyMap<string, Opinion>>;
  private telling = false;

  constructor(private readonly doors: ThumbDoors) {
    this.view = new Store(remembered(doors.memory.getItem(KEY)));
    void this.tellAll();
  }

  give(turn: string, thumb: Thumb): void {
    const { told } = this.of(turn);
    this.put(turn, { thumb, ...(told && { told }) });
    void this.tellAll();
  }

  private of = (turn: string): Opinion => this.view.get().get(turn) ?? {};

  private put(turn: string, opinion: Opinion): void {
    const others = [...this.view.get()].filter(([name]) => name !== turn);
    const all = [...others, [turn, opinion] as const].slice(-MOST);
    this.view.set(new Map(all));
    try {
      this.doors.memory.setItem(KEY, JSON.stringify(all));
    } catch {
      // a browser without room for it keeps it in the page alone
    }
  }

  private async tellAll(): Promise<void> {
    if (this.telling) return;
    this.telling = true;
    try {
      let attempt = 0;
      for (let next = this.untold(); next; next = this.untold()) attempt = await this.tell(...next, attempt);
    } catch {
      // signed out, or the page is left: the next house goes on
    } finally {
      this.telling = false;
    }
  }

  private untold(): [string, Thumb] | undefined {
    for (const [turn, { thumb, told }] of this.view.get()) if (thumb && thumb !== told) return [turn, thumb];
    return undefined;
  }

  /** One try. Returns how many in a row did not get through. */
  private async tell(turn: string, thumb: Thumb, attempt: number): Promise<number> {
    try {
      await this.doors.tell(turn, thumb);
      this.put(turn, { thumb: this.of(turn).thumb ?? thumb, told: thumb });
      return 0;
    } catch (error) {
      const refusal = asRefusal(error);
      this.doors.failed(refusal);
      this.put(turn, refusedOf(this.of(turn), thumb, refusal));
      if (refusal.signedOut) throw error;
      if (refusal.passing) await this.doors.pause(attempt);
      return refusal.passing ? attempt + 1 : 0;
    }
  }
}

/** What may still be told stays; what is refused for good gives way to what was told before. */
function refusedOf({ thumb, told }: Opinion, refused: Thumb, refusal: Refusal): Opinion {
  const stays = refusal.passing || refusal.signedOut || thumb !== refused;
  const now = stays ? thumb : told;
  return { failure: refusal.failure(), ...(now && { thumb: now }), ...(told && { told }) };
}

function remembered(text: string | null): ReadonlyMap<string, Opinion> {
  return new Map(JSON.parse(text ?? "[]") as [string, Opinion][]);
}
