import { nowNs } from '../../native/index.js';
import type { Trace, TraceStep } from '../api.js';

/** A trace in the making: made only for a call with EnableTrace, a bit that differs between the kinds of calls. */
export class Tracer implements Trace {
  readonly beginNs = nowNs();
  readonly steps: TraceStep[] = [];

  static ifAsked(flags: number, enableTrace: number): Tracer | undefined {
    return (flags & enableTrace) !== 0 ? new Tracer() : undefined;
  }

  /** This step has just been done. */
  mark(name: TraceStep['name']): void {
    this.steps.push({ name, ns: nowNs() - this.beginNs });
  }

  /**
   * The answer has come, of what the memory node began so long ago: after the first step and before the answer, whatever the error of
   * the clocks.
   */
  markGrant(agoNs: number): void {
    const { steps } = this;
    const first = steps[0]!;
    const last = steps[steps.length - 1]!;
    const ns = Math.min(Math.max(nowNs() - this.beginNs - agoNs, first.ns), last.ns);
    let at = steps.length - 1;
    while (at > 1 && steps[at - 1]!.ns > ns) at--;
    steps.splice(at, 0, { name: 'granted', ns });
  }
}
