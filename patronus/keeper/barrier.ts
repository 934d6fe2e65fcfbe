import { setTimeout as pause } from 'node:timers/promises';
import { PatronusError, PatronusErrorCode } from '../errors.js';
import type { Membership } from './membership.js';
import type { Member, MemberKind } from './records.js';
import type { Store } from './store.js';

const EXPIRY_SECONDS = 3600;
const LEAST_PAUSE_MS = 10;
const MOST_PAUSE_MS = 200;
/** Between two looks at who is alive. */
const LIVENESS_MS = 500;

export interface BarrierInit {
  readonly store: Store;
  readonly membership: Membership;
  /** Of the barrier's keys. */
  readonly prefix: string;
  readonly name: string;
  readonly kinds: readonly MemberKind[];
  readonly count: number;
  readonly timeoutMs: number;
  /** For how long a member must be missing to count as dead: entries come back after the keeper has lost them. */
  readonly absenceMs: number;
}

/**
 * A wait for `count` members. Each who comes adds itself at the first of `count` places that is free; all places taken
 * means that all have come. Places that get lost with the keeper are taken again by those who still wait.
 */
export class Barrier {
  private readonly init: BarrierInit;
  /** Members seen while waiting, and since when they have been missing. */
  private readonly seen = new Map<string, { readonly member: Member; missingSince: number | undefined }>();

  constructor(init: BarrierInit) {
    this.init = init;
  }

  async wait(): Promise<void> {
    const { name, timeoutMs } = this.init;
    const deadline = performance.now() + timeoutMs;
    let nextLook = 0;
    let cause: unknown;
    for (let pauseMs = LEAST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, MOST_PAUSE_MS)) {
      try {
        const arrived = await this.arrive();
        if (arrived === undefined) return;
        if (performance.now() >= nextLook) {
          await this.lookForDead(arrived);
          nextLook = performance.now() + LIVENESS_MS;
        }
      } catch (error) {
        // Time enough to wait until it is back.
        if (!unavailable(error)) throw error;
        cause = error;
      }
      if (performance.now() + pauseMs >= deadline) {
        const message = `barrier ${name}: not all came within ${timeoutMs} ms`;
        throw new PatronusError(PatronusErrorCode.TIMEOUT, message, { cause });
      }
      await pause(pauseMs);
    }
  }

  /** Take a place unless there is one already; who has one, or undefined if all places are taken. */
  private async arrive(): Promise<ReadonlySet<string> | undefined> {
    const { store, count, prefix, name } = this.init;
    const own = this.init.membership.member!.incarnation;
    const places = Array.from({ length: count }, (_, place) => `${prefix}${place}`);
    const holders = await Promise.all(places.map((key) => store.get(key)));
    const taken = new Set(holders.flatMap((bytes) => (bytes === undefined ? [] : text(bytes))));
    if (!taken.has(own)) {
      const free = holders.indexOf(undefined);
      if (free < 0) {
        const message = `barrier ${name} is for ${count} and they have come`;
        throw new PatronusError(PatronusErrorCode.INVALID, message);
      }
      for (let place = free; place < count; place++) {
        await store.add(places[place]!, Buffer.from(own), EXPIRY_SECONDS);
        if (text((await store.get(places[place]!)) ?? new Uint8Array()) === own) break;
      }
      return taken;
    }
    return holders.includes(undefined) ? taken : undefined;
  }

  private async lookForDead(arrived: ReadonlySet<string>): Promise<void> {
    const { membership, kinds, count, name, absenceMs } = this.init;
    const lists = await Promise.all(kinds.map((kind) => membership.list(kind)));
    const live = new Set<string>();
    for (const member of lists.flat()) {
      live.add(member.incarnation);
      this.seen.set(member.incarnation, { member, missingSince: undefined });
    }
    const now = performance.now();
    const dead: Member[] = [];
    for (const entry of this.seen.values()) {
      if (live.has(entry.member.incarnation)) continue;
      entry.missingSince ??= now;
      if (now - entry.missingSince < absenceMs) live.add(entry.member.incarnation);
      else if (!arrived.has(entry.member.incarnation)) dead.push(entry.member);
    }
    if (dead.length === 0 || new Set([...live, ...arrived]).size >= count) return;
    const names = dead.map(({ kind, number, pid }) => `${kind} ${number} (process ${pid})`).join(', ');
    const message = `barrier ${name}: ${names} died, and those left are fewer than ${count}`;
    throw new PatronusError(PatronusErrorCode.BARRIER_BROKEN, message);
  }
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function unavailable(error: unknown): boolean {
  return error instanceof PatronusError && error.code === PatronusErrorCode.KEEPER_UNAVAILABLE;
}
