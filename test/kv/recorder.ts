import { type Kv, KvError, KvErrorCode } from '../../kv/api.js';
import type { HistoryOperation } from './linearizability.js';
import { bytesOf, textOf } from './random.js';

export type Kind = HistoryOperation['kind'];

/** An operation as it was seen, before versions are resolved to values. */
export interface Observation {
  readonly key: string;
  readonly kind: Kind;
  readonly value?: string;
  readonly call: number;
  readonly end: number;
  readonly callDate?: number;
  readonly endDate?: number;
  readonly expiry?: number | undefined;
  readonly latestExpiry?: number | undefined;
  readonly result?: string | boolean | undefined;
  /** Of the value that was seen or written. */
  readonly version?: string | undefined;
  /** Of the value that a condition named. */
  readonly wanted?: string | undefined;
  /** Why it failed, if it did. */
  readonly code?: string;
}

/** What is to be done. */
export interface Task {
  readonly key: string;
  readonly kind: Kind;
  readonly value: string;
  /** For the kinds with a condition on it. */
  readonly version?: string | undefined;
  readonly ttlMs?: number | undefined;
}

/** Does an operation and notes what was seen. Failures of which nothing was changed are noted as such. */
export async function observe(
  kv: Kv,
  clock: () => number,
  task: Task,
  date: () => number = () => 0,
): Promise<Observation> {
  const { key, kind, value, version: wanted = '0', ttlMs } = task;
  const began = { key, kind, value, call: clock(), callDate: date() };
  const bytes = bytesOf(key);
  let expiry: number | undefined;
  let latestExpiry: number | undefined;
  try {
    if (kind === 'get') {
      const entry = await kv.getEntry(bytes);
      return { ...began, ...ended(), result: textOf(entry?.value), version: entry?.version };
    }
    if (kind === 'incr') return { ...began, ...ended(await kv.incr(bytes)) };
    if (kind === 'del') return { ...began, ...ended(await kv.del(bytes)) };
    if (kind === 'delIfVersion') {
      return { ...began, wanted, ...ended(await kv.del(bytes, { ifVersion: wanted })) };
    }
    const options = {
      ...(kind === 'putIfAbsent' && { ifAbsent: true }),
      ...(kind === 'putIfVersion' && { ifVersion: wanted }),
      ...(ttlMs !== undefined && { ttlMs }),
    };
    const put = kv.put(bytes, bytesOf(value), options);
    if (ttlMs !== undefined) {
      // The store has looked at the date within that call.
      expiry = began.callDate + ttlMs;
      latestExpiry = date() + ttlMs;
    }
    const { outcome, version } = await put;
    const expiring = { expiry, latestExpiry };
    return { ...began, ...(kind === 'putIfVersion' && { wanted }), ...expiring, ...ended(outcome), version };
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    if (error.code === KvErrorCode.NOT_A_COUNTER) return { ...began, ...ended('not a counter') };
    const end = error.code === KvErrorCode.OUTCOME_UNKNOWN ? Number.POSITIVE_INFINITY : clock();
    return { ...began, expiry, latestExpiry, wanted, end, code: error.code };
  }

  function ended(result?: string | boolean | bigint) {
    return {
      end: clock(),
      endDate: date(),
      result: typeof result === 'bigint' ? result.toString() : result,
    };
  }
}

/** The histories of the keys; throws if a version names two values. */
export function histories(observations: readonly Observation[]): Map<string, HistoryOperation[]> {
  const valueOfVersion = new Map<string, string>();
  for (const { kind, result, version, value } of observations) {
    const written = kind === 'get' ? result : result === 'refused' ? undefined : value;
    if (version === undefined || typeof written !== 'string') continue;
    const known = valueOfVersion.get(version);
    if (known !== undefined && known !== written)
      throw new Error(`version ${version}: ${known} and ${written}`);
    valueOfVersion.set(version, written);
  }
  const byKey = new Map<string, HistoryOperation[]>();
  for (const observation of observations) {
    if (observation.code !== undefined && observation.end !== Number.POSITIVE_INFINITY) continue;
    const { key, version, code, wanted, ...operation } = observation;
    const seen =
      operation.result === 'refused' && version !== undefined ? valueOfVersion.get(version) : undefined;
    const expects = wanted === undefined ? undefined : valueOfVersion.get(wanted);
    const history = byKey.get(key) ?? [];
    history.push({ ...operation, seen, expects });
    byKey.set(key, history);
  }
  return byKey;
}
