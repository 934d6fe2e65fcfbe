import { randomBytes } from 'node:crypto';
import { Packr } from 'msgpackr';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import { MAX_VALUE_BYTES } from './store.js';

export type MemberKind = 'node' | 'client';

/** Who takes part in a cluster. */
export interface Member {
  readonly kind: MemberKind;
  /** Of a node its id; of a client its place among the clients. Both from 0 to below MAX_MEMBERS. */
  readonly number: number;
  /** Of one life of the process: another one after a restart. 16 hexadecimal digits. */
  readonly incarnation: string;
  readonly pid: number;
  /** Where clients connect to; of a node only. */
  readonly address: string | undefined;
}

/** Of each kind. */
export const MAX_MEMBERS = 256;
const RECORD_VERSION = 1;
const MAX_RECORD_BYTES = 1024;
const MAX_ADDRESS_BYTES = 512;
/** More than msgpack needs beside the value. */
const WRAPPER_BYTES = 16;

// Plain msgpack, without msgpackr's own extensions.
const packr = new Packr({ useRecords: false, moreTypes: false });

export function newIncarnation(): string {
  return randomBytes(8).toString('hex');
}

export function encodeMember(member: Member): Uint8Array {
  const { kind, number, incarnation, pid, address } = member;
  const bytes = packr.pack([RECORD_VERSION, kind, number, incarnation, pid, address ?? null]);
  if (bytes.length > MAX_RECORD_BYTES) throw new RangeError('the address is too long');
  return bytes;
}

/** The member that the bytes under its key describe; undefined if they are anything else. */
export function decodeMember(bytes: Uint8Array, kind: MemberKind, number: number): Member | undefined {
  if (bytes.length > MAX_RECORD_BYTES) return undefined;
  const fields = unpack(bytes);
  if (!Array.isArray(fields) || fields.length !== 6) return undefined;
  const [version, itsKind, itsNumber, incarnation, pid, address] = fields as unknown[];
  if (version !== RECORD_VERSION || itsKind !== kind || itsNumber !== number) return undefined;
  if (typeof incarnation !== 'string' || !/^[0-9a-f]{16}$/.test(incarnation)) return undefined;
  if (typeof pid !== 'number' || !Number.isInteger(pid) || pid < 1 || pid > 2 ** 31) return undefined;
  if (kind === 'node') {
    if (typeof address !== 'string' || address === '' || address.length > MAX_ADDRESS_BYTES) return undefined;
    return { kind, number, incarnation, pid, address };
  }
  return address === null ? { kind, number, incarnation, pid, address: undefined } : undefined;
}

/** Users' values and marks travel wrapped, so that what others wrote under the key shows. */
export function encodeValue(value: Uint8Array): Uint8Array {
  if (value.length > MAX_VALUE_BYTES) {
    throw new RangeError(`a value has at most ${MAX_VALUE_BYTES} bytes, not ${value.length}`);
  }
  return packr.pack([RECORD_VERSION, value]);
}

export function decodeValue(bytes: Uint8Array, key: string): Uint8Array {
  const fields = bytes.length <= MAX_VALUE_BYTES + WRAPPER_BYTES ? unpack(bytes) : undefined;
  if (!Array.isArray(fields) || fields.length !== 2 || fields[0] !== RECORD_VERSION) throw garbage(key);
  const [, value] = fields as unknown[];
  if (!(value instanceof Uint8Array)) throw garbage(key);
  return new Uint8Array(value);
}

function unpack(bytes: Uint8Array): unknown {
  try {
    return packr.unpack(bytes);
  } catch {
    return undefined;
  }
}

function garbage(key: string): PatronusError {
  return new PatronusError(
    PatronusErrorCode.KEEPER_GARBAGE,
    `the keeper's key ${key} holds what is no record`,
  );
}
