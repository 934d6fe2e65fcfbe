import { LOOPBACK } from './link.js';
import { conformance } from './suite.js';

conformance(LOOPBACK);
