import { RetCode } from '../patronus/index.js';
import type { TableContext } from './context.js';
import { CollectionPhase } from './epoch.js';
import { unavailable } from './errors.js';
import { countUp, type Extent, type ExtentStack } from './extent-stack.js';
import { Fence, FenceLost } from './fence.js';
import {
  PieceState,
  SB_EPOCH_BYTES,
  SB_EPOCH_OFFSET,
  SB_LOST_BYTES,
  SB_LOST_OFFSET,
  UNIT_BYTES,
} from './layout.js';
import { Members } from './members.js';
import { type Piece, type Pieces, registryBytes } from './pieces.js';
import { Reachable } from './reachable.js';
import { MIN_LOCK_TERM_NS } from './splitter.js';
import { UnitMap } from './unit-map.js';
import { Words } from './words.js';

/** How often a client looks for others that died, in terms and at least; with many others less often. */
const LOOK_TERMS = 4;
const MIN_LOOK_MS = 500;
/** So much that is lost makes a collection worth its work: 256 KiB. What a client that died has left always does. */
const WORTH_UNITS = 4096;
const RAISE_ATTEMPTS = 20;
/** How long the holder of the lock sleeps at most: of its term, and at all. */
const HOLD_TERMS = 0.2;
const MAX_SLEEP_MS = 250;
/** Where everything is done at once (loopback) others on this thread get their turn after so long. */
const TURN_NS = 1e6;

/** What clients of a table share besides the index. */
export interface SharedMemory {
  readonly pieces: Pieces;
  /** Free memory for whoever needs some. */
  readonly orphans: ExtentStack;
  /** For the collection that is under way. */
  readonly handover: ExtentStack;
}

/**
 * Finds memory that is the table's and that nobody knows of: of clients that died, and where it could not be known what became
 * of a write. docs/kv.md, "Memory of clients that died", has the protocol and why nothing is used twice.
 */
