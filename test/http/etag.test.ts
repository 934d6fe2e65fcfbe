import { describe, expect, it } from 'vitest';
import { etagOf, noneMatchNames } from '../../http/etag.js';

describe('noneMatchNames', () => {
  const etag = etagOf('1f');

  it.each(['"1f"', 'W/"1f"', '*', ' * ', '"0", "1f"', '"0",W/"1f","2"', '"a,b" , "1f"'])(
    '%s names it',
    (field) => {
      expect(noneMatchNames(field, etag)).toBe(true);
    },
  );

  it.each(['"1"', '1f', '"1f', '"1F"', '"0", "2"', '', '"*"', '"x1f"'])('%s does not', (field) => {
    expect(noneMatchNames(field, etag)).toBe(false);
  });
});
