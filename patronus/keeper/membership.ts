import { PatronusError, PatronusErrorCode } from '../errors.js';
import {
  decodeMember,
  encodeMember,
  MAX_MEMBERS,
  type Member,
  type MemberKind,
  newIncarnation,
} from './records.js';
import type { Store } from './store.js';

/** How often an entry is renewed within its expiry. */
const RENEWALS = 3;

/**
 * The entries of members: a key for each number of a kind, which the first to add it has. They expire; who is alive puts the
 * expiry off. memcached can lose everything at any time: who finds its entry gone adds it again.
 */
export class Membership {
  /** This participant, as it is entered; undefined before it joined. */
  member: Member | undefined;
  private readonly store: Store;
  private readonly prefix: string;
  private readonly expirySeconds: number;
  private timer: NodeJS.Timeout | undefined;

  /** Keys begin with `prefix`. */
  constructor(store: Store, prefix: string, expirySeconds: number) {
    this.store = store;
    this.prefix = prefix;
    this.expirySeconds = expirySeconds;
  }

  async join(kind: MemberKind, nodeId: number | undefined, address: string | undefined): Promise<Member> {
    if (this.member !== undefined) throw new TypeError('this keeper is a member already');
    const base = { kind, incarnation: newIncarnation(), pid: process.pid, address };
    const member = nodeId === undefined ? await this.enterAnywhere(base) : { ...base, number: nodeId };
    if (nodeId !== undefined && !(await this.enter(member))) {
      const message = `node ${nodeId} is there already; each node needs an id of its own`;
      throw new PatronusError(PatronusErrorCode.NODE_ID_TAKEN, message);
    }
    this.member = member;
    this.renewLater();
    return member;
  }

  async list(kind: MemberKind): Promise<Member[]> {
    const numbers = Array.from({ length: MAX_MEMBERS }, (_, number) => number);
    const members = await Promise.all(numbers.map((number) => this.look(kind, number)));
    return members.filter((member) => member !== undefined);
  }

  async leave(): Promise<void> {
    clearTimeout(this.timer);
    const { member } = this;
    if (member === undefined) return;
    this.member = undefined;
    try {
      const entered = await this.look(member.kind, member.number);
      if (entered?.incarnation === member.incarnation) await this.store.delete(this.key(member));
    } catch {
      // The entry goes by itself.
    }
  }

  /** Be a member at the first free number. */
  private async enterAnywhere(member: Omit<Member, 'number'>): Promise<Member> {
    for (let number = 0; number < MAX_MEMBERS; number++) {
      const candidate = { ...member, number };
      if (await this.enter(candidate)) return candidate;
    }
    const message = `the cluster has ${MAX_MEMBERS} clients already`;
    throw new PatronusError(PatronusErrorCode.CLUSTER_FULL, message);
  }

  /** Whether the member has its key now: it was free, or held garbage, or had the member already. */
  private async enter(member: Member): Promise<boolean> {
    const key = this.key(member);
    const record = encodeMember(member);
    if (await this.store.add(key, record, this.expirySeconds)) return true;
    const bytes = await this.store.get(key);
    const holder = bytes && decodeMember(bytes, member.kind, member.number);
    if (holder !== undefined) return holder.incarnation === member.incarnation;
    if (bytes === undefined) return this.store.add(key, record, this.expirySeconds);
    await this.store.set(key, record, this.expirySeconds);
    return true;
  }

  private renewLater(): void {
    if (this.member === undefined) return;
    this.timer = setTimeout(
      () => {
        // Out of reach: the next one may succeed.
        this.renew()
          .catch(() => {})
          .finally(() => this.renewLater());
      },
      (this.expirySeconds * 1000) / RENEWALS,
    );
    this.timer.unref();
  }

  private async renew(): Promise<void> {
    const { member } = this;
    if (member === undefined) return;
    if (await this.store.touch(this.key(member), this.expirySeconds)) {
      // It may be another's who entered while this process was away.
      const entered = await this.look(member.kind, member.number);
      if (entered?.incarnation === member.incarnation) return;
    }
    if (this.member !== member || (await this.enter(member))) return;
    // A node waits for its id to be free again; for a client another number is as good.
    if (member.kind === 'client') this.member = await this.enterAnywhere(member);
  }

  private async look(kind: MemberKind, number: number): Promise<Member | undefined> {
    const bytes = await this.store.get(this.key({ kind, number }));
    return bytes && decodeMember(bytes, kind, number);
  }

  private key({ kind, number }: { kind: MemberKind; number: number }): string {
    return `${this.prefix}${kind}/${number}`;
  }
}
