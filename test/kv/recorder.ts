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
  readonly result?: string | boolean | undefined;
  readonly version?: string | undefined;
  /** Why it failed, if it did. */
  readonly code?: string;
}

/** Does an operation and notes what was seen. Failures of which nothing was changed are noted as such. */
export async function observe(
  kv: Kv,
  clock: () => number,
  key: string,
  kind: Kind,
  value: string,
): Promise<Observation> {
  const call = clock();
  const bytes = bytesOf(key);
  try {
    if (kind === 'get') {
      const entry = await kv.getEntry(bytes);
      return { key, kind, call, end: clock(), result: textOf(entry?.value), version: entry?.version };
    }
    if (kind === 'del') {
      const result = await kv.del(bytes);
      return { key, kind, call, end: clock(), result };
    }
    const { outcome, version } = await kv.put(bytes, bytesOf(value), { ifAbsent: kind === 'putIfAbsent' });
    return { key, kind, value, call, end: clock(), result: outcome, version };
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    const end = error.code === KvErrorCode.OUTCOME_UNKNOWN ? Number.POSITIVE_INFINITY : clock();
    return { key, kind, value, call, end, code: error.code };
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
    const { key, version, code, ...operation } = observation;
    const seen =
      operation.result === 'refused' && version !== undefined ? valueOfVersion.get(version) : undefined;
    const history = byKey.get(key) ?? [];
    history.push(seen === undefined ? operation : { ...operation, seen });
    byKey.set(key, history);
  }
  return byKey;
}