export class Collector {
  /** That this handle has brought to their end. */
  collections = 0;
  readonly #context: TableContext;
  readonly #members: Members;
  readonly #lost: Words;
  readonly #shared: SharedMemory;
  readonly #lockTermNs: number;
  /** After so long no lease goes on that was granted, or extended, before: an extension gives up to one and a half terms. */
  readonly #restNs: number;
  #turnNs = 0;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<unknown> = Promise.resolve();
  #lastLook: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(context: TableContext, shared: SharedMemory) {
    const { keeper, client } = context;
    this.#context = context;
    this.#shared = shared;
    this.#members = new Members(keeper);
    this.#lost = new Words(keeper, SB_LOST_OFFSET, SB_LOST_BYTES);
    this.#lockTermNs = Math.max(MIN_LOCK_TERM_NS, keeper.termNs);
    this.#restNs = 2 * this.#lockTermNs + client.epsilonNs;
    keeper.epoch.onRefresh = () => this.#wake();
    context.allocator.onShortage = () => this.#shortage();
  }

  /** Before the table is used: from now on others notice if this client dies. */
  join(): Promise<void> {
    return this.#look();
  }

  /** Nothing is collected any more. */
  async stop(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await Promise.all([this.#looking, this.#lastLook]);
  }

  /** The last thing: what this client had is known to others. */
  async leave(): Promise<void> {
    const told = await this.#tellLost().then(
      () => true,
      () => false,
    );
    await this.#members.leave(told);
  }

  /** Collects now, unless another client does. Whether it was brought to its end. */
  async collect(): Promise<boolean> {
    const fence = await Fence.tryAcquire(
      this.#context.client,
      undefined,
      SB_EPOCH_OFFSET,
      SB_EPOCH_BYTES,
      this.#lockTermNs,
    );
    if (fence === undefined) return false;
    try {
      await this.#collectUnder(fence);
      this.collections++;
      return true;
    } catch (error) {
      if (error instanceof FenceLost) return false;
      throw error;
    } finally {
      await fence.release();
    }
  }

  /** Looks for others that died, and collects if that is due; resolves true if this client has collected. */
  async lookAndCollect(): Promise<boolean> {
    await this.#look();
    const { epoch } = this.#context.keeper;
    await epoch.refresh();
    const isDue = epoch.phase !== CollectionPhase.Done || (await this.#lostUnits()) >= WORTH_UNITS;
    return isDue && !this.#closed && (await this.collect());
  }

  /** Called after each step of a collection. */
  protected async hold(fence: Fence): Promise<void> {
    const { client, pacing } = this.#context;
    if (client.now() - this.#turnNs > TURN_NS) {
      await pacing.sleep(0);
      this.#turnNs = client.now();
    }
    if (this.#closed) throw new FenceLost();
    await fence.hold();
  }

  /** Waits until every lease that others may use without knowing of the epoch has ended. */
  protected async rest(fence: Fence): Promise<void> {
    const { client, pacing } = this.#context;
    for (const untilNs = client.now() + this.#restNs; ; ) {
      await this.hold(fence);
      const leftNs = untilNs - client.now();
      if (leftNs <= 0) return;
      await pacing.sleep(
        Math.min(MAX_SLEEP_MS, Math.ceil(Math.min(leftNs, this.#lockTermNs * HOLD_TERMS) / 1e6)),
      );
    }
  }

  async #collectUnder(fence: Fence): Promise<void> {
    const { keeper, allocator } = this.#context;
    const { orphans, handover, pieces } = this.#shared;
    const { epoch } = keeper;
    await epoch.refresh();
    const lost = await this.#lostUnits();
    const drop = 3 * epoch.cycle + CollectionPhase.Drop;
    await this.#raise(fence, drop);
    await this.rest(fence);

    const cycle = epoch.cycle;
    const old = (await pieces.read()).filter((piece) => piece.cycle < cycle);
    const swept = this.#mapOf(old.filter(({ state }) => state === PieceState.Kept));
    const left = (await orphans.takeAll(countUp)).filter(({ offset }) => !swept.covers(offset));
    const { superblock, client } = this.#context;
    swept.mark(superblock.pieces, Math.ceil(registryBytes(client.nodes[0]!.allocBytes) / UNIT_BYTES));
    await new Reachable(
      this.#context,
      () => this.hold(fence),
      (offset, units) => swept.mark(offset, units),
    ).run();

    const open = (drop + 1) & 0xffff;
    await handover.takeAll(() => open);
    await this.#raise(fence, drop + 1);
    await this.rest(fence);

    const isOpen = (tag: number) => (tag === open ? (open + 1) & 0xffff : undefined);
    const handed = (await handover.takeAll(isOpen)).filter(
      ({ offset }) => !swept.covers(offset) || swept.isMarked(offset),
    );
    // Whole pieces go back to the node, which is where clients get memory from during the next collection.
    const empty = old.filter(
      (piece) => piece.state !== PieceState.Kept || !swept.isUsed(piece.offset, piece.bytes),
    );
    for (const { offset, bytes } of empty) swept.mark(offset, bytes / UNIT_BYTES);
    const free: Extent[] = [...swept.unmarked(), ...left, ...handed];
    await this.hold(fence);
    const isMine = () => cycle === epoch.cycle;
    allocator.lose(await orphans.leave(free, (offset) => allocator.segment(offset), isMine));
    for (const piece of empty) {
      await this.hold(fence);
      await this.#giveBack(piece);
    }
    await this.#raise(fence, drop + 2);
    await this.#lost.add(0, -lost >>> 0, lost > 0 ? 0xffff_ffff : 0);
  }

  #mapOf(pieces: readonly Piece[]): UnitMap {
    const { allocOffset, allocBytes } = this.#context.client.nodes[0]!;
    return new UnitMap(allocOffset, allocBytes, pieces);
  }

  /** A piece that nobody uses, or that a client was about to use when it died. */
  async #giveBack(piece: Piece): Promise<void> {
    const { client } = this.#context;
    const { pieces } = this.#shared;
    if (piece.state !== PieceState.Doomed && !(await pieces.doom(piece))) return;
    // If it was not kept it is free already, or its client's, who sees that it must not use it.
    await client.dealloc({ nodeId: client.nodes[0]!.nodeId, offset: piece.offset }, piece.bytes);
    await pieces.forget(piece);
  }

  async #raise(fence: Fence, to: number): Promise<void> {
    const { client, keeper, pacing } = this.#context;
    const { epoch } = keeper;
    const buffer = client.getRdmaBuffer(UNIT_BYTES);
    try {
      for (let attempt = 0; attempt < RAISE_ATTEMPTS; attempt++) {
        await this.hold(fence);
        const status = await client.cas(fence.lease, buffer, 0, epoch.value, 0, to, 0);
        if (status === RetCode.Ok) {
          const found = buffer.words[0]!;
          if (found !== epoch.value && found !== to) throw new FenceLost();
          epoch.learn(to);
          return;
        }
        await pacing.sleep(1);
      }
    } finally {
      client.putRdmaBuffer(buffer);
    }
    throw unavailable();
  }

  /** One at a time: a client has one place. */
  async #look(): Promise<void> {
    const look = this.#lastLook.then(() => this.#members.look(() => this.#lost.add(0, WORTH_UNITS, 0)));
    this.#lastLook = look.catch(() => undefined);
    await look;
    await this.#tellLost();
  }

  async #tellLost(): Promise<void> {
    const { allocator } = this.#context;
    const lost = allocator.takeLost();
    if (lost === 0) return;
    try {
      await this.#lost.add(0, lost, 0);
    } catch (error) {
      allocator.lose(lost);
      throw error;
    }
  }

  async #lostUnits(): Promise<number> {
    const [lo, hi] = await this.#lost.read(0, 8);
    return hi! >= 0x8000_0000 ? 0 : lo!;
  }

  /** The memory node has no more: what others had may come back. */
  async #shortage(): Promise<boolean> {
    const { epoch } = this.#context.keeper;
    const { cycle, phase } = epoch;
    const collected = this.lookAndCollect().catch(() => false);
    this.#looking = collected;
    if (await collected) return true;
    // Another client may be at it.
    const untilNs = this.#context.client.now() + 4 * this.#restNs;
    while (epoch.phase !== CollectionPhase.Done && this.#context.client.now() < untilNs && !this.#closed) {
      await this.#context.pacing.sleep(Math.min(MAX_SLEEP_MS, Math.ceil((this.#restNs * HOLD_TERMS) / 1e6)));
      await epoch.refresh().catch(() => undefined);
    }
    return epoch.phase === CollectionPhase.Done && (epoch.cycle > cycle || phase !== CollectionPhase.Done);
  }

  /** Looks some time from now. A handle that nobody uses does not. */
  #wake(): void {
    if (this.#timer !== undefined || this.#closed) return;
    const { keeper, pacing } = this.#context;
    const ms = Math.max(MIN_LOOK_MS, (LOOK_TERMS * keeper.termNs) / 1e6);
    const share = 0.75 + this.#members.others / 4 + pacing.random() / 2;
    this.#timer = setTimeout(() => {
      const looking = this.lookAndCollect().catch(() => false);
      this.#looking = looking;
      looking.finally(() => {
        this.#timer = undefined;
      });
    }, ms * share);
    this.#timer.unref();
  }
}
