/** The conformance suite of the verbs contract, for any link. It assumes of no request that it is done when it was rung. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DeviceAttr } from '../../../native/index.js';
import { Rig } from '../rig.js';
import { closing } from './closing.js';
import { connections } from './connections.js';
import { failures } from './failures.js';
import type { Link } from './link.js';
import { messages } from './messages.js';
import { operations } from './operations.js';
import { queues } from './queues.js';
import { states } from './states.js';
import { waiting } from './waiting.js';
import { windows } from './windows.js';

/** What the sections of the suite stand on. */
export class Ground {
  readonly link: Link;
  /** The client's. */
  readonly attr: DeviceAttr;
  /** Fresh for each test. */
  rig!: Rig;
  readonly titles = new Set<string>();

  constructor(link: Link) {
    this.link = link;
    const device = link.openClient();
    this.attr = device.attr;
    device.close();
  }

  /** `lacks`: what the device has not that the test needs; the test is skipped for it. */
  test(title: string, run: () => void | Promise<void>, lacks?: string | false): void {
    this.titles.add(title);
    const reason = this.link.deviations[title] ?? (lacks || undefined);
    if (reason === undefined) {
      test(title, run);
      return;
    }
    process.stdout.write(`verbs over ${this.link.name}: skipped: ${title}: ${reason}\n`);
    test.skip(`${title} (${reason})`, run);
  }
}

export function conformance(link: Link): void {
  describe(`verbs over ${link.name}`, () => {
    const ground = new Ground(link);
    beforeEach(async () => {
      ground.rig = await Rig.open(link);
    });
    afterEach(() => ground.rig.close());
    const sections = {
      operations,
      failures,
      messages,
      windows,
      states,
      queues,
      waiting,
      connections,
      closing,
    };
    for (const [name, section] of Object.entries(sections)) describe(name, () => section(ground));
    test('the known deviations are of tests that there are', () => {
      expect(Object.keys(link.deviations).filter((title) => !ground.titles.has(title))).toEqual([]);
    });
  });
}
