import { AcquireStatus, RetCode } from './api.js';

/** Codes of {@link PatronusError}: stable, never reused. */
export const PatronusErrorCode = {
  /** The NIC refused the access: outside the lease, wrong right, or the lease has ended. */
  PROTECTION: 'ERR_PATRONUS_PROTECTION',
  /** The NIC could not execute the request. */
  EXECUTION: 'ERR_PATRONUS_EXECUTION',
  /** The lease's term is over by this client's clock; nothing was sent. */
  LEASE_EXPIRED: 'ERR_PATRONUS_LEASE_EXPIRED',
  /** A malformed request, or one for somebody else's lease or memory. */
  INVALID: 'ERR_PATRONUS_INVALID',
  /** The lease has ended already. */
  NOT_FOUND: 'ERR_PATRONUS_NOT_FOUND',
  ADDRESS_OUT_OF_RANGE: 'ERR_PATRONUS_ADDRESS_OUT_OF_RANGE',
  NO_MEMORY: 'ERR_PATRONUS_NO_MEMORY',
  /** No memory window or no place in the lease table is left, for this client or at all. */
  NO_WINDOW: 'ERR_PATRONUS_NO_WINDOW',
  BIND: 'ERR_PATRONUS_BIND',
  /** Another lease holds the lock. */
  LOCKED: 'ERR_PATRONUS_LOCKED',
  /** The NIC has no room for another memory region. */
  REGISTER: 'ERR_PATRONUS_REGISTER',
  /** The memory node's policy does not allow it to this client. */
  DENIED: 'ERR_PATRONUS_DENIED',
  /** The connection ended while the access was under way: it may or may not have been executed. */
  OUTCOME_UNKNOWN: 'ERR_PATRONUS_OUTCOME_UNKNOWN',
  /** The memory node did not accept the connection. */
  CONNECT: 'ERR_PATRONUS_CONNECT',
  /** The memory node could not listen, or the machine gave it no memory. */
  LISTEN: 'ERR_PATRONUS_LISTEN',
  /** The connection ended; what was under way may or may not have happened. */
  DISCONNECTED: 'ERR_PATRONUS_DISCONNECTED',
  /** No answer in time; the request may or may not have been carried out. */
  TIMEOUT: 'ERR_PATRONUS_TIMEOUT',
  /** The clock of the memory node could not be read, so no lease of it can be judged. */
  CLOCK: 'ERR_PATRONUS_CLOCK',
  /** memcached can't be reached, or does not answer in time. */
  KEEPER_UNAVAILABLE: 'ERR_PATRONUS_KEEPER_UNAVAILABLE',
  /** A key of the keeper holds what nobody of this cluster has put there. */
  KEEPER_GARBAGE: 'ERR_PATRONUS_KEEPER_GARBAGE',
  /** A live memory node of the cluster has this id. */
  NODE_ID_TAKEN: 'ERR_PATRONUS_NODE_ID_TAKEN',
  /** The cluster has as many clients as it can have. */
  CLUSTER_FULL: 'ERR_PATRONUS_CLUSTER_FULL',
  /** A member died that a barrier waited for. */
  BARRIER_BROKEN: 'ERR_PATRONUS_BARRIER_BROKEN',
  /** The client, the node or the keeper was closed. */
  CLOSED: 'ERR_PATRONUS_CLOSED',
} as const;
export type PatronusErrorCode = (typeof PatronusErrorCode)[keyof typeof PatronusErrorCode];

/** What can go wrong in operation. Misuse of the API is a TypeError or a RangeError instead. */
export class PatronusError extends Error {
  readonly code: PatronusErrorCode;
  constructor(code: PatronusErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'PatronusError';
    this.code = code;
  }
}

export function retCodeError(status: RetCode, what: string): PatronusError {
  const [code, message] = retCodeErrors[status] ?? retCodeErrors[RetCode.RdmaExecutionErr]!;
  return new PatronusError(code, `${what}: ${message}`);
}

export function acquireError(status: AcquireStatus, what = 'acquire'): PatronusError {
  const [code, message] = acquireErrors[status] ?? acquireErrors[AcquireStatus.InvalidErr]!;
  return new PatronusError(code, `${what}: ${message}`);
}

const retCodeErrors: { readonly [status: number]: readonly [PatronusErrorCode, string] } = {
  [RetCode.NotFound]: [PatronusErrorCode.NOT_FOUND, 'the lease has ended already'],
  [RetCode.NoMem]: [PatronusErrorCode.NO_MEMORY, 'out of memory'],
  [RetCode.Invalid]: [PatronusErrorCode.INVALID, 'not allowed'],
  [RetCode.RdmaProtectionErr]: [PatronusErrorCode.PROTECTION, 'the NIC refused the access'],
  [RetCode.RdmaExecutionErr]: [PatronusErrorCode.EXECUTION, 'the NIC could not execute the request'],
  [RetCode.LeaseLocalExpiredErr]: [PatronusErrorCode.LEASE_EXPIRED, "the lease's term is over"],
  [RetCode.OutcomeUnknown]: [
    PatronusErrorCode.OUTCOME_UNKNOWN,
    'the connection ended; it may or may not have been executed',
  ],
};

const acquireErrors: { readonly [status: number]: readonly [PatronusErrorCode, string] } = {
  [AcquireStatus.AddressOutOfRangeErr]: [
    PatronusErrorCode.ADDRESS_OUT_OF_RANGE,
    'the range is empty or not within the leasable memory of the node',
  ],
  [AcquireStatus.NoMem]: [PatronusErrorCode.NO_MEMORY, 'the memory node has no such piece left'],
  [AcquireStatus.NoMw]: [
    PatronusErrorCode.NO_WINDOW,
    'no memory window or lease entry is left for this client',
  ],
  [AcquireStatus.BindErr]: [PatronusErrorCode.BIND, 'the NIC refused to bind the window'],
  [AcquireStatus.InvalidErr]: [PatronusErrorCode.INVALID, 'malformed request'],
  [AcquireStatus.LockedErr]: [PatronusErrorCode.LOCKED, 'another lease holds the lock'],
  [AcquireStatus.RegMrErr]: [PatronusErrorCode.REGISTER, 'no room for another memory region'],
  [AcquireStatus.DeniedErr]: [PatronusErrorCode.DENIED, 'the policy of the node does not allow it'],
};
