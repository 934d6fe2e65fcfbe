/** What runs in the guest: the verbs over Soft-RoCE, then a memory node and its clients over these. */

import { SOFT_ROCE_1, SOFT_ROCE_2 } from '../../native/conformance/link.js';
import { conformance } from '../../native/conformance/suite.js';
import { devices } from './devices.js';
import { leases } from './leases.js';
import { run } from './vitest.js';

devices();
leases();
conformance(SOFT_ROCE_1);
conformance(SOFT_ROCE_2);
process.exit((await run()) > 0 ? 1 : 0);
