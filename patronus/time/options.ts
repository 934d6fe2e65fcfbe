/** How a client knows the clocks of its memory nodes. */
export interface TimeOptions {
  /**
   * Measure the node's clock instead of reading the own one in its place. Default: only for nodes of other hosts; all
   * processes of a host read the same monotonic clock.
   */
  readonly synchronise?: boolean;
  /** Without synchronisation: how far the clocks may be apart, ns. Default 0. */
  readonly epsilonNs?: number;
  /** With it: the most by which the rates of two clocks differ, in millionths. Default 1200. */
  readonly driftPpm?: number;
  /** Between two rounds, ms. Default 100. */
  readonly intervalMs?: number;
  /** The client's clock, ns. Default: the monotonic clock of the host. */
  readonly now?: () => number;
}

/** Whether a memory node with this address is on this host, by the kind of link. */
export function ofThisHost(address: string): boolean {
  return address.startsWith('loopback:') || address.startsWith('unix:');
}
