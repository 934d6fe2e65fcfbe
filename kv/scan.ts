import type { KvUsage, ScanOptions, ScanPage } from './api.js';
import type { TableContext } from './context.js';
import { DIRECTORY_ENTRY_BYTES, SLOTS_PER_GROUP, subtableBytes, UNIT_BYTES } from './layout.js';
import { STEP_GROUPS, Walk } from './walk.js';

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 10_000;
/** Groups that a page reads at most. */
const MAX_GROUPS = 1024;
const CURSOR = /^([0-9a-f]{8})([0-9a-f]{1,3})$/;

/**
 * Where a walk is: in the order of the suffixes read backwards, so that the two halves of a split subtable lie where the
 * whole was, one behind the other. What lies before has been read, and of the subtable here the groups before `group`.
 */
interface Position {
  /** The suffix backwards; 2^32 at the end. */
  reversed: number;
  group: number;
}

function reverse(bits: number): number {
  let result = 0;
  for (let i = 0; i < 32; i++) result = (result << 1) | ((bits >>> i) & 1);
  return result >>> 0;
}

async function advance(
  context: TableContext,
  walk: Walk,
  position: Position,
  count: number,
  withKeys: boolean,
  found: Parameters<Walk['step']>[4],
): Promise<void> {
  const { groups } = context.superblock;
  const some = Math.min(count, groups - position.group);
  const suffix = reverse(position.reversed);
  const { localDepth } = await walk.step(suffix, position.group, some, withKeys, found);
  position.group += some;
  if (position.group < groups) return;
  const covered = 2 ** (32 - localDepth);
  position.group = 0;
  position.reversed = (Math.floor(position.reversed / covered) + 1) * covered;
}

export interface PageWithExpired extends ScanPage {
  /** Keys that were passed by because they have expired. */
  readonly expired: Uint8Array[];
}

/** One page of a walk over the keys. */
export async function scanPage(context: TableContext, options: ScanOptions): Promise<PageWithExpired> {
  const { limit, prefix } = checked(options);
  const position = parse(options.cursor, context.superblock.groups);
  const keys: Uint8Array[] = [];
  const expired: Uint8Array[] = [];
  const now = context.pacing.wallMs();
  const walk = new Walk(context);
  try {
    let left = MAX_GROUPS;
    while (position.reversed < 2 ** 32 && left > 0 && keys.length < limit) {
      // Half full groups, to begin with; a page is a little longer than asked for rather than much.
      const count = Math.max(1, Math.min(left, STEP_GROUPS, Math.ceil((limit - keys.length) / 10)));
      left -= count;
      await advance(context, walk, position, count, true, {
        size: () => {},
        key: (key, expiry) => {
          if (expiry > 0) context.expirySeen = true;
          if (expiry > 0 && expiry <= now) expired.push(key);
          else if (startsWith(key, prefix)) keys.push(key);
        },
      });
    }
  } finally {
    walk.close();
  }
  return { keys, expired, cursor: position.reversed < 2 ** 32 ? format(position) : undefined };
}

/** Counts everything. Records that are being moved by a split may count twice. */
export async function measure(context: TableContext): Promise<KvUsage> {
  const position: Position = { reversed: 0, group: 0 };
  let records = 0;
  let units = 0;
  const walk = new Walk(context);
  try {
    while (position.reversed < 2 ** 32) {
      await advance(context, walk, position, STEP_GROUPS, false, {
        size: (size) => {
          records++;
          units += size;
        },
        key: () => {},
      });
    }
  } finally {
    walk.close();
  }
  const { subtables } = context.directory;
  const { groups } = context.superblock;
  const slots = subtables * groups * SLOTS_PER_GROUP;
  return {
    records,
    bytes: units * UNIT_BYTES,
    indexBytes: subtables * subtableBytes(groups) + context.directory.entries.length * DIRECTORY_ENTRY_BYTES,
    subtables,
    slots,
    loadFactor: records / slots,
  };
}

function checked(options: ScanOptions): { limit: number; prefix: Uint8Array | undefined } {
  const { limit = DEFAULT_LIMIT, prefix, cursor } = options;
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new RangeError(`limit must be an integer from 1 to ${MAX_LIMIT}, not ${limit}`);
  }
  if (prefix !== undefined && !(prefix instanceof Uint8Array)) {
    throw new TypeError('prefix must be a Uint8Array');
  }
  if (cursor !== undefined && typeof cursor !== 'string') throw new TypeError('cursor must be a string');
  return { limit, prefix };
}

function startsWith(key: Uint8Array, prefix: Uint8Array | undefined): boolean {
  if (prefix === undefined) return true;
  if (key.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (key[i] !== prefix[i]) return false;
  return true;
}

function format({ reversed, group }: Position): string {
  return reversed.toString(16).padStart(8, '0') + group.toString(16);
}

function parse(cursor: string | undefined, groups: number): Position {
  if (cursor === undefined) return { reversed: 0, group: 0 };
  const match = CURSOR.exec(cursor);
  const group = match === null ? groups : Number.parseInt(match[2]!, 16);
  if (group >= groups) throw new RangeError('this is no cursor of this table');
  return { reversed: Number.parseInt(match![1]!, 16), group };
}
