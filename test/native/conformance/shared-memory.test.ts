import { SHARED_MEMORY } from './link.js';
import { conformance } from './suite.js';

conformance(SHARED_MEMORY);
