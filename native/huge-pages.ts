import type { HugePages } from './contract.js';

const BYTES: Readonly<Record<HugePages, number>> = { '2MiB': 2 ** 21, '1GiB': 2 ** 30 };

/** Undefined for ordinary pages; a RangeError for a size that there is not. */
export function hugePageBytes(pages: HugePages | undefined): number | undefined {
  if (pages === undefined) return undefined;
  if (!Object.hasOwn(BYTES, pages)) {
    throw new RangeError(`huge pages are of ${Object.keys(BYTES).join(' or ')}, not ${pages}`);
  }
  return BYTES[pages];
}
