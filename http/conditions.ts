import type { IncomingHttpHeaders } from 'node:http';
import { type Kv, KvError, KvErrorCode, type KvVersion, type PutResult } from '../kv/index.js';
import { etagOf } from './etag.js';

/** The entity tags of an If-Match or If-None-Match field, as they are written there; `*` is any. */
type Tags = '*' | readonly string[];

/**
 * What a write's preconditions say (RFC 9110, 13.1). At least one of the two. Values have no modification date, so
 * If-Modified-Since and If-Unmodified-Since must be ignored (13.1.3, 13.1.4).
 */
export interface Conditions {
  readonly match: Tags | undefined;
  readonly noneMatch: Tags | undefined;
}

/** A condition that one conditional operation can't express is looked at first, then the value must not have changed. */
const ATTEMPTS = 16;
const TAG = /[ \t,]*((?:W\/)?"[!#-~\x80-\xff]*")[ \t]*(?:,|$)/y;
const REST = /^[ \t,]*$/;

/** Undefined: there are none. `malformed`: nobody knows what they would be. */
export function conditionsOf(headers: IncomingHttpHeaders): Conditions | undefined | 'malformed' {
  const ifMatch = headers['if-match'];
  const ifNoneMatch = headers['if-none-match'];
  if (ifMatch === undefined && ifNoneMatch === undefined) return undefined;
  const match = ifMatch === undefined ? undefined : tagsOf(ifMatch);
  const noneMatch = ifNoneMatch === undefined ? undefined : tagsOf(ifNoneMatch);
  if (match === 'malformed' || noneMatch === 'malformed') return 'malformed';
  return { match, noneMatch };
}

/** A put if the conditions hold; else, with nothing written, undefined. */
export async function putIf(
  kv: Kv,
  key: Uint8Array,
  value: Uint8Array,
  conditions: Conditions,
): Promise<PutResult | undefined> {
  const { match, noneMatch } = conditions;
  if (match === undefined && noneMatch === '*') return written(await kv.put(key, value, { ifAbsent: true }));
  const named = noneMatch === undefined ? onlyVersion(match) : undefined;
  if (named !== undefined) return written(await kv.put(key, value, { ifVersion: named }));
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const version = (await kv.getEntry(key))?.version;
    if (!hold(conditions, version)) return undefined;
    const result = await kv.put(
      key,
      value,
      version === undefined ? { ifAbsent: true } : { ifVersion: version },
    );
    if (result.outcome !== 'refused') return result;
  }
  throw contention();
}

/** A delete if the conditions hold. What is absent is so on whatever conditions. */
export async function delIf(
  kv: Kv,
  key: Uint8Array,
  conditions: Conditions,
): Promise<'deleted' | 'absent' | 'failed'> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const version = (await kv.getEntry(key))?.version;
    if (version === undefined) return 'absent';
    if (!hold(conditions, version)) return 'failed';
    if (await kv.del(key, { ifVersion: version })) return 'deleted';
  }
  throw contention();
}

function hold({ match, noneMatch }: Conditions, version: KvVersion | undefined): boolean {
  if (version === undefined) return match === undefined;
  const etag = etagOf(version);
  // A counter can change without anybody's noticing: no condition on it holds.
  if (version.includes('.')) return false;
  if (match !== undefined && match !== '*' && !match.includes(etag)) return false;
  if (noneMatch === undefined) return true;
  return noneMatch !== '*' && !noneMatch.some((tag) => tag === etag || tag === `W/${etag}`);
}

/** What a single strong tag stands for. */
function onlyVersion(tags: Tags | undefined): KvVersion | undefined {
  if (tags === undefined || tags === '*' || tags.length !== 1) return undefined;
  const [tag] = tags;
  return tag!.startsWith('W/') ? undefined : tag!.slice(1, -1);
}

function written(result: PutResult): PutResult | undefined {
  return result.outcome === 'refused' ? undefined : result;
}

function tagsOf(field: string): Tags | 'malformed' {
  if (field.trim() === '*') return '*';
  const tags: string[] = [];
  TAG.lastIndex = 0;
  let end = 0;
  for (let found = TAG.exec(field); found !== null; found = TAG.exec(field)) {
    tags.push(found[1]!);
    end = TAG.lastIndex;
    if (end === field.length) break;
  }
  return tags.length > 0 && REST.test(field.slice(end)) ? tags : 'malformed';
}

function contention(): KvError {
  return new KvError(KvErrorCode.CONTENTION, `The value changed ${ATTEMPTS} times meanwhile`);
}
