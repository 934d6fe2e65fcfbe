import { register } from 'node:module';

register('./resolver.js', import.meta.url);
