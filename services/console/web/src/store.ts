/** A value that is watched. Components read it with `useStore`; nothing else knows about React. */
import { useSyncExternalStore } from "react";

export class Store<T> {
  private readonly watchers = new Set<() => void>();

  constructor(private value: T) {}

  get = (): T => this.value;

  set = (value: T): void => {
    if (Object.is(value, this.value)) return;
    this.value = value;
    for (const watcher of this.watchers) watcher();
  };

  change = (how: (value: T) => T): void => this.set(how(this.value));

  watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  };
}

/** A part of the value: a primitive, or something that stays the same object while it does not change. */
export function useStorePart<T, Part>(store: Store<T>, part: (value: T) => Part): Part {
  return useSyncExternalStore(store.watch, () => part(store.get()));
}

export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.watch, store.get);
}
