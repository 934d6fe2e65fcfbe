const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

/** Bytes of a size such as 268435456, 256MiB, 1.5GiB or 500 MB. Throws a RangeError for anything else. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([a-z]*)$/i.exec(text.trim());
  const unit = match && UNITS[match[2]!.toLowerCase()];
  if (!unit) {
    throw new RangeError('a size is a number and a unit of B, KiB, MiB, GiB, KB, MB or GB, such as 256MiB');
  }
  const bytes = Number(match[1]) * unit;
  if (!Number.isSafeInteger(bytes)) throw new RangeError('a size is a whole number of bytes, below 2^53');
  return bytes;
}

/** A size in the largest binary unit that expresses it without a fraction: 256 MiB, 1000 B. */
export function formatSize(bytes: number): string {
  let count = bytes;
  let unit = 0;
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  while (unit < units.length - 1 && count >= 1024 && count % 1024 === 0) {
    count /= 1024;
    unit++;
  }
  return `${count} ${units[unit]}`;
}
