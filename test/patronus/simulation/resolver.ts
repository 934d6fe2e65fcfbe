/** Module resolution of the simulation: the product's native layer is the simulated one. */
const FAKE = new URL('./fake-native.js', import.meta.url).href;

interface Resolved {
  readonly url: string;
}

export async function resolve(
  specifier: string,
  context: object,
  next: (specifier: string, context: object) => Promise<Resolved>,
): Promise<Resolved> {
  const resolved = await next(specifier, context);
  return resolved.url.endsWith('/dist/native/index.js') ? { ...resolved, url: FAKE } : resolved;
}
