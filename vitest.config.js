import { defineConfig } from 'vitest/config';

// Tests run on the build in dist/, the same files that users get: worker threads and child processes need
// JavaScript on disk, and product code loaded by Node.js itself runs at its real speed.
export default defineConfig({
  test: {
    include: ['dist/test/**/*.test.js'],
    server: { deps: { external: [/\/dist\/(native|patronus|kv|http|loadgen)\//] } },
    pool: 'forks',
    // A forgotten `.only` fails the run.
    allowOnly: false,
    testTimeout: 90_000,
    hookTimeout: 90_000,
  },
});
