/**
 * What runs in the guest: the verbs over Soft-RoCE, then a memory node and its clients over these, and the store. The
 * environment's PART, which boot.sh sets, names one of them to run alone.
 */

import { SOFT_ROCE_1, SOFT_ROCE_2 } from '../../native/conformance/link.js';
import { conformance } from '../../native/conformance/suite.js';
import { devices } from './devices.js';
import { leases } from './leases.js';
import { store } from './store.js';
import { run } from './vitest.js';

const parts: Readonly<Record<string, () => void>> = {
  devices,
  leases,
  store,
  conformance1: () => conformance(SOFT_ROCE_1),
  conformance2: () => conformance(SOFT_ROCE_2),
};

const { PART } = process.env;
for (const [name, define] of Object.entries(parts)) {
  if (PART === undefined || PART === name) define();
}
process.exit((await run()) > 0 ? 1 : 0);
