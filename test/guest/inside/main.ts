/** What runs in the guest: the verbs over Soft-RoCE, then a memory node and its clients over these. */
import { conformance } from '../../native/conformance/suite.js';
import { RDMA_TYPE_1, RDMA_TYPE_2 } from '../../native/conformance/link.js';
import { devices } from './devices.js';
import { leases } from './leases.js';
import { run } from './vitest.js';

devices();
conformance(RDMA_TYPE_1);
conformance(RDMA_TYPE_2);
leases();
process.exit((await run()) > 0 ? 1 : 0);
