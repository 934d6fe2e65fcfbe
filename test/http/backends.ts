import { type Kv, openEmbedded } from '../../kv/index.js';
import { MapKv } from './map-kv.js';

/** The stores that the front end is tested over. */
export const BACKENDS: readonly { readonly name: string; readonly open: () => Promise<Kv> }[] = [
  { name: 'a Map', open: async () => new MapKv() },
  { name: 'the embedded store', open: () => openEmbedded({ memoryBytes: 64 * 2 ** 20 }) },
];
