/**
 * What runs in a guest: the part that the environment names (see boot.sh), else the verbs over Soft-RoCE, a memory node
 * and its clients over these, and the store.
 */
import { SOFT_ROCE_1, SOFT_ROCE_2 } from '../../native/conformance/link.js';
import { conformance } from '../../native/conformance/suite.js';
import { clusterClient, clusterHeir, clusterNode } from './cluster.js';
import { devices } from './devices.js';
import { figures } from './figures.js';
import { leases } from './leases.js';
import { store } from './store.js';
import { run } from './vitest.js';

/** Of one guest by itself. */
const ALONE: Readonly<Record<string, () => void>> = {
  devices,
  leases,
  store,
  'conformance-1': () => conformance(SOFT_ROCE_1),
  'conformance-2': () => conformance(SOFT_ROCE_2),
};
const PARTS: Readonly<Record<string, () => void | Promise<void>>> = {
  ...ALONE,
  figures,
  'cluster-node': clusterNode,
  'cluster-client': clusterClient,
  'cluster-heir': clusterHeir,
};

const part = process.env.PART;
if (part) await PARTS[part]!();
else for (const define of Object.values(ALONE)) define();
process.exit((await run()) > 0 ? 1 : 0);
