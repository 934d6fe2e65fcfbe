import { describe, expect, it } from 'vitest';
import { readWords, runWordList, valueFor } from '../../scripts/wordlist.js';
import { CliProcess } from './cli-process.js';
import { type Liar, LyingServer } from './lying-server.js';

const TIMEOUT_MS = 400_000;

describe('the word list', () => {
  it(
    'of more than 100,000 words goes in, comes back and goes away over HTTP',
    async () => {
      const words = readWords();
      expect(words.length).toBeGreaterThan(100_000);
      const { process: cli, url } = await CliProcess.serve();
      await using _ = cli;
      const report = await runWordList(url, words);
      const third = Math.ceil(words.length / 3);
      expect(report).toEqual({ words: words.length, created: words.length, replaced: 0, deleted: third });
      const { kv } = (await (await fetch(`${url}/v1/stats`)).json()) as { kv: Record<string, number> };
      expect(kv).toMatchObject({ puts: words.length, gets: 2 * words.length, dels: third });
      cli.kill('SIGTERM');
      expect(await cli.exited).toEqual({ code: 0, signal: null });
    },
    TIMEOUT_MS,
  );

  it('that is missing is an error that says what to install', () => {
    expect(() => readWords('/nowhere/words')).toThrow(/no word list at \/nowhere\/words .*wamerican/);
  });

  it('a wrong value, a lost and an undeleted word are found', async () => {
    const words = ['one', 'two', 'three', 'four'];
    // Each breaks one answer of a server that is right otherwise.
    const lies: [string, Liar][] = [
      [
        'GET of two: not its value',
        (method, word) => (method === 'GET' && word === 'two' ? { text: valueFor('one') } : undefined),
      ],
      [
        'GET of three: 404',
        (method, word) => (method === 'GET' && word === 'three' ? { status: 404 } : undefined),
      ],
      [
        'GET of three: not its value',
        (method, word, nth) => (method === 'GET' && word === 'three' && nth === 2 ? { text: '' } : undefined),
      ],
      [
        'GET of four: 200',
        (method, word, nth) =>
          method === 'GET' && word === 'four' && nth === 2 ? { status: 200 } : undefined,
      ],
      ['DELETE of one: 404', (method) => (method === 'DELETE' ? { status: 404 } : undefined)],
      [
        'PUT of one: 507',
        (method, word) => (method === 'PUT' && word === 'one' ? { status: 507 } : undefined),
      ],
    ];
    for (const [message, lie] of lies) {
      await using server = await LyingServer.start(lie);
      await expect(runWordList(server.url, words)).rejects.toThrow(message);
    }
    await using honest = await LyingServer.start(() => undefined);
    await expect(runWordList(honest.url, words)).resolves.toMatchObject({ words: 4, deleted: 2 });
  });
});
