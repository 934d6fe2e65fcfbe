/** Where waiting, chance and the date come from; tests put a seeded scheduler here. */
export interface Pacing {
  sleep(ms: number): Promise<void>;
  /** As sleep(), but does not keep the process alive. */
  idle(ms: number): Promise<void>;
  /** In [0, 1). */
  random(): number;
  /** ms since 1970: what keys expire by. */
  wallMs(): number;
}

export const realPacing: Pacing = {
  sleep: (ms) => new Promise((resolve) => (ms <= 0 ? setImmediate(resolve) : setTimeout(resolve, ms))),
  idle: (ms) => new Promise((resolve) => setTimeout(resolve, ms).unref()),
  random: Math.random,
  wallMs: Date.now,
};
