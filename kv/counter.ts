import type { KvVersion } from './api.js';
import { versionText } from './versions.js';

/** Counters: signed 64-bit numbers, as two 32-bit words, low half first. */
export const COUNTER_BYTES = 8;
const DIGITS = new TextEncoder();

export function counterValue(words: Uint32Array, at: number): bigint {
  return BigInt.asIntN(64, (BigInt(words[at + 1]!) << 32n) | BigInt(words[at]!));
}

/** The value that callers see: decimal digits. */
export function counterText(words: Uint32Array, at: number): Uint8Array {
  return DIGITS.encode(counterValue(words, at).toString());
}

/** A counter changes without a new version: its value is part of it. The dot keeps it from ever matching a condition. */
export function counterVersion(version: number, words: Uint32Array, at: number): KvVersion {
  return `${versionText(version)}.${BigInt.asUintN(64, counterValue(words, at)).toString(16)}`;
}
