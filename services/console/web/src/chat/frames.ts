/** Joins what arrives between two frames into one change of the screen. */
export class Frames {
  private work: (() => void) | undefined;

  next(work: () => void): void {
    const planned = this.work !== undefined;
    this.work = work;
    if (planned) return;
    if (document.visibilityState === "visible") requestAnimationFrame(this.flush);
    else setTimeout(this.flush, 200);
  }

  flush = (): void => {
    const { work } = this;
    this.work = undefined;
    work?.();
  };
}
