import type { KvVersion } from '../kv/index.js';

/** The strong entity tag of a stored value. */
export function etagOf(version: KvVersion): string {
  return `"${version}"`;
}

/** Whether an If-None-Match field (RFC 9110, 13.1.2) names this entity tag; the comparison is the weak one. */
export function noneMatchNames(field: string, etag: string): boolean {
  if (field === etag) return true;
  if (field.trim() === '*') return true;
  for (const [, tag] of field.matchAll(/(?:W\/)?("[^"]*")/g)) {
    if (tag === etag) return true;
  }
  return false;
}
