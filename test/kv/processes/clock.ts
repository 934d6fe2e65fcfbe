import { type Pacing, realPacing } from '../../../kv/pacing.js';
import { nowNs } from '../../../native/index.js';
import { seeded } from '../random.js';

/** The date that keys expire by in these tests: of the clock that all processes share and nobody sets. */
export const dateMs = () => Math.floor(nowNs() / 1e6);

/** As the store's own, with chance from a seed. */
export function seededPacing(seed: number): Pacing {
  return { ...realPacing, random: seeded(seed), wallMs: dateMs };
}
