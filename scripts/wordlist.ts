/**
 * Loads a word list into a running server, line by line over HTTP, and checks what it reads back:
 *
 *   node dist/scripts/wordlist.js http://127.0.0.1:8080 [FILE]
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Pool } from 'undici';

export const WORD_LIST = '/usr/share/dict/words';

const CONNECTIONS = 16;
const PIPELINING = 2;
const UNDER_WAY = CONNECTIONS * PIPELINING;
/** Every so many words, one is deleted. */
const DELETE_EVERY = 3;

export interface WordListReport {
  readonly words: number;
  readonly created: number;
  readonly replaced: number;
  readonly deleted: number;
}

export interface Progress {
  readonly phase: 'write' | 'read' | 'delete' | 'read again';
  readonly done: number;
  readonly of: number;
}

/** The words of a file, one a line. Throws with a clear message if there is no such list. */
export function readWords(path: string = WORD_LIST): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Error(`no word list at ${path} (Debian, Ubuntu: apt-get install wamerican)`, { cause });
  }
  const words = text.split('\n').filter((line) => line !== '');
  return [...new Set(words)];
}

/** Of 64 to 512 bytes, and like that of no other word. */
export function valueFor(word: string): string {
  const digest = createHash('sha256').update(word).digest('hex');
  return digest.repeat(1 + (digest.charCodeAt(0) % 8));
}

/**
 * Writes every word with its value, reads all back, deletes every third and reads all again. Rejects at the first
 * answer that is not the right one.
 */
export async function runWordList(
  url: string,
  words: readonly string[],
  onProgress: (progress: Progress) => void = () => {},
): Promise<WordListReport> {
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: PIPELINING });
  const isDeleted = (index: number): boolean => index % DELETE_EVERY === 0;
  let created = 0;
  let deleted = 0;

  async function exchange(method: Method, word: string, allowed: readonly number[]): Promise<Answer> {
    const answer = await send(pool, method, word);
    if (!allowed.includes(answer.status)) {
      throw new Error(`${method} of ${word}: ${answer.status} ${answer.text}`);
    }
    return answer;
  }

  async function readBack(word: string): Promise<void> {
    const { text } = await exchange('GET', word, [200]);
    if (text !== valueFor(word)) throw new Error(`GET of ${word}: not its value but ${text}`);
  }

  /** Does something for every word, a bounded number at a time. */
  async function forEach(
    phase: Progress['phase'],
    step: (word: string, index: number) => Promise<void>,
  ): Promise<void> {
    let next = 0;
    let done = 0;
    const worker = async (): Promise<void> => {
      while (next < words.length) {
        const index = next++;
        await step(words[index]!, index);
        done++;
        if (done % 10_000 === 0 || done === words.length) onProgress({ phase, done, of: words.length });
      }
    };
    await Promise.all(Array.from({ length: UNDER_WAY }, worker));
  }

  try {
    await forEach('write', async (word) => {
      const { status } = await exchange('PUT', word, [201, 204]);
      if (status === 201) created++;
    });
    await forEach('read', readBack);
    await forEach('delete', async (word, index) => {
      if (!isDeleted(index)) return;
      await exchange('DELETE', word, [204]);
      deleted++;
    });
    await forEach('read again', async (word, index) => {
      if (isDeleted(index)) await exchange('GET', word, [404]);
      else await readBack(word);
    });
  } finally {
    await pool.destroy();
  }
  return { words: words.length, created, replaced: words.length - created, deleted };
}

type Method = 'PUT' | 'GET' | 'DELETE';

interface Answer {
  readonly status: number;
  readonly text: string;
}

// Pool.dispatch, not Pool.request: without the latter's streams the client takes half the time.
function send(pool: Pool, method: Method, word: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let status = 0;
    let text = '';
    pool.dispatch(
      {
        method,
        path: `/v1/kv/${encodeURIComponent(word)}`,
        body: method === 'PUT' ? valueFor(word) : null,
        // All three are, but undici pipelines a PUT or DELETE only if it is told so.
        idempotent: true,
      },
      {
        onRequestStart() {},
        onResponseStart(_controller, statusCode) {
          status = statusCode;
        },
        // Values are ASCII.
        onResponseData(_controller, chunk) {
          text += chunk.toString('latin1');
        },
        onResponseEnd: () => resolve({ status, text }),
        onResponseError: (_controller, error) => reject(error),
      },
    );
  });
}

async function main(url: string | undefined, path: string | undefined): Promise<void> {
  if (url === undefined) throw new Error('usage: node dist/scripts/wordlist.js URL [FILE]');
  const began = performance.now();
  const seconds = (): string => `${((performance.now() - began) / 1000).toFixed(1)} s`;
  const report = await runWordList(url, readWords(path), ({ phase, done, of }) => {
    console.log(`${seconds().padStart(8)}  ${phase.padEnd(10)}  ${done} of ${of}`);
  });
  console.log(
    `${report.words} words written (${report.created} new), read back and compared; ${report.deleted} deleted and ` +
      `gone, the others still there: ${seconds()}`,
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  main(process.argv[2], process.argv[3]).catch((error: Error) => {
    console.error(`wordlist: ${error.message}`);
    process.exitCode = 1;
  });
}
