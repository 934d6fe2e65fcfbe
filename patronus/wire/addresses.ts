/**
 * Where the directories of a node are. Its address is that of directory 0. Clients make the others' from it, the way they
 * reach the node, and from the number in which they end, which directory 0 tells.
 */

const END = /\d+$/;

/** Where a directory listens if the node is to listen there: at `unix:PATH.1`, at the port after. */
export function listenAddress(listen: string | undefined, directory: number): string | undefined {
  if (listen === undefined || directory === 0) return listen;
  if (listen.startsWith('unix:')) return addressWithEnd(listen, directory);
  const port = addressEnd(listen);
  return addressWithEnd(listen, port === 0 ? 0 : port + directory);
}

export function addressEnd(address: string): number {
  return Number(END.exec(address)?.[0]);
}

/** The address of another directory of the node with this address. */
export function addressWithEnd(address: string, end: number): string {
  return address.startsWith('unix:') ? `${address}.${end}` : address.replace(END, String(end));
}
