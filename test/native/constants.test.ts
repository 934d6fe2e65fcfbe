import { expect, test } from 'vitest';
import { addon } from '../../native/addon.js';
import * as verbs from '../../native/verbs.js';

test('the constants and layouts of TypeScript and of C++ are the same', () => {
  expect(addon.constants).toEqual({ ...verbs });
});
