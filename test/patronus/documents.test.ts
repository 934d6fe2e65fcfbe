/** docs/patronus.md says what is so: the catalogue of errors, the names, the tests. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { acquireError, retCodeError } from '../../patronus/errors.js';
import {
  AcquireFlag,
  AcquireStatus,
  ModifyFlag,
  PatronusErrorCode,
  RetCode,
  RwFlag,
} from '../../patronus/index.js';

const ROOT = new URL('../../../', import.meta.url);
const text = readFileSync(new URL('docs/patronus.md', ROOT), 'utf8');
const rows = text
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| ---'))
  .map((line) =>
    line
      .slice(1, -1)
      .split(' | ')
      .map((cell) => cell.trim()),
  );
const spans = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);

const errorRows = rows.filter(([code]) => code?.startsWith('`ERR_'));

test('errors: the same codes in the module, in its types and on the page', () => {
  const codes = Object.values(PatronusErrorCode);
  expect(errorRows.map(([code]) => spans(code!)[0]!).sort()).toEqual([...codes].sort());
  expect(new Set(codes).size).toBe(codes.length);
  const types = readFileSync(new URL('dist/patronus/errors.d.ts', ROOT), 'utf8');
  const declared = [...types.matchAll(/readonly (\w+): ['"](ERR_\w+)['"]/g)].map(([, name, code]) => [
    name,
    code,
  ]);
  expect(Object.fromEntries(declared)).toEqual(PatronusErrorCode);
  for (const [name, code] of Object.entries(PatronusErrorCode)) expect(code).toBe(`ERR_PATRONUS_${name}`);
});

test('errors: each status becomes the error that the page says', () => {
  const pages = new Map(
    errorRows.flatMap(([code, status]) => spans(status!).map((name) => [name, spans(code!)[0]!])),
  );
  const nothing: string[] = ['Ok', 'Success', 'Retry', 'CacheStale'];
  for (const [name, status] of Object.entries(RetCode)) {
    if (!nothing.includes(name)) expect(pages.get(name), name).toBe(retCodeError(status, '').code);
  }
  for (const [name, status] of Object.entries(AcquireStatus)) {
    if (!nothing.includes(name)) expect(pages.get(name), name).toBe(acquireError(status).code);
  }
});

/** The calls, flags and statuses of the original, by its names. */
const ORIGINAL = `
  get_rlease get_wlease relinquish upgrade extend rpc_extend read write cas faa rpc_read rpc_write rpc_cas rpc_faa
  prepare_read commit remote_memcpy alloc dealloc reg_allocator get_rdma_buffer put_rdma_buffer to_exposed_gaddr
  from_exposed_gaddr signal_modify_qp_flag signal_reinit_qp prepare_fast_backup_recovery put get try_get keeper_barrier
  client_barrier server_barrier finished should_exit patronus_now epsilon
  NoGc WithConflictDetect NoBindPR NoBindAny WithAllocation OnlyAllocation UseMR NoRpc DebugServerDoNothing
  NoRelinquishUnbindAny NoRelinquishUnbindPr ForceUnbind WithDeallocation OnlyDeallocation ServerDoNothing
  WaitUntilSuccess DebugExtendDoNothing
  NoLocalExpireCheck WithAutoExtend WithCache UseUniversalRkey EnableTrace UseTwoSided UseTwoSidedAutoPacking
  Success MagicMwErr LockedErr BindErr RegMrErr AddressOutOfRangeErr NoMem NoMw
  Ok NotFound Retry CacheStale Invalid RdmaProtectionErr RdmaExecutionErr LeaseLocalExpiredErr`
  .trim()
  .split(/\s+/);

test('interface: every call, flag and status of the original is on the page, there or as absent', () => {
  const named = new Set(spans(text));
  expect(ORIGINAL.filter((name) => !named.has(name))).toEqual([]);
});

test('interface: every flag is on the page, every name on it exists, and its test has it', () => {
  const tables = rows.filter((row) => row.length === 4 && row[0] !== 'original');
  const ours = new Set(tables.flatMap((row) => spans(row[1]!)));
  for (const flag of [AcquireFlag, ModifyFlag, RwFlag].flatMap((flags) => Object.keys(flags))) {
    expect(ours, flag).toContain(flag);
  }
  const sources = ['api.ts', 'client/client.ts', 'memory-node/node.ts', 'keeper/api.ts']
    .map((path) => readFileSync(new URL(`patronus/${path}`, ROOT), 'utf8'))
    .join('\n');
  for (const name of ours) expect(sources, name).toMatch(new RegExp(`\\b${name}\\b`));
  for (const row of tables) {
    const tests = spans(row[3]!);
    expect(tests.length, row[1]).toBeGreaterThan(0);
    for (const path of tests) expect(existsSync(new URL(`test/patronus/${path}`, ROOT)), path).toBe(true);
    const code = tests.map((path) => readFileSync(new URL(`test/patronus/${path}`, ROOT), 'utf8')).join('\n');
    for (const name of spans(row[1]!))
      expect(code, `${name} in ${row[3]}`).toMatch(new RegExp(`\\b${name}\\b`));
  }
});
