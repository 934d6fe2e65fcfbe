import type { Comparison } from './report.js';

export interface BenchSettings {
  /** Length of one run. */
  readonly seconds: number;
  /** Runs of each contender. */
  readonly rounds: number;
}

export interface Contender {
  readonly name: string;
  /** One run; operations per second. Rejects if anything of it went wrong. */
  run(seconds: number): Promise<number>;
}

/**
 * Runs the contenders in turns (A B A B ...), so that what changes on the machine meanwhile meets all of them; before
 * that each once for a short time, which does not count.
 */
export async function compare(
  title: string,
  contenders: readonly Contender[],
  settings: BenchSettings,
): Promise<Comparison> {
  const results = contenders.map((contender) => ({ contender, opsPerSecond: [] as number[] }));
  for (const { contender } of results) await contender.run(Math.min(1, settings.seconds));
  for (let round = 0; round < settings.rounds; round += 1) {
    for (const { contender, opsPerSecond } of results) {
      const rate = await contender.run(settings.seconds);
      opsPerSecond.push(rate);
      process.stderr.write(`${title}: ${contender.name}: ${Math.round(rate).toLocaleString('en-US')}/s\n`);
    }
  }
  return {
    title,
    measurements: results.map(({ contender, opsPerSecond }) => ({ contender: contender.name, opsPerSecond })),
  };
}
