/** These processors execute loads in their order, as V8 emits those of typed arrays: Atomics.load() would be a call. */
export const LOADS_IN_ORDER = process.arch === 'x64' || process.arch === 'ia32';
