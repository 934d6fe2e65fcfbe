import type { TableContext } from '../../../kv/context.js';
import { Get } from '../../../kv/get.js';
import { Put } from '../../../kv/put.js';
import { Table } from '../../../kv/table.js';
import { ScatteredPut } from '../runs.js';

/** Inserts that commit without a second look at the buckets: a key can be there twice. */
class Blind extends ScatteredPut {
  protected override findCandidates(withPending: boolean, except: number): void {
    super.findCandidates(withPending, except);
    if (except >= 0) this.candidateCount = 0;
  }
}

class BlindTable extends Table {
  protected override newPut(): Put {
    return new Blind(this.context);
  }
}

/** Believes its cached directory: the headers of the buckets are not looked at. */
class StaleGet extends Get {
  protected override get bucketsServe(): boolean {
    return true;
  }
}

class StalePut extends Put {
  protected override get bucketsServe(): boolean {
    return true;
  }
}

class StaleTable extends Table {
  protected override newGet(): Get {
    return new StaleGet(this.context);
  }
  protected override newPut(): Put {
    return new StalePut(this.context);
  }
}

export const MUTANTS = {
  none: (context: TableContext): Table => new Table(context),
  blind: (context: TableContext): Table => new BlindTable(context),
  stale: (context: TableContext): Table => new StaleTable(context),
};
export type Mutant = keyof typeof MUTANTS;
