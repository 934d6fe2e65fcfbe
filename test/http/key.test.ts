import { describe, expect, it } from 'vitest';
import { keyOf } from '../../http/key.js';
import { HttpErrorCode } from '../../http/problems.js';

const MAX_KEY_BYTES = 4096;

function bytesOf(encoded: string): number[] {
  const key = keyOf(`/v1/kv/${encoded}`, MAX_KEY_BYTES);
  expect(key).toBeInstanceOf(Uint8Array);
  return [...(key as Uint8Array)];
}

function ascii(text: string): number[] {
  return [...Buffer.from(text, 'ascii')];
}

describe('keyOf', () => {
  it.each([
    ['plain', ascii('plain')],
    ['a/b//c/', ascii('a/b//c/')],
    ['..', ascii('..')],
    ['./../v1/kv/x', ascii('./../v1/kv/x')],
    ['a+b%2B', ascii('a+b+')],
    ['a%2Fb%2fc', ascii('a/b/c')],
    ['%41%4a%4A', ascii('AJJ')],
    ['%25', ascii('%')],
    ['%2541', ascii('%41')],
    ['%3F%23', ascii('?#')],
    ['"<>\\^`{|}', ascii('"<>\\^`{|}')],
    ['%00', [0]],
    ['%FF%fe', [0xff, 0xfe]],
    ['%C3%BCber', [...Buffer.from('über')]],
    ['%F0%9F%98%80', [...Buffer.from('😀')]],
  ])('takes %s as bytes', (encoded, bytes) => {
    expect(bytesOf(encoded)).toEqual(bytes);
  });

  it('decodes what encodeURIComponent encodes', () => {
    for (const text of ['Ångström', "café's", 'a b&c=d?e#f/g%', '\u0000\u007f\u0080\uffff']) {
      expect(bytesOf(encodeURIComponent(text))).toEqual([...Buffer.from(text)]);
    }
  });

  it('decodes every byte, in upper and lower case', () => {
    for (let byte = 0; byte < 256; byte++) {
      const digits = byte.toString(16).padStart(2, '0');
      expect(bytesOf(`%${digits}`)).toEqual([byte]);
      expect(bytesOf(`x%${digits.toUpperCase()}y`)).toEqual([0x78, byte, 0x79]);
    }
  });

  it.each([
    ['%', HttpErrorCode.KEY_MALFORMED],
    ['a%', HttpErrorCode.KEY_MALFORMED],
    ['a%4', HttpErrorCode.KEY_MALFORMED],
    ['%zz', HttpErrorCode.KEY_MALFORMED],
    ['%4g', HttpErrorCode.KEY_MALFORMED],
    ['%g4', HttpErrorCode.KEY_MALFORMED],
    ['%%41', HttpErrorCode.KEY_MALFORMED],
    ['%\u{ff14}1', HttpErrorCode.KEY_MALFORMED],
    ['a#b', HttpErrorCode.KEY_MALFORMED],
    ['', HttpErrorCode.KEY_EMPTY],
    ['a?b=c', HttpErrorCode.QUERY_UNSUPPORTED],
    ['a?', HttpErrorCode.QUERY_UNSUPPORTED],
  ])('refuses %j with %s', (encoded, code) => {
    expect(keyOf(`/v1/kv/${encoded}`, MAX_KEY_BYTES)).toBe(code);
  });

  it('counts decoded bytes against the limit', () => {
    expect(bytesOf('k'.repeat(MAX_KEY_BYTES))).toHaveLength(MAX_KEY_BYTES);
    expect(bytesOf('%6b'.repeat(MAX_KEY_BYTES))).toHaveLength(MAX_KEY_BYTES);
    expect(keyOf(`/v1/kv/${'k'.repeat(MAX_KEY_BYTES + 1)}`, MAX_KEY_BYTES)).toBe(HttpErrorCode.KEY_TOO_LONG);
    expect(keyOf(`/v1/kv/${'%6b'.repeat(MAX_KEY_BYTES + 1)}`, MAX_KEY_BYTES)).toBe(
      HttpErrorCode.KEY_TOO_LONG,
    );
  });
});
