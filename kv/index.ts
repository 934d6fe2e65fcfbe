export * from './api.js';
export { type CreateOptions, createTable } from './create.js';
export { openEmbedded } from './embedded.js';
export { openRemote } from './remote.js';
export { openTable } from './table.js';
