/** Who may do what with the memory of a node. */

/** A question to a policy. One object is used for all questions: a policy must not keep it. */
export interface Access {
  /** Who asks. */
  identity: number;
  /** The range, bytes in the node's memory. */
  offset: number;
  size: number;
  write: boolean;
  /** Whether any of the range is in the allocation buffer. */
  inAllocationBuffer: boolean;
  /** Who allocated the piece that all of the range lies in; 0 if it lies in no single piece. */
  owner: number;
  /** Whether that piece outlives its owner, and whether the owner has granted its use to who asks. */
  kept: boolean;
  granted: boolean;
}

export interface Policy {
  /** Whether a lease on the range may be granted. */
  mayLease(access: Readonly<Access>): boolean;
  /** Whether the piece that the range lies in may be freed. */
  mayFree(access: Readonly<Access>): boolean;
  /** Whether memory is cleared when it is allocated: it may hold what another client must not see. */
  readonly clears: boolean;
}

/** Everybody may lease everything; what was allocated to stay may be freed by everybody. */
const open: Policy = {
  mayLease: () => true,
  mayFree: (access) => access.owner === access.identity || access.kept,
  clears: false,
};

/** The lease buffer is everybody's; allocated memory is for who allocated it and those it was granted to. */
const owner: Policy = {
  mayLease: (access) =>
    !access.inAllocationBuffer ||
    (access.owner !== 0 && (access.owner === access.identity || access.granted)),
  mayFree: (access) => access.owner === access.identity || (access.kept && access.granted),
  clears: true,
};

export const policies = { open, owner } as const;
export type PolicyName = keyof typeof policies;
