/**
 * Turns readings of a clock page into samples of the clock. A page can be stale: its writer may have stopped between
 * looking at the clock and writing, or after it, for as long as it likes. What bounds the age of a value is order: it
 * was taken after the one before it had been written, which was after the one before that had still been seen. So a value
 * becomes a sample together with a reading that began earlier and saw a value at least two older.
 *
 *   writer:   clock k | write k | clock k+1 | write k+1 | clock k+2 | write k+2
 *   reader:             [sees k .............................................. sees k+2]
 *                        before                                                   after
 */
export class PageReadings {
  /** Begin and number of the readings that others will be paired with: the last one of each of two numbers. */
  private olderBegan = 0;
  private olderNumber = Number.NaN;
  private newerBegan = 0;
  private newerNumber = Number.NaN;
  /** When the value that this reading showed had not been taken yet: local ns, valid after take() gave true. */
  before = 0;

  /** A reading that began at the local time `began` showed value number `number`. Whether it is a sample, from `before`. */
  take(began: number, number: number): boolean {
    if (number === this.newerNumber) {
      // The same value again, seen later: it still was the newest then.
      this.newerBegan = began;
      return false;
    }
    const paired = number - this.newerNumber >= 2;
    if (paired) this.before = this.newerBegan;
    else this.before = this.olderBegan;
    const sample = paired || number - this.olderNumber >= 2;
    // Numbers run on; one that is smaller is that of another life of the page.
    const restarted = number < this.newerNumber;
    this.olderNumber = restarted ? Number.NaN : this.newerNumber;
    this.olderBegan = this.newerBegan;
    this.newerNumber = number;
    this.newerBegan = began;
    return sample && !restarted;
  }
}
