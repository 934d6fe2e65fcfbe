import type { Batch } from '../patronus/index.js';
import type { Get } from './get.js';
import { PREPARED, type Step } from './operation.js';

const MAX_BATCH = 16;
/** Gets that share a batch: two reads each in the first round. */
export const GROUP = MAX_BATCH / 2;
/** A get adds at most as many reads as are free; with fewer the batch goes out first. */
const LEAST_FREE = 4;

/**
 * Takes some gets, already started, through their rounds together: one batch for the bucket reads of all, one for the
 * blocks. Whichever needs anything else (a lease, another attempt, a large block) leaves the group: `alone` gets it with
 * its next step, for those that are done it gets DONE.
 */
export async function runTogether(
  gets: readonly Get[],
  batch: Batch,
  alone: (get: Get, step: Step) => void,
): Promise<void> {
  let waiting: Get[] = [];
  const take = (get: Get, step: Step) => {
    if (step === PREPARED) {
      waiting.push(get);
      return;
    }
    get.shareBatch(undefined);
    alone(get, step);
  };
  const step = (get: Get, status: number): Step => {
    try {
      return get.stepAfterWait(status);
    } catch (error) {
      return Promise.reject(error);
    }
  };
  for (const get of gets) {
    get.shareBatch(batch);
    take(get, get.begin());
  }
  while (waiting.length > 0) {
    const sent = waiting;
    waiting = [];
    const committed = batch.commit();
    const status = typeof committed === 'number' ? committed : await committed;
    for (const get of sent) {
      if (MAX_BATCH - batch.count < LEAST_FREE) {
        get.shareBatch(undefined);
        alone(get, step(get, status));
      } else take(get, step(get, status));
    }
  }
}
