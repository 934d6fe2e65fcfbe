/**
 * Blocks that no slot points to any more but that somebody may still be reading, in the order of their unlinking. A
 * growing ring of typed arrays: nothing is allocated for a block.
 */
export class Limbo {
  #offsets = new Float64Array(256);
  #units = new Uint32Array(256);
  #untilNs = new Float64Array(256);
  #head = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** When the oldest block may be reused. Only if count > 0. */
  get headUntilNs(): number {
    return this.#untilNs[this.#head]!;
  }

  get headOffset(): number {
    return this.#offsets[this.#head]!;
  }

  get headUnits(): number {
    return this.#units[this.#head]!;
  }

  /** `untilNs` must not decrease from one block to the next. */
  push(offset: number, units: number, untilNs: number): void {
    if (this.#count === this.#offsets.length) this.#grow();
    const at = (this.#head + this.#count) & (this.#offsets.length - 1);
    this.#offsets[at] = offset;
    this.#units[at] = units;
    this.#untilNs[at] = untilNs;
    this.#count++;
  }

  shift(): void {
    this.#head = (this.#head + 1) & (this.#offsets.length - 1);
    this.#count--;
  }

  clear(): void {
    this.#count = 0;
  }

  #grow(): void {
    const size = this.#offsets.length;
    const offsets = new Float64Array(2 * size);
    const units = new Uint32Array(2 * size);
    const untilNs = new Float64Array(2 * size);
    for (let i = 0; i < this.#count; i++) {
      const at = (this.#head + i) & (size - 1);
      offsets[i] = this.#offsets[at]!;
      units[i] = this.#units[at]!;
      untilNs[i] = this.#untilNs[at]!;
    }
    this.#offsets = offsets;
    this.#units = units;
    this.#untilNs = untilNs;
    this.#head = 0;
  }
}
